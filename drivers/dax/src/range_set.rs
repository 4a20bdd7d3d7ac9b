//! A set of bytes of physical memory, kept as the fewest disjoint ranges: what of a region is free, what of
//! it waits for a scrub.

use alloc::collections::BTreeMap;
use mm::range::{MapSize, PhysRange};

/// Bytes of physical memory. Every operation is O(log n) in the ranges, but for the walks of `overlapping`
/// and `pieces`.
#[derive(Debug, Default)]
pub(crate) struct RangeSet {
    /// End by start; disjoint, and no two touch.
    ends: BTreeMap<u64, u64>,
    bytes: u64,
}

impl RangeSet {
    /// How many bytes are in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a range; bytes that are in it already stay.
    pub fn insert(&mut self, range: PhysRange) {
        self.remove(range);
        self.bytes += range.len_bytes();
        let (mut start, mut end) = (range.start().as_u64(), range.end());
        if let Some((&below, &touches)) = self.ends.range(..start).next_back()
            && touches == start
        {
            start = below;
        }
        if let Some(above) = self.ends.remove(&end) {
            end = above;
        }
        self.ends.insert(start, end);
    }

    /// Takes out what of the range is in it.
    pub fn remove(&mut self, range: PhysRange) {
        while let Some(found) = self.first_overlap(range) {
            let (start, end) = (found.start().as_u64(), found.end());
            let (from, to) = (start.max(range.start().as_u64()), end.min(range.end()));
            self.bytes -= to - from;
            if start < from {
                self.ends.insert(start, from);
            } else {
                self.ends.remove(&start);
            }
            if to < end {
                self.ends.insert(to, end);
            }
        }
        // An empty map keeps a node: give it back.
        if self.ends.is_empty() {
            self.ends = BTreeMap::new();
        }
    }

    /// Is every byte of the range in it?
    pub fn contains(&self, range: PhysRange) -> bool {
        self.first_overlap(range).is_some_and(|found| found.contains(range))
    }

    /// The first of its ranges that shares a byte with `range`.
    pub fn first_overlap(&self, range: PhysRange) -> Option<PhysRange> {
        let start = range.start().as_u64();
        let before = self.ends.range(..=start).next_back();
        let inside = self.ends.range(start..range.end()).next();
        let found = before.into_iter().chain(inside).find(|(_, end)| **end > start)?;
        PhysRange::from_bounds(*found.0, *found.1)
    }

    /// The largest piece of each range, by address, that starts and ends at multiples of `align`.
    pub fn pieces(&self, align: MapSize) -> impl Iterator<Item = PhysRange> + '_ {
        let unit = align.bytes();
        self.ends.iter().filter_map(move |(start, end)| {
            PhysRange::from_bounds(start.next_multiple_of(unit), end & !(unit - 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::phys;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    proptest! {
        /// Against a set of pages: same bytes, ranges as long as they can be.
        #[test]
        fn a_set_of_ranges_agrees_with_a_set_of_pages(
            calls in prop::collection::vec((0u64..64, 1u64..16, any::<bool>()), 1..200),
        ) {
            let page = |index: u64| index * 4096;
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (start, len, adds) in calls {
                let range = phys(page(start), page(len));
                if adds {
                    set.insert(range);
                    model.extend(start..start + len);
                } else {
                    set.remove(range);
                    model.retain(|index| !(start..start + len).contains(index));
                }
                prop_assert_eq!(set.bytes(), page(model.len() as u64));
                let asked = phys(page(start), page(len + 1));
                let first = (start..start + len + 1).find(|index| model.contains(index));
                let found = set.first_overlap(asked);
                prop_assert_eq!(found.map(|found| found.start().as_u64().max(page(start))), first.map(page));
                prop_assert_eq!(set.contains(asked), (start..start + len + 1).all(|i| model.contains(&i)));
            }
            let ranges: Vec<_> = set.pieces(MapSize::Size4K).collect();
            prop_assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(low, high)| low.end() < high.start().as_u64()));
            let pages: BTreeSet<u64> =
                ranges.iter().flat_map(|range| range.start().as_u64() / 4096..range.end() / 4096).collect();
            prop_assert_eq!(pages, model);
        }
    }

    #[test]
    fn a_piece_is_what_entries_can_map() {
        let mut set = RangeSet::default();
        set.insert(phys(4096, 4 << 21));
        set.insert(phys(10 << 21, 4096));
        assert!(set.pieces(MapSize::Size2M).eq([phys(1 << 21, 3 << 21)]));
        assert_eq!(set.pieces(MapSize::Size1G).count(), 0);
    }
}
