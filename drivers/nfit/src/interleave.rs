//! The interleave structure (type 2): which lines of a range belong to one DIMM.

use crate::Reason;
use crate::bytes::items;
use crate::entry::{Record, StructureType};

/// Interleave structure, ACPI 6.5, 5.2.26.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interleave<'a> {
    /// The number by which mappings name this structure.
    pub index: u16,
    /// Bytes of a line.
    pub line_size: u32,
    /// `line_count` little-endian u32.
    line_offsets: &'a [u8],
}

impl<'a> Record<'a> for Interleave<'a> {
    const KIND: StructureType = StructureType::INTERLEAVE;

    fn parse(structure: &'a [u8]) -> Result<Interleave<'a>, Reason> {
        let f = Self::fields::<16>(structure)?;
        let line_offsets = Self::array::<4>(structure, 16, f.u32::<8>())?;
        Ok(Interleave { index: f.u16::<4>(), line_size: f.u32::<12>(), line_offsets })
    }
}

impl<'a> Interleave<'a> {
    /// Offset of each of the DIMM's lines from the mapping's region offset, in lines.
    pub fn line_offsets(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        items(self.line_offsets).map(u32::from_le_bytes)
    }
}
