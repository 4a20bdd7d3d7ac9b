//! Which frames are page tables: the proof that a removed device's memory is mapped nowhere.

use super::{ALLOCATED, FrameAllocator, TABLE};
use crate::range::{PAGE_SIZE, PhysRange};
use crate::walk::ADDRESS_BITS;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags;

/// The bits of a block's order in its mark.
const ORDER: u8 = 0x1f;

/// An entry that should not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveEntry {
    /// The page table's frame.
    pub table: PhysAddr,
    /// Its index there.
    pub index: usize,
    /// The raw entry.
    pub entry: u64,
}

impl FrameAllocator {
    /// Calls `visit` with every frame that is a page table of some space, one that is being made or goes away
    /// included. Holds the allocator's lock all the time, so that no frame changes its use: the walk reads
    /// one byte for each block of the machine.
    pub fn for_each_table(&self, visit: &mut dyn FnMut(PhysAddr, &[AtomicU64; 512])) {
        let _lists = self.lists.lock();
        let mut address = self.covered.start().as_u64();
        while let Some(mark) = self.mark(address) {
            if mark == ALLOCATED | TABLE {
                let table = PhysAddr::new_truncate(address);
                // SAFETY: a marked frame is a page table until the lock, which we hold, lets it be freed; the
                // window maps it and all access to it is atomic.
                visit(table, unsafe { &*self.physmap.pointer(table).cast() });
            }
            address += PAGE_SIZE << (mark & ORDER);
        }
    }

    /// A present entry, of any space, that leads into `range`, if there is one.
    pub fn find_live_entry(&self, range: PhysRange) -> Option<LiveEntry> {
        let mut found = None;
        self.for_each_table(&mut |table, entries| {
            for (index, entry) in entries.iter().enumerate() {
                let entry = entry.load(Ordering::Relaxed);
                let address = entry & ADDRESS_BITS;
                let inside = range.start().as_u64() <= address && address < range.end();
                if inside && entry & PageTableFlags::PRESENT.bits() != 0 {
                    found = Some(LiveEntry { table, index, entry });
                }
            }
        });
        found
    }
}
