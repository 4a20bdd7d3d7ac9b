use super::*;
use crate::fake::{CountedShootdowns, FakeDevice, FakeFile, Machine, RW, anonymous, at, device, file};
use crate::frames::KERNEL_RESERVE;
use crate::pager::{Access, FaultError, Installed};
use crate::range::USER_END;
use crate::tables::OWNED;
use crate::vma::{MAX_VMAS, STACK_GUARD_BYTES};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use x86_64::structures::paging::PageTableFlags;

const P: u64 = PAGE_SIZE;
/// Where tests with many fixed mappings put them.
const BASE: u64 = 64 << 30;

fn machine() -> Machine {
    Machine::new(8 << 20)
}

fn virt(address: u64) -> VirtAddr {
    VirtAddr::new(address)
}

/// The bytes of the frame behind an owned page.
fn bytes(machine: &Machine, space: &AddressSpace, address: VirtAddr) -> &'static mut [u8] {
    let leaf = space.walk(address).leaf.expect("it is mapped");
    let pointer = machine.environment.frames.physmap().pointer(leaf.phys);
    // SAFETY: the test uses the page while it is mapped, and nobody else does.
    unsafe { core::slice::from_raw_parts_mut(pointer, PAGE_SIZE as usize) }
}

fn vmas(space: &AddressSpace) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    space.for_each_vma(&mut |vma| all.push((vma.range.start().as_u64(), vma.range.end().as_u64())));
    all
}

/// The pages that a call is about.
fn span(address: u64, len_bytes: u64) -> VirtRange {
    VirtRange::new(address, len_bytes.next_multiple_of(P)).expect("a program's addresses")
}

/// What a fault answers that wrote an entry.
const NEW: Result<Installed, FaultError> = Ok(Installed::New);

const M2: u64 = 2 << 20;

#[test]
fn anonymous_memory_is_zero_lazy_and_given_back() {
    let machine = machine();
    let before = machine.free_frames();
    let space = machine.space();
    let start = space.mmap(&anonymous(128 << 20)).expect("128 MiB are free to map");
    assert_eq!(machine.free_frames(), before - 1, "only the root table is there");
    assert_eq!(space.fault(start + 5000u64, Access::Read), NEW);
    assert!(bytes(&machine, &space, start + P).iter().all(|&byte| byte == 0));
    bytes(&machine, &space, start + P).fill(7);
    assert_eq!(space.fault(start + P, Access::Write), Ok(Installed::Already));
    space.dont_need(span(start.as_u64(), 128 << 20)).expect("all is mapped");
    assert_eq!(machine.free_frames(), before - 3, "what the vma needs above its pages stays");
    assert_eq!(space.fault(start + P, Access::Write), NEW);
    assert!(bytes(&machine, &space, start + P).iter().all(|&byte| byte == 0));
    drop(space);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn protection_decides_which_access_faults() {
    let machine = machine();
    let space = machine.space();
    let cases = [
        (Prot::empty(), [false, false, false]),
        (Prot::READ, [true, false, false]),
        (Prot::WRITE, [true, true, false]),
        (Prot::EXEC, [true, false, true]),
        (Prot::all(), [true, true, true]),
    ];
    for (prot, allowed) in cases {
        let start = space.mmap(&MapRequest { prot, ..anonymous(P) }).expect("a page is free");
        for (access, allowed) in [Access::Read, Access::Write, Access::Execute].into_iter().zip(allowed) {
            let result = space.fault(start, access);
            assert_eq!(result.is_ok(), allowed, "{prot:?} {access:?}");
            assert!(allowed || result == Err(FaultError::Protection));
        }
        if let Some(leaf) = space.walk(start).leaf {
            assert_eq!(leaf.flags.contains(PageTableFlags::WRITABLE), allowed[1]);
            assert_eq!(leaf.flags.contains(PageTableFlags::NO_EXECUTE), !allowed[2]);
        }
    }
    assert_eq!(space.fault(virt(0x1000), Access::Read), Err(FaultError::NotMapped));
    assert_eq!(space.fault(virt(0xffff_8000_0000_0000), Access::Read), Err(FaultError::NotMapped));
}

#[test]
fn s6_2_a_device_is_mapped_in_entries_of_exactly_its_granule() {
    let machine = machine();
    let space = machine.space();
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let len = 4 * granule.bytes();
        let start = space.mmap(&device(&pager, granule.bytes(), len)).expect("there is room");
        for entry in 0..4 {
            let address = start + entry * granule.bytes() + granule.bytes() / 2 + 8;
            assert_eq!(space.fault(address, Access::Write), NEW);
            let leaf = space.walk(address).leaf.expect("it is mapped");
            assert_eq!(leaf.size, granule);
            assert_eq!(leaf.phys.as_u64(), pager.base + (entry + 1) * granule.bytes());
            assert!(!leaf.flags.contains(crate::tables::OWNED));
        }
    }
}

