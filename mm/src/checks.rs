//! What a `checks` build verifies: nobody sleeps with a spin lock held or the epoch pinned, spin locks are
//! taken in the order of their [`Rank`] and none twice, and nothing is locked (so nothing is allocated or printed) while
//! pinned. Each breach is a panic that names both sides.
//!
//! Without the cargo feature `checks` every function here is empty: the compiler sees that no CPU has books. With it
//! the books are kept by CPU: a spin lock and a pin keep their task where it is. Before [`set_cpu`] is called
//! nothing is kept.

use crate::lock::Rank;
use core::panic::Location;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};

const CPUS: usize = 64;
const RANKS: usize = Rank::Log as usize + 1;

/// What one CPU holds; only that CPU writes here.
struct Books {
    stopped: AtomicBool,
    pins: AtomicU32,
    pinned_at: AtomicPtr<Location<'static>>,
    locks: [AtomicU32; RANKS],
    /// The address of the last one that was taken and is still held, by rank.
    last: [AtomicUsize; RANKS],
    locked_at: [AtomicPtr<Location<'static>>; RANKS],
}

static BOOKS: [Books; CPUS] = [const {
    Books {
        stopped: AtomicBool::new(false),
        pins: AtomicU32::new(0),
        pinned_at: AtomicPtr::new(null_mut()),
        locks: [const { AtomicU32::new(0) }; RANKS],
        last: [const { AtomicUsize::new(0) }; RANKS],
        locked_at: [const { AtomicPtr::new(null_mut()) }; RANKS],
    }
}; CPUS];
static CPU: spin::Once<fn() -> usize> = spin::Once::new();

/// Names the function that tells which CPU this is; only the first call counts. It takes no lock.
pub fn set_cpu(cpu: fn() -> usize) {
    if cfg!(feature = "checks") {
        CPU.call_once(|| cpu);
    }
}

/// Stops the checks of this CPU: for whoever panics, whose message takes locks that it would not take else.
#[inline(always)]
pub fn stop() {
    if let Some((_, books)) = books() {
        books.stopped.store(true, Relaxed);
    }
}

#[inline(always)]
fn books() -> Option<(usize, &'static Books)> {
    if !cfg!(feature = "checks") {
        return None;
    }
    let cpu = CPU.get()?();
    let books = BOOKS.get(cpu).filter(|books| !books.stopped.load(Relaxed))?;
    Some((cpu, books))
}

impl Books {
    fn pin(&self) -> Option<&'static Location<'static>> {
        if self.pins.load(Relaxed) == 0 { None } else { location(&self.pinned_at) }
    }

    /// The innermost spin lock that this CPU holds.
    fn innermost(&self) -> Option<(Rank, &'static Location<'static>)> {
        let index = self.locks.iter().rposition(|count| count.load(Relaxed) > 0)?;
        Some((ALL[index], location(&self.locked_at[index])?))
    }
}

const ALL: [Rank; RANKS] = [
    Rank::Registry,
    Rank::Region,
    Rank::DeviceMappings,
    Rank::Minors,
    Rank::Children,
    Rank::Process,
    Rank::File,
    Rank::Deadlines,
    Rank::ParkBucket,
    Rank::RunQueue,
    Rank::Tasks,
    Rank::Heap,
    Rank::Frames,
    Rank::Log,
];

fn location(slot: &AtomicPtr<Location<'static>>) -> Option<&'static Location<'static>> {
    // SAFETY: only `set_location` writes the slot: null or a reference that lives for ever.
    unsafe { slot.load(Relaxed).as_ref() }
}

fn set_location(slot: &AtomicPtr<Location<'static>>, location: &'static Location<'static>) {
    slot.store(core::ptr::from_ref(location).cast_mut(), Relaxed);
}

/// Says that the caller may sleep.
///
/// # Panics
/// With the feature `checks`: when this CPU has pinned the epoch or holds a spin lock.
#[inline(always)]
#[track_caller]
pub fn might_sleep(what: &'static str) {
    let Some((cpu, books)) = books() else { return };
    if let Some(since) = books.pin() {
        stop();
        panic!("{what} may sleep, but CPU {cpu} has the epoch pinned since {since}");
    }
    if let Some((rank, since)) = books.innermost() {
        stop();
        panic!("{what} may sleep, but CPU {cpu} holds the spin lock {rank:?} since {since}");
    }
}

/// Notes that this CPU begins a section of the epoch.
#[inline(always)]
#[track_caller]
pub fn pinned() {
    let Some((_, books)) = books() else { return };
    if books.pins.fetch_add(1, Relaxed) == 0 {
        set_location(&books.pinned_at, Location::caller());
    }
}

/// Notes that it ends the section.
#[inline(always)]
#[track_caller]
pub fn unpinned() {
    let Some((cpu, books)) = books() else { return };
    if books.pins.load(Relaxed) == 0 {
        stop();
        panic!("CPU {cpu} ends a section of the epoch that it never began");
    }
    books.pins.fetch_sub(1, Relaxed);
}

/// One spin lock in the books; they forget it on drop.
pub(crate) struct Held(Option<(&'static Books, Rank, usize)>);

impl Held {
    #[inline(always)]
    #[track_caller]
    pub(crate) fn new(rank: Rank, address: usize) -> Held {
        let Some((cpu, books)) = books() else { return Held(None) };
        if let Some(since) = books.pin() {
            stop();
            panic!("the spin lock {rank:?} is taken while CPU {cpu} has the epoch pinned since {since}");
        }
        if let Some((outer, since)) = books.innermost()
            && outer > rank
        {
            stop();
            panic!("the spin lock {rank:?} is taken under {outer:?}, which CPU {cpu} holds since {since}");
        }
        let held = books.locks[rank as usize].fetch_add(1, Relaxed) > 0;
        if books.last[rank as usize].swap(address, Relaxed) == address && held {
            let since = location(&books.locked_at[rank as usize]);
            stop();
            panic!("the spin lock {rank:?} is taken twice: CPU {cpu} holds it since {since:?}");
        }
        set_location(&books.locked_at[rank as usize], Location::caller());
        Held(Some((books, rank, address)))
    }
}

impl Drop for Held {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((books, rank, address)) = self.0 {
            books.locks[rank as usize].fetch_sub(1, Relaxed);
            let _another_is_last = books.last[rank as usize].compare_exchange(address, 0, Relaxed, Relaxed);
        }
    }
}

#[cfg(all(test, feature = "checks"))]
mod tests;
