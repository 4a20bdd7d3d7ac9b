//! Regions as allocators: the sequences of ndctl's daxctl-create.sh with its counts of mappings, and random
//! requests against a plain model.

mod common;

use common::{G1, M2, config, phys, registry, sized};
use dax::{DaxError, DaxRegion, DevDax, DeviceRequest, Placement, Registry, Scrub};
use mm::range::{MapSize, PhysRange};
use proptest::prelude::*;
use std::sync::Arc;

const BASE: u64 = 4 * G1;

/// A region of `bytes` at 4 GiB, with the waiver that a test without a kernel needs.
fn region(bytes: u64) -> (&'static Registry, Arc<DaxRegion>) {
    let registry = registry();
    let region = registry.add_region(config(0, phys(BASE, bytes), MapSize::Size4K)).expect("free");
    region.set_scrub(Scrub::Waived);
    (registry, region)
}

fn ranges(device: &DevDax) -> Vec<PhysRange> {
    device.ranges().map(|range| range.phys).collect()
}

struct Daxctl {
    registry: &'static Registry,
    region: Arc<DaxRegion>,
    align: MapSize,
}

impl Daxctl {
    fn new(bytes: u64, align: MapSize) -> Daxctl {
        let (registry, region) = region(bytes);
        Daxctl { registry, region, align }
    }

    /// `daxctl create-device -s`, as it writes to sysfs: a seed, the alignment, the size, bind.
    fn create(&self, size_bytes: u64) -> Arc<DevDax> {
        let seed = self.registry.create_device(&self.region, sized(0, MapSize::Size2M)).expect("a seed");
        assert_eq!(self.region.youngest(), Some(seed.name()));
        let seed = self.registry.set_align(&seed, self.align).expect("any alignment fits no bytes");
        let device = self.registry.resize(&seed, size_bytes).expect("there is room");
        device.enable().expect("it has bytes");
        device
    }

    /// `daxctl reconfigure-device -s`.
    fn resize(&self, device: &Arc<DevDax>, size_bytes: u64) -> Arc<DevDax> {
        device.kill().expect("enabled");
        let device = self.registry.resize(device, size_bytes).expect("there is room");
        if size_bytes > 0 {
            device.enable().expect("it has bytes");
        }
        device
    }

    fn destroy(&self, device: &Arc<DevDax>) {
        device.kill().expect("enabled");
        self.registry.destroy_device(device).expect("disabled");
    }
}

#[test]
fn daxctl_create_t0_a_device_is_emptied_and_refilled_in_one_mapping() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let device = daxctl.create(G1);
    let device = daxctl.resize(&device, 0);
    assert_eq!((device.ranges().count(), daxctl.region.available_bytes()), (0, G1));
    let device = daxctl.registry.resize(&device, G1).expect("all is free");
    assert_eq!((device.ranges().count(), daxctl.region.available_bytes()), (1, 0));
}

#[test]
fn daxctl_create_t1_the_whole_region_is_one_mapping() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let device = daxctl.create(daxctl.region.available_bytes());
    assert_eq!(ranges(&device), [phys(BASE, G1)]);
    let none = daxctl.registry.create_device(&daxctl.region, sized(M2, MapSize::Size2M));
    let (asked_bytes, align) = (M2, MapSize::Size2M);
    assert_eq!(none.err(), Some(DaxError::NoSpace { region: 0, asked_bytes, available_bytes: 0, align }));
}

#[test]
fn daxctl_create_t2_a_hole_in_the_middle_and_the_end_are_two_mappings() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let quarter = G1 / 4;
    let [_first, second, _third] = [0; 3].map(|_| daxctl.create(quarter));
    daxctl.destroy(&second);
    let device = daxctl.create(2 * quarter);
    assert_eq!(device.name().id, 1, "the lowest id that is free");
    assert_eq!(ranges(&device), [phys(BASE + quarter, quarter), phys(BASE + 3 * quarter, quarter)]);
}

#[test]
fn daxctl_create_t3_an_empty_device_grows_into_a_hole_and_the_end() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let quarter = G1 / 4;
    let [_first, second, _third] = [0; 3].map(|_| daxctl.create(quarter));
    let second = daxctl.resize(&second, 0);
    let second = daxctl.registry.resize(&second, 2 * quarter).expect("there is room");
    assert_eq!(second.ranges().count(), 2);
}

