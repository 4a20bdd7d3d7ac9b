//! Who uses a generic dax device for good, such as a mounted file system: one holder a device.

use crate::device::DaxDevice;
use crate::error::DaxError;
use crate::lifetime::LifetimeError;
use alloc::sync::Arc;

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
        self.device.lease().system().release_holder(self.device.number(), &self.holder);
    }
}

impl DaxDevice {
    /// Makes `holder` the one that holds the device. Fails with `Held`, or (dead) with `Lifetime`.
    pub fn hold(self: &Arc<Self>, holder: Arc<dyn DaxHolder>) -> Result<Hold, DaxError> {
        let system = self.lease().system();
        // Alive is looked at under the lock of the holders, which the end of the object takes after the
        // device died: either we see that, or it sees us.
        let is_alive = || self.lifetime().generation().is_some();
        match system.set_holder(self.number(), &holder, is_alive) {
            Ok(true) => Ok(Hold { device: self.clone(), holder }),
            Ok(false) => Err(self.refuse(LifetimeError::Dead)),
            Err(holder) => Err(DaxError::Held { name: self.host_name(), holder }),
        }
    }

    /// Tells the holder, if there is one, that memory was lost. Answers whether somebody was told.
    pub fn notify_failure(&self, offset_bytes: u64, len_bytes: u64) -> bool {
        let holder = self.lease().system().holder(self.number());
        holder.inspect(|holder| holder.notify_failure(offset_bytes, len_bytes)).is_some()
    }
}
