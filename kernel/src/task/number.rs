//! Task numbers: from 2 up, each used again only when the rest were, as Linux does.

use mm::lock::{Rank, SpinLock};

/// Numbers are below this (Linux: PID_MAX_DEFAULT).
const LIMIT: usize = 32768;
/// Linux spares 0 and 1 signals, so no task gets them.
const FIRST: usize = 2;

struct Numbers {
    used: [u64; LIMIT / 64],
    last: usize,
}

static NUMBERS: SpinLock<Numbers> =
    SpinLock::new(Rank::Tasks, Numbers { used: [0; LIMIT / 64], last: FIRST - 1 });

/// A number that nobody else has until it is dropped.
pub(super) struct Number(i32);

impl Number {
    /// What idle tasks have.
    pub const NONE: Number = Number(0);

    /// The next free one.
    pub fn take() -> Option<Number> {
        let mut numbers = NUMBERS.lock();
        let Numbers { used, last } = &mut *numbers;
        let is_free = |&number: &usize| used[number / 64] & 1 << (number % 64) == 0;
        let number = (*last + 1..LIMIT).chain(FIRST..=*last).find(is_free)?;
        used[number / 64] |= 1 << (number % 64);
        *last = number;
        Some(Number(number as i32))
    }

    pub fn get(&self) -> i32 {
        self.0
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let number = self.0 as usize;
        if number >= FIRST {
            NUMBERS.lock().used[number / 64] &= !(1 << (number % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn numbers_are_unique_and_reused_last() {
        let first = Number::take().unwrap();
        let number = first.get();
        drop(first);
        assert_ne!(Number::take().unwrap().get(), number);
        let mut all: Vec<_> = core::iter::from_fn(Number::take).collect();
        assert_eq!(all.len(), LIMIT - FIRST);
        assert!(all.iter().all(|number| number.get() >= 2));
        all.sort_by_key(Number::get);
        all.dedup_by_key(|number| number.get());
        assert_eq!(all.len(), LIMIT - FIRST);
        let freed = all.swap_remove(1000).get();
        assert_eq!(Number::take().map(|number| number.get()), Some(freed));
    }
}
