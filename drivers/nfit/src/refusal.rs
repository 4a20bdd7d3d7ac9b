//! What was not taken from the table, and why, in words for whoever wrote the table.

use core::fmt;

use crate::{
    DeviceHandle, Guid, MAX_MAPPINGS, MAX_STRUCTURES, MemoryAttributes, PAGE_BYTES, RangeKind, StructureType,
};

/// A structure that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Offset of the structure from the start of the table, in bytes.
    pub offset: usize,
    /// Why.
    pub reason: Reason,
}

/// The reason, then the place: `... (table offset 0x28)`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (table offset {:#x})", self.reason, self.offset)
    }
}

/// A SPA range in a message: `SPA range 2 [0x100000000-0x13fffffff]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeName {
    /// The table's number for the range.
    pub range_index: u16,
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl fmt::Display for RangeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RangeName { range_index, base, len_bytes } = *self;
        match len_bytes.checked_sub(1).and_then(|less| base.checked_add(less)) {
            Some(last) => write!(f, "SPA range {range_index} [{base:#x}-{last:#x}]"),
            None => write!(f, "SPA range {range_index} [{base:#x}, {len_bytes:#x} bytes]"),
        }
    }
}

/// Why a structure was not taken. Offsets are of other structures, from the start of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the values that the message names")]
pub enum Reason {
    /// Fewer than 4 bytes behind the last structure. The walk ends.
    TornHeader { left: usize },
    /// A length of 0 to 3. The walk ends.
    LengthBelowHeader { kind: StructureType, length: usize },
    /// The structure runs past the end of the table. The walk ends.
    PastTableEnd { kind: StructureType, length: usize, left: usize },
    /// More than [`MAX_STRUCTURES`]. The walk ends.
    TooManyStructures { left: usize },
    /// Not the one length that the structure has.
    WrongLength { kind: StructureType, length: usize, accepted: usize },
    /// Less than the structure's fixed part.
    TooShort { kind: StructureType, length: usize, least: usize },
    /// An array with more items than the structure's length has room for.
    CountPastEnd { kind: StructureType, count: u32, fits: usize, length: usize },
    /// A type that ACPI 6.5 reserves.
    ReservedType { kind: StructureType },
    /// An index that an earlier structure of this type has.
    IndexTaken { kind: StructureType, index: u16, first_offset: usize },
    /// A second platform capabilities structure.
    CapabilitiesTaken { first_offset: usize },

    /// Range of obsolete block mode.
    BlockMode { range: RangeName, kind: RangeKind },
    /// RAM disk or CD.
    VirtualDisk { range: RangeName, kind: RangeKind },
    /// GUID that ACPI does not define.
    UnknownKind { range: RangeName, guid: Guid },
    /// The reserved range index.
    RangeIndexZero { range: RangeName },
    /// No byte, or bytes past the last address.
    EmptyOrWrapping { range: RangeName },
    /// Base or length is not a multiple of [`PAGE_BYTES`].
    NotWholePages { range: RangeName },
    /// An index that an earlier SPA range has.
    RangeIndexTaken { range: RangeName, first: RangeName, first_offset: usize },
    /// Bytes that an earlier SPA range has.
    Overlap { range: RangeName, other: RangeName },
    /// May not be mapped write-back.
    NotWriteBack { range: RangeName, attributes: MemoryAttributes },
    /// More than [`MAX_MAPPINGS`] good mappings.
    TooManyMappings { range: RangeName, count: usize },

    /// A mapping whose control region is not in the table.
    NoControlRegion { handle: DeviceHandle, index: u16 },
    /// A mapping whose handle stands for another DIMM earlier: other physical id or serial number.
    HandleTaken { handle: DeviceHandle, first_offset: usize },
    /// A mapping whose SPA range is not in the table.
    NoRange { handle: DeviceHandle, range_index: u16 },
    /// A mapping whose piece of the DIMM is empty, wraps or is not whole pages.
    BadPiece { handle: DeviceHandle, dpa: u64, len_bytes: u64 },
    /// An earlier mapping has the same DIMM, region id and range.
    MappingTaken { handle: DeviceHandle, range_index: u16, first_offset: usize },
    /// Flush hints of a DIMM that has no mapping.
    NoDimm { handle: DeviceHandle },
    /// Second flush hints of a DIMM.
    FlushHintsTaken { handle: DeviceHandle, first_offset: usize },
}

