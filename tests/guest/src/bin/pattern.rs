//! `pattern write|verify SEED [MIB]`: are the bytes there at the next boot?
//!
//! Fills the device behind the counter's page with words made of the seed and their offset: the first MIB
//! MiB (64 unless told) whole, and one page in each further MiB, so that every part of the device is
//! touched without an emulated CPU writing all of it. `verify` names the first word that differs.

use std::process::ExitCode;

use guest::counter::RESERVED;
use guest::device::Device;
use guest::sys::{self, PAGE};

const MIB: usize = 1 << 20;

/// The word that belongs at `offset`: splitmix64 over seed and offset.
fn word(seed: u64, offset: usize) -> u64 {
    let mut z = seed.wrapping_add((offset as u64 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Offsets of every word that belongs to the pattern.
fn offsets(size: usize, whole: usize) -> impl Iterator<Item = usize> {
    let dense = RESERVED..whole.min(size);
    let sparse = (whole..size).step_by(MIB).flat_map(move |page| page..(page + PAGE).min(size));
    dense.step_by(8).chain(sparse.step_by(8))
}

fn run(mode: &str, seed: u64, mib: usize) -> Result<String, String> {
    let device = Device::open()?;
    let mapping = device.map(device.size, 0).map_err(|errno| format!("mmap of the device: {errno}"))?;
    let mut words = 0_u64;
    for offset in offsets(device.size, mib.saturating_mul(MIB).max(RESERVED)) {
        let at = (mapping.addr + offset) as *mut u64;
        let wanted = word(seed, offset);
        if mode == "write" {
            // SAFETY: `offset` is below the device's size, all of which `mapping` covers, and 8-aligned.
            unsafe { at.write_volatile(wanted) };
        } else {
            // SAFETY: as above.
            let found = unsafe { at.read_volatile() };
            if found != wanted {
                return Err(format!("byte {offset:#x}: found {found:#018x}, not {wanted:#018x}"));
            }
        }
        words += 1;
    }
    sys::msync(mapping.addr, mapping.len, libc::MS_SYNC).map_err(|errno| format!("msync: {errno}"))?;
    Ok(format!("pattern: {mode} of {words} words with seed {seed} over {} bytes", device.size))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| args.get(index).and_then(|text| text.parse::<u64>().ok());
    let outcome = match (args.first().map(String::as_str), number(1)) {
        (Some(mode @ ("write" | "verify")), Some(seed)) => run(mode, seed, number(2).unwrap_or(64) as usize),
        _ => Err("usage: pattern write|verify SEED [MIB]".into()),
    };
    match outcome {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("pattern: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_leave_the_counter_alone_and_reach_every_mib() {
        let all: Vec<usize> = offsets(8 * MIB, 2 * MIB).collect();
        assert_eq!(all[0], RESERVED);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((0..8).all(|mib| all.iter().any(|offset| offset / MIB == mib)));
        assert!(all.iter().all(|offset| offset + 8 <= 8 * MIB));
    }
}
