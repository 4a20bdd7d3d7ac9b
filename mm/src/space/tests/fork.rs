//! Fork, copy-on-write, shared memory, revoke.

use super::*;
use crate::shared::SharedPages;

fn fork(space: &AddressSpace) -> Arc<AddressSpace> {
    space.fork(&[0; 256]).expect("there is memory")
}

/// Writes as the program would: faults, then stores.
fn write(machine: &Machine, space: &AddressSpace, address: VirtAddr, byte: u8) {
    space.fault(address, Access::Write).expect("it may be written");
    let leaf = space.walk(address).leaf.expect("it is mapped");
    assert!(leaf.flags.contains(PageTableFlags::WRITABLE));
    bytes(machine, space, address)[0] = byte;
}

fn read(machine: &Machine, space: &AddressSpace, address: VirtAddr) -> u8 {
    space.fault(address, Access::Read).expect("it may be read");
    bytes(machine, space, address)[0]
}

fn writable(space: &AddressSpace, address: VirtAddr) -> bool {
    space.walk(address).leaf.is_some_and(|leaf| leaf.flags.contains(PageTableFlags::WRITABLE))
}

#[test]
fn a_child_sees_what_was_written_before_the_fork_and_neither_sees_the_other_after() {
    let machine = machine();
    let before = machine.free_frames();
    let parent = machine.space();
    let start = parent.mmap(&anonymous(8 * P)).expect("room");
    (0..6).for_each(|page| write(&machine, &parent, start + page * P, page as u8));
    let flushes = machine.shootdowns.0.load(Ordering::Relaxed);
    let child = fork(&parent);
    assert_eq!(machine.shootdowns.0.load(Ordering::Relaxed), flushes + 1, "one shootdown for all pages");
    for page in 0..6 {
        assert!(!writable(&parent, start + page * P) && !writable(&child, start + page * P));
        assert_eq!(read(&machine, &child, start + page * P), page as u8);
    }
    write(&machine, &child, start, 100);
    write(&machine, &parent, start + P, 101);
    assert_eq!([read(&machine, &parent, start), read(&machine, &child, start)], [0, 100]);
    assert_eq!([read(&machine, &parent, start + P), read(&machine, &child, start + P)], [101, 1]);
    // Touched by neither before: each has zeros of its own.
    write(&machine, &child, start + 7 * P, 7);
    assert_eq!(read(&machine, &parent, start + 7 * P), 0);
    drop(parent);
    assert_eq!(read(&machine, &child, start + 2 * P), 2);
    drop(child);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn what_is_wiped_on_fork_is_zero_in_the_child_and_its_neighbours_are_not() {
    let machine = machine();
    let parent = machine.space();
    let start = parent.mmap(&anonymous(3 * P)).expect("room");
    (0..3).for_each(|page| write(&machine, &parent, start + page * P, 5));
    let wiped = (start.as_u64() + P, P);
    parent.set_flags(span(wiped.0, wiped.1), VmaFlags::WIPE_ON_FORK, VmaFlags::empty()).expect("mapped");
    let child = fork(&parent);
    let grandchild = fork(&child);
    for (space, bytes) in [(&parent, [5, 5, 5]), (&child, [5, 0, 5]), (&grandchild, [5, 0, 5])] {
        assert_eq!([0, 1, 2].map(|page| read(&machine, space, start + page * P)), bytes);
    }
    parent.set_flags(span(wiped.0, wiped.1), VmaFlags::empty(), VmaFlags::WIPE_ON_FORK).expect("mapped");
    assert_eq!(read(&machine, &fork(&parent), start + P), 5);
}

#[test]
fn the_last_owner_takes_a_page_over_without_a_copy() {
    let machine = machine();
    let parent = machine.space();
    let start = parent.mmap(&anonymous(P)).expect("room");
    write(&machine, &parent, start, 1);
    let phys = parent.walk(start).leaf.expect("mapped").phys;
    drop(fork(&parent));
    let flushes = machine.shootdowns.0.load(Ordering::Relaxed);
    write(&machine, &parent, start, 2);
    assert_eq!(parent.walk(start).leaf.expect("mapped").phys, phys);
    assert_eq!(machine.shootdowns.0.load(Ordering::Relaxed), flushes);
}

#[test]
fn mprotect_never_makes_a_shared_page_writable() {
    let machine = machine();
    let parent = machine.space();
    let start = parent.mmap(&anonymous(2 * P)).expect("room");
    write(&machine, &parent, start, 1);
    write(&machine, &parent, start + P, 2);
    // One page is parked when the fork comes.
    parent.mprotect(span((start + P).as_u64(), P), Prot::empty()).expect("mapped");
    let child = fork(&parent);
    for space in [&parent, &child] {
        space.mprotect(span(start.as_u64(), 2 * P), Prot::READ).expect("mapped");
        space.mprotect(span(start.as_u64(), 2 * P), RW).expect("mapped");
        assert!(!writable(space, start) && !writable(space, start + P));
    }
    write(&machine, &child, start + P, 9);
    assert_eq!([read(&machine, &parent, start + P), read(&machine, &child, start + P)], [2, 9]);
    // The parent is alone with it now.
    parent.mprotect(span(start.as_u64(), 2 * P), Prot::READ).expect("mapped");
    parent.mprotect(span(start.as_u64(), 2 * P), RW).expect("mapped");
    assert!(writable(&parent, start + P) && !writable(&parent, start));
}

#[test]
fn a_page_is_shared_by_any_number_of_generations() {
    let machine = machine();
    let before = machine.free_frames();
    let mut spaces = vec![machine.space()];
    let start = spaces[0].mmap(&anonymous(P)).expect("room");
    write(&machine, &spaces[0], start, 42);
    for _ in 0..20 {
        let child = fork(spaces.last().expect("one"));
        spaces.push(child);
    }
    for (index, space) in spaces.iter().enumerate().filter(|(index, _)| index % 3 == 0) {
        write(&machine, space, start, index as u8);
    }
    for (index, space) in spaces.iter().enumerate() {
        let expected = if index % 3 == 0 { index as u8 } else { 42 };
        assert_eq!(read(&machine, space, start), expected);
    }
    while spaces.len() > 1 {
        spaces.swap_remove(spaces.len() / 2);
    }
    drop(spaces);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn file_pages_in_place_and_devices_fault_anew_in_the_child() {
    let machine = machine();
    let parent = machine.space();
    let source = Arc::new(FakeFile { bytes: vec![5; 2 * P as usize], in_place: Some(1 << 40) });
    let shown = parent.mmap(&file(&source, 2 * P, RW)).expect("room");
    parent.fault(shown, Access::Read).expect("in place");
    write(&machine, &parent, shown + P, 6);
    let pager = FakeDevice::new(MapSize::Size2M);
    let mapped = parent.mmap(&device(&pager, 0, 4 << 21)).expect("room");
    parent.fault(mapped, Access::Write).expect("the device has it");
    let child = fork(&parent);
    assert_eq!(pager.mappings.lock().expect("fine").len(), 2, "the device knows both");
    assert_eq!(child.walk(shown).leaf, None);
    assert_eq!(child.walk(mapped).leaf, None);
    assert!(writable(&parent, mapped), "a device is not copied");
    assert_eq!(child.fault(mapped, Access::Write), NEW);
    assert_eq!(child.walk(mapped).leaf.map(|leaf| leaf.phys), parent.walk(mapped).leaf.map(|leaf| leaf.phys));
    assert_eq!(read(&machine, &child, shown + P), 6);
    drop(parent);
    assert_eq!(pager.mappings.lock().expect("fine").len(), 1);
    child.munmap(span(mapped.as_u64(), 4 << 21)).expect("mapped");
    assert!(pager.mappings.lock().expect("fine").is_empty());
}

#[test]
fn what_is_marked_dont_fork_is_left_out() {
    let machine = machine();
    let parent = machine.space();
    let pager = FakeDevice::new(MapSize::Size4K);
    let start = parent.mmap(&device(&pager, 0, 4 * P)).expect("room");
    parent.set_flags(span(start.as_u64(), 2 * P), VmaFlags::DONT_FORK, VmaFlags::empty()).expect("mapped");
    let child = fork(&parent);
    assert_eq!(vmas(&child), [((start + 2 * P).as_u64(), (start + 4 * P).as_u64())]);
    assert_eq!(child.fault(start, Access::Read), Err(FaultError::NotMapped));
    parent.set_flags(span(start.as_u64(), 2 * P), VmaFlags::empty(), VmaFlags::DONT_FORK).expect("mapped");
    assert_eq!(vmas(&fork(&parent)).iter().map(|(low, high)| high - low).sum::<u64>(), 4 * P);
}

#[test]
fn a_dead_device_is_inherited_and_stays_dead() {
    let machine = machine();
    let parent = machine.space();
    let pager = FakeDevice::new(MapSize::Size4K);
    let start = parent.mmap(&device(&pager, 0, 4 * P)).expect("room");
    pager.alive.store(false, Ordering::Relaxed);
    assert_eq!(parent.mmap(&device(&pager, 0, P)), Err(Refusal::Dead));
    let child = fork(&parent);
    assert_eq!(child.fault(start, Access::Read), Err(FaultError::Bus));
}

#[test]
fn shared_memory_is_the_same_for_all_and_outlives_its_maker() {
    let machine = machine();
    let before = machine.free_frames();
    let parent = machine.space();
    let pages = SharedPages::new(5 * P - 1, machine.environment.frames).expect("there is memory");
    let request =
        MapRequest { backing: Backing::Shared(pages), sharing: Sharing::Shared, ..anonymous(6 * P) };
    let start = parent.mmap(&request).expect("room");
    drop(request);
    write(&machine, &parent, start, 1);
    let child = fork(&parent);
    write(&machine, &child, start + 4 * P, 2);
    write(&machine, &child, start, 3);
    assert_eq!([read(&machine, &parent, start), read(&machine, &parent, start + 4 * P)], [3, 2]);
    assert_eq!(parent.fault(start + 5 * P, Access::Read), Err(FaultError::Bus), "past its end");
    parent.dont_need(span(start.as_u64(), 5 * P)).expect("mapped");
    assert_eq!(read(&machine, &parent, start), 3, "its data is the object's");
    assert_eq!(parent.futex_key(start + P + 4u64), child.futex_key(start + P + 4u64));
    drop(parent);
    assert_eq!(read(&machine, &child, start), 3);
    child.munmap(span(start.as_u64(), 6 * P)).expect("mapped");
    drop(child);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn the_kernel_reads_and_writes_shared_memory_until_it_is_discarded() {
    let machine = machine();
    let before = machine.free_frames();
    let mut pages = SharedPages::new(1 << 40, machine.environment.frames).expect("there is memory");
    let mut found = [7; 4];
    assert!(!pages.read(P, &mut found) && !pages.write(P, b"none"));
    for page in [0, 1, 200, 1 << 20] {
        pages.page(page * P, None).expect("there is memory");
        assert!(pages.write(page * P + 10, b"some"));
    }
    assert!(pages.read(P + 8, &mut found));
    assert_eq!(&found, b"\0\0so");
    assert_eq!(pages.page(1 << 40, None), Err(FaultError::Bus), "past its end");
    let inner = Arc::get_mut(&mut pages).expect("nobody maps it");
    inner.discard(P);
    assert!(!inner.read(P, &mut found) && !inner.read(200 * P, &mut found) && inner.read(10, &mut found));
    assert_eq!(&found, b"some");
    inner.discard(0);
    drop(pages);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn futexes_in_private_memory_are_apart_and_in_devices_the_same() {
    let machine = machine();
    let parent = machine.space();
    let private = parent.mmap(&anonymous(P)).expect("room");
    let (one, other) = (FakeDevice::new(MapSize::Size4K), FakeDevice::at(2 << 40, MapSize::Size4K, 8));
    let low = parent.mmap(&device(&one, 0, 4 * P)).expect("room");
    let high = parent.mmap(&device(&one, 2 * P, 2 * P)).expect("room");
    let else_where = parent.mmap(&device(&other, 0, 4 * P)).expect("room");
    let child = fork(&parent);
    assert_ne!(parent.futex_key(private), child.futex_key(private));
    assert_eq!(parent.futex_key(low + 2 * P), child.futex_key(high));
    assert_ne!(parent.futex_key(low), parent.futex_key(else_where));
    assert_ne!(parent.futex_key(low), parent.futex_key(low + 4u64));
    assert_eq!(parent.futex_key(virt(0x1000)), Err(FaultError::NotMapped));
}

#[test]
fn revoke_clears_all_of_one_device_and_nothing_else() {
    let machine = machine();
    for granule in MapSize::ALL {
        let space = machine.space();
        let (gone, stays) = (FakeDevice::at(1 << 40, granule, 1 << 11), FakeDevice::at(1 << 44, granule, 8));
        let size = granule.bytes();
        let whole = at(Placement::Fixed(1 << 42), device(&gone, 0, 1100 * size));
        let start = space.mmap(&whole).expect("room");
        let second = space.mmap(&device(&gone, size, 2 * size)).expect("room");
        let other = space.mmap(&device(&stays, 0, 4 * size)).expect("room");
        let page = space.mmap(&anonymous(P)).expect("room");
        space.munmap(span((start + 600 * size).as_u64(), 10 * size)).expect("whole entries");
        let touched = [0, 1, 511, 512, 599, 610, 1099];
        for entry in touched {
            space.fault(start + entry * size, Access::Write).expect("it has it");
        }
        space.fault(second + size, Access::Read).expect("it has it");
        space.fault(other, Access::Read).expect("it has it");
        write(&machine, &space, page, 9);
        let flushes = machine.shootdowns.0.load(Ordering::Relaxed);
        let revoked = space.revoke(gone.base, &(0..u64::MAX));
        let mut entries = [0; 3];
        entries[granule as usize] = touched.len() as u64 + 1;
        assert_eq!(revoked, Revoked { mappings: 3, entries });
        assert_eq!(machine.shootdowns.0.load(Ordering::Relaxed), flushes + 3);
        assert!(touched.iter().all(|entry| space.walk(start + entry * size).leaf.is_none()));
        assert!(space.walk(other).leaf.is_some() && read(&machine, &space, page) == 9);
        assert_eq!(vmas(&space).len(), 5, "the vmas stay");
        assert_eq!(space.revoke(gone.base, &(0..u64::MAX)), Revoked { mappings: 3, entries: [0; 3] });
        // It was not killed: it may be touched again. Of a part only the entries with a byte of it go.
        for entry in [start, start + size, start + 2 * size, second] {
            assert_eq!(space.fault(entry, Access::Write), NEW);
        }
        assert_eq!(space.revoke(gone.base, &(2 * size - 1..2 * size)).mappings, 2);
        assert!([start + size, second].iter().all(|&entry| space.walk(entry).leaf.is_none()));
        assert!([start, start + 2 * size].iter().all(|&entry| space.walk(entry).leaf.is_some()));
    }
}

#[test]
fn a_device_is_told_of_an_unmap_only_after_the_shootdown() {
    /// Looks, when it is asked to flush, at how many mappings the device knows.
    #[derive(Default)]
    struct Witness(std::sync::Mutex<(Option<Arc<FakeDevice>>, Vec<usize>)>);
    impl crate::shootdown::Shootdown for Witness {
        fn flush(&self, _root: PhysAddr, _range: VirtRange) {
            let mut seen = self.0.lock().expect("fine");
            let known = seen.0.as_ref().map(|device| device.mappings.lock().expect("fine").len());
            seen.1.extend(known);
        }
    }
    let witness: &'static Witness = alloc::boxed::Box::leak(alloc::boxed::Box::default());
    let machine = Machine::with_shootdown(8 << 20, witness);
    let space = machine.space();
    let pager = FakeDevice::new(MapSize::Size4K);
    witness.0.lock().expect("fine").0 = Some(pager.clone());
    let start = space.mmap(&device(&pager, 0, 4 * P)).expect("room");
    space.fault(start, Access::Write).expect("it has it");
    space.munmap(span(start.as_u64(), 4 * P)).expect("mapped");
    assert_eq!(witness.0.lock().expect("fine").1, [1]);
    assert!(pager.mappings.lock().expect("fine").is_empty());
}
