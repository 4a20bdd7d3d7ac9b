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
    holder: Weak<OpenFile>,
    /// The file, by its file system and inode.
    file: (u32, u32, u64),
    is_exclusive: bool,
    /// What the open file and its mappings hold, if it is a device.
    mapped: Weak<()>,
}

impl Held {
    fn is_open(&self) -> bool {
        self.holder.strong_count() > 0
    }
}

/// How often a waiter looks for the end of mappings, which nobody announces.
const MAPPED_NS: u64 = 10_000_000;

static HELD: SpinLock<Vec<Held>> = SpinLock::new(Rank::File, Vec::new());

/// Takes the lock of the file that is open, or says who has it: EAGAIN, with the time to look again if that is a
/// mapping. As on Linux, who has such a lock keeps it, and who changes a lock gives it up first.
fn take(open: &Arc<OpenFile>, is_exclusive: bool, again_ns: &mut Option<u64>) -> Answer {
    let mapped = open.node_as::<Arc<OpenDax>>().map(|open| open.opening()).unwrap_or_default();
    let (holder, file) = (Arc::downgrade(open), open.node.metadata().identity());
    forget_unmapped();
    let mut held = HELD.lock();
    let own = held.iter().position(|held| held.holder.ptr_eq(&holder));
    if own.is_some_and(|own| held[own].is_exclusive == is_exclusive) {
        return Ok(0);
    }
    let given_up = own.map(|own| held.swap_remove(own));
    let is_other = |other: &&Held| other.file == file && (other.is_exclusive || is_exclusive);
    let answer = match held.iter().find(is_other).map(Held::is_open) {
        Some(is_open) => {
            *again_ns = (!is_open).then(|| clock::monotonic_ns() + MAPPED_NS);
            Err(Errno::EAGAIN)
        }
        None if held.try_reserve(1).is_err() => Err(Errno::ENOMEM),
        None => {
            held.push(Held { holder, file, is_exclusive, mapped });
            Ok(0)
        }
    };
    drop(held);
    if given_up.is_some() {
        Changes::of(&HELD).announce();
    }
    answer
}

/// Says that an open file is gone, for those who wait for its lock. If only mappings have the lock now, which nobody
/// announces, they look at the clock from now on.
pub fn announce_close() {
    let is_held = HELD.lock().iter().any(|held| !held.is_open());
    if is_held {
        Changes::of(&HELD).announce();
    }
}

/// Forgets the locks that neither an open file nor a mapping has any more; all of them, at the end of a run.
pub fn forget_unmapped() {
    let mut held = HELD.lock();
    held.retain(|held| held.is_open() || held.mapped.strong_count() > 0);
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
            HELD.lock().retain(|held| held.holder.as_ptr() != Arc::as_ptr(&file));
            Changes::of(&HELD).announce();
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    if operation & LOCK_NB != 0 {
        return take(&file, is_exclusive, &mut None);
    }
    let answer = poll::wait(thread, None, "flock", &mut |_, changes| {
        *changes = Changes::of(&HELD);
        take(&file, is_exclusive, &mut changes.at_ns)
    });
    if answer == Err(Errno::EINTR) { Err(thread.restartable()) } else { answer }
}
