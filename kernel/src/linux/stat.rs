//! Metadata: stat, fstat, newfstatat, statx.

use super::abi::{Stat, Statx, StatxTimestamp};
use super::dev::{DAX_MAJOR, DAX_MODE};
use super::errno::{Answer, Errno};
use super::files::Object;
use super::thread::Thread;
use super::tree::{self, Node};
use crate::dax::DevDax;
use crate::initrd::File;
use crate::user_memory;
use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW, S_IFDIR, S_IFIFO,
    S_IFLNK, S_IFMT, S_IFREG, STATX__RESERVED, STATX_BASIC_STATS,
};
use mm::range::PAGE_SIZE;
use zerocopy::FromZeros;

/// The file systems, by the minor number of their st_dev (the major is 0: no disk).
#[derive(Clone, Copy)]
enum FileSystem {
    Initrd = 1,
    Dev = 5,
    Streams = 13,
    Proc = 20,
    Sys = 21,
}

/// What stat(2) tells.
#[derive(Clone, Copy)]
pub struct Metadata {
    file_system: FileSystem,
    inode: u64,
    mode: u32,
    /// Major and minor number of a device.
    device: (u32, u32),
    size_bytes: u64,
    mtime: u64,
}

impl Metadata {
    fn new(file_system: FileSystem, inode: u64, mode: u32) -> Metadata {
        Metadata { file_system, inode, mode, device: (0, 0), size_bytes: 0, mtime: 0 }
    }

    fn of_file(file: &File) -> Metadata {
        // A cpio made by hand may leave the type out.
        let mode = if file.mode & S_IFMT == 0 { S_IFREG | file.mode } else { file.mode };
        Metadata {
            size_bytes: file.bytes.len() as u64,
            mtime: file.mtime,
            ..Metadata::new(FileSystem::Initrd, file.inode, mode)
        }
    }

    /// Unlike Linux, the size is told: memmap2 and friends ask for it (error matrix, `fstat`).
    fn of_dax(device: &DevDax) -> Metadata {
        let minor = device.number();
        Metadata {
            size_bytes: device.size_bytes(),
            device: (DAX_MAJOR, minor),
            ..Metadata::new(FileSystem::Dev, 1000 + u64::from(minor), DAX_MODE)
        }
    }

    /// What fstat(2) tells of an open file.
    pub fn of_object(object: &Object) -> Metadata {
        match object {
            Object::Stream(stream) => Metadata::new(FileSystem::Streams, *stream as u64 + 1, S_IFIFO | 0o600),
            Object::Directory(directory) => Metadata::of_directory(&directory.path),
            Object::File(file) => Metadata::of_file(file),
            Object::Device(device) => Metadata::of_node(&Node::Device(*device)),
            Object::Dax(open) => Metadata::of_dax(open.device()),
            Object::Proc(file) => Metadata::of_node(&Node::Proc(*file)),
            Object::Sys(file) => Metadata::of_node(&Node::Sys(*file)),
        }
    }

    /// What lstat(2) tells of a path.
    pub fn of_node(node: &Node) -> Metadata {
        match node {
            Node::Directory(directory) => Metadata::of_directory(&directory.path),
            Node::File(file) => Metadata::of_file(file),
            Node::Device(device) => {
                let (_, minor) = device.number();
                let inode = u64::from(minor) + 1;
                let metadata = Metadata::new(FileSystem::Dev, inode, device.mode());
                Metadata { device: device.number(), ..metadata }
            }
            Node::Dax(device) => Metadata::of_dax(device),
            Node::Proc(file) => Metadata::new(FileSystem::Proc, *file as u64 + 10, S_IFREG | 0o400),
            // One number for all: they come and go with the devices. As on Linux each is a page long.
            Node::Sys(file) => {
                Metadata { size_bytes: PAGE_SIZE, ..Metadata::new(FileSystem::Sys, 2, S_IFREG | file.mode) }
            }
            Node::Executable => Metadata::new(FileSystem::Proc, 2, S_IFLNK | 0o777),
        }
    }

    fn of_directory(path: &str) -> Metadata {
        let (file_system, inode) = match path {
            "/dev" => (FileSystem::Dev, 1),
            path if path.starts_with("/proc") => (FileSystem::Proc, 1),
            path if path.starts_with("/sys") => (FileSystem::Sys, 1),
            // The initrd need not have an entry for a directory: one number for all of them.
            _ => (FileSystem::Initrd, 1 << 32),
        };
        Metadata::new(file_system, inode, S_IFDIR | 0o755)
    }

    /// Device (major, minor) and inode, as /proc/self/maps shows them.
    pub fn identity(&self) -> (u32, u32, u64) {
        (0, self.file_system as u32, self.inode)
    }

    /// st_size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn links(&self) -> u32 {
        if self.mode & S_IFMT == S_IFDIR { 2 } else { 1 }
    }

    fn blocks(&self) -> u64 {
        if self.mode & S_IFMT == S_IFREG { self.size_bytes.div_ceil(512) } else { 0 }
    }

    fn to_stat(self) -> Stat {
        Stat {
            st_dev: makedev(0, self.file_system as u32),
            st_ino: self.inode,
            st_nlink: u64::from(self.links()),
            st_mode: self.mode,
            st_rdev: makedev(self.device.0, self.device.1),
            st_size: self.size_bytes,
            st_blksize: PAGE_SIZE,
            st_blocks: self.blocks(),
            st_atime: self.mtime,
            st_mtime: self.mtime,
            st_ctime: self.mtime,
            ..Stat::new_zeroed()
        }
    }

    fn to_statx(self) -> Statx {
        let time = StatxTimestamp { tv_sec: self.mtime as i64, tv_nsec: 0, reserved: 0 };
        Statx {
            stx_mask: STATX_BASIC_STATS,
            stx_blksize: PAGE_SIZE as u32,
            stx_nlink: self.links(),
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
    let metadata = Metadata::of_object(&thread.file_any(fd)?.object);
    user_memory::write_value(out, &metadata.to_stat())?;
    Ok(0)
}

/// stat(2), lstat(2), newfstatat(2).
pub fn fstatat(thread: &mut Thread, directory: i32, path: u64, out: u64, flags: u32) -> Answer {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    let metadata = look_up(thread, directory, path, flags)?;
    user_memory::write_value(out, &metadata.to_stat())?;
    Ok(0)
}

/// statx(2): always the basic fields, whatever was asked for.
pub fn statx(thread: &mut Thread, directory: i32, path: u64, flags: u32, mask: u32, out: u64) -> Answer {
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    if mask & STATX__RESERVED != 0 || flags & !known != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE
    {
        return Err(Errno::EINVAL);
    }
    let metadata = look_up(thread, directory, path, flags)?;
    user_memory::write_value(out, &metadata.to_statx())?;
    Ok(0)
}

fn look_up(thread: &Thread, directory: i32, path: u64, flags: u32) -> Result<Metadata, Errno> {
    if flags & AT_EMPTY_PATH != 0 && user_memory::read_value::<u8>(path)? == 0 {
        return match directory {
            AT_FDCWD => Ok(Metadata::of_directory("")),
            fd => Ok(Metadata::of_object(&thread.file_any(fd)?.object)),
        };
    }
    let path = tree::read_path(thread, directory, path)?;
    match tree::find(&thread.owner(), &path)? {
        Node::Executable if flags & AT_SYMLINK_NOFOLLOW == 0 => {
            Ok(Metadata::of_file(thread.program.executable))
        }
        node => Ok(Metadata::of_node(&node)),
    }
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
