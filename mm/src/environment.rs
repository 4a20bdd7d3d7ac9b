//! What is the same for every space, and what the CPU makes of a protection.

use crate::frames::FrameAllocator;
use crate::pager::Prot;
use crate::range::MapSize;
use crate::shootdown::Shootdown;
use x86_64::structures::paging::PageTableFlags;

/// What all spaces of the machine share.
pub struct Environment {
    /// Where frames come from.
    pub frames: &'static FrameAllocator,
    /// Who flushes TLBs.
    pub shootdown: &'static dyn Shootdown,
    /// The CPU has the no-execute bit, and it is enabled.
    pub no_execute: bool,
    /// The CPU has 1 GiB entries; without them touching a 1 GiB mapping is `FaultError::Bus`.
    pub gigabyte_pages: bool,
}

impl Environment {
    /// The bits of a user leaf with this protection; empty for PROT_NONE. x86 has no write without read, nor
    /// execute without read. Accessed and dirty are set at once: nobody reads them, and the CPU would
    /// take a microcode assist to do it.
    #[inline]
    pub(crate) fn leaf_flags(&self, prot: Prot) -> PageTableFlags {
        // Looked up and not computed: every fault asks.
        const FLAGS: [[PageTableFlags; 8]; 2] = [all_leaf_flags(false), all_leaf_flags(true)];
        FLAGS[usize::from(self.no_execute)][usize::from(prot.bits() & 7)]
    }

    /// Does the CPU have entries of this size?
    #[inline]
    pub(crate) fn has_entries_of(&self, size: MapSize) -> bool {
        size != MapSize::Size1G || self.gigabyte_pages
    }

    /// The bits of a leaf that shows what the space may read but not write, whatever `prot` says.
    pub(crate) fn read_only_flags(&self, prot: Prot) -> PageTableFlags {
        self.leaf_flags(prot) - (PageTableFlags::WRITABLE | PageTableFlags::DIRTY)
    }
}

/// The leaf bits for every [`Prot`], by its bits.
const fn all_leaf_flags(no_execute: bool) -> [PageTableFlags; 8] {
    use PageTableFlags as F;
    let mut all = [F::empty(); 8];
    let mut bits = 1;
    while bits < all.len() {
        let prot = Prot::from_bits_truncate(bits as u8);
        let mut flags = F::PRESENT.union(F::USER_ACCESSIBLE).union(F::ACCESSED);
        if prot.contains(Prot::WRITE) {
            flags = flags.union(F::WRITABLE).union(F::DIRTY);
        }
        if no_execute && !prot.contains(Prot::EXEC) {
            flags = flags.union(F::NO_EXECUTE);
        }
        all[bits] = flags;
        bits += 1;
    }
    all
}
