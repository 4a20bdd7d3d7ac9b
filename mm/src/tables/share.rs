//! Fork's part: parent and child own the same frames, and neither may write.

use super::visit::next_used;
use super::{Flush, OWNED, PageTables, TABLE, WRITES};
use crate::range::{MapSize, PAGE_SIZE, VirtRange};
use crate::walk::{address_of, leaf_level, table_index};
use core::sync::atomic::Ordering;
use x86_64::{PhysAddr, VirtAddr};

impl PageTables {
    /// Lets `child`, which nobody else can reach yet, own what is owned in `ranges`, where all leaves are pages, as
    /// well: neither may write from now on. False when memory ran out half way; then `child` owns a part.
    ///
    /// The shootdown is one for all the ranges.
    pub(crate) fn share(
        &mut self,
        ranges: impl Iterator<Item = VirtRange>,
        child: &mut PageTables,
    ) -> (Flush<'_>, bool) {
        let (mut first, mut behind) = (u64::MAX, 0);
        let mut complete = true;
        for range in ranges {
            self.visit_leaf_tables(range, MapSize::Size4K, &mut |entries, base| {
                let (mut target, mut next) = (None, 0);
                while let Some((index, old)) = next_used(entries, next)
                    && complete
                {
                    next = index + 1;
                    if old & OWNED.bits() == 0 {
                        continue;
                    }
                    let address = base + index as u64 * PAGE_SIZE;
                    target =
                        target.or_else(|| child.leaf_table(VirtAddr::new_truncate(address), MapSize::Size4K));
                    let Some(table) = target else { return complete = false };
                    let shared = old & !WRITES.bits();
                    self.frames.share(address_of(old));
                    child.entry(table, address >> 12).store(shared, Ordering::Relaxed);
                    if shared != old {
                        entries[index].store(shared, Ordering::Release);
                        (first, behind) = (first.min(address), address + PAGE_SIZE);
                    }
                }
            });
        }
        (Flush::new(self, VirtRange::from_bounds(first, behind)), complete)
    }

    /// The table of leaves of `size` for `address`, made now where it is missing; `None` when memory is out. Nothing
    /// larger is mapped there, and nobody else changes the tree.
    pub(super) fn leaf_table(&self, address: VirtAddr, size: MapSize) -> Option<PhysAddr> {
        let mut table = self.root;
        for level in (leaf_level(size) + 1..=4).rev() {
            let entry = self.entry(table, table_index(address, level));
            let mut value = entry.load(Ordering::Relaxed);
            if value == 0 {
                value = self.frames.allocate_table()?.address().as_u64() | TABLE;
                entry.store(value, Ordering::Relaxed);
            }
            table = address_of(value);
        }
        Some(table)
    }
}
