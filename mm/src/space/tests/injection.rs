//! The n-th allocation fails, for every n: an error or success, then success, and no frame is lost.

use super::*;
use crate::range::PhysRange;
use crate::shared::SharedPages;

/// What is tried with the space, and again after a failure; false means for want of memory.
type Attempt<'a> = &'a dyn Fn(&Arc<AddressSpace>) -> bool;

/// Runs `attempt` on a space made by `prepare` with every allocation failing in turn, `meanwhile` after each
/// failure.
fn fail_each(machine: &Machine, prepare: &dyn Fn(&AddressSpace), attempt: Attempt<'_>) -> u64 {
    let frames = machine.environment.frames;
    let before = machine.free_frames();
    for nth in 1.. {
        let space = machine.space();
        prepare(&space);
        let prepared = machine.free_frames();
        frames.fail_nth(nth);
        let done = attempt(&space);
        frames.fail_nth(0);
        // Shared memory keeps the page and its three tables.
        assert!(done || machine.free_frames() + 4 >= prepared, "a failure keeps no more");
        assert!(done || attempt(&space), "with memory it works: allocation {nth}");
        drop(space);
        assert_eq!(machine.free_frames(), before, "allocation {nth}");
        if done {
            return nth - 1;
        }
    }
    unreachable!("some attempt needs fewer allocations")
}

fn served(result: Result<Installed, FaultError>) -> bool {
    assert!(matches!(result, Ok(_) | Err(FaultError::NoMemory)), "{result:?}");
    result.is_ok()
}

#[test]
fn every_allocation_of_a_fault_may_fail() {
    let machine = machine();
    for (granule, tables) in MapSize::ALL.into_iter().zip([3, 2, 1]) {
        let pager = FakeDevice::new(granule);
        let map = |space: &AddressSpace| {
            space
                .mmap(&at(Placement::Fixed(BASE), device(&pager, 0, granule.bytes())))
                .map(drop)
                .expect("room")
        };
        let failures = fail_each(&machine, &map, &|space| served(space.fault(virt(BASE), Access::Write)));
        assert_eq!(failures, tables);
    }
    let map = |space: &AddressSpace| {
        space.mmap(&at(Placement::Fixed(BASE), anonymous(P))).map(drop).expect("room");
    };
    assert_eq!(fail_each(&machine, &map, &|space| served(space.fault(virt(BASE), Access::Write))), 4);
    let frames = machine.environment.frames;
    let map = |space: &AddressSpace| {
        let backing = Backing::Shared(SharedPages::new(P, frames).expect("there is memory"));
        let request = MapRequest { backing, sharing: Sharing::Shared, ..anonymous(P) };
        space.mmap(&at(Placement::Fixed(BASE), request)).map(drop).expect("room");
    };
    // The object's page and its tables, and the space's own tables.
    let failures = fail_each(&machine, &map, &|space| served(space.fault(virt(BASE), Access::Write)));
    assert_eq!(failures, 7);
}

#[test]
fn a_device_that_dies_after_a_failure_is_sigbus_and_nothing_is_lost() {
    let machine = machine();
    let before = machine.free_frames();
    for granule in MapSize::ALL {
        for nth in 1..=3 {
            let (space, pager) = (machine.space(), FakeDevice::new(granule));
            let start = space.mmap(&device(&pager, 0, granule.bytes())).expect("room");
            machine.environment.frames.fail_nth(nth);
            let first = space.fault(start, Access::Write);
            machine.environment.frames.fail_nth(0);
            assert!(served(first) == (first == NEW));
            pager.alive.store(false, Ordering::Relaxed);
            let revoked = space.revoke(pager.base, &(0..u64::MAX));
            assert_eq!(revoked.entries[granule as usize], u64::from(first.is_ok()));
            assert_eq!(space.fault(start, Access::Write), Err(FaultError::Bus));
            let range = PhysRange::new(pager.base, pager.size_bytes).expect("a range");
            assert_eq!(machine.environment.frames.find_live_entry(range), None);
            drop(space);
            assert_eq!(machine.free_frames(), before);
        }
    }
}

