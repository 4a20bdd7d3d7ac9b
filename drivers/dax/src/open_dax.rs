//! A device as one descriptor or one mapping sees it: in the generation in which it was opened.
//!
//! Descriptors and vmas hold it, and with it the device's object, number and name; what they cannot do is
//! to use a device that was disabled since, even when it is enabled again.
//!
//! A mapping's is on the device's list of mappings from mmap or fork until the last vma of the mapping goes. A
//! vma's entries are gone before it lets go of this.

use crate::dev_dax::DevDax;
use crate::device::Section;
use crate::lifetime::Generation;
use crate::memory;
use crate::rules;
use alloc::sync::{Arc, Weak};
use core::fmt;
use mm::pager::{FaultError, Install, Installed, Pager, Prot, Refusal, VmaRequest};
use mm::range::{MapSize, PhysRange};
use mm::space::AddressSpace;

/// An open dax device.
#[derive(Debug)]
pub struct OpenDax {
    device: Arc<DevDax>,
    generation: Generation,
    /// A mapping's place on the list: none for a descriptor, or when the device was dead at a fork already.
    slot: Option<u32>,
    /// Shared by a descriptor and its mappings.
    opening: Arc<()>,
}

impl OpenDax {
    /// As a descriptor sees it.
    pub(crate) fn new(device: Arc<DevDax>, generation: Generation) -> OpenDax {
        OpenDax { device, generation, slot: None, opening: Arc::new(()) }
    }

    /// Lives as long as the descriptor, or one of the mappings that were made through it.
    pub fn opening(&self) -> Weak<()> {
        Arc::downgrade(&self.opening)
    }

    /// The device; it may be dead.
    pub fn device(&self) -> &Arc<DevDax> {
        &self.device
    }

    /// The most that a vma of this device may ever allow: see [`DevDax::max_prot`].
    pub fn max_prot(&self) -> Prot {
        self.device.max_prot()
    }

    /// Is the device alive, in the generation in which it was opened? Outside a section the answer may be
    /// old when it arrives.
    pub fn is_alive(&self) -> bool {
        self.device.service().alive(self.generation)
    }

    /// As a mapping by `space` sees it, on the device's list if the device is alive. Fails with `NoMemory`.
    fn mapping(&self, space: &Weak<AddressSpace>) -> Result<Arc<OpenDax>, Refusal> {
        let slot =
            self.device.mappings().register(space, || self.is_alive()).map_err(|_| Refusal::NoMemory)?;
        let opening = Arc::clone(&self.opening);
        let mapping = OpenDax { device: self.device.clone(), generation: self.generation, slot, opening };
        // Only now: to be listed takes memory, too. What finds no room leaves the list where it is dropped.
        memory::room_for::<OpenDax>().map_err(|_| Refusal::NoMemory)?;
        Ok(Arc::new(mapping))
    }

    /// A fault on a device that is dead, or has bad memory. Whoever finds more of it meanwhile takes this entry away
    /// again: that needs the lock of the space that faults.
    #[cold]
    fn fault_unsound(&self, phys: PhysRange, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        let is_bad = self.device.region().space().bad.first_overlap(phys).is_some();
        let _section = Section::begin(self.device.epoch());
        match () {
            () if !self.is_alive() => Err(FaultError::Bus),
            () if is_bad => Err(FaultError::Poisoned),
            () => Ok(install(phys, self.device.align())),
        }
    }
}

impl Drop for OpenDax {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.device.mappings().deregister(slot);
        }
    }
}

impl Pager for OpenDax {
    #[inline]
    fn granule(&self) -> MapSize {
        self.device.align()
    }

    fn check_vma(&self, vma: &VmaRequest) -> Result<(), Refusal> {
        if !self.is_alive() {
            return Err(Refusal::Dead);
        }
        rules::check_vma(vma, self.device.align())
    }

    #[inline]
    fn fault(&self, offset_bytes: u64, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        let device = &*self.device;
        let align = device.align();
        // Where a `DevDax` lies never changes: only whether it still lies there is decided in the section.
        let phys = device.offset_to_phys(offset_bytes, align).ok_or(FaultError::Bus)?;
        let section = Section::begin(device.epoch());
        if !device.service().sound(self.generation) {
            drop(section);
            return self.fault_unsound(phys, install);
        }
        let installed = install(phys, align);
        drop(section);
        Ok(installed)
    }

    fn poison(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), Refusal> {
        if !self.is_alive() {
            return Err(Refusal::Dead);
        }
        self.device.poison(offset_bytes, len_bytes).map_err(|_| Refusal::NoMemory)
    }

    fn attach(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        let mapping = self.mapping(space)?;
        if mapping.slot.is_some() { Ok(mapping) } else { Err(Refusal::Dead) }
    }

    fn inherit(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        Ok(self.mapping(space)?)
    }

    fn key(&self) -> u64 {
        self.device.key()
    }

    fn futex_object(&self) -> (u64, u64) {
        (self.key(), self.generation.number())
    }

    fn flush(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), Refusal> {
        // Not pinned: a flush may take seconds. One that overlaps a kill flushes memory that nobody has
        // been given yet, which harms nothing.
        if !self.is_alive() {
            return Err(Refusal::Dead);
        }
        self.device.flush(offset_bytes, len_bytes).map_err(|_| Refusal::Dead)
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/dev/{}", self.device.name())
    }
}

#[cfg(test)]
mod tests;
