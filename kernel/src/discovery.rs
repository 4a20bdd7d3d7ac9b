//! From memory that firmware or the command line set aside to dax regions and devices.
//!
//! For each range, in the order of its number (the NFIT's persistent ranges first, then its volatile ones, then
//! those of `memmap=`):
//! 1. claim it: a range that RAM or another holds is refused, saying who holds it;
//! 2. map it into the physmap, read-only: the kernel itself cannot harm a medium;
//! 3. see what is on it: somebody's data is left alone, a devdax info block is honoured, a bare range is used
//!    whole;
//! 4. make the region and its devices: one of all of it, or those that `dax.regionN.devices=` lists.
//!
//! A range that is refused costs itself, and one line that says why. [`crate::providers`] know where ranges come
//! from; this is what they have in common. In a kernel without dax, steps 3 and 4 are a line in the log.

use crate::arch::cpu::Features;
use crate::arch::paging::{self, KernelTables};
use crate::boot::Firmware;
use crate::command_line::CommandLine;
use crate::dax::Registry;
use crate::providers;
use alloc::vec::Vec;
use mm::frames::FrameAllocator;
use mm::memory_map::{ClaimError, MemoryMap};
use mm::range::PhysRange;
use thiserror::Error;
use x86_64::structures::paging::PageTableFlags;

/// What discovery works with.
pub struct Machinery<'a> {
    /// Who holds which physical range.
    pub map: &'a mut MemoryMap,
    /// The kernel's tables: regions join the physmap.
    pub tables: &'a mut KernelTables,
    /// RAM that nobody holds.
    pub frames: &'static FrameAllocator,
    /// What the CPU can map.
    pub features: &'a Features,
    /// The user's wishes.
    pub options: &'a CommandLine,
    /// What the firmware told.
    pub firmware: &'a Firmware,
    /// Where regions and devices are entered.
    pub registry: Registry,
    /// RAM that the command line set aside.
    pub carved_out: Vec<PhysRange>,
    /// Pages of flush hints that are mapped already.
    pub hint_pages: Vec<PhysRange>,
}

impl Machinery<'_> {
    /// Maps a range that was claimed into the physmap.
    pub fn map_physical(&mut self, range: PhysRange, flags: PageTableFlags) -> Result<(), NoRegion> {
        self.tables.map_physical(range, flags).map_err(|_| NoRegion::NoMemory)
    }

    /// The range of these bounds, if this CPU and kernel can map it.
    pub fn reachable(&self, start: u64, len_bytes: u64) -> Result<PhysRange, NoRegion> {
        let bits = paging::reachable_bits(self.features);
        PhysRange::new(start, len_bytes)
            .filter(|range| range.end() <= 1 << bits)
            .ok_or(NoRegion::Unreachable(bits))
    }
}

/// Why a range became no region. (What dax itself refuses is said by `dax::DaxError`.)
#[derive(Debug, Error)]
pub enum NoRegion {
    /// The physical range is not one that this CPU and kernel can map, but so many address bits.
    #[error("it lies behind the {0} address bits that can be mapped")]
    Unreachable(u32),
    /// Somebody holds it.
    #[error("{0}")]
    Claimed(ClaimError),
    /// No frame for the page tables of its physmap.
    #[error("no memory for the page tables to read it")]
    NoMemory,
    /// The kernel was built without what would use it.
    #[error("built without {0}")]
    BuiltWithout(&'static str),
    /// Somebody's data is on it.
    #[cfg(feature = "dax_pmem")]
    #[error("{0}: not touched (dax.force_raw uses the range whole and overwrites it)")]
    Occupied(alloc::boxed::Box<nvdimm::Found>),
    /// This CPU has no 1 GiB pages.
    #[cfg(feature = "dax")]
    #[error("align 1G, but this CPU has no 1 GiB pages (use -cpu max or host, or dax.align=2M)")]
    NoGigabytePages,
    /// The dax crate refused.
    #[cfg(feature = "dax")]
    #[error(transparent)]
    Dax(#[from] dax::DaxError),
}

impl NoRegion {
    /// Says so in the log, of the range with these first and last bytes.
    pub fn report(&self, id: u32, first: u64, last: u64) {
        match self {
            NoRegion::BuiltWithout(feature) => {
                log::warn!("region{id} [{first:#x}-{last:#x}] unclaimed: built without {feature}")
            }
            why => log::warn!("region{id}: no device: {why}"),
        }
    }
}

/// Finds every range of memory that was set aside and makes regions and devices of those that may be used.
pub fn discover(mut machinery: Machinery<'_>) -> Registry {
    #[cfg(feature = "nfit")]
    let count = providers::nfit::add_regions(&mut machinery);
    #[cfg(not(feature = "nfit"))]
    let count = 0;
    if cfg!(not(feature = "nfit")) && machinery.firmware.nfit.is_some() {
        log::warn!("nfit: there is one, but this kernel was built without nfit");
    }
    let count = providers::ram::add_regions(count, &mut machinery);
    for (id, _) in machinery.options.regions.iter().filter(|(id, _)| *id >= count) {
        log::warn!("command line: dax.region{id}: there are {count} region(s), numbered from 0");
    }
    #[cfg(feature = "brd")]
    providers::brd::add_disks(&machinery);
    machinery.registry
}