#[test]
fn s7_2_faults_for_n_bytes_are_n_divided_by_align_rounded_up() {
    let machine = machine();
    for granule in MapSize::ALL {
        let space = machine.space();
        let pager = FakeDevice::new(granule);
        let start = space.mmap(&device(&pager, 0, 8 * granule.bytes())).expect("there is room");
        let touched = 5 * granule.bytes() + 1;
        let step = granule.bytes() / 4;
        let mut new = 0;
        for address in (0..touched).step_by(step as usize) {
            let installed = space.fault(start + address, Access::Write).expect("the device has it");
            new += u64::from(installed == Installed::New);
        }
        assert_eq!(new, touched.div_ceil(granule.bytes()));
    }
}

#[test]
fn s6_3_anywhere_is_aligned_at_every_base_and_in_a_fragmented_space() {
    let machine = machine();
    for random in [0, 1, 0x0fff_ffff, 0x1234_5678_9abc_def1] {
        let space = machine.space_at_random(random);
        let pages: Vec<VirtAddr> =
            (0..64).map(|_| space.mmap(&at(Placement::Anywhere, anonymous(3 * P))).expect("room")).collect();
        for page in pages.iter().step_by(2) {
            space.munmap(span(page.as_u64(), P)).expect("it is mapped");
        }
        for granule in MapSize::ALL.into_iter().chain(MapSize::ALL) {
            let pager = FakeDevice::new(granule);
            let request = device(&pager, 3 * granule.bytes(), 2 * granule.bytes());
            let start = space.mmap(&request).expect("there is room");
            assert!(start.is_aligned(granule.bytes()), "{start:#x} at {granule}");
            assert!(start < space.mmap_base());
        }
    }
}

#[test]
fn s6_3_near_the_end_of_the_addresses_the_search_goes_above_the_base() {
    let machine = machine();
    let space = machine.space();
    let base = space.mmap_base().as_u64();
    space.mmap(&at(Placement::Fixed(0x10000), anonymous(base - 0x10000))).expect("fixed");
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let start = space.mmap(&device(&pager, 0, granule.bytes())).expect("17 GiB are free above the base");
        assert!(start.as_u64() >= base && start.is_aligned(granule.bytes()));
    }
    let rest = USER_END - base;
    let refused = space.mmap(&anonymous(rest));
    assert_eq!(refused, Err(Refusal::NoAddresses { len_bytes: rest }));
    assert_eq!(
        space.mmap(&anonymous(u64::MAX - P)),
        Err(Refusal::NoAddresses { len_bytes: u64::MAX - P + 1 })
    );
    assert_eq!(space.mmap(&anonymous(u64::MAX)), Err(Refusal::NoAddresses { len_bytes: u64::MAX }));
}

#[test]
fn s6_3_bases_differ_by_random_and_are_pages() {
    let machine = machine();
    let bases: Vec<u64> = (0..4).map(|random| machine.space_at_random(random).mmap_base().as_u64()).collect();
    assert!(bases.windows(2).all(|pair| pair[0] - pair[1] == P));
}

