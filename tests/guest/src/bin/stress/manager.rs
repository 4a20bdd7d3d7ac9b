//! The manager: disables, resizes, destroys and recreates the devices, one after another, under the workers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use guest::kernel_view;
use guest::random::Random;
use guest::sys;
use guest::sysfs::{self, Region};

use crate::board::{Board, Count, Phase, State};
use crate::{Options, Scrub};

/// For so long a kill waits for somebody to touch the device first: it is to find live entries.
const PATIENCE: Duration = Duration::from_millis(100);
/// Kills between two looks at the kernel's counters.
const LOOK_EVERY: u64 = 32;

/// The devices, and what they may have.
pub struct Manager<'a> {
    board: Board,
    options: &'a Options,
    region: Region,
    random: Random,
    generation: u64,
    /// Units that each device may have at most: all can have that many at the same time.
    share: usize,
    before: BTreeMap<String, u64>,
}

/// What the kernel counted since the manager began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kills {
    /// Kills.
    pub all: u64,
    /// Kills that found at least one live entry.
    pub live: u64,
    /// Kills whose grace period had to wait for an install in flight.
    pub waited: u64,
}

impl<'a> Manager<'a> {
    /// Divides the region among the devices and announces them.
    pub fn new(board: Board, options: &'a Options) -> Result<Manager<'a>, String> {
        let region = Region(options.region);
        let scrub = region.attribute("scrub");
        let is_required = if options.scrub == Scrub::Required { "1" } else { "0" };
        sysfs::write(&scrub, is_required)
            .map_err(|errno| format!("write of {is_required} to {scrub}: {errno}"))?;
        // The device that the kernel made of the whole region keeps its id; the others get the next ones.
        let first = sysfs::Name { region: options.region, id: 0 };
        first.unbind().map_err(|errno| format!("unbind of {first}: {errno}"))?;
        first.set("size", "0")?;
        let units = region.available()? / options.align.bytes() as u64;
        let share = (units as usize / options.devices).min(options.units);
        if share == 0 {
            return Err(format!("{units} units of {} for {} devices", options.align, options.devices));
        }
        let before = kernel_view::lifetime()?;
        let random = Random::new(options.seed);
        let mut manager = Manager { board, options, region, random, generation: 0, share, before };
        first.set("align", &options.align.bytes().to_string())?;
        manager.give_size(first)?;
        first.bind().map_err(|errno| format!("bind of {first}: {errno}"))?;
        manager.revive(0, first.id, Birth::New);
        for slot in 1..options.devices {
            let id = manager.create()?;
            manager.revive(slot, id, Birth::New);
        }
        Ok(manager)
    }

    /// Kills until every target is met or the time is over.
    pub fn run(&mut self) -> Result<Kills, String> {
        let end = Instant::now() + self.options.time;
        let mut kills = 0_u64;
        while !self.board.is_stopped() {
            let slot = self.choose();
            self.kill(slot).map_err(|what| format!("kill {kills} of seed {}: {what}", self.options.seed))?;
            kills += 1;
            if kills.is_multiple_of(LOOK_EVERY) {
                let counted = self.counted()?;
                let is_done = self.board.count(Count::Faults) >= self.options.faults
                    && counted.live >= self.options.live
                    && counted.waited >= self.options.waited;
                if is_done || Instant::now() >= end {
                    break;
                }
            }
        }
        self.counted()
    }

    /// Removes the devices and gives the first one the whole region, as the kernel had made it: what devices
    /// need is not to be taken for memory that the kernel lost.
    pub fn clean_up(&self) -> Result<(), String> {
        for slot in 1..self.options.devices {
            self.board.name(self.board.state(slot)).destroy()?;
        }
        let first = self.board.name(self.board.state(0));
        first.unbind().map_err(|errno| format!("unbind of {first}: {errno}"))?;
        first.set("size", "0")?;
        first.set("size", &self.region.available()?.to_string())
    }

    fn counted(&self) -> Result<Kills, String> {
        let now = kernel_view::lifetime()?;
        let since = |key: &str| match (now.get(key), self.before.get(key)) {
            (Some(now), Some(before)) => Ok(now - before),
            _ => Err(format!("/proc/daxite/lifetime has no {key}")),
        };
        Ok(Kills {
            all: since("kills")?,
            live: since("kills_with_entries")?,
            waited: since("kills_that_waited")?,
        })
    }

    /// The next device to be killed: one that somebody touches, waited for, and sometimes just any.
    fn choose(&mut self) -> usize {
        let (devices, start) = (self.options.devices, Instant::now());
        let first = self.random.below(devices);
        let is_touched = |slot: &usize| self.board.touched(*slot) >= self.board.state(*slot).generation;
        if self.random.one_in(16) {
            return first;
        }
        while start.elapsed() < PATIENCE && !self.board.is_stopped() {
            if let Some(slot) = (0..devices).map(|step| (first + step) % devices).find(is_touched) {
                return slot;
            }
            let _ = sys::numbers(libc::SYS_sched_yield, &[]);
        }
        first
    }

    /// Kills the device in this slot, changes it or not, and revives it or its successor.
    fn kill(&mut self, slot: usize) -> Result<(), String> {
        let state = self.board.state(slot);
        let name = self.board.name(state);
        let announce = |phase| self.board.announce(slot, State { phase, ..state });
        announce(Phase::Dying);
        let action = self.random.below(4);
        if action == 0 {
            // One write that kills, resizes and revives.
            name.set("size", &format!("{} revoke", self.random_size()))?;
            self.revive(slot, name.id, Birth::Same);
            return Ok(());
        }
        name.unbind().map_err(|errno| format!("unbind of {name}: {errno}"))?;
        announce(Phase::Dead);
        let (mut id, mut birth) = (name.id, Birth::Same);
        match action {
            1 => {}
            2 => self.give_size(name)?,
            _ => {
                birth = Birth::New;
                name.set("size", "0")?;
                if id == 0 {
                    self.give_size(name)?;
                } else {
                    self.region.delete(name).map_err(|errno| format!("delete of {name}: {errno}"))?;
                    id = self.create()?;
                    self.revive(slot, id, birth);
                    return Ok(());
                }
            }
        }
        name.bind().map_err(|errno| format!("bind of {name}: {errno}"))?;
        self.revive(slot, id, birth);
        Ok(())
    }

    fn create(&mut self) -> Result<u32, String> {
        Ok(self.region.create_bound(self.random_size(), self.options.align.bytes())?.id)
    }

    fn give_size(&mut self, name: sysfs::Name) -> Result<(), String> {
        name.set("size", &self.random_size().to_string())
    }

    fn random_size(&mut self) -> u64 {
        ((1 + self.random.below(self.share)) * self.options.align.bytes()) as u64
    }

    /// Announces the next generation, which is bound already: until now nobody knew whose it is.
    fn revive(&mut self, slot: usize, id: u32, birth: Birth) {
        // The slot is the number's remainder: a word tells which device it is of.
        let devices = self.options.devices as u64;
        self.generation = (self.generation / devices + 1) * devices + slot as u64;
        if birth == Birth::New {
            self.board.bear(slot, self.generation);
        }
        self.board.announce(slot, State { generation: self.generation, id, phase: Phase::Alive });
    }
}

/// Whether a device lives again with bytes of its own, or another one is in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Birth {
    Same,
    New,
}
