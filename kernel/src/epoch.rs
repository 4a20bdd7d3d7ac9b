//! Each CPU's part in the epoch of dax devices: the pin of a fault's critical section.

use crate::arch::percpu::Cpu;
use crate::task;
use core::cell::OnceCell;
use crossbeam_epoch::Guard;
use dax::lifetime::{Collector, Epoch, GracePeriods, LocalHandle};
use spin::LazyLock;

/// The participant of one CPU, in its block.
pub struct CpuEpoch(OnceCell<LocalHandle>);

struct KernelEpoch;

static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);
static GRACE_PERIODS: GracePeriods = GracePeriods::new();

/// The epoch that all dax devices share.
pub fn epoch() -> &'static dyn Epoch {
    &KernelEpoch
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
    #[inline]
    fn pin(&self) -> Guard {
        Cpu::this().epoch.handle().pin()
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