/// Names the offending value, and what would be accepted or what stays.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::TornHeader { left } => {
                write!(f, "{left} bytes are left at the table's end, a structure starts with 4: not read")
            }
            Reason::LengthBelowHeader { kind, length } => {
                write!(
                    f,
                    "{kind} has length {length}, at least 4 is possible: the rest of the table is not read"
                )
            }
            Reason::PastTableEnd { kind, length, left } => {
                write!(f, "{kind} has length {length}, but the table ends after {left} bytes: not read")
            }
            Reason::TooManyStructures { left } => {
                write!(
                    f,
                    "only {MAX_STRUCTURES} structures are read: the last {left} bytes of the table are not"
                )
            }
            Reason::WrongLength { kind: StructureType::SPA_RANGE, length, accepted } => write!(
                f,
                "SPA range structure has length {length}, must have {accepted}: 64 if flag bit 2 announces a \
                 location cookie, otherwise 56"
            ),
            Reason::WrongLength { kind, length, accepted } => {
                write!(f, "{kind} has length {length}, must have {accepted}")
            }
            Reason::TooShort { kind, length, least } => {
                write!(f, "{kind} has length {length}, must have at least {least}")
            }
            Reason::CountPastEnd { kind, count, fits, length } => {
                write!(f, "{kind} claims {count} items, its length {length} has room for {fits}")
            }
            Reason::ReservedType { kind } => write!(f, "{kind} is skipped: ACPI 6.5 has types 0 to 7"),
            Reason::IndexTaken { kind, index, first_offset } => {
                write!(f, "{kind} has index {index}, which the one at {first_offset:#x} has and keeps")
            }
            Reason::CapabilitiesTaken { first_offset } => {
                write!(f, "platform capabilities are given twice, those at {first_offset:#x} stay")
            }
            Reason::BlockMode { range, kind } => {
                write!(f, "{range} is blk ({kind}): that mode is obsolete and has no memory")
            }
            Reason::VirtualDisk { range, kind } => write!(f, "{range} is a {kind}, not memory for dax"),
            Reason::UnknownKind { range, guid } => write!(f, "{range} has unknown type GUID {guid}"),
            Reason::RangeIndexZero { range } => {
                write!(f, "{range} has the reserved index 0, must have another")
            }
            Reason::EmptyOrWrapping { range: range @ RangeName { len_bytes: 0, .. } } => {
                write!(f, "{range} is empty")
            }
            Reason::EmptyOrWrapping { range } => write!(f, "{range} wraps past the last address"),
            Reason::NotWholePages { range } => {
                let RangeName { base, len_bytes, .. } = range;
                write!(
                    f,
                    "{range} has base {base:#x}, length {len_bytes:#x}: must be multiples of {PAGE_BYTES}"
                )
            }
            Reason::RangeIndexTaken { range, first, first_offset } => {
                write!(f, "{range} has the index of {first} at {first_offset:#x}, which keeps it")
            }
            Reason::Overlap { range, other } => write!(f, "{range} overlaps {other}"),
            Reason::NotWriteBack { range, attributes } => {
                write!(f, "{range} has attributes {attributes}, dax needs WB (write-back, 0x8)")
            }
            Reason::TooManyMappings { range, count } => {
                write!(f, "{range} has {count} mappings, at most {MAX_MAPPINGS} are possible")
            }
            Reason::NoControlRegion { handle, index } => {
                write!(f, "mapping of DIMM {handle} names control region {index}, which is not in the table")
            }
            Reason::HandleTaken { handle, first_offset } => write!(
                f,
                "mapping of DIMM {handle} has another physical id or serial number than the mapping of this \
                 handle at {first_offset:#x}, which stays"
            ),
            Reason::NoRange { handle, range_index } => {
                write!(f, "mapping of DIMM {handle} names SPA range {range_index}, which is not in the table")
            }
            Reason::BadPiece { handle, dpa, len_bytes } => write!(
                f,
                "mapping of DIMM {handle} has DIMM address {dpa:#x}, length {len_bytes:#x}: must be \
                 multiples of {PAGE_BYTES}, not empty, not wrapping"
            ),
            Reason::MappingTaken { handle, range_index, first_offset } => write!(
                f,
                "mapping of DIMM {handle} to SPA range {range_index} has the region id of the one at \
                 {first_offset:#x}, which stays"
            ),
            Reason::NoDimm { handle } => {
                write!(f, "flush hints are for DIMM {handle}, of which the table has no mapping")
            }
            Reason::FlushHintsTaken { handle, first_offset } => {
                write!(f, "flush hints of DIMM {handle} are given twice, those at {first_offset:#x} stay")
            }
        }
    }
}
