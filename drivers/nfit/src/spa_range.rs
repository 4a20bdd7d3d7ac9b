//! The SPA range structure (type 0): a range of system physical addresses and what is behind it.

use core::fmt;

use crate::bytes::write_flags;
use crate::entry::{Record, StructureType};
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

impl Record<'_> for SpaRange {
    const KIND: StructureType = StructureType::SPA_RANGE;

    fn parse(structure: &[u8]) -> Result<SpaRange, Reason> {
        let f = Self::fields::<56>(structure)?;
        let flags = f.u16::<6>();
        let location_cookie = if flags & Self::FLAG_LOCATION_COOKIE == 0 {
            Self::all_fields::<56>(structure)?;
            None
        } else {
            Some(Self::all_fields::<64>(structure)?.u64::<56>())
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
    /// Each with the digits of its GUID, and what a message calls it.
    const KNOWN: [(RangeKind, u128, &'static str); 8] = [
        (RangeKind::Persistent, 0x66f0d379_b4f3_4074_ac43_0d3318b78cdb, "persistent memory"),
        (RangeKind::Volatile, 0x7305944f_fdda_44e3_b16c_3f22d252e5d0, "volatile memory"),
        (RangeKind::ControlRegion, 0x92f701f6_13b4_405d_910b_299367e8234c, "NVDIMM control region"),
        (RangeKind::BlockDataWindow, 0x91af0530_5d86_470e_a6b0_0a2db9408249, "NVDIMM block data window"),
        (RangeKind::VolatileDisk, 0x77ab535a_45fc_624b_5560_f7b281d1f96e, "volatile virtual disk"),
        (RangeKind::VolatileCd, 0x3d5abd30_4175_87ce_6d64_d2ade523c4bb, "volatile virtual CD"),
        (RangeKind::PersistentDisk, 0x5cea02c9_4d07_69d3_269f_4496fbe096f9, "persistent virtual disk"),
        (RangeKind::PersistentCd, 0x08018188_42cd_bb48_100f_5387d53ded3d, "persistent virtual CD"),
    ];
}

impl From<Guid> for RangeKind {
    fn from(guid: Guid) -> RangeKind {
        let known = Self::KNOWN.iter().find(|(_, digits, _)| Guid::from_text_digits(*digits) == guid);
        known.map_or(RangeKind::Unknown(guid), |(kind, ..)| *kind)
    }
}

impl fmt::Display for RangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, Self::KNOWN.iter().find(|(kind, ..)| kind == self)) {
            (RangeKind::Unknown(guid), _) => write!(f, "unknown kind {guid}"),
            (_, known) => f.write_str(known.map_or("", |(.., name)| name)),
        }
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
        let unnamed = write_flags(f, self.0, Self::NAMES, "|")?;
        let separator = if unnamed == self.0 { "" } else { "|" };
        if unnamed != 0 || self.0 == 0 { write!(f, "{separator}{unnamed:#x}") } else { Ok(()) }
    }
}