#[test]
fn daxctl_create_t4_two_devices_that_grow_in_turn_have_four_mappings_each() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let eighth = G1 / 8;
    let (mut first, mut second) = (daxctl.create(eighth), daxctl.create(eighth));
    for eighths in 2..=4 {
        first = daxctl.resize(&first, eighths * eighth);
        second = daxctl.resize(&second, eighths * eighth);
    }
    assert_eq!((first.ranges().count(), second.ranges().count()), (4, 4));
    assert_eq!(first.offset_to_phys(eighth, MapSize::Size2M), Some(phys(BASE + 2 * eighth, M2)));
    assert_eq!(first.offset_to_phys(0, MapSize::Size1G), None, "an entry never spans two ranges");
    let first = daxctl.resize(&first, 2 * eighth + M2);
    let tail = [phys(BASE, eighth), phys(BASE + 2 * eighth, eighth), phys(BASE + 4 * eighth, M2)];
    assert_eq!(ranges(&first), tail, "a device shrinks from its tail");
}

#[test]
fn daxctl_create_t5_growth_takes_the_head_first_and_joins_at_the_tail() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let quarter = G1 / 4;
    let (first, second) = (daxctl.create(quarter), daxctl.create(quarter));
    daxctl.destroy(&first);
    let second = daxctl.resize(&second, 2 * quarter);
    assert_eq!(ranges(&second), [phys(BASE + quarter, quarter), phys(BASE, quarter)]);

    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let device = daxctl.create(quarter);
    assert_eq!(ranges(&daxctl.resize(&device, 2 * quarter)), [phys(BASE, 2 * quarter)]);
}

#[test]
fn daxctl_create_t6_each_alignment_is_the_granule_of_its_devices() {
    for align in MapSize::ALL {
        let daxctl = Daxctl::new(4 * G1, align);
        let device = daxctl.create(align.bytes());
        let device = daxctl.resize(&device, 3 * align.bytes());
        assert_eq!((device.ranges().count(), device.size_bytes()), (1, 3 * align.bytes()));
        device.kill().expect("enabled");
        let error = daxctl.registry.resize(&device, align.bytes() / 2).expect_err("half an entry");
        let size_bytes = align.bytes() / 2;
        assert_eq!(error, DaxError::SizeMisaligned { region: 0, size_bytes, align });
    }
    // What is left of a gap at a larger alignment is skipped.
    let daxctl = Daxctl::new(4 * G1, MapSize::Size1G);
    let odd = daxctl.registry.create_device(&daxctl.region, sized(4096, MapSize::Size4K)).expect("free");
    assert_eq!(ranges(&odd), [phys(BASE, 4096)]);
    assert_eq!(ranges(&daxctl.create(2 * G1)), [phys(BASE + G1, 2 * G1)]);
    let error =
        daxctl.registry.create_device(&daxctl.region, sized(2 * G1, MapSize::Size1G)).expect_err("1 GiB");
    assert_eq!(
        error.to_string(),
        "region0 has 0x40000000 free bytes in pieces of 1G, 0x80000000 are asked for"
    );
    let error = daxctl.registry.set_align(&odd, MapSize::Size2M).expect_err("of 4 KiB");
    assert_eq!(error, DaxError::SizeMisaligned { region: 0, size_bytes: 4096, align: MapSize::Size2M });
    assert!(daxctl.registry.by_name("dax0.0").is_some_and(|same| Arc::ptr_eq(&same, &odd)));
}

#[test]
fn daxctl_create_t7_a_device_is_rebuilt_from_its_mappings() {
    let daxctl = Daxctl::new(G1, MapSize::Size2M);
    let wanted = [phys(BASE + 8 * M2, M2), phys(BASE + 2 * M2, 2 * M2)];
    let mut device =
        daxctl.registry.create_device(&daxctl.region, sized(0, MapSize::Size2M)).expect("a seed");
    for range in wanted {
        device = daxctl.registry.add_mapping(&device, range).expect("free");
    }
    assert_eq!(ranges(&device), wanted);
    let error = daxctl.registry.add_mapping(&device, phys(BASE + 3 * M2, M2)).expect_err("held");
    assert_eq!(
        error.to_string(),
        "[0x100600000-0x1007fffff] is not free: dax0.0 holds [0x100400000-0x1007fffff]"
    );
    for (range, text) in [
        (phys(BASE + 4096, M2), "does not start and end at multiples of 2M"),
        (phys(BASE, 4096), "does not start and end at multiples of 2M"),
        (phys(BASE - M2, M2), "is not inside region0"),
    ] {
        let error = daxctl.registry.add_mapping(&device, range).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    }
    let request =
        DeviceRequest { placement: Placement::Ranges(&[wanted[0], wanted[0]]), align: MapSize::Size2M };
    daxctl.registry.destroy_device(&device).expect("never enabled");
    let error = daxctl.registry.create_device(&daxctl.region, request).expect_err("the same twice");
    assert_eq!(error, DaxError::Twice { range: wanted[0], taken: wanted[0] });
    assert_eq!(daxctl.region.available_bytes(), G1);
}

