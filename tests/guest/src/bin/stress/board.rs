//! What the manager and the workers share: the state of each device, counters, and how it all ends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use guest::process;
use guest::sys;
use guest::sysfs::Name;

/// The devices that one run can have.
pub const MAX_DEVICES: usize = 16;

/// Where a device stands between two kills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Bound: it may be opened, and every touch of it works.
    Alive,
    /// The manager is about to kill it or just did: both answers are right.
    Dying,
    /// Killed: no touch of it may work any more.
    Dead,
}

/// A device as the manager announced it. No two generations of a run have the same number, whatever device
/// they are of, and a range goes to generations in rising order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The number of this life; 0 before the first.
    pub generation: u64,
    /// The id in its name.
    pub id: u32,
    /// Where it stands.
    pub phase: Phase,
}

impl State {
    fn word(self) -> u64 {
        self.generation << 32 | u64::from(self.id) << 2 | self.phase as u64
    }

    fn of(word: u64) -> State {
        let phase = [Phase::Alive, Phase::Dying, Phase::Dead][(word & 3) as usize % 3];
        State { generation: word >> 32, id: (word as u32) >> 2, phase }
    }

    /// Whether every touch of a mapping of `generation` must fail now.
    pub fn is_end_of(self, generation: u64) -> bool {
        self.generation > generation || self.generation == generation && self.phase == Phase::Dead
    }
}

/// What is counted over all processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Count {
    /// Faults that installed an entry, as the kernel counted them.
    Faults,
    /// Loads and stores.
    Touches,
    /// Mappings made.
    Mmaps,
    /// Calls of munmap that left a part or nothing, and of MADV_DONTNEED.
    Unmaps,
    /// Children.
    Forks,
    /// Touches that a kill made fail.
    Sigbus,
    /// Opens that found a disabled device, or none.
    OpenRefused,
    /// Calls of mmap on a descriptor whose device was killed.
    MmapRefused,
    /// Cells that showed an earlier owner's pattern.
    OldBytes,
}

/// The counters' names, in their order.
pub const COUNTS: [&str; 9] = [
    "faults",
    "touches",
    "mmaps",
    "unmaps",
    "forks",
    "sigbus",
    "opens refused",
    "mmaps refused",
    "cells with an earlier owner's pattern",
];

const STOP: usize = 0;
const FAILED: usize = 1;
const STATES: usize = 8;
const BORN: usize = STATES + MAX_DEVICES;
const TOUCHED: usize = BORN + MAX_DEVICES;
const COUNTERS: usize = TOUCHED + MAX_DEVICES;

/// The shared memory, by what stands where.
#[derive(Clone, Copy)]
pub struct Board {
    words: &'static [AtomicU64],
    region: u32,
}

impl Board {
    /// A board whose devices are all dead.
    pub fn new(region: u32) -> Result<Board, String> {
        let words = process::shared_words(COUNTERS + COUNTS.len())
            .map_err(|errno| format!("mmap of shared memory: {errno}"))?;
        let board = Board { words, region };
        for slot in 0..MAX_DEVICES {
            board.announce(slot, State { generation: 0, id: 0, phase: Phase::Dead });
        }
        Ok(board)
    }

    /// What was announced last of a device.
    pub fn state(&self, slot: usize) -> State {
        State::of(self.words[STATES + slot].load(SeqCst))
    }

    /// Announces it: before a kill begins, after it is done, after the device lives again.
    pub fn announce(&self, slot: usize, state: State) {
        self.words[STATES + slot].store(state.word(), SeqCst);
    }

    /// The name behind a state.
    pub fn name(&self, state: State) -> Name {
        Name { region: self.region, id: state.id }
    }

    /// The first generation of the device that is in this slot: its bytes are older than that nowhere,
    /// where memory is scrubbed between owners.
    pub fn born(&self, slot: usize) -> u64 {
        self.words[BORN + slot].load(SeqCst)
    }

    /// Notes that another device is in the slot from `generation` on.
    pub fn bear(&self, slot: usize, generation: u64) {
        self.words[BORN + slot].store(generation, SeqCst);
    }

    /// The last generation that a worker has an entry of.
    pub fn touched(&self, slot: usize) -> u64 {
        self.words[TOUCHED + slot].load(Relaxed)
    }

    /// Notes that there is an entry of this generation.
    pub fn touch(&self, slot: usize, generation: u64) {
        self.words[TOUCHED + slot].fetch_max(generation, Relaxed);
    }

    /// Adds to a counter.
    pub fn add(&self, count: Count, number: u64) {
        self.words[COUNTERS + count as usize].fetch_add(number, Relaxed);
    }

    /// A counter.
    pub fn count(&self, count: Count) -> u64 {
        self.words[COUNTERS + count as usize].load(Relaxed)
    }

    /// All counters, in the order of [`COUNTS`].
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.words[COUNTERS..].iter().map(|word| word.load(Relaxed))
    }

    /// Tells everybody to end.
    pub fn stop(&self) {
        self.words[STOP].store(1, SeqCst);
    }

    /// Whether everybody is to end.
    pub fn is_stopped(&self) -> bool {
        self.words[STOP].load(Relaxed) != 0
    }

    /// Whether somebody found what must not be.
    pub fn is_failed(&self) -> bool {
        self.words[FAILED].load(SeqCst) != 0
    }

    /// Says what was found, straight to stderr, and stops everybody.
    pub fn fail(&self, what: &str) {
        self.words[FAILED].store(1, SeqCst);
        self.stop();
        let _ = sys::write(2, format!("stress: {what}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_one_word_and_back() {
        for phase in [Phase::Alive, Phase::Dying, Phase::Dead] {
            let state = State { generation: 1 << 20, id: 1 << 20, phase };
            assert_eq!(State::of(state.word()), state);
        }
    }

    #[test]
    fn a_mapping_ends_when_its_generation_is_dead_or_another_lives() {
        let state = |generation, phase| State { generation, id: 0, phase };
        assert!(!state(4, Phase::Alive).is_end_of(4) && !state(4, Phase::Dying).is_end_of(4));
        assert!(state(4, Phase::Dead).is_end_of(4) && state(5, Phase::Alive).is_end_of(4));
    }
}
