//! eventfd: a number as a file. Writing adds to it, reading takes it away.

use super::errno::{Answer, Errno};
use super::io::tell;
use super::node::{Node, Seek};
use super::open::open_anonymous;
use super::poll::{Changes, Source};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use crate::user_memory;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::*;

/// Bytes of each transfer.
const BYTES: u64 = size_of::<u64>() as u64;

/// The most that it counts to.
const MAX: u64 = u64::MAX - 1;

/// The file behind an eventfd.
struct Event {
    count: AtomicU64,
    /// A read takes 1, not all (EFD_SEMAPHORE).
    is_semaphore: bool,
    /// Something to read, room to write.
    readable: Source,
    writable: Source,
}

impl Event {
    /// Replaces the count by what `next` makes of it, or says EAGAIN; the count before.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> Answer {
        self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).map_err(|_| Errno::EAGAIN)
    }
}

impl Node for Event {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Anonymous, 1, 0o600)
    }

    fn read(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        if count < BYTES {
            return Err(Errno::EINVAL);
        }
        let taken = |count: u64| if self.is_semaphore { 1 } else { count };
        let before = self.change(|count| (count > 0).then(|| count - taken(count)))?;
        self.writable.announce();
        tell(buffer, &taken(before))?;
        Ok(BYTES)
    }

    fn write(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        if count < BYTES {
            return Err(Errno::EINVAL);
        }
        let added: u64 = user_memory::read_value(buffer)?;
        if added > MAX {
            return Err(Errno::EINVAL);
        }
        self.change(|count| count.checked_add(added).filter(|&sum| sum <= MAX))?;
        self.readable.announce();
        Ok(BYTES)
    }

    fn seek(&self) -> Seek {
        Seek::Nowhere
    }

    fn events(&self) -> u32 {
        let count = self.count.load(Ordering::SeqCst);
        let readable = if count > 0 { POLLIN } else { 0 };
        readable | if count < MAX { POLLOUT } else { 0 }
    }

    fn changes(&self, wanted: u32) -> Option<Changes> {
        let of = |event, source: &Source| {
            if wanted & event == 0 { Changes::default() } else { source.changes() }
        };
        Some(of(POLLIN, &self.readable).and(of(POLLOUT, &self.writable)))
    }
}

/// eventfd(2), eventfd2(2).
pub fn eventfd2(thread: &mut Thread, count: u32, flags: u32) -> Answer {
    if flags & !(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let event = Event {
        count: AtomicU64::new(count.into()),
        is_semaphore: flags & EFD_SEMAPHORE != 0,
        readable: Source::new(),
        writable: Source::new(),
    };
    open_anonymous(thread, Arc::new(event), "eventfd", flags)
}
