//! From the bytes of an NFIT to page-table entries: every table of `tests/acpi` at every alignment.
//!
//! Names begin with the property of the device-dax reference, section 7, that they show.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dax::OpenDax;
use host_tests::fake::{Discovery, Machine, discover, map_request};
use mm::pager::{Access, FaultError, Installed, Prot, Refusal};
use mm::range::{MapSize, PAGE_SIZE, VirtRange};
use mm::space::{AddressSpace, MapRequest, Placement};
use mm::vma::VmaFlags;
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const TABLES: [&str; 5] = ["single-nolabel", "persistence-cpu", "unarmed", "two-nvdimms", "eight-labelled"];

fn machine() -> Machine {
    Machine::new(16 << 20)
}

/// Discovers the devices of a table whose media are bare.
fn bare(table: &str, align: MapSize) -> Discovery {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../acpi").join(table).join("NFIT.bin");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    discover(&bytes, align, |_| (vec![0; nvdimm::HEAD_BYTES], None))
}

/// `dax0.0` of 4 GiB at 4 GiB.
fn single(align: MapSize) -> (Discovery, Arc<OpenDax>) {
    let discovery = bare("single-nolabel", align);
    let device = discovery.open(0);
    (discovery, device)
}

fn map(space: &AddressSpace, request: &MapRequest) -> VirtAddr {
    space.mmap(request).expect("the request is right")
}

/// The pages that a call is about.
fn span(address: u64, len_bytes: u64) -> VirtRange {
    VirtRange::new(address, len_bytes.next_multiple_of(PAGE_SIZE)).expect("a program's addresses")
}

/// New entries from touching every 4 KiB page of `[addr, addr + len_bytes)`.
fn touch(space: &AddressSpace, addr: VirtAddr, len_bytes: u64, step: u64) -> u64 {
    let touched = (0..len_bytes).step_by(step as usize);
    let faults = touched.map(|offset| space.fault(addr + offset, Access::Write).expect("inside the device"));
    faults.filter(|&installed| installed == Installed::New).count() as u64
}

#[test]
fn s7_1_every_device_starts_and_ends_on_its_alignment_or_is_refused_with_what_fits() {
    for table in TABLES {
        for align in MapSize::ALL {
            let discovery = bare(table, align);
            let mut devices = 0;
            let mut last = None;
            while let Some(device) = discovery.registry.next_device(last) {
                let [range] = device.ranges().collect::<Vec<_>>()[..] else {
                    panic!("{table}: one range a device")
                };
                assert!(align.divides(range.phys.start().as_u64()), "{table} {align}: {device:?}");
                assert!(align.divides(device.size_bytes()), "{table} {align}: {device:?}");
                last = Some(device.name());
                devices += 1;
            }
            for why in &discovery.refused {
                assert!(why.contains("the largest alignment that fits is 2M"), "{table} {align}: {why}");
            }
            // Their ranges are of 64 MiB: too small for an entry of 1 GiB.
            let is_small = matches!(table, "two-nvdimms" | "eight-labelled");
            let refuses = is_small && align == MapSize::Size1G;
            assert_eq!((devices == 0, !discovery.refused.is_empty()), (refuses, refuses), "{table} {align}");
        }
    }
}

#[test]
fn s7_4_devices_are_numbered_by_handle_however_the_table_is_ordered() {
    let discovery = bare("eight-labelled", MapSize::Size2M);
    for id in 0..8 {
        let device = discovery.open(id).device().clone();
        let range = device.ranges().next().expect("it has bytes").phys;
        assert_eq!(range.start().as_u64(), 4 * GIB + u64::from(id) * 64 * MIB);
        assert_eq!(range.len_bytes(), 64 * MIB);
        assert_eq!((device.number(), device.align()), (id, MapSize::Size2M));
        assert_eq!(device.region().target_node(), Some(0));
    }
}

