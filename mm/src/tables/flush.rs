//! The token that makes forgetting a shootdown impossible.

use super::PageTables;
use crate::frames::Frame;
use crate::range::VirtRange;
use crate::shootdown::Shootdown;
use arrayvec::ArrayVec;

/// Frames that one token holds; a longer unmap takes several rounds.
const BATCH: usize = 64;

/// Entries were changed and TLBs may still hold the old ones.
///
/// It borrows the tables, so their lock stays held, and holds the frames that the old entries lead to, so
/// nobody else gets them, until [`Flush::acknowledge`].
#[must_use = "until it is acknowledged, a CPU may go on using the old entries"]
pub struct Flush<'a> {
    pub(super) tables: &'a mut PageTables,
    /// Where entries were changed; `None`: nowhere.
    pub(super) changed: Option<VirtRange>,
    /// There is room for one more while it is not full.
    pub(super) held: ArrayVec<Frame, BATCH>,
}

impl<'a> Flush<'a> {
    pub(super) fn new(tables: &'a mut PageTables, changed: Option<VirtRange>) -> Flush<'a> {
        Flush { tables, changed, held: ArrayVec::new() }
    }

    /// Waits for the shootdown, then gives up the frames.
    pub fn acknowledge(mut self, shootdown: &dyn Shootdown) {
        let frames = self.tables.frames;
        let _returning = (!self.held.is_empty()).then(|| frames.returning());
        if let Some(range) = self.changed {
            shootdown.flush(self.tables.root, range);
        }
        self.release();
    }

    /// Gives up the frames, after the shootdown, or without one in tables that no CPU has loaded.
    pub(crate) fn release(&mut self) {
        for frame in self.held.drain(..) {
            self.tables.frames.release(frame);
        }
    }
}
