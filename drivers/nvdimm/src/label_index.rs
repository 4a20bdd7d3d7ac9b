//! The index blocks of a label area: which is current, and which label slots are in use.
//!
//! Layout (reference sections 3.1, 3.2): index0, index1, label[0..slots). Both index blocks have the same
//! size, a multiple of 256 that follows from the size of the area and of a label. An update writes the
//! other block with the next sequence number, so after a crash one of them is whole.

use crate::Error;
use crate::error::{ensure, ensure_sum};
use crate::fletcher::Fletcher64;
use crate::label::{self, Label, LabelFormat, MAX_LABEL_BYTES};
use crate::label_area::{LabelArea, fetch};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Smaller areas hold no labels (`ND_LABEL_MIN_SIZE` in Linux).
const MIN_AREA_BYTES: u64 = 1024;
/// Size of the index header; the bitmap of free slots follows it.
const HEADER_BYTES: u64 = 72;
const INDEX_ALIGN: usize = 256;
const CHECKSUM_FIELD: core::ops::Range<usize> = 64..72;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawIndex {
    signature: [u8; 16],
    _flags: [u8; 3],
    label_size: u8,
    sequence: U32,
    my_offset: U64,
    my_size: U64,
    other_offset: U64,
    _label_offset: U64,
    slots: U32,
    major: U16,
    minor: U16,
    checksum: U64,
}

const _: () = assert!(size_of::<RawIndex>() as u64 == HEADER_BYTES);

/// Sizes that follow from the size of the area and the format of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    format: LabelFormat,
    index_bytes: u64,
    max_slots: u64,
}

impl Geometry {
    /// Computes as Linux does: the bitmap takes space of the slots that it describes.
    fn of(area_bytes: u64, format: LabelFormat) -> Option<Self> {
        if area_bytes < MIN_AREA_BYTES {
            return None;
        }
        let label_bytes = format.label_bytes();
        let index_for = |slots: u64| (HEADER_BYTES + slots.div_ceil(8)).next_multiple_of(INDEX_ALIGN as u64);
        let slots_beside = |index_bytes: u64| Some(area_bytes.checked_sub(2 * index_bytes)? / label_bytes);
        let index_bytes = index_for(slots_beside(index_for(area_bytes / label_bytes))?);
        // Linux does not check the bitmap's size: a hair more slots may fit the area than the bitmap.
        let max_slots = slots_beside(index_bytes)?.min((index_bytes - HEADER_BYTES) * 8);
        Some(Self { format, index_bytes, max_slots })
    }
}

/// The current index block of a label area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelIndex {
    geometry: Geometry,
    offset_bytes: u64,
    sequence: u32,
    slots: u32,
}

/// A slot that the index says is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "passed by value to one visitor, never stored in numbers")]
pub enum ActiveSlot {
    /// A namespace label.
    Label(Label),
    /// A label of a CXL device, for a region or a namespace.
    Cxl,
    /// A label that does not hold: Linux passes over it in silence.
    Damaged(Error),
}

impl LabelIndex {
    /// Finds the current index block of `area`, as Linux does: labels of 128 bytes are tried before 256.
    ///
    /// `Ok(None)` when no index block is there: the DIMM has no labels. When there are only invalid ones,
    /// the first one's error; when the area cannot be read, [`Error::LabelRead`].
    pub fn current(area: &mut impl LabelArea) -> Result<Option<Self>, Error> {
        let mut bad = None;
        for format in [LabelFormat::V1_1, LabelFormat::V1_2] {
            let Some(geometry) = Geometry::of(area.len_bytes(), format) else { continue };
            let mut valid = [None; 2];
            for (block, place) in valid.iter_mut().enumerate() {
                match probe(area, geometry, block as u64)? {
                    Ok(index) => *place = index,
                    Err(error) => bad = bad.or(Some(error)),
                }
            }
            match valid {
                [Some(first), Some(second)] => return Ok(Some(newer(first, second))),
                [Some(only), None] | [None, Some(only)] => return Ok(Some(only)),
                [None, None] => {}
            }
        }
        bad.map_or(Ok(None), Err)
    }

    /// Returns the format of the labels.
    pub fn format(&self) -> LabelFormat {
        self.geometry.format
    }

