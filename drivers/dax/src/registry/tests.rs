//! Numbers, names and ranges: exclusive while held, reused when free, untouched by a refusal.

use super::*;
use crate::lifetime::LifetimeError;
use crate::memory::injection::fail_nth;
use crate::region::Scrub;
use crate::testing::{G1, HostEpoch, M2, at, config, phys, registry, registry_with_region, sized};
use mm::range::PAGE_SIZE;
use std::collections::BTreeSet;
use std::string::ToString;

const SMALL: MapSize = MapSize::Size4K;

/// The range of the `index`-th device of 4 KiB.
fn page(index: u64) -> PhysRange {
    phys(4 * G1 + index * PAGE_SIZE, PAGE_SIZE)
}

/// A step of a pseudo-random sequence (Marsaglia's xorshift64).
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn s1_1_five_thousand_devices_have_unique_numbers() {
    let (registry, region) = registry_with_region(SMALL);
    let create = |index| registry.create_device(&region, at(&[page(index)], SMALL)).expect("free").number();
    let numbers: BTreeSet<u32> = (0..5000).map(create).collect();
    assert_eq!(numbers.len(), 5000);
    assert_eq!(numbers.last(), Some(&4999));
    assert_eq!(registry.device_count(), 5000);
    for number in [0, 255, 256, 4999] {
        let device = registry.by_number(number).expect("listed");
        let named = registry.by_name(&device.name().to_string()).expect("listed");
        assert!(Arc::ptr_eq(&device, &named));
        assert_eq!(device.number(), number);
    }
    assert!(registry.by_number(5000).is_none());
    assert!(registry.by_name("dax0.5000").is_none());
    assert!(registry.by_name("dax00.0").is_none());
}

#[test]
fn s1_2_random_creation_and_destruction_leaks_no_number_and_no_range() {
    let (registry, region) = registry_with_region(SMALL);
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut slots = [const { None::<Arc<DevDax>> }; 50];
    for _ in 0..100_000 {
        let index = next_random(&mut state) % 50;
        let slot = slots.get_mut(index as usize).expect("below 50");
        if let Some(device) = slot.take() {
            registry.destroy_device(&device).expect("never enabled");
        } else {
            let device = registry.create_device(&region, at(&[page(index)], SMALL)).expect("free");
            assert!(device.number() < 50, "a number leaked");
            assert_eq!(device.name().id, device.number(), "both are lowest first");
            *slot = Some(device);
        }
    }
    let held = slots.iter().flatten().count();
    assert_eq!(registry.device_count(), held);
    assert_eq!(region.available_bytes(), 8 * G1 - held as u64 * PAGE_SIZE);
}

#[test]
fn s1_5_a_number_returns_only_when_the_last_descriptor_closes() {
    let (registry, region) = registry_with_region(SMALL);
    let device = registry.create_device(&region, at(&[page(0)], SMALL)).expect("free");
    device.enable().expect("born dead");
    let open = device.open().expect("enabled");
    assert!(device.kill().is_ok());
    registry.destroy_device(&device).expect("dead");
    drop(device);
    assert!(registry.by_number(0).is_none());

    let second = registry.create_device(&region, at(&[page(0)], SMALL)).expect("the range is free again");
    assert_eq!((second.number(), second.name().id), (1, 0));
    assert_eq!(open.device().number(), 0);
    drop(open);
    let third = registry.create_device(&region, at(&[page(1)], SMALL)).expect("free");
    assert_eq!((third.number(), third.name().id), (0, 1));
}

#[test]
fn s2_4_an_alive_device_cannot_be_destroyed_and_a_destroyed_one_never_revives() {
    let (registry, region) = registry_with_region(SMALL);
    let device = registry.create_device(&region, at(&[page(0)], SMALL)).expect("free");
    let name = device.name();
    device.enable().expect("born dead");
    let error = registry.destroy_device(&device).expect_err("alive");
    assert_eq!(error.to_string(), "dax0.0 is enabled: disable it first");
    assert!(registry.by_name("dax0.0").is_some());
    assert!(device.kill().is_ok());
    assert_eq!(registry.destroy_device(&device), Ok(()));
    assert_eq!(registry.destroy_device(&device), Err(DaxError::NoSuchDevice { name: name.into() }));
    let retired = DaxError::Lifetime { name: name.into(), why: LifetimeError::Retired };
    assert_eq!(device.enable(), Err(retired));
}

