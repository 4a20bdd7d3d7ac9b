//! Calls that take a path and give a descriptor, or only an answer about the path.

use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::memory::check_reserve;
use super::thread::Thread;
use super::tree::{self, Links};
use crate::user_memory;
use alloc::sync::Arc;
use linux_raw_sys::general::*;

/// open(2), openat(2): `directory` is AT_FDCWD or a descriptor, `path` an address.
pub fn openat(thread: &mut Thread, directory: i32, path: u64, flags: u32) -> Answer {
    check_reserve()?;
    // O_PATH beats everything else (fs/open.c, build_open_flags).
    let flags = match flags & O_PATH {
        0 => flags,
        _ => flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
    };
    let path = tree::read_path(thread, directory, path)?;
    let links = if flags & O_NOFOLLOW == 0 { Links::Follow } else { Links::Keep };
    let node = tree::find(thread, &path, links).map_err(|errno| match errno {
        // The tree is read only: nothing can be created.
        Errno::ENOENT if flags & O_CREAT != 0 => Errno::EROFS,
        errno => errno,
    })?;
    if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL {
        return Err(Errno::EEXIST);
    }
    if flags & O_DIRECTORY != 0 && node.directory().is_none() {
        return Err(Errno::ENOTDIR);
    }
    if node.link().is_some() {
        return Err(Errno::ELOOP);
    }
    let node = node.open(flags)?.unwrap_or(node);
    // No file of ours does direct I/O (error matrix: EINVAL for a dax device).
    if flags & O_DIRECT != 0 {
        return Err(Errno::EINVAL);
    }
    let status = flags & !(O_CLOEXEC | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW);
    let file = Arc::new(OpenFile::new(node, status));
    // A clone, as in dup.
    thread.files.lock().add(file.clone(), flags)
}

/// access(2), faccessat(2): user 0 may read everything, write devices, execute what has an x bit.
pub fn faccessat(thread: &mut Thread, directory: i32, path: u64, mode: u32) -> Answer {
    if mode & !(R_OK | W_OK | X_OK) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = tree::read_path(thread, directory, path)?;
    let metadata = tree::find(thread, &path, Links::Follow)?.metadata();
    match mode {
        _ if mode & X_OK != 0 && metadata.mode & 0o111 == 0 => Err(Errno::EACCES),
        _ if mode & W_OK != 0 && metadata.is_read_only() => Err(Errno::EROFS),
        _ => Ok(0),
    }
}

/// readlink(2), readlinkat(2): the only link is /proc/self/exe.
pub fn readlinkat(thread: &mut Thread, directory: i32, path: u64, buffer: u64, len_bytes: i32) -> Answer {
    let len_bytes = usize::try_from(len_bytes).ok().filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
    let path = tree::read_path(thread, directory, path)?;
    let target = tree::find(thread, &path, Links::Keep)?.link().ok_or(Errno::EINVAL)?;
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
    let path = tree::read_path(thread, AT_FDCWD, path)?;
    match tree::find(thread, &path, Links::Follow)?.directory() {
        Some("") => Ok(0),
        Some(_) => Err(Errno::EACCES),
        None => Err(Errno::ENOTDIR),
    }
}
