//! Random numbers that a seed repeats.

/// xorshift64* (Vigna 2016): small, fast, good enough to choose mutations.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// Begins the sequence of `seed`.
    pub fn new(seed: u64) -> Rng {
        // Seeds are often small and alike: spread their bits (splitmix64). The state must not be 0.
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Rng((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number below `bound` of any magnitude: small ones as often as large ones.
    pub fn below_log(&mut self, bound: usize) -> usize {
        let magnitudes = usize::BITS - bound.leading_zeros();
        self.below(bound) >> self.below(magnitudes as usize)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `items`; `None` when there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_bounds_hold() {
        let (mut one, mut other) = (Rng::new(7), Rng::new(7));
        for bound in 0..1000 {
            let number = one.below(bound);
            assert_eq!(number, other.below(bound));
            assert!(number < bound.max(1));
            assert_eq!(one.below_log(bound), other.below_log(bound));
        }
        assert_ne!(Rng::new(0).bits(), Rng::new(1).bits());
    }
}
