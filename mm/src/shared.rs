//! Memory that several spaces map: MAP_SHARED without a file, and what was written to a file in RAM.
//!
//! The pages live in the object and not in whoever maps it: a space's entries borrow them. They are kept in page
//! tables of their own that no CPU ever loads, with the offset in the place of the address: sparse, filled
//! by any number of faults at once, and freed with the last vma.

use crate::fault::own_page;
use crate::frames::FrameAllocator;
use crate::pager::{FaultError, PageSource};
use crate::range::{PAGE_SIZE, VirtRange};
use crate::reserve::Reserve;
use crate::space::new_object_id;
use crate::tables::PageTables;
use alloc::sync::Arc;
use x86_64::structures::paging::PageTableFlags;
use x86_64::{PhysAddr, VirtAddr};

/// Shared anonymous memory.
pub struct SharedPages {
    id: u64,
    len_bytes: u64,
    pages: PageTables,
}

impl SharedPages {
    /// Zeros, `len_bytes` of them rounded up to whole pages; `None` when memory is out or when no program
    /// could map so much.
    pub fn new(len_bytes: u64, frames: &'static FrameAllocator) -> Option<Arc<SharedPages>> {
        let range = VirtRange::new(0, len_bytes.checked_next_multiple_of(PAGE_SIZE)?)?;
        let pages = PageTables::new(&[0; 256], frames)?;
        Some(Arc::new(SharedPages { id: new_object_id(), len_bytes: range.len_bytes(), pages }))
    }

    /// A number that no other object has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The page at `offset_bytes`, a multiple of 4 KiB; it is made now if nobody touched it before: a copy of the
    /// page of `source`, or zeros.
    ///
    /// `Bus` behind the end, or `NoMemory`.
    pub fn page(&self, offset_bytes: u64, source: Option<&dyn PageSource>) -> Result<PhysAddr, FaultError> {
        self.page_with(offset_bytes, source, &mut Reserve::new(self.pages.frames))
    }

    /// Copies from the page that `offset_bytes` lies in; false, and nothing is copied, where nobody touched it. `out`
    /// ends in that page.
    pub fn read(&self, offset_bytes: u64, out: &mut [u8]) -> bool {
        self.pages.copy_from_page(VirtAddr::new_truncate(offset_bytes), out)
    }

    /// Copies to the page that `offset_bytes` lies in; false where nobody touched it. `bytes` end in that page.
    pub fn write(&self, offset_bytes: u64, bytes: &[u8]) -> bool {
        self.pages.copy_to_page(VirtAddr::new_truncate(offset_bytes), bytes)
    }

    /// Frees the pages from `offset_bytes` on, a multiple of 4 KiB. Nobody maps them any more.
    pub fn discard(&mut self, offset_bytes: u64) {
        let all = VirtRange::from_bounds(offset_bytes, self.len_bytes);
        let mut rest = all;
        while let (Some(range), Some(hole)) = (rest, all) {
            let (mut flush, left) = self.pages.unmap(range, hole);
            flush.release();
            rest = left;
        }
    }

    pub(crate) fn page_with(
        &self,
        offset_bytes: u64,
        source: Option<&dyn PageSource>,
        reserve: &mut Reserve<'_>,
    ) -> Result<PhysAddr, FaultError> {
        let page = VirtAddr::new_truncate(offset_bytes);
        if offset_bytes >= self.len_bytes {
            return Err(FaultError::Bus);
        }
        loop {
            if let Some(leaf) = self.pages.leaf(page) {
                return Ok(leaf.phys);
            }
            let frame = own_page(self.pages.frames, source, offset_bytes)?;
            // Whoever installed it: the next look finds it.
            let _ = self.pages.install_owned(page, frame, PageTableFlags::PRESENT, reserve)?;
        }
    }
}
