//! One namespace label: a piece of a namespace on one DIMM (reference section 3.3).

use crate::Error;
use crate::error::{ensure, ensure_sum};
use crate::fletcher::fletcher64;
use uuid::{Uuid, uuid};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Room for a label of either format.
pub(crate) const MAX_LABEL_BYTES: usize = 256;
const CHECKSUM_OFFSET: usize = 248;

/// Type uuids that open a CXL region and a CXL namespace label (CXL 2.0, tables 211 and 212).
const CXL_TYPES: [Uuid; 2] =
    [uuid!("529d7c61-da07-47c4-a93f-ecdf2c06f444"), uuid!("68bb2c0a-5a77-4937-9f85-3caf41a0f93c")];

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLabel {
    uuid: [u8; 16],
    name: [u8; 64],
    flags: U32,
    label_count: U16,
    position: U16,
    set_cookie: U64,
    _lba_size: U64,
    dpa: U64,
    rawsize: U64,
    slot: U32,
    // From here on only in v1.2.
    _align: u8,
    _reserved: [u8; 3],
    type_guid: [u8; 16],
    abstraction_guid: [u8; 16],
    _reserved2: [u8; 88],
    checksum: U64,
}

const _: () = assert!(size_of::<RawLabel>() == MAX_LABEL_BYTES);
const _: () = assert!(core::mem::offset_of!(RawLabel, checksum) == CHECKSUM_OFFSET);

/// The two sizes of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelFormat {
    /// 128 bytes, without checksum (before UEFI 2.7).
    V1_1,
    /// 256 bytes, with checksum, type and abstraction (UEFI 2.7).
    V1_2,
}

impl LabelFormat {
    /// Returns the size of a label in bytes.
    pub const fn label_bytes(self) -> u64 {
        match self {
            Self::V1_1 => 128,
            Self::V1_2 => MAX_LABEL_BYTES as u64,
        }
    }
}

/// A valid label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The namespace that this is a piece of.
    pub uuid: Uuid,
    name: [u8; 64],
    /// Number of labels, one for each DIMM, that make up the namespace.
    pub label_count: u16,
    /// Which of them this is, counted from 0.
    pub position: u16,
    /// Checksum over the identities of the DIMMs of the interleave set.
    pub set_cookie: u64,
    /// First byte of the piece in the DIMM's own addresses.
    pub dpa: u64,
    /// Bytes of the piece.
    pub rawsize_bytes: u64,
    /// Slot of the label area that holds the label.
    pub slot: u32,
    /// Kind of memory, the GUID of an NFIT SPA range; nil in v1.1.
    pub type_guid: Uuid,
    /// What the namespace is used as (none, BTT, fsdax, devdax); nil in v1.1.
    pub abstraction_guid: Uuid,
}

impl Label {
    /// Reads the label in `slot`; of `bytes`, a label of `format` is the front, and the rest is zero.
    ///
    /// Errors, in Linux's order: [`Error::LabelSlot`], [`Error::LabelNotPages`], and in v1.2
    /// [`Error::Checksum`].
    pub fn parse(bytes: &[u8; MAX_LABEL_BYTES], slot: u32, format: LabelFormat) -> Result<Self, Error> {
        let raw: &RawLabel = zerocopy::transmute_ref!(bytes);
        let found = raw.slot.get();
        ensure(found == slot, Error::LabelSlot { found, expected: slot })?;
        let (dpa, rawsize_bytes) = (raw.dpa.get(), raw.rawsize.get());
        ensure((dpa | rawsize_bytes).is_multiple_of(4096), Error::LabelNotPages { dpa, rawsize_bytes })?;
        if format == LabelFormat::V1_2 {
            let mut unsummed = *bytes;
            unsummed[CHECKSUM_OFFSET..].fill(0);
            ensure_sum(raw.checksum.get(), fletcher64(&unsummed))?;
        }
        let guid = |bytes| match format {
            LabelFormat::V1_1 => Uuid::nil(),
            // GUIDs are stored with their first three fields little-endian; the uuids are not.
            LabelFormat::V1_2 => Uuid::from_bytes_le(bytes),
        };
        Ok(Self {
            uuid: Uuid::from_bytes(raw.uuid),
            name: raw.name,
            label_count: raw.label_count.get(),
            position: raw.position.get(),
            set_cookie: raw.set_cookie.get(),
            dpa,
            rawsize_bytes,
            slot,
            type_guid: guid(raw.type_guid),
            abstraction_guid: guid(raw.abstraction_guid),
        })
    }

    /// Returns the name that the owner gave, without the padding; any bytes but NUL, often none.
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Whether the label opens with the type of a CXL label: another format, of which we know only that.
///
/// Linux stores the type in text order, and GUIDs elsewhere in the area are little-endian: either will do.
pub(crate) fn is_cxl(bytes: &[u8; MAX_LABEL_BYTES]) -> bool {
    let raw: &RawLabel = zerocopy::transmute_ref!(bytes);
    CXL_TYPES.contains(&Uuid::from_bytes(raw.uuid)) || CXL_TYPES.contains(&Uuid::from_bytes_le(raw.uuid))
}
