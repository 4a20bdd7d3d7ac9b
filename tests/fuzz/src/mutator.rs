//! Mutations of known inputs, guided by where a format has its structures.

use crate::{Numbers, Rng, Target};
use std::ops::Range;

/// Makes inputs for one target out of known ones.
pub struct Mutator<'a> {
    target: &'a Target,
    rng: Rng,
}

impl<'a> Mutator<'a> {
    /// The sequence of mutations of `seed`.
    pub fn new(target: &'a Target, seed: u64) -> Mutator<'a> {
        Mutator { target, rng: Rng::new(seed) }
    }

    /// The next input: a few mutations of one of `pool`, mostly with lengths and checksums made right.
    pub fn next_input(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.rng.pick(pool).cloned().unwrap_or_default();
        for _ in 0..=self.rng.below_log(8) {
            match self.rng.below(16) {
                0 => self.flip_bit(&mut input),
                1 => self.set_byte(&mut input),
                2..9 => self.write_number(&mut input),
                9 => self.copy_number(&mut input),
                10 => self.truncate(&mut input),
                11 => self.remove_piece(&mut input),
                12 | 13 => self.insert_piece(&mut input, pool),
                14 => self.overwrite_piece(&mut input, pool),
                _ => self.splice(&mut input, pool),
            }
        }
        input.truncate(self.target.max_bytes);
        if !self.rng.one_in(8) {
            (self.target.seal)(&mut input);
        }
        input
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        let at = self.place(input, 1);
        if let Some(byte) = input.get_mut(at) {
            *byte ^= 1 << self.rng.below(8);
        }
    }

    fn set_byte(&mut self, input: &mut [u8]) {
        let at = self.place(input, 1);
        if let Some(byte) = input.get_mut(at) {
            *byte = self.rng.bits() as u8;
        }
    }

    /// Replaces a number by an extreme one, or by a neighbour.
    fn write_number(&mut self, input: &mut [u8]) {
        let width = self.width();
        let field = self.place(input, width)..;
        let Some(field) = input.get_mut(field).and_then(|rest| rest.get_mut(..width)) else { return };
        let old = self.read(field);
        let power = 1u64 << self.rng.below(64);
        let value = match self.rng.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => power.wrapping_sub(1),
            3 => power,
            4 => self.rng.below(16) as u64,
            5 => old.wrapping_add(power),
            6 => old.wrapping_sub(power),
            _ => self.rng.bits() >> self.rng.below(64),
        };
        self.write(field, value);
    }

    /// Copies a number to another field, so that two structures collide or point at each other.
    fn copy_number(&mut self, input: &mut [u8]) {
        let width = self.width();
        let (from, to) = (self.place(input, width), self.place(input, width));
        if from.max(to) + width <= input.len() {
            input.copy_within(from..from + width, to);
        }
    }

    fn truncate(&mut self, input: &mut Vec<u8>) {
        let at = self.place(input, 1);
        input.truncate(at);
    }

    fn remove_piece(&mut self, input: &mut Vec<u8>) {
        let piece = self.piece(input);
        input.drain(piece);
    }

    fn insert_piece(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let piece = self.any_piece(input, pool);
        let at = self.piece(input).start;
        input.splice(at..at, piece);
    }

    fn overwrite_piece(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let piece = self.any_piece(input, pool);
        let at = self.piece(input);
        input.splice(at, piece);
    }

    /// Goes on as another input, from some structure on.
    fn splice(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let Some(other) = self.rng.pick(pool) else { return };
        let (keep, from) = (self.piece(input).start, self.piece(other).start);
        input.truncate(keep);
        input.extend_from_slice(&other[from..]);
    }

    /// A structure of this input or of another.
    fn any_piece(&mut self, input: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let source = match self.rng.pick(pool) {
            Some(other) if self.rng.one_in(2) => other,
            _ => input,
        };
        source[self.piece(source)].to_vec()
    }

    /// Where a structure of `input` lies.
    fn piece(&mut self, input: &[u8]) -> Range<usize> {
        let starts = (self.target.pieces)(input);
        let which = self.rng.below(starts.len());
        let start = starts.get(which).copied().unwrap_or(0).min(input.len());
        let end = starts.get(which + 1).copied().unwrap_or(input.len());
        start..end.clamp(start, input.len())
    }

    /// Where a field of `width` bytes may be: mostly aligned and near the start of a structure.
    fn place(&mut self, input: &[u8], width: usize) -> usize {
        let piece = self.piece(input);
        if self.rng.one_in(8) {
            return self.rng.below(input.len());
        }
        let within = self.rng.below_log(piece.len());
        match self.target.numbers {
            Numbers::Binary => piece.start + within / width * width,
            // The digits of a newc header begin behind its magic of 6 bytes.
            Numbers::Hex => piece.start + 6 + within / 8 * 8,
        }
    }

    fn width(&mut self) -> usize {
        match self.target.numbers {
            Numbers::Binary => 1 << self.rng.below(4),
            Numbers::Hex => 8,
        }
    }

    fn read(&self, field: &[u8]) -> u64 {
        match self.target.numbers {
            Numbers::Binary => field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)),
            Numbers::Hex => std::str::from_utf8(field)
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .unwrap_or(0),
        }
    }

    fn write(&self, field: &mut [u8], value: u64) {
        match self.target.numbers {
            Numbers::Binary => field.iter_mut().zip(value.to_le_bytes()).for_each(|(to, byte)| *to = byte),
            Numbers::Hex => {
                let digits = format!("{:08x}", value as u32);
                field.iter_mut().zip(digits.bytes()).for_each(|(to, digit)| *to = digit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CPIO, ELF, INFO_BLOCK, NFIT, PVH};

    #[test]
    fn a_seed_repeats_its_inputs_from_any_pool() {
        for target in [&NFIT, &INFO_BLOCK, &ELF, &CPIO, &PVH] {
            for pool in [vec![], vec![vec![]], vec![vec![0xff; 300], b"0707010000".to_vec()]] {
                let mut mutators = [Mutator::new(target, 3), Mutator::new(target, 3)];
                for _ in 0..500 {
                    let [one, other] = mutators.each_mut().map(|mutator| mutator.next_input(&pool));
                    assert_eq!(one, other);
                    assert!(one.len() <= target.max_bytes);
                }
            }
        }
    }
}
