//! A dax region: one physical range with one kind of memory, that devices are cut from.
//!
//! A region's number is given by whoever found the memory (from the NFIT: lowest DIMM handle, then base).
//! Each byte belongs to at most one device. The region keeps only what is free (`space`); a device knows its own.
//!
//! **Scrub.** Bytes that a device gave back in this boot are dirty until somebody zeroed them: a device with
//! dirty bytes cannot be enabled, unless the region waives that. What was never handed back (what is on the
//! media at boot) is somebody's data and never dirty.
//!
//! Lock: that of the space, taken for a few map operations; inside it only the table of devices and the heap.

use crate::change::{Change, shrink};
use crate::claims::Holder;
use crate::dev_dax::DevDax;
use crate::device::Unsupported;
use crate::error::DaxError;
use crate::name::DeviceName;
use crate::ranges::DevRanges;
use crate::space::Space;
use crate::table::Table;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use mm::lock::{Rank, SpinGuard, SpinLock};
use mm::range::{MapSize, PhysRange};

/// Makes stores durable. The kernel implements it with what the platform has: cache-line write-backs, a
/// fence, flush hint addresses, a hypervisor's queue.
pub trait MediaFlush: Send + Sync {
    /// Returns when every store to `range` that came before is durable.
    ///
    /// May be asked for a whole device at once. Never called inside a pinned section or under a lock.
    fn flush(&self, range: PhysRange);

    /// Zeroes a page of 4 KiB. Called inside a pinned section: short, neither waiting nor allocating; a kernel that
    /// cannot do it so leaves it out.
    fn zero_page(&self, _page: PhysRange) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
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

/// Whether dirty bytes must be zeroed before a device that has them comes alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scrub {
    /// They must.
    Required,
    /// They may be seen: the owners trust each other.
    Waived,
}

/// Where a new device goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement<'a> {
    /// Anywhere: this many bytes, a multiple of the alignment. With 0 bytes it is a seed, to be resized.
    Size(u64),
    /// Exactly here, in this order; the tail of each is trimmed to the alignment.
    Ranges(&'a [PhysRange]),
}

/// A device to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceRequest<'a> {
    /// Where.
    pub placement: Placement<'a>,
    /// The size of its entries.
    pub align: MapSize,
}

/// A physical range that devices are cut from.
pub struct DaxRegion {
    config: RegionConfig,
    space: SpinLock<Space>,
    /// By id.
    devices: Table<Arc<DevDax>, 1024, 1024>,
}

impl DaxRegion {
    /// Checks and trims the range; fails with `HeadMisaligned` or `TooSmall`.
    pub(crate) fn new(mut config: RegionConfig, ids: u32) -> Result<DaxRegion, DaxError> {
        config.range = usable(config.id, config.range, config.align)?;
        let space = Space::new(config.id, config.range, ids);
        Ok(DaxRegion { config, space: SpinLock::new(Rank::Region, space), devices: Table::new() })
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

    /// The NUMA node of the memory, if known: the proximity domain that the NFIT gives its range.
    ///
    /// Linux shows two nodes: this one as `target_node`, and as `numa_node` the nearest that is online, which is
    /// one with CPUs or RAM. Which those are, SRAT and SLIT say, and nothing here reads them: there is no
    /// allocation by node. So both attributes show this number, rather than a guess.
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
        self.space.lock().available_bytes()
    }

    /// The first range from the address `from` on that went bad ([`DevDax::poison`]); it may begin before that.
    pub fn next_bad(&self, from: u64) -> Option<PhysRange> {
        let rest = PhysRange::from_bounds(from, self.range().end())?;
        self.space.lock().bad.first_overlap(rest)
    }

    /// Whether dirty bytes must be zeroed.
    pub fn scrub(&self) -> Scrub {
        self.space.lock().scrub
    }

    /// Says whether dirty bytes must be zeroed.
    pub fn set_scrub(&self, scrub: Scrub) {
        self.space.lock().scrub = scrub;
    }

    /// The first device of those that were created with `create` and never enabled.
    pub fn seed(&self) -> Option<DeviceName> {
        self.space.lock().seed.map(|id| self.name_of(id))
    }

