//! Every generic dax device of a system, by number and by host name.
//!
//! Locks: those of a table's chunks, two leaves, the numbers and the holders, and that of the host names, which is
//! taken before the others.

use crate::device::{DaxDevice, DaxOperations};
use crate::error::DaxError;
use crate::holder::DaxHolder;
use crate::ids::IdSet;
use crate::lifetime::Epoch;
use crate::memory;
use crate::table::Table;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::lock::{Rank, SpinLock};

/// What all dax devices of a system share.
pub(crate) struct System {
    pub epoch: &'static dyn Epoch,
    minors: SpinLock<IdSet>,
    /// By number of the device; few devices are held.
    pub holders: SpinLock<Vec<(u32, Arc<dyn DaxHolder>)>>,
}

/// A device number, in use until the last object that has it drops: the old objects of a device that was resized
/// while somebody had it open share it with the present one.
pub(crate) struct Minor {
    pub system: Arc<System>,
    pub number: u32,
}

impl Drop for Minor {
    fn drop(&mut self) {
        self.system.minors.lock().release(self.number);
    }
}

/// The generic dax devices of a system.
pub struct DaxDevices {
    system: Arc<System>,
    by_number: Table<Arc<DaxDevice>, 1024, 1024>,
    /// The devices that [`DaxDevices::register`] listed.
    registered: SpinLock<Vec<Arc<DaxDevice>>>,
}

impl DaxDevices {
    pub(crate) fn new(epoch: &'static dyn Epoch, minors: u32) -> DaxDevices {
        let minors = SpinLock::new(Rank::Minors, IdSet::new(minors));
        let holders = SpinLock::new(Rank::DeviceMappings, Vec::new());
        let registered = SpinLock::new(Rank::Registry, Vec::new());
        let system = Arc::new(System { epoch, minors, holders });
        DaxDevices { system, by_number: Table::new(), registered }
    }

    /// Lists a device that has no service above it, alive. Fails when its host name is taken, or when numbers or
    /// memory are out.
    pub fn register<O: DaxOperations + 'static>(&self, operations: O) -> Result<Arc<DaxDevice<O>>, DaxError> {
        let name = operations.name();
        let minor = self.minor()?;
        memory::room_for::<DaxDevice<O>>()?;
        let device = Arc::new(DaxDevice::new(minor, operations));
        let mut registered = self.registered.lock();
        if registered.iter().any(|other| other.host_name() == name) {
            return Err(DaxError::NameExists { name });
        }
        memory::reserve(&mut registered, 1)?;
        self.insert(device.clone())?;
        device.lifetime().enable().map_err(|why| device.refuse(why))?;
        registered.push(device.clone());
        Ok(device)
    }

    /// Takes a registered device off the list; its number returns with its last user. Fails (`Lifetime`) while it
    /// is alive, or when it is not listed.
    pub fn unregister(&self, device: &DaxDevice) -> Result<(), DaxError> {
        let mut registered = self.registered.lock();
        let listed = registered.iter().position(|listed| listed.number() == device.number());
        let listed = listed.ok_or(DaxError::NoSuchDevice { name: device.host_name() })?;
        device.lifetime().retire().map_err(|why| device.refuse(why))?;
        let off_the_list = registered.swap_remove(listed);
        drop(registered);
        drop((off_the_list, self.remove(device.number())));
        Ok(())
    }

    /// The device of this number.
    pub fn by_number(&self, number: u32) -> Option<Arc<DaxDevice>> {
        self.by_number.get(number)
    }

    /// The registered device of this host name, such as `ram0`; those of regions are the registry's to find.
    pub fn by_host_name(&self, name: &str) -> Option<Arc<DaxDevice>> {
        self.registered.lock().iter().find(|device| device.host_name().is(name)).cloned()
    }

    /// The lowest free number. Fails with `NoNumber` or `NoMemory`.
    pub(crate) fn minor(&self) -> Result<Arc<Minor>, DaxError> {
        memory::room_for::<Minor>()?;
        let number = self.system.minors.lock().allocate()?;
        Ok(Arc::new(Minor { system: self.system.clone(), number }))
    }

    /// Lists a device by its number. Fails with `NoMemory`.
    pub(crate) fn insert(&self, device: Arc<DaxDevice>) -> Result<(), DaxError> {
        self.by_number.insert(device.number(), device)
    }

    pub(crate) fn replace(&self, device: Arc<DaxDevice>) -> Option<Arc<DaxDevice>> {
        self.by_number.replace(device.number(), device)
    }

    pub(crate) fn remove(&self, number: u32) -> Option<Arc<DaxDevice>> {
        self.by_number.remove(number)
    }
}
