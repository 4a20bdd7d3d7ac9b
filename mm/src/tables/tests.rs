use super::*;
use crate::fake::{CountedShootdowns, frames};
use crate::range::{PAGE_SIZE, USER_END};
use crate::reserve::MAX_MISSING;
use crate::shootdown::Shootdown;
use crate::walk::entry_shift;
use std::boxed::Box;
use std::vec::Vec;

const USER: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::USER_ACCESSIBLE);
const AT: VirtAddr = VirtAddr::new_truncate(0x7000_4000_0000);

fn tables() -> (PageTables, &'static FrameAllocator) {
    let frames: &'static FrameAllocator = Box::leak(Box::new(frames(4 << 20)));
    (PageTables::new(&[0; 256], frames).expect("there is memory"), frames)
}

fn install(
    tables: &PageTables,
    address: VirtAddr,
    phys: u64,
    size: MapSize,
    flags: PageTableFlags,
) -> Installed {
    let mut reserve = Reserve::new(tables.frames);
    assert_eq!(reserve.fill(MAX_MISSING), Ok(()));
    tables.install(address, PhysAddr::new(phys), size, flags, &mut reserve)
}

/// Calls `visit` with the address and the content of every present leaf in `range`.
pub(crate) fn for_each_leaf(tables: &PageTables, range: VirtRange, visit: &mut dyn FnMut(VirtAddr, Leaf)) {
    let (mut address, end) = range.bounds();
    while address < end {
        let walk = tables.walk(VirtAddr::new(address));
        let level = walk.steps.iter().flatten().last().expect("the root table is there").level;
        if let Some(leaf) = walk.leaf {
            visit(VirtAddr::new(address), leaf);
        }
        address = (address | ((1 << entry_shift(level.into())) - 1)) + 1;
    }
}

/// One round of an unmap; the rest.
fn unmap(
    tables: &mut PageTables,
    range: VirtRange,
    hole: VirtRange,
    shootdown: &dyn Shootdown,
) -> Option<VirtRange> {
    let (flush, rest) = tables.unmap(range, hole);
    flush.acknowledge(shootdown);
    rest
}

fn range(start: VirtAddr, len_bytes: u64) -> VirtRange {
    VirtRange::new(start.as_u64(), len_bytes).expect("a range of the test")
}

fn everything() -> VirtRange {
    VirtRange::from_bounds(0, USER_END).expect("not empty")
}

#[test]
fn s6_2_each_size_is_one_leaf_at_its_own_level() {
    let (tables, _) = tables();
    for (size, level) in MapSize::ALL.into_iter().zip([1, 2, 3]) {
        let address = AT + size.bytes() * 512;
        assert_eq!(install(&tables, address, 1 << 40, size, USER), Installed::New);
        let walk = tables.walk(address + (size.bytes() - 1));
        let leaf = walk.leaf.expect("it is mapped");
        assert_eq!((leaf.size, leaf.phys.as_u64()), (size, 1 << 40));
        assert_eq!(leaf.flags.contains(PageTableFlags::HUGE_PAGE), size != MapSize::Size4K);
        assert_eq!(walk.steps.iter().flatten().last().map(|step| step.level), Some(level));
        assert_eq!(tables.leaf(address), Some(leaf));
        assert_eq!(tables.leaf(address + size.bytes()), None);
    }
}

#[test]
fn install_without_a_reserve_names_the_missing_tables_and_changes_nothing() {
    let (tables, frames) = tables();
    let free = frames.free_frames();
    for (size, missing) in MapSize::ALL.into_iter().zip([3, 2, 1]) {
        let mut reserve = Reserve::new(frames);
        assert_eq!(reserve.fill(missing - 1), Ok(()));
        let result = tables.install(AT, PhysAddr::new(1 << 40), size, USER, &mut reserve);
        assert_eq!(result, Installed::NeedsTables(missing as u8));
    }
    assert_eq!(frames.free_frames(), free);
    assert_eq!(tables.walk(AT).steps[1], None);
}

#[test]
fn a_reserve_gives_back_what_was_not_used() {
    let (tables, frames) = tables();
    let free = frames.free_frames();
    assert_eq!(install(&tables, AT, 1 << 40, MapSize::Size2M, USER), Installed::New);
    assert_eq!(frames.free_frames(), free - 2);
}

