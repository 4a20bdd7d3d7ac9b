//! What users may do to devices and regions, and the rules of it: those of Linux's device-dax (reference 5.9), with
//! a refusal that says who or what is in the way.
//!
//! Nothing here knows text or errnos: [`crate::linux`] reads the one and makes the other.

use crate::machine::machine;
use crate::removal;
use crate::scrub;
use alloc::sync::Arc;
use dax::{DaxError, DaxRegion, DevDax, DeviceName, DeviceRequest, Placement, Scrub};
use mm::range::{MapSize, PhysRange};
use thiserror::Error;

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ControlError {
    /// The text is not what is taken here.
    #[error("expected {expected}")]
    Syntax {
        /// What is.
        expected: &'static str,
    },
    /// The text is a number, but not one that fits.
    #[error("the number does not fit in 64 bits")]
    TooLarge,
    /// The number is none of those that are taken here.
    #[error("expected {expected}")]
    Invalid {
        /// Which are.
        expected: &'static str,
    },
    /// The text is no alignment at all.
    #[error("expected a number of bytes")]
    NoAlign,
    /// There is no such device.
    #[error("there is no such device")]
    NoDevice,
    /// A region has no such device.
    #[error("the region has no such device")]
    NotInRegion,
    /// The device is bound: it must be unbound first.
    #[error("{0} is bound: unbind it first")]
    Bound(DeviceName),
    /// The same, and this process has it mapped.
    #[error("{0} is bound, and process {1} has it mapped: unbind it first")]
    Mapped(DeviceName, u32),
    /// The device is not bound.
    #[error("{0} is not bound")]
    NotBound(DeviceName),
    /// The device still has so many bytes of memory: its size must be 0 first.
    #[error("{0} has {1:#x} bytes: its size must be 0 first")]
    HasMemory(DeviceName, u64),
    /// Device 0 of a region stays as long as the region.
    #[error("{0} stays as long as its region")]
    First(DeviceName),
    /// The device has no memory.
    #[error("{0} has no memory: give it a size first")]
    Empty(DeviceName),
    /// The region of this number has no memory left.
    #[error("region{0} has no memory left")]
    RegionFull(u32),
    /// The length of a range is not a multiple of the device's alignment.
    #[error("the length is not a multiple of the device's alignment of {align}")]
    RangeMisaligned {
        /// The alignment.
        align: MapSize,
    },
    /// The process was ended before the work was.
    #[error("interrupted: the process was ended")]
    Interrupted,
    /// The dax crate refused.
    #[error(transparent)]
    Dax(#[from] DaxError),
}

/// What becomes of those who have a device mapped that is to be resized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenBound {
    /// They keep it: the change is refused.
    Refuse,
    /// They lose it, and the device comes back in its new size, in a new generation.
    Revoke,
}

/// The device of this name.
pub fn device(name: DeviceName) -> Result<Arc<DevDax>, ControlError> {
    let region = machine().registry.region(name.region).ok_or(ControlError::NoDevice)?;
    region.device(name.id).ok_or(ControlError::NoDevice)
}

/// Makes a device without memory.
pub fn create(region: &Arc<DaxRegion>) -> Result<(), ControlError> {
    if region.available_bytes() == 0 {
        return Err(ControlError::RegionFull(region.id()));
    }
    let request = DeviceRequest { placement: Placement::Size(0), align: region.align() };
    machine().registry.create_device(region, request)?;
    Ok(())
}

/// Removes a device that is not bound and has no memory.
pub fn delete(region: &DaxRegion, name: DeviceName) -> Result<(), ControlError> {
    let device = region.device(name.id).filter(|_| name.region == region.id());
    let device = device.ok_or(ControlError::NotInRegion)?;
    check_unbound(&device)?;
    match device.size_bytes() {
        0 if name.id == 0 => Err(ControlError::First(name)),
        0 => Ok(removal::destroy(&device)?),
        size_bytes => Err(ControlError::HasMemory(name, size_bytes)),
    }
}

/// Makes a device larger or smaller.
pub fn resize(device: &Arc<DevDax>, size_bytes: u64, when_bound: WhenBound) -> Result<(), ControlError> {
    let (region, align) = (device.region().id(), device.align());
    if !align.divides(size_bytes) {
        return Err(DaxError::SizeMisaligned { region, size_bytes, align }.into());
    }
    if size_bytes.saturating_sub(device.size_bytes()) > device.region().available_bytes() {
        return Err(ControlError::RegionFull(region));
    }
    let was_bound = device.is_alive();
    match when_bound {
        WhenBound::Refuse => check_unbound(device)?,
        WhenBound::Revoke if was_bound => drop(removal::disable(device)?),
        WhenBound::Revoke => {}
    }
    let resized = if size_bytes == device.size_bytes() {
        Ok(device.clone())
    } else {
        machine().registry.resize(device, size_bytes)
    };
    // A device that could not be resized comes back as it was.
    let now = resized.as_ref().unwrap_or(device);
    if was_bound && now.size_bytes() > 0 {
        enable(now)?;
    }
    resized?;
    Ok(())
}

/// Gives a device another entry size.
pub fn set_align(device: &Arc<DevDax>, align_bytes: u64) -> Result<(), ControlError> {
    let align = MapSize::from_bytes(align_bytes).filter(|&align| can_map(align));
    let align = align
        .ok_or(ControlError::Invalid { expected: "4096, 2097152, or 1073741824 where the CPU has it" })?;
    check_unbound(device)?;
    machine().registry.set_align(device, align)?;
    Ok(())
}

/// Gives a device exactly this range besides those that it has.
pub fn add_mapping(device: &Arc<DevDax>, range: PhysRange) -> Result<(), ControlError> {
    let align = device.align();
    if !align.divides(range.len_bytes()) || !align.divides(range.start().as_u64()) {
        return Err(ControlError::RangeMisaligned { align });
    }
    check_unbound(device)?;
    machine().registry.add_mapping(device, range)?;
    Ok(())
}

/// Lets programs open a device: what others left in its memory is zeroed first, unless that is waived.
pub fn bind(name: DeviceName) -> Result<(), ControlError> {
    // A device that was deleted is told from one that never was (reference 5.9).
    let was_there = machine().registry.region(name.region).is_some_and(|region| region.has_had(name.id));
    let device = device(name).map_err(|why| if was_there { ControlError::NotInRegion } else { why })?;
    check_unbound(&device)?;
    enable(&device)
}

/// Takes a device from its users.
pub fn unbind(name: DeviceName) -> Result<(), ControlError> {
    let device = device(name)?;
    if !device.is_alive() {
        return Err(ControlError::NotBound(name));
    }
    removal::disable(&device)?;
    Ok(())
}

fn enable(device: &DevDax) -> Result<(), ControlError> {
    if device.size_bytes() == 0 {
        return Err(ControlError::Empty(device.name()));
    }
    if device.region().scrub() == Scrub::Required {
        scrub::scrub(device)?;
    }
    device.enable()?;
    Ok(())
}

fn check_unbound(device: &DevDax) -> Result<(), ControlError> {
    match device.first_mapping() {
        _ if !device.is_alive() => Ok(()),
        Some(space) => Err(ControlError::Mapped(device.name(), space.owner())),
        None => Err(ControlError::Bound(device.name())),
    }
}

fn can_map(align: MapSize) -> bool {
    align != MapSize::Size1G || machine().memory.gigabyte_pages
}
