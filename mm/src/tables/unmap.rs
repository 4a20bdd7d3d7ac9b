//! What takes entries away: unmap, revoke, and the end of a tree.

use super::visit::{bounds, next_used, runs};
use super::{Flush, HUGE, OWNED, PageTables};
use crate::frames::Frame;
use crate::range::{MapSize, USER_END, VirtRange};
use crate::walk::{address_of, entry_shift};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::PhysAddr;

const LOWER_HALF: VirtRange = match VirtRange::from_bounds(0, USER_END) {
    Some(range) => range,
    None => unreachable!(),
};

impl PageTables {
    /// Clears every leaf that has a byte in `range` and unlinks the tables whose whole span lies in `hole`,
    /// which holds `range` and in which nothing else is mapped. A huge leaf across an end goes too.
    ///
    /// Also returns the part of the range that is still to be unmapped, because the token is full.
    #[must_use = "the rest is still to be unmapped"]
    pub fn unmap(&mut self, range: VirtRange, hole: VirtRange) -> (Flush<'_>, Option<VirtRange>) {
        let mut flush = Flush::new(self, None);
        let rest = flush.clear(flush.tables.root, 4, 0, range, hole).err();
        (flush, rest.and_then(|at| VirtRange::from_bounds(at, range.end().as_u64())))
    }

    /// Clears every leaf of `size` in `range`, where all leaves have that size and none is owned, and tells how
    /// many there were. The tables stay.
    pub(crate) fn revoke(&mut self, range: VirtRange, size: MapSize) -> (Flush<'_>, u64) {
        let mut cleared = 0;
        self.visit_leaf_tables(range, size, &mut |entries, _| {
            // In eights, so that it is unrolled: a load, a count and a store for each entry.
            let (eights, rest) = entries.as_chunks::<8>();
            let in_eights: u64 = eights.iter().map(|eight| eight.iter().map(clear_leaf).sum::<u64>()).sum();
            cleared += in_eights + rest.iter().map(clear_leaf).sum::<u64>();
        });
        (Flush::new(self, (cleared > 0).then_some(range)), cleared)
    }

    /// Frees what `ranges`, which ascend and hold all that is mapped, lead to: a drop that looks at nothing else.
    /// No CPU may have the tables loaded.
    pub(crate) fn tear_down(&mut self, ranges: &mut dyn Iterator<Item = VirtRange>) {
        let (frames, root) = (self.frames, self.root);
        let _returning = frames.returning();
        let mut flush = Flush::new(self, None);
        let mut ranges = runs(ranges, entry_shift(2)).peekable();
        while let Some(mut range) = ranges.next() {
            // Nothing is mapped below any more.
            let end = ranges.peek().map_or(LOWER_HALF.end(), |next| next.start());
            let hole = VirtRange::from_bounds(0, end.as_u64()).expect("it holds the range");
            while let Err(at) = flush.clear(root, 4, 0, range, hole) {
                let _batch = frames.returning();
                flush.release();
                range = VirtRange::from_bounds(at, range.end().as_u64()).expect("it is inside the range");
            }
        }
        flush.release();
    }
}

impl Drop for PageTables {
    fn drop(&mut self) {
        self.tear_down(&mut core::iter::once(LOWER_HALF));
        // SAFETY: `new` allocated the root with order 0 and gave up its token; nobody uses it any more.
        self.frames.free(unsafe { Frame::from_address(self.root, 0) });
    }
}

impl Flush<'_> {
    /// Clears the part of `table` (at `level`, spanning from `base`) that lies in `range`. When no more
    /// frames can be held, returns the address to go on from.
    fn clear(
        &mut self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: VirtRange,
        hole: VirtRange,
    ) -> Result<(), u64> {
        let (mut next, behind) = bounds(level, base, range);
        while let Some((index, value)) = next_used(&self.tables.table(table)[..behind], next) {
            next = index + 1;
            let is_table = level > 1 && value & HUGE == 0;
            if is_table || value & OWNED.bits() != 0 {
                let address = base + ((index as u64) << entry_shift(level));
                if is_table {
                    self.clear(address_of(value), level - 1, address, range, hole)?;
                    if !covers(hole, address, level) {
                        continue;
                    }
                }
                if self.held.is_full() {
                    return Err(address);
                }
                // SAFETY: the entry holds the only token of this frame (it is OWNED, or a table of this tree),
                // allocated with order 0, and it is cleared now.
                self.held.push(unsafe { Frame::from_address(address_of(value), 0) });
            }
            self.tables.table(table)[index].store(0, Ordering::Release);
            self.changed = Some(range);
        }
        Ok(())
    }
}

/// Clears an entry of a device with the space held exclusively; 1 when there was one.
#[inline]
fn clear_leaf(entry: &AtomicU64) -> u64 {
    let was = entry.load(Ordering::Relaxed);
    entry.store(0, Ordering::Release);
    u64::from(was != 0)
}

/// Does `hole` cover all that a program can map through the entry at `address` of a table at `level`?
fn covers(hole: VirtRange, address: u64, level: u32) -> bool {
    let end = (address + (1 << entry_shift(level))).min(USER_END);
    hole.start().as_u64() <= address && end <= hole.end().as_u64()
}
