//! A dax region: one physical range with one kind of memory, that devices are cut from.
//!
//! A region's number is given by whoever found the memory (from the NFIT: lowest DIMM handle, then base).
//! Each byte belongs to at most one device. Lock: `allocated` is a leaf, taken for a few map operations.

use crate::claims::{Claims, Conflict, Holder};
use crate::error::DaxError;
use crate::ids::{IdSet, MINORS};
use crate::name::DeviceName;
use alloc::sync::Arc;
use core::fmt;
use mm::range::{MapSize, PhysRange};
use spin::Mutex;

/// Makes stores durable. The kernel implements it with what the platform has: cache-line write-backs, a
/// fence, flush hint addresses, a hypervisor's queue.
pub trait MediaFlush: Send + Sync {
    /// Returns when every store to `range` that came before is durable.
    ///
    /// May be asked for a whole device at once. Never called inside a pinned section or under a lock.
    fn flush(&self, range: PhysRange);
}

/// What becomes of the bytes when power is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// They stay (NFIT type PM).
    Persistent,
    /// They are lost (NFIT type volatile, or RAM set aside).
    Volatile,
}

/// What programs may do to the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaAccess {
    /// Load and store.
    ReadWrite,
    /// Load only: a DIMM behind the region is not armed, a store might not survive.
    ReadOnly,
}

/// What a region is made from.
#[derive(Clone)]
pub struct RegionConfig {
    /// The number, as in `region0` and `dax0.0`.
    pub id: u32,
    /// The physical range; its tail is trimmed to `align`.
    pub range: PhysRange,
    /// The alignment that devices get unless they ask for another.
    pub align: MapSize,
    /// The NUMA node (proximity domain) of the memory, where the firmware names one.
    pub target_node: Option<u32>,
    /// Persistent or volatile.
    pub kind: RegionKind,
    /// Writable or not.
    pub access: MediaAccess,
    /// How its stores become durable.
    pub flush: Arc<dyn MediaFlush>,
}

/// A physical range that devices are cut from.
pub struct DaxRegion {
    config: RegionConfig,
    allocated: Mutex<Allocated>,
}

/// What the devices of a region hold.
struct Allocated {
    claims: Claims,
    ids: IdSet,
}

impl DaxRegion {
    /// Checks and trims the range; fails with `HeadMisaligned` or `TooSmall`.
    pub(crate) fn new(mut config: RegionConfig) -> Result<DaxRegion, DaxError> {
        config.range = usable(config.id, config.range, config.align)?;
        let allocated = Allocated { claims: Claims::new(), ids: IdSet::new(MINORS) };
        Ok(DaxRegion { config, allocated: Mutex::new(allocated) })
    }

    /// The number, as in `region0` and `dax0.0`.
    pub fn id(&self) -> u32 {
        self.config.id
    }

    /// The physical range, with its tail trimmed to the alignment.
    pub fn range(&self) -> PhysRange {
        self.config.range
    }

    /// The alignment that devices get unless they ask for another.
    pub fn align(&self) -> MapSize {
        self.config.align
    }

    /// The NUMA node of the memory, if known.
    pub fn target_node(&self) -> Option<u32> {
        self.config.target_node
    }

    /// Persistent or volatile.
    pub fn kind(&self) -> RegionKind {
        self.config.kind
    }

    /// Writable or not.
    pub fn access(&self) -> MediaAccess {
        self.config.access
    }

    /// How stores to the region become durable.
    pub fn media_flush(&self) -> &dyn MediaFlush {
        &*self.config.flush
    }

    /// Bytes that no device holds.
    pub fn available_bytes(&self) -> u64 {
        let held: u64 = self.allocated.lock().claims.iter().map(|(range, _)| range.len_bytes()).sum();
        self.range().len_bytes() - held
    }

    /// Claims `range`, its tail trimmed to `align`, for a new device, and names the device: the lowest id
    /// that is free. Fails with what is wrong with the range, or with who holds it.
    pub(crate) fn allocate(
        &self,
        range: PhysRange,
        align: MapSize,
    ) -> Result<(DeviceName, PhysRange), DaxError> {
        let range = usable(self.id(), range, align)?;
        if !self.range().contains(range) {
            return Err(DaxError::OutsideRegion { region: self.id(), region_range: self.range(), range });
        }
        let mut allocated = self.allocated.lock();
        let name = DeviceName { region: self.id(), id: allocated.ids.allocate()? };
        match allocated.claims.claim(range, Holder::Device(name)) {
            Ok(()) => Ok((name, range)),
            Err(Conflict { taken, holder }) => {
                allocated.ids.release(name.id);
                Err(DaxError::Claimed { range, taken, holder })
            }
        }
    }

    /// Takes back what [`DaxRegion::allocate`] gave: the ranges of the device, and its id.
    pub(crate) fn give_back(&self, name: DeviceName, ranges: impl Iterator<Item = PhysRange>) {
        let mut allocated = self.allocated.lock();
        for range in ranges {
            let held = allocated.claims.release(range, Holder::Device(name));
            debug_assert!(held, "{name} gave back {range}, which it does not hold");
        }
        allocated.ids.release(name.id);
    }
}

impl fmt::Debug for DaxRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region{} {} align {}", self.id(), self.range(), self.align())
    }
}

/// The part of `range` that entries of `align` can map: all of it but a tail shorter than `align`.
///
/// The head is never moved: byte 0 of a device is byte 0 of its range, or the data would be somewhere
/// else after a change of the alignment. Fails with `HeadMisaligned` or `TooSmall`, which name the largest
/// alignment that would do; `region` is for their message.
pub fn usable(region: u32, range: PhysRange, align: MapSize) -> Result<PhysRange, DaxError> {
    let start = range.start().as_u64();
    let fits = largest_align(range);
    if !align.divides(start) {
        return Err(DaxError::HeadMisaligned { region, range, align, fits });
    }
    let len_bytes = range.len_bytes() & !(align.bytes() - 1);
    PhysRange::new(start, len_bytes).ok_or(DaxError::TooSmall { region, range, align, fits })
}

/// The largest alignment at which at least one entry of `range` can be mapped from its first byte on.
pub fn largest_align(range: PhysRange) -> Option<MapSize> {
    let fits = |size: &MapSize| size.divides(range.start().as_u64()) && size.bytes() <= range.len_bytes();
    MapSize::ALL.into_iter().rev().find(fits)
}

#[cfg(test)]
mod tests;
