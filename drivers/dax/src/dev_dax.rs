//! A device-dax device: memory of a region that programs map in entries of one size.
//!
//! Its size, place and alignment never change: a device that is resized is a new `DevDax` over the same
//! name and number, so a fault reads them without a lock, and an old descriptor keeps reading the old ones
//! (it can use neither: its generation is dead).
//!
//! A device goes in this order, whose steps the kernel takes one by one:
//!
//! 1. [`DevDax::kill`]: opens, mmaps and faults are refused from now on; those under way have ended;
//! 2. [`DevDax::take_mappings`] until [`DevDax::mapping_count`] is 0: the caller unmaps the device from each
//!    space and waits for the shootdown, holding no lock of this crate;
//! 3. that is a disabled device, which may be enabled again. `Registry::destroy_device`, `resize` and the like
//!    come after that and refuse before; they end direct access, too, and give ranges back.

use crate::device::{DaxDevice, DaxOperations, Unsupported};
use crate::devices::Minor;
use crate::error::DaxError;
use crate::lifetime::{Epoch, Generation, Lifetime, LifetimeError};
use crate::mappings::{InUse, Mappings, TakenMappings};
use crate::memory;
use crate::name::{DaxName, DeviceName};
use crate::open_dax::OpenDax;
use crate::ranges::{DevRange, DevRanges};
use crate::region::{DaxRegion, MediaAccess, Scrub};
use alloc::sync::Arc;
use mm::pager::{Prot, Refusal};
use mm::range::{MapSize, PhysRange};

/// A device that programs map: `dax0.0`. It is a dax device whose operations are those of its region's memory.
pub type DevDax = DaxDevice<DeviceDax>;

/// What device-dax adds to a dax device.
pub struct DeviceDax {
    /// The life of descriptors and mappings.
    service: Lifetime,
    region: Arc<DaxRegion>,
    ranges: DevRanges,
    mappings: Mappings,
    id: u32,
    align: MapSize,
}

// A million devices must fit into 256 bytes each, and the kernel's heap has blocks of powers of two: with the
// counts of its `Arc` a device is one of 128. (Checks make locks larger.)
#[cfg(all(target_pointer_width = "64", not(feature = "checks")))]
const _: () = assert!(size_of::<DevDax>() <= 112);

impl DaxOperations for DeviceDax {
    fn name(&self) -> DaxName {
        DeviceName { region: self.region.id(), id: self.id }.into()
    }

    fn direct_access(&self, page: u64, pages: u64) -> Result<Option<PhysRange>, Unsupported> {
        Ok(self.ranges.pages_to_phys(page, pages))
    }

    fn zero_page(&self, page_range: PhysRange) -> Result<(), Unsupported> {
        self.region.media_flush().zero_page(page_range)
    }

    fn flush(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), Unsupported> {
        for piece in self.ranges.pieces(offset_bytes, len_bytes) {
            self.region.media_flush().flush(piece);
        }
        Ok(())
    }

    fn detach(&self, epoch: &dyn Epoch) -> Result<(), LifetimeError> {
        loop {
            match self.service.kill(epoch) {
                // Somebody else's kill is waited for as well as our own.
                Err(LifetimeError::Dying) => epoch.relax(),
                Err(why @ (LifetimeError::NoMemory | LifetimeError::PinHeld)) => return Err(why),
                _ => return Ok(()),
            }
        }
    }
}

impl DevDax {
    /// Dead, with nothing mapped.
    pub(crate) fn over(
        minor: Arc<Minor>,
        region: Arc<DaxRegion>,
        id: u32,
        ranges: DevRanges,
        align: MapSize,
    ) -> DevDax {
        let (service, mappings) = (Lifetime::new(), Mappings::new());
        DaxDevice::new(minor, DeviceDax { service, region, ranges, mappings, id, align })
    }

    /// The name, such as `dax0.0`.
    pub fn name(&self) -> DeviceName {
        DeviceName { region: self.region().id(), id: self.operations().id }
    }

    /// The size of every entry that maps the device.
    pub fn align(&self) -> MapSize {
        self.operations().align
    }

    /// The size in bytes, a multiple of the alignment; 0 for a seed.
    pub fn size_bytes(&self) -> u64 {
        self.operations().ranges.size_bytes()
    }

