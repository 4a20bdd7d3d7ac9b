//! Frames for page tables, set aside before a fault pins anything.

use crate::frames::{Frame, FrameAllocator};
use crate::pager::FaultError;
use arrayvec::ArrayVec;

/// Most tables that one leaf can lack.
pub(crate) const MAX_MISSING: usize = 3;

/// Zeroed frames for tables, taken before a fault pins anything; what is left goes back on drop.
pub(crate) struct Reserve<'a> {
    frames: &'a FrameAllocator,
    pub(crate) held: ArrayVec<Frame, MAX_MISSING>,
}

impl<'a> Reserve<'a> {
    /// An empty reserve.
    pub(crate) fn new(frames: &'a FrameAllocator) -> Reserve<'a> {
        Reserve { frames, held: ArrayVec::new() }
    }

    /// Brings it up to `count` frames (no more than [`MAX_MISSING`]), or says `NoMemory`.
    pub(crate) fn fill(&mut self, count: usize) -> Result<(), FaultError> {
        while self.held.len() < count.min(MAX_MISSING) {
            self.held.push(self.frames.allocate_table().ok_or(FaultError::NoMemory)?);
        }
        Ok(())
    }
}

impl Drop for Reserve<'_> {
    fn drop(&mut self) {
        self.held.drain(..).for_each(|frame| self.frames.free(frame));
    }
}
