//! A device as one descriptor sees it: in the generation in which it was opened.
//!
//! Descriptors and vmas hold it, and with it the device's object, number and name; what they cannot do is
//! to use a device that was disabled since, even when it is enabled again.

use crate::dev_dax::DevDax;
use crate::lifetime::Generation;
use crate::rules;
use alloc::sync::{Arc, Weak};
use core::fmt;
use mm::pager::{FaultError, FaultRequest, Install, Installed, Pager, Prot, Refusal, VmaRequest};
use mm::range::MapSize;
use mm::space::AddressSpace;

/// An open dax device: the pager of its mappings.
#[derive(Debug)]
pub struct OpenDax {
    device: Arc<DevDax>,
    generation: Generation,
}

impl OpenDax {
    pub(crate) fn new(device: Arc<DevDax>, generation: Generation) -> OpenDax {
        OpenDax { device, generation }
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
        self.device.device().lifetime().alive(self.generation)
    }
}

impl Pager for OpenDax {
    fn granule(&self) -> MapSize {
        self.device.align()
    }

    fn check_vma(&self, vma: &VmaRequest) -> Result<(), Refusal> {
        if !self.is_alive() {
            return Err(Refusal::Dead);
        }
        rules::check_vma(vma, self.device.align())
    }

    fn fault(&self, request: &FaultRequest, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        let align = self.device.align();
        let offset_bytes = rules::fault_offset(request, align).ok_or(FaultError::Bus)?;
        // Where a `DevDax` lies never changes: only whether it still lies there is decided in the section.
        let phys = self.device.offset_to_phys(offset_bytes, align).ok_or(FaultError::Bus)?;
        let section = self.device.device().epoch().pin();
        if !self.is_alive() {
            return Err(FaultError::Bus);
        }
        let installed = install(phys, align);
        drop(section);
        if installed == Installed::New {
            self.device.faults().count_installed(align);
        }
        Ok(installed)
    }

    fn attach(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        if self.is_alive() { self.inherit(space) } else { Err(Refusal::Dead) }
    }

    fn inherit(&self, _space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        Ok(Arc::new(OpenDax { device: self.device.clone(), generation: self.generation }))
    }

    fn key(&self) -> u64 {
        u64::from(self.device.device().number())
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
        self.device.device().flush(offset_bytes, len_bytes).map_err(|_| Refusal::Dead)
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/dev/{}", self.device.name())
    }
}

#[cfg(test)]
mod tests;
