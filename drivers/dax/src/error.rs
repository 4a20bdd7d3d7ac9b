//! Why the crate refused, with the values that it refused.

use crate::claims::Holder;
use crate::lifetime::LifetimeError;
use crate::name::{DaxName, DeviceName};
use core::fmt;
use mm::range::{MapSize, PhysRange};
use thiserror::Error;

/// A refusal to create, find, enable, kill or destroy something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[allow(missing_docs, reason = "the fields are the values that the message names")]
pub enum DaxError {
    /// The range starts at an address that is not a multiple of the alignment; only tails are trimmed. It could be
    /// used at alignments up to `fits`.
    #[error(
        "region{region} {range} starts at {:#x}, not a multiple of {align}: {}",
        .range.start(), Fits(*region, *fits)
    )]
    HeadMisaligned { region: u32, range: PhysRange, align: MapSize, fits: Option<MapSize> },
    /// The range is shorter than one entry of the alignment. It could be used at alignments up to `fits`.
    #[error(
        "region{region} {range} has {:#x} bytes, less than one entry of {align}: {}",
        .range.len_bytes(), Fits(*region, *fits)
    )]
    TooSmall { region: u32, range: PhysRange, align: MapSize, fits: Option<MapSize> },
    /// The range does not lie wholly inside its region.
    #[error("{range} is not inside region{region} {region_range}")]
    OutsideRegion { region: u32, region_range: PhysRange, range: PhysRange },
    /// Somebody holds a part of the range already (EBUSY).
    #[error("{range} is not free: {holder} holds {taken}")]
    Claimed { range: PhysRange, taken: PhysRange, holder: Holder },
    /// Two ranges of one request share bytes (EINVAL).
    #[error("{range} and {taken} of one request share bytes")]
    Twice { range: PhysRange, taken: PhysRange },
    /// A range starts or ends at no multiple of the alignment (EINVAL; ENXIO for a mapping).
    #[error("{range} does not start and end at multiples of {align}")]
    Misaligned { range: PhysRange, align: MapSize },
    /// A size is no multiple of the alignment of the device (EINVAL).
    #[error("region{region}: a size of {size_bytes:#x} bytes is not a multiple of {align}")]
    SizeMisaligned { region: u32, size_bytes: u64, align: MapSize },
    /// The free ranges of the region do not give as many bytes more in pieces of the device's alignment (ENOSPC).
    #[error(
        "region{region} has {available_bytes:#x} free bytes in pieces of {align}, \
         {asked_bytes:#x} are asked for"
    )]
    NoSpace { region: u32, asked_bytes: u64, available_bytes: u64, align: MapSize },
    /// A region of this number exists.
    #[error("region{region} exists already")]
    RegionExists { region: u32 },
    /// The region is not in this registry, or no longer (ENXIO).
    #[error("region{region} is not registered, or was removed")]
    NoSuchRegion { region: u32 },
    /// The region has devices, of which `by` is the first (EBUSY).
    #[error("region{region} is in use by {by}: destroy its devices first")]
    RegionInUse { region: u32, by: DeviceName },
    /// The device is not in this registry, or no longer (ENXIO).
    #[error("{name} is not registered, or was destroyed")]
    NoSuchDevice { name: DaxName },
    /// A device of this name exists (EEXIST).
    #[error("{name} exists already")]
    NameExists { name: DaxName },
    /// The device has no bytes: it is a seed (ENXIO).
    #[error("{name} has no bytes: give it a size first")]
    NoBytes { name: DeviceName },
    /// The device has bytes that an earlier owner may have written, the first of them in `range` (EBUSY).
    #[error("{name} has bytes of an earlier owner at {range}: they are to be zeroed first")]
    Unscrubbed { name: DeviceName, range: PhysRange },
    /// The device is mapped (EBUSY).
    #[error("{name} is mapped {mappings} time(s): disable it first")]
    Mapped { name: DeviceName, mappings: u32 },
    /// The device is being unmapped or scrubbed (EBUSY).
    #[error("{name} is being unmapped or scrubbed: wait for that to end")]
    AtWork { name: DeviceName },
    /// Somebody else holds the device (EBUSY).
    #[error("{name} is held by {holder}")]
    Held { name: DaxName, holder: &'static str },
    /// Every device number is in use (ENOSPC).
    #[error("all {limit} device numbers are in use: destroy a device and close its descriptors")]
    NoNumber { limit: u32 },
    /// No memory left for the bookkeeping (ENOMEM).
    #[error("out of memory")]
    NoMemory,
    /// The device is in no state for this.
    #[error("{name} {why}")]
    Lifetime { name: DaxName, why: LifetimeError },
    /// An access of no pages at all (ERANGE).
    #[error("{name}: an access of 0 pages, at least 1 is needed")]
    NoPages { name: DaxName },
    /// More or less than one page was to be zeroed (EIO).
    #[error("{name}: {pages} pages to be zeroed, they are zeroed one at a time")]
    ManyPages { name: DaxName, pages: u64 },
    /// The device's provider cannot do this (EOPNOTSUPP).
    #[error("{name}: its provider has no such operation")]
    NoOperation { name: DaxName },
    /// The access starts at this page of 4 KiB, behind the device's last (ERANGE).
    #[error("{name} ends before its page {page:#x}")]
    PastEnd { name: DaxName, page: u64 },
}

/// The largest alignment at which a range of this region is usable.
struct Fits(u32, Option<MapSize>);

impl fmt::Display for Fits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fits(region, Some(size)) => {
                write!(f, "the largest alignment that fits is {size} (dax.region{region}.align={size})")
            }
            Fits(_, None) => write!(f, "no alignment fits, not even 4K"),
        }
    }
}
