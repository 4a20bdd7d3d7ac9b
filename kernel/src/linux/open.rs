//! Calls that take a path and give a descriptor, or only an answer about the path.

use super::errno::{Answer, Errno};
use super::files::{Object, OpenFile};
use super::memory::check_reserve;
use super::thread::Thread;
use super::tree::{self, Directory, Node};
use crate::user_memory;
use alloc::string::String;
use alloc::sync::Arc;
use linux_raw_sys::general::{
    O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_TMPFILE,
    O_TRUNC, O_WRONLY, R_OK, W_OK, X_OK,
};
use mm::pager::Prot;

/// open(2), openat(2): `directory` is AT_FDCWD or a descriptor, `path` an address.
pub fn openat(thread: &mut Thread, directory: i32, path: u64, flags: u32) -> Answer {
    check_reserve()?;
    // O_PATH beats everything else (fs/open.c, build_open_flags).
    let flags = match flags & O_PATH {
        0 => flags,
        _ => flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
    };
    let path = tree::read_path(thread, directory, path)?;
    let node = match tree::find(&thread.owner(), &path) {
        Ok(node) => node,
        // The tree is read only: nothing can be created.
        Err(Errno::ENOENT) if flags & O_CREAT != 0 => return Err(Errno::EROFS),
        Err(errno) => return Err(errno),
    };
    if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL {
        return Err(Errno::EEXIST);
    }
    let object = open_node(thread, node, flags)?;
    // No file of ours does direct I/O (error matrix: EINVAL for a dax device).
    if flags & O_DIRECT != 0 {
        return Err(Errno::EINVAL);
    }
    let status = flags & !(O_CLOEXEC | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW);
    thread.files.lock().add(Arc::new(OpenFile::new(object, status)), flags)
}

fn open_node(thread: &Thread, node: Node, flags: u32) -> Result<Object, Errno> {
    let writes = flags & O_ACCMODE != O_RDONLY;
    if let Node::Directory(directory) = node {
        return open_directory(directory, flags);
    }
    if flags & O_DIRECTORY != 0 {
        return Err(Errno::ENOTDIR);
    }
    match node {
        Node::Directory(_) => Err(Errno::EISDIR),
        Node::Executable if flags & O_NOFOLLOW != 0 => Err(Errno::ELOOP),
        Node::Executable | Node::File(_) if writes || flags & O_TRUNC != 0 => Err(Errno::EROFS),
        Node::Executable => Ok(Object::File(thread.program.executable)),
        Node::File(file) => Ok(Object::File(file)),
        Node::Device(device) => Ok(Object::Device(device)),
        // An unarmed NVDIMM loses what is written to it: its device opens for reading only.
        Node::Dax(device) if writes && !device.max_prot().contains(Prot::WRITE) => Err(Errno::EROFS),
        Node::Dax(device) => Ok(Object::Dax(device.open()?)),
        Node::Proc(_) if writes => Err(Errno::EACCES),
        Node::Proc(file) => Ok(Object::Proc(file)),
        // Permissions hold for user 0 here, too (fs/kernfs/file.c, kernfs_fop_open).
        Node::Sys(file) if file.mode & permissions(flags) != permissions(flags) => Err(Errno::EACCES),
        Node::Sys(file) => Ok(Object::Sys(file)),
    }
}

/// The owner's bits of st_mode that an open with these flags needs.
fn permissions(flags: u32) -> u32 {
    match flags & O_ACCMODE {
        O_RDONLY => 0o400,
        O_WRONLY => 0o200,
        _ => 0o600,
    }
}

fn open_directory(directory: Directory, flags: u32) -> Result<Object, Errno> {
    if flags & O_TMPFILE == O_TMPFILE {
        return Err(Errno::EROFS);
    }
    if flags & O_ACCMODE != O_RDONLY || flags & O_CREAT != 0 {
        return Err(Errno::EISDIR);
    }
    Ok(Object::Directory(directory))
}

/// access(2), faccessat(2): user 0 may read everything, write devices, execute what has an x bit.
pub fn faccessat(thread: &mut Thread, directory: i32, path: u64, mode: u32) -> Answer {
    if mode & !(R_OK | W_OK | X_OK) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = tree::read_path(thread, directory, path)?;
    let file = match tree::find(&thread.owner(), &path)? {
        Node::Executable => thread.program.executable,
        Node::File(file) => file,
        Node::Directory(_) if mode & W_OK != 0 => return Err(Errno::EROFS),
        Node::Directory(_) => return Ok(0),
        Node::Device(_) | Node::Dax(_) | Node::Proc(_) | Node::Sys(_) if mode & X_OK != 0 => {
            return Err(Errno::EACCES);
        }
        Node::Device(_) | Node::Dax(_) | Node::Proc(_) | Node::Sys(_) => return Ok(0),
    };
    match mode {
        _ if mode & X_OK != 0 && file.mode & 0o111 == 0 => Err(Errno::EACCES),
        _ if mode & W_OK != 0 => Err(Errno::EROFS),
        _ => Ok(0),
    }
}

/// readlink(2), readlinkat(2): the only link is /proc/self/exe.
pub fn readlinkat(thread: &mut Thread, directory: i32, path: u64, buffer: u64, len_bytes: i32) -> Answer {
    let len_bytes = usize::try_from(len_bytes).ok().filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
    let path = tree::read_path(thread, directory, path)?;
    match tree::find(&thread.owner(), &path)? {
        Node::Executable => {}
        _ => return Err(Errno::EINVAL),
    }
    let target = thread.executable_path();
    let bytes = target.as_bytes();
    let bytes = bytes.get(..len_bytes).unwrap_or(bytes);
    user_memory::write(buffer, bytes)?;
    Ok(bytes.len() as u64)
}

/// getcwd(2).
pub fn getcwd(buffer: u64, len_bytes: u64) -> Answer {
    let path = b"/\0";
    if len_bytes < path.len() as u64 {
        return Err(Errno::ERANGE);
    }
    user_memory::write(buffer, path)?;
    Ok(path.len() as u64)
}

/// chdir(2): to where the program is already, or not at all.
pub fn chdir(thread: &mut Thread, path: u64) -> Answer {
    let path: String = tree::read_path(thread, linux_raw_sys::general::AT_FDCWD, path)?;
    match tree::find(&thread.owner(), &path)? {
        Node::Directory(directory) if directory.path.is_empty() => Ok(0),
        Node::Directory(_) => Err(Errno::EACCES),
        _ => Err(Errno::ENOTDIR),
    }
}
