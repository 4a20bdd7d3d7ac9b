//! Calls that take a path and give a descriptor, or only an answer about the path.

use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::inode::Inode;
use super::memory::check_reserve;
use super::names::{CHANGES, give_name};
use super::node::Node;
use super::ram::RamFile;
use super::thread::Thread;
use super::tree::{self, End, Links, Place};
use crate::user_memory;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use linux_raw_sys::general::*;

/// open(2), openat(2): `directory` is AT_FDCWD or a descriptor, `path` an address.
pub fn openat(thread: &mut Thread, directory: i32, path: u64, flags: u32, mode: u32) -> Answer {
    check_reserve()?;
    // O_PATH beats everything else (fs/open.c, build_open_flags).
    let flags = match flags & O_PATH {
        0 => flags,
        _ => flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
    };
    let status = flags & !(O_CLOEXEC | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW);
    let is_new = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
    // Of a file that never has a name (fs/open.c, build_open_flags).
    let is_nameless = flags & __O_TMPFILE != 0;
    if is_nameless && (flags & (O_TMPFILE | O_CREAT) != O_TMPFILE || flags & O_ACCMODE == O_RDONLY) {
        return Err(Errno::EINVAL);
    }
    let links = if is_new || flags & O_NOFOLLOW != 0 { Links::Keep } else { Links::Follow };
    let path = tree::read_path(path)?;
    let place = match flags & O_CREAT {
        0 => tree::walk(thread, directory, &path, links)?.found()?,
        _ => find_or_create(thread, directory, &path, links, flags, mode)?,
    };
    let mut node = Arc::clone(&place.node);
    if flags & O_DIRECTORY != 0 && !node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH == 0 && node.kind() == S_IFLNK {
        return Err(Errno::ELOOP);
    }
    if is_nameless {
        node.directory().ok_or(Errno::EOPNOTSUPP)?;
        let inode = new_inode(thread, mode);
        let name = format!("{}/#{} (deleted)", place.path(), inode.number);
        return add(thread, nameless(inode, name, status), flags);
    }
    if node.is_directory() && (flags & O_ACCMODE != O_RDONLY || flags & O_CREAT != 0) {
        return Err(Errno::EISDIR);
    }
    // Direct I/O is what reading and writing a file in RAM is (error matrix: EINVAL for a dax device).
    if flags & O_DIRECT != 0 && node.inode().is_none() {
        return Err(Errno::EINVAL);
    }
    if flags & O_PATH == 0 {
        node = node.open(flags)?.unwrap_or(node);
    }
    add(thread, OpenFile::at(place, node, status), flags)
}

/// Opens a file without a path, which is called by its `kind`; of `flags`, O_NONBLOCK and O_CLOEXEC count.
pub fn open_anonymous(thread: &Thread, node: Arc<dyn Node>, kind: &str, flags: u32) -> Answer {
    check_reserve()?;
    let place = Place::nameless(Arc::clone(&node), format!("anon_inode:[{kind}]"));
    add(thread, OpenFile::at(place, node, O_RDWR | flags & O_NONBLOCK), flags)
}

fn add(thread: &Thread, file: OpenFile, flags: u32) -> Answer {
    let file = Arc::new(file);
    // A clone goes in: the lock is not held when a file that finds no room is dropped.
    thread.files.lock().add(Arc::clone(&file), flags)
}

/// What O_CREAT opens: a file that is there, unless O_EXCL forbids it, or a new one.
fn find_or_create(
    thread: &Thread,
    directory: i32,
    path: &str,
    links: Links,
    flags: u32,
    mode: u32,
) -> Result<Arc<Place>, Errno> {
    let _changes = CHANGES.write();
    match tree::walk(thread, directory, path, links)? {
        End::Found(_) if flags & O_EXCL != 0 => Err(Errno::EEXIST),
        End::Found(place) => Ok(place),
        End::Missing { is_directory: true, .. } => Err(Errno::EISDIR),
        // Where nothing can be created, there is no such file.
        End::Missing { parent, .. } if parent.node.directory().is_none() => Err(Errno::EACCES),
        End::Missing { parent, name, .. } => {
            let file = RamFile::new(new_inode(thread, mode), &tree::join(parent.path(), &name));
            let file: Arc<dyn Node> = Arc::new(file);
            let place = parent.child(&name, Arc::clone(&file))?;
            give_name(&parent, &name, file)?;
            Ok(place)
        }
    }
}

