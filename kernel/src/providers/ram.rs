//! RAM that the command line sets aside: `memmap=1G!4G` makes a region of the gigabyte from 4 GiB on, so that
//! everything also works on a machine without an NVDIMM. (Linux takes such a range for persistent memory.)

use super::add_memory;
use crate::discovery::Machinery;
use alloc::vec::Vec;
use mm::memory_map::MemoryMap;
use mm::range::PhysRange;

/// Takes the ranges out of RAM before anybody uses it; what cannot be had is refused, saying who holds it.
pub fn carve_out(asked: &[PhysRange], map: &mut MemoryMap) -> Vec<PhysRange> {
    let carve = |&range: &PhysRange| match map.carve_ram(range, "memmap=") {
        Ok(()) => Some(range),
        Err(why) => {
            log::warn!("command line: memmap={:#x}!{:#x}: {why}", range.len_bytes(), range.start());
            None
        }
    };
    asked.iter().filter_map(carve).collect()
}

/// Makes regions of what was carved out, numbered from `first` on. Returns the first number that is free.
pub fn add_regions(first: u32, machinery: &mut Machinery<'_>) -> u32 {
    let mut id = first;
    for range in core::mem::take(&mut machinery.carved_out) {
        log::info!("memmap: region{id} {range} volatile");
        if let Err(why) = add_memory(id, range, None, machinery) {
            why.report(id, range.start().as_u64(), range.end() - 1);
        }
        id += 1;
    }
    id
}