#[test]
fn a_hint_is_used_when_free_rounded_when_misaligned_and_left_when_taken() {
    let machine = machine();
    let space = machine.space();
    let pager = FakeDevice::new(MapSize::Size2M);
    let hinted = |address: u64| {
        space.mmap(&at(Placement::Hint(address), device(&pager, 0, 2 << 20))).expect("there is room").as_u64()
    };
    assert_eq!(hinted(0x4000_0000), 0x4000_0000);
    assert_eq!(hinted(0x5000_1000), 0x5020_0000);
    assert_eq!(hinted(0x6000_0001), 0x6020_0000);
    let elsewhere = hinted(0x4000_0000);
    assert!(elsewhere > 0x7000_0000_0000 && elsewhere % (2 << 20) == 0);
    for beyond in [0, USER_END, u64::MAX, 1 << 63] {
        assert!(hinted(beyond) > 0x7000_0000_0000);
    }
    assert_eq!(hinted(1), 2 << 20, "never at null");
}

#[test]
fn below_2g_is_below_2g_or_refused() {
    let machine = machine();
    let space = machine.space();
    let low = |granule| {
        let pager = FakeDevice::new(granule);
        space.mmap(&at(Placement::Below2G, device(&pager, 0, granule.bytes())))
    };
    for granule in [MapSize::Size4K, MapSize::Size2M] {
        let start = low(granule).expect("there is room").as_u64();
        assert!((1 << 30..2 << 30).contains(&start) && granule.divides(start));
    }
    assert_eq!(low(MapSize::Size1G), Err(Refusal::NoAddresses { len_bytes: 1 << 30 }));
}

#[test]
fn fixed_no_replace_names_the_page_that_is_taken() {
    let machine = machine();
    let space = machine.space();
    let request = |address, len| at(Placement::FixedNoReplace(address), anonymous(len));
    assert_eq!(space.mmap(&request(0x10_0000, 4 * P)), Ok(virt(0x10_0000)));
    let occupied = |address| Err(Refusal::Occupied { address: virt(address) });
    assert_eq!(space.mmap(&request(0xf_f000, 8 * P)), occupied(0x10_0000));
    assert_eq!(space.mmap(&request(0x10_2000, 8 * P)), occupied(0x10_2000));
    assert_eq!(space.mmap(&at(Placement::Fixed(0), anonymous(P))), Ok(virt(0)));
    let outside = at(Placement::Fixed(USER_END - P), anonymous(2 * P));
    assert_eq!(space.mmap(&outside), Err(Refusal::NoAddresses { len_bytes: 2 * P }));
}

#[test]
fn s6_1_mmap_refuses_what_the_matrix_refuses_in_its_order() {
    let machine = machine();
    let space = machine.space();
    for granule in MapSize::ALL {
        let (pager, align) = (FakeDevice::new(granule), granule.bytes());
        let (size, start) = (pager.size_bytes, 0x1000 << 30);
        let map = |offset, len| space.mmap(&device(&pager, offset, len));
        let misaligned = |what, value, align| Err(Refusal::Misaligned { what, value, align });
        let fixed = |address| space.mmap(&at(Placement::Fixed(address), device(&pager, 0, align)));

        assert_eq!(map(0, 0), Err(Refusal::ZeroLength));
        assert_eq!(map(1, align), misaligned("offset", 1, MapSize::Size4K));
        assert_eq!(map(u64::MAX - 4095, align).err(), Some(overflow(u64::MAX - 4095, align)));
        for (offset, len) in
            [(size, align), (16 * size, align), (1 << 62, align), (0, size + align), (0, 8 * size)]
        {
            assert!(map(offset, len).is_ok(), "past the end at {granule}");
        }
        assert_eq!(fixed(start + 1), misaligned("address", start + 1, MapSize::Size4K));
        let private = MapRequest { sharing: Sharing::Private, ..device(&pager, 0, align) };
        assert_eq!(space.mmap(&private), Err(Refusal::PrivateDevice));
        let read_only = MapRequest { max_prot: Prot::READ, ..device(&pager, 0, align) };
        let denied = Refusal::Protection { asked: RW, allowed: Prot::READ };
        assert_eq!(space.mmap(&read_only), Err(denied));
        if granule == MapSize::Size4K {
            assert!(map(0, 1).is_ok());
            assert!(map(0, align + 1).is_ok());
        } else {
            assert_eq!(map(0, 1), misaligned("length", 4096, granule));
            assert_eq!(map(0, align / 2), misaligned("length", align / 2, granule));
            assert_eq!(map(0, align + 1), misaligned("length", align + 4096, granule));
            assert_eq!(map(4096, align), misaligned("offset", 4096, granule));
            assert_eq!(fixed(start + 4096), misaligned("address", start + 4096, granule));
        }
        pager.alive.store(false, Ordering::Relaxed);
        assert_eq!(map(0, align), Err(Refusal::Dead));
    }
}

