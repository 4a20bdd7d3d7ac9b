//! The words that owners write: who wrote, and where on the device.
//!
//! A page has one cell of 64 bytes for each worker, so a cell has one writer at a time. A word names its
//! generation, its worker, and proves its offset.

/// Bytes from one worker's cell to the next.
pub const CELL: usize = 64;
/// The workers that find room in a page.
pub const MAX_WORKERS: usize = 4096 / CELL;

/// What a worker finds in its cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Zeros: nobody wrote here since the memory was new or scrubbed.
    Nothing,
    /// The word that this generation of the device has here.
    Ours,
    /// A word of this earlier generation.
    Older(u64),
    /// A word of a later owner, of this generation at another place, or none that a worker writes.
    Wrong,
}

/// The word of `generation` and `worker` for the byte at `offset` of their device.
pub fn word(generation: u64, worker: usize, offset: usize) -> u64 {
    let mut proof = (generation << 40 ^ (worker as u64) << 32).wrapping_add(offset as u64);
    proof = (proof ^ proof >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    proof = (proof ^ proof >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    generation << 40 | (worker as u64) << 32 | proof >> 32
}

/// Judges what the worker's cell at `offset` shows to a mapping of `generation`.
pub fn judge(found: u64, generation: u64, worker: usize, offset: usize) -> Found {
    match found >> 40 {
        _ if found == 0 => Found::Nothing,
        _ if found == word(generation, worker, offset) => Found::Ours,
        // A page keeps its cells when it goes to another device; its offset there is not known here.
        older @ 1.. if older < generation && (found >> 32 & 0xff) as usize == worker => Found::Older(older),
        _ => Found::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_but_ones_own_is_told_apart() {
        let own = word(5, 3, 0x2000);
        assert_eq!(judge(own, 5, 3, 0x2000), Found::Ours);
        assert_eq!(judge(0, 5, 3, 0x2000), Found::Nothing);
        assert_eq!(judge(word(4, 3, 0x7000), 5, 3, 0x2000), Found::Older(4));
        for wrong in [word(6, 3, 0x2000), word(5, 3, 0x3000), word(5, 2, 0x2000), word(4, 2, 0x2000), 1] {
            assert_eq!(judge(wrong, 5, 3, 0x2000), Found::Wrong, "{wrong:#x}");
        }
    }
}
