//! Where memory for dax comes from.
//!
//! | module | memory | feature |
//! |---|---|---|
//! | [`nfit`] | the ranges of the NFIT | `nfit` |
//! | [`pmem`] | what is on a persistent one, and how its stores become durable | `dax_pmem` |
//! | [`ram`] | RAM that `memmap=` set aside | always |
//! | [`brd`] | RAM disks: dax devices without a region or a character device | `brd` |

#[cfg(feature = "brd")]
pub mod brd;
#[cfg(feature = "nfit")]
pub mod nfit;
#[cfg(feature = "dax_pmem")]
pub mod pmem;
pub mod ram;

use crate::dax::Registry;
use crate::discovery::{Machinery, NoRegion};
use mm::range::PhysRange;
#[cfg(feature = "dax")]
use {
    crate::command_line::DeviceWish,
    alloc::sync::Arc,
    dax::{
        DaxError, DaxRegion, DeviceRequest, MediaAccess, MediaFlush, Placement, RegionConfig, RegionKind,
        Scrub,
    },
    mm::range::MapSize,
    x86_64::structures::paging::PageTableFlags,
};

#[cfg(all(feature = "dax_pmem", not(feature = "nfit")))]
compile_error!("feature dax_pmem makes dax regions of the NFIT's ranges: it needs feature nfit");
#[cfg(all(feature = "dax_pmem", not(feature = "dax")))]
compile_error!("feature dax_pmem makes dax regions of the NFIT's ranges: it needs feature dax");
#[cfg(all(feature = "brd", not(feature = "dax")))]
compile_error!("feature brd registers RAM disks as dax devices: it needs feature dax");

/// Memory without a past: claimed, and not yet mapped.
pub struct Memory {
    /// The number of its region.
    pub id: u32,
    /// Where it lies.
    pub range: PhysRange,
    /// Its NUMA node, where the firmware names one.
    pub target_node: Option<u32>,
}

/// Makes a region of memory that forgets, and its devices.
#[cfg(feature = "dax")]
pub fn add_memory(
    memory: Memory,
    registry: &Registry,
    machinery: &mut Machinery<'_>,
) -> Result<(), NoRegion> {
    let Memory { id, range, target_node } = memory;
    machinery.map_physical(range, PageTableFlags::empty()).map_err(|_| NoRegion::NoMemory)?;
    let config = RegionConfig {
        id,
        range,
        align: machinery.options.align_of(id),
        target_node,
        kind: RegionKind::Volatile,
        access: MediaAccess::ReadWrite,
        flush: Arc::new(NothingToFlush),
    };
    make_devices(config, registry, machinery)
}

/// Nobody is there to use it.
#[cfg(not(feature = "dax"))]
pub fn add_memory(_: Memory, _: &Registry, _: &mut Machinery<'_>) -> Result<(), NoRegion> {
    Err(NoRegion::BuiltWithout("dax"))
}

/// Stores to memory that forgets are as durable as they will ever be.
#[cfg(feature = "dax")]
struct NothingToFlush;

#[cfg(feature = "dax")]
impl MediaFlush for NothingToFlush {
    fn flush(&self, _: PhysRange) {}
}

/// Makes a region and the devices that the command line lists, or else one of all of it.
///
/// Devices made at boot are somebody's data, never scrubbed. One that is refused costs itself and a line.
#[cfg(feature = "dax")]
pub fn make_devices(
    config: RegionConfig,
    registry: &Registry,
    machinery: &Machinery<'_>,
) -> Result<(), NoRegion> {
    let (id, align) = (config.id, config.align);
    let can_map = |align| align != MapSize::Size1G || machinery.features.gigabyte_pages;
    if !can_map(align) {
        return Err(NoRegion::NoGigabytePages);
    }
    let region = registry.add_region(config).map_err(NoRegion::Dax)?;
    if machinery.options.waives_scrub {
        region.set_scrub(Scrub::Waived);
    }
    let Some(wishes) = machinery.options.region_devices.get(&id) else {
        let whole = [region.range()];
        let request = DeviceRequest { placement: Placement::Ranges(&whole), align };
        return make_device(&region, request, registry).map_err(NoRegion::Dax);
    };
    for &DeviceWish { size_bytes, align: own } in wishes {
        let align = own.unwrap_or(align);
        let request = DeviceRequest { placement: Placement::Size(size_bytes), align };
        let made = match can_map(align) {
            true => make_device(&region, request, registry).map_err(NoRegion::Dax),
            false => Err(NoRegion::NoGigabytePages),
        };
        if let Err(why) = made {
            log::warn!("command line: dax.region{id}.devices: {size_bytes:#x}@{align}: {why}");
        }
    }
    Ok(())
}

/// Makes a device, and enables it if it has memory.
#[cfg(feature = "dax")]
fn make_device(
    region: &Arc<DaxRegion>,
    request: DeviceRequest<'_>,
    registry: &Registry,
) -> Result<(), DaxError> {
    let device = registry.create_device(region, request)?;
    let (name, align, size_bytes) = (device.name(), device.align(), device.size_bytes());
    if size_bytes == 0 {
        log::info!("dax: {name} align {align}, no memory yet");
        return Ok(());
    }
    device.enable()?;
    // At boot the region's free memory is one piece, so every device is.
    let place = device.ranges().next().map_or(region.range(), |range| range.phys);
    log::info!("dax: {name} {place} align {align} size {size_bytes:#x} ({} MiB)", size_bytes >> 20);
    Ok(())
}
