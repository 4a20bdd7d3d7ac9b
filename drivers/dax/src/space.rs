//! What of a region is whose: the bytes that are free or wait for a scrub, the ids in use.
//!
//! Placing by size is Linux's: the free pieces in the order of their addresses, each as much as it gives at
//! the device's alignment, until there is enough; a device whose last range ends where the piece begins
//! grows in place. This looks at every free piece that is too small or too odd to give anything.

use crate::change::{Change, joined};
use crate::claims::Holder;
use crate::error::DaxError;
use crate::ids::IdSet;
use crate::memory;
use crate::range_set::RangeSet;
use crate::ranges::DevRanges;
use crate::region::Scrub;
use alloc::vec::Vec;
use mm::range::{MapSize, PhysRange};

/// The bytes and ids of a region.
pub(crate) struct Space {
    region: u32,
    range: PhysRange,
    free: RangeSet,
    pub dirty: RangeSet,
    /// Memory that nobody may touch, until a scrub has written it anew.
    pub bad: RangeSet,
    pub scrub: Scrub,
    ids: IdSet,
    /// How many ids are in use.
    pub devices: u32,
    /// The first device of those that were created with `create` and never enabled.
    pub seed: Option<u32>,
    pub youngest: Option<u32>,
    /// Ids are given lowest first: those below were given out, if not each to a device that came about.
    pub had: u32,
    /// No id is given out any more.
    pub is_removed: bool,
}

impl Space {
    /// All of `range` is free, and as many ids as `limit` says.
    pub fn new(region: u32, range: PhysRange, limit: u32) -> Space {
        let [mut free, dirty, bad] = <[RangeSet; 3]>::default();
        free.insert(range);
        let (ids, scrub) = (IdSet::new(limit), Scrub::Required);
        let (seed, youngest, is_removed) = (None, None, false);
        Space { region, range, free, dirty, bad, scrub, ids, devices: 0, seed, youngest, had: 0, is_removed }
    }

    /// Bytes that no device holds.
    pub fn available_bytes(&self) -> u64 {
        self.free.bytes()
    }

    /// The lowest free id. Fails with `NoSuchRegion` when the region was removed, `NoNumber` or `NoMemory`.
    pub fn take_id(&mut self) -> Result<u32, DaxError> {
        if self.is_removed {
            return Err(DaxError::NoSuchRegion { region: self.region });
        }
        let id = self.ids.allocate()?;
        self.devices += 1;
        Ok(id)
    }

    /// Gives an id back.
    pub fn release_id(&mut self, id: u32) {
        self.ids.release(id);
        self.devices -= 1;
        self.seed.take_if(|seed| *seed == id);
        self.youngest.take_if(|youngest| *youngest == id);
    }

    /// `old` and `more` bytes behind it. Fails, and changes nothing, with `NoSpace` or `NoMemory`.
    pub fn grow(&mut self, old: &DevRanges, more: u64, align: MapSize) -> Result<Change, DaxError> {
        let (mut taken, mut missing) = (Vec::new(), more);
        for piece in self.free.pieces(align) {
            let Some(part) = piece.part(0, missing.min(piece.len_bytes())) else { break };
            memory::reserve_one(&mut taken)?;
            taken.push(part);
            missing -= part.len_bytes();
        }
        if missing > 0 {
            let (region, available_bytes) = (self.region, more - missing);
            return Err(DaxError::NoSpace { region, asked_bytes: more, available_bytes, align });
        }
        Ok(self.take(joined(old, &taken, align)?, taken))
    }

    /// `old` and exactly these ranges behind it. Fails, and changes nothing, with what is wrong with one of them; in
    /// `Claimed` the holder is the region, which knows more.
    pub fn claim(
        &mut self,
        old: &DevRanges,
        added: Vec<PhysRange>,
        align: MapSize,
    ) -> Result<Change, DaxError> {
        for (index, &range) in added.iter().enumerate() {
            if !self.range.contains(range) {
                return Err(DaxError::OutsideRegion { region: self.region, region_range: self.range, range });
            }
            if !self.free.contains(range) {
                return Err(DaxError::Claimed { range, taken: range, holder: Holder::Region(self.region) });
            }
            if let Some(&taken) = added.iter().take(index).find(|other| other.overlaps(range)) {
                return Err(DaxError::Twice { range, taken });
            }
        }
        let mut all = memory::vec_of(old.iter().count() + added.len())?;
        all.extend(old.iter().map(|range| range.phys).chain(added.iter().copied()));
        Ok(self.take(DevRanges::new(&all, align)?, added))
    }

    fn take(&mut self, ranges: DevRanges, taken: Vec<PhysRange>) -> Change {
        taken.iter().for_each(|&range| self.free.remove(range));
        Change { ranges, taken, given: Vec::new() }
    }

    /// Gives back ranges that nobody used.
    pub fn undo(&mut self, ranges: impl IntoIterator<Item = PhysRange>) {
        ranges.into_iter().for_each(|range| self.free.insert(range));
    }

    /// Gives back ranges that belonged to a device, as dirty ones.
    pub fn give_back(&mut self, ranges: impl IntoIterator<Item = PhysRange>) {
        for range in ranges {
            self.free.insert(range);
            self.dirty.insert(range);
        }
    }

    /// The first dirty bytes of these ranges.
    pub fn first_dirty(&self, ranges: &DevRanges) -> Option<PhysRange> {
        ranges.iter().find_map(|range| {
            let dirty = self.dirty.first_overlap(range.phys)?;
            let start = dirty.start().max(range.phys.start());
            PhysRange::from_bounds(start.as_u64(), dirty.end().min(range.phys.end()))
        })
    }
}
