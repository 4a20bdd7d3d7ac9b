//! NVDIMMs as Linux shows them: the bus, its DIMMs and regions, in each region one namespace, and the claim on it
//! whose devices programs map. What they say is the NFIT's and, of a claim, the info block's; a bare range is a
//! namespace whose claim has no uuid.
//!
//! There are no seeds, labels or ioctls: capacity is given away by `dax_region`.

use super::attributes::{DEVICES, REGION as DAX_REGION, hex, parse, show_node};
use super::tables::{ND_BUS, System, next_region, region};
use super::{About, NUMBER, Row, Subject, SysDirectory, SysLink, Table};
use crate::control::ControlError;
use crate::machine::machine;
use crate::providers::pmem;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use dax::{DaxRegion, MediaAccess, RegionKind};
use mm::range::PAGE_SIZE;
use nfit::{ControlRegion, Nfit, PersistenceDomain, Region};
use nvdimm::{Map, Placement};

/// The firmware's table.
fn nfit() -> Option<Nfit<'static>> {
    Nfit::parse(machine().nfit?).ok()
}

/// What the table says of a region.
fn range(region: &DaxRegion) -> Option<Region<'static>> {
    let start = region.range().start().as_u64();
    nfit()?.regions().find(|range| (range.base..=range.last()).contains(&start))
}

