//! A machine with one device: its range has an owner, programs map it, and somebody removes it.
//!
//! A store of a program goes the way of the hardware: by the translation that its CPU holds, else by the entry in
//! the page table, else by a fault. Each store asserts that the range still belongs to the device in the generation
//! that the program opened: [`FOREIGN`] is what a broken protocol comes to. An interrupt is taken between two
//! stores; a CPU that has left the program has answered all that is asked of it.

use crate::Bug;
use crate::lifetime::{
    Collector, Epoch, Generation, GracePeriods, Lifetime, LifetimeError, LocalHandle, synchronize,
};
use crossbeam_epoch::Guard;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::cell::Cell;
use std::sync;

/// A program stored to a range that is not its device's any more.
pub const FOREIGN: &str = "a store reached a range that belongs to somebody else";
/// A removal ended, and an entry still maps the device.
pub const ENTRY_LEFT: &str = "an entry maps a device that was removed";
/// A removal ended, and the list of mappings is not empty.
pub const MAPPING_LEFT: &str = "a mapping is in the list of a device that was removed";

/// A fault, an mmap or an open of a dead device: SIGBUS or ENXIO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dead;

/// The device, its range and what programs have mapped of it.
pub struct Machine {
    bug: Option<Bug>,
    lifetime: Lifetime,
    /// Whose the range is: counts owners and generations.
    owner: AtomicU64,
    /// The mappings that a removal has to unmap.
    list: Mutex<Vec<Arc<Mapping>>>,
    /// Every mapping that was ever prepared, for [`check`](Machine::check); no part of the protocol.
    mappings: sync::Mutex<Vec<Arc<Mapping>>>,
    /// Are there frames for page tables?
    memory: AtomicBool,
}

/// A mapping of the device in a program that runs on one CPU.
struct Mapping {
    /// The page-table entry: present or not.
    entry: AtomicBool,
    /// Is the page table loaded into the CPU? Else it holds no translation and acknowledges nothing.
    loaded: AtomicBool,
    /// A shootdown that waits for its acknowledgement.
    shootdown: AtomicBool,
}

/// The program's side: its CPU and its descriptor.
pub struct Program {
    machine: Arc<Machine>,
    epoch: CpuEpoch,
    mapping: Arc<Mapping>,
    generation: Generation,
    owner: u64,
    /// The translation in the CPU's TLB.
    tlb: Cell<bool>,
}

/// One CPU's part in the epoch.
pub struct CpuEpoch {
    handle: LocalHandle,
    periods: &'static GracePeriods,
    turns: Cell<u32>,
}

// SAFETY: loom runs all threads of a model in one thread of the host, and each `CpuEpoch` moves into one of them.
unsafe impl Send for CpuEpoch {}
// SAFETY: as above.
unsafe impl Sync for CpuEpoch {}

impl CpuEpoch {
    /// `N` CPUs that share an epoch. Each has pinned once: a participant's first pin collects, as every 128th does.
    pub fn cpus<const N: usize>() -> [CpuEpoch; N] {
        let collector = Collector::new();
        // One a model: what it counts must outlive the last closure of the collector.
        let periods = Box::leak(Box::new(GracePeriods::default()));
        std::array::from_fn(|_| {
            let handle = collector.register();
            drop(handle.pin());
            CpuEpoch { handle, periods, turns: Cell::new(0) }
        })
    }
}

impl Epoch for CpuEpoch {
    fn pin(&self) -> Guard {
        self.handle.pin()
    }

    fn is_pinned(&self) -> bool {
        self.handle.is_pinned()
    }

    fn relax(&self) {
        // Not every time: a thread that goes on where another yields was not preempted, and to hold one still for the
        // whole of a grace period would take a preemption a turn.
        self.turns.set(self.turns.get() + 1);
        if self.turns.get().is_multiple_of(3) {
            thread::yield_now();
        }
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        self.periods
    }
}

impl Machine {
    /// A device that is alive in its first generation, with nothing mapped.
    pub fn new(bug: Option<Bug>) -> Arc<Machine> {
        let machine = Machine {
            bug,
            lifetime: Lifetime::default(),
            owner: AtomicU64::new(1),
            list: Mutex::new(Vec::new()),
            mappings: sync::Mutex::new(Vec::new()),
            memory: AtomicBool::new(true),
        };
        machine.lifetime.enable().expect("born dead");
        Arc::new(machine)
    }

    /// The state of the device.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// Takes all frames: faults wait until [`free_memory`](Machine::free_memory).
    pub fn use_up_memory(&self) {
        self.memory.store(false, Ordering::Release);
    }

    /// Gives frames back: faults that wait go on.
    pub fn free_memory(&self) {
        self.memory.store(true, Ordering::Release);
    }

    /// Disables the device: kill, unmap everywhere, shootdowns acknowledged.
    pub fn disable(&self, epoch: &CpuEpoch) -> Result<(), LifetimeError> {
        if self.bug == Some(Bug::UnmapBeforeGrace) {
            // A collector that nobody pins: the device is dead at once, without a wait.
            let [nobody] = CpuEpoch::cpus();
            self.lifetime.kill(&nobody)?;
            self.unmap();
            synchronize(epoch)?;
        } else {
            self.lifetime.kill(epoch)?;
            self.unmap();
        }
        self.check();
        Ok(())
    }

