//! The flush hint address structure (type 6).

use crate::bytes::items;
use crate::entry::{Record, StructureType};
use crate::{DeviceHandle, Reason};

/// Flush hint address structure, ACPI 6.5, 5.2.26.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushHints<'a> {
    /// The DIMM whose write queues the hints flush.
    pub device_handle: DeviceHandle,
    /// `hint_count` little-endian u64.
    hints: &'a [u8],
}

impl<'a> Record<'a> for FlushHints<'a> {
    const KIND: StructureType = StructureType::FLUSH_HINTS;

    fn parse(structure: &'a [u8]) -> Result<FlushHints<'a>, Reason> {
        let f = Self::fields::<16>(structure)?;
        let hints = Self::array::<8>(structure, 16, u32::from(f.u16::<8>()))?;
        Ok(FlushHints { device_handle: DeviceHandle(f.u32::<4>()), hints })
    }
}

impl<'a> FlushHints<'a> {
    /// Physical addresses; an 8-byte store to any one of them flushes the DIMM's write queues.
    ///
    /// As firmware wrote them: a caller checks that an address is neither RAM nor in a region before
    /// it stores there.
    pub fn addresses(&self) -> impl Iterator<Item = u64> + Clone + use<'a> {
        items(self.hints).map(u64::from_le_bytes)
    }
}
