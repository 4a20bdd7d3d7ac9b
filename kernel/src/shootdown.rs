//! TLB flushes on this CPU; other CPUs join with a later issue.

use mm::range::{PAGE_SIZE, VirtRange};
use mm::shootdown::Shootdown;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;
use x86_64::{PhysAddr, VirtAddr};

/// Above this many pages a reload of CR3 is cheaper than one invlpg each (Linux: tlb_single_page_flush_ceiling).
const SINGLE_PAGES: u64 = 33;

/// The boot CPU's TLB.
pub struct LocalShootdown;

impl Shootdown for LocalShootdown {
    fn flush(&self, root: PhysAddr, range: VirtRange) {
        if Cr3::read().0.start_address() != root {
            // A space that is not loaded has nothing in this TLB: loading one flushes (there are no PCIDs).
            return;
        }
        let pages = range.len_bytes().div_ceil(PAGE_SIZE);
        if pages > SINGLE_PAGES {
            return tlb::flush_all();
        }
        for page in 0..pages {
            tlb::flush(VirtAddr::new_truncate(range.start().as_u64() + page * PAGE_SIZE));
        }
    }
}