#[test]
fn s7_5_a_range_is_claimed_once_and_a_second_claim_names_the_holder() {
    let (registry, region) = registry_with_region(MapSize::Size2M);
    let first = registry.create_device(&region, at(&[phys(4 * G1, 2 * M2)], MapSize::Size2M)).expect("free");
    let error = registry
        .create_device(&region, at(&[phys(4 * G1 + M2, 2 * M2)], MapSize::Size2M))
        .expect_err("half of it is taken");
    assert_eq!(
        error.to_string(),
        "[0x100200000-0x1005fffff] is not free: dax0.0 holds [0x100000000-0x1003fffff]"
    );
    let beside = registry.create_device(&region, at(&[phys(4 * G1 + 2 * M2, M2)], MapSize::Size2M));
    assert_eq!(beside.expect("free").name().id, 1, "the refusal used up no id");
    assert_eq!(registry.destroy_device(&first), Ok(()));
    assert!(registry.create_device(&region, at(&[phys(4 * G1 + M2, M2)], MapSize::Size2M)).is_ok());
}

#[test]
fn s7_5_regions_and_ram_exclude_each_other() {
    let registry = registry();
    assert_eq!(registry.reserve(phys(0, 4 * G1), "RAM"), Ok(()));
    let error = registry.add_region(config(0, phys(3 * G1, 2 * G1), SMALL)).expect_err("RAM");
    assert_eq!(error.to_string(), "[0xc0000000-0x13fffffff] is not free: RAM holds [0x0-0xffffffff]");
    assert!(registry.add_region(config(0, phys(4 * G1, G1 + 512), SMALL)).is_ok());
    let again = config(0, phys(6 * G1, G1), SMALL);
    assert_eq!(registry.add_region(again).expect_err("exists"), DaxError::RegionExists { region: 0 });
    let tail = config(1, phys(5 * G1, G1), SMALL);
    let error = registry.add_region(tail).expect_err("the trimmed tail is region0's");
    assert!(error.to_string().contains("region0 holds"), "{error}");
    assert!(registry.reserve(phys(4 * G1, 1), "firmware").is_err());
    let ids: Vec<u32> = registry.regions().iter().map(|region| region.id()).collect();
    assert_eq!(ids, [0]);
    assert!(registry.region(0).is_some() && registry.region(1).is_none());
}

#[test]
fn s5_5_a_refused_creation_leaves_nothing_behind() {
    let (registry, region) = registry_with_region(SMALL);
    let held = registry.create_device(&region, at(&[page(0)], SMALL)).expect("free");
    let refused = [
        (phys(4 * G1 + PAGE_SIZE, G1), MapSize::Size2M, "starts at 0x100001000, not a multiple of 2M"),
        (phys(4 * G1, M2 - PAGE_SIZE), MapSize::Size2M, "less than one entry of 2M"),
        (phys(G1, G1), SMALL, "is not inside region0"),
        (phys(11 * G1, 2 * G1), SMALL, "is not inside region0"),
        (page(0), SMALL, "dax0.0 holds"),
    ];
    for (range, align, text) in refused {
        let error = registry.create_device(&region, at(&[range], align)).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(registry.device_count(), 1);
        assert_eq!(region.available_bytes(), 8 * G1 - PAGE_SIZE);
    }
    let next = registry.create_device(&region, at(&[page(1)], SMALL)).expect("free");
    assert_eq!((next.number(), next.name().id), (1, 1));
    assert_eq!(held.number(), 0);
}

/// Numbers, ids, free bytes and lists, as the next creations and look-ups see them.
fn baseline(registry: &Registry, region: &Arc<DaxRegion>) -> (u64, usize, Option<DeviceName>, u32, u32) {
    let probe =
        registry.create_device(region, sized(0, SMALL)).expect("a seed needs only a number and an id");
    let (number, id) = (probe.number(), probe.name().id);
    let listed = registry.device_count() - 1;
    registry.destroy_device(&probe).expect("never enabled");
    (region.available_bytes(), listed, region.seed(), number, id)
}

