//! Metadata: stat, fstat, newfstatat, statx.

use super::abi::{Stat, Statx, StatxTimestamp};
use super::errno::{Answer, Errno};
use super::io::tell;
use super::thread::Thread;
use super::tree;
use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW, S_IFDIR, S_IFMT, S_IFREG,
    STATX__RESERVED, STATX_BASIC_STATS,
};
use mm::range::PAGE_SIZE;
use zerocopy::FromZeros;

pub const NS_PER_SECOND: u64 = 1_000_000_000;

/// The file systems, by the minor number of their st_dev (the major is 0: no disk).
#[derive(Clone, Copy)]
#[allow(missing_docs)] // each is called what it holds
pub enum FileSystem {
    Ram = 1,
    Dev = 5,
    Streams = 13,
    Pipes = 14,
    Anonymous = 15,
    Proc = 20,
    Sys = 21,
}

/// What stat(2) tells.
#[derive(Clone, Copy)]
pub struct Metadata {
    /// st_dev.
    pub file_system: FileSystem,
    /// st_ino.
    pub inode: u64,
    /// st_mode.
    pub mode: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// st_size.
    pub size_bytes: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: u64,
    /// st_nlink.
    pub links: u32,
}

impl Metadata {
    /// A file without bytes.
    pub fn new(file_system: FileSystem, inode: u64, mode: u32) -> Metadata {
        let links = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        Metadata { file_system, inode, mode, device: (0, 0), size_bytes: 0, mtime_ns: 0, links }
    }

    /// The same where a path names one file at a time: the inode number is made of it.
    pub fn of_path(file_system: FileSystem, path: &str, mode: u32) -> Metadata {
        let mix = |hash: u64, part: &[u8]| {
            let part = part.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
            (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        };
        Metadata::new(file_system, path.as_bytes().chunks(8).fold(0, mix), mode)
    }

    /// Device (major, minor) and inode, as /proc/self/maps shows them.
    pub fn identity(&self) -> (u32, u32, u64) {
        (0, self.file_system as u32, self.inode)
    }

    fn blocks(&self) -> u64 {
        if self.mode & S_IFMT == S_IFREG { self.size_bytes.div_ceil(512) } else { 0 }
    }

    fn to_stat(self) -> Stat {
        let (seconds, ns) = (self.mtime_ns / NS_PER_SECOND, self.mtime_ns % NS_PER_SECOND);
        Stat {
            st_dev: makedev(0, self.file_system as u32),
            st_ino: self.inode,
            st_nlink: self.links.into(),
            st_mode: self.mode,
            st_rdev: makedev(self.device.0, self.device.1),
            st_size: self.size_bytes,
            st_blksize: PAGE_SIZE,
            st_blocks: self.blocks(),
            st_atime: seconds,
            st_atime_nsec: ns,
            st_mtime: seconds,
            st_mtime_nsec: ns,
            st_ctime: seconds,
            st_ctime_nsec: ns,
            ..Stat::new_zeroed()
        }
    }

    fn to_statx(self) -> Statx {
        let (seconds, ns) = (self.mtime_ns / NS_PER_SECOND, self.mtime_ns % NS_PER_SECOND);
        let time = StatxTimestamp { tv_sec: seconds as i64, tv_nsec: ns as u32, reserved: 0 };
        Statx {
            stx_mask: STATX_BASIC_STATS,
            stx_blksize: PAGE_SIZE as u32,
            stx_nlink: self.links,
            stx_mode: self.mode as u16,
            stx_ino: self.inode,
            stx_size: self.size_bytes,
            stx_blocks: self.blocks(),
            stx_atime: time,
            stx_ctime: time,
            stx_mtime: time,
            stx_rdev_major: self.device.0,
            stx_rdev_minor: self.device.1,
            stx_dev_minor: self.file_system as u32,
            ..Statx::new_zeroed()
        }
    }
}

/// The 64-bit device number that glibc and musl take apart (include/linux/kdev_t.h, new_encode_dev).
fn makedev(major: u32, minor: u32) -> u64 {
    u64::from(minor & 0xff) | u64::from(major) << 8 | u64::from(minor & !0xff) << 12
}

/// fstat(2).
pub fn fstat(thread: &mut Thread, fd: i32, out: u64) -> Answer {
    let metadata = thread.file_any(fd)?.node.metadata();
    tell(out, &metadata.to_stat())
}

/// stat(2), lstat(2), newfstatat(2).
pub fn fstatat(thread: &mut Thread, directory: i32, path: u64, out: u64, flags: u32) -> Answer {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    tell(out, &tree::find(thread, directory, path, flags)?.node.metadata().to_stat())
}

/// statx(2): always the basic fields, whatever was asked for.
pub fn statx(thread: &mut Thread, directory: i32, path: u64, flags: u32, mask: u32, out: u64) -> Answer {
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    if mask & STATX__RESERVED != 0 || flags & !known != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE
    {
        return Err(Errno::EINVAL);
    }
    tell(out, &tree::find(thread, directory, path, flags)?.node.metadata().to_statx())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_encoded_as_libc_takes_them_apart() {
        assert_eq!(makedev(1, 3), 0x103);
        // gnu_dev_minor(dev) = (dev & 0xff) | ((dev >> 12) & 0xffffff00).
        let number = makedev(254, 0xa_bcde);
        assert_eq!((number & 0xff) | ((number >> 12) & 0xffff_ff00), 0xa_bcde);
        assert_eq!((number >> 8) & 0xfff, 254);
    }
}
