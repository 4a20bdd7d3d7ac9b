//! Why a structure on the media cannot be used: one leaf error, with the offending values.

use crate::extent::Size;
use core::fmt;
use uuid::Uuid;

/// Why something that was recognised on the media cannot be used.
///
/// Each message names the offending value and what would be accepted; sizes and offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the Display text says what each value is")]
pub enum Error {
    // The head and the namespace.
    HeadNotRead { have_bytes: u64, need_bytes: u64 },
    NamespaceWraps { base_phys: u64, len_bytes: u64 },

    // Any structure.
    Checksum { stored: u64, computed: u64 },
    MajorVersion { found: u16, expected: u16 },

    // Info blocks, in the order in which Linux checks (reference section 4.1).
    ParentUuid { found: Uuid, expected: Uuid },
    MapMode(u32),
    PageSize(u32),
    PageStructSize(u16),
    Align(u64),
    AlignExceedsNamespace { align_bytes: u64, len_bytes: u64 },
    DataOffsetPastEnd { data_offset_bytes: u64, len_bytes: u64 },
    DataMisaligned { data_phys: u64, align_bytes: u64 },
    DataOffsetNotPages(u64),
    StartMisaligned { start_phys: u64 },
    EndMisaligned { end_phys: u64 },
    NoDataLeft { data_offset_bytes: u64, start_pad_bytes: u32, end_trunc_bytes: u32, len_bytes: u64 },
    DataOverInfoBlock { data_offset_bytes: u64 },
    LenMisaligned { len_bytes: u64, align_bytes: u64 },

    // Label areas (reference sections 3.2 and 3.3).
    LabelRead { offset_bytes: u64, len_bytes: u64 },
    LabelSize { log2_over_128: u8 },
    IndexSequence(u32),
    IndexOffset { found: u64, expected: u64 },
    OtherIndexOffset { found: u64, expected: u64 },
    IndexSize { found: u64, max: u64 },
    SlotCount { found: u32, max: u64 },
    LabelSlot { found: u32, expected: u32 },
    LabelNotPages { dpa: u64, rawsize_bytes: u64 },
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HeadNotRead { have_bytes, need_bytes } => {
                write!(f, "only {have_bytes} of its first {need_bytes} bytes could be read")
            }
            Self::NamespaceWraps { base_phys, len_bytes } => {
                write!(f, "{len_bytes:#x} bytes at {base_phys:#x} end past the last physical address")
            }
            Self::Checksum { stored, computed } => {
                write!(f, "checksum is {stored:#018x}, its bytes give {computed:#018x}")
            }
            Self::MajorVersion { found, expected } => {
                write!(f, "major version is {found}, only {expected} is known")
            }
            Self::ParentUuid { found, expected } if expected.is_nil() => {
                write!(f, "it belongs to the labelled namespace {found}, but no label of it is here")
            }
            Self::ParentUuid { found, expected } => {
                write!(f, "it belongs to the namespace {found}, not to {expected}")
            }
            Self::MapMode(mode) => write!(f, "map mode is {mode}, accepted are 1 (mem) and 2 (dev)"),
            Self::PageSize(bytes) => write!(f, "its page map is for pages of {bytes} bytes, more than 4096"),
            Self::PageStructSize(bytes) => {
                write!(f, "its page map has {bytes} bytes for each page, less than 64")
            }
            Self::Align(align) => write!(f, "alignment is {align:#x}, accepted are 4K, 2M and 1G"),
            Self::AlignExceedsNamespace { align_bytes, len_bytes } => {
                write!(f, "alignment {} exceeds the namespace's {}", Size(align_bytes), Size(len_bytes))
            }
            Self::DataOffsetPastEnd { data_offset_bytes, len_bytes } => {
                write!(f, "data offset {data_offset_bytes:#x} is not inside {len_bytes:#x} bytes")
            }
            Self::DataMisaligned { data_phys, align_bytes } => {
                write!(
                    f,
                    "data would start at {data_phys:#x}, no multiple of its align {}",
                    Size(align_bytes)
                )
            }
            Self::DataOffsetNotPages(offset) => write!(f, "data offset {offset:#x} is no multiple of 4K"),
            Self::StartMisaligned { start_phys } => {
                write!(f, "the namespace less its start pad starts at {start_phys:#x}, no multiple of 2M")
            }
            Self::EndMisaligned { end_phys } => {
                write!(f, "the namespace less its end trunc ends at {end_phys:#x}, no multiple of 2M")
            }
            Self::NoDataLeft { data_offset_bytes, start_pad_bytes, end_trunc_bytes, len_bytes } => write!(
                f,
                "data offset {data_offset_bytes:#x}, start pad {start_pad_bytes:#x} and \
                 end trunc {end_trunc_bytes:#x} leave nothing of {len_bytes:#x} bytes"
            ),
            Self::DataOverInfoBlock { data_offset_bytes } => {
                write!(f, "data offset {data_offset_bytes:#x} is below 8K, over the info block itself")
            }
            Self::LenMisaligned { len_bytes, align_bytes } => {
                write!(f, "its data is {len_bytes:#x} bytes, no multiple of its align {}", Size(align_bytes))
            }
            Self::LabelRead { offset_bytes, len_bytes } => {
                write!(f, "{len_bytes} bytes at offset {offset_bytes:#x} could not be read")
            }
            Self::LabelSize { log2_over_128 } => {
                write!(f, "label size is 128 << {log2_over_128}, accepted are 128 and 256")
            }
            Self::IndexSequence(seq) => write!(f, "index sequence is {seq:#x}, its low 2 bits must not be 0"),
            Self::IndexOffset { found, expected } => {
                write!(f, "index block says that it lies at {found:#x}, it lies at {expected:#x}")
            }
            Self::OtherIndexOffset { found, expected } => {
                write!(f, "index block says that the other lies at {found:#x}, that is at {expected:#x}")
            }
            Self::IndexSize { found, max } => write!(f, "index size is {found}, accepted are 72 to {max}"),
            Self::SlotCount { found, max } => write!(f, "index has {found} label slots, {max} fit the area"),
            Self::LabelSlot { found, expected } => {
                write!(f, "label in slot {expected} says that it is in slot {found}")
            }
            Self::LabelNotPages { dpa, rawsize_bytes } => {
                write!(f, "label's DPA {dpa:#x} or size {rawsize_bytes:#x} is no multiple of 4K")
            }
        }
    }
}
