//! Who shares a frame: the counts behind copy-on-write.
//!
//! A count tells how many own the frame besides one: 0 is the usual case. It is set when a frame is allocated for
//! a program. Only an owner adds another one (fork, with its space's lock held exclusively), so an owner that
//! finds 0 is alone for as long as it holds that lock, shared or not.

use super::{Frame, FrameAllocator};
use core::sync::atomic::{AtomicU32, Ordering};
use x86_64::PhysAddr;

impl FrameAllocator {
    /// One more owns the program's frame at `address`; the caller owns it already.
    pub(crate) fn share(&self, address: PhysAddr) {
        self.count(address).fetch_add(1, Ordering::Relaxed);
    }

    /// Does anybody else own the program's frame at `address`, which the caller owns?
    #[inline]
    pub(crate) fn is_shared(&self, address: PhysAddr) -> bool {
        // Acquire: what the others read of it is over before the last owner writes.
        self.count(address).load(Ordering::Acquire) != 0
    }

    /// Gives up the caller's share of a program's frame; the last one frees it.
    pub(crate) fn release(&self, frame: Frame) {
        let count = self.count(frame.address());
        if count.load(Ordering::Acquire) == 0 || count.fetch_sub(1, Ordering::AcqRel) == 0 {
            self.free(frame);
        }
    }

    #[inline]
    pub(super) fn count(&self, address: PhysAddr) -> &AtomicU32 {
        let index = self.index(address.as_u64()).expect("programs own RAM in the covered range");
        let pointer = self.physmap.pointer(self.counts + index * size_of::<AtomicU32>() as u64);
        // SAFETY: `new` set this RAM aside: a `u32` for each index, at a multiple of 4 (the marks before it are
        // rounded up to that). Any bytes are a `u32`, and all access is atomic.
        unsafe { &*pointer.cast::<AtomicU32>() }
    }
}
