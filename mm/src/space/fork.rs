//! A space's copy for a child process.

use super::{AddressSpace, Memory};
use crate::pager::Refusal;
use crate::range::MapSize;
use crate::tables::{KernelHalf, runs};
use crate::vma::{Backing, VmaFlags};
use alloc::sync::Arc;

impl AddressSpace {
    /// A copy for a child process. Private memory is shared until one of the two writes; devices and shared
    /// memory show the same bytes; vmas marked [`VmaFlags::DONT_FORK`] are left out, those marked
    /// [`VmaFlags::WIPE_ON_FORK`] are empty. `NoMemory`, or what a pager says: this space is as it was then.
    pub fn fork(&self, kernel_half: &KernelHalf) -> Result<Arc<AddressSpace>, Refusal> {
        self.environment.frames.patiently(|| self.try_fork(kernel_half))
    }

    fn try_fork(&self, kernel_half: &KernelHalf) -> Result<Arc<AddressSpace>, Refusal> {
        let child = AddressSpace::with_layout(kernel_half, self.environment, self.layout);
        let child = child.ok_or(Refusal::NoMemory)?;
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        // Devices learn of the child before it is complete; who wants to revoke waits for this guard.
        let mut copy = child.memory.write();
        let inherited = || vmas.iter().filter(|vma| !vma.flags.contains(VmaFlags::DONT_FORK));
        copy.vmas.prepare(inherited().count())?;
        for vma in inherited() {
            let mut vma = vma.clone();
            if let Backing::Device(pager) = &vma.backing {
                vma.backing = Backing::Device(pager.inherit(&child.this)?);
            }
            copy.vmas.push(vma);
        }
        let private = inherited()
            .filter(|vma| matches!(vma.backing, Backing::Anonymous | Backing::Private(_)))
            .filter(|vma| !vma.flags.contains(VmaFlags::WIPE_ON_FORK))
            .map(|vma| vma.range);
        // Between two of them nothing is owned but what is left out.
        let left_out = VmaFlags::DONT_FORK | VmaFlags::WIPE_ON_FORK;
        let nothing_left_out = vmas.iter().all(|vma| !vma.flags.intersects(left_out));
        let window = if nothing_left_out { MapSize::Size2M.shift() } else { 0 };
        let (flush, complete) = tables.share(runs(private, window), &mut copy.tables);
        flush.acknowledge(self.environment.shootdown);
        drop(copy);
        complete.then_some(child).ok_or(Refusal::NoMemory)
    }
}
