//! What a file is: one trait of operations for whatever a path names and whatever a descriptor holds.
//!
//! What a node does not say is what Linux answers for a file that cannot do it. Descriptors, access modes and
//! positions are `files`'; checks that are the same for all files are `io`'s, `open`'s and `memory`'s.

use super::directory::RamDirectory;
use super::errno::{Answer, Errno};
use super::inode::Inode;
use super::poll::Changes;
use super::stat::Metadata;
use super::thread::Thread;
use super::tree::Place;
use crate::initrd::File;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general::{POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, S_IFDIR, S_IFMT};
use mm::pager::{Prot, Sharing};
use mm::vma::Backing;

/// Where a write goes that goes behind the last byte (O_APPEND).
pub const END: u64 = u64::MAX;

/// Where lseek(2) can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// It has no position (ESPIPE).
    Pipe,
    /// To 0, wherever it is asked to go (drivers/char/mem.c, null_lseek).
    Start,
    /// The same, but it has no other positions either: ESPIPE of pread(2) (fs/read_write.c, noop_llseek).
    Nowhere,
    /// Anywhere, but it has no end to count from.
    Endless,
    /// Also from its end.
    Sized,
    /// Also to its data and to its holes, of which it has none.
    Data,
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place among the others: it stays while they come and go.
    pub position: u64,
    /// The name.
    pub name: String,
}

/// The entries of a directory whose names are known in advance, from `position` on.
pub fn numbered(names: impl IntoIterator<Item = impl Into<String>>, position: u64) -> Vec<Entry> {
    let entries = (0..).zip(names).map(|(position, name)| Entry { position, name: name.into() });
    entries.skip_while(|entry| entry.position < position).collect()
}

/// A file, a directory, a device, a link.
pub trait Node: Any + Send + Sync {
    /// What stat(2) tells.
    fn metadata(&self) -> Metadata;

    /// Checks open(2)'s flags. Gives what is open then, where that is more than the node.
    fn open(&self, _flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        Ok(None)
    }

    /// What it has as a node of the tree in RAM.
    fn inode(&self) -> Option<&Inode> {
        None
    }

    /// The directory that it is, if names can come and go in it.
    fn directory(&self) -> Option<&RamDirectory> {
        None
    }

    /// The type in its st_mode. Each step of a path asks for it.
    fn kind(&self) -> u32 {
        self.metadata().mode & S_IFMT
    }

    /// Is it a directory?
    fn is_directory(&self) -> bool {
        self.kind() == S_IFDIR
    }

    /// What a directory has under `name`, which is not empty, `.` or `..`. Fails with ENOENT, or ENOTDIR.
    fn lookup(&self, _thread: &Thread, _name: &str) -> Result<Arc<dyn Node>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// The names in a directory from `position` on, by ascending position: all, or as many as it likes to tell at
    /// once. Nothing is behind the last one when the answer is empty.
    fn entries(&self, _thread: &Thread, _position: u64) -> Result<Vec<Entry>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// The text of a symbolic link: absolute, or seen from the directory that it is in.
    fn link(&self) -> Option<String> {
        None
    }

    /// Where a link leads whose text need not name it: /proc/self/fd/N of a file that has no path any more.
    fn jump(&self, _thread: &Thread) -> Option<Arc<Place>> {
        None
    }

    /// The file that execve(2) would run.
    fn program(&self) -> Option<&'static File> {
        None
    }

    /// Are there any reads or writes? Asked before the buffer is looked at (FMODE_CAN_READ, FMODE_CAN_WRITE).
    fn transfers(&self) -> bool {
        true
    }

    /// Copies bytes from `position` on to the program; bytes copied, 0 at the end. EAGAIN when none are there yet.
    fn read(&self, _thread: &mut Thread, _position: u64, _buffer: u64, _count: u64) -> Answer {
        Err(if self.is_directory() { Errno::EISDIR } else { Errno::EINVAL })
    }

    /// Takes bytes from the program, to `position` (or [`END`]) on where that means something; bytes taken. EAGAIN when
    /// there is no room yet.
    fn write(&self, _thread: &mut Thread, _position: u64, _buffer: u64, _count: u64) -> Answer {
        Err(Errno::EINVAL)
    }

    /// Does a read that goes on from `position` find the end, whatever is there?
    fn is_at_end(&self, _position: u64) -> bool {
        false
    }

    /// Where lseek(2) can go.
    fn seek(&self) -> Seek {
        Seek::Endless
    }

    /// Makes it `len_bytes` long.
    fn truncate(&self, _len_bytes: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2)'s `mode`; 0: makes room for the bytes from `start` to `end`, and is at least that long then.
    fn allocate(&self, _mode: u32, _start: u64, _end: u64) -> Result<(), Errno> {
        Err(if self.seek() == Seek::Pipe { Errno::ESPIPE } else { Errno::ENODEV })
    }

    /// Makes durable what was written (fsync).
    fn flush(&self) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// What a mapping of it shows, and the most that it may allow.
    fn map(&self, _sharing: Sharing) -> Result<(Backing, Prot), Errno> {
        Err(Errno::ENODEV)
    }

    /// What poll(2) finds: what cannot block is always ready (include/linux/poll.h, DEFAULT_POLLMASK).
    fn events(&self) -> u32 {
        POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM
    }

    /// How what it shows of `wanted` may change; `None` of a file that is always ready, which epoll does not take.
    fn changes(&self, wanted: u32) -> Option<Changes> {
        let _ = wanted;
        None
    }
}