#[test]
fn s5_5_a_creation_that_fails_at_each_allocation_in_turn_leaves_nothing_behind() {
    let (registry, region) = registry_with_region(SMALL);
    let parts = [page(1), page(3)];
    for (request, steps) in [(at(&parts, SMALL), 7), (sized(0, SMALL), 5)] {
        let before = baseline(registry, &region);
        let mut failures = 0;
        let made = loop {
            let (made, failed) = fail_nth(failures, || registry.create_device(&region, request));
            match made {
                Err(why) => assert_eq!((why, failed), (DaxError::NoMemory, true)),
                Ok(device) => break device,
            }
            assert_eq!(baseline(registry, &region), before, "allocation {failures}");
            failures += 1;
        };
        assert!(failures >= steps, "minor, table of numbers, id, table of ids, ranges, object: {failures}");
        registry.destroy_device(&made).expect("never enabled");
        drop(made);
        assert_eq!(baseline(registry, &region), before);
    }
}

#[test]
fn s5_5_a_change_that_fails_at_each_allocation_in_turn_leaves_the_device_as_it_was() {
    let (registry, region) = registry_with_region(SMALL);
    let _between = registry.create_device(&region, at(&[page(1)], SMALL)).expect("free");
    type Change<'a> = &'a dyn Fn(&Arc<DevDax>) -> Result<Arc<DevDax>, DaxError>;
    let changes: [Change<'_>; 4] = [
        &|old| registry.resize(old, 4 * PAGE_SIZE),
        &|old| registry.resize(old, PAGE_SIZE),
        &|old| registry.set_align(old, SMALL),
        &|old| registry.add_mapping(old, page(9)),
    ];
    for change in changes {
        let old = registry.create_device(&region, at(&[page(0), page(2)], SMALL)).expect("free");
        let before = baseline(registry, &region);
        let mut failures = 0;
        let new = loop {
            match fail_nth(failures, || change(&old)) {
                (Ok(new), _) => break new,
                (Err(why), failed) => assert_eq!((why, failed), (DaxError::NoMemory, true)),
            }
            assert_eq!(baseline(registry, &region), before, "allocation {failures}");
            assert!(registry.by_name("dax0.1").is_some_and(|same| Arc::ptr_eq(&same, &old)));
            assert!(old.service().check_dead().is_ok(), "it was not retired");
            failures += 1;
        };
        assert!(failures >= 2, "ranges, object: {failures}");
        registry.destroy_device(&new).expect("never enabled");
    }
}

#[test]
fn s5_5_a_creation_that_fails_for_numbers_ids_or_space_leaves_nothing_behind() {
    for (minors, ids) in [(3, 9), (9, 3)] {
        let registry = Registry::with_limits(HostEpoch::leak(), minors, ids);
        let region = registry.add_region(config(0, phys(4 * G1, G1), SMALL)).expect("free");
        let held =
            [0, 1].map(|index| registry.create_device(&region, at(&[page(index)], SMALL)).expect("free"));
        let before = baseline(&registry, &region);
        let last = registry.create_device(&region, at(&[page(2)], SMALL)).expect("the last one");
        let none = DaxError::NoNumber { limit: 3 };
        assert_eq!(registry.create_device(&region, at(&[page(3)], SMALL)).err(), Some(none));
        registry.destroy_device(&last).expect("never enabled");
        drop(last);
        let (asked_bytes, available_bytes) = (2 * G1, G1 - 2 * PAGE_SIZE);
        let none = DaxError::NoSpace { region: 0, asked_bytes, available_bytes, align: SMALL };
        assert_eq!(registry.create_device(&region, sized(2 * G1, SMALL)).err(), Some(none));
        assert_eq!(baseline(&registry, &region), before);
        assert_eq!(held.map(|device| device.number()), [0, 1]);
    }
}

#[test]
fn s1_5_old_objects_of_a_resized_device_keep_its_number() {
    let (registry, region) = registry_with_region(SMALL);
    region.set_scrub(Scrub::Waived);
    let mut device = registry.create_device(&region, sized(PAGE_SIZE, SMALL)).expect("free");
    let mut opens = alloc::vec::Vec::new();
    for pages in [2, 1, 3] {
        device.enable().expect("dead");
        opens.push(device.open().expect("enabled"));
        assert!(device.kill().is_ok());
        let key = device.key();
        device = registry.resize(&device, pages * PAGE_SIZE).expect("free");
        assert_eq!((device.number(), device.name().id), (0, 0));
        assert_ne!(device.key(), key, "another object, for whom futexes and mappings are others");
    }
    assert!(opens.iter().all(|open| !open.is_alive()), "what was opened before stays dead");
    assert!(registry.by_number(0).is_some_and(|shown| Arc::ptr_eq(&shown, &device)));
    registry.destroy_device(&device).expect("disabled");
    drop(device);
    let next = |registry: &Registry| {
        let device = registry.create_device(&region, sized(0, SMALL)).expect("a seed");
        registry.destroy_device(&device).expect("never enabled");
        device.number()
    };
    while let Some(open) = opens.pop() {
        assert_eq!(next(registry), 1, "an old object has the number");
        drop(open);
    }
    assert_eq!(next(registry), 0);
}

