//! A number that the NVDIMM keeps: how many boots this memory has seen.
//!
//! The first page of the device holds two slots, 64 bytes apart, each `magic, count, checksum` in three
//! little-endian words of 8 bytes. The valid slot with the larger count is the number; the new one goes to
//! the other slot, so that a machine that stops between two stores still has the old number. Memory
//! without a valid slot is new.

use crate::device::Device;
use crate::mapping::Mapping;
use crate::sys;

/// The page that the counter owns; programs that fill the device begin behind it.
pub const RESERVED: usize = 4096;

const MAGIC: u64 = u64::from_le_bytes(*b"DAXITE01");
const SLOT_WORDS: usize = 8;

fn checksum(count: u64) -> u64 {
    (MAGIC ^ count).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ count
}

/// The number that two slots of `[magic, count, checksum]` hold; 0 when neither is valid.
fn current(slots: [[u64; 3]; 2]) -> u64 {
    let valid = |slot: &[u64; 3]| slot[0] == MAGIC && slot[2] == checksum(slot[1]);
    slots.iter().filter(|slot| valid(slot)).map(|slot| slot[1]).max().unwrap_or(0)
}

fn word_at(mapping: &Mapping, count: u64, word: usize) -> *mut u64 {
    (mapping.addr as *mut u64).wrapping_add((count % 2) as usize * SLOT_WORDS + word)
}

/// Adds one to the number on `device` and returns the new one: 1 on memory that never had one.
pub fn increment(device: &Device) -> Result<u64, String> {
    let mapping = device.map(device.align, 0).map_err(|errno| format!("mmap of the counter: {errno}"))?;
    let slots = [0, 1].map(|slot| {
        // SAFETY: both slots lie in the first page of the mapping, which the device holds.
        [0, 1, 2].map(|word| unsafe { word_at(&mapping, slot, word).read_volatile() })
    });
    let count = current(slots).wrapping_add(1);
    for (word, value) in [MAGIC, count, checksum(count)].into_iter().enumerate() {
        // SAFETY: as above, and the mapping is writable.
        unsafe { word_at(&mapping, count, word).write_volatile(value) };
    }
    sys::msync(mapping.addr, mapping.len, libc::MS_SYNC)
        .map_err(|errno| format!("msync of the counter: {errno}"))?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_valid_slot_counts_and_a_torn_one_does_not() {
        let slot = |count| [MAGIC, count, checksum(count)];
        assert_eq!(current([[0; 3]; 2]), 0);
        assert_eq!(current([slot(4), slot(3)]), 4);
        assert_eq!(current([[MAGIC, 6, checksum(4)], slot(5)]), 5);
        assert_eq!(current([[0, 7, checksum(7)], [MAGIC, 0, 0]]), 0);
    }
}
