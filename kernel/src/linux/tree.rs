//! Paths: the initrd's files, /dev, /proc and /sys, as one read-only tree. The current directory is always `/`.

use super::errno::Errno;
use super::node::Node;
use super::stat::{FileSystem, Metadata};
#[cfg(feature = "dax")]
use super::sys;
use super::thread::Thread;
use super::{dev, initrd, proc};
use crate::user_memory;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{
    AT_FDCWD, NAME_MAX, O_ACCMODE, O_CREAT, O_RDONLY, O_TMPFILE, PATH_MAX, S_IFDIR,
};

/// A directory by its absolute path: without a slash at the end, empty for the root.
pub struct Directory {
    path: String,
}

impl Directory {
    /// The directory of this path.
    pub fn at(path: &str) -> Arc<dyn Node> {
        Arc::new(Directory { path: path.into() })
    }
}

impl Node for Directory {
    fn metadata(&self) -> Metadata {
        let (file_system, inode) = match self.path.as_str() {
            "/dev" => (FileSystem::Dev, 1),
            path if path.starts_with("/proc") => (FileSystem::Proc, 1),
            path if path.starts_with("/sys") => (FileSystem::Sys, 1),
            // The initrd need not have an entry for a directory: one number for all of them.
            _ => (FileSystem::Initrd, 1 << 32),
        };
        Metadata::new(file_system, inode, S_IFDIR | 0o755)
    }

    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        match flags {
            _ if flags & O_TMPFILE == O_TMPFILE => Err(Errno::EROFS),
            _ if flags & O_ACCMODE != O_RDONLY || flags & O_CREAT != 0 => Err(Errno::EISDIR),
            _ => Ok(None),
        }
    }

    fn directory(&self) -> Option<&str> {
        Some(&self.path)
    }

    fn read(&self, _: &mut Thread, _: u64, _: u64, _: u64) -> Result<u64, Errno> {
        Err(Errno::EISDIR)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// What becomes of a link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    /// It stands for what it leads to.
    Follow,
    /// It is what is meant.
    Keep,
}

/// Reads a path argument and makes it absolute: `/a/b`, empty for the root.
///
/// Fails with EFAULT, ENAMETOOLONG, ENOENT for an empty path, and EBADF or ENOTDIR when it is relative to a
/// descriptor that is no directory.
pub fn read_path(thread: &Thread, directory: i32, address: u64) -> Result<String, Errno> {
    let path = user_memory::read_string(address, PATH_MAX as usize - 1)?.ok_or(Errno::ENAMETOOLONG)?;
    // No file of ours has a name that is not UTF-8.
    let path = core::str::from_utf8(&path).map_err(|_| Errno::ENOENT)?;
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.starts_with('/') || directory == AT_FDCWD {
        return absolute("", path);
    }
    let base = thread.file_any(directory)?;
    absolute(base.node.directory().ok_or(Errno::ENOTDIR)?, path)
}

/// Joins and normalises: no `.`, no `..`, no empty names. A path that ends in a slash keeps it: it can only
/// name a directory.
fn absolute(base: &str, path: &str) -> Result<String, Errno> {
    let base = if path.starts_with('/') { "" } else { base };
    let mut names: Vec<&str> = Vec::new();
    for name in base.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name if name.len() > NAME_MAX as usize => return Err(Errno::ENAMETOOLONG),
            name => names.push(name),
        }
    }
    let mut joined = String::new();
    for name in &names {
        joined.push('/');
        joined.push_str(name);
    }
    if path.ends_with('/') || path.ends_with("/.") {
        joined.push('/');
    }
    Ok(joined)
}

/// Finds what an absolute path from [`read_path`] names. Fails with ENOENT or ENOTDIR.
pub fn find(thread: &Thread, path: &str, links: Links) -> Result<Arc<dyn Node>, Errno> {
    let bare = path.trim_end_matches('/');
    let mut node = find_bare(thread, bare).ok_or_else(|| missing(thread, bare))?;
    if bare.len() < path.len() && node.directory().is_none() {
        return Err(Errno::ENOTDIR);
    }
    if links == Links::Follow
        && let Some(target) = node.link()
    {
        node = find_bare(thread, &target).ok_or(Errno::ENOENT)?;
    }
    Ok(node)
}

fn find_bare(thread: &Thread, path: &str) -> Option<Arc<dyn Node>> {
    let mut names = path.splitn(3, '/').skip(1);
    match (names.next(), names.next()) {
        (None, _) | (Some("dev" | "proc"), None) => Some(Directory::at(path)),
        (Some("dev"), Some(name)) => dev::find(name),
        (Some("proc"), Some(_)) => proc::find(thread, path),
        #[cfg(feature = "dax")]
        (Some("sys"), _) => sys::find(path),
        _ => initrd::find(path),
    }
}

/// ENOTDIR when the path leads through something that is no directory, else ENOENT.
fn missing(thread: &Thread, path: &str) -> Errno {
    let mut prefix = path;
    while let Some((parent, _)) = prefix.rsplit_once('/') {
        match find_bare(thread, parent) {
            Some(node) if node.directory().is_some() => return Errno::ENOENT,
            Some(_) => return Errno::ENOTDIR,
            None => prefix = parent,
        }
    }
    Errno::ENOENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        assert_eq!(absolute("", "/dev//./dax0.0").as_deref(), Ok("/dev/dax0.0"));
        assert_eq!(absolute("/dev", "dax0.0").as_deref(), Ok("/dev/dax0.0"));
        assert_eq!(absolute("/dev", "../bin/x/../y").as_deref(), Ok("/bin/y"));
        assert_eq!(absolute("/dev", "/").as_deref(), Ok("/"));
        assert_eq!(absolute("", "..").as_deref(), Ok(""));
        assert_eq!(absolute("", "bin/").as_deref(), Ok("/bin/"));
        assert_eq!(absolute("", &"x".repeat(256)), Err(Errno::ENAMETOOLONG));
    }
}
