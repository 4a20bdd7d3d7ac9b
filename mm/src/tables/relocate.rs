//! mremap's part: leaves go to other addresses as they are.

use super::{Flush, PageTables};
use crate::range::{MapSize, VirtRange};
use crate::walk::{leaf_level, table_index};
use core::sync::atomic::Ordering;
use x86_64::VirtAddr;

impl PageTables {
    /// Moves the leaves in `from`, which all have this size, to the same places behind `to`, where nothing is mapped:
    /// owned pages, parked ones, borrowed memory. False when memory ran out: nothing has moved then, though tables
    /// may have been made.
    pub(crate) fn relocate(&mut self, from: VirtRange, to: VirtAddr, size: MapSize) -> (Flush<'_>, bool) {
        let target = |address: VirtAddr| to + (address - from.start());
        // All tables first: what has begun to move cannot fail.
        let (mut complete, mut moved) = (true, false);
        self.visit_leaves(from, size, &mut |_, address| {
            complete = complete && self.leaf_table(target(address), size).is_some();
        });
        if complete {
            self.visit_leaves(from, size, &mut |entry, address| {
                let table = self.leaf_table(target(address), size).expect("all tables are there");
                let place = self.entry(table, table_index(target(address), leaf_level(size)));
                place.store(entry.swap(0, Ordering::AcqRel), Ordering::Release);
                moved = true;
            });
        }
        (Flush::new(self, moved.then_some(from)), complete)
    }
}
