//! What was not taken from the table, and why, in words for whoever wrote the table.

use core::fmt;

use crate::messages::messages;
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

messages! {
    /// Why a structure was not taken; the message names the offending value, and what would be accepted or what
    /// stays. Offsets are of other structures, from the start of the table.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the fields are the values that the message names")]
    pub enum Reason {
        /// Fewer than 4 bytes behind the last structure. The walk ends.
        TornHeader { left: usize } =>
            ("{left} bytes are left at the table's end, a structure starts with 4: not read"),
        /// A length of 0 to 3. The walk ends.
        LengthBelowHeader { kind: StructureType, length: usize } =>
            ("{kind} has length {length}, at least 4 is possible: the rest of the table is not read"),
        /// The structure runs past the end of the table. The walk ends.
        PastTableEnd { kind: StructureType, length: usize, left: usize } =>
            ("{kind} has length {length}, but the table ends after {left} bytes: not read"),
        /// More than [`MAX_STRUCTURES`]. The walk ends.
        TooManyStructures { left: usize } =>
            ("only {MAX_STRUCTURES} structures are read: the last {left} bytes of the table are not"),
        /// Not the one length that the structure has.
        WrongLength { kind: StructureType, length: usize, accepted: usize } =>
            ("{kind} has length {length}, must have {accepted}{}", why_so_long(kind)),
        /// Less than the structure's fixed part.
        TooShort { kind: StructureType, length: usize, least: usize } =>
            ("{kind} has length {length}, must have at least {least}"),
        /// An array with more items than the structure's length has room for.
        CountPastEnd { kind: StructureType, count: u32, fits: usize, length: usize } =>
            ("{kind} claims {count} items, its length {length} has room for {fits}"),
        /// A type that ACPI 6.5 reserves.
        ReservedType { kind: StructureType } => ("{kind} is skipped: ACPI 6.5 has types 0 to 7"),
        /// An index that an earlier structure of this type has.
        IndexTaken { kind: StructureType, index: u16, first_offset: usize } =>
            ("{kind} has index {index}, which the one at {first_offset:#x} has and keeps"),
        /// A second platform capabilities structure.
        CapabilitiesTaken { first_offset: usize } =>
            ("platform capabilities are given twice, those at {first_offset:#x} stay"),

        /// Range of obsolete block mode.
        BlockMode { range: RangeName, kind: RangeKind } =>
            ("{range} is blk ({kind}): that mode is obsolete and has no memory"),
        /// RAM disk or CD.
        VirtualDisk { range: RangeName, kind: RangeKind } => ("{range} is a {kind}, not memory for dax"),
        /// GUID that ACPI does not define.
        UnknownKind { range: RangeName, guid: Guid } => ("{range} has unknown type GUID {guid}"),
        /// The reserved range index.
        RangeIndexZero { range: RangeName } => ("{range} has the reserved index 0, must have another"),
        /// No byte, or bytes past the last address.
        EmptyOrWrapping { range: RangeName } =>
            ("{range} {}", if range.len_bytes == 0 { "is empty" } else { "wraps past the last address" }),
        /// Base or length is not a multiple of [`PAGE_BYTES`].
        NotWholePages { range: RangeName } =>
            ("{range} has base {:#x}, length {:#x}: must be multiples of {PAGE_BYTES}", range.base, range.len_bytes),
        /// An index that an earlier SPA range has.
        RangeIndexTaken { range: RangeName, first: RangeName, first_offset: usize } =>
            ("{range} has the index of {first} at {first_offset:#x}, which keeps it"),
        /// Bytes that an earlier SPA range has.
        Overlap { range: RangeName, other: RangeName } => ("{range} overlaps {other}"),
        /// May not be mapped write-back.
        NotWriteBack { range: RangeName, attributes: MemoryAttributes } =>
            ("{range} has attributes {attributes}, dax needs WB (write-back, 0x8)"),
        /// More than [`MAX_MAPPINGS`] good mappings.
        TooManyMappings { range: RangeName, count: usize } =>
            ("{range} has {count} mappings, at most {MAX_MAPPINGS} are possible"),

        /// A mapping whose control region is not in the table.
        NoControlRegion { handle: DeviceHandle, index: u16 } =>
            ("mapping of DIMM {handle} names control region {index}, which is not in the table"),
        /// A mapping whose handle stands for another DIMM earlier: other physical id or serial number.
        HandleTaken { handle: DeviceHandle, first_offset: usize } =>
            ("mapping of DIMM {handle} has another physical id or serial number than the mapping of this \
              handle at {first_offset:#x}, which stays"),
        /// A mapping whose SPA range is not in the table.
        NoRange { handle: DeviceHandle, range_index: u16 } =>
            ("mapping of DIMM {handle} names SPA range {range_index}, which is not in the table"),
        /// A mapping whose piece of the DIMM is empty, wraps or is not whole pages.
        BadPiece { handle: DeviceHandle, dpa: u64, len_bytes: u64 } =>
            ("mapping of DIMM {handle} has DIMM address {dpa:#x}, length {len_bytes:#x}: must be \
              multiples of {PAGE_BYTES}, not empty, not wrapping"),
        /// An earlier mapping has the same DIMM, region id and range.
        MappingTaken { handle: DeviceHandle, range_index: u16, first_offset: usize } =>
            ("mapping of DIMM {handle} to SPA range {range_index} has the region id of the one at \
              {first_offset:#x}, which stays"),
        /// Flush hints of a DIMM that has no mapping.
        NoDimm { handle: DeviceHandle } =>
            ("flush hints are for DIMM {handle}, of which the table has no mapping"),
        /// Second flush hints of a DIMM.
        FlushHintsTaken { handle: DeviceHandle, first_offset: usize } =>
            ("flush hints of DIMM {handle} are given twice, those at {first_offset:#x} stay"),
    }
}

fn why_so_long(kind: StructureType) -> &'static str {
    match kind {
        StructureType::SPA_RANGE => ": 64 if flag bit 2 announces a location cookie, otherwise 56",
        _ => "",
    }
}
