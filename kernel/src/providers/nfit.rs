//! The ranges of the NFIT: persistent ones are pmem's, volatile ones are plain memory.

use super::{Memory, add_memory};
use crate::boot::Firmware;
use crate::dax::Registry;
use crate::discovery::{Machinery, NoRegion};
use ::nfit::{Nfit, Region, RegionKind};
use alloc::vec::Vec;

/// Makes regions of the table's ranges, numbered from 0: the persistent ones by lowest DIMM handle and base, then
/// the volatile ones. Returns how many numbers that took: a refused range keeps its own.
pub fn add_regions(firmware: &Firmware, registry: &Registry, machinery: &mut Machinery<'_>) -> u32 {
    let nfit = match firmware.nfit {
        None => {
            log::info!("nfit: none: this machine has no NVDIMM");
            return 0;
        }
        Some(Err(error)) => {
            log::error!("nfit: {error}");
            return 0;
        }
        Some(Ok(table)) => match Nfit::parse(table) {
            Ok(nfit) => nfit,
            Err(error) => {
                log::error!("nfit: {error}");
                return 0;
            }
        },
    };
    for refusal in nfit.refusals() {
        log::warn!("nfit: {refusal}");
    }
    let mut regions: Vec<_> = nfit.regions().collect();
    regions.sort_by_key(|region| (region.kind == RegionKind::Volatile, region.order_key()));
    for (id, region) in (0..).zip(&regions) {
        log::info!("nfit: region{id} {}", Description(region));
        let added = match region.kind {
            RegionKind::Persistent => add_persistent(id, region, nfit, firmware, registry, machinery),
            RegionKind::Volatile => add_volatile(id, region, registry, machinery),
        };
        if let Err(why) = added {
            why.report(id, region.base, region.last());
        }
    }
    regions.len() as u32
}

/// What the log says of a region.
struct Description<'a>(&'a Region<'a>);

impl core::fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Description(region) = self;
        write!(f, "[{:#x}-{:#x}] {}", region.base, region.last(), region.kind)?;
        if region.kind == RegionKind::Persistent {
            let (dimms, domain) = (region.mapping_count, region.persistence);
            let armed = if region.read_only { ", not armed: read-only" } else { "" };
            write!(f, ", {dimms} DIMM(s), persistence domain {domain}{armed}")?;
        }
        Ok(())
    }
}

#[cfg(feature = "dax_pmem")]
use super::pmem::add_region as add_persistent;

#[cfg(not(feature = "dax_pmem"))]
fn add_persistent(
    _: u32,
    _: &Region<'_>,
    _: Nfit<'_>,
    _: &Firmware,
    _: &Registry,
    _: &mut Machinery<'_>,
) -> Result<(), NoRegion> {
    Err(NoRegion::BuiltWithout(if cfg!(feature = "dax") { "dax_pmem" } else { "dax" }))
}

/// Memory that forgets: nothing on it is worth a look, and there is nothing to flush.
fn add_volatile(
    id: u32,
    region: &Region<'_>,
    registry: &Registry,
    machinery: &mut Machinery<'_>,
) -> Result<(), NoRegion> {
    let range = machinery.reachable(region.base, region.len_bytes)?;
    machinery.map.reserve(range, "volatile memory of the NFIT").map_err(NoRegion::Claimed)?;
    add_memory(Memory { id, range, target_node: region.proximity }, registry, machinery)
}
