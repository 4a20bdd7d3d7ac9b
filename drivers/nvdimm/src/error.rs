//! Why a structure on the media cannot be used: one leaf error, with the offending values.

use crate::extent::Size;
use core::fmt;
use uuid::Uuid;

/// Why something that was recognised on the media cannot be used.
///
/// Each message names the offending value and what would be accepted; sizes and offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each value is")]
pub enum Error {
    // The head and the namespace.
    #[error("only {have_bytes} of its first {need_bytes} bytes could be read")]
    HeadNotRead { have_bytes: u64, need_bytes: u64 },
    #[error("{len_bytes:#x} bytes at {base_phys:#x} end past the last physical address")]
    NamespaceWraps { base_phys: u64, len_bytes: u64 },

    // Any structure.
    #[error("checksum is {stored:#018x}, its bytes give {computed:#018x}")]
    Checksum { stored: u64, computed: u64 },
    #[error("major version is {found}, only {expected} is known")]
    MajorVersion { found: u16, expected: u16 },

    // Info blocks, in the order in which Linux checks (reference section 4.1).
    #[error("it belongs to the {}", Parent(*found, *expected))]
    ParentUuid { found: Uuid, expected: Uuid },
    #[error("map mode is {0}, accepted are 1 (mem) and 2 (dev)")]
    MapMode(u32),
    #[error("its page map is for pages of {0} bytes, more than 4096")]
    PageSize(u32),
    #[error("its page map has {0} bytes for each page, less than 64")]
    PageStructSize(u16),
    #[error("alignment is {0:#x}, accepted are 4K, 2M and 1G")]
    Align(u64),
    #[error("alignment {} exceeds the namespace's {}", Size(*align_bytes), Size(*len_bytes))]
    AlignExceedsNamespace { align_bytes: u64, len_bytes: u64 },
    #[error("data offset {data_offset_bytes:#x} is not inside {len_bytes:#x} bytes")]
    DataOffsetPastEnd { data_offset_bytes: u64, len_bytes: u64 },
    #[error("data would start at {data_phys:#x}, no multiple of its align {}", Size(*align_bytes))]
    DataMisaligned { data_phys: u64, align_bytes: u64 },
    #[error("data offset {0:#x} is no multiple of 4K")]
    DataOffsetNotPages(u64),
    #[error("the namespace less its start pad starts at {start_phys:#x}, no multiple of 2M")]
    StartMisaligned { start_phys: u64 },
    #[error("the namespace less its end trunc ends at {end_phys:#x}, no multiple of 2M")]
    EndMisaligned { end_phys: u64 },
    #[error(
        "data offset {data_offset_bytes:#x}, start pad {start_pad_bytes:#x} and \
         end trunc {end_trunc_bytes:#x} leave nothing of {len_bytes:#x} bytes"
    )]
    NoDataLeft { data_offset_bytes: u64, start_pad_bytes: u32, end_trunc_bytes: u32, len_bytes: u64 },
    #[error("data offset {data_offset_bytes:#x} is below 8K, over the info block itself")]
    DataOverInfoBlock { data_offset_bytes: u64 },
    #[error("its data is {len_bytes:#x} bytes, no multiple of its align {}", Size(*align_bytes))]
    LenMisaligned { len_bytes: u64, align_bytes: u64 },

    // Label areas (reference sections 3.2 and 3.3).
    #[error("{len_bytes} bytes at offset {offset_bytes:#x} could not be read")]
    LabelRead { offset_bytes: u64, len_bytes: u64 },
    #[error("label size is 128 << {log2_over_128}, accepted are 128 and 256")]
    LabelSize { log2_over_128: u8 },
    #[error("index sequence is {0:#x}, its low 2 bits must not be 0")]
    IndexSequence(u32),
    #[error("index block says that it lies at {found:#x}, it lies at {expected:#x}")]
    IndexOffset { found: u64, expected: u64 },
    #[error("index block says that the other lies at {found:#x}, that is at {expected:#x}")]
    OtherIndexOffset { found: u64, expected: u64 },
    #[error("index size is {found}, accepted are 72 to {max}")]
    IndexSize { found: u64, max: u64 },
    #[error("index has {found} label slots, {max} fit the area")]
    SlotCount { found: u32, max: u64 },
    #[error("label in slot {expected} says that it is in slot {found}")]
    LabelSlot { found: u32, expected: u32 },
    #[error("label's DPA {dpa:#x} or size {rawsize_bytes:#x} is no multiple of 4K")]
    LabelNotPages { dpa: u64, rawsize_bytes: u64 },
}

/// One value, held against its rule.
pub(crate) fn ensure(holds: bool, why: Error) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(why) }
}

/// A checksum, held against the bytes that it is of.
pub(crate) fn ensure_sum(stored: u64, computed: u64) -> Result<(), Error> {
    ensure(stored == computed, Error::Checksum { stored, computed })
}

/// Whose an info block is, and whose it was taken for: nil where there are no labels.
struct Parent(Uuid, Uuid);

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found, expected) = self;
        if expected.is_nil() {
            write!(f, "labelled namespace {found}, but no label of it is here")
        } else {
            write!(f, "namespace {found}, not to {expected}")
        }
    }
}
