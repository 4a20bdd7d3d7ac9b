//! The walk over the table: one structure after another, each found by the length of the one before.

use core::fmt;

use crate::bytes::Fields;
use crate::{
    BlockDataWindow, Capabilities, ControlRegion, FlushHints, Interleave, MAX_STRUCTURES, Memdev, Nfit,
    Reason, SpaRange,
};

/// One place in the table and what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Offset of the structure from the start of the table, in bytes.
    pub offset: usize,
    /// The structure, or why its bytes are none.
    pub content: Result<Structure<'a>, Reason>,
}

/// A structure whose own bytes are in order; whether it fits the others [`Nfit::refusals`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure<'a> {
    /// Type 0.
    SpaRange(SpaRange),
    /// Type 1.
    Memdev(Memdev),
    /// Type 2.
    Interleave(Interleave<'a>),
    /// Type 3: SMBIOS records, as bytes.
    Smbios(&'a [u8]),
    /// Type 4.
    ControlRegion(ControlRegion),
    /// Type 5.
    BlockDataWindow(BlockDataWindow),
    /// Type 6.
    FlushHints(FlushHints<'a>),
    /// Type 7.
    Capabilities(Capabilities),
    /// A type that ACPI 6.5 reserves.
    Unknown(StructureType),
}

impl<'a> Structure<'a> {
    fn parse(raw: &RawEntry<'a>) -> Result<Structure<'a>, Reason> {
        let bytes = raw.bytes;
        Ok(match raw.kind {
            StructureType::SPA_RANGE => Structure::SpaRange(SpaRange::parse(bytes)?),
            StructureType::MEMDEV => Structure::Memdev(Memdev::parse(bytes)?),
            StructureType::INTERLEAVE => Structure::Interleave(Interleave::parse(bytes)?),
            StructureType::SMBIOS => {
                let _header: Fields<'_, 8> = fields(StructureType::SMBIOS, bytes)?;
                Structure::Smbios(bytes.get(8..).unwrap_or_default())
            }
            StructureType::CONTROL_REGION => Structure::ControlRegion(ControlRegion::parse(bytes)?),
            StructureType::BLOCK_DATA_WINDOW => Structure::BlockDataWindow(BlockDataWindow::parse(bytes)?),
            StructureType::FLUSH_HINTS => Structure::FlushHints(FlushHints::parse(bytes)?),
            StructureType::CAPABILITIES => Structure::Capabilities(Capabilities::parse(bytes)?),
            other => Structure::Unknown(other),
        })
    }
}

/// The type number at the head of a structure, ACPI 6.5, 5.2.26.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructureType(pub u16);

#[allow(missing_docs, reason = "the names say it all")]
impl StructureType {
    pub const SPA_RANGE: Self = Self(0);
    pub const MEMDEV: Self = Self(1);
    pub const INTERLEAVE: Self = Self(2);
    pub const SMBIOS: Self = Self(3);
    pub const CONTROL_REGION: Self = Self(4);
    pub const BLOCK_DATA_WINDOW: Self = Self(5);
    pub const FLUSH_HINTS: Self = Self(6);
    pub const CAPABILITIES: Self = Self(7);

    pub(crate) fn has_length(self, structure: &[u8], accepted: usize) -> Result<(), Reason> {
        if structure.len() == accepted {
            Ok(())
        } else {
            Err(Reason::WrongLength { kind: self, length: structure.len(), accepted })
        }
    }
}

impl fmt::Display for StructureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::SPA_RANGE => "SPA range structure",
            Self::MEMDEV => "mapping structure",
            Self::INTERLEAVE => "interleave structure",
            Self::SMBIOS => "SMBIOS structure",
            Self::CONTROL_REGION => "control region structure",
            Self::BLOCK_DATA_WINDOW => "block data window structure",
            Self::FLUSH_HINTS => "flush hint structure",
            Self::CAPABILITIES => "platform capabilities structure",
            Self(other) => return write!(f, "structure of type {other}"),
        })
    }
}

/// The first `N` bytes of `structure`, or that it is too short.
pub(crate) fn fields<const N: usize>(kind: StructureType, structure: &[u8]) -> Result<Fields<'_, N>, Reason> {
    Fields::of(structure).ok_or(Reason::TooShort { kind, length: structure.len(), least: N })
}

