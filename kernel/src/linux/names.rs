//! Calls that give names and take them away: mkdir, unlink, rename, link, symlink, and open with O_CREAT.
//!
//! One of them at a time: [`CHANGES`] is held, outermost, while a name is looked for and changed. Who only looks names
//! up does not take it.

use super::directory::{RamDirectory, RamLink};
use super::errno::{Answer, Errno};
use super::inode::Inode;
use super::memory::{check_reserve, lets_others_in};
use super::node::Node;
use super::thread::Thread;
use super::tree::{self, End, Links, Place, read_path, walk};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr;
use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, RENAME_NOREPLACE, S_IFDIR, S_IFLNK,
};
use mm::lock::SpaceLock;
use spin::LazyLock;

/// Held while names change.
pub static CHANGES: LazyLock<SpaceLock<()>> = LazyLock::new(|| SpaceLock::new(()));

/// mkdir(2), mkdirat(2).
pub fn mkdirat(thread: &mut Thread, directory: i32, path: u64, mode: u32) -> Answer {
    let inode = Inode::new_now(S_IFDIR | mode & 0o1777 & !thread.umask());
    create(thread, directory, path, Arc::new(RamDirectory::new(inode)))
}

/// symlink(2), symlinkat(2).
pub fn symlinkat(thread: &mut Thread, target: u64, directory: i32, path: u64) -> Answer {
    let link = RamLink { inode: Inode::new_now(S_IFLNK | 0o777), target: read_path(target)? };
    create(thread, directory, path, Arc::new(link))
}

/// link(2), linkat(2).
pub fn linkat(thread: &mut Thread, from: i32, old: u64, to: i32, new: u64, flags: u32) -> Answer {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & AT_SYMLINK_FOLLOW == 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let old = tree::find(thread, from, old, flags & AT_EMPTY_PATH | follow)?;
    if old.node.is_directory() {
        return Err(Errno::EPERM);
    }
    // Only what is in the tree in RAM can have more names.
    old.node.inode().ok_or(Errno::EXDEV)?;
    create(thread, to, new, Arc::clone(&old.node))
}

fn create(thread: &mut Thread, directory: i32, path: u64, node: Arc<dyn Node>) -> Answer {
    let path = read_path(path)?;
    let _changes = CHANGES.write();
    match walk(thread, directory, &path, Links::Keep)? {
        End::Found(_) => Err(Errno::EEXIST),
        End::Missing { is_directory: true, .. } if !node.is_directory() => Err(Errno::ENOENT),
        End::Missing { parent, name, .. } => give_name(&parent, &name, node).map(|()| 0),
    }
}

/// Gives `node` a name in `parent`; what had it loses it.
pub fn give_name(parent: &Place, name: &str, node: Arc<dyn Node>) -> Result<(), Errno> {
    let directory = parent.node.directory().ok_or(Errno::EPERM)?;
    directory.put(name, node)?;
    directory.inode.touch();
    Ok(())
}

/// unlink(2), unlinkat(2), rmdir(2).
pub fn unlinkat(thread: &mut Thread, directory: i32, path: u64, flags: u32) -> Answer {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    let _changes = CHANGES.write();
    let place = walk(thread, directory, &path, Links::Keep)?.found()?;
    let parent = directory_of(&place)?;
    match (flags, place.node.directory()) {
        (0, None) => {}
        (0, Some(_)) => return Err(Errno::EISDIR),
        (_, None) => return Err(Errno::ENOTDIR),
        (_, Some(_)) if last_name(&path) == "." => return Err(Errno::EINVAL),
        (_, Some(directory)) => directory.close()?,
    }
    take_name(parent, place.name())
}

fn take_name(directory: &RamDirectory, name: &str) -> Answer {
    directory.remove(name);
    directory.inode.touch();
    Ok(0)
}

/// rename(2), renameat(2), renameat2(2) with RENAME_NOREPLACE.
pub fn renameat2(thread: &mut Thread, from: i32, old: u64, to: i32, new: u64, flags: u32) -> Answer {
    if flags & !RENAME_NOREPLACE != 0 {
        return Err(Errno::EINVAL);
    }
    let (old_path, new_path) = (read_path(old)?, read_path(new)?);
    if [&old_path, &new_path].iter().any(|path| matches!(last_name(path), "" | "." | "..")) {
        return Err(Errno::EBUSY);
    }
    let _changes = CHANGES.write();
    let old = walk(thread, from, &old_path, Links::Keep)?.found()?;
    let old_parent = directory_of(&old)?;
    let is_directory = old.node.is_directory();
    let (parent, name, target) = match walk(thread, to, &new_path, Links::Keep)? {
        End::Found(_) if flags == RENAME_NOREPLACE => return Err(Errno::EEXIST),
        End::Found(place) if Arc::ptr_eq(&place.node, &old.node) => return Ok(0),
        End::Found(place) => {
            directory_of(&place)?;
            let parent = place.parent.clone().ok_or(Errno::EBUSY)?;
            (parent, String::from(place.name()), Some(Arc::clone(&place.node)))
        }
        End::Missing { is_directory: true, .. } if !is_directory => return Err(Errno::ENOTDIR),
        End::Missing { parent, name, .. } => (parent, name, None),
    };
    let directory = parent.node.directory().ok_or(Errno::EXDEV)?;
    if is_directory && !ptr::eq(directory, old_parent) && contains(&old.node, directory)? {
        return Err(Errno::EINVAL);
    }
    // Before the target is closed: nothing may go wrong then.
    check_reserve()?;
    match target.as_ref().map(|target| target.directory()) {
        Some(Some(target)) if is_directory => target.close()?,
        Some(None) if is_directory => return Err(Errno::ENOTDIR),
        Some(Some(_)) => return Err(Errno::EISDIR),
        _ => {}
    }
    give_name(&parent, &name, Arc::clone(&old.node))?;
    take_name(old_parent, old.name())
}

/// Is `wanted` the directory `top`, or somewhere in it? The way that led to it does not tell: directories move. Fails with
/// EINTR when this thread shall end.
fn contains(top: &Arc<dyn Node>, wanted: &RamDirectory) -> Result<bool, Errno> {
    let mut left = Vec::from([Arc::clone(top)]);
    while let Some(node) = left.pop() {
        if !lets_others_in() {
            return Err(Errno::EINTR);
        }
        match node.directory() {
            Some(found) if ptr::eq(found, wanted) => return Ok(true),
            Some(directory) => directory.list_directories(&mut left)?,
            None => {}
        }
    }
    Ok(false)
}

/// The directory whose entry a file is. Fails with EBUSY for what is none: the root, what is mounted; with EPERM where
/// nobody can take names away; with ENOENT when the way that led to it is old, and the name no longer its own.
fn directory_of(place: &Place) -> Result<&RamDirectory, Errno> {
    let parent = place.parent.as_ref().ok_or(Errno::EBUSY)?;
    match (place.node.inode(), parent.node.directory()) {
        (Some(_), Some(directory)) => {
            let found = directory.get(place.name())?;
            if Arc::ptr_eq(&found, &place.node) { Ok(directory) } else { Err(Errno::ENOENT) }
        }
        (None, None) => Err(Errno::EPERM),
        // The root of a file system.
        _ => Err(Errno::EBUSY),
    }
}

fn last_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}
