//! Directories and symbolic links in RAM, and how the initrd becomes a tree of them.
//!
//! A name leads to any node: what is mounted is a node of another file system under a name. Who changes names holds
//! `names`' lock of all of them; a directory's own lock is for those who only look.

use super::errno::Errno;
use super::inode::Inode;
use super::memory::check_reserve;
use super::node::{Entry, Node};
use super::ram::RamFile;
use super::stat::Metadata;
use super::thread::Thread;
use crate::initrd::{File, Initrd};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use mm::lock::{Rank, SpinLock};

/// How many entries are told at once.
const BATCH: usize = 32;

/// A directory.
pub struct RamDirectory {
    /// What it has beside the names.
    pub inode: Inode,
    names: SpinLock<Names>,
}

#[derive(Default)]
struct Names {
    by_name: BTreeMap<String, (u64, Arc<dyn Node>)>,
    /// In the order in which they came, so that a listing goes on where it was.
    by_position: BTreeMap<u64, String>,
    /// It was removed: nothing can be put into it.
    is_removed: bool,
}

impl RamDirectory {
    /// An empty directory.
    pub fn new(inode: Inode) -> RamDirectory {
        RamDirectory { inode, names: SpinLock::new(Rank::File, Names::default()) }
    }

    /// What is there under `name`.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Node>, Errno> {
        let names = self.names.lock();
        names.by_name.get(name).map(|(_, node)| Arc::clone(node)).ok_or(Errno::ENOENT)
    }

    /// Gives `node` a name; what had it loses it. Fails with ENOENT when the directory is removed, ENOMEM.
    pub fn put(&self, name: &str, node: Arc<dyn Node>) -> Result<(), Errno> {
        check_reserve()?;
        let mut names = self.names.lock();
        if names.is_removed {
            return Err(Errno::ENOENT);
        }
        let replaced = names.take(name);
        let position = names.by_position.last_key_value().map_or(0, |(last, _)| last + 1);
        names.by_position.insert(position, name.into());
        count_name(&node, 1);
        names.by_name.insert(name.into(), (position, node));
        drop(names);
        // What has lost its last name is dropped here, with the lock released.
        drop(replaced);
        Ok(())
    }

    /// Takes a name away.
    pub fn remove(&self, name: &str) {
        // In two steps, so that what has lost its last name is dropped with the lock released.
        let removed = self.names.lock().take(name);
        drop(removed);
    }

    /// Adds the directories that are in this one. Fails with ENOMEM.
    pub fn list_directories(&self, list: &mut Vec<Arc<dyn Node>>) -> Result<(), Errno> {
        let names = self.names.lock();
        let inner = names.by_name.values().map(|(_, node)| node).filter(|node| node.directory().is_some());
        list.try_reserve(inner.clone().count()).map_err(|_| Errno::ENOMEM)?;
        list.extend(inner.cloned());
        Ok(())
    }

    /// Lets nothing in any more. Fails with ENOTEMPTY.
    pub fn close(&self) -> Result<(), Errno> {
        let mut names = self.names.lock();
        names.is_removed = names.by_name.is_empty();
        if names.is_removed { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Takes a node out, of a directory that goes.
    fn pop(&self) -> Option<Arc<dyn Node>> {
        self.names.lock().by_name.pop_first().map(|(_, (_, node))| node)
    }
}

/// One node after the other, the innermost first: a tree is deeper than a kernel stack, and memory may be out.
impl Drop for RamDirectory {
    fn drop(&mut self) {
        let mut inner: Vec<Arc<dyn Node>> = Vec::new();
        loop {
            let next = match inner.last().and_then(|node| node.directory()) {
                Some(directory) => directory.pop(),
                None => self.pop(),
            };
            match next {
                Some(node) if node.is_directory() && Arc::strong_count(&node) == 1 => inner.push(node),
                Some(node) => drop(node),
                None if inner.pop().is_none() => return,
                None => {}
            }
        }
    }
}

impl Names {
    fn take(&mut self, name: &str) -> Option<Arc<dyn Node>> {
        let (position, node) = self.by_name.remove(name)?;
        self.by_position.remove(&position);
        count_name(&node, u32::MAX);
        Some(node)
    }
}

/// Adds to the number of its names, modulo 2^32.
fn count_name(node: &Arc<dyn Node>, change: u32) {
    if let Some(inode) = node.inode() {
        inode.links.fetch_add(change, Ordering::Relaxed);
    }
}

impl Node for RamDirectory {
    fn metadata(&self) -> Metadata {
        self.inode.metadata()
    }

    fn inode(&self) -> Option<&Inode> {
        Some(&self.inode)
    }

    fn directory(&self) -> Option<&RamDirectory> {
        Some(self)
    }

    fn lookup(&self, _: &Thread, name: &str) -> Result<Arc<dyn Node>, Errno> {
        self.get(name)
    }

    fn entries(&self, _: &Thread, position: u64) -> Result<Vec<Entry>, Errno> {
        let names = self.names.lock();
        let entry = |(&position, name): (&u64, &String)| Entry { position, name: name.clone() };
        Ok(names.by_position.range(position..).take(BATCH).map(entry).collect())
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A symbolic link.
pub struct RamLink {
    /// What it has beside its text.
    pub inode: Inode,
    /// Its text.
    pub target: String,
}

impl Node for RamLink {
    fn metadata(&self) -> Metadata {
        Metadata { size_bytes: self.target.len() as u64, ..self.inode.metadata() }
    }

    fn inode(&self) -> Option<&Inode> {
        Some(&self.inode)
    }

    fn link(&self) -> Option<String> {
        Some(self.target.clone())
    }
}

/// A directory that no other one names: the root of a tree.
pub fn top(permissions: u32) -> Arc<dyn Node> {
    let inode = Inode::new(S_IFDIR | permissions, 0);
    inode.links.store(1, Ordering::Relaxed);
    Arc::new(RamDirectory::new(inode))
}

/// Makes a tree of an initrd's files. Entries that no tree can have (`..` in a path, a file as a directory) are left
/// out. Fails with ENOMEM.
pub fn unpack(initrd: &'static Initrd) -> Result<Arc<dyn Node>, Errno> {
    let root = top(0o755);
    for file in initrd.files() {
        match add(&root, file) {
            Err(Errno::ENOMEM) => return Err(Errno::ENOMEM),
            Err(_) => log::warn!("initrd: {}: cannot be in a tree", file.path),
            Ok(()) => {}
        }
    }
    Ok(root)
}

fn add(root: &Arc<dyn Node>, file: &'static File) -> Result<(), Errno> {
    let mut names = file.path.split('/').filter(|name| !matches!(*name, "" | "."));
    if names.clone().any(|name| name == "..") {
        return Err(Errno::EINVAL);
    }
    let Some(name) = names.next_back() else { return Ok(()) };
    let mut parent = Arc::clone(root);
    for name in names {
        parent = subdirectory(&parent, name, 0o755, file.mtime)?;
    }
    let node: Arc<dyn Node> = match file.mode & S_IFMT {
        // A cpio made by hand may leave the type out.
        0 | S_IFREG => Arc::new(RamFile::of_initrd(file)),
        S_IFDIR => return subdirectory(&parent, name, file.mode & 0o7777, file.mtime).map(drop),
        S_IFLNK => {
            let target = core::str::from_utf8(file.bytes).map_err(|_| Errno::EINVAL)?;
            Arc::new(RamLink { inode: Inode::new(S_IFLNK | 0o777, file.mtime), target: target.into() })
        }
        _ => return Err(Errno::EINVAL),
    };
    parent.directory().ok_or(Errno::ENOTDIR)?.put(name, node)
}

/// The directory `name` in `parent`, made if it is not there.
pub fn subdirectory(
    parent: &Arc<dyn Node>,
    name: &str,
    mode: u32,
    mtime: u64,
) -> Result<Arc<dyn Node>, Errno> {
    let parent = parent.directory().ok_or(Errno::ENOTDIR)?;
    parent.get(name).or_else(|_| {
        let made: Arc<dyn Node> = Arc::new(RamDirectory::new(Inode::new(S_IFDIR | mode, mtime)));
        parent.put(name, Arc::clone(&made))?;
        Ok(made)
    })
}
