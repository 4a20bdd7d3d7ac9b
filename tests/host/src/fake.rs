//! A machine for routes: RAM in an arena, an epoch over host threads, and discovery as the kernel does it.
//!
//! Persistent memory is never touched, so it may lie at any physical address. Arenas are leaked.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use dax::{
    DeviceRequest, Epoch, GracePeriods, MediaAccess, MediaFlush, OpenDax, RegionConfig, RegionKind, Registry,
};
use mm::frames::FrameAllocator;
use mm::memory_map::MemoryMap;
use mm::pager::{Prot, Sharing};
use mm::physmap::PhysMap;
use mm::range::{MapSize, PhysRange, VirtRange};
use mm::shootdown::Shootdown;
use mm::space::{AddressSpace, Environment, MapRequest, Placement};
use mm::vma::{Backing, VmaFlags};
use nfit::{Nfit, Region};
use nvdimm::{Extent, Found};
use x86_64::PhysAddr;

static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);
static GRACE_PERIODS: GracePeriods = GracePeriods::new();

thread_local! {
    /// A thread plays a CPU.
    static CPU: RefCell<LocalHandle> = RefCell::new(COLLECTOR.register());
}

/// The epoch of every registry here.
struct HostEpoch;

impl Epoch for HostEpoch {
    fn pin(&self) -> Guard {
        CPU.with_borrow(LocalHandle::pin)
    }

    fn is_pinned(&self) -> bool {
        CPU.with_borrow(LocalHandle::is_pinned)
    }

    fn relax(&self) {
        std::thread::yield_now();
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        &GRACE_PERIODS
    }
}

struct NoTlb;

impl Shootdown for NoTlb {
    fn flush(&self, _root: PhysAddr, _range: VirtRange) {}
}

struct NoCache;

impl MediaFlush for NoCache {
    fn flush(&self, _range: PhysRange) {}
}

/// RAM and a CPU with every feature.
#[derive(Clone, Copy)]
pub struct Machine(&'static Environment);

impl Machine {
    /// A machine with `ram_bytes` of RAM.
    pub fn new(ram_bytes: usize) -> Machine {
        let layout = Layout::from_size_align(ram_bytes, 2 << 20).expect("a sane size");
        // SAFETY: the layout is not empty.
        let arena = unsafe { alloc_zeroed(layout) };
        let map = MemoryMap::new([(0, ram_bytes as u64, 1)].into_iter());
        // SAFETY: physical address 0 is the arena's first byte; it is never freed, and only this allocator
        // uses it.
        let frames = unsafe { FrameAllocator::new(PhysMap::new(arena as u64), &map) };
        let frames = Box::leak(Box::new(frames.expect("the arena holds its metadata")));
        let environment = Environment { frames, shootdown: &NoTlb, no_execute: true, gigabyte_pages: true };
        Machine(Box::leak(Box::new(environment)))
    }

    /// The space of a new program.
    pub fn space(self, random: u64) -> Arc<AddressSpace> {
        AddressSpace::new(&[0; 256], self.0, random).expect("there is memory for a root table")
    }

    /// Frames that nobody holds.
    pub fn free_frames(self) -> u64 {
        self.0.frames.free_frames()
    }
}

/// A request for a shared mapping of `device` anywhere, readable and writable.
pub fn map_request(device: &Arc<OpenDax>, offset_bytes: u64, len_bytes: u64) -> MapRequest {
    MapRequest {
        placement: Placement::Anywhere,
        len_bytes,
        prot: Prot::READ | Prot::WRITE,
        max_prot: device.max_prot(),
        sharing: Sharing::Shared,
        backing: Backing::Device(device.clone()),
        offset_bytes,
        flags: VmaFlags::empty(),
        name: "",
    }
}

/// What discovery made of a table.
pub struct Discovery {
    /// Regions and their devices, enabled.
    pub registry: Registry,
    /// Why ranges became no device, in the order of their numbers.
    pub refused: Vec<String>,
}

impl Discovery {
    /// Opens `dax<region>.0`.
    pub fn open(&self, region: u32) -> Arc<OpenDax> {
        let name = format!("dax{region}.0");
        let device = self.registry.by_name(&name).unwrap_or_else(|| panic!("no {name}: {:?}", self.refused));
        device.open().expect("discovery enables what it makes")
    }
}

/// Takes every persistent range of an NFIT to a device, in the order of region numbers.
///
/// `media` gives the head of a region's range and, where its DIMM has one, the label area.
pub fn discover(
    table: &[u8],
    align: MapSize,
    media: impl Fn(&Region<'_>) -> (Vec<u8>, Option<Vec<u8>>),
) -> Discovery {
    let nfit = Nfit::parse(table).expect("the table is in the tree");
    let mut regions: Vec<_> =
        nfit.regions().filter(|region| region.kind == nfit::RegionKind::Persistent).collect();
    regions.sort_by_key(Region::order_key);
    let mut discovery = Discovery { registry: Registry::new(&HostEpoch), refused: Vec::new() };
    for (id, region) in (0..).zip(&regions) {
        let (head, labels) = media(region);
        if let Err(why) = take(id, region, align, &head, labels.as_deref(), &discovery.registry) {
            discovery.refused.push(why);
        }
    }
    discovery
}

/// As `kernel::discovery`, which reads the media itself.
fn take(
    id: u32,
    region: &Region<'_>,
    align: MapSize,
    head: &[u8],
    labels: Option<&[u8]>,
    registry: &Registry,
) -> Result<(), String> {
    let namespace = Extent { base_phys: region.base, len_bytes: region.len_bytes };
    let found = nvdimm::identify(head, labels, namespace);
    let extent = found.device(namespace).ok_or_else(|| found.to_string())?;
    let align = match found {
        Found::DevDax(placement) => MapSize::from_bytes(placement.align_bytes).expect("identify checked it"),
        _ => align,
    };
    let config = RegionConfig {
        id,
        range: PhysRange::new(extent.base_phys, extent.len_bytes).expect("nfit checked the range"),
        align,
        target_node: region.proximity,
        kind: RegionKind::Persistent,
        access: if region.read_only { MediaAccess::ReadOnly } else { MediaAccess::ReadWrite },
        flush: Arc::new(NoCache),
    };
    let region = registry.add_region(config).map_err(|error| error.to_string())?;
    let request = DeviceRequest { placement: dax::Placement::Ranges(&[region.range()]), align };
    let device = registry.create_device(&region, request).map_err(|error| error.to_string())?;
    device.enable().map(|_| ()).map_err(|error| error.to_string())
}
