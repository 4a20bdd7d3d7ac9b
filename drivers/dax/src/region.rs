//! A dax region: one physical range with one kind of memory, that devices are cut from.
//!
//! A region's number is given by whoever found the memory (from the NFIT: lowest DIMM handle, then base).
//! Each byte belongs to at most one device. The region keeps only what is free; a device knows its own.
//!
//! Placing by size is Linux's: the free pieces in the order of their addresses, each as much as it gives at
//! the device's alignment, until there is enough; a device whose last range ends where the piece begins
//! grows in place. This looks at every free piece that is too small or too odd to give anything.
//!
//! **Scrub.** Bytes that a device gave back in this boot are dirty until somebody zeroed them: a device with
//! dirty bytes cannot be enabled, unless the region waives that. What was never handed back (what is on the
//! media at boot) is somebody's data and never dirty.
//!
//! Lock: `space`, taken for a few map operations; inside it only the table of devices and the heap.

use crate::change::{Change, joined, shrink};
use crate::claims::Holder;
use crate::dev_dax::DevDax;
use crate::device::Unsupported;
use crate::error::DaxError;
use crate::ids::IdSet;
use crate::memory;
use crate::name::DeviceName;
use crate::range_set::RangeSet;
use crate::ranges::DevRanges;
use crate::table::{Place, Table};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use mm::lock::{Rank, SpinLock};
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
    fn zero_page(&self, page: PhysRange) -> Result<(), Unsupported> {
        let _ = page;
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
    devices: DeviceTable,
}

/// The devices of a region by id.
type DeviceTable = Table<Arc<DevDax>, 1024, 1024>;

/// What of a region is whose.
struct Space {
    free: RangeSet,
    dirty: RangeSet,
    ids: IdSet,
    scrub: Scrub,
    seed: Option<u32>,
    youngest: Option<u32>,
    is_removed: bool,
}

/// An id and ranges for a device, given back unless they become one.
#[must_use]
pub(crate) struct Carved<'a> {
    region: &'a Arc<DaxRegion>,
    id: u32,
    ranges: DevRanges,
    place: Option<Place<'a, Arc<DevDax>, 1024, 1024>>,
}