fn overflow(offset_bytes: u64, len_bytes: u64) -> Refusal {
    Refusal::OffsetOverflow { offset_bytes, len_bytes }
}

#[test]
fn a_mapping_past_the_end_is_sigbus_on_touch_and_populate_stops_there() {
    let machine = machine();
    let space = machine.space();
    for (index, granule) in MapSize::ALL.into_iter().enumerate() {
        let pager = FakeDevice::new(granule);
        let start = space.mmap(&device(&pager, 0, 10 * granule.bytes())).expect("there is room");
        let range = VirtRange::new(start.as_u64(), 10 * granule.bytes()).expect("a user range");
        for what in ["populated", "nothing is new"] {
            assert_eq!(space.populate(range, Access::Write, &mut || true), Err(FaultError::Bus));
            assert_eq!(space.device_entries()[index], 8, "{what}");
        }
        assert_eq!(space.fault(start + 8 * granule.bytes(), Access::Read), Err(FaultError::Bus));
    }
}

#[test]
fn s6_7_a_cut_below_the_granule_is_refused_and_the_mapping_is_intact() {
    let machine = machine();
    for granule in [MapSize::Size2M, MapSize::Size1G] {
        let space = machine.space();
        let (pager, align) = (FakeDevice::new(granule), granule.bytes());
        let start = space.mmap(&device(&pager, 0, 2 * align)).expect("there is room");
        let at_start = start.as_u64();
        let both = VirtRange::new(at_start, 2 * align).expect("a user range");
        let _ = space.populate(both, Access::Write, &mut || true);
        let before = (vmas(&space), space.walk(start), space.walk(start + align));
        let refused = |result: Result<(), Refusal>| {
            assert!(
                matches!(
                    result,
                    Err(Refusal::Misaligned { align, .. } | Refusal::CutsMapping { align, .. }) if align == granule
                ),
                "{result:?}"
            );
        };
        refused(space.munmap(span(at_start, P)));
        refused(space.munmap(span(at_start, 1)));
        refused(space.munmap(span(at_start + P, P)));
        refused(space.munmap(span(at_start + 2 * align - P, P)));
        refused(space.munmap(span(at_start - 8 * P, align)));
        refused(space.mprotect(span(at_start, P), Prot::READ));
        refused(space.check_split(span(at_start, P)));
        refused(space.set_flags(span(at_start, P), VmaFlags::DONT_FORK, VmaFlags::empty()));
        refused(space.mmap(&at(Placement::Fixed(at_start + P), anonymous(P))).map(drop));
        refused(space.mmap(&at(Placement::Fixed(at_start + P), device(&pager, 0, align))).map(drop));
        assert_eq!(space.mprotect(span(at_start + P, P), RW), Ok(()), "the same protection cuts nothing");
        assert_eq!((vmas(&space), space.walk(start), space.walk(start + align)), before);

        assert_eq!(space.munmap(span(at_start, align)), Ok(()));
        assert_eq!(space.fault(start, Access::Read), Err(FaultError::NotMapped));
        let right = space.walk(start + align).leaf.expect("the other entry is intact");
        assert_eq!(right.phys.as_u64(), pager.base + align);
    }
}

