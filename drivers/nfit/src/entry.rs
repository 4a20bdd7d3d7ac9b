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
            StructureType::SMBIOS => Structure::Smbios(bytes.get(8..).ok_or(Reason::TooShort {
                kind: raw.kind,
                length: bytes.len(),
                least: 8,
            })?),
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

/// A structure with fields of its own.
pub(crate) trait Record<'a>: Sized {
    const KIND: StructureType;

    /// Reads a structure of this type.
    fn parse(structure: &'a [u8]) -> Result<Self, Reason>;

    /// The first `N` bytes, or that there are fewer.
    fn fields<const N: usize>(structure: &[u8]) -> Result<Fields<'_, N>, Reason> {
        let short = Reason::TooShort { kind: Self::KIND, length: structure.len(), least: N };
        Fields::of(structure).ok_or(short)
    }

    /// The `N` bytes that the structure has, no more and no fewer.
    fn all_fields<const N: usize>(structure: &[u8]) -> Result<Fields<'_, N>, Reason> {
        let wrong = Reason::WrongLength { kind: Self::KIND, length: structure.len(), accepted: N };
        Fields::of(structure).filter(|_| structure.len() == N).ok_or(wrong)
    }

    /// The `count` items of `WIDTH` bytes that follow the first `at` bytes.
    fn array<const WIDTH: usize>(structure: &[u8], at: usize, count: u32) -> Result<&[u8], Reason> {
        let (kind, length) = (Self::KIND, structure.len());
        let rest = structure.get(at..).unwrap_or_default();
        let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(WIDTH));
        let items = len.and_then(|len| rest.get(..len));
        items.ok_or(Reason::CountPastEnd { kind, count, fits: rest.len() / WIDTH, length })
    }
}

/// A structure known only by type and length.
#[derive(Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) offset: usize,
    pub(crate) kind: StructureType,
    pub(crate) bytes: &'a [u8],
}

impl<'a> RawEntry<'a> {
    /// The first of these structures, the `seen`-th of the table. One copy for the walks to every type.
    #[inline(never)]
    fn first(structures: &'a [u8], offset: usize, seen: usize) -> Result<RawEntry<'a>, Reason> {
        let left = structures.len();
        if seen == MAX_STRUCTURES {
            return Err(Reason::TooManyStructures { left });
        }
        let header: Fields<'_, 4> = Fields::of(structures).ok_or(Reason::TornHeader { left })?;
        let (kind, length) = (StructureType(header.u16::<0>()), usize::from(header.u16::<2>()));
        if length < 4 {
            return Err(Reason::LengthBelowHeader { kind, length });
        }
        let bytes = structures.get(..length).ok_or(Reason::PastTableEnd { kind, length, left })?;
        Ok(RawEntry { offset, kind, bytes })
    }
}

impl<'a> Nfit<'a> {
    /// The structures' headers in table order. After an error of length it ends: the next cannot be found.
    pub(crate) fn raw_entries(self) -> impl Iterator<Item = Result<RawEntry<'a>, (usize, Reason)>> + Clone {
        let (mut rest, mut offset, mut seen) = (self.structures, self.first_offset, 0);
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let entry = RawEntry::first(rest, offset, seen).map_err(|reason| (offset, reason));
            let len = entry.map_or(rest.len(), |entry| entry.bytes.len());
            rest = rest.get(len..).unwrap_or_default();
            (offset, seen) = (offset + len, seen + 1);
            Some(entry)
        })
    }

    /// Every structure in table order, good or bad; ends after the first whose length cannot be right.
    pub fn entries(self) -> impl Iterator<Item = Entry<'a>> + Clone {
        self.raw_entries().map(|raw| match raw {
            Ok(raw) => Entry { offset: raw.offset, content: Structure::parse(&raw) },
            Err((offset, reason)) => Entry { offset, content: Err(reason) },
        })
    }

    /// The well-formed structures of one type, with their offsets.
    pub(crate) fn all<T: Record<'a> + 'a>(self) -> impl Iterator<Item = (usize, T)> + Clone {
        let of_kind = self.raw_entries().flatten().filter(|raw| raw.kind == T::KIND);
        of_kind.filter_map(|raw| Some((raw.offset, T::parse(raw.bytes).ok()?)))
    }

    /// The first well-formed structure of one type that `is_it` accepts, with its offset.
    pub(crate) fn first<T: Record<'a> + 'a>(self, is_it: impl Fn(&T) -> bool) -> Option<(usize, T)> {
        self.all().find(|(_, structure)| is_it(structure))
    }

    /// The control region that `index` names: the first, should several claim it. Index 0 names none.
    pub(crate) fn control_region(self, index: u16) -> Option<ControlRegion> {
        let named = |region: &ControlRegion| index != 0 && region.index == index;
        self.first(named).map(|(_, region)| region)
    }
}
