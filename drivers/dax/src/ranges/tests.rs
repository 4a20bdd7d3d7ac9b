//! The lookups against a table of pages.

use super::*;
use crate::testing::{G1, M2, phys};
use proptest::prelude::*;
use std::vec::Vec;

const P: u64 = PAGE_SIZE;

#[test]
fn an_entry_never_spans_two_ranges_even_if_they_touch() {
    let ranges = [phys(G1, M2 + P), phys(G1 + M2 + P, M2 - P), phys(G1 + 2 * M2, M2)];
    let ranges = DevRanges::new(&ranges, MapSize::Size4K).expect("aligned");
    assert_eq!(ranges.offset_to_phys(0, MapSize::Size2M), Some(phys(G1, M2)));
    assert_eq!(ranges.offset_to_phys(M2, MapSize::Size2M), None);
    assert_eq!(ranges.offset_to_phys(2 * M2, MapSize::Size2M), Some(phys(G1 + 2 * M2, M2)));
    assert_eq!(ranges.offset_to_phys(3 * M2, MapSize::Size4K), None);
    assert_eq!(ranges.offset_to_phys(P / 2, MapSize::Size4K), None);
}

#[test]
fn ranges_that_entries_of_the_alignment_cannot_map_are_refused() {
    assert!(DevRanges::new(&[], MapSize::Size4K).is_ok_and(|none| none.size_bytes() == 0));
    assert!(DevRanges::new(&[phys(G1 + P, M2)], MapSize::Size2M).is_err());
    assert!(DevRanges::new(&[phys(G1, M2 + P)], MapSize::Size2M).is_err());
    assert!(DevRanges::new(&[phys(G1, M2)], MapSize::Size2M).is_ok());
}

#[test]
fn offsets_at_the_end_of_numbers_are_past_the_end() {
    let ranges = DevRanges::new(&[phys(G1, M2)], MapSize::Size4K).expect("aligned");
    for offset in [M2, !(P - 1), 1 << 63] {
        assert_eq!(ranges.offset_to_phys(offset, MapSize::Size4K), None);
    }
    assert_eq!(ranges.pages_to_phys(u64::MAX, 1), None);
    assert_eq!(ranges.pages_to_phys(0, u64::MAX), Some(phys(G1, M2)));
    assert_eq!(ranges.pieces(u64::MAX, u64::MAX).count(), 0);
    assert_eq!(ranges.pieces(0, 0).count(), 0);
}

/// Up to four ranges of up to 1100 pages; the second of a pair may touch the first.
fn some_ranges() -> impl Strategy<Value = Vec<PhysRange>> {
    prop::collection::vec((0u64..3, 1u64..1100), 1..5).prop_map(|parts| {
        let mut next = G1;
        let lay = |(gap, pages): (u64, u64)| {
            let range = phys(next + gap * P, pages * P);
            next = range.end();
            range
        };
        parts.into_iter().map(lay).collect()
    })
}

proptest! {
    #[test]
    fn lookups_agree_with_a_table_of_pages(parts in some_ranges(), page in 0u64..4500, len in 0u64..1500) {
        // One row a page: which range, and where in memory.
        let rows = |(index, part): (usize, &PhysRange)| {
            let start = part.start().as_u64();
            (0..part.len_bytes() / P).map(move |i| (index, start + i * P)).collect::<Vec<_>>()
        };
        let table: Vec<(usize, u64)> = parts.iter().enumerate().flat_map(rows).collect();
        let ranges = DevRanges::new(&parts, MapSize::Size4K).expect("aligned");
        prop_assert_eq!(ranges.size_bytes(), table.len() as u64 * P);

        let from = table.get(page as usize..).unwrap_or(&[]);
        let run = from.iter().take_while(|row| row.0 == from[0].0).count() as u64;
        for size in [MapSize::Size4K, MapSize::Size2M] {
            let fits = size.divides(page * P) && run >= size.bytes() / P;
            let expected = fits.then(|| phys(from[0].1, size.bytes()));
            prop_assert_eq!(ranges.offset_to_phys(page * P, size), expected);
        }
        let expected = (run.min(len) > 0).then(|| phys(from[0].1, run.min(len) * P));
        prop_assert_eq!(ranges.pages_to_phys(page, len), expected);

        // Odd bytes at both ends, and every byte exactly once, in order.
        let (offset, bytes) = (page * P + 7, len * P);
        let mut at = offset;
        for piece in ranges.pieces(offset, bytes) {
            let (_, start) = table[(at / P) as usize];
            prop_assert_eq!(piece.start().as_u64(), start + at % P);
            at += piece.len_bytes();
        }
        let end = (offset + bytes).min(ranges.size_bytes());
        prop_assert_eq!(at, if end > offset { end } else { offset });
    }
}
