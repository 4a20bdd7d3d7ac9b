//! The answer to "what is on this range", and how it is found.

use crate::extent::Size;
use crate::{
    ActiveSlot, Btt, Error, Extent, HEAD_BYTES, INFO_BLOCK_BYTES, InfoBlock, InfoBlockKind, Label, LabelArea,
    LabelIndex, Placement,
};
use core::fmt;
use uuid::Uuid;

/// What is on a persistent range. Its `Display` is one line for the log; the verdict is the reader's.
///
/// Only [`Found::Bare`] and [`Found::DevDax`] may become a device ([`Found::device`]); everything else is
/// somebody's data, and only the owner's explicit word may override that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one a region, at boot; without alloc there is no Box")]
pub enum Found {
    /// Neither a label nor an info block: the whole range is free to use.
    ///
    /// A label area that is initialised but has no label in use counts as bare, too: nothing is allocated
    /// there. (Linux gives no device then, as it takes the capacity for labelled namespaces to come.)
    Bare,
    /// A devdax info block: the device is the data that it describes, no byte more.
    DevDax(Placement),
    /// An fsdax info block: a file system's.
    FsDax(Placement),
    /// A block translation table.
    Btt(Btt),
    /// Namespace labels, which Daxite does not yet assemble.
    Labelled(Labelled),
    /// Labels of a CXL device, and how many.
    CxlLabels(u32),
    /// A structure by its signature, whose content does not hold or does not fit the range.
    Damaged {
        /// What it is by its signature, or what could not be read.
        what: Structure,
        /// Which value is wrong.
        why: Error,
    },
}

/// Labels in use in the label areas of a range's DIMMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Number of valid labels.
    pub labels: u32,
    /// Number of further slots in use whose label does not hold.
    pub damaged: u32,
    /// The first valid label; [`LabelIndex::for_each_active`] shows the rest.
    pub first: Label,
}

/// A part of the media that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The first 8 KiB of the namespace.
    Head,
    /// The info block of an fsdax or devdax namespace.
    InfoBlock(InfoBlockKind),
    /// The info block of a BTT.
    Btt,
    /// The label area of a DIMM.
    LabelArea,
}

/// Says what is on `namespace`, a whole range without regard to labels.
///
/// `head` is its first 8 KiB, or all of it when it is shorter: what is missing makes the answer
/// [`Found::Damaged`], never `Bare`. `labels` gives the label area of each DIMM that the range maps; a DIMM
/// without one is left out. A DIMM that takes part in several ranges tells the same to each: a label in use
/// speaks for all of them, as only assembling it would tell for which.
///
/// Order: labels, then BTT, then info blocks, as in Linux (reference section 4.1).
pub fn identify<A: LabelArea>(head: &[u8], labels: impl IntoIterator<Item = A>, namespace: Extent) -> Found {
    let found = match survey(labels) {
        Ok(None) => inspect_head(head, namespace),
        labelled_or_wrong => labelled_or_wrong,
    };
    match found {
        Ok(found) => found.unwrap_or(Found::Bare),
        Err((what, why)) => Found::Damaged { what, why },
    }
}

type Wrong = (Structure, Error);

/// Looks through all label areas; `None` when no slot is in use.
fn survey<A: LabelArea>(areas: impl IntoIterator<Item = A>) -> Result<Option<Found>, Wrong> {
    let wrong = |why| (Structure::LabelArea, why);
    let (mut labels, mut cxl, mut damaged) = (0u32, 0u32, 0u32);
    let (mut first, mut first_error) = (None, None);
    for mut area in areas {
        let Some(index) = LabelIndex::current(&mut area).map_err(wrong)? else { continue };
        index
            .for_each_active(&mut area, |slot| match slot {
                ActiveSlot::Label(label) => {
                    labels = labels.saturating_add(1);
                    first = first.or(Some(label));
                }
                ActiveSlot::Cxl => cxl = cxl.saturating_add(1),
                ActiveSlot::Damaged(error) => {
                    damaged = damaged.saturating_add(1);
                    first_error = first_error.or(Some(error));
                }
            })
            .map_err(wrong)?;
    }
    match (first, first_error) {
        (Some(first), _) => Ok(Some(Found::Labelled(Labelled { labels, damaged, first }))),
        (None, _) if cxl > 0 => Ok(Some(Found::CxlLabels(cxl))),
        (None, Some(error)) => Err(wrong(error)),
        (None, None) => Ok(None),
    }
}

