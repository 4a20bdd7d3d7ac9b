//! Whether a device is alive, and the wait that makes it certain that nobody still believes so.
//!
//! Every use of a device's memory that must not outlive the device (the writing of a page-table entry
//! above all) is a *section*: it runs with this CPU's epoch participant pinned, checks the state inside,
//! and neither allocates, waits, locks, prints nor touches user memory. The protocol of a kill:
//!
//! 1. The alive bit is cleared. A section that begins from here on sees that and does nothing.
//! 2. A grace period is waited out, with no lock held and no pin of our own: every section that began
//!    before step 1, and so may have seen the device alive, has ended. (A section publishes its pin, then
//!    a full fence, then reads the state; the killer clears the state, then a full fence, then reads the
//!    pins. One of the two sees the other. The fences are crossbeam's: in `pin`, and before `flush` reads
//!    the epoch that the closure waits for.)
//! 3. The caller unmaps the device everywhere, waits for the shootdowns, and gives the range back. Nothing
//!    can write a new entry meanwhile: that takes a section that saw the device alive.
//!
//! The grace period is crossbeam-epoch's: a deferred closure runs once every participant that was pinned
//! when it was deferred has unpinned. Closures run on whichever CPU happens to collect: one that waits here,
//! or one whose `pin` is its 128th. Ours is one atomic maximum and frees nothing, but with it goes the node of
//! crossbeam's queue that it came in (2 KiB): a CPU that collects keeps up to 64 of them before it passes them
//! on to be freed. All that happens inside `pin`, before a section reads the state; see [`settle`].
//! Crossbeam aborts where the heap has no room for a node. So a kill asks for the room of its nodes first, and is
//! refused, with the device alive as before, when there is none. That narrows the danger and does not end it: others
//! may take the room just before crossbeam does, and a pin that collects may need a node, too. Whoever supplies the
//! heap keeps frames back from programs for that.
//!
//! `tests/loom` checks the protocol, with this file, under every interleaving; and that each step is needed.
//!
//! `enable` begins a new *generation*. Descriptors and vmas remember theirs, and a section checks "alive
//! in my generation": what was mapped before a kill stays dead for ever (house rule: ENXIO, SIGBUS).

use alloc::vec::Vec;
// From the crate: the loom models of this file, in tests/loom, bring their own.
use crate::atomic::{AtomicU64, Ordering};
use crossbeam_epoch::Guard;

pub use crossbeam_epoch::{Collector, LocalHandle};

/// What the kernel supplies: one epoch participant per CPU.
///
/// The kernel owns one [`Collector`] and keeps a [`LocalHandle`] of it in each CPU's own data.
pub trait Epoch: Send + Sync {
    /// Begins a section: pins this CPU's participant until the guard is dropped, which ends it.
    ///
    /// Interrupts are off from before the pin to behind the unpin (the caller sees to it: a fault has them off
    /// anyway), for `pin` is not re-entrant, and a section that was preempted would hold up every kill. May be
    /// nested. Not for NMI or machine-check handlers.
    #[must_use]
    fn pin(&self) -> Guard;

    /// Is this CPU inside a section? A waiter that is would wait for itself.
    fn is_pinned(&self) -> bool;

    /// Passes time between two turns of a grace period, outside any section, with interrupts on: yields
    /// to other tasks, or just calls `spin_loop`.
    fn relax(&self);

    /// The counters that grace periods of this collector share.
    fn grace_periods(&self) -> &'static GracePeriods;
}

/// Counts grace periods, so that the closure that ends one owns nothing that it would have to free.
///
/// A period is numbered when it is asked for. When number `n` has ended, so has every lower one: it was
/// asked for earlier, so all that it waits for, `n` waited for as well.
#[derive(Debug, Default)]
pub struct GracePeriods {
    requested: AtomicU64,
    ended: AtomicU64,
}

impl GracePeriods {
    /// No period asked for yet.
    pub const fn new() -> GracePeriods {
        GracePeriods { requested: AtomicU64::new(0), ended: AtomicU64::new(0) }
    }

    /// How many grace periods were asked for so far.
    pub fn requested(&self) -> u64 {
        self.requested.load(Ordering::Relaxed)
    }
}

/// The most turns of a grace period that found no section, and no other grace period, in its way.
pub const QUIET_TURNS: u32 = 3;

