//! The generic dax device: an object with a number, a name, a lifetime and operations on its memory.
//!
//! It exists with or without a service above it. Device-dax ([`crate::dev_dax`]) is one such service; a
//! RAM disk has none. A provider implements [`DaxOperations`] and registers them; whoever wants to use the
//! memory looks the device up by number or by name ([`crate::devices`]), holds it ([`crate::holder`]) and
//! reaches the memory through [`DaxDevice::direct_access`]. A file system would be such a consumer: it holds
//! the device at mount, maps its files' blocks through `direct_access`, and unmaps them when it is told that
//! the device goes.
//!
//! Two lives: the object's, which direct access needs, and the service's, which descriptors and mappings
//! need. The service may end alone; the end of the object ends the service first.

use crate::devices::Minor;
use crate::error::DaxError;
use crate::lifetime::{Epoch, Lifetime, LifetimeError};
use crate::name::DaxName;
use alloc::sync::Arc;
use core::fmt;
use crossbeam_epoch::Guard;
use mm::checks;
use mm::range::{PAGE_SIZE, PhysRange};

/// What the provider of a device's memory (pmem, a RAM disk) can do with it. Pages are of 4 KiB.
pub trait DaxOperations: Send + Sync {
    /// What the provider calls the device.
    fn name(&self) -> DaxName;

    /// The longest contiguous run of at most `pages` pages from page `page` on, `None` past the device's end.
    /// Called inside a pinned section: must be short, and neither wait nor allocate.
    fn direct_access(&self, _page: u64, _pages: u64) -> Result<Option<PhysRange>, Unsupported> {
        Err(Unsupported)
    }

    /// Zeroes the page at `page`, where `page_range` says that it lies. Called inside a pinned section, too.
    fn zero_page(&self, _page_range: PhysRange) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// Makes stores to `[offset_bytes, offset_bytes + len_bytes)` durable; bytes past the end are ignored.
    fn flush(&self, _offset_bytes: u64, _len_bytes: u64) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// Ends the service above, because the object is going to end: waits, and fails, like [`DaxDevice::shut_down`].
    /// Nothing is left to do when it ended before.
    fn detach(&self, _epoch: &dyn Epoch) -> Result<(), LifetimeError> {
        Ok(())
    }
}

/// The provider has no such operation (EOPNOTSUPP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsupported;

/// A dax device, without any service above it.
pub struct DaxDevice<O: DaxOperations + ?Sized = dyn DaxOperations> {
    minor: Arc<Minor>,
    lifetime: Lifetime,
    operations: O,
}

impl<O: DaxOperations> DaxDevice<O> {
    /// A new device, dead.
    pub(crate) fn new(minor: Arc<Minor>, operations: O) -> DaxDevice<O> {
        DaxDevice { minor, lifetime: Lifetime::new(), operations }
    }
}

impl<O: DaxOperations + ?Sized> DaxDevice<O> {
    /// What its provider calls it.
    pub fn host_name(&self) -> DaxName {
        self.operations.name()
    }

    /// The minor number; nobody else gets it before the last user of this object is gone.
    pub fn number(&self) -> u32 {
        self.minor.number
    }

    /// Whether direct access works. The lives of descriptors and mappings are those of the service.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// The provider's side.
    pub fn operations(&self) -> &O {
        &self.operations
    }

    pub(crate) fn minor(&self) -> &Arc<Minor> {
        &self.minor
    }