#[test]
fn s6_2_each_touch_installs_one_entry_of_exactly_the_alignment() {
    for align in MapSize::ALL {
        let (machine, (_discovery, device)) = (machine(), single(align));
        let space = machine.space(7);
        let addr = map(&space, &map_request(&device, 0, 4 * GIB));
        let last = 4 * GIB - PAGE_SIZE;
        for (offset, access) in [(0, Access::Write), (2 * GIB + 12_345, Access::Read), (last, Access::Write)]
        {
            assert_eq!(space.walk(addr + offset).leaf, None, "nothing is mapped before the touch");
            assert_eq!(space.fault(addr + offset, access), Ok(Installed::New));
            let leaf = space.walk(addr + offset).leaf.expect("the fault mapped it");
            assert_eq!(leaf.size, align);
            assert_eq!(leaf.phys.as_u64(), 4 * GIB + offset - offset % align.bytes());
            assert!(leaf.flags.contains(PageTableFlags::USER_ACCESSIBLE | PageTableFlags::WRITABLE));
            assert!(leaf.flags.contains(PageTableFlags::NO_EXECUTE));
        }
        // Neither neighbour of the first entry came along.
        assert_eq!(space.walk(addr + align.bytes()).leaf, None);
    }
}

#[test]
fn s6_2_behind_the_device_is_sigbus_and_no_entry() {
    for align in MapSize::ALL {
        let (machine, (_discovery, device)) = (machine(), single(align));
        let space = machine.space(0);
        let addr = map(&space, &map_request(&device, 4 * GIB - align.bytes(), 2 * align.bytes()));
        assert!(space.fault(addr, Access::Write).is_ok());
        assert_eq!(space.fault(addr + align.bytes(), Access::Read), Err(FaultError::Bus));
        assert_eq!(space.walk(addr + align.bytes()).leaf, None);
    }
}

#[test]
fn s7_2_faults_for_n_bytes_are_n_over_the_alignment_rounded_up_again_and_again() {
    let cases = [(MapSize::Size4K, 3 * MIB), (MapSize::Size2M, 129 * MIB), (MapSize::Size1G, 2 * GIB + 4096)];
    for (align, bytes) in cases {
        let (machine, (_discovery, device)) = (machine(), single(align));
        let before = machine.free_frames();
        let space = machine.space(1);
        let addr = map(&space, &map_request(&device, 0, 4 * GIB));
        for _ in 0..2 {
            assert_eq!(touch(&space, addr, bytes, PAGE_SIZE), bytes.div_ceil(align.bytes()), "{align}");
            assert_eq!(touch(&space, addr, bytes, PAGE_SIZE), 0, "{align}: all is mapped");
            space.dont_need(span(addr.as_u64(), 4 * GIB)).expect("it is mapped");
        }
        assert_eq!(space.device_entries().iter().sum::<u64>(), 2 * bytes.div_ceil(align.bytes()));
        drop(space);
        assert_eq!(machine.free_frames(), before, "{align}: frames before = after");
    }
}

#[test]
fn s6_3_an_address_has_the_alignment_of_its_entries_in_a_fragmented_space() {
    for align in MapSize::ALL {
        let (machine, (_discovery, device)) = (machine(), single(align));
        for random in 0..8 {
            let space = machine.space(random * 0x9e37_79b9);
            for page in 0..16 {
                let hint = space.mmap_base() - (page + 1) * (align.bytes() + 3 * PAGE_SIZE);
                let small = map_request(&device, 0, align.bytes());
                let placement = Placement::Hint(hint.align_down(PAGE_SIZE).as_u64());
                let at = map(&space, &MapRequest { placement, ..small });
                assert!(align.divides(at.as_u64()), "{align}: {at:?} for hint {hint:?}");
            }
            let addr = map(&space, &map_request(&device, align.bytes(), align.bytes()));
            assert!(align.divides(addr.as_u64()), "{align}: {addr:?}");
        }
    }
}

