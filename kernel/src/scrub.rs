//! Zeroes what one owner of memory left before the next one gets it.
//!
//! The kernel maps media read-only, so that it cannot harm them by accident. A scrub maps the bytes into an address
//! space of its own, which the task wears while it writes: whoever else runs on this CPU does not see them, and
//! nothing maps them when it is over. It lets others run every 2 MiB, and ends early when its process is to end: what
//! was not zeroed stays dirty.

use crate::control::ControlError;
use crate::machine::machine;
use crate::random;
use crate::task;
use crate::user_memory;
use alloc::sync::{Arc, Weak};
use core::fmt;
use dax::{DaxError, DevDax, MediaAccess};
use mm::pager::{FaultError, Install, Installed, Pager, Prot, Refusal, Sharing, VmaRequest};
use mm::range::{MapSize, PhysRange};
use mm::space::{AddressSpace, MapRequest, Placement};
use mm::vma::{Backing, VmaFlags};

/// Bytes after which others may run.
const STEP_BYTES: u64 = 2 << 20;

/// Zeroes the bytes of a disabled device that somebody else may have written in this boot.
pub fn scrub(device: &DevDax) -> Result<(), ControlError> {
    let scrubbing = device.begin_scrub()?;
    while let Some(dirty) = scrubbing.next_range() {
        // A read-only medium was never written by a program.
        if device.region().access() == MediaAccess::ReadOnly {
            scrubbing.scrubbed(dirty);
            continue;
        }
        let window = Window::at_the_start_of(dirty);
        window.zero(|zeroed| {
            device.region().media_flush().flush(zeroed);
            scrubbing.scrubbed(zeroed);
        })?;
    }
    Ok(())
}

/// A piece of physical memory that entries of one size map.
#[derive(Clone, Copy)]
struct Window {
    range: PhysRange,
    granule: MapSize,
}

impl Window {
    /// As much as the largest entries that fit map.
    fn at_the_start_of(range: PhysRange) -> Window {
        let start = range.start().as_u64();
        let fits = |size: &MapSize| size.divides(start) && size.bytes() <= range.len_bytes();
        let allowed = |size: &MapSize| *size != MapSize::Size1G || machine().memory.gigabyte_pages;
        let granule = MapSize::ALL.into_iter().rev().filter(allowed).find(fits).unwrap_or(MapSize::Size4K);
        // Small entries only up to where larger ones can take over.
        let larger = MapSize::ALL.into_iter().find(|size| *size > granule && allowed(size));
        let until = larger.map_or(u64::MAX, |larger| start.next_multiple_of(larger.bytes()));
        let until = if until == start { u64::MAX } else { until };
        let end = (range.end() & !(granule.bytes() - 1)).min(until);
        Window { range: PhysRange::from_bounds(start, end).unwrap_or(range), granule }
    }

    /// Zeroes it, and says so step by step.
    fn zero(self, mut zeroed: impl FnMut(PhysRange)) -> Result<(), ControlError> {
        let machine = machine();
        let space = AddressSpace::new(&machine.kernel_half, &machine.memory, random::u64());
        let space = space.ok_or(DaxError::NoMemory)?;
        let request = MapRequest {
            placement: Placement::Anywhere,
            len_bytes: self.range.len_bytes(),
            offset_bytes: 0,
            prot: Prot::READ | Prot::WRITE,
            max_prot: Prot::READ | Prot::WRITE,
            sharing: Sharing::Shared,
            flags: VmaFlags::empty(),
            backing: Backing::Device(Arc::new(self)),
            name: "",
        };
        let address = space.mmap(&request).map_err(|_| DaxError::NoMemory)?.as_u64();
        let own = task::current_space();
        task::use_space(Some(space));
        let result = self.zero_steps(address, &mut zeroed);
        task::use_space(own);
        result
    }

    fn zero_steps(self, address: u64, zeroed: &mut impl FnMut(PhysRange)) -> Result<(), ControlError> {
        let mut offset_bytes = 0;
        while let Some(step) =
            self.range.part(offset_bytes, STEP_BYTES.min(self.range.len_bytes() - offset_bytes))
        {
            user_memory::zero(address + offset_bytes, step.len_bytes()).map_err(|_| DaxError::NoMemory)?;
            zeroed(step);
            offset_bytes += step.len_bytes();
            task::preempt_point();
            if task::with_current(|task| task.attention() & task::ATTEND_EXIT != 0) {
                return Err(ControlError::Interrupted);
            }
        }
        Ok(())
    }
}

/// Nobody can take the memory away: `DevDax::begin_scrub` keeps it.
impl Pager for Window {
    fn granule(&self) -> MapSize {
        self.granule
    }

    fn check_vma(&self, _: &VmaRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn fault(&self, offset_bytes: u64, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        let entry = self.range.part(offset_bytes, self.granule.bytes());
        Ok(install(entry.ok_or(FaultError::Bus)?, self.granule))
    }

    fn attach(&self, _: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        Ok(Arc::new(*self))
    }

    fn inherit(&self, _: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        Err(Refusal::Dead)
    }

    fn key(&self) -> u64 {
        0
    }

    fn futex_object(&self) -> (u64, u64) {
        (0, 0)
    }

    fn flush(&self, _: u64, _: u64) -> Result<(), Refusal> {
        Ok(())
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "[scrub]")
    }
}
