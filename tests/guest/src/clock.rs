//! The time-stamp counter, which counts instructions where QEMU runs with `-icount shift=0,sleep=off`.

use std::arch::asm;

/// The time-stamp counter.
#[inline(always)]
pub fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: rdtsc changes rax and rdx only.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nostack)) };
    high << 32 | low
}

/// Ticks that `f` takes, a pair of readings included.
pub fn timed(f: impl FnOnce()) -> u64 {
    let start = ticks();
    f();
    ticks() - start
}

/// Whether a tick is an instruction: by a loop of two million.
pub fn counts_instructions() -> bool {
    // SAFETY: a loop on one register.
    let ticks =
        timed(|| unsafe { asm!("2: dec {0}", "jnz 2b", inout(reg) 1_000_000_u64 => _, options(nostack)) });
    (1_999_000..2_010_000).contains(&ticks)
}

/// The value at `percent` of the sorted samples: 50 is the median. 0 without samples.
pub fn percentile(samples: &mut [u64], percent: usize) -> u64 {
    samples.sort_unstable();
    samples.get((samples.len() * percent / 100).min(samples.len().saturating_sub(1))).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let mut samples: Vec<u64> = (0..100).rev().collect();
        assert_eq!([0, 50, 99, 100].map(|percent| percentile(&mut samples, percent)), [0, 50, 99, 99]);
        assert_eq!(percentile(&mut [], 50), 0);
    }
}
