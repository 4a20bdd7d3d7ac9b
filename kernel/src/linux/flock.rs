//! flock(2): locks of whole files, which open files hold, and give back when their last descriptor goes.
//!
//! On Linux a mapping is as good as a descriptor, and libpmemobj, which closes the device when it has mapped it, counts
//! on that. So a lock of a device lives on without its open file until the last mapping made through that is gone.

use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::poll::{self, Changes};
use super::thread::Thread;
use crate::clock;
use crate::dax::OpenDax;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use linux_raw_sys::general::{LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN};
use mm::lock::{Rank, SpinLock};

struct Held {
    /// The address of the open file's [`FileLock`]; 0 when only mappings are left.
    holder: usize,
    /// The file, by its file system and inode.
    file: (u32, u32, u64),
    is_exclusive: bool,
    /// What the open file and its mappings hold, if it is a device.
    mapped: Weak<()>,
}

/// How often a waiter looks for the end of mappings, which nobody announces.
const MAPPED_NS: u64 = 10_000_000;

static HELD: SpinLock<Vec<Held>> = SpinLock::new(Rank::File, Vec::new());

/// What an open file has of its file's lock. It stays where it is while it has any.
#[derive(Default)]
pub struct FileLock {
    _address: u8,
}

impl FileLock {
    /// Takes the lock of the file that is open, or says who has it: EAGAIN, with the time to look again if that is a
    /// mapping. As on Linux, who has such a lock keeps it, and who changes a lock gives it up first.
    fn take(&self, open: &OpenFile, is_exclusive: bool, again_ns: &mut Option<u64>) -> Answer {
        let mapped = open.node_as::<Arc<OpenDax>>().map(|open| open.opening()).unwrap_or_default();
        let wish =
            Held { holder: self.address(), file: open.node.metadata().identity(), is_exclusive, mapped };
        forget_unmapped();
        let mut held = HELD.lock();
        let own = held.iter().position(|held| held.holder == self.address());
        let own = own.map(|index| held.swap_remove(index));
        let keeps = own.as_ref().is_some_and(|own| own.is_exclusive == is_exclusive);
        let is_other = |other: &&Held| other.file == wish.file && (other.is_exclusive || is_exclusive);
        let other = held.iter().find(is_other).filter(|_| !keeps).map(|other| other.holder);
        let answer = match other {
            Some(holder) => {
                *again_ns = (holder == 0).then(|| clock::monotonic_ns() + MAPPED_NS);
                Err(Errno::EAGAIN)
            }
            None if held.try_reserve(1).is_err() => Err(Errno::ENOMEM),
            None => {
                held.push(wish);
                Ok(0)
            }
        };
        drop(held);
        if own.is_some() && !keeps {
            Changes::of(&HELD).announce();
        }
        answer
    }

    fn release(&self) {
        let mut held = HELD.lock();
        let index = held.iter().position(|held| held.holder == self.address());
        let Some(index) = index else { return };
        held.swap_remove(index);
        drop(held);
        Changes::of(&HELD).announce();
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        let own = held.iter_mut().find(|held| held.holder == self.address());
        match own {
            // The node is gone already: this counts mappings.
            Some(own) if own.mapped.strong_count() > 0 => {
                own.holder = 0;
                drop(held);
                // Who waits looks at the clock from now on: nobody tells when a mapping goes.
                Changes::of(&HELD).announce();
            }
            Some(_) => {
                drop(held);
                self.release();
            }
            None => {}
        }
    }
}

/// Forgets the locks of mappings that are gone; all of them, at the end of a run.
pub fn forget_unmapped() {
    let mut held = HELD.lock();
    held.retain(|held| held.holder != 0 || held.mapped.strong_count() > 0);
    if held.is_empty() {
        // A run gives everything back.
        *held = Vec::new();
    }
}

/// flock(2).
pub fn flock(thread: &mut Thread, fd: i32, operation: u32) -> Answer {
    let file = thread.file(fd)?;
    let is_exclusive = match operation & !LOCK_NB {
        LOCK_SH => false,
        LOCK_EX => true,
        LOCK_UN => {
            file.lock.release();
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    if operation & LOCK_NB != 0 {
        return file.lock.take(&file, is_exclusive, &mut None);
    }
    let answer = poll::wait(thread, None, "flock", &mut |_, changes| {
        *changes = Changes::of(&HELD);
        file.lock.take(&file, is_exclusive, &mut changes.at_ns)
    });
    if answer == Err(Errno::EINTR) { Err(thread.restartable()) } else { answer }
}