    /// Disables and destroys the device, and hands its range to another owner.
    pub fn remove(&self, epoch: &CpuEpoch) -> Result<(), LifetimeError> {
        self.disable(epoch)?;
        self.lifetime.retire()?;
        self.owner.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Disables the device and enables it again: what was mapped before has no right to it any more.
    pub fn renew(&self, epoch: &CpuEpoch) -> Result<(), LifetimeError> {
        self.disable(epoch)?;
        self.owner.fetch_add(1, Ordering::Relaxed);
        self.lifetime.enable().map(|_| ())
    }

    /// Asserts that nothing maps the device: when a removal has ended, and for ever after.
    pub fn check(&self) {
        assert!(self.list.lock().expect("no model poisons it").is_empty(), "{MAPPING_LEFT}");
        for mapping in &*self.mappings.lock().expect("no model poisons it") {
            assert!(!mapping.entry.load(Ordering::Relaxed), "{ENTRY_LEFT}");
        }
    }

    fn unmap(&self) {
        loop {
            // Out of the list first: no space is waited for under its lock.
            let mappings = std::mem::take(&mut *self.list.lock().expect("no model poisons it"));
            if mappings.is_empty() {
                return;
            }
            for mapping in mappings {
                mapping.entry.store(false, Ordering::Relaxed);
                mapping.shootdown.store(true, Ordering::Release);
                while self.bug != Some(Bug::BackBeforeAcknowledged)
                    && mapping.shootdown.load(Ordering::Acquire)
                    && mapping.loaded.load(Ordering::Acquire)
                {
                    thread::yield_now();
                }
            }
        }
    }
}

impl Program {
    /// Opens the device and loads the program's page table into its CPU.
    pub fn open(machine: &Arc<Machine>, epoch: CpuEpoch) -> Result<Program, Dead> {
        let generation = machine.lifetime.generation().ok_or(Dead)?;
        let mapping = Arc::new(Mapping {
            entry: AtomicBool::new(false),
            loaded: AtomicBool::new(true),
            shootdown: AtomicBool::new(false),
        });
        machine.mappings.lock().expect("no model poisons it").push(mapping.clone());
        let owner = machine.owner.load(Ordering::Relaxed);
        Ok(Program { machine: machine.clone(), epoch, mapping, generation, owner, tlb: Cell::new(false) })
    }

    /// Maps the device: into the list, under its lock, if the device is still alive there.
    pub fn mmap(&self) -> Result<(), Dead> {
        let machine = &*self.machine;
        let early = machine.bug == Some(Bug::AliveBeforeListLock) && machine.lifetime.alive(self.generation);
        if machine.bug == Some(Bug::TouchedBeforeListed) {
            self.store()?;
        }
        let mut list = machine.list.lock().expect("no model poisons it");
        if !early && !machine.lifetime.alive(self.generation) {
            return Err(Dead);
        }
        list.push(self.mapping.clone());
        Ok(())
    }

    /// What an mmap before the model began has left: the mapping in the list.
    pub fn list(&self) {
        self.machine.list.lock().expect("no model poisons it").push(self.mapping.clone());
    }

    /// One store of the program. Fails with SIGBUS.
    pub fn store(&self) -> Result<(), Dead> {
        loop {
            self.interrupt();
            // Loads of the page walk are not ordered by anything.
            if self.tlb.get() || self.mapping.entry.load(Ordering::Relaxed) {
                self.tlb.set(true);
                assert_eq!(self.machine.owner.load(Ordering::Relaxed), self.owner, "{FOREIGN}");
                return Ok(());
            }
            self.fault()?;
        }
    }

    /// Leaves the program: its page table is loaded nowhere. The mapping stays.
    ///
    /// Returns the program, to be dropped when the others have ended: CPUs stay, and a model that lets them go meanwhile
    /// spends its time there.
    pub fn leave(self) -> Program {
        self.interrupt();
        self.mapping.loaded.store(false, Ordering::Release);
        self
    }

    /// A store of the kernel itself, in a section of its own: nothing is mapped, nothing can be unmapped.
    pub fn direct_access(&self) -> Result<(), Dead> {
        let _section = self.epoch.pin();
        if !self.alive() {
            return Err(Dead);
        }
        assert_eq!(self.machine.owner.load(Ordering::Relaxed), self.owner, "{FOREIGN}");
        Ok(())
    }

    /// Answers a shootdown, as its interrupt handler does.
    fn interrupt(&self) {
        if self.mapping.shootdown.load(Ordering::Acquire) {
            self.tlb.set(false);
            self.mapping.shootdown.store(false, Ordering::Release);
        }
    }

    fn fault(&self) -> Result<(), Dead> {
        let machine = &*self.machine;
        let mut waited = false;
        loop {
            let early = machine.bug == Some(Bug::AliveBeforePin) && self.alive();
            let section = self.epoch.pin();
            let unchecked = early || (waited && machine.bug == Some(Bug::StartsOverUnchecked));
            if !unchecked && !self.alive() {
                return Err(Dead);
            }
            if !machine.memory.load(Ordering::Acquire) {
                if machine.bug != Some(Bug::WaitsInSection) {
                    drop(section);
                }
                while !machine.memory.load(Ordering::Acquire) {
                    // Asleep: another program runs on this CPU, or it is idle, and it answers interrupts.
                    self.interrupt();
                    thread::yield_now();
                }
                waited = true;
                continue;
            }
            if machine.bug == Some(Bug::UnpinBeforeInstall) {
                drop(section);
            }
            self.mapping.entry.store(true, Ordering::Relaxed);
            return Ok(());
        }
    }

    fn alive(&self) -> bool {
        match self.machine.bug {
            Some(Bug::GenerationNotChecked) => self.machine.lifetime.generation().is_some(),
            _ => self.machine.lifetime.alive(self.generation),
        }
    }
}
