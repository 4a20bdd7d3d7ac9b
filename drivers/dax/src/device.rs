//! The generic dax device: an object with a number, a name, a lifetime and operations on its memory.
//!
//! It exists with or without a service above it; device-dax ([`crate::dev_dax`]) is one such service. The
//! kernel's own users reach the memory through [`DaxDevice::direct_access`].

use crate::error::DaxError;
use crate::ids::Minor;
use crate::lifetime::{Epoch, Generation, Lifetime, LifetimeError};
use crate::name::DeviceName;
use alloc::sync::Arc;
use core::fmt;
use mm::range::{PAGE_SIZE, PhysRange};

/// What the provider of a device's memory (pmem, a RAM disk) can do with it.
pub trait DaxOperations: Send + Sync {
    /// The longest contiguous run of at most `pages` pages of 4 KiB from page `page` on; `None` past the
    /// device's end. Called inside a pinned section: must be short, and neither wait nor allocate.
    fn direct_access(&self, page: u64, pages: u64) -> Option<PhysRange>;

    /// Makes stores to `[offset_bytes, offset_bytes + len_bytes)` durable; bytes past the end are ignored.
    fn flush(&self, offset_bytes: u64, len_bytes: u64);
}

/// A dax device, without any service above it.
pub struct DaxDevice {
    name: DeviceName,
    minor: Minor,
    lifetime: Lifetime,
    epoch: &'static dyn Epoch,
    operations: Arc<dyn DaxOperations>,
}

impl DaxDevice {
    /// A new device, disabled.
    pub fn new(
        name: DeviceName,
        minor: Minor,
        epoch: &'static dyn Epoch,
        operations: Arc<dyn DaxOperations>,
    ) -> DaxDevice {
        DaxDevice { name, minor, lifetime: Lifetime::new(), epoch, operations }
    }

    /// The name, such as `dax0.0`.
    pub fn name(&self) -> DeviceName {
        self.name
    }

    /// The minor number; nobody else gets it before the last user of this object is gone.
    pub fn number(&self) -> u32 {
        self.minor.number()
    }

    /// Alive or not, and since when.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// How sections on this device are pinned.
    pub fn epoch(&self) -> &'static dyn Epoch {
        self.epoch
    }

    /// Begins a new generation. Fails when the device is alive, or was destroyed.
    pub fn enable(&self) -> Result<Generation, DaxError> {
        self.lifetime.enable().map_err(|why| self.refuse(why))
    }

    /// Ends the generation: when this returns, nobody uses the device's memory through this object, and
    /// nobody begins to. Returns the turns that the grace period took.
    ///
    /// Waits: see [`Lifetime::kill`]. What is mapped stays mapped: unmapping is the caller's next step.
    pub fn kill(&self) -> Result<u32, DaxError> {
        self.lifetime.kill(self.epoch).map_err(|why| self.refuse(why))
    }

    /// Passes the memory of at most `pages` pages from page `page` on to `section`, and returns how many
    /// pages that was: fewer than asked for where the memory is not contiguous or the device ends.
    ///
    /// The memory is the device's until `section` returns, which runs pinned: it must be short, and
    /// neither wait nor allocate. Pages are of 4 KiB. Fails with `NoPages`, `PastEnd` or (dead) `Lifetime`.
    pub fn direct_access(
        &self,
        page: u64,
        pages: u64,
        section: &mut dyn FnMut(PhysRange),
    ) -> Result<u64, DaxError> {
        if pages == 0 {
            return Err(DaxError::NoPages { name: self.name });
        }
        let _section = self.epoch.pin();
        self.lifetime.generation().ok_or(self.refuse(LifetimeError::Dead))?;
        let run = self.operations.direct_access(page, pages);
        let run = run.ok_or(DaxError::PastEnd { name: self.name, page })?;
        section(run);
        Ok(run.len_bytes() / PAGE_SIZE)
    }

    /// Makes stores to `[offset_bytes, offset_bytes + len_bytes)` durable; bytes past the end are ignored.
    /// Fails (`Lifetime`) when the device is dead.
    pub fn flush(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), DaxError> {
        self.lifetime.generation().ok_or(self.refuse(LifetimeError::Dead))?;
        self.operations.flush(offset_bytes, len_bytes);
        Ok(())
    }

    pub(crate) fn refuse(&self, why: LifetimeError) -> DaxError {
        DaxError::Lifetime { name: self.name, why }
    }
}

impl fmt::Debug for DaxDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (number {}, {:?})", self.name, self.number(), self.lifetime)
    }
}

#[cfg(test)]
mod tests;
