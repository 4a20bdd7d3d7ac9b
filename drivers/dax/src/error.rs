//! Why the crate refused, with the values that it refused.

use crate::claims::Holder;
use crate::lifetime::LifetimeError;
use crate::name::{DaxName, DeviceName};
use core::fmt;
use mm::range::{MapSize, PhysRange};

/// A refusal to create, find, enable, kill or destroy something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DaxError {
    /// The range starts at an address that is not a multiple of the alignment; only tails are trimmed.
    HeadMisaligned {
        /// Number of the region.
        region: u32,
        /// The range asked for.
        range: PhysRange,
        /// The alignment asked for.
        align: MapSize,
        /// The largest alignment at which the range is usable.
        fits: Option<MapSize>,
    },
    /// The range is shorter than one entry of the alignment.
    TooSmall {
        /// Number of the region.
        region: u32,
        /// The range asked for.
        range: PhysRange,
        /// The alignment asked for.
        align: MapSize,
        /// The largest alignment at which the range is usable.
        fits: Option<MapSize>,
    },
    /// The range does not lie wholly inside its region.
    OutsideRegion {
        /// Number of the region.
        region: u32,
        /// The region's range.
        region_range: PhysRange,
        /// The range asked for.
        range: PhysRange,
    },
    /// Somebody holds a part of the range already (EBUSY).
    Claimed {
        /// The range asked for.
        range: PhysRange,
        /// What the holder holds.
        taken: PhysRange,
        /// Who holds it.
        holder: Holder,
    },
    /// Two ranges of one request share bytes (EINVAL).
    Twice {
        /// A range asked for.
        range: PhysRange,
        /// Another.
        taken: PhysRange,
    },
    /// A range starts or ends at no multiple of the alignment (EINVAL; ENXIO for a mapping).
    Misaligned {
        /// The range.
        range: PhysRange,
        /// The alignment.
        align: MapSize,
    },
    /// A size is no multiple of the alignment (EINVAL).
    SizeMisaligned {
        /// Number of the region.
        region: u32,
        /// The size asked for.
        size_bytes: u64,
        /// The alignment of the device.
        align: MapSize,
    },
    /// The free ranges of the region do not give as much (ENOSPC).
    NoSpace {
        /// Number of the region.
        region: u32,
        /// How many bytes more are wanted.
        asked_bytes: u64,
        /// How many there are in pieces of the alignment.
        available_bytes: u64,
        /// The alignment of the device.
        align: MapSize,
    },
    /// A region of this number exists.
    RegionExists {
        /// The number.
        region: u32,
    },
    /// The region is not in this registry, or no longer (ENXIO).
    NoSuchRegion {
        /// Its number.
        region: u32,
    },
    /// The region has devices (EBUSY).
    RegionInUse {
        /// Its number.
        region: u32,
        /// Its first device.
        by: DeviceName,
    },
    /// The device is not in this registry, or no longer (ENXIO).
    NoSuchDevice {
        /// Its name.
        name: DaxName,
    },
    /// A device of this name exists (EEXIST).
    NameExists {
        /// The name.
        name: DaxName,
    },
    /// The device has no bytes: it is a seed (ENXIO).
    NoBytes {
        /// Its name.
        name: DeviceName,
    },
    /// The device has bytes that an earlier owner may have written (EBUSY).
    Unscrubbed {
        /// Its name.
        name: DeviceName,
        /// The first of them.
        range: PhysRange,
    },
    /// The device is mapped (EBUSY).
    Mapped {
        /// Its name.
        name: DeviceName,
        /// How often.
        mappings: u32,
    },
    /// The device is being unmapped or scrubbed (EBUSY).
    AtWork {
        /// Its name.
        name: DeviceName,
    },
    /// Somebody else holds the device (EBUSY).
    Held {
        /// Its name.
        name: DaxName,
        /// Who.
        holder: &'static str,
    },
    /// Every device number is in use (ENOSPC).
    NoNumber {
        /// How many there are.
        limit: u32,
    },
    /// No memory left for the bookkeeping (ENOMEM).
    NoMemory,
    /// The device is in no state for this.
    Lifetime {
        /// Its name.
        name: DaxName,
        /// What is in the way.
        why: LifetimeError,
    },
    /// An access of no pages at all (ERANGE).
    NoPages {
        /// Name of the device.
        name: DaxName,
    },
    /// More or less than one page was to be zeroed (EIO).
    ManyPages {
        /// Name of the device.
        name: DaxName,
        /// How many.
        pages: u64,
    },
    /// The device's provider cannot do this (EOPNOTSUPP).
    NoOperation {
        /// Name of the device.
        name: DaxName,
    },
    /// The access starts behind the device's last page (ERANGE).
    PastEnd {
        /// Name of the device.
        name: DaxName,
        /// The first page asked for, in units of 4 KiB.
        page: u64,
    },
}