impl DaxRegion {
    /// Checks and trims the range; fails with `HeadMisaligned` or `TooSmall`.
    pub(crate) fn new(mut config: RegionConfig, ids: u32) -> Result<DaxRegion, DaxError> {
        config.range = usable(config.id, config.range, config.align)?;
        let mut space = Space {
            free: RangeSet::default(),
            dirty: RangeSet::default(),
            ids: IdSet::new(ids),
            scrub: Scrub::Required,
            seed: None,
            youngest: None,
            is_removed: false,
        };
        space.free.insert(config.range);
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
        self.space.lock().free.bytes()
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

    /// The device of this id.
    pub fn device(&self, id: u32) -> Option<Arc<DevDax>> {
        self.devices.get(id)
    }

    /// The first device of this id or a higher one.
    pub fn next_device(&self, id: u32) -> Option<Arc<DevDax>> {
        self.devices.next_from(id).map(|(_, device)| device)
    }

    /// How many devices it has.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Shows `device` in place of the one that was shown before, and returns that.
    pub(crate) fn replace_device(&self, device: Arc<DevDax>) -> Option<Arc<DevDax>> {
        self.devices.replace(device.name().id, device)
    }

    /// Finds an id and a place for a new device. Fails, and changes nothing, with what is wrong with the request or
    /// who holds the place, or when space, ids or memory are out.
    pub(crate) fn carve<'a>(
        self: &'a Arc<Self>,
        request: &DeviceRequest<'_>,
    ) -> Result<Carved<'a>, DaxError> {
        let mut space = self.space.lock();
        if space.is_removed {
            return Err(DaxError::NoSuchRegion { region: self.id() });
        }
        let id = space.ids.allocate()?;
        let carved = self.devices.reserve(id).and_then(|place| {
            let change = match request.placement {
                Placement::Size(bytes) if !request.align.divides(bytes) => {
                    return Err(self.size_misaligned(bytes, request.align));
                }
                Placement::Size(bytes) => self.grow(&mut space, &DevRanges::Empty, bytes, request.align)?,
                Placement::Ranges(ranges) => {
                    let mut used = memory::vec_of(ranges.len())?;
                    for &range in ranges {
                        used.push(usable(self.id(), range, request.align)?);
                    }
                    self.claim(&mut space, &DevRanges::Empty, used, request.align)?
                }
            };
            Ok(Carved { region: self, id, ranges: change.ranges, place: Some(place) })
        });
        if carved.is_err() {
            space.ids.release(id);
        }
        carved
    }

    /// Makes the ranges of a device `size_bytes` long: takes free pieces, or gives up the tail. What is given up is
    /// the device's until [`DaxRegion::give_back`].
    pub(crate) fn resize(
        &self,
        ranges: &DevRanges,
        size_bytes: u64,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        match size_bytes.checked_sub(ranges.size_bytes()) {
            _ if !align.divides(size_bytes) => Err(self.size_misaligned(size_bytes, align)),
            Some(more) => self.grow(&mut self.space.lock(), ranges, more, align),
            None => shrink(ranges, size_bytes, align),
        }
    }

    /// Adds exactly this range to those of a device.
    pub(crate) fn add_range(
        &self,
        ranges: &DevRanges,
        range: PhysRange,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        let mut added = memory::vec_of(1)?;
        added.push(range);
        let mut space = self.space.lock();
        if self.range().contains(range) && !space.free.contains(range) {
            // The search for the holder looks at every device: not under the lock.
            drop(space);
            return Err(self.conflict(range));
        }
        self.claim(&mut space, ranges, added, align)
    }

    /// Gives back ranges that belonged to a device, as dirty ones.
    pub(crate) fn give_back(&self, ranges: impl Iterator<Item = PhysRange>) {
        let mut space = self.space.lock();
        for range in ranges {
            space.free.insert(range);
            space.dirty.insert(range);
        }
    }

    /// Gives back ranges that nobody used.
    pub(crate) fn undo(&self, ranges: &[PhysRange]) {
        let mut space = self.space.lock();
        ranges.iter().for_each(|&range| space.free.insert(range));
    }

    /// Takes a destroyed device off the list, and gives back its id and its ranges.
    pub(crate) fn forget(&self, id: u32, ranges: impl Iterator<Item = PhysRange>) {
        drop(self.devices.remove(id));
        self.give_back(ranges);
        self.release_id(&mut self.space.lock(), id);
    }

    /// The first dirty bytes of these ranges.
    pub(crate) fn first_dirty(&self, ranges: &DevRanges) -> Option<PhysRange> {
        let space = self.space.lock();
        ranges.iter().find_map(|range| {
            let dirty = space.dirty.first_overlap(range.phys)?;
            let start = dirty.start().max(range.phys.start());
            PhysRange::from_bounds(start.as_u64(), dirty.end().min(range.phys.end()))
        })
    }

    /// The bytes were zeroed, or their new owner may see them.
    pub(crate) fn set_clean(&self, range: PhysRange) {
        self.space.lock().dirty.remove(range);
    }

    /// A device was enabled: it is no seed any more.
    pub(crate) fn note_enabled(&self, id: u32) {
        self.space.lock().seed.take_if(|seed| *seed == id);
    }

    /// No device is made from now on. Fails with `RegionInUse` while there is one.
    pub(crate) fn close(&self) -> Result<(), DaxError> {
        let mut space = self.space.lock();
        match self.devices.next_from(0) {
            Some((id, _)) => Err(DaxError::RegionInUse { region: self.id(), by: self.name_of(id) }),
            None => {
                space.is_removed = true;
                Ok(())
            }
        }
    }

    fn name_of(&self, id: u32) -> DeviceName {
        DeviceName { region: self.id(), id }
    }

    fn release_id(&self, space: &mut Space, id: u32) {
        space.ids.release(id);
        space.seed.take_if(|seed| *seed == id);
        space.youngest.take_if(|youngest| *youngest == id);
    }

    fn size_misaligned(&self, size_bytes: u64, align: MapSize) -> DaxError {
        DaxError::SizeMisaligned { region: self.id(), size_bytes, align }
    }

    fn grow(
        &self,
        space: &mut Space,
        old: &DevRanges,
        more: u64,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        let mut taken = Vec::new();
        let mut missing = more;
        for piece in space.free.pieces(align) {
            let Some(part) = piece.part(0, missing.min(piece.len_bytes())) else { break };
            memory::reserve_one(&mut taken)?;
            taken.push(part);
            missing -= part.len_bytes();
        }
        if missing > 0 {
            return Err(DaxError::NoSpace {
                region: self.id(),
                asked_bytes: more,
                available_bytes: more - missing,
                align,
            });
        }
        let ranges = joined(old, &taken, align)?;
        taken.iter().for_each(|&range| space.free.remove(range));
        Ok(Change { ranges, taken, given: Vec::new() })
    }

    fn claim(
        &self,
        space: &mut Space,
        old: &DevRanges,
        added: Vec<PhysRange>,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        for (index, &range) in added.iter().enumerate() {
            if !self.range().contains(range) {
                return Err(DaxError::OutsideRegion { region: self.id(), region_range: self.range(), range });
            }
            if !space.free.contains(range) {
                return Err(self.conflict(range));
            }
            if let Some(&taken) = added.iter().take(index).find(|other| other.overlaps(range)) {
                return Err(DaxError::Twice { range, taken });
            }
        }
        let mut all = memory::vec_of(old.iter().count() + added.len())?;
        all.extend(old.iter().map(|range| range.phys).chain(added.iter().copied()));
        let ranges = DevRanges::new(&all, align)?;
        added.iter().for_each(|&range| space.free.remove(range));
        Ok(Change { ranges, taken: added, given: Vec::new() })
    }

    /// Who holds a part of `range`: a search, for a message.
    fn conflict(&self, range: PhysRange) -> DaxError {
        let mut from = 0;
        while let Some((id, device)) = self.devices.next_from(from) {
            if let Some(taken) = device.ranges().find(|taken| taken.phys.overlaps(range)) {
                return DaxError::Claimed { range, taken: taken.phys, holder: Holder::Device(device.name()) };
            }
            from = id + 1;
        }
        // A device that is being made, or was destroyed a moment ago.
        DaxError::Claimed { range, taken: range, holder: Holder::Region(self.id()) }
    }
}

impl<'a> Carved<'a> {
    /// The name of the new device.
    pub fn name(&self) -> DeviceName {
        self.region.name_of(self.id)
    }

    /// The ranges, which are the device's from now on; and where to show it.
    pub fn take(mut self) -> (DevRanges, Option<Place<'a, Arc<DevDax>, 1024, 1024>>) {
        let mut space = self.region.space.lock();
        space.seed.get_or_insert(self.id);
        space.youngest = Some(self.id);
        drop(space);
        (core::mem::take(&mut self.ranges), self.place.take())
    }
}

impl Drop for Carved<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            drop(place);
            let mut space = self.region.space.lock();
            self.ranges.iter().for_each(|range| space.free.insert(range.phys));
            self.region.release_id(&mut space, self.id);
        }
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
