//! Which physical memory is RAM, and who holds what.
//!
//! Made at boot from the firmware's map, before there is a heap, so everything lies in arrays. A range is
//! claimed once: [`MemoryMap::reserve`] claims memory that is not RAM (an NVDIMM), [`MemoryMap::carve`] takes
//! a piece out of RAM (the kernel, the initrd). What is left of the RAM goes to the frame allocator.

use crate::range::{PAGE_SIZE, PhysRange};
use arrayvec::ArrayVec;
use thiserror::Error;

/// Ranges of RAM, and claims, that a map can hold.
const CAPACITY: usize = 128;

/// The firmware's type of an entry that is RAM (E820 and PVH number it alike); all others are not.
const KIND_RAM: u32 = 1;

/// First byte behind the 52 bits of a physical address.
const PHYS_END: u64 = 1 << 52;

/// Why a range could not be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ClaimError {
    /// Somebody holds a part of it.
    #[error("{asked} overlaps {held}, held by {by}")]
    Held {
        /// What was asked for.
        asked: PhysRange,
        /// Who holds it: the owner given to `reserve` or `carve`, or "RAM".
        by: &'static str,
        /// The range that the holder has.
        held: PhysRange,
    },
    /// Part of it is neither RAM nor anybody's.
    #[error("{asked} is not all RAM")]
    NotRam {
        /// What was asked for.
        asked: PhysRange,
    },
    /// The map holds as many claims as it can.
    #[error("{asked} cannot be claimed: {CAPACITY} claims are the most")]
    Full {
        /// What was asked for.
        asked: PhysRange,
    },
}

/// A range and who has it.
#[derive(Clone, Copy)]
struct Claim {
    range: PhysRange,
    owner: &'static str,
}

/// The machine's RAM and every range that somebody has claimed, each sorted and disjoint. Needs no heap.
pub struct MemoryMap {
    ram: ArrayVec<PhysRange, CAPACITY>,
    claims: ArrayVec<Claim, CAPACITY>,
    dropped: usize,
    dropped_bytes: u64,
}

impl MemoryMap {
    /// Builds the map from the firmware's `(start, len_bytes, kind)` entries, in any order.
    ///
    /// Kind 1 is RAM; where an entry of any other kind overlaps it, the other wins. Empty entries are
    /// skipped. RAM that wraps or passes 2^52 is dropped, anything else that does is cut there.
    pub fn new(entries: impl Iterator<Item = (u64, u64, u32)> + Clone) -> MemoryMap {
        let (ram, claims) = (ArrayVec::new_const(), ArrayVec::new_const());
        let mut map = MemoryMap { ram, claims, dropped: 0, dropped_bytes: 0 };
        for (start, len_bytes, _) in entries.clone().filter(|&(_, _, kind)| kind == KIND_RAM) {
            match PhysRange::new(start, len_bytes) {
                Some(range) => map.unite(range),
                None => map.count_dropped(len_bytes),
            }
        }
        for (start, len_bytes, _) in entries.filter(|&(_, _, kind)| kind != KIND_RAM) {
            let end = start.saturating_add(len_bytes).min(PHYS_END);
            if let Some(range) = PhysRange::from_bounds(start, end) {
                map.subtract(range);
            }
        }
        map
    }

    /// Claims a range that is not RAM, for a device or an NVDIMM.
    pub fn reserve(&mut self, range: PhysRange, owner: &'static str) -> Result<(), ClaimError> {
        match self.ram.iter().find(|ram| ram.overlaps(range)) {
            Some(&held) => Err(ClaimError::Held { asked: range, by: "RAM", held }),
            None => self.carve(range, owner),
        }
    }

    /// Claims a range that may lie in RAM, for the kernel image, the initrd, firmware; pages that it touches
    /// leave [`MemoryMap::ram`]. After the frame allocator took over the RAM this has no effect on it.
    pub fn carve(&mut self, range: PhysRange, owner: &'static str) -> Result<(), ClaimError> {
        if let Some(claim) = self.claim_on(range) {
            return Err(ClaimError::Held { asked: range, by: claim.owner, held: claim.range });
        }
        let index = self.claims.partition_point(|claim| claim.range < range);
        let claim = Claim { range, owner };
        self.claims.try_insert(index, claim).map_err(|_| ClaimError::Full { asked: range })
    }