impl fmt::Display for DaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DaxError::HeadMisaligned { region, range, align, fits } => {
                let start = range.start();
                write!(f, "region{region} {range} starts at {start:#x}, not a multiple of {align}: ")?;
                write_fitting(f, region, fits)
            }
            DaxError::TooSmall { region, range, align, fits } => {
                let len = range.len_bytes();
                write!(f, "region{region} {range} has {len:#x} bytes, less than one entry of {align}: ")?;
                write_fitting(f, region, fits)
            }
            DaxError::OutsideRegion { region, region_range, range } => {
                write!(f, "{range} is not inside region{region} {region_range}")
            }
            DaxError::Claimed { range, taken, holder } => {
                write!(f, "{range} is not free: {holder} holds {taken}")
            }
            DaxError::Twice { range, taken } => write!(f, "{range} and {taken} of one request share bytes"),
            DaxError::Misaligned { range, align } => {
                write!(f, "{range} does not start and end at multiples of {align}")
            }
            DaxError::SizeMisaligned { region, size_bytes, align } => {
                write!(f, "region{region}: a size of {size_bytes:#x} bytes is not a multiple of {align}")
            }
            DaxError::NoSpace { region, asked_bytes, available_bytes, align } => write!(
                f,
                "region{region} has {available_bytes:#x} free bytes in pieces of {align}, \
                 {asked_bytes:#x} are asked for"
            ),
            DaxError::NoSuchRegion { region } => {
                write!(f, "region{region} is not registered, or was removed")
            }
            DaxError::RegionInUse { region, by } => {
                write!(f, "region{region} is in use by {by}: destroy its devices first")
            }
            DaxError::NameExists { name } => write!(f, "{name} exists already"),
            DaxError::NoBytes { name } => write!(f, "{name} has no bytes: give it a size first"),
            DaxError::Unscrubbed { name, range } => {
                write!(f, "{name} has bytes of an earlier owner at {range}: they are to be zeroed first")
            }
            DaxError::Mapped { name, mappings } => {
                write!(f, "{name} is mapped {mappings} time(s): disable it first")
            }
            DaxError::AtWork { name } => {
                write!(f, "{name} is being unmapped or scrubbed: wait for that to end")
            }
            DaxError::Held { name, holder } => write!(f, "{name} is held by {holder}"),
            DaxError::RegionExists { region } => write!(f, "region{region} exists already"),
            DaxError::NoSuchDevice { name } => write!(f, "{name} is not registered, or was destroyed"),
            DaxError::NoNumber { limit } => {
                write!(f, "all {limit} device numbers are in use: destroy a device and close its descriptors")
            }
            DaxError::NoMemory => write!(f, "out of memory"),
            DaxError::Lifetime { name, why } => write!(f, "{name} {why}"),
            DaxError::NoPages { name } => write!(f, "{name}: an access of 0 pages, at least 1 is needed"),
            DaxError::ManyPages { name, pages } => {
                write!(f, "{name}: {pages} pages to be zeroed, they are zeroed one at a time")
            }
            DaxError::NoOperation { name } => write!(f, "{name}: its provider has no such operation"),
            DaxError::PastEnd { name, page } => write!(f, "{name} ends before its page {page:#x}"),
        }
    }
}

impl core::error::Error for DaxError {}

fn write_fitting(f: &mut fmt::Formatter<'_>, region: u32, fits: Option<MapSize>) -> fmt::Result {
    match fits {
        Some(size) => {
            write!(f, "the largest alignment that fits is {size} (dax.region{region}.align={size})")
        }
        None => write!(f, "no alignment fits, not even 4K"),
    }
}
