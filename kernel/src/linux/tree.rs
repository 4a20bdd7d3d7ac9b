//! Paths: one tree of the files of /, /dev, /proc and /sys, and the one walk through it.
//!
//! The walk asks each directory for the next name ([`Node::lookup`]). It remembers the way ([`Place`]), so `..` leads
//! back where it came from, and every open file and current directory knows its path.

use super::directory;
use super::errno::Errno;
use super::node::Node;
#[cfg(feature = "dax")]
use super::sys;
use super::thread::Thread;
use super::{dev, proc};
use crate::machine::machine;
use crate::task;
use crate::user_memory;
use alloc::string::String;
use alloc::sync::Arc;
use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, NAME_MAX, PATH_MAX, S_IFLNK};
use mm::lock::SpaceLock;
use spin::LazyLock;

/// The longest path, in bytes, once the target of a link stands in the link's place.
const MAX_PATH: usize = 2 * PATH_MAX as usize;
/// The most links that one walk follows (include/linux/namei.h, MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// A node and the way that led to it (Linux: struct path).
pub struct Place {
    /// What is there.
    pub node: Arc<dyn Node>,
    /// The directory that it was found in; the root has none.
    pub parent: Option<Arc<Place>>,
    /// Its absolute path, without a slash at the end: empty for the root.
    path: String,
}

impl Place {
    /// Where a file is that no path leads to: `name` is what stands in the place of its path.
    pub fn nameless(node: Arc<dyn Node>, name: String) -> Arc<Place> {
        Arc::new(Place { node, parent: None, path: name })
    }

    /// What is there under `name`.
    pub fn child(self: &Arc<Place>, name: &str, node: Arc<dyn Node>) -> Result<Arc<Place>, Errno> {
        // No path is longer than a program can say. It bounds how long a way is, not how deep a tree: directories move.
        let len = self.path.len() + 1 + name.len();
        if len >= PATH_MAX as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut path = String::new();
        path.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        path.push_str(&self.path);
        path.push('/');
        path.push_str(name);
        Ok(Arc::new(Place { node, parent: Some(Arc::clone(self)), path }))
    }

