//! Faults in advance.

use crate::pager::{Access, FaultError, Installed};
use crate::range::{PAGE_SIZE, VirtRange};
use crate::reserve::Reserve;
use crate::space::AddressSpace;
use x86_64::VirtAddr;

/// Entries that `populate` writes before it lets others in.
const POPULATED_AT_ONCE: u32 = 1024;

impl AddressSpace {
    /// Faults in all of `range` (MAP_POPULATE, MADV_POPULATE_READ and _WRITE) up to the first failure: MAP_POPULATE
    /// keeps quiet about it, madvise reports it.
    ///
    /// `goes_on` is asked after every thousand entries or so, with nothing held: it may let others run, and
    /// ends the work by a false.
    pub fn populate(
        &self,
        range: VirtRange,
        access: Access,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), FaultError> {
        let mut address = range.start();
        let frames = self.environment.frames;
        loop {
            let began = frames.moment();
            match self.populate_from(&mut address, range.end(), access) {
                Err(FaultError::NoMemory) if frames.wait_for_returning(began) => {}
                Ok(()) if address < range.end() && goes_on() => {}
                result => return result,
            }
        }
    }

    /// Moves `address` on as far as it gets, or by [`POPULATED_AT_ONCE`] entries; returns with no lock and no frame in
    /// its hands.
    fn populate_from(&self, address: &mut VirtAddr, end: VirtAddr, access: Access) -> Result<(), FaultError> {
        let mut reserve = Reserve::new(self.environment.frames);
        let mut left = POPULATED_AT_ONCE;
        while *address < end && left > 0 {
            let memory = self.memory.read();
            // All that can be done under one shared lock, in one pass.
            while *address < end && left > 0 {
                left -= 1;
                let (tables, notes) = (&memory.tables, memory.local());
                let vma = memory.vmas.find_near(*address, &notes.near).ok_or(FaultError::NotMapped)?;
                let installed = self.serve_quickly(tables, vma, *address, access)?;
                if !matches!(installed, Installed::NeedsTables(_)) {
                    notes.counted(vma, installed);
                } else if self.serve(tables, vma, *address, access, &mut reserve)?.is_none() {
                    break;
                }
                *address = address.align_down(vma.granule.bytes()) + vma.granule.bytes();
            }
            drop(memory);
            if *address < end && left > 0 {
                self.fault_exclusive(*address, access, &mut reserve)?;
                *address = address.align_down(PAGE_SIZE) + PAGE_SIZE;
            }
        }
        Ok(())
    }
}