#[test]
fn a_hole_is_named_by_its_first_page() {
    let machine = machine();
    let space = machine.space();
    let start = space.mmap(&anonymous(4 * P)).expect("there is room").as_u64();
    let unmapped = Err(Refusal::NotMapped { address: virt(start + 4 * P) });
    assert_eq!(space.mprotect(span(start, 5 * P), Prot::READ), unmapped);
    assert_eq!(space.dont_need(span(start, 5 * P)), unmapped);
    assert_eq!(space.flush_device(span(start, 5 * P)), unmapped);
    assert_eq!(space.check_mapped(span(start, 5 * P)), unmapped);
    assert_eq!(space.munmap(span(0x10_0000, P)), Ok(()), "unmapping a hole is fine");
}

#[test]
fn mprotect_is_enforced_at_every_size_and_shot_down() {
    let machine = machine();
    let space = machine.space();
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let (start, len) =
            (space.mmap(&device(&pager, 0, 2 * granule.bytes())).expect("room"), granule.bytes());
        assert_eq!(space.fault(start, Access::Write), NEW);
        let shootdowns = machine.shootdowns.0.load(Ordering::Relaxed);
        space.mprotect(span(start.as_u64(), len), Prot::READ).expect("it is mapped");
        assert_eq!(machine.shootdowns.0.load(Ordering::Relaxed), shootdowns + 1);
        assert_eq!(space.fault(start, Access::Write), Err(FaultError::Protection));
        let leaf = space.walk(start).leaf.expect("a read still works without a fault");
        assert!(!leaf.flags.contains(PageTableFlags::WRITABLE));
        assert_eq!(space.fault(start + len, Access::Write), NEW);
        space.mprotect(span(start.as_u64(), len), RW).expect("it is mapped");
        assert!(space.walk(start).leaf.is_some_and(|leaf| leaf.flags.contains(PageTableFlags::WRITABLE)));
        space.mprotect(span(start.as_u64(), len), Prot::empty()).expect("it is mapped");
        assert_eq!(space.walk(start).leaf, None);
    }
    let limited = MapRequest { prot: Prot::READ, max_prot: Prot::READ, ..anonymous(P) };
    let start = space.mmap(&limited).expect("there is room").as_u64();
    let denied = Refusal::Protection { asked: RW, allowed: Prot::READ };
    assert_eq!(space.mprotect(span(start, P), RW), Err(denied));
}

#[test]
fn anonymous_bytes_survive_a_time_without_access() {
    let machine = machine();
    let space = machine.space();
    let start = space.mmap(&anonymous(P)).expect("there is room");
    let _ = space.fault(start, Access::Write);
    bytes(&machine, &space, start).fill(9);
    space.mprotect(span(start.as_u64(), P), Prot::empty()).expect("it is mapped");
    assert_eq!(space.walk(start).leaf, None);
    assert_eq!(space.fault(start, Access::Read), Err(FaultError::Protection));
    space.mprotect(span(start.as_u64(), P), RW).expect("it is mapped");
    assert!(bytes(&machine, &space, start).iter().all(|&byte| byte == 9));
}

