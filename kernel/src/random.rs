//! Random bytes for getrandom, AT_RANDOM and address-space layout: RDRAND.
//!
//! A CPU without it gives a generator seeded by the clock, which a guest that runs tests can live with; boot
//! says so in the log.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static HAS_RDRAND: AtomicBool = AtomicBool::new(false);
static STATE: AtomicU64 = AtomicU64::new(0);

/// Says whether the CPU has RDRAND.
pub fn init(rdrand: bool) {
    HAS_RDRAND.store(rdrand, Ordering::Relaxed);
    // SAFETY: RDTSC exists on every x86-64 CPU and reads a counter.
    STATE.store(unsafe { core::arch::x86_64::_rdtsc() }, Ordering::Relaxed);
}

/// Fills `out` with random bytes.
pub fn fill(out: &mut [u8]) {
    for chunk in out.chunks_mut(8) {
        chunk.copy_from_slice(&u64().to_le_bytes()[..chunk.len()]);
    }
}

/// Eight random bytes.
pub fn u64() -> u64 {
    if HAS_RDRAND.load(Ordering::Relaxed) {
        // SDM 1, 7.3.17.1: ten tries in a row fail only on broken hardware.
        for _ in 0..10 {
            if let Some(value) = rdrand() {
                return value;
            }
        }
    }
    split_mix()
}

fn rdrand() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: only called where CPUID lists RDRAND; it writes the two registers.
    unsafe {
        core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack))
    };
    (ok != 0).then_some(value)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
