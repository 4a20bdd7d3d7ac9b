//! Log lines that programs can cause any number of: at most so many in a while, and then how many were left out.
//!
//! As Linux's `printk_ratelimited`: each place in the code has its own [`Limit`], 10 lines in 5 seconds.

use crate::clock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const INTERVAL_NS: u64 = 5_000_000_000;
const BURST: u32 = 10;

/// How many lines one place has printed lately. Counts are exact; two CPUs that print at the turn of an interval may
/// print a line more.
#[derive(Default)]
pub struct Limit {
    begun_ns: AtomicU64,
    printed: AtomicU32,
    suppressed: AtomicU32,
}

impl Limit {
    /// Nothing printed yet.
    pub const fn new() -> Limit {
        Limit { begun_ns: AtomicU64::new(0), printed: AtomicU32::new(0), suppressed: AtomicU32::new(0) }
    }

    /// May the place that says `what` print one more line? Says first how many it could not.
    pub fn admits(&self, what: &str) -> bool {
        let (admits, suppressed) = self.count(clock::monotonic_ns());
        if suppressed > 0 {
            log::warn!("{what}: {suppressed} lines suppressed");
        }
        admits
    }

    /// The same at this time: the answer, and how many lines the interval that ended left out.
    fn count(&self, now_ns: u64) -> (bool, u32) {
        let begun_ns = self.begun_ns.load(Relaxed);
        let is_over = now_ns.saturating_sub(begun_ns) >= INTERVAL_NS;
        let begins = is_over && self.begun_ns.compare_exchange(begun_ns, now_ns, Relaxed, Relaxed).is_ok();
        let suppressed = if begins {
            self.printed.store(0, Relaxed);
            self.suppressed.swap(0, Relaxed)
        } else {
            0
        };
        let admits = self.printed.load(Relaxed) < BURST && self.printed.fetch_add(1, Relaxed) < BURST;
        if !admits {
            self.suppressed.fetch_add(1, Relaxed);
        }
        (admits, suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_pass_and_the_next_interval_tells_of_the_rest() {
        let limit = Limit::new();
        let at = |seconds: u64| limit.count(seconds * 1_000_000_000);
        for _ in 0..10 {
            assert_eq!(at(6), (true, 0));
        }
        for _ in 0..7 {
            assert_eq!(at(10), (false, 0));
        }
        assert_eq!(at(11), (true, 7));
        assert_eq!(at(12), (true, 0));
    }
}
