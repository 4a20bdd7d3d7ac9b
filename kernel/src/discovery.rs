//! From the NFIT to dax devices: the one place where nfit and nvdimm meet dax.
//!
//! For each persistent range, in the order of its number:
//! 1. reserve it: a range that RAM or another claims is refused, saying who holds it;
//! 2. map it into the physmap, read-only;
//! 3. read its head and its DIMMs' label areas: what is on it;
//! 4. somebody's data is left alone, a devdax info block is honoured, a bare range is used whole;
//! 5. make the region and its device.
//!
//! A range that is refused costs itself, and one line that says why.

use crate::arch::cpu::Features;
use crate::arch::paging::{self, KernelTables, NoTableFrames};
use crate::boot::Firmware;
use crate::command_line::CommandLine;
use crate::epoch::epoch;
use crate::flush::PmemFlush;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use dax::{DaxError, DeviceRequest, MediaAccess, Placement, RegionConfig, RegionKind, Registry};
use entry::PHYSMAP_BASE;
use mm::frames::FrameAllocator;
use mm::memory_map::{ClaimError, MemoryMap};
use mm::range::{MapSize, PhysRange};
use nfit::{DeviceHandle, Nfit, Region};
use nvdimm::{Extent, Found, LabelArea, Unreadable};
use platform::mailbox;
use x86_64::structures::paging::PageTableFlags;

/// What discovery works with.
pub struct Machinery<'a> {
    /// Who holds which physical range.
    pub map: &'a mut MemoryMap,
    /// The kernel's tables: persistent ranges join the physmap.
    pub tables: &'a mut KernelTables,
    /// Where frames for those tables come from.
    pub frames: &'a FrameAllocator,
    /// What the CPU can map.
    pub features: &'a Features,
    /// The user's wishes.
    pub options: &'a CommandLine,
    /// Pages of flush hints that are mapped already.
    pub hint_pages: Vec<PhysRange>,
}

impl Machinery<'_> {
    fn map_physical(&mut self, range: PhysRange, flags: PageTableFlags) -> Result<(), NoTableFrames> {
        let mut frames = || self.frames.allocate(0).map(|frame| frame.address());
        self.tables.map_physical(range, flags, &mut frames)
    }
}

/// Why a range became no device.
enum NoDevice {
    /// The physical range is not one that this CPU and kernel can map.
    Unreachable { bits: u32 },
    /// Somebody holds it.
    Claimed(ClaimError),
    /// No frame for the page tables of its physmap.
    NoMemory,
    /// Somebody's data is on it.
    Occupied(Box<Found>),
    /// This CPU has no 1 GiB pages.
    NoGigabytePages,
    /// The dax crate refused.
    Dax(DaxError),
}

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoDevice::Unreachable { bits } => {
                write!(f, "it lies behind the {bits} address bits that can be mapped")
            }
            NoDevice::Claimed(error) => write!(f, "{error}"),
            NoDevice::NoMemory => write!(f, "no memory for the page tables to read it"),
            NoDevice::Occupied(found) => {
                write!(f, "{found}: not touched (dax.force_raw uses the range whole and overwrites it)")
            }
            NoDevice::NoGigabytePages => {
                write!(f, "align 1G, but this CPU has no 1 GiB pages (use -cpu max or host, or dax.align=2M)")
            }
            NoDevice::Dax(error) => write!(f, "{error}"),
        }
    }
}

/// Finds every persistent range and makes regions and devices of those that may be used.
pub fn discover(firmware: &Firmware, machinery: &mut Machinery<'_>) -> Registry {
    let registry = Registry::new(epoch());
    match firmware.nfit {
        None => log::info!("nfit: none: this machine has no NVDIMM"),
        Some(Err(error)) => log::error!("nfit: {error}"),
        Some(Ok(table)) => match Nfit::parse(table) {
            Ok(nfit) => take_regions(nfit, firmware.has_mailbox, &registry, machinery),
            Err(error) => log::error!("nfit: {error}"),
        },
    }
    registry
}

fn take_regions(nfit: Nfit<'_>, has_mailbox: bool, registry: &Registry, machinery: &mut Machinery<'_>) {
    for refusal in nfit.refusals() {
        log::warn!("nfit: {refusal}");
    }
    let (mut regions, volatile): (Vec<_>, Vec<_>) =
        nfit.regions().partition(|region| region.kind == nfit::RegionKind::Persistent);
    for region in volatile {
        log::info!("nfit: volatile range [{:#x}-{:#x}] is not used", region.base, region.last());
    }
    regions.sort_by_key(Region::order_key);
    for id in machinery.options.region_align.keys().filter(|&&id| id as usize >= regions.len()) {
        log::warn!(
            "command line: dax.region{id}.align: there are {} region(s), numbered from 0",
            regions.len()
        );
    }
    for (id, region) in (0..).zip(&regions) {
        log::info!(
            "nfit: region{id} [{:#x}-{:#x}] persistent, {} DIMM(s), persistence domain {}{}",
            region.base,
            region.last(),
            region.mapping_count,
            region.persistence,
            if region.read_only { ", not armed: read-only" } else { "" },
        );
        if let Err(why) = take_region(id, region, nfit, has_mailbox, registry, machinery) {
            log::warn!("region{id}: no device: {why}");
        }
    }
}

fn take_region(
    id: u32,
    region: &Region<'_>,
    nfit: Nfit<'_>,
    has_mailbox: bool,
    registry: &Registry,
    machinery: &mut Machinery<'_>,
) -> Result<(), NoDevice> {
    let bits = paging::reachable_bits(machinery.features);
    let range = PhysRange::new(region.base, region.len_bytes)
        .filter(|range| range.end() <= 1 << bits)
        .ok_or(NoDevice::Unreachable { bits })?;
    machinery.map.reserve(range, "an NVDIMM").map_err(NoDevice::Claimed)?;
    machinery.map_physical(range, PageTableFlags::empty()).map_err(|_| NoDevice::NoMemory)?;

    let found = identify(region, has_mailbox, range);
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
        None => return Err(NoDevice::Occupied(Box::new(found))),
    };
    if align == MapSize::Size1G && !machinery.features.gigabyte_pages {
        return Err(NoDevice::NoGigabytePages);
    }

    let config = RegionConfig {
        id,
        range,
        align,
        target_node: region.proximity,
        kind: RegionKind::Persistent,
        access: if region.read_only { MediaAccess::ReadOnly } else { MediaAccess::ReadWrite },
        flush: Arc::new(PmemFlush::new(hints(region, nfit, machinery))),
    };
    let dax_region = registry.add_region(config).map_err(NoDevice::Dax)?;
    let request = DeviceRequest { placement: Placement::Ranges(&[dax_region.range()]), align };
    let device = registry.create_device(&dax_region, request).map_err(NoDevice::Dax)?;
    device.enable().map_err(NoDevice::Dax)?;
    log::info!(
        "dax: {} {} align {} size {:#x} ({} MiB)",
        device.name(),
        dax_region.range(),
        device.align(),
        device.size_bytes(),
        device.size_bytes() >> 20,
    );
    Ok(())
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

/// What is on the range, by its head and the label areas of its DIMMs.
fn identify(region: &Region<'_>, has_mailbox: bool, range: PhysRange) -> Found {
    let head_bytes = (nvdimm::HEAD_BYTES as u64).min(range.len_bytes()) as usize;
    let head = (PHYSMAP_BASE + range.start().as_u64()) as *const u8;
    // SAFETY: 1. the physmap maps the range, and nothing else uses it: it was just reserved;
    // 2. no program runs yet that could write there.
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
