//! Which physical memory is RAM, and who holds what.
//!
//! Made at boot from the firmware's map, before there is a heap, so everything lies in arrays. A range is
//! claimed once: [`MemoryMap::reserve`] claims memory that is not RAM (an NVDIMM), [`MemoryMap::carve`] takes
//! a piece out of RAM (the kernel, the initrd). What is left of the RAM goes to the frame allocator.

use crate::range::{PAGE_SIZE, PhysRange};
use core::fmt;

/// Ranges of RAM, and claims, that a map can hold.
const CAPACITY: usize = 128;

/// The firmware's type of an entry that is RAM (E820 and PVH number it alike); all others are not.
const KIND_RAM: u32 = 1;

/// First byte behind the 52 bits of a physical address.
const PHYS_END: u64 = 1 << 52;

/// Why a range could not be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// Somebody holds a part of it.
    Held {
        /// What was asked for.
        asked: PhysRange,
        /// Who holds it: the owner given to `reserve` or `carve`, or "RAM".
        by: &'static str,
        /// The range that the holder has.
        held: PhysRange,
    },
    /// Part of it is neither RAM nor anybody's.
    NotRam {
        /// What was asked for.
        asked: PhysRange,
    },
    /// The map holds as many claims as it can.
    Full {
        /// What was asked for.
        asked: PhysRange,
    },
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::Held { asked, by, held } => write!(f, "{asked} overlaps {held}, held by {by}"),
            ClaimError::NotRam { asked } => write!(f, "{asked} is not all RAM"),
            ClaimError::Full { asked } => {
                write!(f, "{asked} cannot be claimed: {CAPACITY} claims are the most")
            }
        }
    }
}

/// A range and who has it.
#[derive(Clone, Copy)]
struct Claim {
    range: PhysRange,
    owner: &'static str,
}

/// The machine's RAM and every range that somebody has claimed. Needs no heap.
pub struct MemoryMap {
    ram: SortedRanges,
    claims: SortedRanges,
}

impl MemoryMap {
    /// Builds the map from the firmware's `(start, len_bytes, kind)` entries, in any order.
    ///
    /// Kind 1 is RAM; where an entry of any other kind overlaps it, the other wins. Empty entries are
    /// skipped. RAM that wraps or passes 2^52 is dropped, anything else that does is cut there.
    pub fn new(entries: impl Iterator<Item = (u64, u64, u32)> + Clone) -> MemoryMap {
        let mut ram = SortedRanges::empty();
        for (start, len_bytes, _) in entries.clone().filter(|&(_, _, kind)| kind == KIND_RAM) {
            match PhysRange::new(start, len_bytes) {
                Some(range) => ram.unite(range),
                None => ram.count_dropped(len_bytes),
            }
        }
        for (start, len_bytes, _) in entries.filter(|&(_, _, kind)| kind != KIND_RAM) {
            let end = start.saturating_add(len_bytes).min(PHYS_END);
            if let Some(range) = PhysRange::from_bounds(start, end) {
                ram.subtract(range);
            }
        }
        MemoryMap { ram, claims: SortedRanges::empty() }
    }

    /// Claims a range that is not RAM, for a device or an NVDIMM.
    pub fn reserve(&mut self, range: PhysRange, owner: &'static str) -> Result<(), ClaimError> {
        match self.ram.find(|ram| ram.overlaps(range)) {
            Some((_, ram)) => Err(ClaimError::Held { asked: range, by: "RAM", held: ram.range }),
            None => self.carve(range, owner),
        }
    }

    /// Claims a range that may lie in RAM, for the kernel image, the initrd, firmware; pages that it touches
    /// leave [`MemoryMap::ram`]. After the frame allocator took over the RAM this has no effect on it.
    pub fn carve(&mut self, range: PhysRange, owner: &'static str) -> Result<(), ClaimError> {
        match self.claims.find(|claim| claim.overlaps(range)) {
            Some((_, claim)) => Err(ClaimError::Held { asked: range, by: claim.owner, held: claim.range }),
            None if self.claims.is_full() => Err(ClaimError::Full { asked: range }),
            None => {
                self.claims.insert(Claim { range, owner });
                Ok(())
            }
        }
    }

    /// The same for a range that must be all RAM.
    pub fn carve_ram(&mut self, range: PhysRange, owner: &'static str) -> Result<(), ClaimError> {
        let is_held = self.claims.find(|claim| claim.overlaps(range)).is_some();
        match self.ram.find(|ram| ram.contains(range)) {
            None if !is_held => Err(ClaimError::NotRam { asked: range }),
            _ => self.carve(range, owner),
        }
    }

    /// The RAM that nobody has claimed: whole pages, sorted, disjoint.
    pub fn ram(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.ram.iter().filter_map(|ram| whole_pages(ram.range)).flat_map(|range| self.unclaimed(range))
    }

