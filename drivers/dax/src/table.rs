//! A table of up to `CHUNKS * SLOTS` things by number, where a look-up costs the same however many there are.
//!
//! Two steps: the chunk, then the slot. Each chunk has a lock of its own, held for a few instructions: an
//! open takes no lock that all devices share. A chunk's slots exist only while one of them is in use, so
//! that what a million devices took is given back with them; the row of chunks (32 bytes each)
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

    /// Puts `thing` at a number where nothing stands. Fails with `NoNumber` past the end of the table, or with
    /// `NoMemory`.
    pub fn insert(&self, number: u32, thing: T) -> Result<(), DaxError> {
        let put = self.with(number, |chunk, slot| {
            if chunk.slots.is_empty() {
                let mut slots = memory::vec_of(SLOTS)?;
                slots.resize_with(SLOTS, || None);
                chunk.slots = slots.into_boxed_slice();
            }
            if let Some(place) = chunk.slots.get_mut(slot) {
                *place = Some(thing);
                chunk.used += 1;
            }
            Ok(())
        });
        put.unwrap_or(Err(DaxError::NoNumber { limit: (CHUNKS * SLOTS) as u32 }))
    }

    /// Puts `thing` where another stands, and returns that.
    pub fn replace(&self, number: u32, thing: T) -> Option<T> {
        self.with(number, |chunk, slot| chunk.slots.get_mut(slot)?.replace(thing))?
    }

    /// Takes out what stands at `number`. The caller drops it: nothing is freed under a lock.
    pub fn remove(&self, number: u32) -> Option<T> {
        self.with(number, |chunk, slot| {
            let thing = chunk.slots.get_mut(slot)?.take()?;
            chunk.used -= 1;
            if chunk.used == 0 {
                chunk.slots = Box::default();
            }
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

    fn with<R>(&self, number: u32, body: impl FnOnce(&mut Chunk<T>, usize) -> R) -> Option<R> {
        let chunk = self.chunks.get(number as usize / SLOTS)?;
        Some(body(&mut chunk.lock(), number as usize % SLOTS))
    }
}
