//! Sizes as users write them (`128K`, `2M`, `1G`) and as messages show them.

use std::fmt;
use std::str::FromStr;

/// 4 KiB: the unit of every size that the guest sees.
pub const PAGE: Size = Size(4 << 10);
/// 2 MiB.
pub const MIB_2: Size = Size(2 << 20);
/// 1 GiB.
pub const GIB: Size = Size(1 << 30);

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Whether this is a whole number of `unit`s; `unit` is not zero.
    pub fn is_multiple_of(self, unit: Self) -> bool {
        self.0.is_multiple_of(unit.0)
    }

    /// The largest multiple of `unit` that is not above this size; `unit` is not zero.
    pub fn round_down(self, unit: Self) -> Self {
        Self(self.0 - self.0 % unit.0)
    }

    /// The smallest multiple of `unit` that is not below this size, `None` past 64 bits.
    pub fn round_up(self, unit: Self) -> Option<Self> {
        self.0.checked_next_multiple_of(unit.0).map(Self)
    }

    /// The sum, `None` past 64 bits.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("'{text}' is not a size: write bytes or a whole number with K, M, G or T");
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(digits_end);
        let shift = match suffix.to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            suffix => {
                let unit = UNITS.iter().find(|(letter, _)| suffix.starts_with(*letter)).ok_or_else(refuse)?;
                match suffix.get(1..) {
                    Some("" | "IB") => unit.1,
                    _ => return Err(refuse()),
                }
            }
        };
        if digits.is_empty() {
            return Err(refuse());
        }
        let too_large = || format!("'{text}' is more than 64 bits can count");
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(too_large)
    }
}

impl fmt::Display for Size {
    /// The largest unit that divides the size (`1500M`, `128K`), plain bytes when none does.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match exact {
            Some((letter, shift)) => write!(out, "{}{letter}", self.0 >> shift),
            None if self.0 == 0 => out.write_str("0"),
            None => write!(out, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_users_write_them() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("4k", 4096), ("128KiB", 131_072), ("1G", 1 << 30), ("2tib", 2 << 40)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for text in ["", "G", "1.5G", "-1", "1X", "1Kb", "1GG", " 1G", "1\u{e9}"] {
            let refusal = text.parse::<Size>().expect_err(text);
            assert!(refusal.contains(&format!("'{text}' is not a size")), "{refusal}");
        }
    }

    #[test]
    fn sizes_past_64_bits_are_refused() {
        for text in ["18446744073709551616", "16777216T", "99999999999999999999G"] {
            assert!(text.parse::<Size>().expect_err(text).contains("64 bits"), "{text}");
        }
    }

    #[test]
    fn a_size_is_shown_in_its_largest_whole_unit() {
        for (bytes, shown) in [(0, "0"), (5000, "5000 bytes"), (131_072, "128K"), (1500 << 20, "1500M")] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
