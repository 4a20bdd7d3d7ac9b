//! Fuzz targets: what Daxite reads from firmware, media and programs must never make it panic or hang.
//!
//! A [`Target`] is a check and what a mutator needs to know of its format. Two drivers share it:
//! - `tests/plain.rs`: `cargo test` with any toolchain, 20 s each with the [`Mutator`] of this crate.
//!   `FUZZ_SECONDS` changes the time, `FUZZ_SEED` replays a run, `FUZZ_KEEP=1` keeps what gave a new answer.
//! - `fuzz_targets/`: libFuzzer, guided by coverage, for hours (cargo-fuzz and a nightly toolchain):
//!   `mkdir -p new && cargo fuzz run --fuzz-dir . --features libfuzzer nfit new corpus/nfit` in this folder
//!   writes what it finds to `new` and leaves the kept corpus alone.
//!
//! Both begin with every file of `corpus/TARGET/`. An input that failed lies in `artifacts/`: to keep it from
//! coming back, copy it to the corpus with the fix. The kernel's ACPI crate needs `RUSTC_BOOTSTRAP=1`; inside
//! of this folder cargo sets it.
//!
//! A check asserts what the parser promises to its caller, by the values alone: it must not compute them the
//! way the parser does. It returns the *shapes* of the answers (see [`shape`]), the plain test's stand-in for
//! coverage: an input with a shape not seen before becomes a seed of further ones.

mod cpio;
mod elf;
mod info_block;
mod mutator;
mod nfit;
mod pvh;
mod rng;

pub use cpio::{CPIO, check_cpio};
pub use elf::{ELF, check_elf};
pub use info_block::{INFO_BLOCK, check_info_block};
pub use mutator::Mutator;
pub use nfit::{NFIT, check_nfit};
pub use pvh::{PVH, check_pvh};
pub use rng::Rng;

use std::fmt::Display;

/// A parser under test.
pub struct Target {
    /// Name of the libFuzzer target and of the corpus folder.
    pub name: &'static str,
    /// Panics when the parser breaks a promise; else returns the shapes of its answers.
    pub check: fn(&[u8]) -> Vec<String>,
    /// Offsets of the structures in an input, ascending, 0 first: where fields and cuts are worth most.
    pub pieces: fn(&[u8]) -> Vec<usize>,
    /// Makes lengths and checksums right, so that a mutation gets past them.
    pub seal: fn(&mut [u8]),
    /// How the format writes numbers.
    pub numbers: Numbers,
    /// Inputs are cut to this length.
    pub max_bytes: usize,
}

/// How a format writes numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Little-endian, 1 to 8 bytes.
    Binary,
    /// Eight hexadecimal digits.
    Hex,
}

/// The text of `what`; panics unless it is one printable line, as the kernel's log needs.
pub fn line(what: &impl Display) -> String {
    let text = what.to_string();
    assert!(!text.is_empty(), "an empty message");
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "not a printable line: {text:?}");
    text
}

/// The message without its values: what is between the first and the last quote is left out, and each
/// number, each list of flags is a `#`.
pub fn shape(text: &str) -> String {
    let (before, after) = match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) => (&text[..first], &text[last..]),
        _ => (text, ""),
    };
    let mut shape = String::new();
    let mut word = String::new();
    for character in before.chars().chain(after.chars()).chain([' ']) {
        if character.is_ascii_alphanumeric() || matches!(character, '_' | '|') {
            word.push(character);
            continue;
        }
        let value = word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'|')
            || (word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
        shape.push_str(if value { "#" } else { &word });
        word.clear();
        shape.push(character);
    }
    shape.trim_end().to_owned()
}

/// The little-endian number of `N` bytes at `at`; `None` where the input ends before.
fn number<const N: usize>(input: &[u8], at: usize) -> Option<u64> {
    let bytes = input.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_keeps_words_and_drops_values() {
        assert_eq!(shape("SPA range 2 [0x100-0x1ff] overlaps"), "SPA range # [#-#] overlaps");
        assert_eq!(shape("first \"any\\\"name\", uuid deadbeef-0001"), "first \", uuid #-#");
        assert_eq!(shape("attributes UC|RO, not WB"), "attributes #, not WB");
    }

    #[test]
    #[should_panic(expected = "not a printable line")]
    fn line_that_could_forge_a_log_line_is_a_finding() {
        line(&"one\nwarning: two");
    }

    #[test]
    fn numbers_past_the_end_are_none() {
        assert_eq!(number::<2>(&[1, 2, 3], 1), Some(0x302));
        assert_eq!(number::<4>(&[1, 2, 3], 0), None);
        assert_eq!(number::<2>(&[1, 2, 3], usize::MAX), None);
    }
}
