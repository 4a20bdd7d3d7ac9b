//! Numbers, names and ranges: exclusive while held, reused when free, untouched by a refusal.

use super::*;
use crate::lifetime::LifetimeError;
use crate::testing::{G1, M2, at, config, phys, registry, registry_with_region};
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
