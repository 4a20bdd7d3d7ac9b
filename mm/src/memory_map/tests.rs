use super::*;
use proptest::prelude::*;
use std::format;
use std::vec::Vec;

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::from_bounds(start, end).expect("a range of the test")
}

fn ram_of(map: &MemoryMap) -> Vec<(u64, u64)> {
    map.ram().map(|ram| (ram.start().as_u64(), ram.end())).collect()
}

#[test]
fn qboot_map_unsorted_with_an_empty_last_entry_gives_sorted_ram() {
    let entries = [
        (0x10_0000, 0x0ff0_0000, 1),
        (0xfeff_c000, 0x4000, 2),
        (0, 0x9_fc00, 1),
        (0x9_fc00, 0x6_0400, 2),
        (0, 0, 0),
    ];
    let map = MemoryMap::new(entries.into_iter());
    assert_eq!(ram_of(&map), [(0, 0x9_f000), (0x10_0000, 0x1000_0000)]);
    assert_eq!(map.total_bytes(), 0x9_f000 + 0x0ff0_0000);
    assert_eq!(map.dropped(), (0, 0));
}

#[test]
fn anything_else_wins_over_ram_where_they_overlap() {
    let entries = [(0x3000, 0x2000, 0), (0x1000, 0x9000, 1), (0x6800, 0x10, 7)];
    let map = MemoryMap::new(entries.into_iter());
    assert_eq!(ram_of(&map), [(0x1000, 0x3000), (0x5000, 0x6000), (0x7000, 0xa000)]);
}

#[test]
fn ram_in_adjacent_pieces_that_are_not_whole_pages_is_joined() {
    let map = MemoryMap::new([(0x1800, 0x800, 1), (0x1000, 0x800, 1), (0x2000, 0x7ff, 1)].into_iter());
    assert_eq!(ram_of(&map), [(0x1000, 0x2000)]);
}

#[test]
fn ram_that_wraps_is_dropped_and_a_hole_that_wraps_is_cut() {
    let entries = [(0x1000, 0x4000, 1), (u64::MAX - 5, 0x4000, 1), (0x3000, u64::MAX, 2)];
    let map = MemoryMap::new(entries.into_iter());
    assert_eq!(ram_of(&map), [(0x1000, 0x3000)]);
    assert_eq!(map.dropped(), (1, 0x4000));
}

#[test]
fn a_map_that_is_too_long_drops_the_smallest_ranges_and_says_so() {
    let entries = (0..200u64).map(|i| (i << 20, (i + 1) * 0x1000, 1));
    let map = MemoryMap::new(entries);
    let ram = ram_of(&map);
    assert_eq!(ram.len(), 128);
    assert_eq!(ram[0], (72 << 20, (72 << 20) + 73 * 0x1000));
    assert_eq!(map.dropped(), (72, (1..=72u64).sum::<u64>() * 0x1000));
}

#[test]
fn s7_5_a_range_is_claimed_once_and_the_refusal_names_the_holder() {
    let mut map = MemoryMap::new([(0, 1 << 28, 1)].into_iter());
    let device = range(1 << 32, 2 << 32);
    assert_eq!(map.reserve(device, "region0"), Ok(()));
    let asked = range(device.end() - 0x1000, device.end() + 0x1000);
    let refused = map.reserve(asked, "region1");
    assert_eq!(refused, Err(ClaimError::Held { asked, by: "region0", held: device }));
    let text = format!("{}", refused.expect_err("it was refused"));
    assert_eq!(text, "[0x1fffff000-0x200000fff] overlaps [0x100000000-0x1ffffffff], held by region0");
    assert_eq!(map.reserve(range(device.end(), asked.end()), "region1"), Ok(()));
}

#[test]
fn s7_5_a_device_over_ram_is_refused_even_over_part_of_a_page() {
    let mut map = MemoryMap::new([(0, 0x9_fc00, 1)].into_iter());
    let asked = range(0x9_f000, 0xa_0000);
    let held = range(0, 0x9_fc00);
    assert_eq!(map.reserve(asked, "region0"), Err(ClaimError::Held { asked, by: "RAM", held }));
}

#[test]
fn what_is_carved_out_leaves_the_ram_by_whole_pages_and_cannot_be_claimed_again() {
    let mut map = MemoryMap::new([(0, 0x10_0000, 1)].into_iter());
    map.carve(range(0x2_0010, 0x2_0020), "start_info").expect("free");
    map.carve(range(0x2_0020, 0x2_1001), "initrd").expect("free");
    map.carve(range(0, 0x1000), "low").expect("free");
    assert_eq!(ram_of(&map), [(0x1000, 0x2_0000), (0x2_2000, 0x10_0000)]);
    assert!(map.carve(range(0x2_0000, 0x2_0011), "kernel").is_err());
    assert_eq!(map.total_bytes(), 0x10_0000);
}

#[test]
fn a_full_list_of_claims_refuses_instead_of_dropping_one() {
    let mut map = MemoryMap::new(core::iter::empty());
    for i in 0..128 {
        map.reserve(range(i << 12, (i << 12) + 1), "device").expect("there is room");
    }
    let asked = range(1 << 30, 1 << 31);
    assert_eq!(map.reserve(asked, "one more"), Err(ClaimError::Full { asked }));
}

proptest! {
    /// Against a map of bytes: RAM is what some entry of kind 1 covers, no other entry covers, no claimed
    /// page touches, in whole pages.
    #[test]
    fn ram_agrees_with_a_model_of_single_pieces(
        entries in proptest::collection::vec((0u64..64, 0u64..16, 0u32..4), 0..12),
        carved in proptest::collection::vec((0u64..64, 1u64..8), 0..4),
    ) {
        // A piece is a quarter of a page.
        const PIECE: u64 = PAGE_SIZE / 4;
        let mut model = [false; 80];
        for kind_is_ram in [true, false] {
            for &(start, len, _) in entries.iter().filter(|entry| (entry.2 == 1) == kind_is_ram) {
                model[start as usize..(start + len) as usize].fill(kind_is_ram);
            }
        }
        let mut pages: Vec<bool> = model.chunks(4).map(|page| page.iter().all(|&ram| ram)).collect();
        let scaled = entries.iter().map(|&(start, len, kind)| (start * PIECE, len * PIECE, kind));
        let mut map = MemoryMap::new(scaled);
        for &(start, len) in &carved {
            if map.carve(range(start * PIECE, (start + len) * PIECE), "carved").is_ok() {
                pages[start as usize / 4..(start + len).div_ceil(4) as usize].fill(false);
            }
        }
        let mut seen = [false; 20];
        let mut last_end = 0;
        for ram in map.ram() {
            let (start, end) = (ram.start().as_u64(), ram.end());
            prop_assert!(start >= last_end && start % PAGE_SIZE == 0 && end % PAGE_SIZE == 0);
            last_end = end;
            seen[(start / PAGE_SIZE) as usize..(end / PAGE_SIZE) as usize].fill(true);
        }
        prop_assert_eq!(&pages[..], &seen[..]);
    }
}
