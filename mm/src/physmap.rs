//! Where the kernel sees physical memory.

use x86_64::PhysAddr;

/// Physical memory as one window of kernel addresses: physical `p` is at `offset + p`.
///
/// On a host, an arena whose "physical" address 0 is at `offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysMap {
    offset: u64,
}

impl PhysMap {
    /// The window that starts at kernel address `offset`, a multiple of 4 KiB (of 1 GiB, where the heap is
    /// to keep alignments above 4 KiB).
    ///
    /// # Safety
    /// All RAM that the frame allocator is given, and every page table, is mapped readable and writable at
    /// `offset` plus its physical address, for as long as the value or a copy of it is used.
    pub const unsafe fn new(offset: u64) -> PhysMap {
        PhysMap { offset }
    }

    /// The kernel's pointer to a physical byte. Using it is up to the caller: only RAM is sure to be mapped.
    #[inline]
    pub const fn pointer(self, address: PhysAddr) -> *mut u8 {
        self.offset.wrapping_add(address.as_u64()) as *mut u8
    }

    /// The physical address behind a pointer that [`PhysMap::pointer`] made.
    #[inline]
    pub fn address(self, pointer: *const u8) -> PhysAddr {
        PhysAddr::new_truncate((pointer as u64).wrapping_sub(self.offset))
    }
}
