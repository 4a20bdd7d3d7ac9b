//! loom's atomics for [`crate::lifetime`], with the constant constructor that a static of the kernel wants.
//!
//! loom's own cannot be made in a constant, for one belongs to one execution of a model: `new` puts it off until the
//! first use. To loom that is a write which must not race with anything, so the models use `default`.

pub use loom::sync::atomic::Ordering;
use std::ops::Deref;
use std::sync::OnceLock;

/// loom's `AtomicU64`.
#[derive(Debug)]
pub struct AtomicU64 {
    first: u64,
    atomic: OnceLock<loom::sync::atomic::AtomicU64>,
}

impl AtomicU64 {
    pub const fn new(first: u64) -> AtomicU64 {
        AtomicU64 { first, atomic: OnceLock::new() }
    }

    /// As loom's, but begins with a read-modify-write where loom's loads. loom tries the other order of two accesses
    /// when one of them writes, and compares with the last access only: after a load of our own it would never try
    /// to update before what other threads load.
    pub fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        mut update: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut before = self.fetch_or(0, fetch);
        while let Some(after) = update(before) {
            match self.compare_exchange(before, after, set, fetch) {
                Ok(_) => return Ok(before),
                Err(now) => before = now,
            }
        }
        Err(before)
    }
}

impl Default for AtomicU64 {
    fn default() -> AtomicU64 {
        AtomicU64 { first: 0, atomic: loom::sync::atomic::AtomicU64::new(0).into() }
    }
}

impl Deref for AtomicU64 {
    type Target = loom::sync::atomic::AtomicU64;

    fn deref(&self) -> &loom::sync::atomic::AtomicU64 {
        self.atomic.get_or_init(|| loom::sync::atomic::AtomicU64::new(self.first))
    }
}
