//! Who uses a generic dax device for good, such as a mounted file system: one holder a device.

use crate::device::{DaxDevice, DaxOperations};
use crate::error::DaxError;
use crate::memory;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Holds a device, and wants to know what becomes of it.
pub trait DaxHolder: Send + Sync {
    /// What a refusal calls it, such as "ext4".
    fn name(&self) -> &'static str;

    /// The memory of `[offset_bytes, offset_bytes + len_bytes)` is lost: poisoned, or gone.
    fn notify_failure(&self, offset_bytes: u64, len_bytes: u64);

    /// The device is dead and will not come back to this holder, which does not hold it any more. Called
    /// once, after the last access ended, with no lock held.
    fn removed(&self);
}

/// A device that is held, until this is dropped.
#[must_use]
pub struct Hold {
    device: Arc<DaxDevice>,
    holder: Arc<dyn DaxHolder>,
}

impl Hold {
    /// The device; it may be dead.
    pub fn device(&self) -> &Arc<DaxDevice> {
        &self.device
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.device.end_hold(|present| Arc::ptr_eq(present, &self.holder));
    }
}

impl<O: DaxOperations + ?Sized> DaxDevice<O> {
    /// Ends the hold of the holder, if there is one and `is_it`. Returns it.
    pub(crate) fn end_hold(&self, is_it: impl Fn(&Arc<dyn DaxHolder>) -> bool) -> Option<Arc<dyn DaxHolder>> {
        let mut holders = self.minor().system.holders.lock();
        let held = |(device, present): &(u32, _)| *device == self.number() && is_it(present);
        let (_, holder) = holders.iter().position(held).map(|index| holders.swap_remove(index))?;
        // An empty list keeps its memory: give it back.
        if holders.is_empty() {
            *holders = Vec::new();
        }
        Some(holder)
    }
}

impl DaxDevice {
    /// Makes `holder` the one that holds the device. Fails with `Held`, (dead) with `Lifetime`, or
    /// `NoMemory`.
    pub fn hold(self: &Arc<Self>, holder: Arc<dyn DaxHolder>) -> Result<Hold, DaxError> {
        let mut holders = self.minor().system.holders.lock();
        if let Some((_, present)) = holders.iter().find(|(device, _)| *device == self.number()) {
            return Err(DaxError::Held { name: self.host_name(), holder: present.name() });
        }
        // Looked at under the lock of the holders, which the end of the object takes after the device died: either
        // we see that, or it sees us.
        self.check_alive()?;
        memory::reserve_one(&mut holders)?;
        holders.push((self.number(), holder.clone()));
        Ok(Hold { device: self.clone(), holder })
    }

    /// Tells the holder, if there is one, that memory was lost. Answers whether somebody was told.
    pub fn notify_failure(&self, offset_bytes: u64, len_bytes: u64) -> bool {
        let held = |(device, _): &&(u32, _)| *device == self.number();
        let holder =
            self.minor().system.holders.lock().iter().find(held).map(|(_, holder)| Arc::clone(holder));
        holder.inspect(|holder| holder.notify_failure(offset_bytes, len_bytes)).is_some()
    }
}
