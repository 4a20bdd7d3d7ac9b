//! The info block of fsdax and devdax namespaces, `struct nd_pfn_sb` (reference section 4.1).
//!
//! Reading has two steps, as the second needs to know where the namespace lies:
//! 1. [`InfoBlock::parse`]: signature, checksum, and the defaults for fields that an old minor lacks.
//! 2. [`InfoBlock::place`]: every value against the namespace, in Linux's order, so that of several wrong
//!    values we name the one that Linux would have stopped at.

use crate::error::{ensure, ensure_sum};
use crate::fletcher::info_block_checksum;
use crate::{Error, Extent, HEAD_BYTES, INFO_BLOCK_BYTES};
use core::fmt;
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

const PAGE: u64 = 4096;
/// What x86-64 Linux requires of both ends of a namespace with a page map (`memremap_compat_align`).
const SUBSECTION: u64 = 2 << 20;
/// Bytes of `struct page` that a page map on the media must have room for.
const PAGE_STRUCT_BYTES: u16 = 64;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawInfoBlock {
    signature: [u8; 16],
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    _flags: U32,
    major: U16,
    minor: U16,
    data_offset: U64,
    page_count: U64,
    mode: U32,
    start_pad: U32,
    end_trunc: U32,
    align: U32,
    page_size: U32,
    page_struct_size: U16,
    _padding: [u8; 3994],
    checksum: U64,
}

const _: () = assert!(size_of::<RawInfoBlock>() == INFO_BLOCK_BYTES);

/// The two uses that an info block announces by its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoBlockKind {
    /// `NVDIMM_DAX_INFO`: character devices.
    DevDax,
    /// `NVDIMM_PFN_INFO`: a block device whose file system may use dax.
    FsDax,
}

impl InfoBlockKind {
    /// Returns what the block is by its signature alone.
    pub(crate) fn of(block: &[u8; INFO_BLOCK_BYTES]) -> Option<Self> {
        let raw: &RawInfoBlock = zerocopy::transmute_ref!(block);
        match &raw.signature {
            b"NVDIMM_DAX_INFO\0" => Some(Self::DevDax),
            b"NVDIMM_PFN_INFO\0" => Some(Self::FsDax),
            _ => None,
        }
    }
}

impl fmt::Display for InfoBlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DevDax => "devdax",
            Self::FsDax => "fsdax",
        })
    }
}

/// Where Linux keeps the page map of the namespace, in ndctl's words. Daxite needs no page map; the name
/// is for the log, and the space that it took is in the data offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// In RAM.
    Mem,
    /// On the media, between the info block and the data.
    Dev,
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mem => "mem",
            Self::Dev => "dev",
        })
    }
}

/// The fields of an info block whose signature and checksum are right, not yet held against a namespace.
///
/// Fields that the block's minor version does not have carry the value that Linux assumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoBlock {
    /// devdax or fsdax.
    pub kind: InfoBlockKind,
    /// Identity of this layout, new whenever the namespace is created again.
    pub uuid: Uuid,
    /// Uuid of the labelled namespace that holds the block; nil on media without labels.
    pub parent_uuid: Uuid,
    /// Minor version, 0 to 4 known; the major is 1.
    pub minor: u16,
    /// Start of the data in bytes, counted from the namespace's start plus `start_pad_bytes`.
    pub data_offset_bytes: u64,
    /// Number of 4 KiB pages that the creator counted. Linux sizes nothing of devdax by it; nor do we.
    pub page_count: u64,
    /// Place of the page map: 1 in RAM, 2 on the media.
    pub mode: u32,
    /// Bytes left out at the start (minor 1; no longer written).
    pub start_pad_bytes: u32,
    /// Bytes left out at the end (minor 1).
    pub end_trunc_bytes: u32,
    /// Alignment of the data (minor 2); before that, and when the field is 0, the largest power of two
    /// that is not above the data offset. 0 only when the data offset is 0, too.
    pub align_bytes: u64,
    /// Page size of the kernel that made the page map (minor 4).
    pub page_size_bytes: u32,
    /// Bytes for each page in the page map (minor 4).
    pub page_struct_bytes: u16,
}

impl InfoBlock {
    /// Reads the 4096 bytes at namespace offset 4096.
    ///
    /// `Ok(None)` when neither signature is there. Errors: [`Error::Checksum`], [`Error::MajorVersion`].
    /// Source: `nd_pfn_validate` in Linux, up to the checksum; Linux does not look at the major version.
    pub fn parse(block: &[u8; INFO_BLOCK_BYTES]) -> Result<Option<Self>, Error> {
        let raw: &RawInfoBlock = zerocopy::transmute_ref!(block);
        let Some(kind) = InfoBlockKind::of(block) else { return Ok(None) };
        ensure_sum(raw.checksum.get(), info_block_checksum(block))?;
        let found = raw.major.get();
        ensure(found == 1, Error::MajorVersion { found, expected: 1 })?;
        let minor = raw.minor.get();
        let data_offset_bytes = raw.data_offset.get();
        let align_bytes = match raw.align.get() {
            align if minor >= 2 && align != 0 => u64::from(align),
            _ => data_offset_bytes.checked_ilog2().map_or(0, |log2| 1 << log2),
        };
        let since = |first: u16, value: u32, before: u32| if minor >= first { value } else { before };
        Ok(Some(Self {
            kind,
            uuid: Uuid::from_bytes(raw.uuid),
            parent_uuid: Uuid::from_bytes(raw.parent_uuid),
            minor,
            data_offset_bytes,
            page_count: raw.page_count.get(),
            mode: raw.mode.get(),
            start_pad_bytes: since(1, raw.start_pad.get(), 0),
            end_trunc_bytes: since(1, raw.end_trunc.get(), 0),
            align_bytes,
            page_size_bytes: since(4, raw.page_size.get(), 4096),
            page_struct_bytes: if minor >= 4 { raw.page_struct_size.get() } else { PAGE_STRUCT_BYTES },
        }))
    }

