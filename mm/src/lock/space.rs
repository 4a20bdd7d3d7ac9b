//! An address space's lock: many readers or one writer, and who has to wait sleeps.
//!
//! Faults read, on many CPUs at once, and may not meet in a cache line that one of them writes. So readers are counted
//! in `N` shards, each in a line of its own; a caller's stack picks its shard, which the kernel's tasks have apart.
//! One word that only writers and sleepers write has three bits. The protocol:
//!
//! 1. A reader adds itself to its shard first and looks at the word then: without WRITER it is in. Else it takes
//!    itself away again, as a reader that leaves, and waits for the writer.
//! 2. A writer turns 0 into WRITER, which keeps new readers out (writers do not starve), and waits until no shard counts
//!    a reader: one that was in before stays counted until it leaves, so looking at one shard after the other
//!    misses none.
//! 3. Who waits for the writer sets PARKED, then parks: it sleeps only if, under the parking lot's lock, WRITER and
//!    PARKED are still set. The writer that leaves clears all and wakes everybody when PARKED was set; readers and
//!    writers race anew.
//! 4. The writer that waits for readers sets DRAINING, then parks with a key of its own, if there still are any. A
//!    reader that leaves and sees DRAINING wakes it when no shard counts a reader.
//!
//! No wake-up is lost in 3: the sleeper either was queued before PARKED was cleared, and is woken, or sees that it is
//! clear. Nor in 4: either the reader that leaves sees DRAINING, or the writer, which set it before, sees the
//! reader gone (both write before they read, sequentially consistent; that is also why 1 and 2 do not miss each other).

use super::{park, unpark};
use crate::checks::might_sleep;
use core::array;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

const WRITER: u32 = 1;
const DRAINING: u32 = 2;
const PARKED: u32 = 4;

/// A read-write lock that sleeps: faults shared, everything else exclusive.
///
/// Each shard has an `L` beside its count of readers: what readers write and no other reader should wait for.
pub struct SpaceLock<T, L = (), const N: usize = 1> {
    state: AtomicU32,
    shards: [Shard<L>; N],
    value: UnsafeCell<T>,
}

/// The readers of some stacks, in one cache line.
#[repr(align(64))]
struct Shard<L> {
    readers: AtomicU32,
    local: L,
}

// SAFETY: the lock moves with its value, and only an exclusive holder reaches the value mutably.
unsafe impl<T: Send, L: Send, const N: usize> Send for SpaceLock<T, L, N> {}
// SAFETY: shared holders share `&T` and `&L` between threads (`Sync`), the exclusive one may move the value
// (`T: Send`).
unsafe impl<T: Send + Sync, L: Sync, const N: usize> Sync for SpaceLock<T, L, N> {}

impl<T, L: Default, const N: usize> SpaceLock<T, L, N> {
    /// A free lock.
    pub fn new(value: T) -> SpaceLock<T, L, N> {
        const { assert!(N.is_power_of_two()) }
        let shards = array::from_fn(|_| Shard { readers: AtomicU32::new(0), local: L::default() });
        SpaceLock { state: AtomicU32::new(0), shards, value: UnsafeCell::new(value) }
    }
}

