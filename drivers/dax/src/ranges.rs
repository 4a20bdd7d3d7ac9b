//! Where a device's bytes lie in physical memory: one range, or several one behind the other.

use crate::error::DaxError;
use crate::memory;
use alloc::boxed::Box;
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
///
/// Most devices have one, which then lies in the device itself.
#[derive(Clone, Debug)]
pub enum DevRanges {
    /// One.
    One(PhysRange),
    /// Several, by offset; or none, for a device of no bytes yet.
    Many(Box<[DevRange]>),
}

impl Default for DevRanges {
    fn default() -> DevRanges {
        DevRanges::Many(Box::default())
    }
}

impl DevRanges {
    /// Lays `ranges` one behind the other.
    ///
    /// Fails with `Misaligned` for a start or a length that is not a multiple of `align`, or with `NoMemory`.
    pub fn new(ranges: &[PhysRange], align: MapSize) -> Result<DevRanges, DaxError> {
        let is_aligned = |range: &&PhysRange| align.divides(range.start().as_u64() | range.len_bytes());
        if let Some(&range) = ranges.iter().find(|range| !is_aligned(range)) {
            return Err(DaxError::Misaligned { range, align });
        }
        match *ranges {
            [only] => Ok(DevRanges::One(only)),
            ref many => {
                let mut list = memory::vec_of(many.len())?;
                let mut offset_bytes = 0u64;
                for &phys in many {
                    list.push(DevRange { offset_bytes, phys });
                    offset_bytes = offset_bytes.saturating_add(phys.len_bytes());
                }
                Ok(DevRanges::Many(list.into_boxed_slice()))
            }
        }
    }

    /// The device's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            DevRanges::One(only) => only.len_bytes(),
            DevRanges::Many(many) => many.last().map_or(0, DevRange::end_bytes),
        }
    }

    /// The ranges, by offset.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = DevRange> + '_ {
        let (one, many) = match self {
            DevRanges::One(only) => (Some(DevRange { offset_bytes: 0, phys: *only }), &[][..]),
            DevRanges::Many(many) => (None, &many[..]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// Returns the physical range behind `[offset_bytes, offset_bytes + size.bytes())`.
    ///
    /// `None` when the offset is not a multiple of the size, when the range ends past the device, or when
    /// it spans two of its ranges: the caller answers SIGBUS. O(log n), and two comparisons for one range.
    #[inline]
    pub fn offset_to_phys(&self, offset_bytes: u64, size: MapSize) -> Option<PhysRange> {
        // On the path of every fault: one range, one look at the size, no second `PhysRange`.
        let unit = size.bytes();
        if offset_bytes & (unit - 1) != 0 {
            return None;
        }
        match self {
            DevRanges::One(only) => only.part(offset_bytes, unit),
            DevRanges::Many(many) => {
                let range = search(many, offset_bytes)?;
                range.phys.part(offset_bytes.checked_sub(range.offset_bytes)?, unit)
            }
        }
    }

    /// The longest contiguous run of at most `pages` pages that begins with page `page` (4 KiB each);
    /// `None` when the device ends before it, or `pages` is 0.
    pub fn pages_to_phys(&self, page: u64, pages: u64) -> Option<PhysRange> {
        let offset_bytes = page.checked_mul(PAGE_SIZE)?;
        let range = match self {
            DevRanges::One(only) => DevRange { offset_bytes: 0, phys: *only },
            DevRanges::Many(many) => *search(many, offset_bytes)?,
        };
        let skip = offset_bytes.checked_sub(range.offset_bytes)?;
        let left = range.phys.len_bytes().checked_sub(skip)?;
        range.phys.part(skip, pages.saturating_mul(PAGE_SIZE).min(left))
    }

    /// The physical pieces of `[offset_bytes, offset_bytes + len_bytes)`, in order; what lies past the
    /// device is left out.
    pub fn pieces(&self, offset_bytes: u64, len_bytes: u64) -> impl Iterator<Item = PhysRange> + '_ {
        let end_bytes = offset_bytes.saturating_add(len_bytes);
        let reached =
            move |range: &DevRange| offset_bytes < range.end_bytes() && range.offset_bytes < end_bytes;
        self.iter().filter(reached).filter_map(move |range| {
            let from = offset_bytes.max(range.offset_bytes) - range.offset_bytes;
            let to = end_bytes.min(range.end_bytes()) - range.offset_bytes;
            range.phys.part(from, to.saturating_sub(from))
        })
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
