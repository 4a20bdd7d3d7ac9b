//! The two locks of the house, and the order in which they are taken.
//!
//! A [`SpaceLock`] may sleep: it is taken with no spin lock held and nothing pinned. A [`SpinLock`] is unfair
//! test-and-set, taken with preemption off, held for a short time and never across a shootdown, a sleep or
//! an access to a program's memory. Spin locks nest in the order of [`Rank`], outermost first; two of one
//! rank nest in an order that their owner chooses. The `checks` feature verifies all of this
//! ([`crate::checks`]).

mod space;

use crate::checks::Held;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};

pub use space::{SpaceLock, SpaceReadGuard, SpaceWriteGuard};

/// Who can put a task to sleep: the kernel's parking lot. Where nobody was named (early boot, a host)
/// waiting spins.
pub trait Parking: Sync {
    /// Sleeps until somebody calls `unpark` with this key, or for a shorter time.
    ///
    /// `still` is asked after the caller was queued, under the lock that `unpark` takes too; when it answers
    /// false nobody sleeps. It only reads atomics.
    fn park(&self, key: usize, still: &dyn Fn() -> bool);

    /// Wakes all that sleep with this key.
    fn unpark(&self, key: usize);
}

static PARKING: spin::Once<&'static dyn Parking> = spin::Once::new();

/// Names who parks from now on; only the first call counts.
pub fn set_parking(parking: &'static dyn Parking) {
    PARKING.call_once(|| parking);
}

/// Waits for `unpark(key)`, or a while: the caller looks again.
pub(crate) fn park(key: usize, still: &dyn Fn() -> bool) {
    match PARKING.get() {
        Some(parking) => parking.park(key, still),
        None => core::hint::spin_loop(),
    }
}

pub(crate) fn unpark(key: usize) {
    if let Some(parking) = PARKING.get() {
        parking.unpark(key);
    }
}

/// The order of spin locks, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rank {
    /// The registry of dax devices and regions.
    Registry,
    /// One region: its free ranges, its devices' ids.
    Region,
    /// One device: who maps it, who holds it.
    DeviceMappings,
    /// The pool of minor numbers.
    Minors,
    /// The table of processes, parents and children.
    Children,
    /// One process: descriptors, signals, limits.
    Process,
    /// An open file: its offset; the table of shared memory.
    File,
    /// The deadlines of parked tasks.
    Deadlines,
    /// One bucket of the parking lot.
    ParkBucket,
    /// Runnable tasks.
    RunQueue,
    /// Kernel stacks, task numbers.
    Tasks,
    /// The kernel's heap.
    Heap,
    /// The frame allocator.
    Frames,
    /// The log and the serial line: anybody may say something.
    Log,
}

/// A short critical section.
pub struct SpinLock<T> {
    inner: SpinMutex<T>,
    #[cfg(feature = "checks")]
    rank: Rank,
}

impl<T> SpinLock<T> {
    /// A lock of this rank around `value`.
    #[cfg_attr(not(feature = "checks"), allow(unused_variables))]
    pub const fn new(rank: Rank, value: T) -> SpinLock<T> {
        SpinLock {
            inner: SpinMutex::new(value),
            #[cfg(feature = "checks")]
            rank,
        }
    }

    /// Spins until the lock is free.
    #[inline]
    #[cfg_attr(feature = "checks", track_caller)]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let held = self.held();
        SpinGuard { guard: self.inner.lock(), _held: held }
    }

    /// The value, without locking.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    #[inline]
    #[cfg_attr(feature = "checks", track_caller)]
    fn held(&self) -> Held {
        #[cfg(feature = "checks")]
        let rank = self.rank;
        // Nobody looks at it: no lock spends memory on it.
        #[cfg(not(feature = "checks"))]
        let rank = Rank::Log;
        Held::new(rank, core::ptr::from_ref(self).addr())
    }
}

/// A held [`SpinLock`].
pub struct SpinGuard<'a, T> {
    // Dropped in this order: the lock is free before the books say so.
    guard: SpinMutexGuard<'a, T>,
    _held: Held,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