    /// How sections on this device are pinned.
    pub fn epoch(&self) -> &'static dyn Epoch {
        self.minor.system.epoch
    }

    /// Ends the object: the service above it, then direct access. When this returns, nobody uses the device's
    /// memory through this object, and nobody begins to; its holder was told.
    ///
    /// Waits: see [`Lifetime::kill`]. What a service mapped stays mapped, as after its own kill. Fails as a kill does;
    /// with `NoMemory` the service may have ended, and a later call goes on from there.
    pub fn shut_down(&self) -> Result<u32, DaxError> {
        let end = || {
            self.lifetime.check_alive()?;
            self.operations.detach(self.epoch())?;
            self.lifetime.kill(self.epoch())
        };
        let turns = end().map_err(|why| self.refuse(why))?;
        if let Some(holder) = self.end_hold(|_| true) {
            holder.removed();
        }
        Ok(turns)
    }

    /// Passes the memory of at most `pages` pages from page `page` on to `section`, and returns how many
    /// pages that was: fewer than asked for where the memory is not contiguous or the device ends.
    ///
    /// The memory is the device's until `section` returns, which runs pinned: it must be short, and
    /// neither wait nor allocate. Fails with `NoPages`, `PastEnd`, `NoOperation` or (dead) `Lifetime`.
    pub fn direct_access(
        &self,
        page: u64,
        pages: u64,
        section: &mut dyn FnMut(PhysRange),
    ) -> Result<u64, DaxError> {
        if pages == 0 {
            return Err(DaxError::NoPages { name: self.host_name() });
        }
        let _section = Section::begin(self.epoch());
        self.check_alive()?;
        let run = self.operations.direct_access(page, pages).map_err(|why| self.unsupported(why))?;
        let run = run.ok_or(DaxError::PastEnd { name: self.host_name(), page })?;
        section(run);
        Ok(run.len_bytes() / PAGE_SIZE)
    }

    /// Zeroes `pages` pages from page `page` on; one at a time, as Linux has it. Fails with `ManyPages`,
    /// `PastEnd`, `NoOperation` or (dead) `Lifetime`.
    pub fn zero_page_range(&self, page: u64, pages: u64) -> Result<(), DaxError> {
        if pages != 1 {
            return Err(DaxError::ManyPages { name: self.host_name(), pages });
        }
        let mut zeroed = Ok(());
        self.direct_access(page, 1, &mut |range| zeroed = self.operations.zero_page(range))?;
        zeroed.map_err(|why| self.unsupported(why))
    }

    /// Makes stores to `[offset_bytes, offset_bytes + len_bytes)` durable; bytes past the end are ignored.
    /// Fails with `NoOperation` or (dead) `Lifetime`.
    ///
    /// Not pinned: a flush may take seconds. One that overlaps the end of the object flushes memory of
    /// somebody else, which harms nothing.
    pub fn flush(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), DaxError> {
        self.check_alive()?;
        self.operations.flush(offset_bytes, len_bytes).map_err(|why| self.unsupported(why))
    }

    pub(crate) fn refuse(&self, why: LifetimeError) -> DaxError {
        DaxError::Lifetime { name: self.host_name(), why }
    }

    pub(crate) fn check_alive(&self) -> Result<(), DaxError> {
        self.lifetime.generation().map(|_| ()).ok_or_else(|| self.refuse(LifetimeError::Dead))
    }

    fn unsupported(&self, Unsupported: Unsupported) -> DaxError {
        DaxError::NoOperation { name: self.host_name() }
    }
}

impl<O: DaxOperations + ?Sized> Drop for DaxDevice<O> {
    /// Nobody has the object any more, so nobody is in a section on it either. But whoever let it go alive
    /// has given its memory to another, or will: a mistake of this kernel that must not go unseen.
    fn drop(&mut self) {
        if self.lifetime.generation().is_some() {
            let breach =
                format_args!("{} was freed while it was alive: shut it down first", self.host_name());
            #[cfg(feature = "checks")]
            panic!("{breach}");
            #[cfg(not(feature = "checks"))]
            log::error!("{breach}");
        }
    }
}

/// A section: this CPU's participant is pinned, and the `checks` build watches what is done meanwhile.
pub(crate) struct Section {
    _pinned: Guard,
}

impl Section {
    #[inline]
    pub(crate) fn begin(epoch: &dyn Epoch) -> Section {
        // Only now: a pin may collect, which frees and may allocate.
        let section = Section { _pinned: epoch.pin() };
        checks::pinned();
        section
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        checks::unpinned();
    }
}

impl<O: DaxOperations + ?Sized> fmt::Debug for DaxDevice<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (number {}, {:?})", self.host_name(), self.number(), self.lifetime)
    }
}

#[cfg(test)]
mod tests;