impl<T, L, const N: usize> SpaceLock<T, L, N> {
    /// Shares the value with other readers.
    #[inline]
    pub fn read(&self) -> SpaceReadGuard<'_, T, L, N> {
        might_sleep("taking an address space's lock");
        let shard = self.shard();
        shard.readers.fetch_add(1, Ordering::SeqCst);
        if self.state.load(Ordering::SeqCst) & WRITER != 0 {
            self.read_slow(shard);
        }
        SpaceReadGuard { lock: self, shard }
    }

    /// Has the value alone.
    #[inline]
    pub fn write(&self) -> SpaceWriteGuard<'_, T, L, N> {
        might_sleep("taking an address space's lock");
        while self.state.compare_exchange(0, WRITER, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.wait_for_writer();
        }
        if self.has_readers() {
            self.drain();
        }
        SpaceWriteGuard { lock: self }
    }

    /// What the caller's shard has beside its readers.
    #[inline]
    pub fn local(&self) -> &L {
        &self.shard().local
    }

    /// What each shard has.
    pub fn locals(&self) -> impl Iterator<Item = &L> {
        self.shards.iter().map(|shard| &shard.local)
    }

    /// The shard of the caller's stack. Only a hint: two stacks may share one.
    #[inline]
    fn shard(&self) -> &Shard<L> {
        let on_the_stack = 0u8;
        // Pages, because a kernel stack is an odd number of them: stacks in a row have shards in a row.
        &self.shards[ptr::from_ref(&on_the_stack).addr() / 4096 % N]
    }

    #[cold]
    fn read_slow(&self, shard: &Shard<L>) {
        loop {
            self.leave_shared(shard);
            while self.state.load(Ordering::Relaxed) & WRITER != 0 {
                self.wait_for_writer();
            }
            shard.readers.fetch_add(1, Ordering::SeqCst);
            if self.state.load(Ordering::SeqCst) & WRITER == 0 {
                return;
            }
        }
    }

    /// Sleeps while there is a writer, or for a shorter time.
    #[cold]
    fn wait_for_writer(&self) {
        const KEPT_OUT: u32 = WRITER | PARKED;
        let state = self.state.load(Ordering::Relaxed);
        if state & WRITER != 0
            && self
                .state
                .compare_exchange(state, state | PARKED, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            park(self.key(), &|| self.state.load(Ordering::Relaxed) & KEPT_OUT == KEPT_OUT);
        }
    }

    /// Waits, as the writer, for the readers that were in before.
    #[cold]
    fn drain(&self) {
        while self.has_readers() {
            self.state.fetch_or(DRAINING, Ordering::SeqCst);
            park(self.key_of_draining(), &|| self.has_readers());
        }
        // Readers that come and go from now on have nobody to wake.
        self.state.fetch_and(!DRAINING, Ordering::Relaxed);
    }

    #[inline]
    fn has_readers(&self) -> bool {
        self.shards.iter().any(|shard| shard.readers.load(Ordering::SeqCst) != 0)
    }

    #[inline]
    fn leave_shared(&self, shard: &Shard<L>) {
        shard.readers.fetch_sub(1, Ordering::SeqCst);
        if self.state.load(Ordering::SeqCst) & DRAINING != 0 {
            self.wake_writer();
        }
    }

    #[cold]
    fn wake_writer(&self) {
        if !self.has_readers() {
            unpark(self.key_of_draining());
        }
    }

    #[inline]
    fn leave_exclusive(&self) {
        if self.state.swap(0, Ordering::Release) & PARKED != 0 {
            unpark(self.key());
        }
    }

    /// Whoever waits for the writer parks with this key.
    fn key(&self) -> usize {
        ptr::from_ref(&self.state).addr()
    }

    /// The writer that waits for readers parks with this one; an address inside the word is nobody else's.
    fn key_of_draining(&self) -> usize {
        self.key() + 1
    }
}

/// A [`SpaceLock`] held shared.
#[must_use = "the lock is free again when this is dropped"]
pub struct SpaceReadGuard<'a, T, L, const N: usize> {
    lock: &'a SpaceLock<T, L, N>,
    shard: &'a Shard<L>,
}

impl<L, T, const N: usize> SpaceReadGuard<'_, T, L, N> {
    /// What the caller's shard has beside its readers.
    #[inline]
    pub fn local(&self) -> &L {
        &self.shard.local
    }
}

impl<T, L, const N: usize> Deref for SpaceReadGuard<'_, T, L, N> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is counted as a reader in its shard: no writer gets in before it is dropped.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, L, const N: usize> Drop for SpaceReadGuard<'_, T, L, N> {
    #[inline]
    fn drop(&mut self) {
        self.lock.leave_shared(self.shard);
    }
}

/// A [`SpaceLock`] held exclusively.
#[must_use = "the lock is free again when this is dropped"]
pub struct SpaceWriteGuard<'a, T, L, const N: usize> {
    lock: &'a SpaceLock<T, L, N>,
}

impl<T, L, const N: usize> Deref for SpaceWriteGuard<'_, T, L, N> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: WRITER was set for this guard alone, and no reader was left: nobody else has a reference.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, L, const N: usize> DerefMut for SpaceWriteGuard<'_, T, L, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, L, const N: usize> Drop for SpaceWriteGuard<'_, T, L, N> {
    #[inline]
    fn drop(&mut self) {
        self.lock.leave_exclusive();
    }
}

#[cfg(test)]
mod tests;