#[test]
fn every_allocation_of_a_fork_may_fail() {
    let machine = machine();
    let pager = FakeDevice::new(MapSize::Size4K);
    let pages = [BASE, BASE + P, BASE + (1 << 21), BASE + (1 << 30), BASE + (1 << 39)];
    let prepare = |space: &AddressSpace| {
        for page in pages {
            space.mmap(&at(Placement::Fixed(page), anonymous(P))).expect("room");
            space.fault(virt(page), Access::Write).expect("there is memory");
        }
        space.mmap(&device(&pager, 0, 4 * P)).expect("room");
    };
    let failures = fail_each(&machine, &prepare, &|space| match space.fork(&[0; 256]) {
        Ok(child) => [space, &child]
            .iter()
            .all(|space| pages.iter().all(|&page| served(space.fault(virt(page), Access::Write)))),
        Err(refusal) => {
            assert_eq!(refusal, Refusal::NoMemory);
            assert_eq!(pager.mappings.lock().expect("fine").len(), 1, "the child is forgotten");
            assert!(pages.iter().all(|&page| space.fault(virt(page), Access::Write).is_ok()));
            false
        }
    });
    // The root; three tables for the first page, none, one, two and three for the others; five copies.
    assert_eq!(failures, 1 + 9 + 5);
}

#[test]
fn every_allocation_of_populate_may_fail() {
    let machine = machine();
    let prepare = |space: &AddressSpace| {
        space.mmap(&at(Placement::Fixed(BASE), anonymous(8 * P))).map(drop).expect("room");
    };
    let range = VirtRange::new(BASE, 8 * P).expect("a range");
    let frames = machine.environment.frames;
    let before = machine.free_frames();
    for nth in 1..=11 {
        let space = machine.space();
        prepare(&space);
        frames.fail_nth(nth);
        let result = space.populate(range, Access::Write, &mut || true);
        frames.fail_nth(0);
        assert_eq!(result, Err(FaultError::NoMemory));
        assert_eq!(space.populate(range, Access::Write, &mut || true), Ok(()));
        assert!((0..8).all(|page| space.walk(VirtAddr::new(BASE + page * P)).leaf.is_some()));
        drop(space);
        assert_eq!(machine.free_frames(), before);
    }
}

#[test]
fn a_live_entry_is_found_in_every_space_and_in_none_after_revoke() {
    let machine = machine();
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let parent = machine.space();
        let start = parent.mmap(&device(&pager, 0, 8 * granule.bytes())).expect("room");
        let child = parent.fork(&[0; 256]).expect("there is memory");
        let range = PhysRange::new(pager.base, pager.size_bytes).expect("a range");
        let find = || machine.environment.frames.find_live_entry(range);
        assert_eq!(find(), None);
        child.fault(start + 3 * granule.bytes(), Access::Write).expect("it has it");
        let found = find().expect("the child's");
        assert_eq!(found.entry & 0x000f_ffff_ffff_f000, pager.base + 3 * granule.bytes());
        parent.revoke(pager.base, &(0..u64::MAX));
        assert_eq!(find(), Some(found));
        child.revoke(pager.base, &(0..u64::MAX));
        assert_eq!(find(), None);
    }
}

#[test]
fn every_allocation_of_a_move_may_fail() {
    let machine = machine();
    let map = |space: &AddressSpace| {
        space.mmap(&at(Placement::Fixed(BASE), anonymous(2 * P))).expect("room");
        space.fault(virt(BASE + P), Access::Write).expect("there is memory");
    };
    let to = BASE + (1 << 39);
    let request = RemapRequest {
        address: BASE,
        old_len_bytes: 2 * P,
        new_len_bytes: 2 * P,
        placement: Some(Placement::Fixed(to)),
        left: Left::Unmapped,
    };
    let failures = fail_each(&machine, &map, &|space| {
        let result = space.remap(&request);
        assert!(matches!(result, Ok(_) | Err(Refusal::NoMemory)), "{result:?}");
        let has_moved = space.walk(virt(to + P)).leaf.is_some();
        assert_eq!(has_moved, result.is_ok());
        assert_eq!(space.walk(virt(BASE + P)).leaf.is_some(), result.is_err());
        result.is_ok()
    });
    assert_eq!(failures, 3, "the three tables of the new place");
}
