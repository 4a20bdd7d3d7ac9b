//! Random bytes for getrandom, AT_RANDOM and address-space layout: RDRAND.
//!
//! A CPU without it gives a generator seeded by the clock, which a guest that runs tests can live with; boot
//! says so in the log.

use crate::clock;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::LazyLock;
use x86_64::instructions::random::RdRand;

static RDRAND: LazyLock<Option<RdRand>> = LazyLock::new(RdRand::new);
static SEED: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(clock::tsc()));

/// Fills `out` with random bytes.
pub fn fill(out: &mut [u8]) {
    for chunk in out.chunks_mut(8) {
        chunk.copy_from_slice(&u64().to_le_bytes()[..chunk.len()]);
    }
}

/// Eight random bytes.
pub fn u64() -> u64 {
    // SDM 1, 7.3.17.1: ten tries in a row fail only on broken hardware.
    (0..10).find_map(|_| (*RDRAND)?.get_u64()).unwrap_or_else(split_mix)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = SEED.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
