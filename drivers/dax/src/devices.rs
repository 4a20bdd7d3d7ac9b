//! Every generic dax device of a system, by number and by host name.
//!
//! Locks: those of a table's chunks, and three leaves: the numbers, the holders, the host names.

use crate::device::{DaxDevice, DaxOperations};
use crate::error::DaxError;
use crate::holder::DaxHolder;
use crate::ids::IdSet;
use crate::lifetime::Epoch;
use crate::memory;
use crate::table::{Place, Table};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::lock::{Rank, SpinLock};

/// What all dax devices of a system share.
pub(crate) struct System {
    pub epoch: &'static dyn Epoch,
    minors: SpinLock<Minors>,
    /// By number of the device; few devices are held.
    holders: SpinLock<BTreeMap<u32, Arc<dyn DaxHolder>>>,
}

struct Minors {
    ids: IdSet,
    /// Leases of one number beyond the first: the old objects of a device that was resized while somebody had
    /// it open. Apart, to cost nothing where there is none.
    shared: BTreeMap<u32, u32>,
}

/// A device number, in use until its last lease drops.
pub(crate) struct Lease {
    system: Arc<System>,
    number: u32,
}

impl System {
    fn lease(self: &Arc<Self>) -> Result<Lease, DaxError> {
        let number = self.minors.lock().ids.allocate()?;
        Ok(Lease { system: self.clone(), number })
    }

    /// Who holds the device of this number.
    pub fn holder(&self, number: u32) -> Option<Arc<dyn DaxHolder>> {
        self.holders.lock().get(&number).cloned()
    }

    /// Sets the holder of a device and answers `true`, or `false` when it is not alive. Fails with the name of
    /// the one that holds it.
    pub fn set_holder(
        &self,
        number: u32,
        holder: &Arc<dyn DaxHolder>,
        is_alive: impl FnOnce() -> bool,
    ) -> Result<bool, &'static str> {
        let mut holders = self.holders.lock();
        if let Some(present) = holders.get(&number) {
            return Err(present.name());
        }
        let lives = is_alive();
        if lives {
            holders.insert(number, holder.clone());
        }
        Ok(lives)
    }

    /// Ends the hold on a device, whoever has it.
    pub fn take_holder(&self, number: u32) -> Option<Arc<dyn DaxHolder>> {
        let mut holders = self.holders.lock();
        let holder = holders.remove(&number);
        if holders.is_empty() {
            *holders = BTreeMap::new();
        }
        holder
    }

    /// Ends the hold on a device, if `holder` is the one that has it.
    pub fn release_holder(&self, number: u32, holder: &Arc<dyn DaxHolder>) {
        let mut holders = self.holders.lock();
        if holders.get(&number).is_some_and(|present| Arc::ptr_eq(present, holder)) {
            holders.remove(&number);
        }
    }
}

impl Lease {
    /// The number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Another lease of the same number.
    pub fn share(&self) -> Lease {
        *self.system.minors.lock().shared.entry(self.number).or_default() += 1;
        Lease { system: self.system.clone(), number: self.number }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut minors = self.system.minors.lock();
        match minors.shared.get_mut(&self.number) {
            None => {
                minors.ids.release(self.number);
            }
            Some(more @ 2..) => *more -= 1,
            Some(_) => {
                minors.shared.remove(&self.number);
                if minors.shared.is_empty() {
                    minors.shared = BTreeMap::new();
                }
            }
        }
    }
}

/// The generic dax devices of a system.
pub struct DaxDevices {
    system: Arc<System>,
    by_number: NumberTable,
    /// Numbers of the devices that [`DaxDevices::register`] listed.
    registered: SpinLock<Vec<u32>>,
}

type NumberTable = Table<Arc<DaxDevice>, 1024, 1024>;

impl DaxDevices {
    pub(crate) fn new(epoch: &'static dyn Epoch, minors: u32) -> DaxDevices {
        let minors = SpinLock::new(Rank::Minors, Minors { ids: IdSet::new(minors), shared: BTreeMap::new() });
        let system =
            Arc::new(System { epoch, minors, holders: SpinLock::new(Rank::DeviceMappings, BTreeMap::new()) });
        DaxDevices { system, by_number: Table::new(), registered: SpinLock::new(Rank::Registry, Vec::new()) }
    }

    /// Lists a device that has no service above it, alive. Fails when its host name is taken, or when numbers or
    /// memory are out.
    pub fn register<O: DaxOperations + 'static>(&self, operations: O) -> Result<Arc<DaxDevice<O>>, DaxError> {
        let name = operations.name();
        let (lease, place) = self.reserve()?;
        memory::room_for::<DaxDevice<O>>()?;
        let mut registered = self.registered.lock();
        if registered
            .iter()
            .any(|&number| self.by_number(number).is_some_and(|other| other.host_name() == name))
        {
            return Err(DaxError::NameExists { name });
        }
        memory::reserve(&mut registered, 1)?;
        let device = Arc::new(DaxDevice::new(lease, operations));
        device.lifetime().enable().map_err(|why| device.refuse(why))?;
        registered.push(device.number());
        place.fill(device.clone());
        Ok(device)
    }

    /// Takes a registered device off the list; its number returns with its last user. Fails (`Lifetime`) while it
    /// is alive, or when it is not listed.
    pub fn unregister(&self, device: &DaxDevice) -> Result<(), DaxError> {
        let mut registered = self.registered.lock();
        let listed = registered.iter().position(|&number| number == device.number());
        let listed = listed.ok_or(DaxError::NoSuchDevice { name: device.host_name() })?;
        device.lifetime().retire().map_err(|why| device.refuse(why))?;
        registered.swap_remove(listed);
        drop(registered);
        drop(self.remove(device.number()));
        Ok(())
    }

    /// The device of this number.
    pub fn by_number(&self, number: u32) -> Option<Arc<DaxDevice>> {
        self.by_number.get(number)
    }

    /// The registered device of this host name, such as `ram0`; those of regions are the registry's to find.
    pub fn by_host_name(&self, name: &str) -> Option<Arc<DaxDevice>> {
        let registered = self.registered.lock();
        let mut devices = registered.iter().filter_map(|&number| self.by_number(number));
        devices.find(|device| device.host_name().is(name))
    }

    /// A number, and the place in the table for its device.
    pub(crate) fn reserve(&self) -> Result<(Lease, Place<'_, Arc<DaxDevice>, 1024, 1024>), DaxError> {
        let lease = self.system.lease()?;
        let place = self.by_number.reserve(lease.number())?;
        Ok((lease, place))
    }

    pub(crate) fn replace(&self, device: Arc<DaxDevice>) -> Option<Arc<DaxDevice>> {
        self.by_number.replace(device.number(), device)
    }

    pub(crate) fn remove(&self, number: u32) -> Option<Arc<DaxDevice>> {
        self.by_number.remove(number)
    }
}
