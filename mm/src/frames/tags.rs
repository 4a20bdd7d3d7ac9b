//! Which frames are page tables: the proof that a removed device's memory is mapped nowhere.

use super::{ALLOCATED, FrameAllocator, TABLE};
use crate::range::{PAGE_SIZE, PhysRange};
use crate::walk::address_of;
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
    /// A present entry that leads into `range`, if there is one, in any page table: of a space that is being made or
    /// goes away, too. Holds the allocator's lock all the time, so that no frame changes its use: the walk reads
    /// one byte for each block of the machine, and the tables.
    pub fn find_live_entry(&self, range: PhysRange) -> Option<LiveEntry> {
        let _lists = self.lists.lock();
        let mut address = self.covered.start().as_u64();
        while let Some(mark) = self.mark(address) {
            if mark == ALLOCATED | TABLE
                && let Some(found) = self.find_in_table(PhysAddr::new_truncate(address), range)
            {
                return Some(found);
            }
            address += PAGE_SIZE << (mark & ORDER);
        }
        None
    }

    /// The same in one frame that is marked as a table; the allocator's lock is held.
    fn find_in_table(&self, table: PhysAddr, range: PhysRange) -> Option<LiveEntry> {
        let pointer = self.physmap.pointer(table).cast::<[AtomicU64; 512]>();
        // SAFETY: a marked frame is a page table until the lock, which the caller holds, lets it be freed; the
        // window maps it and all access to it is atomic.
        let entries = unsafe { &*pointer }.iter().map(|entry| entry.load(Ordering::Relaxed));
        let leads_inside = |entry: u64| {
            let target = address_of(entry).as_u64();
            entry & PageTableFlags::PRESENT.bits() != 0
                && range.start().as_u64() <= target
                && target < range.end()
        };
        let (index, entry) = entries.enumerate().find(|&(_, entry)| leads_inside(entry))?;
        Some(LiveEntry { table, index, entry })
    }
}
