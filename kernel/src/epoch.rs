//! This CPU's part in the epoch of dax devices: the pin of a fault's critical section.

use core::cell::OnceCell;
use crossbeam_epoch::Guard;
use dax::lifetime::{Collector, Epoch, GracePeriods, LocalHandle};

/// The participant of the boot CPU; a CPU more, a participant more.
struct CpuEpoch(OnceCell<LocalHandle>);

// SAFETY: the cell is touched by one CPU only (there is one), with interrupts off, as they always are in this
// kernel.
unsafe impl Sync for CpuEpoch {}
// SAFETY: as above; the value never moves to another CPU.
unsafe impl Send for CpuEpoch {}

static EPOCH: CpuEpoch = CpuEpoch(OnceCell::new());
static GRACE_PERIODS: GracePeriods = GracePeriods::new();

/// The epoch that all dax devices share. The first call registers this CPU.
pub fn epoch() -> &'static dyn Epoch {
    EPOCH.0.get_or_init(|| Collector::new().register());
    &EPOCH
}

impl CpuEpoch {
    fn handle(&self) -> &LocalHandle {
        self.0.get().expect("epoch() registers before it hands the epoch out")
    }
}

impl Epoch for CpuEpoch {
    fn pin(&self) -> Guard {
        self.handle().pin()
    }

    fn is_pinned(&self) -> bool {
        self.handle().is_pinned()
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        &GRACE_PERIODS
    }
}