#[test]
fn a_file_is_shown_in_place_until_it_is_written_and_never_changed() {
    const HOME: u64 = 1 << 41;
    let machine = machine();
    let before = machine.free_frames();
    let space = machine.space();
    let source = Arc::new(FakeFile { bytes: vec![0x42; 2 * 4096 + 100], in_place: Some(HOME) });
    let start = space.mmap(&file(&source, 4 * P, RW)).expect("there is room");

    assert_eq!(space.fault(start, Access::Read), NEW);
    let leaf = space.walk(start).leaf.expect("it is mapped");
    assert_eq!(leaf.phys.as_u64(), HOME);
    assert!(!leaf.flags.intersects(PageTableFlags::WRITABLE | crate::tables::OWNED));
    space.mprotect(span(start.as_u64(), P), Prot::READ).expect("it is mapped");
    space.mprotect(span(start.as_u64(), P), RW).expect("it is mapped");
    let leaf = space.walk(start).leaf.expect("it is mapped");
    assert!(!leaf.flags.contains(PageTableFlags::WRITABLE), "mprotect never opens the file itself");

    let shootdowns = machine.shootdowns.0.load(Ordering::Relaxed);
    assert_eq!(space.fault(start, Access::Write), NEW);
    assert_eq!(machine.shootdowns.0.load(Ordering::Relaxed), shootdowns + 1, "the old page is shot down");
    let leaf = space.walk(start).leaf.expect("it is mapped");
    assert!(leaf.flags.contains(PageTableFlags::WRITABLE | crate::tables::OWNED));
    assert!(bytes(&machine, &space, start).iter().all(|&byte| byte == 0x42));
    bytes(&machine, &space, start).fill(1);
    space.dont_need(span(start.as_u64(), P)).expect("it is mapped");
    assert_eq!(space.fault(start, Access::Read), NEW);
    assert_eq!(space.walk(start).leaf.map(|leaf| leaf.phys.as_u64()), Some(HOME));

    // PROT_WRITE alone implies read, also where a page is shown in place.
    space.mprotect(span(start.as_u64(), P), Prot::WRITE).expect("it is mapped");
    assert_eq!(space.walk(start).leaf.map(|leaf| leaf.phys.as_u64()), Some(HOME));
    space.dont_need(span(start.as_u64(), P)).expect("it is mapped");
    assert_eq!(space.fault(start, Access::Read), NEW);
    assert_eq!(space.walk(start).leaf.map(|leaf| leaf.phys.as_u64()), Some(HOME));
    space.mprotect(span(start.as_u64(), P), RW).expect("it is mapped");

    // The last page is a partial one: copied, zero behind the end; the page behind it is SIGBUS.
    assert_eq!(space.fault(start + 2 * P, Access::Read), NEW);
    let tail = bytes(&machine, &space, start + 2 * P);
    assert!(tail[..100].iter().all(|&byte| byte == 0x42) && tail[100..].iter().all(|&byte| byte == 0));
    assert_eq!(space.fault(start + 3 * P, Access::Read), Err(FaultError::Bus));

    let range = VirtRange::new(start.as_u64(), 3 * P).expect("a user range");
    let _ = space.fault(start + P, Access::Read);
    assert_eq!(space.populate(range, Access::Write, &mut || true), Ok(()));
    for page in 0..3 {
        let leaf = space.walk(start + page * P).leaf.expect("populated");
        assert!(leaf.flags.contains(OWNED), "page {page} is a copy");
    }
    drop(space);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn s6_4_dropped_device_entries_show_the_same_memory_again() {
    let machine = machine();
    let space = machine.space();
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let start = space.mmap(&device(&pager, 0, 2 * granule.bytes())).expect("there is room");
        let _ = space.fault(start, Access::Write);
        let before = space.walk(start).leaf;
        assert!(before.is_some());
        space.dont_need(span(start.as_u64(), P)).expect("it is mapped");
        assert_eq!(space.walk(start).leaf, None);
        assert_eq!(space.fault(start, Access::Write), NEW);
        assert_eq!(space.walk(start).leaf, before);
    }
}

#[test]
fn only_a_new_entry_of_a_device_counts_from_whatever_stack() {
    let machine = machine();
    let space = machine.space();
    let pager = FakeDevice::new(MapSize::Size2M);
    let start = space.mmap(&device(&pager, 0, 4 * M2)).expect("there is room");
    std::thread::scope(|scope| {
        for entry in 0..4 {
            let space = &space;
            scope.spawn(move || {
                for _ in 0..2 {
                    assert!(space.fault(start + entry * M2, Access::Write).is_ok());
                }
            });
        }
    });
    let page = space.mmap(&anonymous(P)).expect("there is room");
    assert!(space.fault(page, Access::Write).is_ok());
    assert_eq!(space.device_entries(), [0, 4, 0]);
}