    /// Where its bytes lie, by offset.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = DevRange> + '_ {
        self.operations().ranges.iter()
    }

    pub(crate) fn dev_ranges(&self) -> &DevRanges {
        &self.operations().ranges
    }

    /// The region that it was cut from.
    pub fn region(&self) -> &Arc<DaxRegion> {
        &self.operations().region
    }

    /// The life of its descriptors and mappings.
    pub fn service(&self) -> &Lifetime {
        &self.operations().service
    }

    /// May programs open and map it?
    pub fn is_alive(&self) -> bool {
        self.service().generation().is_some()
    }

    /// Names this object to `AddressSpace::revoke`: its address, which nobody else has while a mapping holds it.
    pub fn key(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// The most that a vma of this device may ever allow: no store where the media is read-only.
    ///
    /// Linux never looks at the media here. A program may open a read-only device in any mode, as there,
    /// and is refused (EACCES) when it maps it writable: better than stores that do not survive.
    pub fn max_prot(&self) -> Prot {
        match self.region().access() {
            MediaAccess::ReadWrite => Prot::all(),
            MediaAccess::ReadOnly => Prot::READ | Prot::EXEC,
        }
    }

    /// Returns the physical range behind `[offset_bytes, offset_bytes + size.bytes())` of this device.
    ///
    /// `offset_bytes` counts from the device's first byte and is a multiple of `size.bytes()`.
    /// `None` when the range ends past the device or spans two of its ranges: the caller answers SIGBUS.
    #[inline]
    pub fn offset_to_phys(&self, offset_bytes: u64, size: MapSize) -> Option<PhysRange> {
        self.operations().ranges.offset_to_phys(offset_bytes, size)
    }

    /// Opens the device in its present generation. Fails with `Refusal::Dead` when it is disabled.
    pub fn open(self: &Arc<Self>) -> Result<Arc<OpenDax>, Refusal> {
        let generation = self.service().generation().ok_or(Refusal::Dead)?;
        memory::room_for::<OpenDax>().map_err(|_| Refusal::NoMemory)?;
        Ok(Arc::new(OpenDax::new(self.clone(), generation)))
    }

    /// Lets programs open and map the device, in a new generation; direct access works from the first time on.
    ///
    /// Fails when the device has no bytes (`NoBytes`), has dirty ones (`Unscrubbed`), is still mapped by an earlier
    /// generation or at work (`Mapped`, `AtWork`), is alive, or was destroyed (`Lifetime`).
    pub fn enable(&self) -> Result<Generation, DaxError> {
        let device = self.operations();
        device.service.check_dead().map_err(|why| self.refuse(why))?;
        if self.size_bytes() == 0 {
            return Err(DaxError::NoBytes { name: self.name() });
        }
        let dirty = self.unscrubbed();
        if let Some(range) = dirty.filter(|_| device.region.scrub() == Scrub::Required) {
            return Err(DaxError::Unscrubbed { name: self.name(), range });
        }
        if self.ranges().any(|range| device.region.space().bad.first_overlap(range.phys).is_some()) {
            device.service.spoil();
        }
        let generation = self.while_unused(|| {
            device.service.check_dead()?;
            match self.lifetime().enable() {
                Ok(_) | Err(LifetimeError::Alive) => device.service.enable(),
                Err(why) => Err(why),
            }
        })?;
        if dirty.is_some() {
            // Who waived the scrub has the bytes as they are: they are not to be zeroed at a later enable.
            let mut space = device.region.space();
            device.ranges.iter().for_each(|range| space.dirty.remove(range.phys));
        }
        // It is no seed any more.
        device.region.space().seed.take_if(|seed| *seed == device.id);
        Ok(generation)
    }

    /// Refuses every open, mmap and fault from now on, and waits out those under way: see
    /// [`Lifetime::kill`]. Direct access stays. Returns the turns of the grace period.
    pub fn kill(&self) -> Result<u32, DaxError> {
        self.service().kill(self.epoch()).map_err(|why| self.refuse(why))
    }

    /// How many mappings were not taken from the device.
    pub fn mapping_count(&self) -> u32 {
        self.operations().mappings.count()
    }

    /// Somebody who maps it.
    pub fn first_mapping(&self) -> Option<Arc<mm::space::AddressSpace>> {
        self.operations().mappings.first()
    }

    /// Takes some of the mappings of a killed device: step 2 of the module head. None when it is alive, or when
    /// those left are of spaces that are just being freed: the caller passes time and asks again.
    pub fn take_mappings(&self) -> TakenMappings<'_> {
        self.operations().mappings.take(|| self.is_alive())
    }

    pub(crate) fn mappings(&self) -> &Mappings {
        &self.operations().mappings
    }

    /// The first of its bytes that an earlier owner may have written in this boot.
    pub fn unscrubbed(&self) -> Option<PhysRange> {
        self.region().space().first_dirty(self.dev_ranges())
    }

    /// Takes bad memory out of use: an entry with a byte of it is in no address space when this returns, and no fault
    /// makes one, until the memory was given back and zeroed. Bytes past the end are ignored. Fails with `NoMemory`.
    ///
    /// Locks one space after another: the caller holds no lock.
    pub fn poison(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), DaxError> {
        for piece in self.dev_ranges().pieces(offset_bytes, len_bytes) {
            // More than the nodes of a tree that one insertion may take.
            memory::room_for::<[u64; 256]>()?;
            self.region().space().bad.insert(piece);
        }
        self.service().spoil();
        // A fault that began before holds its space's lock; one that begins now finds the memory bad.
        let offsets = offset_bytes..offset_bytes.saturating_add(len_bytes);
        self.mappings().for_each(|space| {
            _ = space.revoke(self.key(), &offsets);
            self.epoch().relax();
        });
        Ok(())
    }

    /// Begins to zero what is dirty: until the answer is dropped nobody else gets the device's memory. Fails
    /// (`Lifetime`) unless the device is disabled, or with `NoMemory`.
    pub fn begin_scrub(&self) -> Result<Scrubbing<'_>, DaxError> {
        let is_dead = || self.service().check_dead().map_err(|why| self.refuse(why));
        self.mappings().begin_work(is_dead).map(|()| Scrubbing { device: self })
    }

    /// Ends a disabled device that nobody uses for good, and decides who of two that try does so. Then direct
    /// access: waits for that.
    pub(crate) fn retire(&self) -> Result<(), DaxError> {
        if self.epoch().is_pinned() {
            return Err(self.refuse(LifetimeError::PinHeld));
        }
        self.lifetime().check_room().map_err(|why| self.refuse(why))?;
        self.while_unused(|| self.service().retire())?;
        // From here on only another's kill can be in the way, for its own grace period, and who took the memory that
        // was there a moment ago.
        while let Err(why) = self.lifetime().retire() {
            if why != LifetimeError::Alive || self.shut_down().is_err() {
                self.epoch().relax();
            }
        }
        Ok(())
    }

    fn while_unused<R>(&self, change: impl FnOnce() -> Result<R, LifetimeError>) -> Result<R, DaxError> {
        let name = self.name();
        // Alive comes first in what is said: what is mapped is mapped because of that.
        match self.mapping_count() {
            0 if self.is_alive() => Err(self.refuse(LifetimeError::Alive)),
            mappings @ 1.. => Err(DaxError::Mapped { name, mappings }),
            _ => match self.mappings().while_unused(change) {
                Ok(changed) => changed.map_err(|why| self.refuse(why)),
                Err(InUse::Mapped(mappings)) => Err(DaxError::Mapped { name, mappings }),
                Err(InUse::AtWork) => Err(DaxError::AtWork { name }),
            },
        }
    }
}

/// A device that is being zeroed.
#[must_use]
pub struct Scrubbing<'a> {
    device: &'a DevDax,
}

impl Scrubbing<'_> {
    /// What to zero next, until nothing is left.
    pub fn next_range(&self) -> Option<PhysRange> {
        self.device.unscrubbed()
    }

    /// The range was zeroed: nobody asks for that again.
    pub fn scrubbed(&self, range: PhysRange) {
        let mut space = self.device.region().space();
        space.dirty.remove(range);
        space.bad.remove(range);
    }
}

impl Drop for Scrubbing<'_> {
    fn drop(&mut self) {
        self.device.mappings().end_work();
    }
}

#[cfg(test)]
mod tests;