/// As open(2)'s `mode` and the umask have it.
fn new_inode(thread: &Thread, mode: u32) -> Inode {
    Inode::new_now(S_IFREG | mode & 0o7777 & !thread.umask())
}

/// An open file without a name; `text` stands in the place of its path.
fn nameless(inode: Inode, text: String, flags: u32) -> OpenFile {
    let file: Arc<dyn Node> = Arc::new(RamFile::new(inode, &text));
    OpenFile::at(Place::nameless(Arc::clone(&file), text), file, flags)
}

/// memfd_create(2): no huge pages, no seals.
pub fn memfd_create(thread: &mut Thread, name: u64, flags: u32) -> Answer {
    /// Linux's limit of the name: NAME_MAX less `memfd:` (mm/memfd.c).
    const MAX_NAME: usize = 249;
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING) != 0 {
        return Err(Errno::EINVAL);
    }
    check_reserve()?;
    let name = user_memory::read_string(name, MAX_NAME)?.ok_or(Errno::EINVAL)?;
    let text = format!("/memfd:{} (deleted)", String::from_utf8_lossy(&name));
    let close = if flags & MFD_CLOEXEC != 0 { O_CLOEXEC } else { 0 };
    add(thread, nameless(Inode::new_now(S_IFREG | 0o777), text, O_RDWR), close)
}

/// access(2), faccessat(2), faccessat2(2): user 0 may read and write everything, execute what has an x bit.
pub fn faccessat(thread: &mut Thread, directory: i32, path: u64, mode: u32, flags: u32) -> Answer {
    let known = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    if mode & !(R_OK | W_OK | X_OK) != 0 || flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let metadata = tree::find(thread, directory, path, flags)?.node.metadata();
    if mode & X_OK != 0 && metadata.mode & 0o111 == 0 { Err(Errno::EACCES) } else { Ok(0) }
}

/// readlink(2), readlinkat(2).
pub fn readlinkat(thread: &mut Thread, directory: i32, path: u64, buffer: u64, len_bytes: i32) -> Answer {
    let len_bytes = usize::try_from(len_bytes).ok().filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
    let target =
        tree::find(thread, directory, path, AT_SYMLINK_NOFOLLOW)?.node.link().ok_or(Errno::EINVAL)?;
    let bytes = target.as_bytes();
    let bytes = bytes.get(..len_bytes).unwrap_or(bytes);
    user_memory::write(buffer, bytes)?;
    Ok(bytes.len() as u64)
}

/// getcwd(2).
pub fn getcwd(thread: &Thread, buffer: u64, len_bytes: u64) -> Answer {
    let path = thread.directory()?.path().to_owned() + "\0";
    if len_bytes < path.len() as u64 {
        return Err(Errno::ERANGE);
    }
    user_memory::write(buffer, path.as_bytes())?;
    Ok(path.len() as u64)
}

/// chdir(2).
pub fn chdir(thread: &mut Thread, path: u64) -> Answer {
    enter(thread, tree::find(thread, AT_FDCWD, path, 0)?)
}

/// fchdir(2).
pub fn fchdir(thread: &mut Thread, fd: i32) -> Answer {
    enter(thread, Arc::clone(&thread.file_any(fd)?.place))
}

fn enter(thread: &Thread, place: Arc<Place>) -> Answer {
    if !place.node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    // What was left is dropped with the lock released.
    let _left = thread.process.settings.lock().directory.replace(place);
    Ok(0)
}

impl Thread {
    /// The current directory.
    pub(super) fn directory(&self) -> Result<Arc<Place>, Errno> {
        let directory = self.process.settings.lock().directory.clone();
        directory.map_or_else(tree::root, Ok)
    }

    /// The permissions that it denies to what it creates.
    pub(super) fn umask(&self) -> u32 {
        self.process.settings.lock().umask
    }
}