#[test]
fn a_seed_is_the_first_device_that_was_never_enabled() {
    let (registry, region) = region(G1);
    assert_eq!((region.seed(), region.youngest()), (None, None));
    let [first, second] =
        [0; 2].map(|_| registry.create_device(&region, sized(0, MapSize::Size4K)).expect("a seed"));
    assert_eq!((region.seed(), region.youngest()), (Some(first.name()), Some(second.name())));
    let why = DaxError::NoBytes { name: first.name() };
    assert_eq!(first.enable(), Err(why));
    registry.resize(&first, 4096).expect("free").enable().expect("it has bytes");
    assert_eq!((region.seed(), region.youngest()), (None, Some(second.name())));
    registry.destroy_device(&second).expect("never enabled");
    assert_eq!(region.youngest(), None);
}

#[test]
fn a_region_goes_only_when_its_devices_are_gone() {
    let (registry, region) = region(G1);
    let device = registry.create_device(&region, sized(4096, MapSize::Size4K)).expect("free");
    let error = registry.remove_region(&region).expect_err("in use");
    assert_eq!(error.to_string(), "region0 is in use by dax0.0: destroy its devices first");
    registry.destroy_device(&device).expect("never enabled");
    assert_eq!(registry.remove_region(&region), Ok(()));
    let gone = DaxError::NoSuchRegion { region: 0 };
    assert_eq!(registry.remove_region(&region), Err(gone));
    assert_eq!(registry.create_device(&region, sized(0, MapSize::Size4K)).err(), Some(gone));
    assert!(registry.reserve(phys(BASE, G1), "RAM").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Devices that are created, grown, shrunk and destroyed at random: against an owner for each page. First fit,
    /// nothing shared, nothing lost, ids lowest first.
    #[test]
    fn s7_5_random_requests_agree_with_an_owner_for_each_page(
        calls in prop::collection::vec((0u8..4, 0usize..6, 0u64..24), 1..120),
    ) {
        const PAGES: usize = 64;
        let (registry, region) = region(PAGES as u64 * 4096);
        let mut owners = [None::<u32>; PAGES];
        let mut devices: Vec<Arc<DevDax>> = Vec::new();
        for (what, which, pages) in calls {
            let free = owners.iter().filter(|owner| owner.is_none()).count() as u64;
            let size = pages * 4096;
            match what {
                0 => {
                    let made = registry.create_device(&region, sized(size, MapSize::Size4K));
                    prop_assert_eq!(made.is_ok(), pages <= free);
                    if let Ok(device) = made {
                        let lowest = (0..).find(|id| devices.iter().all(|other| other.name().id != *id));
                        prop_assert_eq!(Some(device.name().id), lowest);
                        take(&mut owners, device.name().id, pages);
                        devices.push(device);
                    }
                }
                _ if devices.is_empty() => {}
                1 => {
                    let device = devices.swap_remove(which % devices.len());
                    prop_assert_eq!(registry.destroy_device(&device), Ok(()));
                    owners.iter_mut().for_each(|owner| { owner.take_if(|id| *id == device.name().id); });
                }
                _ => {
                    let index = which % devices.len();
                    let device = devices[index].clone();
                    let (id, old) = (device.name().id, device.size_bytes() / 4096);
                    let resized = registry.resize(&device, size);
                    prop_assert_eq!(resized.is_ok(), pages <= old + free);
                    let Ok(resized) = resized else { continue };
                    prop_assert_eq!((resized.name(), resized.number()), (device.name(), device.number()));
                    for range in device.ranges() {
                        let start = (range.phys.start().as_u64() - BASE) / 4096;
                        let kept = (pages.saturating_sub(range.offset_bytes / 4096)).min(range.phys.len_bytes() / 4096);
                        let gone = start + kept..start + range.phys.len_bytes() / 4096;
                        gone.for_each(|page| owners[page as usize] = None);
                    }
                    take(&mut owners, id, pages.saturating_sub(old));
                    devices[index] = resized;
                }
            }
            let mut seen = [None::<u32>; PAGES];
            for device in &devices {
                let mut next = 0;
                for range in device.ranges() {
                    prop_assert_eq!(range.offset_bytes, next);
                    next += range.phys.len_bytes();
                    let start = (range.phys.start().as_u64() - BASE) / 4096;
                    for page in start..start + range.phys.len_bytes() / 4096 {
                        prop_assert_eq!(seen[page as usize].replace(device.name().id), None);
                    }
                }
                prop_assert_eq!(next, device.size_bytes());
            }
            prop_assert_eq!(seen, owners);
            let free = owners.iter().filter(|owner| owner.is_none()).count() as u64;
            prop_assert_eq!(region.available_bytes(), free * 4096);
        }
    }
}

/// First fit over pages.
fn take(owners: &mut [Option<u32>], id: u32, pages: u64) {
    owners
        .iter_mut()
        .filter(|owner| owner.is_none())
        .take(pages as usize)
        .for_each(|owner| *owner = Some(id));
}