    /// The device created last, unless it was destroyed.
    pub fn youngest(&self) -> Option<DeviceName> {
        self.space.lock().youngest.map(|id| self.name_of(id))
    }

    /// Is there a device of this id, or was there one? Also true when one was only tried while a later one came about.
    pub fn has_had(&self, id: u32) -> bool {
        id < self.space.lock().had
    }

    /// The device of this id.
    pub fn device(&self, id: u32) -> Option<Arc<DevDax>> {
        self.devices.get(id)
    }

    /// The first device of this id or a higher one.
    pub fn next_device(&self, id: u32) -> Option<Arc<DevDax>> {
        self.devices.next_from(id).map(|(_, device)| device)
    }

    /// How many devices it has, with those that are just being made or destroyed.
    pub fn device_count(&self) -> usize {
        self.space.lock().devices as usize
    }

    /// Its bytes and ids.
    pub(crate) fn space(&self) -> SpinGuard<'_, Space> {
        self.space.lock()
    }

    /// Lists a new device. Fails with `NoMemory`.
    pub(crate) fn list(&self, device: Arc<DevDax>) -> Result<(), DaxError> {
        let id = device.name().id;
        // Who finds the device and destroys it at once comes after us.
        let mut space = self.space.lock();
        self.devices.insert(id, device)?;
        space.seed.get_or_insert(id);
        space.youngest = Some(id);
        space.had = space.had.max(id + 1);
        Ok(())
    }

    /// Shows `device` in place of the one that was shown before, and returns that.
    pub(crate) fn replace_device(&self, device: Arc<DevDax>) -> Option<Arc<DevDax>> {
        self.devices.replace(device.name().id, device)
    }

    /// Takes a destroyed device off the list, and gives back its id and its ranges.
    pub(crate) fn forget(&self, device: &DevDax) {
        let id = device.name().id;
        drop(self.devices.remove(id));
        let mut space = self.space.lock();
        space.give_back(device.ranges().map(|range| range.phys));
        space.release_id(id);
    }

    /// Makes the ranges of a device `size_bytes` long: takes free pieces, or gives up the tail. What is given up is
    /// the device's until it is given back. Fails, and changes nothing, with `SizeMisaligned`, `Misaligned`,
    /// `NoSpace` or `NoMemory`.
    pub(crate) fn resize(
        &self,
        ranges: &DevRanges,
        size_bytes: u64,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        match size_bytes.checked_sub(ranges.size_bytes()) {
            _ if !align.divides(size_bytes) => {
                Err(DaxError::SizeMisaligned { region: self.id(), size_bytes, align })
            }
            Some(more) => self.space.lock().grow(ranges, more, align),
            None => shrink(ranges, size_bytes, align),
        }
    }

    /// Adds exactly these ranges to those of a device. Fails, and changes nothing, with what is wrong with them or
    /// who holds one.
    pub(crate) fn add(
        &self,
        ranges: &DevRanges,
        added: Vec<PhysRange>,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        let change = self.space.lock().claim(ranges, added, align);
        // The search for the holder looks at every device: not under the lock.
        change.map_err(|why| match why {
            DaxError::Claimed { range, .. } => self.holder(range).unwrap_or(why),
            _ => why,
        })
    }

    /// Which device holds a part of `range`; none for one that is being made, or was destroyed a moment ago.
    fn holder(&self, range: PhysRange) -> Option<DaxError> {
        let mut from = 0;
        while let Some((id, device)) = self.devices.next_from(from) {
            if let Some(taken) = device.ranges().find(|taken| taken.phys.overlaps(range)) {
                let holder = Holder::Device(device.name());
                return Some(DaxError::Claimed { range, taken: taken.phys, holder });
            }
            from = id + 1;
        }
        None
    }

    /// No device is made from now on. Fails with `RegionInUse` while there is one, or one is being made.
    pub(crate) fn close(&self) -> Result<(), DaxError> {
        let mut space = self.space.lock();
        if space.devices > 0 {
            let first = self.devices.next_from(0).map_or(0, |(id, _)| id);
            return Err(DaxError::RegionInUse { region: self.id(), by: self.name_of(first) });
        }
        space.is_removed = true;
        Ok(())
    }

    fn name_of(&self, id: u32) -> DeviceName {
        DeviceName { region: self.id(), id }
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
