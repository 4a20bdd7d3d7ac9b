//! A range of physical addresses as bytes, and a way to print its sizes.

use core::fmt;

/// A range of physical memory: a namespace, or the part of it that is data.
///
/// Plain numbers, as they come from the firmware: `base_phys + len_bytes` may wrap here, and whoever
/// computes with it checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Physical address of the first byte.
    pub base_phys: u64,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl Extent {
    /// Returns the physical address behind the last byte; `None` when it lies past 2^64 - 1.
    pub fn end_phys(self) -> Option<u64> {
        self.base_phys.checked_add(self.len_bytes)
    }
}

/// Prints a size in the largest unit that holds it exactly: `2M`, `4030M`, `1G`, `513`.
pub(crate) struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "G"), (20, "M"), (10, "K")];
        let exact = |shift: u32| self.0 != 0 && self.0 & ((1 << shift) - 1) == 0;
        match units.into_iter().find(|(shift, _)| exact(*shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}
