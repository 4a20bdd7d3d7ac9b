//! Counters of a device. Relaxed: each is exact, none orders anything.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use mm::range::MapSize;

/// How many faults wrote an entry, by the size of the entry.
#[derive(Debug, Default)]
pub struct FaultCounts {
    installed: [AtomicU64; MapSize::ALL.len()],
}

impl FaultCounts {
    /// Faults that wrote a new entry of this size since the device was created.
    pub fn installed(&self, size: MapSize) -> u64 {
        self.slot(size).load(Relaxed)
    }

    pub(crate) fn count_installed(&self, size: MapSize) {
        self.slot(size).fetch_add(1, Relaxed);
    }

    fn slot(&self, size: MapSize) -> &AtomicU64 {
        // In range by type: there are as many slots as sizes, so this is one addition.
        &self.installed[size as usize]
    }
}
