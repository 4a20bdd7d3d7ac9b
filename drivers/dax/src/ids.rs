//! Small numbers given out lowest first: the minors of a system, the ids of a region.
//!
//! A bitmap with two levels of summaries. Its lowest level comes in blocks of 4096 numbers that exist only
//! while one of their numbers is in use: what a million devices took is given back with them. Giving a
//! number back never allocates (it happens when the last descriptor of a device closes).

use crate::error::DaxError;
use crate::memory;
use alloc::vec::Vec;

const WORD_BITS: usize = u64::BITS as usize;
const BLOCK: usize = WORD_BITS * WORD_BITS;

/// How many device numbers there are: the 20 bits that Linux gives a minor, under one dynamic major.
pub const MINORS: u32 = 1 << 20;

const BLOCKS: usize = MINORS as usize / BLOCK;

/// Which of the numbers `0..limit` are in use.
#[derive(Debug)]
pub struct IdSet {
    /// A bit for each block: all its numbers are in use.
    full: [u64; BLOCKS / WORD_BITS],
    blocks: Vec<Block>,
    limit: u32,
}

/// 4096 numbers.
#[derive(Clone, Debug, Default)]
struct Block {
    /// A bit for each word: all ones.
    full: u64,
    used: usize,
    /// A bit for each number; empty while none is in use.
    words: Vec<u64>,
}

impl IdSet {
    /// All of `0..limit` free; at most [`MINORS`].
    pub fn new(limit: u32) -> IdSet {
        let blocks = alloc::vec![Block::default(); BLOCKS];
        IdSet { full: [0; BLOCKS / WORD_BITS], blocks, limit: limit.min(MINORS) }
    }

    /// Takes the lowest free number. Fails with `NoNumber` when there is none, with `NoMemory` when the
    /// bitmap cannot grow.
    pub fn allocate(&mut self) -> Result<u32, DaxError> {
        let none = DaxError::NoNumber { limit: self.limit };
        let index = lowest_free(&self.full).ok_or(none)?;
        let block = self.blocks.get_mut(index).ok_or(none)?;
        let bit = lowest_free(&[block.full]).ok_or(none)?;
        let low = block.words.get(bit).map_or(0, |word| word.trailing_ones() as usize);
        let id = (index * BLOCK + bit * WORD_BITS + low) as u32;
        if id >= self.limit {
            return Err(none);
        }
        if block.words.is_empty() {
            memory::reserve(&mut block.words, WORD_BITS)?;
            block.words.resize(WORD_BITS, 0);
        }
        block.used += 1;
        let word = &mut block.words[bit];
        *word |= 1 << low;
        block.full |= u64::from(*word == u64::MAX) << bit;
        self.full[index / WORD_BITS] |= u64::from(block.full == u64::MAX) << (index % WORD_BITS);
        Ok(id)
    }

    /// Gives a number back. Answers whether it was in use. Never allocates.
    pub fn release(&mut self, id: u32) -> bool {
        let id = id as usize;
        let (index, word, bit) = (id / BLOCK, id % BLOCK / WORD_BITS, id % WORD_BITS);
        let Some(block) = self.blocks.get_mut(index) else { return false };
        match block.words.get_mut(word) {
            Some(bits) if *bits & (1 << bit) != 0 => *bits &= !(1 << bit),
            _ => return false,
        }
        block.full &= !(1 << word);
        block.used -= 1;
        if block.used == 0 {
            block.words = Vec::new();
        }
        self.full[index / WORD_BITS] &= !(1 << (index % WORD_BITS));
        true
    }
}

/// The lowest bit that is not set.
fn lowest_free(words: &[u64]) -> Option<usize> {
    let (index, word) = words.iter().enumerate().find(|(_, word)| **word != u64::MAX)?;
    Some(index * WORD_BITS + word.trailing_ones() as usize)
}

#[cfg(test)]
mod tests;
