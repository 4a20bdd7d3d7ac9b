//! RAM disks: `brd.rd_nr=1 brd.rd_size=4096` makes the dax device `ram0` of 4 MiB. It is no region and has no
//! character device: a dax device for whoever looks it up by its name, such as a file system.
//!
//! The memory is taken at boot and never given back. Linux's brd takes it page by page when it is written, which a
//! dax device cannot: its users keep the addresses.

use crate::discovery::Machinery;
use alloc::vec::Vec;
use dax::{DaxName, DaxOperations, Unsupported};
use mm::frames::{FrameAllocator, KERNEL_RESERVE, MAX_ORDER};
use mm::range::{PAGE_SIZE, PhysRange};

/// The memory of a RAM disk: blocks by the page of the disk that they start with.
struct RamDisk {
    number: u32,
    blocks: Vec<(u64, PhysRange)>,
}

impl RamDisk {
    /// Zeros, in as few blocks as there are; `None` when memory is out, and then nothing is lost.
    fn new(number: u32, pages: u64, frames: &FrameAllocator) -> Option<RamDisk> {
        if frames.free_frames() <= pages.saturating_add(KERNEL_RESERVE) {
            return None;
        }
        let (mut taken, mut blocks) = (Vec::new(), Vec::new());
        let (mut page, mut order) = (0, MAX_ORDER);
        while page < pages {
            order = order.min((pages - page).ilog2());
            let has_room = taken.try_reserve(1).is_ok() && blocks.try_reserve(1).is_ok();
            match has_room.then(|| frames.allocate(order)).flatten() {
                Some(mut block) => {
                    frames.bytes_mut(&mut block).fill(0);
                    let range = PhysRange::new(block.address().as_u64(), PAGE_SIZE << order);
                    blocks.extend(range.map(|range| (page, range)));
                    taken.push(block);
                    page += 1 << order;
                }
                None if order > 0 => order -= 1,
                None => {
                    taken.into_iter().for_each(|block| frames.free(block));
                    return None;
                }
            }
        }
        Some(RamDisk { number, blocks })
    }

    /// The longest run of at most `pages` pages from `page` on.
    fn run(&self, page: u64, pages: u64) -> Option<PhysRange> {
        let behind = self.blocks.partition_point(|&(first, _)| first <= page);
        let &(first, block) = self.blocks.get(behind.checked_sub(1)?)?;
        let offset_bytes = (page - first) * PAGE_SIZE;
        let left_bytes = block.len_bytes().checked_sub(offset_bytes)?;
        block.part(offset_bytes, left_bytes.min(pages.saturating_mul(PAGE_SIZE)))
    }
}

impl DaxOperations for RamDisk {
    fn name(&self) -> DaxName {
        DaxName::Host("ram", self.number)
    }

    fn direct_access(&self, page: u64, pages: u64) -> Result<Option<PhysRange>, Unsupported> {
        Ok(self.run(page, pages))
    }

    fn flush(&self, _offset_bytes: u64, _len_bytes: u64) -> Result<(), Unsupported> {
        Ok(())
    }
}

/// Registers the disks that the command line asks for: `ram0` and so on.
pub fn add_disks(machinery: &Machinery<'_>) {
    let kib = machinery.options.ram_disk_kib;
    for number in 0..machinery.options.ram_disks {
        let Some(disk) = RamDisk::new(number, kib / 4, machinery.frames) else {
            log::warn!("brd: ram{number}: no memory for its {kib} KiB; there are no more disks");
            return;
        };
        match machinery.registry.devices().register(disk) {
            Ok(device) => log::info!("brd: {} {kib} KiB, dax device {}", device.host_name(), device.number()),
            Err(why) => log::warn!("brd: {why}"),
        }
    }
}
