//! A GUID as ACPI stores it.

use core::fmt;

/// A GUID in ACPI's byte order: the first three fields are little-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The GUID whose text form reads as these digits: 128 bits, first digit highest.
    pub const fn from_text_digits(digits: u128) -> Guid {
        let b = digits.to_be_bytes();
        // The order of ASL's ToUUID: bytes 3 2 1 0, 5 4, 7 6, then in order.
        Guid([
            b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
            b[15],
        ])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, rest @ ..] = self.0;
        let (a, b) = (u32::from_le_bytes([a0, a1, a2, a3]), u16::from_le_bytes([b0, b1]));
        let (c, d) = (u16::from_le_bytes([c0, c1]), u16::from_be_bytes([d0, d1]));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-")?;
        rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_and_stored_bytes_agree() {
        let guid = Guid::from_text_digits(0x66f0d379_b4f3_4074_ac43_0d3318b78cdb);
        let stored = [0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 0x0d, 0x33, 0x18];
        assert_eq!(guid.0[..13], stored);
        assert_eq!(guid.to_string(), "66f0d379-b4f3-4074-ac43-0d3318b78cdb");
    }
}
