//! Where a mapping goes: the aligned search in a randomised, fragmented space.

use crate::pager::Refusal;
use crate::range::{MapSize, PAGE_SIZE, USER_END, VirtRange};
use crate::vma::VmaSet;

/// The top of the addresses is left to the stack and its random place; the search starts below it.
pub const STACK_AREA_BYTES: u64 = 17 << 30;

/// Nothing is placed below, unless by `Fixed`: null pointers shall fault (Linux's vm.mmap_min_addr).
const LOWEST: u64 = 64 << 10;

/// MAP_32BIT searches from about here (Linux: 1 GiB and up to 32 MiB of randomness) to 2 GiB.
const LOW_START: u64 = 1 << 30;
const LOW_END: u64 = 2 << 30;

/// Where a mapping should go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Anywhere free, from the top down.
    Anywhere,
    /// Anywhere free between 1 GiB and 2 GiB (MAP_32BIT).
    Below2G,
    /// There when it is free, else anywhere; rounded up to the entry size. 0 means anywhere.
    Hint(u64),
    /// Exactly there, replacing what is there (MAP_FIXED).
    Fixed(u64),
    /// Exactly there, refused when something is there (MAP_FIXED_NOREPLACE).
    FixedNoReplace(u64),
}

/// The random parts of a space's layout.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// `Anywhere` searches below this first.
    pub(crate) mmap_base: u64,
    /// `Below2G` searches above this.
    low_start: u64,
}

impl Layout {
    /// 28 random bits of pages for the base, as on Linux; 13 other bits for the low area.
    pub(crate) const fn new(random: u64) -> Layout {
        let pages = random & ((1 << 28) - 1);
        let low_pages = 1 + (random >> 32 & ((1 << 13) - 1));
        Layout {
            mmap_base: USER_END - STACK_AREA_BYTES - pages * PAGE_SIZE,
            low_start: LOW_START + low_pages * PAGE_SIZE,
        }
    }

    /// The addresses for `len_bytes` (whole pages) in entries of `granule`.
    ///
    /// A searched place is a multiple of the granule: offsets must be too, so address and offset agree
    /// modulo the alignment (device-dax reference 5.4), also for a length that is not. `Fixed` is taken as
    /// it is: refusing an address that does not fit the granule is the pager's business.
    pub(crate) fn place(
        &self,
        vmas: &VmaSet,
        placement: Placement,
        len_bytes: u64,
        granule: MapSize,
    ) -> Result<VirtRange, Refusal> {
        let none = Refusal::NoAddresses { len_bytes };
        match placement {
            Placement::Fixed(address) => fixed(address, len_bytes),
            Placement::FixedNoReplace(address) => {
                let range = fixed(address, len_bytes)?;
                match vmas.overlapping(range).next() {
                    Some(vma) => Err(Refusal::Occupied { address: vma.range.start().max(range.start()) }),
                    None => Ok(range),
                }
            }
            Placement::Below2G => vmas.find_gap(self.low_start, LOW_END, len_bytes, granule).ok_or(none),
            Placement::Hint(address) => {
                let rounded = address.max(LOWEST).checked_next_multiple_of(granule.bytes());
                rounded
                    .filter(|_| address != 0)
                    .and_then(|start| VirtRange::new(start, len_bytes))
                    .filter(|&range| vmas.is_free(range))
                    .or_else(|| self.anywhere(vmas, len_bytes, granule))
                    .ok_or(none)
            }
            Placement::Anywhere => self.anywhere(vmas, len_bytes, granule).ok_or(none),
        }
    }

    /// Below the base, or, when that is full, above it.
    fn anywhere(&self, vmas: &VmaSet, len_bytes: u64, granule: MapSize) -> Option<VirtRange> {
        vmas.find_gap(LOWEST, self.mmap_base, len_bytes, granule)
            .or_else(|| vmas.find_gap(self.mmap_base, USER_END, len_bytes, granule))
    }
}

fn fixed(address: u64, len_bytes: u64) -> Result<VirtRange, Refusal> {
    let range = VirtRange::new(address, len_bytes).ok_or(Refusal::NoAddresses { len_bytes })?;
    if !MapSize::Size4K.divides(address) {
        return Err(Refusal::Misaligned { what: "address", value: address, align: MapSize::Size4K });
    }
    Ok(range)
}
