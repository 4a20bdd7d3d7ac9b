//! Paths: the initrd's files, /dev, /proc and /sys, as one read-only tree. The current directory is always `/`.

use super::dev::Device;
use super::errno::Errno;
use super::files::Object;
use super::proc::ProcFile;
use super::sys::{self, SysFile};
use super::thread::Thread;
use crate::dax::DevDax;
use crate::initrd::File;
use crate::machine::machine;
use crate::user_memory;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{AT_FDCWD, NAME_MAX, PATH_MAX, S_IFDIR, S_IFMT};

/// What a path names.
#[derive(Clone)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// A file of the initrd.
    File(&'static File),
    /// /dev/null and the like.
    Device(Device),
    /// /dev/daxX.Y.
    Dax(Arc<DevDax>),
    /// A file under /proc.
    Proc(ProcFile),
    /// A file under /sys.
    Sys(SysFile),
    /// /proc/self/exe: a link to the program.
    Executable,
}

/// A directory by its absolute path.
#[derive(Clone)]
pub struct Directory {
    /// Without a slash at the end; empty for the root.
    pub path: String,
}

/// What the program's own path is for paths that lead back to it.
pub struct Owner {
    /// Its process number: /proc/N is /proc/self.
    pub pid: i32,
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
    match &thread.file_any(directory)?.object {
        Object::Directory(base) => absolute(&base.path, path),
        _ => Err(Errno::ENOTDIR),
    }
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
pub fn find(owner: &Owner, path: &str) -> Result<Node, Errno> {
    let bare = path.trim_end_matches('/');
    match find_bare(owner, bare) {
        Some(Node::Directory(directory)) => Ok(Node::Directory(directory)),
        Some(_) if bare.len() < path.len() => Err(Errno::ENOTDIR),
        Some(node) => Ok(node),
        None => Err(missing(owner, bare)),
    }
}

fn find_bare(owner: &Owner, path: &str) -> Option<Node> {
    let directory = || Some(Node::Directory(Directory { path: path.into() }));
    match path {
        "" | "/dev" | "/proc" | "/proc/self" | "/proc/daxite" => return directory(),
        _ => {}
    }
    if let Some(name) = path.strip_prefix("/dev/") {
        if let Some(device) = Device::parse(name) {
            return Some(Node::Device(device));
        }
        return machine().registry.by_name(name).map(Node::Dax);
    }
    if let Some(rest) = path.strip_prefix("/proc/") {
        if let Some(file) = rest.strip_prefix("daxite/").and_then(ProcFile::parse_machine) {
            return Some(Node::Proc(file));
        }
        let (process, name) = rest.split_once('/').unwrap_or((rest, ""));
        if process != "self" && process.parse() != Ok(owner.pid) {
            return None;
        }
        return match name {
            "" => directory(),
            "exe" => Some(Node::Executable),
            name => ProcFile::parse(name).map(Node::Proc),
        };
    }
    if let Some(path) = path.strip_prefix("/sys").filter(|path| path.is_empty() || path.starts_with('/')) {
        return match sys::find(path)? {
            sys::Entry::Directory => directory(),
            sys::Entry::File(file) => Some(Node::Sys(file)),
        };
    }
    let initrd = &machine().initrd;
    match initrd.find(path) {
        Some(file) if file.mode & S_IFMT != S_IFDIR => Some(Node::File(file)),
        Some(_) => directory(),
        None => {
            let inside = |file: &&File| {
                let rest = file.path.strip_prefix(path.trim_start_matches('/'));
                rest.is_some_and(|rest| rest.starts_with('/'))
            };
            initrd.files().find(inside).and_then(|_| directory())
        }
    }
}

/// ENOTDIR when the path leads through something that is no directory, else ENOENT.
fn missing(owner: &Owner, path: &str) -> Errno {
    let mut prefix = path;
    while let Some((parent, _)) = prefix.rsplit_once('/') {
        match find_bare(owner, parent) {
            Some(Node::Directory(_)) => return Errno::ENOENT,
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