#[test]
fn permissions_are_raised_in_place_and_never_lowered() {
    use PageTableFlags as F;
    let (tables, _) = tables();
    let read_only = USER | F::NO_EXECUTE;
    let writable = USER | F::WRITABLE | F::DIRTY | F::ACCESSED;
    assert_eq!(install(&tables, AT, 1 << 40, MapSize::Size1G, read_only), Installed::New);
    assert_eq!(install(&tables, AT, 1 << 40, MapSize::Size1G, writable), Installed::Already);
    let flags = tables.leaf(AT).expect("it is mapped").flags;
    assert_eq!(flags, writable | F::HUGE_PAGE);
    assert_eq!(install(&tables, AT, 1 << 40, MapSize::Size1G, read_only), Installed::Already);
    assert_eq!(tables.leaf(AT).expect("it is mapped").flags, flags);
}

#[test]
fn a_leaf_of_other_memory_stays() {
    let (tables, _) = tables();
    assert_eq!(install(&tables, AT, 0x1000, MapSize::Size4K, USER), Installed::New);
    let writable = USER | PageTableFlags::WRITABLE;
    assert_eq!(install(&tables, AT, 0x2000, MapSize::Size4K, writable), Installed::Already);
    let leaf = tables.leaf(AT).expect("it is mapped");
    assert_eq!((leaf.phys.as_u64(), leaf.flags), (0x1000, USER));
}

#[test]
fn an_emptied_table_does_not_block_a_huge_leaf() {
    let (mut tables, frames) = tables();
    let free = frames.free_frames();
    let shootdowns = CountedShootdowns::default();
    let mut address = AT;
    for size in [MapSize::Size4K, MapSize::Size2M, MapSize::Size1G] {
        assert_eq!(install(&tables, address, 1 << 40, size, USER), Installed::New);
        let rest = unmap(&mut tables, range(address, size.bytes()), everything(), &shootdowns);
        assert_eq!(rest, None);
        assert_eq!(frames.free_frames(), free, "every table was freed");
        address = address.align_down(size.bytes() << 9);
    }
    assert_eq!(shootdowns.0.load(Ordering::Relaxed), 3);
}

#[test]
fn a_table_that_a_neighbour_needs_stays() {
    let (mut tables, frames) = tables();
    assert_eq!(install(&tables, AT, 0x1000, MapSize::Size4K, USER), Installed::New);
    assert_eq!(install(&tables, AT + PAGE_SIZE, 0x2000, MapSize::Size4K, USER), Installed::New);
    let free = frames.free_frames();
    let hole = VirtRange::from_bounds(0, AT.as_u64() + PAGE_SIZE).expect("not empty");
    let rest = unmap(&mut tables, range(AT, PAGE_SIZE), hole, &CountedShootdowns::default());
    assert_eq!(rest, None);
    assert_eq!(tables.leaf(AT), None);
    assert!(tables.leaf(AT + PAGE_SIZE).is_some());
    assert_eq!(frames.free_frames(), free);
}

