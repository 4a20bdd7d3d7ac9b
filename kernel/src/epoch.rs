//! Each CPU's part in the epoch of dax devices: the pin of a fault's critical section.

use crate::arch::percpu::Cpu;
use crate::task;
use core::cell::OnceCell;
use core::sync::atomic::{AtomicU64, Ordering};
use crossbeam_epoch::Guard;
use dax::lifetime::{Collector, Epoch, GracePeriods, LocalHandle};
use spin::LazyLock;

/// The participant of one CPU, in its block.
pub struct CpuEpoch(OnceCell<LocalHandle>);

struct KernelEpoch;

static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);
static GRACE_PERIODS: GracePeriods = GracePeriods::new();
/// How many grace periods had been asked for at the end of the last [`settle`].
static SETTLED: AtomicU64 = AtomicU64::new(0);

/// The epoch that all dax devices share.
pub fn epoch() -> &'static dyn Epoch {
    &KernelEpoch
}

/// Frees what past grace periods left with each CPU but for one node of the collector's queue, and returns how many
/// there are at most: for whoever compares free memory. The caller's task visits every CPU; no removal runs meanwhile.
///
/// While nobody asks for a grace period nothing is left: most programs never do, and their start need not wait.
pub fn settle() -> u32 {
    let task = task::current();
    if GRACE_PERIODS.requested() != SETTLED.load(Ordering::Relaxed) {
        let affinity = task.affinity();
        let mut settled = true;
        for cpu in (0..u64::BITS).map(|cpu| 1 << cpu).filter(|cpu| task::online() & cpu != 0) {
            task.set_affinity(cpu);
            if let Err(why) = dax::lifetime::settle(epoch()) {
                log::warn!("the epoch {why}");
                settled = false;
            }
        }
        task.set_affinity(affinity);
        if settled {
            SETTLED.store(GRACE_PERIODS.requested(), Ordering::Relaxed);
        }
    }
    // One a CPU, and one that the last of them has taken out and not passed on.
    if GRACE_PERIODS.requested() == 0 { 0 } else { task::online().count_ones() + 1 }
}

impl CpuEpoch {
    /// No participant yet.
    pub const fn unregistered() -> CpuEpoch {
        CpuEpoch(OnceCell::new())
    }

    /// Makes this CPU a participant. Once, on the CPU itself.
    pub fn register(&self) {
        self.0.get_or_init(|| COLLECTOR.register());
    }

    fn handle(&self) -> &LocalHandle {
        self.0.get().expect("every CPU registers before it runs tasks")
    }
}

impl Epoch for KernelEpoch {
    #[cfg(not(feature = "bench_unpinned"))]
    #[inline]
    fn pin(&self) -> Guard {
        Cpu::this().epoch.handle().pin()
    }

    #[cfg(feature = "bench_unpinned")]
    #[inline]
    fn pin(&self) -> Guard {
        // SAFETY:
        // 1. A guard of nobody may be copied: it holds a null pointer, and its drop does nothing.
        // 2. What it lets through is not protected. This kernel is for counting instructions of faults; a device
        //    that is removed under a fault is not (`kernel/Cargo.toml` says so).
        unsafe { core::ptr::read(crossbeam_epoch::unprotected()) }
    }

    fn is_pinned(&self) -> bool {
        Cpu::this().epoch.handle().is_pinned()
    }

    fn relax(&self) {
        task::preempt_point();
        core::hint::spin_loop();
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        &GRACE_PERIODS
    }
}
