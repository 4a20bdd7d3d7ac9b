//! mremap: growing, moving, refusing.

use super::*;
use crate::shared::SharedPages;

fn grow(start: VirtAddr, old_len_bytes: u64, new_len_bytes: u64) -> RemapRequest {
    let (address, placement) = (start.as_u64(), Some(Placement::Anywhere));
    RemapRequest { address, old_len_bytes, new_len_bytes, placement, left: Left::Unmapped }
}

fn moved(start: VirtAddr, len_bytes: u64, to: u64) -> RemapRequest {
    RemapRequest { placement: Some(Placement::Fixed(to)), ..grow(start, len_bytes, len_bytes) }
}

fn write(machine: &Machine, space: &AddressSpace, address: VirtAddr, byte: u8) {
    space.fault(address, Access::Write).expect("it may be written");
    bytes(machine, space, address)[0] = byte;
}

#[test]
fn a_mapping_grows_where_it_is_when_there_is_room_and_moves_with_its_bytes_when_not() {
    let machine = machine();
    let before = machine.free_frames();
    let space = machine.space();
    let low = space.mmap(&at(Placement::Fixed(BASE), anonymous(2 * P))).expect("room");
    write(&machine, &space, low + P, 7);
    assert_eq!(space.remap(&grow(low, 2 * P, 4 * P)), Ok(low));
    assert_eq!(vmas(&space), [(BASE, BASE + 4 * P)]);
    // Somebody else's page is in the way now.
    space
        .mmap(&at(Placement::Fixed(BASE + 4 * P), MapRequest { prot: Prot::READ, ..anonymous(P) }))
        .expect("room");
    let stay = RemapRequest { placement: None, ..grow(low, 4 * P, 600 * P) };
    assert_eq!(space.remap(&stay), Err(Refusal::NoAddresses { len_bytes: 600 * P }));
    let high = space.remap(&grow(low, 4 * P, 600 * P)).expect("room elsewhere");
    assert_ne!(high, low);
    assert_eq!(bytes(&machine, &space, high + P)[0], 7);
    assert_eq!(space.fault(low, Access::Read), Err(FaultError::NotMapped));
    space.fault(high + 599 * P, Access::Write).expect("it has grown");
    drop(space);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn a_part_moves_out_of_the_middle_and_is_shot_down() {
    let machine = machine();
    let space = machine.space();
    let start = space.mmap(&at(Placement::Fixed(BASE), anonymous(4 * P))).expect("room");
    (0..4).for_each(|page| write(&machine, &space, start + page * P, page as u8));
    space.mprotect(span(BASE + 2 * P, P), Prot::empty()).expect("mapped");
    space.mprotect(span(BASE + 2 * P, P), RW).expect("mapped");
    let flushes = machine.shootdowns.0.load(Ordering::Relaxed);
    // Into the same page table, so that the hole around the old pages must not take it.
    assert_eq!(space.remap(&moved(start + P, 2 * P, BASE + 8 * P)), Ok(virt(BASE + 8 * P)));
    assert!(machine.shootdowns.0.load(Ordering::Relaxed) > flushes);
    assert_eq!(vmas(&space), [(BASE, BASE + P), (BASE + 3 * P, BASE + 4 * P), (BASE + 8 * P, BASE + 10 * P)]);
    let found = [0, 8, 9, 3].map(|page| bytes(&machine, &space, start + page * P)[0]);
    assert_eq!(found, [0, 1, 2, 3]);
}

#[test]
fn parked_and_forked_pages_move_as_they_are() {
    let machine = machine();
    let before = machine.free_frames();
    let parent = machine.space();
    let start = parent.mmap(&anonymous(2 * P)).expect("room");
    (0..2).for_each(|page| write(&machine, &parent, start + page * P, 5));
    parent.mprotect(span(start.as_u64(), P), Prot::empty()).expect("mapped");
    let child = parent.fork(&[0; 256]).expect("there is memory");
    for page in 0..2 {
        child.remap(&moved(start + page * P, P, BASE + page * P)).expect("room");
    }
    assert_eq!(child.fault(virt(BASE), Access::Read), Err(FaultError::Protection));
    child.mprotect(span(BASE, P), RW).expect("mapped");
    (0..2).for_each(|page| write(&machine, &child, virt(BASE + page * P), 6));
    parent.mprotect(span(start.as_u64(), P), RW).expect("mapped");
    for page in 0..2 {
        parent.fault(start + page * P, Access::Read).expect("mapped");
        assert_eq!(bytes(&machine, &parent, start + page * P)[0], 5, "the child has copies");
    }
    drop((parent, child));
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn a_device_moves_by_whole_entries_and_shows_the_same_bytes() {
    let machine = machine();
    for granule in MapSize::ALL {
        let (space, pager, align) = (machine.space(), FakeDevice::new(granule), granule.bytes());
        let start = space.mmap(&device(&pager, align, 2 * align)).expect("room");
        space.fault(start + align, Access::Write).expect("it has it");
        let shows = |address: VirtAddr| space.walk(address).leaf.map(|leaf| leaf.phys.as_u64() - pager.base);
        assert_eq!(space.remap(&moved(start + align, align, 512 * align)), Ok(virt(512 * align)));
        assert_eq!((shows(start + align), shows(virt(512 * align))), (None, Some(2 * align)));
        if granule != MapSize::Size4K {
            let what = "address";
            for request in [moved(start, align, BASE + P), moved(start + P, P, 1024 * align)] {
                let refused = space.remap(&request);
                assert!(
                    matches!(refused, Err(Refusal::Misaligned { what: w, .. }) if w == what),
                    "{refused:?}"
                );
            }
            let refused = space.remap(&grow(start, align, align + P));
            assert_eq!(
                refused,
                Err(Refusal::Misaligned { what: "length", value: align + P, align: granule })
            );
        }
        // A second view, and one that keeps the old addresses.
        let second = space.remap(&grow(start, 0, align)).expect("shared memory may be shown twice");
        space.fault(second, Access::Write).expect("it has it");
        assert_eq!(shows(second), Some(align));
        let kept = RemapRequest { left: Left::Mapped, ..grow(second, align, align) };
        let third = space.remap(&kept).expect("room");
        assert_eq!((shows(second), shows(third)), (None, Some(align)));
        space.fault(second, Access::Read).expect("its vma is still there");
        drop(space);
        assert!(pager.mappings.lock().expect("fine").is_empty());
    }
}

#[test]
fn what_is_not_within_one_vma_or_is_private_and_empty_is_refused() {
    let machine = machine();
    let space = machine.space();
    let start = space.mmap(&at(Placement::Fixed(BASE), anonymous(2 * P))).expect("room");
    space.mprotect(span(BASE + P, P), Prot::READ).expect("mapped");
    assert_eq!(space.remap(&grow(start, 2 * P, 3 * P)), Err(Refusal::NotMapped { address: start + P }));
    assert_eq!(space.remap(&grow(start - P, P, 2 * P)), Err(Refusal::NotMapped { address: start - P }));
    assert_eq!(space.remap(&grow(start, 0, P)), Err(Refusal::ZeroLength));
    let pages = SharedPages::new(2 * P, machine.environment.frames).expect("there is memory");
    let shared = MapRequest { backing: Backing::Shared(pages), sharing: Sharing::Shared, ..anonymous(2 * P) };
    let start = space.mmap(&shared).expect("room");
    write(&machine, &space, start, 9);
    let second = space.remap(&grow(start, 0, 3 * P)).expect("shared");
    space.fault(second, Access::Read).expect("it is there");
    assert_eq!(bytes(&machine, &space, second)[0], 9);
    assert_eq!(space.fault(second + 2 * P, Access::Read), Err(FaultError::Bus), "the object has not grown");
}
