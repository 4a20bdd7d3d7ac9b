//! An address space's lock: many readers or one writer, and who has to wait sleeps.
//!
//! One word counts the readers and has three bits. The protocol:
//!
//! 1. A reader adds itself first and looks then: with neither WRITER nor WANTED set it is in. Else it
//!    takes itself away again, as a reader that leaves, and waits. So the usual case is one atomic addition.
//! 2. A writer is in when it turns "no reader, no WRITER" into WRITER; it clears WANTED with that. Else it sets
//!    WANTED, which keeps new readers out (writers do not starve), and waits.
//! 3. Who waits sets PARKED, then parks. It sleeps only if, under the parking lot's lock, PARKED is still
//!    set and the state still keeps it out.
//! 4. The writer that leaves, and the last reader that leaves, clear PARKED and then wake everybody, when it
//!    was set. The leaving writer clears WANTED as well, so readers and writers race anew and readers do
//!    not starve either; a writer that loses sets it again.
//!
//! No wake-up is lost: a change that lets a sleeper in comes with 4, and the sleeper either was queued before
//! PARKED was cleared, and is woken, or sees in 3 that it is clear.

use super::{park, unpark};
use crate::checks::might_sleep;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const WRITER: u32 = 1;
const WANTED: u32 = 2;
const PARKED: u32 = 4;
/// One reader: the count is in the bits from here on.
const READER: u32 = 8;

/// A read-write lock that sleeps: faults shared, everything else exclusive.
pub struct SpaceLock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock moves with its value, and only an exclusive holder reaches the value mutably.
unsafe impl<T: Send> Send for SpaceLock<T> {}
// SAFETY: shared holders share `&T` between threads (`T: Sync`), the exclusive one may move the value (`T: Send`).
unsafe impl<T: Send + Sync> Sync for SpaceLock<T> {}

impl<T> SpaceLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> SpaceLock<T> {
        SpaceLock { state: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Shares the value with other readers.
    #[inline]
    pub fn read(&self) -> SpaceReadGuard<'_, T> {
        might_sleep("taking an address space's lock");
        if self.state.fetch_add(READER, Ordering::Acquire) & (WRITER | WANTED) != 0 {
            self.read_slow();
        }
        SpaceReadGuard { lock: self }
    }

    /// Has the value alone.
    #[inline]
    pub fn write(&self) -> SpaceWriteGuard<'_, T> {
        might_sleep("taking an address space's lock");
        if self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.write_slow();
        }
        SpaceWriteGuard { lock: self }
    }

    #[cold]
    fn read_slow(&self) {
        loop {
            self.leave_shared();
            self.wait(PARKED, |state| state & (WRITER | WANTED) != 0);
            if self.state.fetch_add(READER, Ordering::Acquire) & (WRITER | WANTED) == 0 {
                return;
            }
        }
    }

    #[cold]
    fn write_slow(&self) {
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state & WRITER == 0 && state < READER {
                let taken = state & PARKED | WRITER;
                if self.state.compare_exchange(state, taken, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return;
                }
            } else {
                self.wait(PARKED | WANTED, |state| state & WRITER != 0 || state >= READER);
            }
        }
    }

    /// Sleeps while the state keeps the caller out, which needs `bits` to be set.
    fn wait(&self, bits: u32, kept_out: impl Fn(u32) -> bool) {
        let state = self.state.load(Ordering::Relaxed);
        let marked = state | bits;
        if kept_out(state)
            && self.state.compare_exchange(state, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            park(self.key(), &|| {
                let state = self.state.load(Ordering::Relaxed);
                state & bits == bits && kept_out(state)
            });
        }
    }

    #[inline]
    fn leave_shared(&self) {
        let state = self.state.fetch_sub(READER, Ordering::Release);
        if state & PARKED != 0 {
            self.wake_after_readers(state - READER);
        }
    }

    #[cold]
    fn wake_after_readers(&self, left: u32) {
        if left & WRITER == 0 && left < READER {
            self.state.fetch_and(!PARKED, Ordering::Relaxed);
            unpark(self.key());
        }
    }

    #[inline]
    fn leave_exclusive(&self) {
        if self.state.fetch_sub(WRITER, Ordering::Release) & (WANTED | PARKED) != 0 {
            self.wake_after_writer();
        }
    }

    #[cold]
    fn wake_after_writer(&self) {
        self.state.fetch_and(!(WANTED | PARKED), Ordering::Relaxed);
        unpark(self.key());
    }

    fn key(&self) -> usize {
        core::ptr::from_ref(&self.state).addr()
    }
}

/// A [`SpaceLock`] held shared.
#[must_use = "the lock is free again when this is dropped"]
pub struct SpaceReadGuard<'a, T> {
    lock: &'a SpaceLock<T>,
}

impl<T> Deref for SpaceReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard counts as a reader: no writer gets in before it is dropped.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for SpaceReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.leave_shared();
    }
}

/// A [`SpaceLock`] held exclusively.
#[must_use = "the lock is free again when this is dropped"]
pub struct SpaceWriteGuard<'a, T> {
    lock: &'a SpaceLock<T>,
}

impl<T> Deref for SpaceWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: WRITER is set by this guard alone: nobody else has a reference.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpaceWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpaceWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.leave_exclusive();
    }
}

#[cfg(test)]
mod tests;
