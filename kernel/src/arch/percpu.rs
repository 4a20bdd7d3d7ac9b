//! What each CPU has for itself: the block that gs points to while in the kernel.
//!
//! The kernel is not preemptible, so code that found its block owns it until it parks or yields; only the atomics
//! are for other CPUs.

use super::descriptors::Tables;
use super::stack::EXCEPTION_STACKS;
use crate::epoch::CpuEpoch;
use crate::shootdown::Tlb;
use crate::task::CpuTasks;
use core::cell::{Cell, UnsafeCell};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// CPUs that run tasks at most: one bit each in a `u64`.
pub const MAX_CPUS: usize = 64;

/// One CPU's block. The order of the first five words is fixed: `trap.s` relies on it.
#[repr(C, align(64))]
pub struct Cpu {
    this: Cell<*const Cpu>,
    /// CONTEXT_END, KERNEL_RSP, SCRATCH: `trap.s` alone reads and writes them.
    trap_words: [Cell<u64>; 3],
    /// Address of TSS.rsp0, which `enter_user` sets.
    tss_rsp0: Cell<u64>,
    number: usize,
    apic_id: AtomicU32,
    /// The tops of the stacks of double fault, NMI and machine check.
    exception_stacks: Cell<[VirtAddr; EXCEPTION_STACKS]>,
    tables: UnsafeCell<Tables>,
    /// What runs here, and its timer.
    pub tasks: CpuTasks,
    /// Which address space is loaded, and flushes to be done.
    pub tlb: Tlb,
    /// This CPU's epoch participant.
    pub epoch: CpuEpoch,
}

// SAFETY: other CPUs reach a block through `Cpu::numbered` and use its atomics, its number and its APIC id only;
// the cells are private to code that runs on the CPU itself, with interrupts off.
unsafe impl Sync for Cpu {}

static CPUS: [AtomicPtr<Cpu>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
static ONLINE: AtomicU64 = AtomicU64::new(0);

impl Cpu {
    /// The block of a CPU that is not running yet.
    pub const fn new(number: usize) -> Cpu {
        Cpu {
            this: Cell::new(ptr::null()),
            trap_words: [const { Cell::new(0) }; 3],
            tss_rsp0: Cell::new(0),
            number,
            apic_id: AtomicU32::new(0),
            exception_stacks: Cell::new([VirtAddr::zero(); EXCEPTION_STACKS]),
            tables: UnsafeCell::new(Tables::empty()),
            tasks: CpuTasks::none(),
            tlb: Tlb::of_kernel(),
            epoch: CpuEpoch::unregistered(),
        }
    }

    /// The CPU that this runs on. Not to be kept over anything that parks or yields.
    #[inline]
    pub fn this() -> &'static Cpu {
        let cpu: *const Cpu;
        // SAFETY: gs points to this CPU's block since `enlist`; reading its first word changes nothing. Not `pure`:
        // after a wait the answer may be another one.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) cpu, options(nostack, preserves_flags, readonly));
        }
        // SAFETY: `enlist` was given a block that lives for good.
        unsafe { &*cpu }
    }

    /// The CPU of this number, when it is there.
    pub fn numbered(number: usize) -> Option<&'static Cpu> {
        // SAFETY: only `enlist` fills the slots, with blocks that live for good.
        unsafe { CPUS.get(number)?.load(Ordering::Acquire).as_ref() }
    }

    /// Counted from 0, the boot CPU, in the order of the MADT.
    #[inline]
    pub fn number(&self) -> usize {
        self.number
    }

    /// This CPU's bit in masks of CPUs.
    #[inline]
    pub fn bit(&self) -> u64 {
        1 << self.number
    }

    /// The id of its local APIC.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Sets the id of its local APIC.
    pub fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }

    /// Gives it the stacks of the exceptions that need their own. Before [`Cpu::enlist`].
    pub fn set_exception_stacks(&self, tops: [VirtAddr; EXCEPTION_STACKS]) {
        self.exception_stacks.set(tops);
    }

    /// Makes this block that of the CPU which runs this, with descriptor tables of its own. Once.
    pub fn enlist(&'static self) {
        self.this.set(self);
        GsBase::write(VirtAddr::from_ptr(self));
        // The program's gs, which swapgs brings in: it has none.
        KernelGsBase::write(VirtAddr::zero());
        // SAFETY: `enlist` runs once a block, on its own CPU, so this is the only reference.
        let tables = unsafe { &mut *self.tables.get() };
        self.tss_rsp0.set(tables.load(self.exception_stacks.get()));
        CPUS[self.number].store(ptr::from_ref(self).cast_mut(), Ordering::Release);
    }

    /// From now on tasks run here, and flushes are sent here.
    pub fn go_online(&self) {
        ONLINE.fetch_or(self.bit(), Ordering::SeqCst);
    }
}

/// The CPUs that run tasks, a bit each.
pub fn online() -> u64 {
    ONLINE.load(Ordering::Relaxed)
}

/// The number of the CPU that this runs on; 0 where there is no block yet. For a panic, which may come before it.
pub fn number_if_any() -> usize {
    if GsBase::read().is_null() { 0 } else { Cpu::this().number }
}

/// The CPUs of a mask.
#[inline]
pub fn each(mut mask: u64) -> impl Iterator<Item = &'static Cpu> {
    let numbers = core::iter::from_fn(move || {
        let number = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (number < u64::BITS).then_some(number as usize)
    });
    numbers.filter_map(Cpu::numbered)
}
