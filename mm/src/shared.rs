//! Anonymous memory that several spaces map (MAP_SHARED without a file).
//!
//! The pages live in the object and not in whoever maps it: a space's entries borrow them. They are kept in page
//! tables of their own that no CPU ever loads, with the offset in the place of the address: sparse, filled
//! by any number of faults at once, and freed with the last vma.

use crate::fault::own_page;
use crate::frames::FrameAllocator;
use crate::pager::FaultError;
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

    /// The page at `offset_bytes`, a multiple of 4 KiB; it is made now if nobody touched it before.
    pub(crate) fn page(&self, offset_bytes: u64, reserve: &mut Reserve<'_>) -> Result<PhysAddr, FaultError> {
        let page = VirtAddr::new_truncate(offset_bytes);
        if offset_bytes >= self.len_bytes {
            return Err(FaultError::Bus);
        }
        loop {
            if let Some(leaf) = self.pages.leaf(page) {
                return Ok(leaf.phys);
            }
            let frame = own_page(self.pages.frames, None, 0)?;
            // Whoever installed it: the next look finds it.
            let _ = self.pages.install_owned(page, frame, PageTableFlags::PRESENT, reserve)?;
        }
    }
}
