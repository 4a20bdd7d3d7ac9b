//! The ranges of the NFIT: persistent ones are pmem's, volatile ones are plain memory.

use super::add_memory;
use crate::discovery::{Machinery, NoRegion};
use ::nfit::{Nfit, Region, RegionKind};
use alloc::vec::Vec;
use core::fmt::{self, Display};

/// Makes regions of the table's ranges, numbered from 0: the persistent ones by lowest DIMM handle and base, then
/// the volatile ones. Returns how many numbers that took: a refused range keeps its own.
pub fn add_regions(machinery: &mut Machinery<'_>) -> u32 {
    let Some(table) = machinery.firmware.nfit else {
        log::info!("nfit: none: this machine has no NVDIMM");
        return 0;
    };
    let refused = |why: &dyn Display| {
        log::error!("nfit: {why}");
        0
    };
    let nfit = match table.map(Nfit::parse) {
        Ok(Ok(nfit)) => nfit,
        Ok(Err(error)) => return refused(&error),
        Err(error) => return refused(&error),
    };
    for refusal in nfit.refusals() {
        log::warn!("nfit: {refusal}");
    }
    let mut regions: Vec<_> = nfit.regions().collect();
    regions.sort_by_key(|region| (region.kind == RegionKind::Volatile, region.order_key()));
    for (id, region) in (0..).zip(&regions) {
        log::info!("nfit: region{id} {}", Description(region));
        let added = match region.kind {
            RegionKind::Persistent => add_persistent(id, region, nfit, machinery),
            RegionKind::Volatile => add_volatile(id, region, machinery),
        };
        if let Err(why) = added {
            why.report(id, region.base, region.last());
        }
    }
    regions.len() as u32
}

/// What the log says of a region.
struct Description<'a>(&'a Region<'a>);

impl Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
fn add_persistent(_: u32, _: &Region<'_>, _: Nfit<'_>, _: &mut Machinery<'_>) -> Result<(), NoRegion> {
    Err(NoRegion::BuiltWithout(if cfg!(feature = "dax") { "dax_pmem" } else { "dax" }))
}

/// Memory that forgets: nothing on it is worth a look, and there is nothing to flush.
fn add_volatile(id: u32, region: &Region<'_>, machinery: &mut Machinery<'_>) -> Result<(), NoRegion> {
    let range = machinery.reachable(region.base, region.len_bytes)?;
    machinery.map.reserve(range, "volatile memory of the NFIT").map_err(NoRegion::Claimed)?;
    add_memory(id, range, region.proximity, machinery)
}
