//! Every dax region and device of a system, by name and by number. The kernel owns one.
//!
//! The registry holds a reference to what it lists. A look-up takes the lock of a chunk of a table for a few
//! instructions, and costs the same with one device and with a million. Only regions and claims have a lock of
//! their own. Nothing is freed under a lock: a device's last reference may go anywhere.
//!
//! A device that is to go was killed and unmapped everywhere ([`crate::dev_dax`]); each call that makes it go
//! refuses otherwise. Then, in this order: nobody can enable it any more; direct access ends; it is listed no
//! more; its ranges and its id go back. Its number goes back when the last descriptor or mapping lets the object
//! go. A device that is resized, aligned or given a range goes in the same way, with another object over the same
//! name and number in its place: what was opened before stays dead.

use crate::change::Change;
use crate::claims::{Claims, Holder};
use crate::dev_dax::DevDax;
use crate::device::DaxDevice;
use crate::devices::{DaxDevices, Minor};
use crate::error::DaxError;
use crate::ids::MINORS;
use crate::lifetime::Epoch;
use crate::memory;
use crate::name::{DaxName, DeviceName};
use crate::ranges::DevRanges;
use crate::region::{DaxRegion, DeviceRequest, Placement, RegionConfig, usable};
use crate::table::Table;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::lock::{Rank, SpinLock};
use mm::range::{MapSize, PhysRange};

/// The regions and devices of a system.
pub struct Registry {
    devices: DaxDevices,
    regions: Table<Arc<DaxRegion>, 64, 64>,
    /// Physical memory by who holds it: regions, and what [`Registry::reserve`] was told of.
    claims: SpinLock<Claims>,
    /// The most devices of a region.
    ids: u32,
}

impl Registry {
    /// Empty. `epoch` pins the sections of all its devices.
    pub fn new(epoch: &'static dyn Epoch) -> Registry {
        Registry::with_limits(epoch, MINORS, MINORS)
    }

    /// With fewer numbers, in all and in a region.
    pub(crate) fn with_limits(epoch: &'static dyn Epoch, minors: u32, ids: u32) -> Registry {
        let claims = SpinLock::new(Rank::Registry, Claims::new());
        Registry { devices: DaxDevices::new(epoch, minors), regions: Table::new(), claims, ids }
    }

    /// The generic devices: those without a region, and all of them by number.
    pub fn devices(&self) -> &DaxDevices {
        &self.devices
    }

    /// Notes that somebody else (`who`: "RAM", "firmware") holds a physical range, so that no region gets
    /// it. Fails with `Claimed`.
    pub fn reserve(&self, range: PhysRange, who: &'static str) -> Result<(), DaxError> {
        self.claims.lock().claim(range, Holder::Other(who))
    }

    /// Adds a region. Fails when its range cannot be used at its alignment (`HeadMisaligned`,
    /// `TooSmall`), when its number exists, or when somebody holds a part of the range (`Claimed`).
    pub fn add_region(&self, config: RegionConfig) -> Result<Arc<DaxRegion>, DaxError> {
        let whole = config.range;
        let region = Arc::new(DaxRegion::new(config, self.ids)?);
        let mut claims = self.claims.lock();
        if self.region(region.id()).is_some() {
            return Err(DaxError::RegionExists { region: region.id() });
        }
        // The trimmed tail is the region's as well: nobody else has a use for it.
        let holder = Holder::Region(region.id());
        claims.claim(whole, holder)?;
        self.regions.insert(region.id(), region.clone()).inspect_err(|_| claims.release_all(holder))?;
        Ok(region)
    }

    /// Removes a region without devices; its range is free for another claim. Fails with `RegionInUse`, or with
    /// `NoSuchRegion` when it is not listed.
    pub fn remove_region(&self, region: &Arc<DaxRegion>) -> Result<(), DaxError> {
        let mut claims = self.claims.lock();
        if !self.region(region.id()).is_some_and(|listed| Arc::ptr_eq(&listed, region)) {
            return Err(DaxError::NoSuchRegion { region: region.id() });
        }
        region.close()?;
        claims.release_all(Holder::Region(region.id()));
        // Under the lock of the claims: the next region of this id is nobody else's to remove. It drops behind it.
        let removed = self.regions.remove(region.id());
        drop(claims);
        drop(removed);
        Ok(())
    }

