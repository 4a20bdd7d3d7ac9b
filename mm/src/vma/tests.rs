use super::*;
use crate::fake::{FakeDevice, RW};
use crate::range::{PAGE_SIZE, USER_END};
use alloc::sync::Arc;
use std::vec::Vec;

fn range(start: u64, end: u64) -> VirtRange {
    VirtRange::from_bounds(start * PAGE_SIZE, end * PAGE_SIZE).expect("a range of the test")
}

fn vma(start: u64, end: u64, backing: Backing) -> Vma {
    Vma {
        range: range(start, end),
        offset_bytes: 0,
        granule: backing.granule(),
        backing,
        name: "",
        prot: RW,
        max_prot: Prot::all(),
        sharing: Sharing::Shared,
        flags: VmaFlags::empty(),
    }
}

fn anonymous(ranges: &[(u64, u64)]) -> VmaSet {
    let mut set = VmaSet::default();
    ranges.iter().for_each(|&(start, end)| set.insert(vma(start, end, Backing::Anonymous)));
    set
}

fn pages(set: &VmaSet) -> Vec<(u64, u64)> {
    set.iter().map(|v| (v.range.start().as_u64() / PAGE_SIZE, v.range.end().as_u64() / PAGE_SIZE)).collect()
}

#[test]
fn alike_anonymous_neighbours_are_joined_and_others_are_not() {
    let mut set = anonymous(&[(10, 20), (30, 40), (20, 30)]);
    assert_eq!(pages(&set), [(10, 40)]);
    set.insert(Vma { prot: Prot::READ, ..vma(40, 50, Backing::Anonymous) });
    set.insert(Vma { name: "[stack]", ..vma(5, 10, Backing::Anonymous) });
    let device = FakeDevice::new(MapSize::Size4K);
    set.insert(vma(50, 51, Backing::Device(device.clone())));
    set.insert(vma(51, 52, Backing::Device(device)));
    assert_eq!(pages(&set), [(5, 10), (10, 40), (40, 50), (50, 51), (51, 52)]);
    set.update(range(40, 50), |vma| vma.prot != RW, |vma| vma.prot = RW);
    assert_eq!(pages(&set), [(5, 10), (10, 50), (50, 51), (51, 52)]);
}

#[test]
fn removing_the_middle_cuts_and_moves_the_offset() {
    let mut set = VmaSet::default();
    let device = FakeDevice::new(MapSize::Size4K);
    set.insert(Vma { offset_bytes: 0x8000, ..vma(10, 20, Backing::Device(device)) });
    set.remove(range(12, 15));
    assert_eq!(pages(&set), [(10, 12), (15, 20)]);
    assert_eq!(set.iter().map(|vma| vma.offset_bytes).collect::<Vec<_>>(), [0x8000, 0x8000 + 5 * PAGE_SIZE]);
}

/// Pages of a device of which no two are joined: at 2, 4, ... `2 * count`.
fn scattered(device: &Arc<FakeDevice>, count: usize) -> VmaSet {
    let at = |page| vma(page, page + 1, Backing::Device(device.clone()));
    VmaSet { vmas: (1..=count as u64).map(|n| at(2 * n)).collect() }
}

#[test]
fn only_what_adds_vmas_is_refused_at_the_limit() {
    let device = FakeDevice::new(MapSize::Size4K);
    let mut set = scattered(&device, MAX_VMAS - 1);
    let end = 2 * MAX_VMAS as u64;
    set.insert(vma(end, end + 4, Backing::Device(device)));
    let [head, middle, tail] = [range(end - 1, end + 1), range(end + 1, end + 3), range(end + 3, end + 5)];
    // What munmap, mmap and mprotect add there.
    let added = |set: &VmaSet, at| (set.growth(at, 0), set.growth(at, 1), set.cuts(at, |_| true));
    assert_eq!(added(&set, range(end, end + 4)), (0, 0, 0));
    assert_eq!(added(&set, range(2, 6)), (0, 0, 0));
    assert_eq!(added(&set, range(3, 4)), (0, 1, 0));
    assert_eq!(added(&set, head), (0, 1, 1));
    assert_eq!(added(&set, middle), (1, 2, 2));
    assert_eq!(added(&set, tail), (0, 1, 1));
    assert_eq!(added(&set, range(end - 2, end + 1)), (0, 0, 1));
    assert_eq!(set.cuts(middle, |_| false), 0);
    assert_eq!((set.prepare(0), set.prepare(1)), (Ok(()), Err(Refusal::NoMemory)));
}

#[test]
fn removing_takes_no_room_but_for_the_middle_of_one_vma() {
    let device = FakeDevice::new(MapSize::Size4K);
    let with = |ranges: &[(u64, u64)]| {
        let at = |&(start, end)| vma(start, end, Backing::Device(device.clone()));
        VmaSet { vmas: ranges.iter().map(at).collect() }
    };
    let old = [(10, 20), (20, 30), (40, 50)];
    for start in 8..52 {
        for end in start + 1..53 {
            let mut set = with(&old);
            set.vmas.shrink_to_fit();
            let (room, added) = (set.vmas.capacity(), set.growth(range(start, end), 0));
            set.remove(range(start, end));
            let expected: Vec<(u64, u64)> = old
                .iter()
                .flat_map(|&(from, to)| [(from, to.min(start)), (from.max(end), to)])
                .filter(|part| part.0 < part.1)
                .collect();
            assert_eq!(pages(&set), expected, "[{start}, {end})");
            assert_eq!(added, expected.len().saturating_sub(old.len()), "[{start}, {end})");
            assert!(added > 0 || set.vmas.capacity() == room, "[{start}, {end})");
        }
    }
}

