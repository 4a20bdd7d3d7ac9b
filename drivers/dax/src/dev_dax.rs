//! A device-dax device: memory of a region that programs map in entries of one size.
//!
//! Its size, place and alignment never change: a device that is resized is a new `DevDax` over the same
//! number, so a fault reads them without a lock, and an old descriptor keeps reading the old ones (it can
//! use neither: its generation is dead).

use crate::device::{DaxDevice, DaxOperations};
use crate::error::DaxError;
use crate::lifetime::Generation;
use crate::name::DeviceName;
use crate::open_dax::OpenDax;
use crate::ranges::{DevRange, DevRanges};
use crate::region::{DaxRegion, MediaAccess};
use crate::stats::FaultCounts;
use alloc::sync::Arc;
use core::fmt;
use mm::pager::{Prot, Refusal};
use mm::range::{MapSize, PhysRange};

/// A device that programs map: `dax0.0`.
pub struct DevDax {
    align: MapSize,
    memory: Arc<RegionMemory>,
    device: Arc<DaxDevice>,
    faults: FaultCounts,
}

/// Ranges of a region, as the operations of a dax device.
pub(crate) struct RegionMemory {
    pub(crate) region: Arc<DaxRegion>,
    pub(crate) ranges: DevRanges,
}

impl DaxOperations for RegionMemory {
    fn direct_access(&self, page: u64, pages: u64) -> Option<PhysRange> {
        self.ranges.pages_to_phys(page, pages)
    }

    fn flush(&self, offset_bytes: u64, len_bytes: u64) {
        for piece in self.ranges.pieces(offset_bytes, len_bytes) {
            self.region.media_flush().flush(piece);
        }
    }
}

impl DevDax {
    pub(crate) fn new(align: MapSize, memory: Arc<RegionMemory>, device: Arc<DaxDevice>) -> DevDax {
        DevDax { align, memory, device, faults: FaultCounts::default() }
    }

    /// The name, such as `dax0.0`.
    pub fn name(&self) -> DeviceName {
        self.device.name()
    }

    /// The minor number.
    pub fn number(&self) -> u32 {
        self.device.number()
    }

    /// The size of every entry that maps the device.
    pub fn align(&self) -> MapSize {
        self.align
    }

    /// The size in bytes, a multiple of the alignment.
    pub fn size_bytes(&self) -> u64 {
        self.memory.ranges.size_bytes()
    }

    /// Where its bytes lie, by offset.
    pub fn ranges(&self) -> &[DevRange] {
        self.memory.ranges.as_slice()
    }

    /// The region that it was cut from.
    pub fn region(&self) -> &Arc<DaxRegion> {
        &self.memory.region
    }

    /// The generic device below.
    pub fn device(&self) -> &Arc<DaxDevice> {
        &self.device
    }

    /// The faults that it served.
    pub fn faults(&self) -> &FaultCounts {
        &self.faults
    }

    /// The most that a vma of this device may ever allow: no store where the media is read-only.
    ///
    /// Linux never looks at the media here. A program may open a read-only device in any mode, as there,
    /// and is refused (EACCES) when it maps it writable: better than stores that do not survive.
    pub fn max_prot(&self) -> Prot {
        match self.region().access() {
            MediaAccess::ReadWrite => Prot::all(),
            MediaAccess::ReadOnly => Prot::READ | Prot::EXEC,
        }
    }

    /// Returns the physical range behind `[offset_bytes, offset_bytes + size.bytes())` of this device.
    ///
    /// `offset_bytes` counts from the device's first byte and is a multiple of `size.bytes()`.
    /// `None` when the range ends past the device or spans two of its ranges: the caller answers SIGBUS.
    pub fn offset_to_phys(&self, offset_bytes: u64, size: MapSize) -> Option<PhysRange> {
        self.memory.ranges.offset_to_phys(offset_bytes, size)
    }

    /// Opens the device in its present generation. Fails with `Refusal::Dead` when it is disabled.
    pub fn open(self: &Arc<Self>) -> Result<Arc<OpenDax>, Refusal> {
        let generation = self.device.lifetime().generation().ok_or(Refusal::Dead)?;
        Ok(Arc::new(OpenDax::new(self.clone(), generation)))
    }

    /// Lets programs open and map the device, in a new generation. Fails when it is alive or destroyed.
    pub fn enable(&self) -> Result<Generation, DaxError> {
        self.device.enable()
    }

    /// Refuses every open, mmap and fault from now on, and waits out those under way: see
    /// [`DaxDevice::kill`].
    pub fn kill(&self) -> Result<u32, DaxError> {
        self.device.kill()
    }
}

impl fmt::Debug for DevDax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x} bytes align {}", self.name(), self.size_bytes(), self.align)
    }
}

#[cfg(test)]
mod tests;