    /// Cuts a device from a region. It is disabled until [`DevDax::enable`].
    ///
    /// Fails, and changes nothing, when the request is misaligned or too small, outside of the region or held
    /// by another device, or when space, numbers or memory are out.
    pub fn create_device(
        &self,
        region: &Arc<DaxRegion>,
        request: DeviceRequest<'_>,
    ) -> Result<Arc<DevDax>, DaxError> {
        let minor = self.devices.minor()?;
        let id = region.space().take_id()?;
        let list = |device: &Arc<DevDax>| {
            self.devices.insert(device.clone())?;
            region.list(device.clone()).inspect_err(|_| drop(self.devices.remove(device.number())))
        };
        let place = place_new(region, &request);
        let made = place.and_then(|place| self.make((region, id), minor, request.align, place, list));
        made.inspect_err(|_| region.space().release_id(id))
    }

    /// Makes a device larger or smaller (module head): returns the new object, disabled. Growing takes free pieces in
    /// the order of their addresses, shrinking gives up the tail.
    ///
    /// Fails, and changes nothing, while it is alive, mapped or at work (`Lifetime`, `Mapped`, `AtWork`), when the
    /// size is no multiple of the alignment, or when space or memory are out.
    pub fn resize(&self, device: &Arc<DevDax>, size_bytes: u64) -> Result<Arc<DevDax>, DaxError> {
        self.succeed(device, device.align(), |region| {
            region.resize(device.dev_ranges(), size_bytes, device.align())
        })
    }

    /// Gives a device another alignment (module head): returns the new object, disabled. Fails as `resize` does, or
    /// when one of its ranges is not a multiple (`Misaligned`).
    pub fn set_align(&self, device: &Arc<DevDax>, align: MapSize) -> Result<Arc<DevDax>, DaxError> {
        self.succeed(device, align, |region| region.resize(device.dev_ranges(), device.size_bytes(), align))
    }

    /// Adds exactly this range to a device (module head): returns the new object, disabled. Fails as `resize` does, or
    /// with what is wrong with the range or who holds it.
    pub fn add_mapping(&self, device: &Arc<DevDax>, range: PhysRange) -> Result<Arc<DevDax>, DaxError> {
        self.succeed(device, device.align(), |region| {
            let mut added = memory::vec_of(1)?;
            added.push(range);
            region.add(device.dev_ranges(), added, device.align())
        })
    }

    /// Removes a disabled device and gives its ranges back (module head). Fails, and changes nothing, while it is
    /// alive, mapped or at work (`Lifetime`, `Mapped`, `AtWork`), or when it is not listed (`NoSuchDevice`).
    pub fn destroy_device(&self, device: &Arc<DevDax>) -> Result<(), DaxError> {
        self.check_listed(device)?;
        device.retire()?;
        drop(self.devices.remove(device.number()));
        device.region().forget(device);
        Ok(())
    }

    /// Puts another object in the place of `old`, with the ranges that `change` finds.
    fn succeed(
        &self,
        old: &Arc<DevDax>,
        align: MapSize,
        change: impl FnOnce(&DaxRegion) -> Result<Change, DaxError>,
    ) -> Result<Arc<DevDax>, DaxError> {
        self.check_listed(old)?;
        let region = old.region();
        // Made before the old one is retired: then nothing can fail any more, and nobody else can do this to it.
        let list = |new: &Arc<DevDax>| {
            old.retire()?;
            drop(self.devices.replace(new.clone()));
            drop(region.replace_device(new.clone()));
            Ok(())
        };
        self.make((region, old.name().id), old.minor().clone(), align, change(region)?, list)
    }

