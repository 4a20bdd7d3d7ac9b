//! The way through the tables that a range has: what is empty is passed over quickly.

use super::{HUGE, PageTables};
use crate::range::{MapSize, VirtRange};
use crate::walk::{address_of, entry_shift, leaf_level};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::{PhysAddr, VirtAddr};

impl PageTables {
    /// Calls `visit` with the entries in `range` of each table of leaves of this size, and the address of the first.
    pub(super) fn visit_leaf_tables(
        &self,
        range: VirtRange,
        size: MapSize,
        visit: &mut dyn FnMut(&[AtomicU64], u64),
    ) {
        self.visit_below(self.root, 4, 0, range, leaf_level(size), visit);
    }

    /// Calls `visit` with each entry in `range` that is not empty, and its address; all leaves there have this size.
    pub(super) fn visit_leaves(
        &self,
        range: VirtRange,
        size: MapSize,
        visit: &mut dyn FnMut(&AtomicU64, VirtAddr),
    ) {
        self.visit_leaf_tables(range, size, &mut |entries, base| {
            let mut next = 0;
            while let Some((index, _)) = next_used(entries, next) {
                next = index + 1;
                visit(&entries[index], VirtAddr::new_truncate(base + index as u64 * size.bytes()));
            }
        });
    }

    fn visit_below(
        &self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: VirtRange,
        leaf_level: u32,
        visit: &mut dyn FnMut(&[AtomicU64], u64),
    ) {
        let entries = self.table(table);
        let (mut index, behind) = bounds(level, base, range);
        if level == leaf_level {
            return visit(&entries[index..behind], base + ((index as u64) << entry_shift(level)));
        }
        while let Some((used, value)) = next_used(&entries[..behind], index) {
            debug_assert!(value & HUGE == 0, "no leaf is larger than its vma's granule");
            let address = base + ((used as u64) << entry_shift(level));
            self.visit_below(address_of(value), level - 1, address, range, leaf_level, visit);
            index = used + 1;
        }
    }
}

/// The first entry that is not empty from `index` on, and its index. (Tables are mostly empty: a fork or an exit
/// spends its time here.)
#[inline]
pub(super) fn next_used(entries: &[AtomicU64], mut index: usize) -> Option<(usize, u64)> {
    // Full tables are common too.
    match entries.get(index)?.load(Ordering::Acquire) {
        0 => index += 1,
        value => return Some((index, value)),
    }
    let is_empty =
        |eight: &&[AtomicU64; 8]| eight.iter().fold(0, |all, entry| all | entry.load(Ordering::Relaxed)) == 0;
    index += entries[index..].as_chunks::<8>().0.iter().take_while(is_empty).count() * 8;
    let values = entries[index..].iter().map(|entry| entry.load(Ordering::Acquire));
    (index..).zip(values).find(|&(_, value)| value != 0)
}

/// The entries of a table at `level`, spanning from `base`, that `range` touches: the first, and the first behind.
pub(super) fn bounds(level: u32, base: u64, range: VirtRange) -> (usize, usize) {
    let (shift, (start, end)) = (entry_shift(level), range.bounds());
    let first = start.saturating_sub(base) >> shift;
    let last = ((end - 1).saturating_sub(base) >> shift).min(511);
    (first as usize, last as usize + 1)
}

/// Joins ascending ranges of which one ends and the next begins in the same window of `2^shift` bytes (none, with
/// 0): a walk from the root costs more than a look at the empty entries between them.
pub(crate) fn runs(ranges: impl Iterator<Item = VirtRange>, shift: u32) -> impl Iterator<Item = VirtRange> {
    let mut ranges = ranges.peekable();
    core::iter::from_fn(move || {
        let (start, mut end) = ranges.next()?.bounds();
        while let Some(next) = ranges.next_if(|next| next.bounds().0 >> shift == (end - 1) >> shift) {
            end = next.bounds().1;
        }
        VirtRange::from_bounds(start, end)
    })
}