/// One of the region's numbers.
fn of_range(region: &DaxRegion, what: fn(&Region<'_>) -> u64) -> u64 {
    range(region).as_ref().map_or(0, what)
}

fn info_block(region: &DaxRegion) -> Option<Placement> {
    pmem::info_block(&range(region)?, region.range())
}

/// The bus.
pub static BUS: &[Row<System>] = &[
    Row::each("region*", NUMBER, next_nd_region, |_, id, path| {
        Some(SysDirectory::at(path, region(id)?, REGION))
    }),
    Row::shown("provider", |_| "ACPI.NFIT".into()),
    Row::shown("commands", |_| String::new()),
    Row::shown("wait_probe", |_| "1".into()),
    Row::shown("nfit/revision", |_| nfit().and_then(Nfit::revision).unwrap_or_default().to_string()),
    Row::shown("nfit/dsm_mask", |_| "0".into()),
    // The majors are those that Linux gives away after dax's.
    Row::shown("nd/ndctl0/dev", |_| "253:0".into()),
    Row::link("nd/ndctl0/device", |_| ND_BUS.into()),
    Row::link("subsystem", |_| "bus/nd".into()),
    Row::each("nmem*", NUMBER, next_dimm, |_, number, path| {
        let dimm = nfit()?.dimms().nth(number as usize)?;
        Some(SysDirectory::at(path, Dimm { number, dimm }, DIMM))
    }),
];

/// Links to the DIMMs, to the namespaces, and to the claims on them.
pub const DIMM_LINKS: Row<System> =
    Row::each("bus/nd/devices/nmem*", NUMBER, next_dimm, |_, number, path| {
        Some(SysLink::at(path, format!("{ND_BUS}/nmem{number}")))
    });
pub const NAMESPACE_LINKS: Row<System> =
    Row::each("bus/nd/devices/namespace*.0", NUMBER, next_nd_region, |_, id, path| {
        Some(SysLink::at(path, format!("{ND_BUS}/region{id}/namespace{id}.0")))
    });
pub const CLAIM_LINKS: Row<System> =
    Row::each("bus/nd/devices/dax*.0", NUMBER, next_nd_region, |_, id, path| {
        Some(SysLink::at(path, format!("{ND_BUS}/region{id}/dax{id}.0")))
    });

fn next_dimm(_: &System, from: u64) -> Option<u64> {
    nfit()?.dimms().nth(usize::try_from(from).ok()?).map(|_| from)
}

fn next_nd_region(_: &System, from: u64) -> Option<u64> {
    next_region(from, |region| region.kind() == RegionKind::Persistent)
}

/// A DIMM, by its place in the order of handles.
#[derive(Clone)]
struct Dimm {
    number: u64,
    dimm: nfit::Dimm,
}

impl Subject for Dimm {
    fn now(&self) -> Result<Self, ControlError> {
        Ok(self.clone())
    }
}

impl Dimm {
    /// A number of its control region, in the order of its bytes: Linux takes it for big-endian.
    fn swapped(&self, what: fn(&ControlRegion) -> u16) -> String {
        format!("{:#06x}", self.dimm.control_region.as_ref().map_or(0, what).swap_bytes())
    }
}

static DIMM: &[Row<Dimm>] = &[
    Row::shown("dev", |dimm| format!("252:{}", dimm.number)),
    Row::shown("commands", |_| String::new()),
    Row::shown("modalias", |_| "nd:t1".into()),
    Row::shown("state", |_| "active".into()),
    Row::shown("flags", |_| String::new()),
    Row::link("driver", |_| "bus/nd/drivers/nvdimm".into()),
    Row::link("subsystem", |_| "bus/nd".into()),
    Row::shown("nfit/handle", |dimm| format!("{:#x}", dimm.dimm.handle.0)),
    Row::shown("nfit/phys_id", |dimm| format!("{:#x}", dimm.dimm.physical_id)),
    Row::shown("nfit/flags", |dimm| dimm.dimm.state.to_string()),
    Row::shown("nfit/vendor", |dimm| dimm.swapped(|control| control.vendor_id)),
    Row::shown("nfit/device", |dimm| dimm.swapped(|control| control.device_id)),
    Row::shown("nfit/rev_id", |dimm| dimm.swapped(|control| control.revision_id)),
    Row::shown("nfit/subsystem_vendor", |dimm| dimm.swapped(|control| control.subsystem_vendor_id)),
    Row::shown("nfit/subsystem_device", |dimm| dimm.swapped(|control| control.subsystem_device_id)),
    Row::shown("nfit/subsystem_rev_id", |dimm| dimm.swapped(|control| control.subsystem_revision_id)),
    Row::shown("nfit/format", |dimm| dimm.swapped(|control| control.format_code.swap_bytes())),
    Row::shown("nfit/formats", |_| "1".into()),
    Row::shown("nfit/serial", |dimm| {
        format!("{:#010x}", dimm.dimm.control_region.map_or(0, |control| control.serial.swap_bytes()))
    }),
    Row::shown("nfit/id", |dimm| {
        dimm.dimm.control_region.map(|control| control.unique_id().to_string()).unwrap_or_default()
    }),
];

static REGION: &[Row<Arc<DaxRegion>>] = &[
    Row::each("dax*.0", NUMBER, own_number, |region, _, path| {
        Some(SysDirectory::at(path, region.clone(), CLAIM))
    }),
    Row::shown("size", |region| of_range(region, |range| range.len_bytes).to_string()),
    Row::secret("resource", |region| hex(of_range(region, |range| range.base))),
    Row::shown("align", |region| hex(region.align().bytes())),
    // The namespace has all of it.
    Row::shown("available_size", |_| "0".into()),
    Row::shown("max_available_extent", |_| "0".into()),
    Row::shown("mappings", |region| of_range(region, |range| range.mapping_count as u64).to_string()),
    Row::each(
        "mapping*",
        NUMBER,
        |region, from| mapping(region, from).map(|_| from),
        |region, index, path| {
            Arc::new(About(Mapping { region: region.clone(), index }, MAPPING)).node(0, 0, path)
        },
    ),
    Row::shown("nstype", |_| NAMESPACE_IO.into()),
    Row::shown("set_cookie", |_| "0".into()),
    Row::shown("read_only", |region| u32::from(region.access() == MediaAccess::ReadOnly).to_string()),
    Row::shown("badblocks", |region| bad_blocks(region)),
    Row::shown("numa_node", |region| show_node(region)),
    Row::shown("target_node", |region| show_node(region)),
    // Linux shows none where the table says nothing.
    Row::shown("persistence_domain", |region| domain(region).to_string())
        .only_if(|region| domain(region) != PersistenceDomain::Unknown),
    Row::both("deep_flush", |region| u32::from(has_hints(region)).to_string(), deep_flush),
    Row::shown("modalias", |_| "nd:t2".into()),
    Row::shown("nfit/range_index", |region| of_range(region, |range| range.range_index.into()).to_string()),
    Row::link("driver", |_| "bus/nd/drivers/nd_region".into()),
    Row::link("subsystem", |_| "bus/nd".into()),
    Row::each("namespace*.0", NUMBER, own_number, |region, _, path| {
        Some(SysDirectory::at(path, region.clone(), NAMESPACE))
    }),
    // On Linux it is in the claim only.
    Row::group("dax_region", DAX_REGION),
];

/// What is in a region is numbered like it.
fn own_number(region: &Arc<DaxRegion>, from: u64) -> Option<u64> {
    Some(region.id().into()).filter(|&id| from <= id)
}

/// What is known to be bad: lines of the first 512 bytes and how many there are, as much of it as a page takes.
fn bad_blocks(region: &DaxRegion) -> String {
    const SECTOR_BYTES: u64 = 512;
    let (start, mut text) = (region.range().start().as_u64(), String::new());
    let mut at = start;
    while let Some(bad) = region.next_bad(at).filter(|_| text.len() < PAGE_SIZE as usize - 64) {
        let first = (bad.start().as_u64() - start) / SECTOR_BYTES;
        let separator = if text.is_empty() { "" } else { "\n" };
        text += &format!("{separator}{first} {}", bad.len_bytes() / SECTOR_BYTES);
        at = bad.end();
    }
    text
}

fn domain(region: &Arc<DaxRegion>) -> PersistenceDomain {
    range(region).map_or(PersistenceDomain::Unknown, |range| range.persistence)
}

/// ND_DEVICE_NAMESPACE_IO (include/uapi/linux/ndctl.h): one that no label describes.
const NAMESPACE_IO: &str = "4";

/// The piece of a DIMM that serves a region.
#[derive(Clone)]
struct Mapping {
    region: Arc<DaxRegion>,
    index: u64,
}

impl Subject for Mapping {
    fn now(&self) -> Result<Self, ControlError> {
        Ok(Mapping { region: self.region.now()?, index: self.index })
    }
}

static MAPPING: &[Row<Mapping>] =
    &[Row::shown("", |piece| mapping(&piece.region, piece.index).unwrap_or_default())];

/// The DIMM, where the piece begins on it, its length, its place in the interleave set.
fn mapping(region: &DaxRegion, index: u64) -> Option<String> {
    let memdev = range(region)?.mappings().nth(usize::try_from(index).ok()?)?.memdev;
    let number = nfit()?.dimms().position(|dimm| dimm.handle == memdev.device_handle)?;
    Some(format!("nmem{number},{},{},{index}", memdev.dpa, memdev.region_size))
}

/// Does a store have more to do than to leave the CPU?
fn has_hints(region: &DaxRegion) -> bool {
    let (Some(nfit), Some(range)) = (nfit(), range(region)) else { return false };
    range.mappings().any(|mapping| nfit.flush_hints(mapping.memdev.device_handle).next().is_some())
}

/// Drains the queues of the DIMMs: of what is in the CPU, a page is written back with it.
fn deep_flush(region: &Arc<DaxRegion>, text: &str) -> Result<(), ControlError> {
    match (parse(text, "1")?, region.range().part(0, PAGE_SIZE)) {
        (1, Some(page)) => {
            region.media_flush().flush(page);
            Ok(())
        }
        _ => Err(ControlError::Invalid { expected: "1" }),
    }
}

static NAMESPACE: &[Row<Arc<DaxRegion>>] = &[
    Row::shown("size", |region| of_range(region, |range| range.len_bytes).to_string()),
    Row::secret("resource", |region| hex(of_range(region, |range| range.base))),
    Row::shown("nstype", |_| NAMESPACE_IO.into()),
    Row::shown("mode", |_| "dax".into()),
    Row::shown("holder", |region| format!("dax{}.0", region.id())),
    Row::shown("holder_class", |_| "dax".into()),
    Row::shown("force_raw", |_| "0".into()),
    Row::shown("numa_node", |region| show_node(region)),
    Row::shown("target_node", |region| show_node(region)),
    Row::shown("modalias", |_| "nd:t4".into()),
    Row::link("subsystem", |_| "bus/nd".into()),
];

/// What makes a namespace memory for devices.
static CLAIM: &[Row<Arc<DaxRegion>>] = &[
    DEVICES,
    Row::shown("namespace", |region| format!("namespace{}.0", region.id())),
    Row::shown("uuid", |region| info_block(region).map(|block| block.uuid.to_string()).unwrap_or_default()),
    // Linux's page map: without an info block it can only be in RAM.
    Row::shown("mode", |region| match info_block(region).map(|block| block.map) {
        Some(Map::Dev) => "pmem".into(),
        Some(Map::Mem) | None => "ram".into(),
    }),
    Row::shown("align", |region| region.align().bytes().to_string()),
    Row::shown("supported_alignments", |_| "4096 2097152 1073741824".into()),
    Row::secret("resource", |region| hex(region.range().start().as_u64())),
    Row::shown("size", |region| region.range().len_bytes().to_string()),
    Row::shown("numa_node", |region| show_node(region)),
    Row::shown("target_node", |region| show_node(region)),
    Row::shown("modalias", |_| "nd:t7".into()),
    Row::link("driver", |_| "bus/nd/drivers/dax_pmem".into()),
    Row::link("subsystem", |_| "bus/nd".into()),
    Row::group("dax_region", DAX_REGION),
];
