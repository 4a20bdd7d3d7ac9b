//! The NVDIMM control region (type 4), which identifies a DIMM, and the block data window (type 5).

use core::fmt;

use crate::Reason;
use crate::entry::{Record, StructureType};

/// NVDIMM control region structure, ACPI 6.5, 5.2.26.6.
///
/// The identifiers are as stored; SPD keeps them byte-swapped against this (see [`UniqueId`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRegion {
    /// The number by which mappings name this structure.
    pub index: u16,
    /// Vendor of the module.
    pub vendor_id: u16,
    /// The vendor's number for the module.
    pub device_id: u16,
    /// Revision of the module.
    pub revision_id: u16,
    /// Vendor of the module's controller.
    pub subsystem_vendor_id: u16,
    /// That vendor's number for the controller.
    pub subsystem_device_id: u16,
    /// Revision of the controller.
    pub subsystem_revision_id: u16,
    /// Place and date of manufacture: (location, date); `None` when the table marks them invalid.
    pub manufacturing: Option<(u8, u16)>,
    /// Serial number of the module.
    pub serial: u32,
    /// Format interface code: 0x301 is byte-addressable, 0x201 block.
    pub format_code: u16,
    /// Number of block control windows; above 0 the module has the (obsolete) block mode.
    pub windows: u16,
}

impl ControlRegion {
    const VALID_MANUFACTURING: u8 = 1 << 0;

    /// The module's identity as `ndctl list -D` prints it in `id`.
    pub fn unique_id(&self) -> UniqueId {
        UniqueId { vendor_id: self.vendor_id, manufacturing: self.manufacturing, serial: self.serial }
    }
}

impl Record<'_> for ControlRegion {
    const KIND: StructureType = StructureType::CONTROL_REGION;

    fn parse(structure: &[u8]) -> Result<ControlRegion, Reason> {
        let f = Self::fields::<32>(structure)?;
        let windows = f.u16::<30>();
        if windows != 0 {
            // The window registers of block mode must be there, though nobody reads them any more.
            Self::fields::<80>(structure)?;
        }
        let manufactured = f.u8::<18>() & Self::VALID_MANUFACTURING != 0;
        Ok(ControlRegion {
            index: f.u16::<4>(),
            vendor_id: f.u16::<6>(),
            device_id: f.u16::<8>(),
            revision_id: f.u16::<10>(),
            subsystem_vendor_id: f.u16::<12>(),
            subsystem_device_id: f.u16::<14>(),
            subsystem_revision_id: f.u16::<16>(),
            manufacturing: manufactured.then(|| (f.u8::<19>(), f.u16::<20>())),
            serial: f.u32::<24>(),
            format_code: f.u16::<28>(),
            windows,
        })
    }
}

/// Identity of a module across slots and machines (ACPI 6.5, 5.2.26.10, NVDIMM representation format).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueId {
    vendor_id: u16,
    manufacturing: Option<(u8, u16)>,
    serial: u32,
}

/// `8680-56341200`, or `8680-0f-2311-56341200` with place and date of manufacture: bytes in stored order.
impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}-", self.vendor_id.swap_bytes())?;
        if let Some((location, date)) = self.manufacturing {
            write!(f, "{location:02x}-{:04x}-", date.swap_bytes())?;
        }
        write!(f, "{:08x}", self.serial.swap_bytes())
    }
}

/// NVDIMM block data window structure, ACPI 6.5, 5.2.26.7: obsolete, decoded for display only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockDataWindow {
    /// The control region that this structure belongs to.
    pub control_region_index: u16,
    /// Number of windows.
    pub windows: u16,
    /// Offset of the first window from its SPA range's base, in bytes.
    pub offset: u64,
    /// Bytes of one window.
    pub size: u64,
    /// Bytes that can be reached through the windows.
    pub capacity: u64,
    /// First DIMM physical address that can be reached.
    pub start: u64,
}

impl Record<'_> for BlockDataWindow {
    const KIND: StructureType = StructureType::BLOCK_DATA_WINDOW;

    fn parse(structure: &[u8]) -> Result<BlockDataWindow, Reason> {
        let f = Self::all_fields::<40>(structure)?;
        Ok(BlockDataWindow {
            control_region_index: f.u16::<4>(),
            windows: f.u16::<6>(),
            offset: f.u64::<8>(),
            size: f.u64::<16>(),
            capacity: f.u64::<24>(),
            start: f.u64::<32>(),
        })
    }
}