    /// Returns the sequence number, 1 to 3.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns the number of label slots.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Shows each slot in use to `visit`, in the order of slots. `area` is the one that the index is from.
    ///
    /// Error: [`Error::LabelRead`] when the area cannot be read; slots before that have been shown.
    pub fn for_each_active(
        &self,
        area: &mut impl LabelArea,
        mut visit: impl FnMut(ActiveSlot),
    ) -> Result<(), Error> {
        const PIECE: usize = 64;
        let bitmap_bytes = self.slots.div_ceil(8);
        let mut free = [0; PIECE];
        for piece_at in (0..bitmap_bytes).step_by(PIECE) {
            let (piece, _) = free.split_at_mut(PIECE.min((bitmap_bytes - piece_at) as usize));
            fetch(area, self.offset_bytes + HEADER_BYTES + u64::from(piece_at), piece)?;
            for (byte, bits) in (piece_at..).zip(piece.iter()) {
                let in_use = (0..8).filter(|bit| bits >> bit & 1 == 0).map(|bit| byte * 8 + bit);
                for slot in in_use.filter(|slot| *slot < self.slots) {
                    visit(self.read_slot(area, slot)?);
                }
            }
        }
        Ok(())
    }

    fn read_slot(&self, area: &mut impl LabelArea, slot: u32) -> Result<ActiveSlot, Error> {
        let format = self.geometry.format;
        let mut bytes = [0; MAX_LABEL_BYTES];
        let (label, _) = bytes.split_at_mut(format.label_bytes() as usize);
        fetch(area, 2 * self.geometry.index_bytes + u64::from(slot) * format.label_bytes(), label)?;
        if format == LabelFormat::V1_2 && label::is_cxl(&bytes) {
            return Ok(ActiveSlot::Cxl);
        }
        Ok(Label::parse(&bytes, slot, format).map_or_else(ActiveSlot::Damaged, ActiveSlot::Label))
    }
}

/// Picks the block written last: the one whose sequence number follows the other's in 1, 2, 3, 1.
/// Equal numbers never come from an update; Linux then takes the second.
fn newer(first: LabelIndex, second: LabelIndex) -> LabelIndex {
    let next = |sequence: u32| if sequence == 3 { 1 } else { sequence + 1 };
    let second_is_newer = first.sequence == second.sequence || next(first.sequence) == second.sequence;
    if second_is_newer { second } else { first }
}

/// What one of the two places for an index block holds: none, or one for labels of the other size, is `None`; an error
/// inside is that of a block which is one by its signature, but not to go by.
fn probe(
    area: &mut impl LabelArea,
    geometry: Geometry,
    block: u64,
) -> Result<Result<Option<LabelIndex>, Error>, Error> {
    let offset_bytes = block * geometry.index_bytes;
    let mut piece = [0; INDEX_ALIGN];
    fetch(area, offset_bytes, &mut piece)?;
    let Ok((raw, _)) = RawIndex::read_from_prefix(&piece) else { return Ok(Ok(None)) };
    if raw.signature != *b"NAMESPACE_INDEX\0" {
        return Ok(Ok(None));
    }
    match format_of(&raw) {
        Ok(format) if format == geometry.format => {}
        other => return Ok(other.map(|_| None)),
    }
    piece[CHECKSUM_FIELD].fill(0);
    let mut sum = Fletcher64::default().update(&piece);
    for at in (offset_bytes..offset_bytes + geometry.index_bytes).step_by(INDEX_ALIGN).skip(1) {
        fetch(area, at, &mut piece)?;
        sum = sum.update(&piece);
    }
    let other_bytes = (1 - block) * geometry.index_bytes;
    Ok(check(&raw, sum.finish(), geometry, offset_bytes, other_bytes).map(Some))
}

/// Sizes other than 128 came with version 1.2.
fn format_of(raw: &RawIndex) -> Result<LabelFormat, Error> {
    match raw.label_size {
        _ if (raw.major.get(), raw.minor.get()) < (1, 2) => Ok(LabelFormat::V1_1),
        0 => Ok(LabelFormat::V1_1),
        1 => Ok(LabelFormat::V1_2),
        log2_over_128 => Err(Error::LabelSize { log2_over_128 }),
    }
}

/// Linux's checks of an index block, in Linux's order.
fn check(
    raw: &RawIndex,
    computed: u64,
    geometry: Geometry,
    offset_bytes: u64,
    other_bytes: u64,
) -> Result<LabelIndex, Error> {
    let (sequence, slots) = (raw.sequence.get() & 3, raw.slots.get());
    ensure_sum(raw.checksum.get(), computed)?;
    ensure(sequence != 0, Error::IndexSequence(raw.sequence.get()))?;
    let (found, expected) = (raw.my_offset.get(), offset_bytes);
    ensure(found == expected, Error::IndexOffset { found, expected })?;
    let (found, expected) = (raw.other_offset.get(), other_bytes);
    ensure(found == expected, Error::OtherIndexOffset { found, expected })?;
    let (found, max) = (raw.my_size.get(), geometry.index_bytes);
    ensure((HEADER_BYTES..=max).contains(&found), Error::IndexSize { found, max })?;
    let max = geometry.max_slots;
    ensure(u64::from(slots) <= max, Error::SlotCount { found: slots, max })?;
    Ok(LabelIndex { geometry, offset_bytes, sequence, slots })
}
