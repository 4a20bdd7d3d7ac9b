//! The table as a whole: its header, and the checks after which its bytes may be walked.

use crate::bytes::Fields;
use crate::messages::messages;
use crate::{Capabilities, PersistenceDomain};

/// How many structures of a table are read; the rest is refused.
///
/// A DIMM takes three to five, so this is room for 400 of them and more. It bounds the questions that
/// walk the table for each structure.
pub const MAX_STRUCTURES: usize = 2048;

/// System description table header (36 bytes) and 4 reserved bytes, ACPI 6.5, 5.2.26.
const HEADER_BYTES: usize = 40;

/// A table with the right signature, length and checksum, or the structures that `_FIT` returned.
#[derive(Clone, Copy, Debug)]
pub struct Nfit<'a> {
    pub(crate) structures: &'a [u8],
    /// Offset of the first structure from the start of the table.
    pub(crate) first_offset: usize,
    revision: Option<u8>,
}

impl<'a> Nfit<'a> {
    /// Checks signature, length and checksum. Bytes behind the table's own length are cut off.
    ///
    /// Any revision is taken: ACPI has known only 1, tables of a later one must stay readable by old
    /// parsers (ACPI 6.5, 5.2), and each structure says its own type and length. See [`Nfit::revision`].
    ///
    /// # Errors
    /// [`TableError`]: the table cannot be trusted to be one, nothing of it is used.
    pub fn parse(bytes: &'a [u8]) -> Result<Nfit<'a>, TableError> {
        let header: Fields<'_, HEADER_BYTES> =
            Fields::of(bytes).ok_or(TableError::NoHeader { given: bytes.len() })?;
        let signature = header.array::<0, 4>();
        if signature != *b"NFIT" {
            return Err(TableError::Signature { found: signature });
        }
        let length = header.u32::<4>();
        let cut = TableError::Length { claimed: length, given: bytes.len() };
        let table = usize::try_from(length).ok().and_then(|len| bytes.get(..len)).ok_or(cut)?;
        let structures = table.get(HEADER_BYTES..).ok_or(cut)?;
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if sum != 0 {
            return Err(TableError::Checksum { sum, stored: header.u8::<9>() });
        }
        Ok(Nfit { structures, first_offset: HEADER_BYTES, revision: Some(header.u8::<8>()) })
    }

    /// Takes the structures that the ACPI method `_FIT` returns: they come without header and checksum,
    /// and offsets count from the first of them.
    pub fn from_fit(structures: &'a [u8]) -> Nfit<'a> {
        Nfit { structures, first_offset: 0, revision: None }
    }

    /// The table's revision, 1 in ACPI 6.5; `None` for what `_FIT` returned.
    pub fn revision(self) -> Option<u8> {
        self.revision
    }

    /// What the platform promises at power loss; `None` when the table does not say.
    pub fn capabilities(self) -> Option<Capabilities> {
        self.first(|_| true).map(|(_, capabilities)| capabilities)
    }

    /// How far a store must have got to survive power loss, on every region of this table.
    pub fn persistence(self) -> PersistenceDomain {
        self.capabilities().map_or(PersistenceDomain::Unknown, Capabilities::persistence)
    }

    /// Offset of the first structure of this table that `newer` lacks; `None` when nothing was dropped.
    ///
    /// A re-read of `_FIT` may only add: an update that drops a structure is to be rejected, as its memory
    /// may be in use.
    pub fn dropped_by(self, newer: Nfit<'_>) -> Option<usize> {
        let kept = |bytes: &[u8]| newer.raw_entries().flatten().any(|raw| raw.bytes == bytes);
        self.raw_entries().flatten().find(|raw| !kept(raw.bytes)).map(|raw| raw.offset)
    }
}

messages! {
    /// Why bytes are not an NFIT.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum TableError {
        /// Fewer bytes than a header.
        NoHeader {
            /// Bytes that were given.
            given: usize
        } => ("{given} bytes are too few for an NFIT: its header alone has {HEADER_BYTES}"),
        /// Another table.
        Signature {
            /// What stands in place of `NFIT`.
            found: [u8; 4]
        } => ("signature is \"{}\", an NFIT's is \"NFIT\"", found.escape_ascii()),
        /// The length in the header is below the header's own or above what was given.
        Length {
            /// Length that the header claims, in bytes.
            claimed: u32,
            /// Bytes that were given.
            given: usize
        } => ("NFIT header claims {claimed} bytes, {HEADER_BYTES} to {given} are possible with {given} given"),
        /// The bytes do not sum to 0.
        Checksum {
            /// What they sum to, modulo 256.
            sum: u8,
            /// The checksum byte, at offset 9.
            stored: u8
        } => (
            "NFIT bytes sum to {sum:#04x} instead of 0: the checksum at offset 9 is {stored:#04x}, {:#04x} would fit",
            stored.wrapping_sub(sum)
        ),
    }
}

impl core::error::Error for TableError {}
