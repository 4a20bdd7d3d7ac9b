//! TLB flushes on every CPU that may hold translations of an address space.
//!
//! 1. Each CPU publishes which root table it has loaded ([`Tlb::load`]); while it changes, it counts as having
//!    every one. Idle CPUs have the kernel's own.
//! 2. The requester, which holds the space's lock, has changed the entries. It flushes its own TLB and writes root
//!    and range into its block; then each CPU with that root gets the requester's bit in `inbox`, and an interrupt.
//! 3. The interrupt handler takes no lock: it swaps the inbox for 0, flushes, and clears its own bit in the
//!    requester's `waiting`.
//! 4. The requester waits until `waiting` is 0, answering its own inbox: two may wait for each other.
//!
//! A CPU that switches to the root meanwhile either is seen by step 2, or loads CR3 after the entries were changed:
//! both sides have a full fence between their write and their read.
//!
//! The kernel runs with interrupts off, and a CPU that waits for a spin lock does not answer: no spin lock is ever
//! held across a flush.

use crate::arch::interrupts;
use crate::arch::paging;
use crate::arch::percpu::{self, Cpu};
use crate::clock;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use mm::range::{PAGE_SIZE, VirtRange};
use mm::shootdown::Shootdown;
use x86_64::instructions::tlb;
use x86_64::{PhysAddr, VirtAddr};

/// Above this many pages a reload of CR3 is cheaper than one invlpg each (Linux: tlb_single_page_flush_ceiling).
const SINGLE_PAGES: u64 = 33;

/// A CPU that does not answer for so long never will; to go on without its answer would be wrong.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Stands for the root while it changes.
const ANY_ROOT: u64 = u64::MAX;

/// One CPU's part, in its block.
pub struct Tlb {
    /// The root table in CR3, or `ANY_ROOT`.
    root: AtomicU64,
    /// The same, for this CPU alone.
    loaded: Cell<u64>,
    /// CPUs that ask this one to flush.
    inbox: AtomicU64,
    /// CPUs that this one waits for.
    waiting: AtomicU64,
    /// What it asks them to flush: the root, the range's start and its length.
    asked: [AtomicU64; 3],
}

impl Tlb {
    /// For a CPU that has loaded the kernel's own tables.
    pub const fn of_kernel() -> Tlb {
        let [root, inbox, waiting] = [const { AtomicU64::new(0) }; 3];
        Tlb { root, loaded: Cell::new(0), inbox, waiting, asked: [const { AtomicU64::new(0) }; 3] }
    }

    /// Loads a root table on this CPU; 0 stands for the kernel's own.
    ///
    /// # Safety
    /// `root` is 0 or the root of a space that lives until another root is loaded.
    #[inline]
    pub unsafe fn load(&self, root: u64) {
        if self.loaded.replace(root) == root {
            return;
        }
        // A full fence: see the module's head.
        self.root.swap(ANY_ROOT, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { paging::load_root(root) };
        self.root.store(root, Ordering::Release);
    }

    fn flush_if_loaded(&self, [root, start, bytes]: [u64; 3]) {
        if self.loaded.get() != root {
            // A space that is not loaded has nothing in this TLB: loading one flushes (there are no PCIDs).
            return;
        }
        let pages = bytes.div_ceil(PAGE_SIZE);
        if pages > SINGLE_PAGES {
            return tlb::flush_all();
        }
        for page in 0..pages {
            tlb::flush(VirtAddr::new_truncate(start + page * PAGE_SIZE));
        }
    }
}

/// Does what other CPUs ask this one for. Takes no lock.
pub fn answer() {
    let this = Cpu::this();
    let asking = this.tlb.inbox.swap(0, Ordering::SeqCst);
    for cpu in percpu::each(asking) {
        this.tlb.flush_if_loaded(cpu.tlb.asked.each_ref().map(|word| word.load(Ordering::Relaxed)));
        cpu.tlb.waiting.fetch_and(!this.bit(), Ordering::Release);
    }
}

/// The TLBs of all CPUs.
pub struct AllCpus;

impl Shootdown for AllCpus {
    fn flush(&self, root: PhysAddr, range: VirtRange) {
        mm::checks::might_sleep("a TLB flush");
        let this = Cpu::this();
        let root = root.as_u64();
        let request = [root, range.start().as_u64(), range.len_bytes()];
        this.tlb.flush_if_loaded(request);
        let others = percpu::online() & !this.bit();
        if others == 0 {
            return;
        }
        // Between the changed entries and the roots: see the module's head.
        fence(Ordering::SeqCst);
        let may_hold = |cpu: &&Cpu| [root, ANY_ROOT].contains(&cpu.tlb.root.load(Ordering::Relaxed));
        let targets = percpu::each(others).filter(may_hold).fold(0, |mask, cpu| mask | cpu.bit());
        if targets != 0 {
            ask(this, targets, request);
        }
    }
}

#[cold]
fn ask(this: &Cpu, targets: u64, request: [u64; 3]) {
    let tlb = &this.tlb;
    for (word, value) in tlb.asked.iter().zip(request) {
        word.store(value, Ordering::Relaxed);
    }
    tlb.waiting.store(targets, Ordering::Relaxed);
    for cpu in percpu::each(targets) {
        // Releases the request to whoever swaps the inbox.
        cpu.tlb.inbox.fetch_or(this.bit(), Ordering::SeqCst);
        interrupts::send(cpu, interrupts::SHOOTDOWN);
    }
    let deadline = clock::monotonic_ns() + PATIENCE_NS;
    let mut turns = 0u32;
    while tlb.waiting.load(Ordering::Acquire) != 0 {
        answer();
        core::hint::spin_loop();
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(1024) && clock::monotonic_ns() > deadline {
            let silent = tlb.waiting.load(Ordering::Relaxed);
            panic!("cpu {}: CPUs {silent:#x} do not answer a TLB flush", this.number());
        }
    }
}
