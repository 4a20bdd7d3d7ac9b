//! The order in which a device goes. It stands here and nowhere else.
//!
//! 1. **Kill**: the generation ends; opens, mmaps and faults are refused from now on.
//! 2. **Grace period**, holding no lock: every install that began before has ended.
//! 3. **Unmap**: until the device's list of mappings is empty, take some spaces off it and clear the device's entries
//!    in one after another, under that space's lock alone. Each flush is acknowledged by all CPUs before the lock
//!    goes. A space that is being freed leaves the list by itself; that is waited for.
//! 4. Now nobody can reach the memory. The device is **disabled**: it keeps name, number and memory, and may be
//!    enabled again, in a new generation.
//! 5. To **destroy** it, the registry gives name and memory back; the object and its number go with its last user.
//!
//! The last removals, and how many there were, can be read in /proc/daxite.

use crate::clock;
use crate::log_limit::Limit;
use crate::machine::machine;
use crate::task;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use dax::lifetime::QUIET_TURNS;
use dax::{DaxError, DevDax, DeviceName};
use mm::lock::{Rank, SpinLock};
use mm::space::Revoked;

/// Removals that are remembered.
const REMEMBERED: usize = 64;

/// Holders that a removal remembers by number.
const HOLDERS: usize = 8;

/// What it took to take a device from its users.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    /// The device.
    pub name: DeviceName,
    /// The generation that ended.
    pub generation: u64,
    /// Turns of the grace period.
    pub turns: u32,
    /// From the kill until nobody could reach the memory.
    pub ns: u64,
    /// Mappings that were revoked.
    pub mappings: u64,
    /// Entries that were cleared, by size in the order of `MapSize::ALL`.
    pub entries: [u64; 3],
    /// Processes that had it mapped, the first few of them.
    holders: [u32; HOLDERS],
}

/// How often what happened, since boot.
#[derive(Debug)]
pub struct Counters {
    /// Generations that ended.
    pub kills: AtomicU64,
    /// Those of them that found an entry to clear.
    pub with_entries: AtomicU64,
    /// Those that waited for an install that was under way.
    pub waited: AtomicU64,
}

/// The counters of this boot.
pub static COUNTERS: Counters =
    Counters { kills: AtomicU64::new(0), with_entries: AtomicU64::new(0), waited: AtomicU64::new(0) };

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { kills, with_entries, waited } = self;
        writeln!(f, "kills {}", kills.load(Relaxed))?;
        writeln!(f, "kills_with_entries {}", with_entries.load(Relaxed))?;
        writeln!(f, "kills_that_waited {}", waited.load(Relaxed))
    }
}

struct History {
    removals: [Option<Removal>; REMEMBERED],
    /// Where the next one goes: the oldest.
    next: usize,
}

static HISTORY: SpinLock<History> =
    SpinLock::new(Rank::Log, History { removals: [None; REMEMBERED], next: 0 });

/// Takes a device from its users: steps 1 to 4. Fails, and changes nothing, when it is not enabled.
///
/// Sleeps; the caller holds no lock.
pub fn disable(device: &DevDax) -> Result<Removal, DaxError> {
    let begun_ns = clock::monotonic_ns();
    let generation = device.service().generation().map_or(0, |generation| generation.number());
    let turns = device.kill()?;
    let mut removal = Removal {
        name: device.name(),
        generation,
        turns,
        ns: 0,
        mappings: 0,
        entries: [0; 3],
        holders: [0; HOLDERS],
    };
    loop {
        let taken = device.take_mappings();
        let mut found = 0;
        for space in taken.iter() {
            removal.add(space.owner(), space.revoke(device.key(), &(0..u64::MAX)));
            found += 1;
        }
        drop(taken);
        if found == 0 {
            // Alive again: somebody else enabled it, which takes an empty list.
            if device.mapping_count() == 0 || device.is_alive() {
                break;
            }
            // Those left are in spaces that are being freed.
            task::yield_now();
        }
        // Whoever frees or unmaps waits for this CPU to flush its TLB.
        task::preempt_point();
    }
    removal.ns = clock::monotonic_ns() - begun_ns;
    prove(device);
    removal.note();
    Ok(removal)
}

/// Removes a device for good: all steps. Sleeps; the caller holds no lock.
pub fn destroy(device: &Arc<DevDax>) -> Result<(), DaxError> {
    if device.is_alive() {
        disable(device)?;
    }
    machine().registry.destroy_device(device)
}

/// Looks through every page table of the machine for an entry that is left.
#[cfg(feature = "checks")]
fn prove(device: &DevDax) {
    // Until this drops nobody enables the device again; if somebody has, its entries are meant to be there.
    let Ok(_kept) = device.begin_scrub() else { return };
    for range in device.ranges() {
        if let Some(entry) = machine().memory.frames.find_live_entry(range.phys) {
            panic!("{} was removed, but {entry:?} still maps {}", device.name(), range.phys);
        }
    }
}

#[cfg(not(feature = "checks"))]
fn prove(_: &DevDax) {}

/// The removals that are remembered, the oldest first.
pub fn history() -> impl Iterator<Item = Removal> {
    let start = HISTORY.lock().next;
    (start..start + REMEMBERED).filter_map(|at| HISTORY.lock().removals[at % REMEMBERED])
}

impl Removal {
    fn add(&mut self, owner: u32, revoked: Revoked) {
        self.mappings += revoked.mappings;
        for (sum, count) in self.entries.iter_mut().zip(revoked.entries) {
            *sum += count;
        }
        if !self.holders.contains(&owner)
            && let Some(free) = self.holders.iter_mut().find(|holder| **holder == 0)
        {
            *free = owner;
        }
    }

    /// Counts it, remembers it, and says so in the log.
    fn note(&self) {
        static LIMIT: Limit = Limit::new();
        COUNTERS.kills.fetch_add(1, Relaxed);
        COUNTERS.with_entries.fetch_add(u64::from(self.entries != [0; 3]), Relaxed);
        COUNTERS.waited.fetch_add(u64::from(self.turns > QUIET_TURNS), Relaxed);
        let mut history = HISTORY.lock();
        let next = history.next;
        history.removals[next] = Some(*self);
        history.next = (next + 1) % REMEMBERED;
        drop(history);
        if LIMIT.admits("removal") {
            log::info!("removal: {self}");
        }
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Removal { name, generation, turns, ns, mappings, entries: [small, middle, large], .. } = self;
        write!(f, "{name} generation {generation} turns {turns} ns {ns} mappings {mappings} ")?;
        write!(f, "entries_4k {small} entries_2m {middle} entries_1g {large} holders")?;
        self.holders.iter().filter(|&&pid| pid != 0).try_for_each(|pid| write!(f, " {pid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_names_each_holder_once_and_adds_up_entries() {
        let name = DeviceName { region: 0, id: 3 };
        let (mappings, entries, holders) = (0, [0; 3], [0; HOLDERS]);
        let mut removal = Removal { name, generation: 2, turns: 3, ns: 1500, mappings, entries, holders };
        removal.add(7, Revoked { mappings: 1, entries: [0, 512, 0] });
        removal.add(9, Revoked { mappings: 2, entries: [0, 8, 1] });
        removal.add(7, Revoked::default());
        assert_eq!(
            alloc::format!("{removal}"),
            "dax0.3 generation 2 turns 3 ns 1500 mappings 3 entries_4k 0 entries_2m 520 entries_1g 1 holders 7 9"
        );
        (10..40).for_each(|pid| removal.add(pid, Revoked::default()));
        assert!(alloc::format!("{removal}").ends_with("holders 7 9 10 11 12 13 14 15"));
    }
}
