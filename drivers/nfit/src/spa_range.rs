//! The SPA range structure (type 0): a range of system physical addresses and what is behind it.

use core::fmt;

use crate::bytes::Fields;
use crate::entry::{StructureType, fields};
use crate::{Guid, RangeName, Reason};

/// SPA range structure, ACPI 6.5, 5.2.26.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaRange {
    /// The number by which mappings name this range; 0 is reserved.
    pub range_index: u16,
    /// Bit 0 for hot add only, bit 1 proximity valid, bit 2 location cookie present.
    pub flags: u16,
    /// NUMA proximity domain; `None` when the table marks it invalid.
    pub proximity: Option<u32>,
    /// What kind of memory the range is.
    pub kind: RangeKind,
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// The ways in which the range may be mapped and what it promises.
    pub attributes: MemoryAttributes,
    /// Opaque mark of the range's place, kept by firmware across boots (ACPI 6.4).
    pub location_cookie: Option<u64>,
}

impl SpaRange {
    const FLAG_PROXIMITY_VALID: u16 = 1 << 1;
    const FLAG_LOCATION_COOKIE: u16 = 1 << 2;

    pub(crate) fn parse(structure: &[u8]) -> Result<SpaRange, Reason> {
        let f: Fields<'_, 56> = fields(StructureType::SPA_RANGE, structure)?;
        let flags = f.u16::<6>();
        let location_cookie = if flags & Self::FLAG_LOCATION_COOKIE == 0 {
            StructureType::SPA_RANGE.has_length(structure, 56)?;
            None
        } else {
            StructureType::SPA_RANGE.has_length(structure, 64)?;
            Some(fields::<64>(StructureType::SPA_RANGE, structure)?.u64::<56>())
        };
        let proximity_valid = flags & Self::FLAG_PROXIMITY_VALID != 0;
        Ok(SpaRange {
            range_index: f.u16::<4>(),
            flags,
            proximity: proximity_valid.then(|| f.u32::<12>()),
            kind: RangeKind::from(Guid(f.array::<16, 16>())),
            base: f.u64::<32>(),
            len_bytes: f.u64::<40>(),
            attributes: MemoryAttributes(f.u64::<48>()),
            location_cookie,
        })
    }

    /// The last physical address; `None` when the range is empty or wraps.
    pub fn last(&self) -> Option<u64> {
        self.base.checked_add(self.len_bytes.checked_sub(1)?)
    }

    /// Whether both ranges claim a byte. An empty or wrapping range claims none.
    pub fn overlaps(&self, other: &SpaRange) -> bool {
        match (self.last(), other.last()) {
            (Some(last), Some(other_last)) => self.base <= other_last && other.base <= last,
            _ => false,
        }
    }

    pub(crate) fn name(&self) -> RangeName {
        RangeName { range_index: self.range_index, base: self.base, len_bytes: self.len_bytes }
    }
}

/// What kind of memory a SPA range is: its GUID, ACPI 6.5, 5.2.26.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Persistent memory.
    Persistent,
    /// Volatile memory.
    Volatile,
    /// Registers of an NVDIMM (obsolete block mode).
    ControlRegion,
    /// Block data window (obsolete block mode).
    BlockDataWindow,
    /// RAM disk, volatile.
    VolatileDisk,
    /// RAM CD, volatile.
    VolatileCd,
    /// RAM disk, persistent.
    PersistentDisk,
    /// RAM CD, persistent.
    PersistentCd,
    /// A GUID that ACPI does not define.
    Unknown(Guid),
}

impl RangeKind {
    const GUIDS: [(Guid, RangeKind); 8] = [
        (Guid::from_text_digits(0x66f0d379_b4f3_4074_ac43_0d3318b78cdb), RangeKind::Persistent),
        (Guid::from_text_digits(0x7305944f_fdda_44e3_b16c_3f22d252e5d0), RangeKind::Volatile),
        (Guid::from_text_digits(0x92f701f6_13b4_405d_910b_299367e8234c), RangeKind::ControlRegion),
        (Guid::from_text_digits(0x91af0530_5d86_470e_a6b0_0a2db9408249), RangeKind::BlockDataWindow),
        (Guid::from_text_digits(0x77ab535a_45fc_624b_5560_f7b281d1f96e), RangeKind::VolatileDisk),
        (Guid::from_text_digits(0x3d5abd30_4175_87ce_6d64_d2ade523c4bb), RangeKind::VolatileCd),
        (Guid::from_text_digits(0x5cea02c9_4d07_69d3_269f_4496fbe096f9), RangeKind::PersistentDisk),
        (Guid::from_text_digits(0x08018188_42cd_bb48_100f_5387d53ded3d), RangeKind::PersistentCd),
    ];
}

impl From<Guid> for RangeKind {
    fn from(guid: Guid) -> RangeKind {
        let known = Self::GUIDS.iter().find(|(known, _)| *known == guid);
        known.map_or(RangeKind::Unknown(guid), |(_, kind)| *kind)
    }
}

impl fmt::Display for RangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RangeKind::Persistent => "persistent memory",
            RangeKind::Volatile => "volatile memory",
            RangeKind::ControlRegion => "NVDIMM control region",
            RangeKind::BlockDataWindow => "NVDIMM block data window",
            RangeKind::VolatileDisk => "volatile virtual disk",
            RangeKind::VolatileCd => "volatile virtual CD",
            RangeKind::PersistentDisk => "persistent virtual disk",
            RangeKind::PersistentCd => "persistent virtual CD",
            RangeKind::Unknown(guid) => return write!(f, "unknown kind {guid}"),
        })
    }
}

/// EFI memory attributes of a range: UEFI 2.10, 7.2.3, `EFI_MEMORY_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAttributes(pub u64);

impl MemoryAttributes {
    const NAMES: [(u64, &'static str); 13] = [
        (0x1, "UC"),
        (0x2, "WC"),
        (0x4, "WT"),
        (0x8, "WB"),
        (0x10, "UCE"),
        (0x1000, "WP"),
        (0x2000, "RP"),
        (0x4000, "XP"),
        (0x8000, "NV"),
        (0x1_0000, "MORE_RELIABLE"),
        (0x2_0000, "RO"),
        (0x4_0000, "SP"),
        (0x8_0000, "CPU_CRYPTO"),
    ];

    /// Whether the range may be mapped write-back cached.
    pub fn write_back(self) -> bool {
        self.0 & 0x8 != 0
    }
}

/// `WB|NV`; bits without a name as one hexadecimal number.
impl fmt::Display for MemoryAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unnamed = self.0;
        let mut separator = "";
        for (bit, name) in Self::NAMES {
            if self.0 & bit != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
                unnamed &= !bit;
            }
        }
        if unnamed != 0 || self.0 == 0 { write!(f, "{separator}{unnamed:#x}") } else { Ok(()) }
    }
}
