//! Makes stores to persistent ranges durable: what msync and fsync on a dax device do.

use alloc::vec::Vec;
use dax::MediaFlush;
use entry::PHYSMAP_BASE;
use mm::range::PhysRange;
use platform::flush::{self, FlushKind};

/// The flush of a region: cache lines, a fence, and a write to a flush hint of each DIMM (reference section 6).
pub struct PmemFlush {
    kind: FlushKind,
    /// Kernel addresses of flush hints, mapped uncached.
    hints: Vec<u64>,
}

impl PmemFlush {
    /// For a region that lies in the physmap and whose DIMMs have these hints.
    pub fn new(hints: Vec<u64>) -> PmemFlush {
        PmemFlush { kind: FlushKind::detect(), hints }
    }
}

impl MediaFlush for PmemFlush {
    fn flush(&self, range: PhysRange) {
        let start = (PHYSMAP_BASE + range.start().as_u64()) as *const u8;
        self.kind.write_back(core::ptr::slice_from_raw_parts(start, range.len_bytes() as usize));
        for &hint in &self.hints {
            // SAFETY: the NFIT names the address as a flush hint, and discovery mapped it for this. The value does
            // not matter (ACPI 6.5, 5.2.26.9).
            unsafe { (hint as *mut u64).write_volatile(1) };
        }
        if !self.hints.is_empty() {
            flush::fence();
        }
    }
}
