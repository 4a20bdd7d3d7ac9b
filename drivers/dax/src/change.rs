//! What a device's ranges become when it grows, shrinks or is given one.

use crate::error::DaxError;
use crate::memory;
use crate::ranges::{DevRange, DevRanges};
use alloc::vec::Vec;
use mm::range::{MapSize, PhysRange};

/// A change of a device's ranges: what it took from the region, and what it will give back.
pub(crate) struct Change {
    /// All ranges from now on.
    pub ranges: DevRanges,
    /// Those among them that were free.
    pub taken: Vec<PhysRange>,
    /// Those that are the device's no longer.
    pub given: Vec<PhysRange>,
}

/// `old` with pieces behind it, the first of which may continue the last range.
pub(crate) fn joined(old: &DevRanges, pieces: &[PhysRange], align: MapSize) -> Result<DevRanges, DaxError> {
    let mut all: Vec<PhysRange> = memory::vec_of(old.iter().count() + pieces.len())?;
    all.extend(old.iter().map(|range| range.phys));
    for &piece in pieces {
        match all.last_mut() {
            Some(last) if last.end() == piece.start().as_u64() => {
                *last = PhysRange::from_bounds(last.start().as_u64(), piece.end()).unwrap_or(*last);
            }
            _ => all.push(piece),
        }
    }
    DevRanges::new(&all, align)
}

/// The first `size_bytes` bytes of `old`.
pub(crate) fn shrink(old: &DevRanges, size_bytes: u64, align: MapSize) -> Result<Change, DaxError> {
    let count = old.iter().count();
    let (mut kept, mut given) = (memory::vec_of(count)?, memory::vec_of(count)?);
    for DevRange { offset_bytes, phys } in old.iter() {
        let keep_bytes = size_bytes.saturating_sub(offset_bytes).min(phys.len_bytes());
        kept.extend(phys.part(0, keep_bytes));
        given.extend(phys.part(keep_bytes, phys.len_bytes() - keep_bytes));
    }
    Ok(Change { ranges: DevRanges::new(&kept, align)?, taken: Vec::new(), given })
}
