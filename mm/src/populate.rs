//! Faults in advance.

use crate::fault::Fault;
use crate::pager::{Access, FaultError, Installed};
use crate::range::{PAGE_SIZE, VirtRange};
use crate::reserve::Reserve;
use crate::space::AddressSpace;
use x86_64::VirtAddr;

/// Entries that `populate` writes before it lets others in.
const POPULATED_AT_ONCE: u32 = 1024;

/// What `populate` wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Populated {
    /// New entries of devices, by entry size in the order of [`MapSize::ALL`](crate::range::MapSize::ALL).
    pub device: [u64; 3],
    /// New pages of anonymous memory and files.
    pub pages: u64,
}

impl Populated {
    fn count(&mut self, fault: Fault) {
        match fault {
            Fault { installed: Installed::New, device: true, size } => self.device[size as usize] += 1,
            Fault { installed: Installed::New, .. } => self.pages += 1,
            _ => {}
        }
    }
}

impl AddressSpace {
    /// Faults in all of `range` (MAP_POPULATE, MADV_POPULATE_READ and _WRITE) and tells what that wrote. It
    /// stops at the first failure: MAP_POPULATE keeps quiet about it, madvise reports it.
    ///
    /// `goes_on` is asked after every thousand entries or so, with nothing held: it may let others run, and
    /// ends the work by a false.
    pub fn populate(
        &self,
        range: VirtRange,
        access: Access,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> (Populated, Result<(), FaultError>) {
        let (mut address, mut populated) = (range.start(), Populated::default());
        let frames = self.environment.frames;
        loop {
            let began = frames.moment();
            match self.populate_from(&mut address, range.end(), access, &mut populated) {
                Err(FaultError::NoMemory) if frames.wait_for_returning(began) => {}
                Ok(()) if address < range.end() && goes_on() => {}
                result => return (populated, result),
            }
        }
    }

    /// Moves `address` on as far as it gets, or by [`POPULATED_AT_ONCE`] entries; returns with no lock and no frame in
    /// its hands.
    fn populate_from(
        &self,
        address: &mut VirtAddr,
        end: VirtAddr,
        access: Access,
        populated: &mut Populated,
    ) -> Result<(), FaultError> {
        let mut reserve = Reserve::new(self.environment.frames);
        let mut left = POPULATED_AT_ONCE;
        while *address < end && left > 0 {
            let memory = self.memory.read();
            // All that can be done under one shared lock, in one pass.
            while *address < end && left > 0 {
                left -= 1;
                let vma =
                    memory.vmas.find_near(*address, &memory.local().near).ok_or(FaultError::NotMapped)?;
                let Some(fault) = self.serve(&memory.tables, vma, *address, access, &mut reserve)? else {
                    break;
                };
                populated.count(fault);
                *address = address.align_down(vma.granule.bytes()) + vma.granule.bytes();
            }
            drop(memory);
            if *address < end && left > 0 {
                populated.count(self.fault_exclusive(*address, access, &mut reserve)?);
                *address = address.align_down(PAGE_SIZE) + PAGE_SIZE;
            }
        }
        Ok(())
    }
}
