//! Where a device's bytes lie in physical memory: one range, or several one behind the other.

use alloc::vec::Vec;
use mm::range::{MapSize, PAGE_SIZE, PhysRange};

/// A run of a device's bytes that is contiguous in physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DevRange {
    /// The device's byte that the range begins with.
    pub offset_bytes: u64,
    /// Where it lies.
    pub phys: PhysRange,
}

/// The ranges of one device, by offset and without gaps, every bound a multiple of the alignment.
#[derive(Debug)]
pub struct DevRanges {
    ranges: Vec<DevRange>,
    size_bytes: u64,
}

impl DevRanges {
    /// Lays `ranges` one behind the other.
    ///
    /// `None` when there is none, when a start or a length is not a multiple of `align`, or when memory is
    /// out: callers pass ranges that `region::usable` made.
    pub fn new(ranges: &[PhysRange], align: MapSize) -> Option<DevRanges> {
        let mut list = Vec::new();
        list.try_reserve_exact(ranges.len()).ok()?;
        let mut size_bytes = 0u64;
        for &phys in ranges {
            if !align.divides(phys.start().as_u64()) || !align.divides(phys.len_bytes()) {
                return None;
            }
            list.push(DevRange { offset_bytes: size_bytes, phys });
            size_bytes = size_bytes.checked_add(phys.len_bytes())?;
        }
        (!list.is_empty()).then_some(DevRanges { ranges: list, size_bytes })
    }

    /// The device's size in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The ranges, by offset.
    pub fn as_slice(&self) -> &[DevRange] {
        &self.ranges
    }

    /// Returns the physical range behind `[offset_bytes, offset_bytes + size.bytes())`.
    ///
    /// `None` when the offset is not a multiple of the size, when the range ends past the device, or when
    /// it spans two of its ranges: the caller answers SIGBUS. O(log n), and two comparisons for one range.
    #[inline]
    pub fn offset_to_phys(&self, offset_bytes: u64, size: MapSize) -> Option<PhysRange> {
        // On the path of every fault: one range, one look at the size, no second `PhysRange`.
        let unit = size.bytes();
        let range = self.range_at(offset_bytes)?;
        let skip = offset_bytes.checked_sub(range.offset_bytes)?;
        if offset_bytes & (unit - 1) != 0 {
            return None;
        }
        range.phys.part(skip, unit)
    }

    /// The longest contiguous run of at most `pages` pages that begins with page `page` (4 KiB each);
    /// `None` when the device ends before it, or `pages` is 0.
    pub fn pages_to_phys(&self, page: u64, pages: u64) -> Option<PhysRange> {
        let run = self.run_from(page.checked_mul(PAGE_SIZE)?)?;
        PhysRange::new(run.start().as_u64(), pages.saturating_mul(PAGE_SIZE).min(run.len_bytes()))
    }

    /// The physical pieces of `[offset_bytes, offset_bytes + len_bytes)`, in order; what lies past the
    /// device is left out.
    pub fn pieces(&self, offset_bytes: u64, len_bytes: u64) -> impl Iterator<Item = PhysRange> + '_ {
        let end_bytes = offset_bytes.saturating_add(len_bytes);
        let first = self.ranges.partition_point(|range| range.end_bytes() <= offset_bytes);
        let rest = self.ranges.get(first..).unwrap_or(&[]);
        rest.iter().take_while(move |range| range.offset_bytes < end_bytes).filter_map(move |range| {
            let from = offset_bytes.max(range.offset_bytes) - range.offset_bytes;
            let to = end_bytes.min(range.end_bytes()) - range.offset_bytes;
            PhysRange::new(range.phys.start().as_u64() + from, to.saturating_sub(from))
        })
    }

    /// What is left of the range that holds this byte, from the byte on.
    fn run_from(&self, offset_bytes: u64) -> Option<PhysRange> {
        let range = self.range_at(offset_bytes)?;
        let skip = offset_bytes.checked_sub(range.offset_bytes)?;
        PhysRange::from_bounds(range.phys.start().as_u64().checked_add(skip)?, range.phys.end())
    }

    /// The only range that can hold this byte; it may still end before it.
    fn range_at(&self, offset_bytes: u64) -> Option<&DevRange> {
        match self.ranges.as_slice() {
            [only] => Some(only),
            many => search(many, offset_bytes),
        }
    }
}

/// The first of several ranges that ends behind this byte. Apart, to keep the path of one range short.
#[cold]
fn search(ranges: &[DevRange], offset_bytes: u64) -> Option<&DevRange> {
    ranges.get(ranges.partition_point(|range| range.end_bytes() <= offset_bytes))
}

impl DevRange {
    /// The device's first byte behind the range.
    pub const fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.phys.len_bytes()
    }
}

#[cfg(test)]
mod tests;