/// Waits until every section that is running now has ended, and returns how many turns that took.
///
/// A turn moves the epoch by at most one step: without sections in the way [`QUIET_TURNS`] are enough, and
/// each section in the way costs turns only while it runs. Fails with [`LifetimeError::PinHeld`] when this CPU is in
/// a section itself, and with [`LifetimeError::NoMemory`].
pub fn synchronize(epoch: &dyn Epoch) -> Result<u32, LifetimeError> {
    if epoch.is_pinned() {
        return Err(LifetimeError::PinHeld);
    }
    room().map(|room| wait(epoch, room)).ok_or(LifetimeError::NoMemory)
}

/// Bytes of a node of crossbeam's queue (crossbeam-epoch 0.9: a bag of 64 closures).
const NODE_BYTES: usize = 2072;

/// The nodes that a quiet grace period may add to crossbeam's queue: one a turn, and in the first turn another when
/// this CPU's bag was full.
pub const QUIET_NODES: usize = QUIET_TURNS as usize + 1;

/// Room on the heap for them.
type Room = core::array::IntoIter<Vec<u8>, QUIET_NODES>;

fn room() -> Option<Room> {
    let mut nodes = [const { Vec::new() }; QUIET_NODES];
    nodes.iter_mut().try_for_each(|node| node.try_reserve_exact(NODE_BYTES)).ok()?;
    // Kept from the optimiser, which may leave out an allocation that nobody uses.
    Some(core::hint::black_box(nodes).into_iter())
}

/// [`synchronize`] for a caller that has made sure that this CPU is in no section. Gives each turn its part of `room`
/// just before the turn.
fn wait(epoch: &dyn Epoch, mut room: Room) -> u32 {
    let periods = epoch.grace_periods();
    let number = periods.requested.fetch_add(1, Ordering::SeqCst) + 1;
    // Deferred and flushed in one section: the bag belongs to this CPU, and we may go on on another.
    let guard = epoch.pin();
    drop((room.next(), room.next()));
    guard.defer(move || periods.ended.fetch_max(number, Ordering::Release));
    guard.flush();
    drop(guard);
    let mut turns = 1;
    while periods.ended.load(Ordering::Acquire) < number {
        epoch.relax();
        drop(room.next());
        epoch.pin().flush();
        turns += 1;
    }
    turns
}

/// Frees what past grace periods left in crossbeam's queue and with this CPU, but for one node each.
///
/// For whoever counts memory: when every CPU has called this, one after the other and with no section or kill
/// meanwhile, the same number of nodes is left as after the last such round. Fails as [`synchronize`] does.
pub fn settle(epoch: &dyn Epoch) -> Result<(), LifetimeError> {
    // Pins collect without passing on, and with the third collection all that was queued before has come out. A flush
    // passes on what came out before, in a new node.
    let drain = || (0..3 * PINS_PER_COLLECTION).for_each(|_| drop(epoch.pin()));
    drain();
    synchronize(epoch)?;
    drain();
    Ok(())
}

/// How often a participant pins before its `pin` collects (crossbeam-epoch 0.9, `PINNINGS_BETWEEN_COLLECT`).
const PINS_PER_COLLECTION: u32 = 128;

/// Names one life of a device: from an `enable` to the next kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation(u64);

impl Generation {
    /// A number that no other generation of this device has.
    pub fn number(self) -> u64 {
        self.0
    }
}

const ALIVE: u64 = 1;
const RETIRED: u64 = 2;
/// Not alive any more, but a killer still waits for sections that saw it alive.
const DYING: u64 = 4;
const STATE: u64 = ALIVE | RETIRED | DYING;
/// Some of the memory is bad.
const SPOILED: u64 = 8;
const ONE_GENERATION: u64 = 16;

/// Alive, dying, dead or retired, and in which generation. Born dead.
#[derive(Debug, Default)]
pub struct Lifetime {
    /// Generation times 16, plus at most one of `ALIVE`, `DYING` and `RETIRED`, plus `SPOILED`. A [`Generation`] is
    /// the whole word of a live state without bad memory, so that a section checks both with one comparison.
    state: AtomicU64,
}

impl Lifetime {
    /// Dead, before the first generation.
    pub const fn new() -> Lifetime {
        Lifetime { state: AtomicU64::new(0) }
    }