/// Looks at both places for info blocks; `None` when neither has a signature.
fn inspect_head(head: &[u8], namespace: Extent) -> Result<Option<Found>, Wrong> {
    let Extent { base_phys, len_bytes } = namespace;
    let wrong = |why| (Structure::Head, why);
    namespace.end_phys().ok_or(wrong(Error::NamespaceWraps { base_phys, len_bytes }))?;
    let (have_bytes, need_bytes) = (head.len() as u64, len_bytes.min(HEAD_BYTES as u64));
    let head = head.get(..need_bytes as usize).ok_or(wrong(Error::HeadNotRead { have_bytes, need_bytes }))?;
    let (blocks, _) = head.as_chunks::<INFO_BLOCK_BYTES>();
    for block in blocks {
        if let Some(btt) = Btt::parse(block).map_err(|why| (Structure::Btt, why))? {
            return Ok(Some(Found::Btt(btt)));
        }
    }
    // The signature names the structure even when the rest of it does not hold.
    let block = blocks.get(1).and_then(|block| Some((block, InfoBlockKind::of(block)?)));
    let Some((block, kind)) = block else { return Ok(None) };
    let wrong = |why| (Structure::InfoBlock(kind), why);
    let Some(info) = InfoBlock::parse(block).map_err(wrong)? else { return Ok(None) };
    let placement = info.place(namespace, Uuid::nil()).map_err(wrong)?;
    Ok(Some(match kind {
        InfoBlockKind::DevDax => Found::DevDax(placement),
        InfoBlockKind::FsDax => Found::FsDax(placement),
    }))
}

impl Found {
    /// Returns the part of `namespace`, the range that was identified, that may become a device; `None`
    /// when none may.
    pub fn device(&self, namespace: Extent) -> Option<Extent> {
        match self {
            Self::Bare => Some(namespace),
            Self::DevDax(placement) => Some(Extent {
                base_phys: namespace.base_phys.checked_add(placement.data_offset_bytes)?,
                len_bytes: placement.len_bytes,
            }),
            Self::FsDax(_) | Self::Btt(_) | Self::Labelled(_) | Self::CxlLabels(_) | Self::Damaged { .. } => {
                None
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare => f.write_str("bare, no label and no info block"),
            Self::DevDax(placement) => write!(f, "devdax namespace, {placement}"),
            Self::FsDax(placement) => write!(f, "fsdax namespace, {placement}"),
            Self::Btt(btt) => write!(
                f,
                "BTT namespace, uuid {}, version {}.{}, sectors of {} bytes",
                btt.uuid, btt.major, btt.minor, btt.sector_bytes
            ),
            Self::Labelled(labelled) => write!(f, "labelled namespaces, {labelled}"),
            Self::CxlLabels(count) => write!(f, "CXL labels, {count} in use"),
            Self::Damaged { what, why } => write!(f, "damaged {what}: {why}"),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uuid, map, align_bytes, len_bytes, data_offset_bytes, .. } = self;
        let (align, len, offset) = (Size(*align_bytes), Size(*len_bytes), Size(*data_offset_bytes));
        write!(f, "uuid {uuid}, map={map}, align {align}, {len} at offset {offset}")
    }
}

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { labels, damaged, first } = self;
        let noun = if *labels == 1 { "label" } else { "labels" };
        write!(f, "{labels} {noun} in use")?;
        if *damaged > 0 {
            write!(f, " and {damaged} damaged")?;
        }
        // The name is the owner's bytes: escaped, so that it cannot forge a line of the log.
        let name = first.name().escape_ascii();
        write!(f, ", first \"{name}\", uuid {}, {}", first.uuid, Size(first.rawsize_bytes))
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head of the namespace"),
            Self::InfoBlock(kind) => write!(f, "{kind} info block"),
            Self::Btt => f.write_str("BTT info block"),
            Self::LabelArea => f.write_str("label area"),
        }
    }
}