#[test]
fn a_run_of_vmas_that_become_alike_is_joined_at_once() {
    let alternating =
        |n| Vma { prot: if n % 2 == 0 { Prot::READ } else { RW }, ..vma(n, n + 1, Backing::Anonymous) };
    let mut set = VmaSet { vmas: (1..=60_000).map(alternating).collect() };
    set.update(range(20_001, 50_001), |vma| vma.prot != RW, |vma| vma.prot = RW);
    let joined = set.iter().filter(|vma| vma.range.len_bytes() > PAGE_SIZE).collect::<Vec<_>>();
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].range, range(20_001, 50_000 + 2));
    assert_eq!(set.iter().count(), 60_000 - 30_000);
    assert_eq!(set.check_mapped(range(1, 60_001)), Ok(()));
    set.update(range(1, 60_001), |vma| vma.prot != RW, |vma| vma.prot = RW);
    assert_eq!(pages(&set), [(1, 60_001)]);
    set.update(range(1, 60_001), |_| false, |_| ());
    VmaSet::default().update(range(1, 2), |_| true, |_| ());
}

#[test]
fn find_is_right_whatever_the_hint_says() {
    let mut set = anonymous(&[(10, 20), (30, 40)]);
    let hint = VmaHint::default();
    let find = |set: &VmaSet, page: u64| {
        let address = VirtAddr::new(page * PAGE_SIZE);
        let [near, found] = [set.find_near(address, &hint), set.find(address)]
            .map(|vma| vma.map(|vma| vma.range.start().as_u64() / PAGE_SIZE));
        assert_eq!(near, found);
        found
    };
    for page in [10, 19, 20, 30, 9, 39, 40, 15] {
        let expected =
            if (10..20).contains(&page) { Some(10) } else { (30..40).contains(&page).then_some(30) };
        assert_eq!(find(&set, page), expected, "page {page}");
    }
    set.remove(range(10, 20));
    assert_eq!((find(&set, 15), find(&set, 35)), (None, Some(30)));
}

#[test]
fn a_hole_is_the_widest_range_without_a_vma() {
    let mut set = anonymous(&[(10, 20), (30, 40)]);
    assert_eq!(set.hole_around(range(22, 23)), range(20, 30));
    set.remove(range(35, 40));
    assert_eq!(set.hole_around(range(35, 40)), range(35, USER_END / PAGE_SIZE));
    set.remove(range(10, 15));
    assert_eq!(set.hole_around(range(10, 15)), range(0, 15));
}

#[test]
fn gaps_are_searched_from_the_top_and_aligned() {
    let set = anonymous(&[(0x1000, 0x1300), (0x1500, 0x1600)]);
    let gap = |len: u64, align| {
        set.find_gap(0x800 * PAGE_SIZE, 0x1600 * PAGE_SIZE, len * PAGE_SIZE, align)
            .map(|range| range.start().as_u64() / PAGE_SIZE)
    };
    assert_eq!(gap(0x100, MapSize::Size4K), Some(0x1400));
    assert_eq!(gap(0x200, MapSize::Size4K), Some(0x1300));
    assert_eq!(gap(0x200, MapSize::Size2M), Some(0xe00));
    assert_eq!(gap(0x201, MapSize::Size4K), Some(0xdff));
    assert_eq!(gap(0x800, MapSize::Size2M), Some(0x800));
    assert_eq!(gap(0x801, MapSize::Size4K), None);
    let above = set.find_gap(0x1380 * PAGE_SIZE, 0x1500 * PAGE_SIZE, 0x181 * PAGE_SIZE, MapSize::Size4K);
    assert_eq!(above, None, "a gap that begins below the lowest address is cut there");
}

#[test]
fn the_guard_below_a_stack_stays_free() {
    let mut set = VmaSet::default();
    set.insert(Vma { flags: VmaFlags::GROWS_DOWN, ..vma(0x2000, 0x2010, Backing::Anonymous) });
    let found = set.find_gap(0, 0x2010 * PAGE_SIZE, PAGE_SIZE, MapSize::Size4K).expect("there is room");
    assert_eq!(found, range(0x1eff, 0x1f00));
    assert!(set.is_free(range(0x1e00, 0x1f00)));
    assert!(!set.is_free(range(0x1e00, 0x1f01)));
}

#[test]
fn a_cut_through_an_entry_is_refused_by_name_and_value() {
    let mut set = VmaSet::default();
    set.insert(vma(0x200, 0x600, Backing::Device(FakeDevice::new(MapSize::Size2M))));
    assert_eq!(set.check_cuts(range(0x400, 0x600), |_| true), Ok(()));
    assert_eq!(set.check_cuts(range(0x100, 0x700), |_| true), Ok(()));
    let refused =
        |what, page: u64| Err(Refusal::Misaligned { what, value: page * PAGE_SIZE, align: MapSize::Size2M });
    assert_eq!(set.check_cuts(range(0x300, 0x600), |_| true), refused("address", 0x300));
    assert_eq!(set.check_cuts(range(0x400, 0x401), |_| true), refused("end", 0x401));
    assert_eq!(set.check_cuts(range(0x300, 0x301), |_| false), Ok(()));
}
