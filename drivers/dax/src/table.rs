//! A table of up to `CHUNKS * SLOTS` things by number, where a look-up costs the same however many there are.
//!
//! Two steps: the chunk, then the slot. Each chunk has a lock of its own, held for a few instructions: an
//! open takes no lock that all devices share. A chunk's slots exist only while one of them is in use or
//! reserved, so that what a million devices took is given back with them; the row of chunks (32 bytes each)
//! is there from the beginning.

use crate::error::DaxError;
use crate::memory;
use alloc::boxed::Box;
use mm::lock::{Rank, SpinLock};

/// Things by number.
pub(crate) struct Table<T, const CHUNKS: usize, const SLOTS: usize> {
    chunks: Box<[SpinLock<Chunk<T>>]>,
}

struct Chunk<T> {
    used: u32,
    /// `SLOTS` of them, or none.
    slots: Box<[Option<T>]>,
}

impl<T: Clone, const CHUNKS: usize, const SLOTS: usize> Table<T, CHUNKS, SLOTS> {
    /// Empty.
    pub fn new() -> Self {
        let chunk = |_| SpinLock::new(Rank::Minors, Chunk { used: 0, slots: Box::default() });
        Table { chunks: (0..CHUNKS).map(chunk).collect() }
    }

    /// What stands at `number`.
    pub fn get(&self, number: u32) -> Option<T> {
        self.with(number, |chunk, slot| chunk.slots.get(slot).cloned().flatten())?
    }

    /// Makes sure that there is a slot for `number`, until the answer is filled or dropped.
    ///
    /// Fails with `NoNumber` past the end of the table, or with `NoMemory`.
    pub fn reserve(&self, number: u32) -> Result<Place<'_, T, CHUNKS, SLOTS>, DaxError> {
        let made = self.with(number, |chunk, _| {
            if chunk.slots.is_empty() {
                let mut slots = memory::vec_of(SLOTS)?;
                slots.resize_with(SLOTS, || None);
                chunk.slots = slots.into_boxed_slice();
            }
            chunk.used += 1;
            Ok(Place { table: self, number, is_filled: false })
        });
        made.unwrap_or(Err(DaxError::NoNumber { limit: (CHUNKS * SLOTS) as u32 }))
    }

    /// Puts `thing` where another stands, and returns that.
    pub fn replace(&self, number: u32, thing: T) -> Option<T> {
        self.with(number, |chunk, slot| chunk.slots.get_mut(slot)?.replace(thing))?
    }

    /// Takes out what stands at `number`. The caller drops it: nothing is freed under a lock.
    pub fn remove(&self, number: u32) -> Option<T> {
        self.with(number, |chunk, slot| {
            let thing = chunk.slots.get_mut(slot)?.take()?;
            chunk.leave();
            Some(thing)
        })?
    }

    /// The first thing at `number` or behind, with its number.
    pub fn next_from(&self, number: u32) -> Option<(u32, T)> {
        let mut from = number as usize;
        while from < CHUNKS * SLOTS {
            let chunk = self.chunks.get(from / SLOTS)?.lock();
            let rest = chunk.slots.get(from % SLOTS..).unwrap_or(&[]).iter();
            if let Some((skip, thing)) =
                rest.enumerate().find_map(|(skip, slot)| Some((skip, slot.as_ref()?)))
            {
                return Some(((from + skip) as u32, thing.clone()));
            }
            from = (from / SLOTS + 1) * SLOTS;
        }
        None
    }

    /// How many slots are in use or reserved.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.lock().used as usize).sum()
    }

    fn with<R>(&self, number: u32, body: impl FnOnce(&mut Chunk<T>, usize) -> R) -> Option<R> {
        let chunk = self.chunks.get(number as usize / SLOTS)?;
        Some(body(&mut chunk.lock(), number as usize % SLOTS))
    }
}

impl<T> Chunk<T> {
    fn leave(&mut self) {
        self.used -= 1;
        if self.used == 0 {
            self.slots = Box::default();
        }
    }
}

/// A slot that is there for its number.
#[must_use]
pub(crate) struct Place<'a, T: Clone, const CHUNKS: usize, const SLOTS: usize> {
    table: &'a Table<T, CHUNKS, SLOTS>,
    number: u32,
    is_filled: bool,
}

impl<T: Clone, const CHUNKS: usize, const SLOTS: usize> Place<'_, T, CHUNKS, SLOTS> {
    /// Shows `thing` to everybody; it stays until [`Table::remove`].
    pub fn fill(mut self, thing: T) {
        self.is_filled = true;
        let number = self.number;
        self.table.with(number, |chunk, slot| chunk.slots.get_mut(slot).map(|place| *place = Some(thing)));
    }
}

impl<T: Clone, const CHUNKS: usize, const SLOTS: usize> Drop for Place<'_, T, CHUNKS, SLOTS> {
    fn drop(&mut self) {
        if !self.is_filled {
            self.table.with(self.number, |chunk, _| chunk.leave());
        }
    }
}