    /// The generation, when alive.
    pub fn generation(&self) -> Option<Generation> {
        let state = self.state.load(Ordering::Acquire);
        (state & ALIVE != 0).then_some(Generation(state & !SPOILED))
    }

    /// Is this generation alive? Certain only inside a section; elsewhere it may end at any moment.
    pub fn alive(&self, generation: Generation) -> bool {
        self.state.load(Ordering::Acquire) & !SPOILED == generation.0
    }

    /// Is this generation alive, and all of its memory good? As certain as [`Lifetime::alive`].
    pub fn sound(&self, generation: Generation) -> bool {
        self.state.load(Ordering::Acquire) == generation.0
    }

    /// Some of the memory is bad, in this generation and all later ones.
    pub fn spoil(&self) {
        self.state.fetch_or(SPOILED, Ordering::SeqCst);
    }

    /// Fails unless dead, like the changes below.
    pub fn check_dead(&self) -> Result<(), LifetimeError> {
        self.update(|state| (state & STATE == 0).then_some(state)).map(|_| ())
    }

    /// Begins a new generation. Fails unless dead.
    pub fn enable(&self) -> Result<Generation, LifetimeError> {
        let before = self.update(|state| (state & STATE == 0).then_some(state + ONE_GENERATION + ALIVE))?;
        Ok(Generation((before & !SPOILED) + ONE_GENERATION + ALIVE))
    }

    /// Ends the generation: when this returns, no section that saw it alive runs any more, and none
    /// will. Returns the turns that the grace period took (see [`synchronize`]).
    ///
    /// Waits: the caller holds no lock. Fails, and changes nothing, when this CPU is in a section, when the
    /// device is not alive (somebody else's kill may then still be waiting), or with `NoMemory`.
    pub fn kill(&self, epoch: &dyn Epoch) -> Result<u32, LifetimeError> {
        if epoch.is_pinned() {
            return Err(LifetimeError::PinHeld);
        }
        let Some(room) = room() else {
            // What is not alive is told so, whatever the memory.
            return self.check_alive().and(Err(LifetimeError::NoMemory));
        };
        // Dying until the wait is over: a device that somebody destroyed meanwhile, and whose range somebody else
        // got, would still be written by the sections that we wait for.
        self.update(|state| (state & ALIVE != 0).then(|| state - ALIVE + DYING))?;
        let turns = wait(epoch, room);
        self.state.fetch_and(!DYING, Ordering::SeqCst);
        Ok(turns)
    }

    /// Fails unless alive.
    pub fn check_alive(&self) -> Result<(), LifetimeError> {
        self.update(|state| (state & ALIVE != 0).then_some(state)).map(|_| ())
    }

    /// Fails with `NoMemory` if a kill would.
    pub fn check_room(&self) -> Result<(), LifetimeError> {
        match self.generation() {
            Some(_) if room().is_none() => Err(LifetimeError::NoMemory),
            _ => Ok(()),
        }
    }

    /// Ends a dead device for good: no `enable` will revive it. Fails unless dead.
    pub fn retire(&self) -> Result<(), LifetimeError> {
        self.update(|state| (state & STATE == 0).then_some(state | RETIRED)).map(|_| ())
    }

    /// Moves the state where `change` says, or names the state that it refused. Returns the old state.
    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, LifetimeError> {
        self.state.fetch_update(Ordering::SeqCst, Ordering::Acquire, change).map_err(|state| {
            match state & STATE {
                ALIVE => LifetimeError::Alive,
                DYING => LifetimeError::Dying,
                0 => LifetimeError::Dead,
                _ => LifetimeError::Retired,
            }
        })
    }
}

/// Why a change of a device's state was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LifetimeError {
    /// A wait was asked for inside a section of this CPU: it would wait for itself.
    #[error("cannot be waited for inside a pinned section: unpin first")]
    PinHeld,
    /// It is alive.
    #[error("is enabled: disable it first")]
    Alive,
    /// It is being disabled: a kill has not ended yet.
    #[error("is being disabled: wait for that to end")]
    Dying,
    /// It is disabled.
    #[error("is disabled")]
    Dead,
    /// It was destroyed and never comes back.
    #[error("was destroyed")]
    Retired,
    /// There is no room on the heap for what a wait leaves there.
    #[error("cannot be waited for without memory: free some first")]
    NoMemory,
}

#[cfg(test)]
mod tests;
