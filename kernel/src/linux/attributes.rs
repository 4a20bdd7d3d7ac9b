//! Calls about a file as a whole: chmod, chown, utimensat, truncate, statfs.

use super::abi::{Statfs, Timespec};
use super::errno::{Answer, Errno};
use super::io::tell;
use super::node::Node;
use super::stat::{FileSystem, NS_PER_SECOND};
use super::thread::Thread;
use super::tree;
use crate::machine::machine;
use crate::user_memory;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, NAME_MAX, PROC_SUPER_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC,
    UTIME_NOW, UTIME_OMIT,
};
use mm::range::PAGE_SIZE;
use zerocopy::FromZeros;

/// chmod(2), fchmodat(2).
pub fn fchmodat(thread: &mut Thread, directory: i32, path: u64, mode: u32) -> Answer {
    set_mode(&*tree::find(thread, directory, path, 0)?.node, mode)
}

/// fchmod(2).
pub fn fchmod(thread: &mut Thread, fd: i32, mode: u32) -> Answer {
    set_mode(&*thread.file(fd)?.node, mode)
}

fn set_mode(node: &dyn Node, mode: u32) -> Answer {
    node.inode().ok_or(Errno::EPERM)?.set_permissions(mode);
    Ok(0)
}

/// chown(2), lchown(2), fchownat(2), with a user and a group.
pub fn fchownat(thread: &mut Thread, directory: i32, path: u64, owner: [u32; 2], flags: u32) -> Answer {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    tree::find(thread, directory, path, flags)?;
    keep_owner(owner)
}

/// fchown(2).
pub fn fchown(thread: &mut Thread, fd: i32, owner: [u32; 2]) -> Answer {
    thread.file(fd)?;
    keep_owner(owner)
}

/// All files are root's and stay so; -1 asks for no change.
fn keep_owner(owner: [u32; 2]) -> Answer {
    if owner.iter().all(|id| [0, !0].contains(id)) { Ok(0) } else { Err(Errno::EPERM) }
}

/// utimensat(2): the time of the last change, which is the only one that is kept. No path is the descriptor's file.
pub fn utimensat(thread: &mut Thread, directory: i32, path: u64, times: u64, flags: u32) -> Answer {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let changed = match times {
        0 => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW.into() },
        _ => user_memory::read_value(times.checked_add(size_of::<Timespec>() as u64).ok_or(Errno::EFAULT)?)?,
    };
    let node = match path {
        0 => Arc::clone(&thread.file(directory)?.node),
        _ => Arc::clone(&tree::find(thread, directory, path, flags)?.node),
    };
    let inode = node.inode().ok_or(Errno::EPERM)?;
    match (changed.tv_nsec as u64, u64::try_from(changed.tv_sec)) {
        (nsec, _) if nsec == u64::from(UTIME_OMIT) => {}
        (nsec, _) if nsec == u64::from(UTIME_NOW) => inode.touch(),
        (nsec @ ..NS_PER_SECOND, Ok(seconds)) => {
            let ns = seconds.saturating_mul(NS_PER_SECOND).saturating_add(nsec);
            inode.mtime_ns.store(ns, Ordering::Relaxed);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// truncate(2).
pub fn truncate(thread: &mut Thread, path: u64, len_bytes: i64) -> Answer {
    let len_bytes = u64::try_from(len_bytes).map_err(|_| Errno::EINVAL)?;
    let place = tree::find(thread, AT_FDCWD, path, 0)?;
    if place.node.is_directory() {
        return Err(Errno::EISDIR);
    }
    place.node.truncate(len_bytes).map(|()| 0)
}

/// statfs(2).
pub fn statfs(thread: &mut Thread, path: u64, out: u64) -> Answer {
    tell(out, &file_system(&*tree::find(thread, AT_FDCWD, path, 0)?.node))
}

/// fstatfs(2).
pub fn fstatfs(thread: &mut Thread, fd: i32, out: u64) -> Answer {
    tell(out, &file_system(&*thread.file_any(fd)?.node))
}

fn file_system(node: &dyn Node) -> Statfs {
    let frames = machine().memory.frames;
    let (magic, blocks, free) = match node.metadata().file_system {
        FileSystem::Proc => (PROC_SUPER_MAGIC, 0, 0),
        FileSystem::Sys => (SYSFS_MAGIC, 0, 0),
        // devtmpfs is one, too.
        _ => (TMPFS_MAGIC, frames.total_frames(), frames.free_frames()),
    };
    Statfs {
        f_type: magic.into(),
        f_bsize: PAGE_SIZE,
        f_blocks: blocks,
        f_bfree: free,
        f_bavail: free,
        f_namelen: NAME_MAX.into(),
        f_frsize: PAGE_SIZE,
        ..Statfs::new_zeroed()
    }
}
