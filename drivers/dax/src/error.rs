//! Why the crate refused, with the values that it refused.

use crate::claims::Holder;
use crate::lifetime::LifetimeError;
use crate::name::DeviceName;
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
    /// A region of this number exists.
    RegionExists {
        /// The number.
        region: u32,
    },
    /// The device is not in this registry, or no longer (ENXIO).
    NoSuchDevice {
        /// Its name.
        name: DeviceName,
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
        name: DeviceName,
        /// What is in the way.
        why: LifetimeError,
    },
    /// An access of no pages at all (ERANGE).
    NoPages {
        /// Name of the device.
        name: DeviceName,
    },
    /// The access starts behind the device's last page (ERANGE).
    PastEnd {
        /// Name of the device.
        name: DeviceName,
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
            DaxError::RegionExists { region } => write!(f, "region{region} exists already"),
            DaxError::NoSuchDevice { name } => write!(f, "{name} is not registered, or was destroyed"),
            DaxError::NoNumber { limit } => {
                write!(f, "all {limit} device numbers are in use: destroy a device and close its descriptors")
            }
            DaxError::NoMemory => write!(f, "out of memory"),
            DaxError::Lifetime { name, why } => write!(f, "{name} {why}"),
            DaxError::NoPages { name } => write!(f, "{name}: an access of 0 pages, at least 1 is needed"),
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