#[test]
fn a_stack_grows_to_its_limit_and_keeps_its_guard() {
    let machine = Machine::new(16 << 20);
    let space = machine.space();
    let top = 0x7fff_0000_0000u64;
    let stack = MapRequest { flags: VmaFlags::GROWS_DOWN, name: "[stack]", ..anonymous(4 * P) };
    space.mmap(&at(Placement::Fixed(top - 4 * P), stack)).expect("there is room");
    assert_eq!(space.fault(virt(top - 9 * P + 8), Access::Write), NEW);
    assert_eq!(vmas(&space), [(top - 9 * P, top)]);
    let limit = top - STACK_LIMIT_BYTES;
    assert_eq!(space.fault(virt(limit - 1), Access::Write), Err(FaultError::NotMapped));
    let below = limit + P - STACK_GUARD_BYTES;
    space.mmap(&at(Placement::Fixed(below), anonymous(P))).expect("there is room");
    assert_eq!(space.fault(virt(limit), Access::Write), Err(FaultError::NotMapped), "the guard is too thin");
    assert_eq!(space.fault(virt(limit + P), Access::Write), Err(FaultError::NotMapped));
    assert_eq!(space.fault(virt(limit + 2 * P), Access::Write), NEW);
    assert_eq!(vmas(&space)[1], (limit + 2 * P, top));
    assert_eq!(space.fault(virt(below - P), Access::Write), Err(FaultError::NotMapped), "no stack above it");
}

#[test]
fn a_program_at_the_map_limit_can_unmap_and_protect_but_not_split() {
    let machine = machine();
    let space = machine.space();
    let page = |n: usize| BASE + 2 * P * n as u64;
    let map = |address, pages| space.mmap(&at(Placement::Fixed(address), anonymous(pages * P))).map(drop);
    let full = Err(Refusal::NoMemory);
    for n in 1..MAX_VMAS {
        assert_eq!(map(page(n), 1), Ok(()), "mapping {n}");
    }
    let last = page(MAX_VMAS);
    assert_eq!(map(last, 4), Ok(()), "as many as the limit says");
    let before = vmas(&space);
    assert_eq!(map(BASE, 1), full);
    assert_eq!(space.munmap(span(last + P, P)), full);
    assert_eq!(space.mprotect(span(last, P), Prot::READ), full);
    assert_eq!(space.set_flags(span(last, P), VmaFlags::DONT_FORK, VmaFlags::empty()), full);
    assert_eq!(vmas(&space), before, "a refusal changes nothing");

    assert_eq!(map(page(1), 1), Ok(()), "it replaces a mapping");
    assert_eq!(space.mprotect(span(last, 4 * P), Prot::READ), Ok(()));
    assert_eq!(space.set_flags(span(last, 4 * P), VmaFlags::DONT_FORK, VmaFlags::empty()), Ok(()));
    assert_eq!(space.munmap(span(last + 3 * P, P)), Ok(()), "it shrinks a mapping");
    assert_eq!(space.munmap(span(page(1), P)), Ok(()));
    assert_eq!(space.munmap(span(last + P, P)), Ok(()), "there is room for the split now");
    assert_eq!(vmas(&space).len(), MAX_VMAS);
}

#[test]
fn msync_flushes_the_devices_in_the_range_only() {
    let machine = machine();
    let space = machine.space();
    let pager = FakeDevice::new(MapSize::Size4K);
    let base = 0x10_0000;
    space.mmap(&at(Placement::Fixed(base), device(&pager, 0, 4 * P))).expect("room");
    space.mmap(&at(Placement::Fixed(base + 4 * P), anonymous(P))).expect("room");
    space.mmap(&at(Placement::Fixed(base + 5 * P), device(&pager, 0, P))).expect("room");
    assert_eq!(space.flush_device(span(base + P, 5 * P)), Ok(()));
    assert_eq!(pager.flushed_bytes.load(Ordering::Relaxed), 4 * P);
}

