//! Frames for page tables, set aside before a fault pins anything.

use crate::frames::{Frame, FrameAllocator};

/// Most tables that one leaf can lack.
pub const MAX_MISSING: usize = 3;

/// Zeroed frames for tables, taken before a fault pins anything; what is left goes back on drop.
pub struct Reserve<'a> {
    frames: &'a FrameAllocator,
    held: [Option<Frame>; MAX_MISSING],
    count: usize,
}

impl<'a> Reserve<'a> {
    /// An empty reserve.
    #[inline]
    pub fn new(frames: &'a FrameAllocator) -> Reserve<'a> {
        Reserve { frames, held: [const { None }; MAX_MISSING], count: 0 }
    }

    /// Brings it up to `count` frames (no more than [`MAX_MISSING`]); false when memory is out.
    #[must_use]
    pub fn fill(&mut self, count: usize) -> bool {
        while self.count < count.min(MAX_MISSING) {
            let Some(frame) = self.frames.allocate_table() else { return false };
            self.put(frame);
        }
        true
    }

    /// Where its frames come from.
    pub fn frames(&self) -> &'a FrameAllocator {
        self.frames
    }

    /// Frames in it.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn take(&mut self) -> Option<Frame> {
        self.count = self.count.checked_sub(1)?;
        self.held[self.count].take()
    }

    /// Puts back what `take` took.
    pub(crate) fn put(&mut self, frame: Frame) {
        self.held[self.count] = Some(frame);
        self.count += 1;
    }
}

impl Drop for Reserve<'_> {
    #[inline]
    fn drop(&mut self) {
        while let Some(frame) = self.take() {
            self.frames.free(frame);
        }
    }
}
