//! Every dax region and device of a system, by name and by number. The kernel owns one.
//!
//! The registry holds a reference to what it lists. Lock order: `tables`, then a region's or the minors'
//! leaf lock. Nothing is freed under `tables`: a device's last reference may go anywhere.
//!
//! A device is destroyed in this order, of which the registry does the last step: kill it, unmap it
//! everywhere, wait for the shootdowns, `destroy_device`. Its range and its name can be given to another
//! from then on; its number only when the last descriptor or mapping lets the object go.

use crate::claims::{Claims, Conflict, Holder};
use crate::dev_dax::{DevDax, RegionMemory};
use crate::device::DaxDevice;
use crate::error::DaxError;
use crate::ids::{MINORS, MinorPool};
use crate::lifetime::Epoch;
use crate::name::DeviceName;
use crate::ranges::DevRanges;
use crate::region::{DaxRegion, RegionConfig};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use mm::range::{MapSize, PhysRange};
use spin::Mutex;

/// The regions and devices of a system. Lookups are O(log n).
pub struct Registry {
    epoch: &'static dyn Epoch,
    minors: MinorPool,
    tables: Mutex<Tables>,
}

struct Tables {
    /// Physical memory by who holds it: regions, and what [`Registry::reserve`] was told of.
    claims: Claims,
    regions: BTreeMap<u32, Arc<DaxRegion>>,
    devices: BTreeMap<DeviceName, Arc<DevDax>>,
    by_number: BTreeMap<u32, DeviceName>,
}

impl Registry {
    /// Empty. `epoch` pins the sections of all its devices.
    pub fn new(epoch: &'static dyn Epoch) -> Registry {
        let tables = Tables {
            claims: Claims::new(),
            regions: BTreeMap::new(),
            devices: BTreeMap::new(),
            by_number: BTreeMap::new(),
        };
        Registry { epoch, minors: MinorPool::new(MINORS), tables: Mutex::new(tables) }
    }

    /// Notes that somebody else (`who`: "RAM", "firmware") holds a physical range, so that no region gets
    /// it. Fails with `Claimed`.
    pub fn reserve(&self, range: PhysRange, who: &'static str) -> Result<(), DaxError> {
        claim(&mut self.tables.lock().claims, range, Holder::Other(who))
    }

    /// Adds a region. Fails when its range cannot be used at its alignment (`HeadMisaligned`,
    /// `TooSmall`), when its number exists, or when somebody holds a part of the range (`Claimed`).
    pub fn add_region(&self, config: RegionConfig) -> Result<Arc<DaxRegion>, DaxError> {
        let whole = config.range;
        let region = Arc::new(DaxRegion::new(config)?);
        let mut tables = self.tables.lock();
        if tables.regions.contains_key(&region.id()) {
            return Err(DaxError::RegionExists { region: region.id() });
        }
        // The trimmed tail is the region's as well: nobody else has a use for it.
        claim(&mut tables.claims, whole, Holder::Region(region.id()))?;
        tables.regions.insert(region.id(), region.clone());
        Ok(region)
    }

    /// Cuts a device from a region: `range`, its tail trimmed to `align`. The device is disabled until
    /// [`DevDax::enable`].
    ///
    /// Fails, and changes nothing, when the range is misaligned, too small, outside of the region or held
    /// by another device, or when numbers or memory are out.
    pub fn create_device(
        &self,
        region: &Arc<DaxRegion>,
        range: PhysRange,
        align: MapSize,
    ) -> Result<Arc<DevDax>, DaxError> {
        let minor = self.minors.lease()?;
        let (name, range) = region.allocate(range, align)?;
        let Some(ranges) = DevRanges::new(&[range], align) else {
            region.give_back(name, core::iter::once(range));
            return Err(DaxError::NoMemory);
        };
        let memory = Arc::new(RegionMemory { region: region.clone(), ranges });
        let device = Arc::new(DaxDevice::new(name, minor, self.epoch, memory.clone()));
        let dev_dax = Arc::new(DevDax::new(align, memory, device));
        let mut tables = self.tables.lock();
        tables.by_number.insert(dev_dax.number(), name);
        tables.devices.insert(name, dev_dax.clone());
        Ok(dev_dax)
    }

    /// Removes a dead device and gives its range back (module head). Fails, and changes nothing, while it
    /// is alive (`Lifetime`), or when it is not listed (`NoSuchDevice`).
    pub fn destroy_device(&self, device: &Arc<DevDax>) -> Result<(), DaxError> {
        let name = device.name();
        let mut tables = self.tables.lock();
        if !tables.devices.get(&name).is_some_and(|listed| Arc::ptr_eq(listed, device)) {
            return Err(DaxError::NoSuchDevice { name });
        }
        // Also decides between two that destroy, and against one that enables.
        device.device().lifetime().retire().map_err(|why| device.device().refuse(why))?;
        tables.by_number.remove(&device.number());
        let listed = tables.devices.remove(&name);
        device.region().give_back(name, device.ranges().iter().map(|range| range.phys));
        drop(tables);
        drop(listed);
        Ok(())
    }

    /// The device of this name, such as `dax0.0`.
    pub fn by_name(&self, name: &str) -> Option<Arc<DevDax>> {
        self.tables.lock().devices.get(&DeviceName::parse(name)?).cloned()
    }

    /// The device of this minor number.
    pub fn by_number(&self, number: u32) -> Option<Arc<DevDax>> {
        let tables = self.tables.lock();
        tables.devices.get(tables.by_number.get(&number)?).cloned()
    }

    /// The first device behind `after` in the order of names, or the first of all: a listing walks with
    /// it and holds no lock in between.
    pub fn next_device(&self, after: Option<DeviceName>) -> Option<Arc<DevDax>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables.lock();
        tables.devices.range((from, Bound::Unbounded)).next().map(|(_, device)| device.clone())
    }

    /// How many devices are listed.
    pub fn device_count(&self) -> usize {
        self.tables.lock().devices.len()
    }

    /// The region of this number.
    pub fn region(&self, id: u32) -> Option<Arc<DaxRegion>> {
        self.tables.lock().regions.get(&id).cloned()
    }

    /// All regions, by number.
    pub fn regions(&self) -> Vec<Arc<DaxRegion>> {
        self.tables.lock().regions.values().cloned().collect()
    }
}

fn claim(claims: &mut Claims, range: PhysRange, holder: Holder) -> Result<(), DaxError> {
    let named = |Conflict { taken, holder }| DaxError::Claimed { range, taken, holder };
    claims.claim(range, holder).map_err(named)
}

#[cfg(test)]
mod tests;
