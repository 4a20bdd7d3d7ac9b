//! The seam to whoever can flush a TLB, and the token that makes forgetting it impossible.

use crate::frames::Frame;
use crate::range::VirtRange;
use crate::tables::PageTables;
use x86_64::PhysAddr;

/// Makes every CPU forget translations. The kernel implements it (invlpg, CR3 reload, later IPIs).
pub trait Shootdown: Sync {
    /// Returns when no CPU holds a translation of `range` in the space with this root table, nor a cached
    /// upper-level entry on the way to it. The caller holds the space's lock exclusively.
    fn flush(&self, root: PhysAddr, range: VirtRange);
}

/// Frames that one token holds; a longer unmap takes several rounds.
const BATCH: usize = 64;

/// Entries of `range` were changed and TLBs may still hold the old ones.
///
/// It borrows the tables, so their lock stays held, and holds the frames that the old entries lead to, so
/// nobody else gets them, until [`Flush::acknowledge`].
#[must_use = "until it is acknowledged, a CPU may go on using the old entries"]
pub struct Flush<'a> {
    tables: &'a mut PageTables,
    range: VirtRange,
    changed: bool,
    rest: Option<VirtRange>,
    held: [Option<Frame>; BATCH],
    count: usize,
}

impl<'a> Flush<'a> {
    pub(crate) fn new(tables: &'a mut PageTables, range: VirtRange) -> Flush<'a> {
        Flush { tables, range, changed: false, rest: None, held: [const { None }; BATCH], count: 0 }
    }

    /// Waits for the shootdown, then gives up the frames. What it returns is the part of the range that is
    /// still to be unmapped, because the token was full.
    #[must_use = "the rest is still to be unmapped"]
    pub fn acknowledge(mut self, shootdown: &dyn Shootdown) -> Option<VirtRange> {
        let frames = self.tables.frames();
        let _returning = (self.count > 0).then(|| frames.returning());
        if self.changed {
            shootdown.flush(self.tables.root(), self.range);
        }
        self.release();
        self.rest
    }

    /// Gives up the frames, after the shootdown, or without one in tables that no CPU has loaded.
    pub(crate) fn release(&mut self) {
        for frame in self.held.iter_mut().take(self.count).filter_map(Option::take) {
            self.tables.frames().release(frame);
        }
        self.count = 0;
    }

    pub(crate) fn tables(&self) -> &PageTables {
        self.tables
    }

    pub(crate) fn set_changed(&mut self, changed: bool) {
        self.changed = changed;
    }

    pub(crate) fn set_rest(&mut self, rest: Option<VirtRange>) {
        self.rest = rest;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Keeps a frame until the shootdown is acknowledged; there is room ([`Flush::is_full`]).
    pub(crate) fn hold(&mut self, frame: Frame) {
        self.held[self.count] = Some(frame);
        self.count += 1;
    }
}