    /// Bytes of RAM in whole pages, claimed or not.
    pub fn total_bytes(&self) -> u64 {
        self.ram.iter().filter_map(|ram| whole_pages(ram.range)).map(PhysRange::len_bytes).sum()
    }

    /// RAM that is not used because the firmware's map was too long or its entry wrapped: how many ranges,
    /// and how many bytes.
    pub fn dropped(&self) -> (usize, u64) {
        (self.ram.dropped, self.ram.dropped_bytes)
    }

    /// The parts of `range`, which is whole pages, that no claim touches.
    fn unclaimed(&self, range: PhysRange) -> impl Iterator<Item = PhysRange> + '_ {
        let mut claims = self.claims.iter();
        let mut start = range.start().as_u64();
        let end = range.end();
        core::iter::from_fn(move || {
            while start < end {
                let (stop, next) = match claims.next() {
                    Some(claim) => {
                        let pages = touched_pages(claim.range);
                        (pages.0.min(end), pages.1.max(start))
                    }
                    None => (end, end),
                };
                let free = PhysRange::from_bounds(start, stop);
                start = next;
                if free.is_some() {
                    return free;
                }
            }
            None
        })
    }
}

/// The whole pages inside `range`.
fn whole_pages(range: PhysRange) -> Option<PhysRange> {
    PhysRange::from_bounds(
        range.start().as_u64().next_multiple_of(PAGE_SIZE),
        range.end() / PAGE_SIZE * PAGE_SIZE,
    )
}

/// Start and end of the pages that have a byte of `range`.
fn touched_pages(range: PhysRange) -> (u64, u64) {
    (range.start().as_u64() / PAGE_SIZE * PAGE_SIZE, range.end().next_multiple_of(PAGE_SIZE))
}

/// Disjoint claims sorted by address. When it is full, the smallest range is dropped and counted.
struct SortedRanges {
    items: [Option<Claim>; CAPACITY],
    len: usize,
    dropped: usize,
    dropped_bytes: u64,
}

impl SortedRanges {
    const fn empty() -> SortedRanges {
        SortedRanges { items: [None; CAPACITY], len: 0, dropped: 0, dropped_bytes: 0 }
    }

    fn iter(&self) -> impl Iterator<Item = Claim> + '_ {
        self.items.iter().take(self.len).flatten().copied()
    }

    /// The first that fits, and its index.
    fn find(&self, fits: impl Fn(PhysRange) -> bool) -> Option<(usize, Claim)> {
        self.iter().enumerate().find(|(_, held)| fits(held.range))
    }

    fn is_full(&self) -> bool {
        self.len == CAPACITY
    }

    fn count_dropped(&mut self, len_bytes: u64) {
        if len_bytes > 0 {
            self.dropped += 1;
            self.dropped_bytes = self.dropped_bytes.saturating_add(len_bytes);
        }
    }

    fn remove(&mut self, index: usize) {
        self.items.copy_within(index + 1..self.len, index);
        self.len -= 1;
    }

    /// Adds a range that overlaps no other.
    fn insert(&mut self, claim: Claim) {
        if self.is_full() {
            let smallest = self.iter().map(|held| held.range.len_bytes()).min().unwrap_or(0);
            let (index, held) =
                self.find(|held| held.len_bytes() == smallest).expect("a full list is not empty");
            if held.range.len_bytes() >= claim.range.len_bytes() {
                return self.count_dropped(claim.range.len_bytes());
            }
            self.count_dropped(held.range.len_bytes());
            self.remove(index);
        }
        let at = self.iter().take_while(|held| held.range.start() < claim.range.start()).count();
        self.items.copy_within(at..self.len, at + 1);
        self.items[at] = Some(claim);
        self.len += 1;
    }

    /// Adds RAM, joined with all that it overlaps or touches.
    fn unite(&mut self, range: PhysRange) {
        let (mut start, mut end) = (range.start().as_u64(), range.end());
        while let Some((index, held)) = self.find(|held| held.start().as_u64() <= end && start <= held.end())
        {
            start = start.min(held.range.start().as_u64());
            end = end.max(held.range.end());
            self.remove(index);
        }
        let range = PhysRange::from_bounds(start, end).expect("the union of two ranges is one");
        self.insert(Claim { range, owner: "RAM" });
    }

    /// Takes `cut` out of every range.
    fn subtract(&mut self, cut: PhysRange) {
        while let Some((index, Claim { range: held, .. })) = self.find(|held| held.overlaps(cut)) {
            self.remove(index);
            let left = PhysRange::from_bounds(held.start().as_u64(), cut.start().as_u64());
            let right = PhysRange::from_bounds(cut.end(), held.end());
            for range in [left, right].into_iter().flatten() {
                self.insert(Claim { range, owner: "RAM" });
            }
        }
    }
}

#[cfg(test)]
mod tests;