    /// The same for a range that must be all RAM.
    pub fn carve_ram(&mut self, range: PhysRange, owner: &'static str) -> Result<(), ClaimError> {
        if self.claim_on(range).is_none() && !self.ram.iter().any(|ram| ram.contains(range)) {
            return Err(ClaimError::NotRam { asked: range });
        }
        self.carve(range, owner)
    }

    /// The RAM that nobody has claimed: whole pages, sorted, disjoint.
    pub fn ram(&self) -> impl Iterator<Item = PhysRange> + '_ {
        let mut at = 0;
        core::iter::from_fn(move || {
            let range = self.free_from(at)?;
            at = range.end();
            Some(range)
        })
    }

    /// Bytes of RAM in whole pages, claimed or not.
    pub fn total_bytes(&self) -> u64 {
        self.whole_ram().map(PhysRange::len_bytes).sum()
    }

    /// RAM that is not used because the firmware's map was too long or its entry wrapped: how many ranges,
    /// and how many bytes.
    pub fn dropped(&self) -> (usize, u64) {
        (self.dropped, self.dropped_bytes)
    }

    fn claim_on(&self, range: PhysRange) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.range.overlaps(range))
    }

    /// The whole pages of each range of RAM.
    fn whole_ram(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.ram.iter().map(|ram| ram.bounds()).filter_map(|(start, end)| {
            PhysRange::from_bounds(start.next_multiple_of(PAGE_SIZE), end / PAGE_SIZE * PAGE_SIZE)
        })
    }

    /// The first whole pages from `at` on that no claim touches. Not inlined: boot asks in many places, once in each,
    /// and code that runs once costs its length.
    #[inline(never)]
    fn free_from(&self, at: u64) -> Option<PhysRange> {
        self.whole_ram().find_map(|ram| {
            let (start, mut end) = ram.bounds();
            let mut start = start.max(at);
            for claim in &self.claims {
                let (first, behind) = claim.range.bounds();
                if first / PAGE_SIZE * PAGE_SIZE > start {
                    end = end.min(first / PAGE_SIZE * PAGE_SIZE);
                    break;
                }
                start = start.max(behind.next_multiple_of(PAGE_SIZE));
            }
            PhysRange::from_bounds(start, end)
        })
    }

    fn count_dropped(&mut self, len_bytes: u64) {
        if len_bytes > 0 {
            self.dropped += 1;
            self.dropped_bytes = self.dropped_bytes.saturating_add(len_bytes);
        }
    }

    /// Adds RAM that overlaps no other. When there is no room, the smallest range is dropped and counted.
    fn insert(&mut self, range: PhysRange) {
        if self.ram.is_full() {
            let by_len = self.ram.iter().copied().enumerate().min_by_key(|(_, held)| held.len_bytes());
            let (index, smallest) = by_len.expect("a full list is not empty");
            if smallest.len_bytes() >= range.len_bytes() {
                return self.count_dropped(range.len_bytes());
            }
            self.count_dropped(smallest.len_bytes());
            self.ram.remove(index);
        }
        let index = self.ram.partition_point(|&held| held < range);
        self.ram.insert(index, range);
    }

    /// Adds RAM, joined with all that it overlaps or touches.
    fn unite(&mut self, range: PhysRange) {
        let (mut start, mut end) = range.bounds();
        self.ram.retain(|held| {
            let (first, behind) = held.bounds();
            let touches = first <= end && start <= behind;
            if touches {
                (start, end) = (start.min(first), end.max(behind));
            }
            !touches
        });
        self.insert(PhysRange::from_bounds(start, end).expect("the union of two ranges is one"));
    }

    /// Takes `cut` out of every range.
    fn subtract(&mut self, cut: PhysRange) {
        let mut upper = None;
        self.ram.retain(|held| {
            let (start, end) = held.bounds();
            let left = PhysRange::from_bounds(start, cut.bounds().0.min(end));
            let right = PhysRange::from_bounds(cut.end().max(start), end);
            // Only one range has a part on both sides.
            upper = upper.or(left.and(right));
            let kept = left.or(right);
            *held = kept.unwrap_or(*held);
            kept.is_some()
        });
        if let Some(upper) = upper {
            self.insert(upper);
        }
    }
}

#[cfg(test)]
mod tests;