#[test]
fn without_the_cpu_features_entries_do_without_them() {
    let machine = machine();
    let plain = Environment {
        frames: machine.environment.frames,
        shootdown: machine.shootdowns as &CountedShootdowns,
        no_execute: false,
        gigabyte_pages: false,
    };
    let plain = alloc::boxed::Box::leak(alloc::boxed::Box::new(plain));
    let space = AddressSpace::new(&[0; 256], plain, 0).expect("there is memory");
    let pager = FakeDevice::new(MapSize::Size1G);
    let start = space.mmap(&device(&pager, 0, 1 << 30)).expect("there is room");
    assert_eq!(space.fault(start, Access::Read), Err(FaultError::Bus));
    let start = space.mmap(&anonymous(P)).expect("there is room");
    let _ = space.fault(start, Access::Read);
    assert!(!space.walk(start).leaf.expect("mapped").flags.contains(PageTableFlags::NO_EXECUTE));
}

#[test]
fn s3_6_out_of_memory_in_a_fault_is_reported_and_a_retry_works() {
    let machine = Machine::new(1 << 20);
    let frames = machine.environment.frames;
    let space = machine.space();
    let pager = FakeDevice::new(MapSize::Size4K);
    let on_device = space.mmap(&device(&pager, 0, P)).expect("there is room");
    let plain = space.mmap(&at(Placement::Fixed(1 << 30), anonymous(P))).expect("there is room");
    let mut hoard: Vec<_> = core::iter::from_fn(|| frames.allocate_for_program()).collect();
    for free in KERNEL_RESERVE..KERNEL_RESERVE + 3 {
        assert_eq!(machine.free_frames(), free);
        assert_eq!(space.fault(on_device, Access::Write), Err(FaultError::NoMemory));
        assert_eq!(space.fault(plain, Access::Write), Err(FaultError::NoMemory));
        assert_eq!(machine.free_frames(), free, "nothing is lost");
        frames.free(hoard.pop().expect("it holds all frames"));
    }
    assert_eq!(space.fault(on_device, Access::Write), NEW);
    hoard.into_iter().for_each(|frame| frames.free(frame));
    assert_eq!(space.fault(plain, Access::Write), NEW);
}

#[test]
fn threads_that_fault_one_space_agree_and_lose_no_frame() {
    let machine = machine();
    let before = machine.free_frames();
    let space = machine.space();
    let pager = FakeDevice::new(MapSize::Size4K);
    let len = 512 * P;
    let plain = space.mmap(&at(Placement::Fixed(1 << 30), anonymous(len))).expect("room");
    let big = FakeDevice::new(MapSize::Size2M);
    let huge = space.mmap(&device(&big, 0, 16 << 20)).expect("room");
    let small = space.mmap(&at(Placement::Fixed(3 << 30), device(&pager, 0, 8 * P))).expect("room");
    let count_new = || {
        let mut new = 0u64;
        let mut touch = |address| {
            let installed = space.fault(address, Access::Write).expect("all of it is backed");
            new += u64::from(installed == Installed::New);
        };
        for page in 0..512 {
            touch(plain + page * P);
            touch(huge + page % 8 * (2 << 20));
            touch(small + page % 8 * P);
        }
        new
    };
    let total: u64 = std::thread::scope(|scope| {
        let threads = [scope.spawn(count_new), scope.spawn(count_new)];
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    assert_eq!(total, 512 + 8 + 8);
    drop(space);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn faults_beside_mapping_and_unmapping_lose_no_frame() {
    let machine = machine();
    let before = machine.free_frames();
    let space = machine.space();
    let base = 1u64 << 30;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                space.mmap(&at(Placement::Fixed(base), anonymous(64 * P))).expect("room");
                space.munmap(span(base + round % 32 * P, 32 * P)).expect("it may be cut");
            }
        });
        scope.spawn(|| {
            for touch in 0..20_000u64 {
                let _ = space.fault(virt(base + touch * 7 % 64 * P), Access::Write);
            }
        });
    });
    drop(space);
    assert_eq!(machine.free_frames(), before);
}

mod fork;
#[cfg(feature = "checks")]
mod injection;
mod model;
mod remap;
mod threads;
