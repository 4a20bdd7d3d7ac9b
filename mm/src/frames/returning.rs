//! Frames on their way back, and the wait for them.
//!
//! An unmap holds frames until its shootdown is acknowledged, and a large space takes its time to go. Who runs out
//! of memory meanwhile waits here rather than fail. It holds nothing: no lock, no pin, no frame. That is why the
//! wait ends: whoever returns frames needs nothing from it.

use super::FrameAllocator;
use crate::checks::might_sleep;
use crate::lock;
use crate::pager::Refusal;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The state of the wait.
#[derive(Default)]
pub(super) struct Returns {
    /// Promises that are open.
    open: AtomicU64,
    /// Promises that were kept.
    kept: AtomicU64,
    waiters: AtomicU64,
    /// Allocations to go before one fails; 0 for none.
    #[cfg(feature = "checks")]
    countdown: AtomicU64,
}

/// A moment, by the frames that had come back. Taken before what may fail.
#[derive(Clone, Copy)]
pub struct Moment(u64);

impl Returns {
    /// Has the allocation come that `fail_nth` chose?
    #[inline]
    pub(super) fn inject_failure(&self) -> bool {
        #[cfg(feature = "checks")]
        return self.countdown.load(SeqCst) > 0 && self.countdown.fetch_sub(1, SeqCst) == 1;
        #[cfg(not(feature = "checks"))]
        false
    }
}

/// A promise: frames come back before this is dropped.
#[must_use = "dropping it says that the frames are back"]
pub struct Returning<'a>(&'a FrameAllocator);

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        let returns = &self.0.returns;
        // In this order: who finds no promise open finds that this one was kept.
        returns.kept.fetch_add(1, SeqCst);
        returns.open.fetch_sub(1, SeqCst);
        if returns.waiters.load(SeqCst) > 0 {
            lock::unpark(self.0.waiting_key());
        }
    }
}

impl FrameAllocator {
    /// Promises that frames come back soon: who runs out of memory waits for that.
    pub fn returning(&self) -> Returning<'_> {
        self.returns.open.fetch_add(1, SeqCst);
        Returning(self)
    }

    /// Now, for [`FrameAllocator::wait_for_returning`].
    #[inline]
    pub fn moment(&self) -> Moment {
        Moment(self.returns.kept.load(SeqCst))
    }

    /// After something failed for want of frames that began at `since`: sleeps until frames came back, or for a
    /// shorter time, and says whether it is worth another try. False when none came back since, and none is
    /// on its way.
    ///
    /// The caller holds no lock, pin or frame, and looks everything up again.
    #[cold]
    pub fn wait_for_returning(&self, since: Moment) -> bool {
        might_sleep("waiting for memory");
        let returns = &self.returns;
        let pending = || returns.open.load(SeqCst) > 0 && returns.kept.load(SeqCst) == since.0;
        if pending() {
            returns.waiters.fetch_add(1, SeqCst);
            lock::park(self.waiting_key(), &pending);
            returns.waiters.fetch_sub(1, SeqCst);
            return true;
        }
        returns.kept.load(SeqCst) != since.0
    }

    /// Attempts again whenever memory ran out and frames came back, as [`FrameAllocator::wait_for_returning`] has it.
    pub(crate) fn patiently<T>(&self, attempt: impl Fn() -> Result<T, Refusal>) -> Result<T, Refusal> {
        loop {
            match attempt() {
                // From now, not from before: what a failed attempt gave back is no reason for another one.
                Err(Refusal::NoMemory) if self.wait_for_returning(self.moment()) => {}
                result => return result,
            }
        }
    }

    /// Makes the `nth` allocation for a program from now on fail, page tables included; 0 makes none fail. The
    /// failed caller finds memory when it waits, if some is on its way.
    #[cfg(feature = "checks")]
    pub fn fail_nth(&self, nth: u64) {
        self.returns.countdown.store(nth, SeqCst);
    }

    fn waiting_key(&self) -> usize {
        core::ptr::from_ref(&self.returns).addr()
    }
}
