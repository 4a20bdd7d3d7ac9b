//! What is on a persistent range of the NFIT, and how its stores become durable: the one place where nfit and nvdimm
//! meet dax.

use super::make_devices;
use crate::arch::paging;
use crate::discovery::{Machinery, NoRegion};
use crate::flush::PmemFlush;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use dax::{MediaAccess, RegionConfig, RegionKind};
use entry::PHYSMAP_BASE;
use mm::range::{MapSize, PhysRange};
use nfit::{DeviceHandle, Nfit, Region};
use nvdimm::{Extent, Found, LabelArea, Placement, Unreadable};
use platform::mailbox;
use x86_64::structures::paging::PageTableFlags;

/// Claims the range, sees what is on it, and makes its region and devices.
pub fn add_region(
    id: u32,
    region: &Region<'_>,
    nfit: Nfit<'_>,
    machinery: &mut Machinery<'_>,
) -> Result<(), NoRegion> {
    let range = machinery.reachable(region.base, region.len_bytes)?;
    machinery.map.reserve(range, "an NVDIMM").map_err(NoRegion::Claimed)?;
    machinery.map_physical(range, PageTableFlags::empty())?;

    let found = identify(region, machinery.firmware.has_mailbox, range);
    let asked = machinery.options.align_of(id);
    let (range, align) = match usable(&found, range) {
        _ if machinery.options.force_raw => {
            if found != Found::Bare {
                log::warn!("region{id}: {found}: overridden by dax.force_raw");
            }
            (range, asked)
        }
        Some((data, align)) => {
            if let Found::DevDax(_) = found {
                log::info!("region{id}: {found}");
            }
            (data, align.unwrap_or(asked))
        }
        None => return Err(NoRegion::Occupied(Box::new(found))),
    };
    let config = RegionConfig {
        id,
        range,
        align,
        target_node: region.proximity,
        kind: RegionKind::Persistent,
        access: if region.read_only { MediaAccess::ReadOnly } else { MediaAccess::ReadWrite },
        flush: Arc::new(PmemFlush::new(hints(region, nfit, machinery))),
    };
    make_devices(config, machinery)
}

/// The part of the region that may become a device, and the alignment that the media ask for, if they do.
fn usable(found: &Found, range: PhysRange) -> Option<(PhysRange, Option<MapSize>)> {
    let whole = Extent { base_phys: range.start().as_u64(), len_bytes: range.len_bytes() };
    let data = found.device(whole)?;
    let data = PhysRange::new(data.base_phys, data.len_bytes)?;
    match found {
        Found::DevDax(placement) => Some((data, Some(MapSize::from_bytes(placement.align_bytes)?))),
        _ => Some((data, None)),
    }
}

/// The info block of a region whose devices are in `data`; `None` where that leaves no room for one.
pub fn info_block(region: &Region<'_>, data: PhysRange) -> Option<Placement> {
    let range = PhysRange::new(region.base, region.len_bytes)?;
    if data.overlaps(range.part(0, nvdimm::HEAD_BYTES as u64)?) {
        return None;
    }
    match identify(region, false, range) {
        Found::DevDax(placement) => Some(placement),
        _ => None,
    }
}

/// What is on the range, by its head and the label areas of its DIMMs.
fn identify(region: &Region<'_>, has_mailbox: bool, range: PhysRange) -> Found {
    let head_bytes = (nvdimm::HEAD_BYTES as u64).min(range.len_bytes()) as usize;
    let head = (PHYSMAP_BASE + range.start().as_u64()) as *const u8;
    // SAFETY: 1. the physmap maps the range, which was reserved and is nobody else's;
    // 2. nothing writes to its head: no program runs yet, or `info_block` has seen that no device has it.
    let head = unsafe { core::slice::from_raw_parts(head, head_bytes) };
    let handles = region.mappings().map(|mapping| mapping.memdev.device_handle);
    let areas = handles.filter(|_| has_mailbox).filter_map(MailboxLabels::of);
    nvdimm::identify(head, areas, Extent { base_phys: region.base, len_bytes: region.len_bytes })
}

/// The label area of a DIMM behind QEMU's mailbox.
struct MailboxLabels {
    handle: u32,
    len_bytes: u32,
}

impl MailboxLabels {
    /// `None` for a DIMM without a label area. One whose size cannot be told counts as one that cannot be read.
    fn of(handle: DeviceHandle) -> Option<MailboxLabels> {
        match mailbox::label_size(handle.0, paging::image_phys) {
            Ok(0) => None,
            Ok(len_bytes) => Some(MailboxLabels { handle: handle.0, len_bytes }),
            Err(error) => {
                log::warn!("nmem {:#x}: label area: {error}", handle.0);
                Some(MailboxLabels { handle: handle.0, len_bytes: u32::MAX })
            }
        }
    }
}

impl LabelArea for MailboxLabels {
    fn len_bytes(&self) -> u64 {
        u64::from(self.len_bytes)
    }

    fn read(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let offset = u32::try_from(offset_bytes).map_err(|_| Unreadable)?;
        mailbox::read_label(self.handle, offset, buf, paging::image_phys).map_err(|error| {
            log::warn!("nmem {:#x}: label area at {offset:#x}: {error}", self.handle);
            Unreadable
        })
    }
}

/// The kernel addresses of the flush hints of the region's DIMMs, one a DIMM, mapped uncached.
fn hints(region: &Region<'_>, nfit: Nfit<'_>, machinery: &mut Machinery<'_>) -> Vec<u64> {
    let firsts =
        region.mappings().filter_map(|mapping| nfit.flush_hints(mapping.memdev.device_handle).next());
    let reach = 1 << paging::reachable_bits(machinery.features);
    let mut mapped = Vec::new();
    for hint in firsts {
        match PhysRange::new(hint & !0xfff, 4096).filter(|page| page.end() <= reach && hint % 8 == 0) {
            Some(page) if map_hints(page, machinery) => mapped.push(PHYSMAP_BASE + hint),
            _ => log::warn!(
                "nfit: flush hint {hint:#x} is misaligned, out of reach, or in memory that somebody holds: \
                 msync and fsync will not drain this DIMM's queue"
            ),
        }
    }
    mapped
}

/// Maps a page of flush hints uncached, once: several DIMMs may share it.
fn map_hints(page: PhysRange, machinery: &mut Machinery<'_>) -> bool {
    if machinery.hint_pages.contains(&page) {
        return true;
    }
    let flags = PageTableFlags::WRITABLE | PageTableFlags::NO_CACHE;
    let is_mapped =
        machinery.map.reserve(page, "flush hints").is_ok() && machinery.map_physical(page, flags).is_ok();
    if is_mapped {
        machinery.hint_pages.push(page);
    }
    is_mapped
}
