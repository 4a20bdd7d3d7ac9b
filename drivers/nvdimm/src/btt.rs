//! The info block of a block translation table (reference section 4.2): recognised, never used.

use crate::error::ensure_sum;
use crate::fletcher::info_block_checksum;
use crate::{Error, INFO_BLOCK_BYTES};
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBtt {
    signature: [u8; 16],
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    _flags: U32,
    major: U16,
    minor: U16,
    external_lba_size: U32,
    external_lba_count: U32,
    _rest: [u8; 4024],
    checksum: U64,
}

const _: () = assert!(size_of::<RawBtt>() == INFO_BLOCK_BYTES);

/// The first arena of a BTT: a block device whose sectors are written atomically. Its blocks lie on the
/// media in an order that only its map knows, so mapping it raw would show, and spoil, scrambled data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Btt {
    /// Identity of the BTT.
    pub uuid: Uuid,
    /// Uuid of the labelled namespace that holds it; nil on media without labels.
    pub parent_uuid: Uuid,
    /// Major version: 1 at namespace offset 4096, 2 at offset 0.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Bytes of a sector as the block device shows them.
    pub sector_bytes: u32,
    /// Number of sectors in the first arena.
    pub sector_count: u32,
}

impl Btt {
    /// Reads the 4096 bytes at namespace offset 0 or 4096.
    ///
    /// `Ok(None)` when the signature is not there. Error: [`Error::Checksum`]. Nothing else is held against
    /// anything: the answer to a BTT is the same whatever its values are.
    pub fn parse(block: &[u8; INFO_BLOCK_BYTES]) -> Result<Option<Self>, Error> {
        let raw: &RawBtt = zerocopy::transmute_ref!(block);
        if raw.signature != *b"BTT_ARENA_INFO\0\0" {
            return Ok(None);
        }
        ensure_sum(raw.checksum.get(), info_block_checksum(block))?;
        Ok(Some(Self {
            uuid: Uuid::from_bytes(raw.uuid),
            parent_uuid: Uuid::from_bytes(raw.parent_uuid),
            major: raw.major.get(),
            minor: raw.minor.get(),
            sector_bytes: raw.external_lba_size.get(),
            sector_count: raw.external_lba_count.get(),
        }))
    }
}
