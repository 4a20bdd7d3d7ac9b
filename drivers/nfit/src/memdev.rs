//! The NVDIMM region mapping structure (type 1): a piece of one DIMM and the SPA range it serves.

use core::fmt;

use crate::Reason;
use crate::bytes::write_flags;
use crate::entry::{Record, StructureType};

/// NVDIMM region mapping structure, ACPI 6.5, 5.2.26.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memdev {
    /// The DIMM.
    pub device_handle: DeviceHandle,
    /// Handle of the DIMM's SMBIOS type 17 record.
    pub physical_id: u16,
    /// Distinguishes the regions of one DIMM.
    pub region_id: u16,
    /// The SPA range that this piece serves; 0 when it serves none.
    pub range_index: u16,
    /// The control region that identifies the DIMM; 0 when there is none.
    pub control_region_index: u16,
    /// Length of this DIMM's piece in bytes.
    pub region_size: u64,
    /// Offset of this DIMM's first interleaved byte from the range's base, in bytes.
    pub region_offset: u64,
    /// First DIMM physical address of the piece.
    pub dpa: u64,
    /// The interleave structure; 0 when not interleaved.
    pub interleave_index: u16,
    /// Number of DIMMs in the interleave set.
    pub interleave_ways: u16,
    /// State of the DIMM at boot.
    pub state: DimmState,
}

impl Record<'_> for Memdev {
    const KIND: StructureType = StructureType::MEMDEV;

    fn parse(structure: &[u8]) -> Result<Memdev, Reason> {
        let f = Self::all_fields::<48>(structure)?;
        Ok(Memdev {
            device_handle: DeviceHandle(f.u32::<4>()),
            physical_id: f.u16::<8>(),
            region_id: f.u16::<10>(),
            range_index: f.u16::<12>(),
            control_region_index: f.u16::<14>(),
            region_size: f.u64::<16>(),
            region_offset: f.u64::<24>(),
            dpa: f.u64::<32>(),
            interleave_index: f.u16::<40>(),
            interleave_ways: f.u16::<42>(),
            state: DimmState(f.u16::<44>()),
        })
    }
}

/// NFIT device handle of a DIMM: its place in the machine, and its only identity in this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceHandle(pub u32);

impl DeviceHandle {
    /// DIMM number within its memory channel.
    pub fn dimm(self) -> u32 {
        self.0 & 0xf
    }

    /// Memory channel within its controller.
    pub fn channel(self) -> u32 {
        (self.0 >> 4) & 0xf
    }

    /// Memory controller within its socket.
    pub fn memory_controller(self) -> u32 {
        (self.0 >> 8) & 0xf
    }

    /// Socket within its node.
    pub fn socket(self) -> u32 {
        (self.0 >> 12) & 0xf
    }

    /// Node controller.
    pub fn node(self) -> u32 {
        (self.0 >> 16) & 0xfff
    }
}

impl fmt::Display for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// NVDIMM state flags of a mapping, ACPI 6.5, 5.2.26.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DimmState(pub u16);

impl DimmState {
    /// The names that Linux prints in `nmemX/flags`, by bit.
    const NAMES: [&'static str; 7] =
        ["save_fail", "restore_fail", "flush_fail", "not_armed", "smart_event", "smart_notify", "map_fail"];

    /// Whether stores survive power loss as far as this DIMM is concerned (bit 3 clear).
    pub fn armed(self) -> bool {
        self.0 & (1 << 3) == 0
    }

    /// Whether firmware failed to map the DIMM into the range (bit 6).
    pub fn map_failed(self) -> bool {
        self.0 & (1 << 6) != 0
    }
}

/// `not_armed map_fail`; nothing when no flag is set.
impl fmt::Display for DimmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = (0..).zip(Self::NAMES).map(|(bit, name)| (1 << bit, name));
        write_flags(f, self.0.into(), names, " ").map(|_reserved| ())
    }
}
