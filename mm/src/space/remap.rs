//! mremap: a mapping grows where it is, or goes elsewhere with all its entries.

use super::{AddressSpace, Memory, Placement, check_granule};
use crate::pager::{Refusal, Sharing};
use crate::range::VirtRange;
use crate::vma::{Backing, Vma};
use x86_64::VirtAddr;

/// What becomes of the addresses that a mapping leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing is mapped there any more.
    Unmapped,
    /// The vma stays, without its entries (MREMAP_DONTUNMAP). Such a mapping does move.
    Mapped,
}

/// What `remap` is asked for. Lengths are multiples of 4 KiB.
#[derive(Clone, Copy, Debug)]
pub struct RemapRequest {
    /// Where the mapping is now, or the part of it that is meant: a program's address.
    pub address: u64,
    /// Its length; 0 maps what is shared there a second time.
    pub old_len_bytes: u64,
    /// The length that it shall have, not below the old one.
    pub new_len_bytes: u64,
    /// Where it may go: `None` and it stays, `Anywhere` and it goes when it cannot grow where it is. `Fixed` is clear
    /// of the old addresses and replaces what is there.
    pub placement: Option<Placement>,
    /// What becomes of the old addresses.
    pub left: Left,
}

impl AddressSpace {
    /// Grows a mapping, or moves it (mremap); its first address then. `NotMapped` when the range is not within one
    /// vma. A refusal changes nothing, unless memory for page tables is out: then what was to be replaced is gone.
    pub fn remap(&self, request: &RemapRequest) -> Result<VirtAddr, Refusal> {
        self.environment.frames.patiently(|| self.try_remap(request))
    }

    fn try_remap(&self, request: &RemapRequest) -> Result<VirtAddr, Refusal> {
        let &RemapRequest { address, old_len_bytes, new_len_bytes, placement, left } = request;
        let mut memory = self.memory.write();
        let start = VirtAddr::new_truncate(address);
        let vma = memory.vmas.find(start).ok_or(Refusal::NotMapped { address: start })?.clone();
        let granule = vma.granule;
        let old = VirtRange::new(address, old_len_bytes);
        if old.map_or(old_len_bytes != 0, |old| old.end() > vma.range.end()) {
            return Err(Refusal::NotMapped { address: vma.range.end() });
        }
        if old.is_none() && vma.sharing == Sharing::Private {
            return Err(Refusal::ZeroLength);
        }
        for (what, value) in [("address", address), ("length", old_len_bytes), ("length", new_len_bytes)] {
            check_granule(what, value, granule)?;
        }
        let is_anonymous = matches!(vma.backing, Backing::Anonymous);
        let offset_bytes = if is_anonymous { 0 } else { vma.offset_of(start) };
        if offset_bytes.checked_add(new_len_bytes).is_none() {
            return Err(Refusal::OffsetOverflow { offset_bytes, len_bytes: new_len_bytes });
        }

        let may_stay = matches!(placement, None | Some(Placement::Anywhere)) && left == Left::Unmapped;
        let end = address.saturating_add(new_len_bytes);
        if may_stay
            && old.is_some_and(|old| old.end() == vma.range.end())
            && let Some(more) = VirtRange::from_bounds(vma.range.end().as_u64(), end)
            && let Some(grown) = VirtRange::from_bounds(vma.range.start().as_u64(), end)
            && memory.vmas.is_free(more)
        {
            memory.vmas.resize(vma.range.start(), grown);
            return Ok(start);
        }

        let placement = placement.ok_or(Refusal::NoAddresses { len_bytes: new_len_bytes })?;
        let range = self.layout.place(&memory.vmas, placement, new_len_bytes, granule)?;
        check_granule("address", range.start().as_u64(), granule)?;
        memory.vmas.check_cuts(range, |_| true)?;
        let added = memory.vmas.growth(range, 1) + old.map_or(0, |old| memory.vmas.growth(old, 0));
        memory.vmas.prepare(added)?;
        self.remove(&mut memory, range);
        let Memory { tables, vmas } = &mut *memory;
        if let Some(old) = old {
            let (flush, complete) = tables.relocate(old, range.start(), granule);
            flush.acknowledge(self.environment.shootdown);
            if !complete {
                self.unmap(tables, range, vmas.hole_around(range));
                return Err(Refusal::NoMemory);
            }
        }
        // Before the old one goes: the tables that its entries have moved to are no hole.
        vmas.insert(Vma { range, offset_bytes, ..vma });
        if let (Some(old), Left::Unmapped) = (old, left) {
            self.remove(&mut memory, old);
        }
        Ok(range.start())
    }
}
