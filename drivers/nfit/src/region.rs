//! Regions: the ranges that may become memory, each with the DIMMs behind it.

use crate::messages::messages;
use crate::{ControlRegion, Memdev, MemoryAttributes, Nfit, PersistenceDomain, RangeKind, Reason, SpaRange};

/// Regions start and end on multiples of this, and so do the pieces of the DIMMs.
pub const PAGE_BYTES: u64 = 4096;

/// The most mappings that a region may have; a range with more is refused, as Linux does.
pub const MAX_MAPPINGS: usize = 32;

/// A range of physical memory that passed every check of this crate.
///
/// It is not empty, does not wrap, consists of whole 4 KiB pages, may be mapped write-back and overlaps no
/// other region of the table. Its bytes are linear: interleaving is the memory controller's business.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    /// What stores to it become.
    pub kind: RegionKind,
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// The table's number for the range, never 0.
    pub range_index: u16,
    /// NUMA proximity domain; `None` when the table does not give a valid one.
    pub proximity: Option<u32>,
    /// EFI memory attributes, write-back among them.
    pub attributes: MemoryAttributes,
    /// Offset of the SPA range structure in the table.
    pub table_offset: usize,
    /// Whether stores may be lost: some DIMM behind the region is not armed. Refused mappings count too.
    pub read_only: bool,
    /// How far a store must have got to survive power loss; says nothing about a volatile region.
    pub persistence: PersistenceDomain,
    /// Number of [`Region::mappings`], at most [`MAX_MAPPINGS`].
    pub mapping_count: usize,
    /// Mappings of this range that were refused. When not 0 the region's bytes can be used, but namespace
    /// labels, which count by mapping, cannot be trusted.
    pub refused_mappings: usize,
    /// Lowest device handle among the mappings; `u32::MAX` when there is none.
    lowest_handle: u32,
    nfit: Nfit<'a>,
}

impl<'a> Region<'a> {
    /// The DIMMs' pieces that make up the region, in table order.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> + Clone + use<'a> {
        self.nfit.mappings(self.range_index)
    }

    /// The last physical address.
    pub fn last(&self) -> u64 {
        // Neither empty nor wrapping: `Nfit::region_at` asked `SpaRange::last`.
        self.base + (self.len_bytes - 1)
    }

    /// By this callers sort regions to number them: lowest device handle, then base.
    ///
    /// The order of the table will not do: firmware may list a later NVDIMM first.
    pub fn order_key(&self) -> (u32, u64) {
        (self.lowest_handle, self.base)
    }
}

messages! {
    /// What stores to a region become.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum RegionKind {
        /// Kept across power loss.
        Persistent => ("persistent"),
        /// Lost at power loss.
        Volatile => ("volatile"),
    }
}

/// A DIMM's piece of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The piece: DIMM, place on the DIMM, interleaving, state.
    pub memdev: Memdev,
    /// What identifies the DIMM; `None` when the mapping names no control region (index 0).
    pub control_region: Option<ControlRegion>,
}

impl<'a> Nfit<'a> {
    /// The persistent and volatile ranges that may be used as memory, in table order.
    ///
    /// Every other SPA range is in [`Nfit::refusals`].
    pub fn regions(self) -> impl Iterator<Item = Region<'a>> + Clone {
        self.all::<SpaRange>().filter_map(move |(offset, spa)| self.region_at(offset, &spa).ok())
    }

    /// The region of the SPA range structure at `offset`, or why there is none.
    pub(crate) fn region_at(self, offset: usize, spa: &SpaRange) -> Result<Region<'a>, Reason> {
        let range = spa.name();
        let kind = region_kind(spa)?;
        ensure(spa.range_index != 0, Reason::RangeIndexZero { range })?;
        ensure(spa.last().is_some(), Reason::EmptyOrWrapping { range })?;
        ensure((spa.base | spa.len_bytes).is_multiple_of(PAGE_BYTES), Reason::NotWholePages { range })?;
        // An earlier range counts even if it is refused itself: one of the two is wrong about these bytes,
        // and nothing says that it is the earlier one.
        let mut earlier = self.all::<SpaRange>().take_while(|(at, _)| *at < offset);
        if let Some((first_offset, first)) = earlier.clone().find(|(_, e)| e.range_index == spa.range_index) {
            return Err(Reason::RangeIndexTaken { range, first: first.name(), first_offset });
        }
        if let Some((_, other)) = earlier.find(|(_, earlier)| earlier.overlaps(spa)) {
            return Err(Reason::Overlap { range, other: other.name() });
        }
        let attributes = spa.attributes;
        ensure(attributes.write_back(), Reason::NotWriteBack { range, attributes })?;
        let handles = self.mappings(spa.range_index).map(|mapping| mapping.memdev.device_handle.0);
        let (mapping_count, lowest_handle) =
            handles.fold((0, u32::MAX), |(count, lowest), handle| (count + 1, lowest.min(handle)));
        ensure(mapping_count <= MAX_MAPPINGS, Reason::TooManyMappings { range, count: mapping_count })?;
        let mut behind = self.all::<Memdev>().filter(|(_, memdev)| memdev.range_index == spa.range_index);
        Ok(Region {
            kind,
            base: spa.base,
            len_bytes: spa.len_bytes,
            range_index: spa.range_index,
            proximity: spa.proximity,
            attributes,
            table_offset: offset,
            refused_mappings: behind.clone().count() - mapping_count,
            read_only: behind.any(|(_, memdev)| !memdev.state.armed()),
            persistence: self.persistence(),
            mapping_count,
            lowest_handle,
            nfit: self,
        })
    }

    /// The good mappings that name `range_index`.
    fn mappings(self, range_index: u16) -> impl Iterator<Item = Mapping> + Clone + use<'a> {
        let naming = self.all::<Memdev>().filter(move |(_, memdev)| memdev.range_index == range_index);
        let good = naming.filter(move |(offset, memdev)| self.refuse_memdev(*offset, memdev).is_none());
        good.map(move |(_, memdev)| {
            let control_region = self.control_region(memdev.control_region_index);
            Mapping { memdev, control_region }
        })
    }
}

fn ensure(holds: bool, reason: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(reason) }
}

fn region_kind(spa: &SpaRange) -> Result<RegionKind, Reason> {
    let range = spa.name();
    match spa.kind {
        RangeKind::Persistent => Ok(RegionKind::Persistent),
        RangeKind::Volatile => Ok(RegionKind::Volatile),
        kind @ (RangeKind::ControlRegion | RangeKind::BlockDataWindow) => {
            Err(Reason::BlockMode { range, kind })
        }
        RangeKind::Unknown(guid) => Err(Reason::UnknownKind { range, guid }),
        kind => Err(Reason::VirtualDisk { range, kind }),
    }
}
