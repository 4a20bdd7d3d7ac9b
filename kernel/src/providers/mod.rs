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

use crate::discovery::{Machinery, NoRegion};
use mm::range::PhysRange;
#[cfg(feature = "dax")]
use {
    crate::arch::cpu::Features,
    crate::command_line::DeviceWish,
    alloc::sync::Arc,
    dax::{DaxRegion, DeviceRequest, MediaAccess, MediaFlush, Placement, RegionConfig, RegionKind, Scrub},
    mm::range::MapSize,
    x86_64::structures::paging::PageTableFlags,
};

#[cfg(all(feature = "dax_pmem", not(feature = "nfit")))]
compile_error!("feature dax_pmem makes dax regions of the NFIT's ranges: it needs feature nfit");
#[cfg(all(feature = "dax_pmem", not(feature = "dax")))]
compile_error!("feature dax_pmem makes dax regions of the NFIT's ranges: it needs feature dax");
#[cfg(all(feature = "brd", not(feature = "dax")))]
compile_error!("feature brd registers RAM disks as dax devices: it needs feature dax");

/// Makes a region of memory that forgets, claimed and not yet mapped, and its devices. `target_node` is its NUMA node,
/// where the firmware names one.
#[cfg(feature = "dax")]
pub fn add_memory(
    id: u32,
    range: PhysRange,
    target_node: Option<u32>,
    machinery: &mut Machinery<'_>,
) -> Result<(), NoRegion> {
    machinery.map_physical(range, PageTableFlags::empty())?;
    let config = RegionConfig {
        id,
        range,
        align: machinery.options.align_of(id),
        target_node,
        kind: RegionKind::Volatile,
        access: MediaAccess::ReadWrite,
        flush: Arc::new(NothingToFlush),
    };
    make_devices(config, machinery)
}

/// Nobody is there to use it.
#[cfg(not(feature = "dax"))]
pub fn add_memory(_: u32, _: PhysRange, _: Option<u32>, _: &mut Machinery<'_>) -> Result<(), NoRegion> {
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
pub fn make_devices(config: RegionConfig, machinery: &Machinery<'_>) -> Result<(), NoRegion> {
    let Machinery { registry, options, features, .. } = machinery;
    let (id, align) = (config.id, config.align);
    if !can_map(align, features) {
        return Err(NoRegion::NoGigabytePages);
    }
    let region = registry.add_region(config).map_err(NoRegion::Dax)?;
    if options.waives_scrub {
        region.set_scrub(Scrub::Waived);
    }
    let Some(wishes) = options.wish_for(id).and_then(|wish| wish.devices.as_ref()) else {
        let whole = [region.range()];
        let request = DeviceRequest { placement: Placement::Ranges(&whole), align };
        return make_device(&region, request, machinery);
    };
    for &DeviceWish { size_bytes, align: own } in wishes {
        let align = own.unwrap_or(align);
        let request = DeviceRequest { placement: Placement::Size(size_bytes), align };
        if let Err(why) = make_device(&region, request, machinery) {
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
    machinery: &Machinery<'_>,
) -> Result<(), NoRegion> {
    if !can_map(request.align, machinery.features) {
        return Err(NoRegion::NoGigabytePages);
    }
    let device = machinery.registry.create_device(region, request)?;
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

#[cfg(feature = "dax")]
fn can_map(align: MapSize, features: &Features) -> bool {
    align != MapSize::Size1G || features.gigabyte_pages
}