#[test]
fn owned_frames_are_held_until_the_shootdown_is_acknowledged() {
    /// Looks at the free frames while the shootdown runs.
    struct Watch(&'static FrameAllocator, AtomicU64);
    impl crate::shootdown::Shootdown for Watch {
        fn flush(&self, _root: PhysAddr, _range: VirtRange) {
            self.1.store(self.0.free_frames(), Ordering::Relaxed);
        }
    }
    let (mut tables, frames) = tables();
    let before = frames.free_frames();
    let page = crate::fake::zeroed(frames).expect("there is memory");
    assert_eq!(install(&tables, AT, page.address().as_u64(), MapSize::Size4K, USER | OWNED), Installed::New);
    assert_eq!(frames.free_frames(), before - 4);
    let watch = Watch(frames, AtomicU64::new(0));
    assert_eq!(unmap(&mut tables, range(AT, PAGE_SIZE), everything(), &watch), None);
    assert_eq!(watch.1.load(Ordering::Relaxed), before - 4);
    assert_eq!(frames.free_frames(), before);
}

#[test]
fn a_long_unmap_takes_several_rounds_and_frees_everything() {
    let (mut tables, frames) = tables();
    let before = frames.free_frames();
    for page in 0..300 {
        let frame = crate::fake::zeroed(frames).expect("there is memory");
        let address = AT + page * PAGE_SIZE * 3;
        let phys = frame.address().as_u64();
        assert_eq!(install(&tables, address, phys, MapSize::Size4K, USER | OWNED), Installed::New);
    }
    let shootdowns = CountedShootdowns::default();
    let mut rest = Some(range(AT, 900 * PAGE_SIZE));
    while let Some(range) = rest {
        rest = unmap(&mut tables, range, everything(), &shootdowns);
    }
    assert_eq!(frames.free_frames(), before);
    assert_eq!(shootdowns.0.load(Ordering::Relaxed), 5);
}

#[test]
fn unmapping_nothing_shoots_nothing_down() {
    let (mut tables, _) = tables();
    let shootdowns = CountedShootdowns::default();
    assert_eq!(unmap(&mut tables, everything(), everything(), &shootdowns), None);
    assert_eq!(shootdowns.0.load(Ordering::Relaxed), 0);
}

#[test]
fn protect_none_parks_owned_pages_and_drops_the_others() {
    let (mut tables, frames) = tables();
    let before = frames.free_frames();
    let page = crate::fake::zeroed(frames).expect("there is memory").address();
    assert_eq!(install(&tables, AT, page.as_u64(), MapSize::Size4K, USER | OWNED), Installed::New);
    assert_eq!(install(&tables, AT + PAGE_SIZE, 1 << 40, MapSize::Size4K, USER), Installed::New);
    let (both, none) = (range(AT, 2 * PAGE_SIZE), PageTableFlags::empty());
    let shootdowns = CountedShootdowns::default();
    tables.protect(both, MapSize::Size4K, none, none).acknowledge(&shootdowns);
    assert_eq!((tables.leaf(AT), tables.leaf(AT + PAGE_SIZE)), (None, None));
    tables.protect(both, MapSize::Size4K, USER, USER).acknowledge(&shootdowns);
    let leaf = tables.leaf(AT).expect("it was parked");
    assert_eq!((leaf.phys, leaf.flags), (page, USER | OWNED));
    assert_eq!(tables.leaf(AT + PAGE_SIZE), None);
    tables.protect(both, MapSize::Size4K, none, none).acknowledge(&shootdowns);
    assert_eq!(shootdowns.0.load(Ordering::Relaxed), 2, "what is not present needs no shootdown");
    drop(tables);
    assert_eq!(frames.free_frames(), before + 1, "root and parked page came back");
}

#[test]
fn the_kernel_half_is_shared_and_survives_the_space() {
    let (first, frames) = tables();
    let kernel = VirtAddr::new(0xffff_8000_0000_0000);
    assert_eq!(install(&first, kernel, 1 << 30, MapSize::Size1G, PageTableFlags::PRESENT), Installed::New);
    let half: Vec<u64> =
        (256..512).map(|index| first.entry(first.root(), index).load(Ordering::Relaxed)).collect();
    let before = frames.free_frames();
    let second = PageTables::new(half[..].try_into().expect("256 entries"), frames).expect("memory");
    assert_eq!(second.leaf(kernel), first.leaf(kernel));
    let next = kernel + (1u64 << 30);
    assert_eq!(install(&first, next, 2 << 30, MapSize::Size1G, PageTableFlags::PRESENT), Installed::New);
    assert!(second.leaf(next).is_some());
    drop(second);
    assert_eq!(frames.free_frames(), before);
    assert!(first.leaf(kernel).is_some());
}

#[test]
#[should_panic(expected = "in the way of a 2M entry")]
fn a_table_where_a_leaf_should_go_is_our_own_bug() {
    let (tables, _) = tables();
    assert_eq!(install(&tables, AT, 0x1000, MapSize::Size4K, USER), Installed::New);
    let _ = install(&tables, AT, 1 << 40, MapSize::Size2M, USER);
}

#[test]
fn a_table_that_lost_its_race_stays_in_the_reserve() {
    let (_tables, frames) = tables();
    let mut reserve = Reserve::new(frames);
    assert_eq!(reserve.fill(2), Ok(()));
    let winner = 0x5000 | TABLE;
    let entry = AtomicU64::new(winner);
    assert_eq!(add_table(&entry, 2, &mut reserve), Some(winner));
    assert_eq!((entry.into_inner(), reserve.held.len()), (winner, 2));
}

#[test]
fn racing_installs_end_in_one_tree_and_lose_no_frame() {
    let (tables, frames) = tables();
    let before = frames.free_frames();
    let new = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for page in 0..512u64 {
                    let address = AT + page * (MapSize::Size2M.bytes() + PAGE_SIZE);
                    if install(&tables, address, page << 12, MapSize::Size4K, USER) == Installed::New {
                        new.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(new.load(Ordering::Relaxed), 512);
    let mut leaves = 0;
    for_each_leaf(&tables, everything(), &mut |_, leaf| {
        assert_eq!(leaf.phys.as_u64(), leaves << 12);
        leaves += 1;
    });
    assert_eq!(leaves, 512);
    drop(tables);
    assert_eq!(frames.free_frames(), before + 1);
}