#[test]
fn a_change_is_refused_while_the_device_is_enabled() {
    let (registry, region) = registry_with_region(SMALL);
    let device = registry.create_device(&region, sized(PAGE_SIZE, SMALL)).expect("free");
    device.enable().expect("born dead");
    let alive = Some(DaxError::Lifetime { name: device.name().into(), why: LifetimeError::Alive });
    let free = region.available_bytes();
    assert_eq!(registry.resize(&device, 2 * PAGE_SIZE).err(), alive);
    assert_eq!(registry.set_align(&device, SMALL).err(), alive);
    assert_eq!(registry.add_mapping(&device, page(5)).err(), alive);
    assert_eq!(region.available_bytes(), free);
    assert!(device.is_alive() && device.direct_access(0, 1, &mut |_| ()).is_ok());
}

#[test]
fn bytes_that_were_given_back_are_scrubbed_before_another_has_them() {
    let (registry, region) = registry_with_region(SMALL);
    let first = registry.create_device(&region, sized(3 * PAGE_SIZE, SMALL)).expect("free");
    first.enable().expect("what is on the media at boot is nobody's to zero");
    assert!(first.kill().is_ok());
    let first = registry.resize(&first, PAGE_SIZE).expect("disabled");
    assert_eq!(first.unscrubbed(), None, "what it kept");

    let second = registry.create_device(&region, sized(4 * PAGE_SIZE, SMALL)).expect("free");
    let tail = phys(4 * G1 + PAGE_SIZE, 2 * PAGE_SIZE);
    let why = DaxError::Unscrubbed { name: second.name(), range: tail };
    assert_eq!((second.unscrubbed(), second.enable()), (Some(tail), Err(why)));
    assert!(second.direct_access(0, 1, &mut |_| ()).is_err(), "nor by that way");

    let scrub = second.begin_scrub().expect("disabled");
    let busy = DaxError::AtWork { name: second.name() };
    assert_eq!(registry.destroy_device(&second), Err(busy));
    assert_eq!(scrub.next_range(), Some(tail));
    scrub.scrubbed(phys(4 * G1 + PAGE_SIZE, PAGE_SIZE));
    let rest = phys(4 * G1 + 2 * PAGE_SIZE, PAGE_SIZE);
    assert_eq!(scrub.next_range(), Some(rest));
    scrub.scrubbed(rest);
    assert_eq!((scrub.next_range(), second.enable()), (None, Err(busy)));
    drop(scrub);
    assert!(second.enable().is_ok());
    let alive = DaxError::Lifetime { name: second.name().into(), why: LifetimeError::Alive };
    assert_eq!(second.begin_scrub().err(), Some(alive));

    // Waived: the bytes come as they are, and are not zeroed under the new owner later.
    assert!(second.kill().is_ok());
    registry.destroy_device(&second).expect("disabled");
    region.set_scrub(Scrub::Waived);
    let third = registry.create_device(&region, sized(PAGE_SIZE, SMALL)).expect("free");
    assert!(third.unscrubbed().is_some() && third.enable().is_ok() && third.kill().is_ok());
    region.set_scrub(Scrub::Required);
    assert!(third.enable().is_ok());
}

#[test]
fn a_listing_walks_all_devices_in_the_order_of_their_names() {
    let registry = registry();
    for id in [10, 2] {
        let range = phys(u64::from(id) * G1, G1);
        let region = registry.add_region(config(id, range, SMALL)).expect("free");
        for index in 0..2 {
            let range = phys(range.start().as_u64() + index * PAGE_SIZE, PAGE_SIZE);
            registry.create_device(&region, at(&[range], SMALL)).expect("free");
        }
    }
    let after = |last: &Arc<DevDax>| registry.next_device(Some(last.name()));
    let names: Vec<_> =
        core::iter::successors(registry.next_device(None), after).map(|d| d.name().to_string()).collect();
    assert_eq!(names, ["dax2.0", "dax2.1", "dax10.0", "dax10.1"]);
}
