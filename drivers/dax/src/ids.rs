//! Small numbers given out lowest first: the minors of a system, the ids of a region.
//!
//! A bitmap with summaries: bit `i` of level `k + 1` says that word `i` of level `k` is full, so the lowest
//! free number is found by one look at each of the four levels. The words grow with the highest number in
//! use, and giving a number back never allocates (it happens when the last descriptor of a device closes).

use crate::error::DaxError;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Mutex;

const LEVELS: usize = 4;
const WORD_BITS: usize = u64::BITS as usize;

/// How many device numbers there are: the 20 bits that Linux gives a minor, under one dynamic major.
pub const MINORS: u32 = 1 << 20;

/// Which of the numbers `0..limit` are in use.
#[derive(Debug)]
pub struct IdSet {
    levels: [Vec<u64>; LEVELS],
    limit: u32,
}

impl IdSet {
    /// All of `0..limit` free. Four levels of 64 hold 2^24 numbers; a higher limit is that.
    pub const fn new(limit: u32) -> IdSet {
        let most = 1 << 24;
        IdSet { levels: [const { Vec::new() }; LEVELS], limit: if limit < most { limit } else { most } }
    }

    /// Takes the lowest free number. Fails with `NoNumber` when there is none, with `NoMemory` when the
    /// bitmap cannot grow.
    pub fn allocate(&mut self) -> Result<u32, DaxError> {
        let full = DaxError::NoNumber { limit: self.limit };
        let mut index = 0;
        for level in self.levels.iter().rev() {
            // A word that does not exist yet is all free.
            let free = level.get(index).copied().unwrap_or(0).trailing_ones() as usize;
            if free == WORD_BITS {
                return Err(full);
            }
            index = index * WORD_BITS + free;
        }
        let id = u32::try_from(index).ok().filter(|&id| id < self.limit).ok_or(full)?;
        self.grow(index)?;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(index / WORD_BITS) else { break };
            *word |= 1 << (index % WORD_BITS);
            if *word != u64::MAX {
                break;
            }
            index /= WORD_BITS;
        }
        Ok(id)
    }

    /// Gives a number back. Answers whether it was in use. Never allocates.
    pub fn release(&mut self, id: u32) -> bool {
        if !self.contains(id) {
            return false;
        }
        let mut index = id as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(index / WORD_BITS) else { break };
            let was_full = *word == u64::MAX;
            *word &= !(1 << (index % WORD_BITS));
            if !was_full {
                break;
            }
            index /= WORD_BITS;
        }
        true
    }

    /// Is the number in use?
    pub fn contains(&self, id: u32) -> bool {
        let index = id as usize;
        let [leaf, ..] = &self.levels;
        leaf.get(index / WORD_BITS).is_some_and(|word| word & (1 << (index % WORD_BITS)) != 0)
    }

    /// Makes sure that every level has the word that a change of number `index` may reach.
    fn grow(&mut self, index: usize) -> Result<(), DaxError> {
        let mut words = index;
        for level in &mut self.levels {
            words /= WORD_BITS;
            if level.len() <= words {
                let missing = words + 1 - level.len();
                level.try_reserve(missing).map_err(|_| DaxError::NoMemory)?;
                level.resize(words + 1, 0);
            }
        }
        Ok(())
    }
}

/// The device numbers of a system.
#[derive(Clone, Debug)]
pub struct MinorPool(Arc<Mutex<IdSet>>);

impl MinorPool {
    /// Numbers `0..limit`, all free; a system has [`MINORS`].
    pub fn new(limit: u32) -> MinorPool {
        MinorPool(Arc::new(Mutex::new(IdSet::new(limit))))
    }

    /// Takes the lowest free number for as long as the lease lives.
    pub fn lease(&self) -> Result<Minor, DaxError> {
        let number = self.0.lock().allocate()?;
        Ok(Minor { number, pool: self.clone() })
    }
}

/// A device number, in use until this drops.
#[derive(Debug)]
pub struct Minor {
    number: u32,
    pool: MinorPool,
}

impl Minor {
    /// The number.
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Minor {
    fn drop(&mut self) {
        self.pool.0.lock().release(self.number);
    }
}

#[cfg(test)]
mod tests;