#[test]
fn s6_7_a_cut_through_an_entry_is_refused_and_the_entry_stays() {
    for align in [MapSize::Size2M, MapSize::Size1G] {
        let (machine, (_discovery, device)) = (machine(), single(align));
        let space = machine.space(0);
        let addr = map(&space, &map_request(&device, 0, align.bytes()));
        space.fault(addr, Access::Write).expect("inside the device");
        let entry = space.walk(addr).leaf;
        let cut = (addr.as_u64(), align.bytes() / 2);
        assert!(matches!(space.munmap(span(cut.0, cut.1)), Err(Refusal::Misaligned { .. })));
        assert!(matches!(space.mprotect(span(cut.0, cut.1), Prot::READ), Err(Refusal::Misaligned { .. })));
        assert_eq!(space.walk(addr).leaf, entry);
    }
}

#[test]
fn s6_5_s6_6_a_killed_device_maps_nothing_more_and_an_enabled_one_is_a_new_life() {
    let (machine, (_discovery, old)) = (machine(), single(MapSize::Size2M));
    let (space, device) = (machine.space(0), old.device().clone());
    let request = map_request(&old, 0, 4 * MIB);
    let addr = map(&space, &request);
    assert!(space.fault(addr, Access::Write).is_ok());
    device.kill().expect("it is alive");
    assert_eq!(space.fault(addr + 2 * MIB, Access::Write), Err(FaultError::Bus));
    assert_eq!(space.mmap(&request), Err(Refusal::Dead));
    assert_eq!(device.open().err(), Some(Refusal::Dead));

    assert!(device.enable().is_err(), "entries of the old life may be left");
    let revoked: u64 = device
        .take_mappings()
        .iter()
        .map(|space| space.revoke(device.key(), &(0..u64::MAX)).entries[1])
        .sum();
    assert_eq!((revoked, device.mapping_count()), (1, 0));
    assert_eq!(space.fault(addr, Access::Write), Err(FaultError::Bus));
    device.enable().expect("it is dead");
    assert_eq!(space.fault(addr + 2 * MIB, Access::Write), Err(FaultError::Bus), "the old life is over");
    let new = device.open().expect("it is alive");
    let again = map(&space, &map_request(&new, 0, 4 * MIB));
    space.fault(again, Access::Read).expect("inside the device");
    assert_eq!(space.walk(again).leaf.map(|leaf| leaf.phys.as_u64()), Some(4 * GIB), "the same bytes");
}

/// The mark that fork will honour; fork itself comes with tasks.
#[test]
fn s7_3_the_dontfork_mark_covers_whole_entries_and_stays() {
    for align in [MapSize::Size2M, MapSize::Size1G] {
        let (machine, (_discovery, device)) = (machine(), single(align));
        let space = machine.space(0);
        let addr = map(&space, &map_request(&device, 0, align.bytes()));
        let flags = || space.find(addr).expect("it is mapped").flags;
        assert_eq!(flags(), VmaFlags::empty(), "inherited unless asked otherwise");
        let mark = |len| space.set_flags(span(addr.as_u64(), len), VmaFlags::DONT_FORK, VmaFlags::empty());
        assert!(matches!(mark(PAGE_SIZE), Err(Refusal::Misaligned { .. })));
        assert_eq!(flags(), VmaFlags::empty());
        assert_eq!(mark(align.bytes()), Ok(()));
        space.fault(addr, Access::Write).expect("inside the device");
        assert_eq!(flags(), VmaFlags::DONT_FORK);
    }
}

#[test]
fn a_device_on_an_unarmed_nvdimm_cannot_be_mapped_writable() {
    let discovery = bare("unarmed", MapSize::Size2M);
    let (space, device) = (machine().space(0), discovery.open(0));
    let writable = map_request(&device, 0, 2 * MIB);
    assert!(matches!(space.mmap(&writable), Err(Refusal::Protection { .. })));
    let addr = map(&space, &MapRequest { prot: Prot::READ, ..writable });
    space.fault(addr, Access::Read).expect("inside the device");
    assert_eq!(space.fault(addr, Access::Write), Err(FaultError::Protection));
    let leaf = space.walk(addr).leaf.expect("the load mapped it");
    assert!(!leaf.flags.contains(PageTableFlags::WRITABLE));
}
