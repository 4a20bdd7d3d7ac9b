//! What a file is: one trait of operations for whatever a path names and whatever a descriptor holds.
//!
//! What a node does not say is what Linux answers for a file that cannot do it. Descriptors, access modes and
//! positions are `files`'; checks that are the same for all files are `io`'s, `open`'s and `memory`'s.

use super::errno::{Answer, Errno};
use super::stat::Metadata;
use super::thread::Thread;
use crate::initrd::File;
use alloc::string::String;
use alloc::sync::Arc;
use linux_raw_sys::general::{POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM};
use mm::pager::Prot;
use mm::vma::Backing;

/// Where lseek(2) can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// Nowhere: it has no position (ESPIPE).
    Pipe,
    /// To 0, wherever it is asked to go (drivers/char/mem.c, null_lseek).
    Start,
    /// Anywhere, but it has no end to count from.
    Endless,
    /// Also from its end.
    Sized,
    /// Also to its data and to its holes, of which it has none.
    Data,
}

/// A file, a directory, a device, a link.
pub trait Node: Send + Sync {
    /// What stat(2) tells.
    fn metadata(&self) -> Metadata;

    /// Checks open(2)'s flags. Gives what is open then, where that is more than the node.
    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        let _ = flags;
        Ok(None)
    }

    /// The absolute path of a directory, without a slash at its end.
    fn directory(&self) -> Option<&str> {
        None
    }

    /// The absolute path that a link leads to.
    fn link(&self) -> Option<String> {
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

    /// Copies bytes from `position` on to the program; bytes copied, 0 at the end.
    fn read(&self, thread: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let _ = (thread, position, buffer, count);
        Err(Errno::EINVAL)
    }

    /// Takes bytes from the program; bytes taken.
    fn write(&self, buffer: u64, count: u64) -> Answer {
        let _ = (buffer, count);
        Err(Errno::EINVAL)
    }

    /// Does a read that goes on from `position` find the end, whatever is there?
    fn is_at_end(&self, position: u64) -> bool {
        let _ = position;
        false
    }

    /// Where lseek(2) can go.
    fn seek(&self) -> Seek {
        Seek::Endless
    }

    /// Makes durable what was written (fsync).
    fn flush(&self) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// What a mapping of it shows, and the most that it may allow.
    fn map(&self) -> Result<(Backing, Prot), Errno> {
        Err(Errno::ENODEV)
    }

    /// What poll(2) finds: what cannot block is always ready (include/linux/poll.h, DEFAULT_POLLMASK).
    fn events(&self) -> u32 {
        POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM
    }
}
