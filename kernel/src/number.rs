//! Numbers as Linux reads them from its command line and from /sys.

use core::num::IntErrorKind;

/// Why a text is no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadNumber {
    /// It has other characters than digits (EINVAL).
    Syntax,
    /// It passes 2^64 (ERANGE).
    TooLarge,
}

/// Reads a number as `kstrtoull(text, 0)` does: decimal, `0x` hexadecimal, or octal behind a leading 0. Nothing else
/// may stand in the text.
pub fn parse(text: &str) -> Result<u64, BadNumber> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => parse_radix(digits, 16),
        None if text.len() > 1 && text.starts_with('0') => parse_radix(text, 8),
        None => parse_radix(text, 10),
    }
}

/// Reads digits of this base.
pub fn parse_radix(digits: &str, radix: u32) -> Result<u64, BadNumber> {
    // from_str_radix takes a sign.
    if digits.starts_with('+') {
        return Err(BadNumber::Syntax);
    }
    u64::from_str_radix(digits, radix).map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => BadNumber::TooLarge,
        _ => BadNumber::Syntax,
    })
}

/// A number with a unit of K, M, G or T behind it, as `memparse` reads sizes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let unit = match text.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return parse(text).ok(),
    };
    parse(text.get(..text.len() - 1)?).ok()?.checked_mul(1 << unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_three_bases_and_nothing_else() {
        assert_eq!(["0", "17", "0x1F", "0X1f", "017"].map(parse), [0, 17, 31, 31, 15].map(Ok));
        assert_eq!(parse("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "0x", "-1", "+1", "0x+1", "08", "1 ", "1K"] {
            assert_eq!(parse(text), Err(BadNumber::Syntax), "{text}");
        }
        assert_eq!(parse("18446744073709551616"), Err(BadNumber::TooLarge));
        assert_eq!(parse("0x10000000000000000"), Err(BadNumber::TooLarge));
    }

    #[test]
    fn sizes_have_units_and_do_not_wrap() {
        assert_eq!(["4096", "4K", "2m", "0x1G"].map(parse_bytes), [4096, 4096, 2 << 20, 1 << 30].map(Some));
        assert_eq!(parse_bytes("16777215T"), Some(16_777_215 << 40));
        for text in ["", "K", "16777216T", "1MM", "1.5G", "2MiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