    /// Makes an object over what `change` found, and lists it as `list` does. Gives back what was taken when that
    /// fails, else what is to be given up.
    fn make(
        &self,
        (region, id): (&Arc<DaxRegion>, u32),
        minor: Arc<Minor>,
        align: MapSize,
        Change { ranges, taken, given }: Change,
        list: impl FnOnce(&Arc<DevDax>) -> Result<(), DaxError>,
    ) -> Result<Arc<DevDax>, DaxError> {
        let made = memory::room_for::<DevDax>().and_then(|()| {
            let device = Arc::new(DevDax::over(minor, region.clone(), id, ranges, align));
            list(&device).map(|()| device)
        });
        match &made {
            Ok(_) => region.space().give_back(given),
            Err(_) => region.space().undo(taken),
        }
        made
    }

    fn check_listed(&self, device: &Arc<DevDax>) -> Result<(), DaxError> {
        match self.find(device.name()) {
            Some(listed) if Arc::ptr_eq(&listed, device) => Ok(()),
            _ => Err(DaxError::NoSuchDevice { name: device.host_name() }),
        }
    }

    fn find(&self, name: DeviceName) -> Option<Arc<DevDax>> {
        self.region(name.region)?.device(name.id)
    }

    /// The device of this name, such as `dax0.0`.
    pub fn by_name(&self, name: &str) -> Option<Arc<DevDax>> {
        self.find(DeviceName::parse(name)?)
    }

    /// The device of this minor number, if programs can map it.
    pub fn by_number(&self, number: u32) -> Option<Arc<DevDax>> {
        match self.devices.by_number(number)?.host_name() {
            DaxName::Device(name) => self.find(name).filter(|device| device.number() == number),
            DaxName::Host(..) => None,
        }
    }

    /// The generic device of this name: `dax0.0`, or what a provider registered, such as `ram0`.
    pub fn by_host_name(&self, name: &str) -> Option<Arc<DaxDevice>> {
        match self.by_name(name) {
            Some(device) => Some(device),
            None => self.devices.by_host_name(name),
        }
    }

    /// The first device behind `after` in the order of names, or the first of all: a listing walks with
    /// it and holds no lock in between.
    pub fn next_device(&self, after: Option<DeviceName>) -> Option<Arc<DevDax>> {
        let (mut from, mut id) = after.map_or((0, 0), |name| (name.region, name.id.saturating_add(1)));
        while let Some((number, region)) = self.regions.next_from(from) {
            let first = if number == from { id } else { 0 };
            if let Some(device) = region.next_device(first) {
                return Some(device);
            }
            (from, id) = (number + 1, 0);
        }
        None
    }

    /// How many devices are listed.
    pub fn device_count(&self) -> usize {
        self.regions().iter().map(|region| region.device_count()).sum()
    }

    /// The region of this number.
    pub fn region(&self, id: u32) -> Option<Arc<DaxRegion>> {
        self.regions.get(id)
    }

    /// All regions, by number.
    pub fn regions(&self) -> Vec<Arc<DaxRegion>> {
        let mut from = 0;
        core::iter::from_fn(|| {
            let (id, region) = self.regions.next_from(from)?;
            from = id + 1;
            Some(region)
        })
        .collect()
    }
}

/// Finds a place for a new device. Fails, and changes nothing, with what is wrong with the request, who holds the
/// place, or when space or memory are out.
fn place_new(region: &DaxRegion, request: &DeviceRequest<'_>) -> Result<Change, DaxError> {
    let (nothing, align) = (DevRanges::default(), request.align);
    match request.placement {
        Placement::Size(bytes) => region.resize(&nothing, bytes, align),
        Placement::Ranges(ranges) => {
            let mut trimmed = memory::vec_of(ranges.len())?;
            for &range in ranges {
                trimmed.push(usable(region.id(), range, align)?);
            }
            region.add(&nothing, trimmed, align)
        }
    }
}

#[cfg(test)]
mod tests;