    /// Its absolute path when it was found: `/` for the root.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// The last name of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// One by one: a way is longer than a kernel stack is deep.
impl Drop for Place {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut place) = next.and_then(Arc::into_inner) {
            next = place.parent.take();
        }
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

/// Where a path ends.
pub enum End {
    /// At something.
    Found(Arc<Place>),
    /// At a name that its directory does not have.
    Missing {
        /// The directory.
        parent: Arc<Place>,
        /// The name.
        name: String,
        /// A slash follows: only a directory could have it.
        is_directory: bool,
    },
}

impl End {
    /// What is there, or ENOENT.
    pub fn found(self) -> Result<Arc<Place>, Errno> {
        match self {
            End::Found(place) => Ok(place),
            End::Missing { .. } => Err(Errno::ENOENT),
        }
    }
}

/// The tree of the run, once somebody has looked for something in it.
static ROOT: LazyLock<SpaceLock<Option<Arc<Place>>>> = LazyLock::new(|| SpaceLock::new(None));

/// The root of the tree. Fails with ENOMEM.
pub fn root() -> Result<Arc<Place>, Errno> {
    if let Some(root) = &*ROOT.read() {
        return Ok(Arc::clone(root));
    }
    let mut root = ROOT.write();
    if root.is_none() {
        *root = Some(Place::nameless(plant()?, String::new()));
    }
    root.clone().ok_or(Errno::ENOENT)
}

/// Makes the tree of a run: the initrd's files, as they came, and what is mounted among them.
fn plant() -> Result<Arc<dyn Node>, Errno> {
    let root = directory::unpack(&machine().initrd)?;
    directory::subdirectory(&root, "tmp", 0o1777, 0)?;
    for (name, mounted) in [
        ("dev", dev::root()),
        ("proc", proc::root()),
        #[cfg(feature = "dax")]
        ("sys", sys::root()),
    ] {
        // What the initrd has there is not seen.
        root.directory().ok_or(Errno::ENOTDIR)?.put(name, mounted)?;
    }
    Ok(root)
}

/// Gives the tree of a run up, with all that its programs left there.
pub fn fell() {
    *ROOT.write() = None;
}

/// The path of what `directory` has under `name`. Each step of a walk makes some: not by `format!`, which grows a string
/// piece by piece.
pub fn join(directory: &str, name: &str) -> String {
    [directory, "/", name].concat()
}

/// Reads a path argument. Fails with EFAULT, ENAMETOOLONG, and ENOENT for an empty path.
pub fn read_path(address: u64) -> Result<String, Errno> {
    let path = user_memory::read_string(address, PATH_MAX as usize - 1)?.ok_or(Errno::ENAMETOOLONG)?;
    // No file of ours has a name that is not UTF-8.
    let path = String::from_utf8(path).map_err(|_| Errno::ENOENT)?;
    if path.is_empty() { Err(Errno::ENOENT) } else { Ok(path) }
}

/// Finds what the program's path at `address` names, seen from `directory`: AT_FDCWD or a descriptor. `flags` may have
/// AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH; others are the caller's.
pub fn find(thread: &Thread, directory: i32, address: u64, flags: u32) -> Result<Arc<Place>, Errno> {
    if flags & AT_EMPTY_PATH != 0 && user_memory::read_value::<u8>(address)? == 0 {
        return start(thread, directory);
    }
    let links = if flags & AT_SYMLINK_NOFOLLOW == 0 { Links::Follow } else { Links::Keep };
    walk(thread, directory, &read_path(address)?, links)?.found()
}

/// Where a path begins that does not begin with a slash.
fn start(thread: &Thread, directory: i32) -> Result<Arc<Place>, Errno> {
    match directory {
        AT_FDCWD => thread.directory(),
        fd => Ok(Arc::clone(&thread.file_any(fd)?.place)),
    }
}

/// Walks along `path`, which is not empty.
///
/// Fails with ENOTDIR where it leads through something that is no directory, ENOENT where a directory on the way is
/// missing, ELOOP, ENAMETOOLONG, EBADF for a bad descriptor when the path is relative.
pub fn walk(thread: &Thread, directory: i32, path: &str, links: Links) -> Result<End, Errno> {
    let mut place = if path.starts_with('/') { root()? } else { start(thread, directory)? };
    // The whole path, with the links in it replaced, and how much of it was walked.
    let (mut whole, mut walked) = (String::from(path), 0);
    let mut followed = 0;
    loop {
        let rest = &whole[walked..];
        let path = rest.trim_start_matches('/');
        let (name, behind) = path.split_at(path.find('/').unwrap_or(path.len()));
        let is_last = behind.bytes().all(|byte| byte == b'/');
        if !place.node.is_directory() {
            return if rest.is_empty() { Ok(End::Found(place)) } else { Err(Errno::ENOTDIR) };
        }
        let node = match name {
            "" => return Ok(End::Found(place)),
            "." => Arc::clone(&place.node),
            ".." => {
                place = place.parent.clone().unwrap_or(place);
                Arc::clone(&place.node)
            }
            _ if name.len() > NAME_MAX as usize => return Err(Errno::ENAMETOOLONG),
            _ => match place.node.lookup(thread, name) {
                Err(Errno::ENOENT) if is_last => {
                    let (name, is_directory) = (String::from(name), !behind.is_empty());
                    return Ok(End::Missing { parent: place, name, is_directory });
                }
                found => found?,
            },
        };
        if node.kind() == S_IFLNK && (links == Links::Follow || !behind.is_empty()) {
            followed += 1;
            if followed > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            if let Some(target) = node.jump(thread) {
                place = target;
            } else {
                let target = node.link().filter(|target| !target.is_empty()).ok_or(Errno::ENOENT)?;
                if target.len() + behind.len() > MAX_PATH {
                    return Err(Errno::ENAMETOOLONG);
                }
                if target.starts_with('/') {
                    place = root()?;
                }
                (whole, walked) = (target + behind, 0);
                task::preempt_point();
                continue;
            }
        } else if !matches!(name, "." | "..") {
            place = place.child(name, node)?;
        }
        walked = whole.len() - behind.len();
    }
}