/// The `count` items of `WIDTH` bytes that follow the first `at` bytes of `structure`.
pub(crate) fn array<const WIDTH: usize>(
    kind: StructureType,
    structure: &[u8],
    at: usize,
    count: u32,
) -> Result<&[u8], Reason> {
    let rest = structure.get(at..).unwrap_or_default();
    let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(WIDTH));
    let items = len.and_then(|len| rest.get(..len));
    items.ok_or(Reason::CountPastEnd { kind, count, fits: rest.len() / WIDTH, length: structure.len() })
}

/// A structure known only by type and length.
#[derive(Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) offset: usize,
    pub(crate) kind: StructureType,
    pub(crate) bytes: &'a [u8],
}

/// The structures' headers in table order. After an error of length it ends: the next cannot be found.
#[derive(Clone)]
pub(crate) struct RawEntries<'a> {
    rest: &'a [u8],
    offset: usize,
    seen: usize,
}

impl<'a> RawEntries<'a> {
    pub(crate) fn new(structures: &'a [u8], offset: usize) -> RawEntries<'a> {
        RawEntries { rest: structures, offset, seen: 0 }
    }

    fn take(&mut self) -> Result<RawEntry<'a>, Reason> {
        if self.seen == MAX_STRUCTURES {
            return Err(Reason::TooManyStructures { left: self.rest.len() });
        }
        let header: Fields<'_, 4> =
            Fields::of(self.rest).ok_or(Reason::TornHeader { left: self.rest.len() })?;
        let (kind, length) = (StructureType(header.u16::<0>()), usize::from(header.u16::<2>()));
        if length < 4 {
            return Err(Reason::LengthBelowHeader { kind, length });
        }
        let past_end = Reason::PastTableEnd { kind, length, left: self.rest.len() };
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(past_end)?;
        let entry = RawEntry { offset: self.offset, kind, bytes };
        self.rest = rest;
        self.offset += length;
        self.seen += 1;
        Ok(entry)
    }
}

impl<'a> Iterator for RawEntries<'a> {
    type Item = Result<RawEntry<'a>, (usize, Reason)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken.map_err(|reason| (self.offset, reason)))
    }
}

impl<'a> Nfit<'a> {
    /// Every structure in table order, good or bad; ends after the first whose length cannot be right.
    pub fn entries(self) -> impl Iterator<Item = Entry<'a>> + Clone {
        self.raw_entries().map(|raw| match raw {
            Ok(raw) => Entry { offset: raw.offset, content: Structure::parse(&raw) },
            Err((offset, reason)) => Entry { offset, content: Err(reason) },
        })
    }

    /// The well-formed structures of one type, with their offsets.
    pub(crate) fn of_type<T: 'a>(
        self,
        kind: StructureType,
        parse: fn(&'a [u8]) -> Result<T, Reason>,
    ) -> impl Iterator<Item = (usize, T)> + Clone {
        let of_kind = self.raw_entries().flatten().filter(move |raw| raw.kind == kind);
        of_kind.filter_map(move |raw| Some((raw.offset, parse(raw.bytes).ok()?)))
    }

    /// The first well-formed structure of one type that `is_it` accepts, with its offset.
    pub(crate) fn first<T: 'a>(
        self,
        kind: StructureType,
        parse: fn(&'a [u8]) -> Result<T, Reason>,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<(usize, T)> {
        self.of_type(kind, parse).find(|(_, structure)| is_it(structure))
    }

    pub(crate) fn spa_ranges(self) -> impl Iterator<Item = (usize, SpaRange)> + Clone {
        self.of_type(StructureType::SPA_RANGE, SpaRange::parse)
    }

    pub(crate) fn memdevs(self) -> impl Iterator<Item = (usize, Memdev)> + Clone {
        self.of_type(StructureType::MEMDEV, Memdev::parse)
    }

    /// The control region that `index` names: the first, should several claim it. Index 0 names none.
    pub(crate) fn control_region(self, index: u16) -> Option<ControlRegion> {
        let named = |region: &ControlRegion| index != 0 && region.index == index;
        self.first(StructureType::CONTROL_REGION, ControlRegion::parse, named).map(|(_, region)| region)
    }
}