    /// Returns where the data lies when this block heads `namespace`, whose uuid is `parent` (nil without
    /// labels).
    ///
    /// The error is the first value that Linux would stop at. Two checks follow that Linux makes elsewhere:
    /// data below 8 KiB (`__nvdimm_setup_pfn`), and for devdax a length that is no multiple of the alignment
    /// (`alloc_dax_region`).
    pub fn place(&self, namespace: Extent, parent: Uuid) -> Result<Placement, Error> {
        let Extent { base_phys, len_bytes } = namespace;
        let end_phys = namespace.end_phys().ok_or(Error::NamespaceWraps { base_phys, len_bytes })?;
        let found = self.parent_uuid;
        ensure(found == parent, Error::ParentUuid { found, expected: parent })?;
        let map = self.map()?;
        let Self { align_bytes, data_offset_bytes, start_pad_bytes, end_trunc_bytes, .. } = *self;
        self.check_align()?;
        let no_data_left =
            Error::NoDataLeft { data_offset_bytes, start_pad_bytes, end_trunc_bytes, len_bytes };

        ensure(align_bytes <= len_bytes, Error::AlignExceedsNamespace { align_bytes, len_bytes })?;
        ensure(data_offset_bytes < len_bytes, Error::DataOffsetPastEnd { data_offset_bytes, len_bytes })?;
        let start_phys = base_phys.checked_add(start_pad_bytes.into()).ok_or(no_data_left)?;
        let data_phys = start_phys.checked_add(data_offset_bytes).ok_or(no_data_left)?;
        ensure(data_phys.is_multiple_of(align_bytes), Error::DataMisaligned { data_phys, align_bytes })?;
        ensure(data_offset_bytes.is_multiple_of(PAGE), Error::DataOffsetNotPages(data_offset_bytes))?;
        ensure(start_phys.is_multiple_of(SUBSECTION), Error::StartMisaligned { start_phys })?;
        let end_phys = end_phys.checked_sub(end_trunc_bytes.into()).ok_or(no_data_left)?;
        ensure(end_phys.is_multiple_of(SUBSECTION), Error::EndMisaligned { end_phys })?;
        ensure(data_phys < end_phys, no_data_left)?;
        ensure(data_offset_bytes >= HEAD_BYTES as u64, Error::DataOverInfoBlock { data_offset_bytes })?;
        let len_bytes = end_phys - data_phys;
        // fsdax may end anywhere.
        let whole = self.kind == InfoBlockKind::FsDax || len_bytes.is_multiple_of(align_bytes);
        ensure(whole, Error::LenMisaligned { len_bytes, align_bytes })?;
        Ok(Placement {
            uuid: self.uuid,
            parent_uuid: self.parent_uuid,
            map,
            align_bytes,
            data_offset_bytes: data_phys - base_phys,
            len_bytes,
            start_pad_bytes,
            end_trunc_bytes,
            minor: self.minor,
        })
    }

    fn map(&self) -> Result<Map, Error> {
        match self.mode {
            1 => Ok(Map::Mem),
            2 if u64::from(self.page_size_bytes) > PAGE => Err(Error::PageSize(self.page_size_bytes)),
            2 if self.page_struct_bytes < PAGE_STRUCT_BYTES => {
                Err(Error::PageStructSize(self.page_struct_bytes))
            }
            2 => Ok(Map::Dev),
            mode => Err(Error::MapMode(mode)),
        }
    }

    /// fsdax never maps by its alignment, so Linux takes any there; we ask for a power of two.
    fn check_align(&self) -> Result<(), Error> {
        let accepted = match self.kind {
            InfoBlockKind::DevDax => [4 << 10, 2 << 20, 1 << 30].contains(&self.align_bytes),
            InfoBlockKind::FsDax => self.align_bytes.is_power_of_two(),
        };
        ensure(accepted, Error::Align(self.align_bytes))
    }
}

/// Where the data of an fsdax or devdax namespace lies; its data range is inside the namespace, not empty,
/// starts behind the info block, and for devdax starts and ends on multiples of `align_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Identity of the layout.
    pub uuid: Uuid,
    /// Uuid of the labelled namespace; nil on media without labels.
    pub parent_uuid: Uuid,
    /// Where Linux keeps the page map.
    pub map: Map,
    /// Alignment that the creator chose: for devdax 4 KiB, 2 MiB or 1 GiB.
    pub align_bytes: u64,
    /// Start of the data, counted from the namespace's first byte: the start pad is in it.
    pub data_offset_bytes: u64,
    /// Length of the data as Linux shows it: less data offset, start pad and end trunc.
    pub len_bytes: u64,
    /// Bytes left out at the start.
    pub start_pad_bytes: u32,
    /// Bytes left out at the end.
    pub end_trunc_bytes: u32,
    /// Minor version of the info block.
    pub minor: u16,
}
