//! Room for bookkeeping, asked for before anything changes: a program that creates devices until memory is
//! out gets an error, not a panic.
//!
//! Vectors grow fallibly by themselves. A stable `Arc` or `Box` does not: [`room_for`] allocates and frees a
//! block of the same size just before, so that only a CPU that takes this very block in between can make the
//! real allocation fail. A `BTreeMap` can do neither; those of this crate grow when a range is given back, by at
//! most one node. For both the kernel keeps a reserve of frames that programs cannot have.

use crate::error::DaxError;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

/// Is there room for one `Arc<T>` or `Box<T>`?
pub fn room_for<T>() -> Result<(), DaxError> {
    struct Counted<T> {
        _counts: [usize; 2],
        _value: MaybeUninit<T>,
    }
    // Kept from the optimiser, which may leave out an allocation that nobody uses.
    core::hint::black_box(vec_of::<Counted<T>>(1)?);
    Ok(())
}

/// An empty vector with room for exactly `len` elements.
pub fn vec_of<T>(len: usize) -> Result<Vec<T>, DaxError> {
    let mut vec = Vec::new();
    reserve(&mut vec, len)?;
    Ok(vec)
}

/// Room for exactly `more` elements.
pub fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<(), DaxError> {
    #[cfg(test)]
    injection::allocate()?;
    vec.try_reserve_exact(more).map_err(|_| DaxError::NoMemory)
}

/// Room for one more element, and for as many again as there are, so that pushing stays cheap.
pub fn reserve_one<T>(vec: &mut Vec<T>) -> Result<(), DaxError> {
    #[cfg(test)]
    injection::allocate()?;
    vec.try_reserve(1).map_err(|_| DaxError::NoMemory)
}

/// Makes the n-th allocation of a test fail.
#[cfg(test)]
pub mod injection {
    use super::DaxError;
    use core::cell::Cell;

    std::thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Runs `body` with its `n`-th allocation (from 0) failing; also tells whether it came so far.
    pub fn fail_nth<R>(n: u32, body: impl FnOnce() -> R) -> (R, bool) {
        LEFT.set(Some(n));
        let result = body();
        (result, LEFT.take().is_none())
    }

    pub fn allocate() -> Result<(), DaxError> {
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                Err(DaxError::NoMemory)
            }
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}
