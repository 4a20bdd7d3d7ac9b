//! Faults through the pager: sizes, windows, ends, generations; then threads that fault against a kill.

use super::*;
use crate::memory::injection::fail_nth;
use crate::testing::*;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use mm::pager::Sharing;
use mm::range::PhysRange;
use proptest::prelude::*;
use spin::RwLock;
use std::string::String;
use std::thread;
use x86_64::VirtAddr;

const BASE: u64 = 0x4000_0000_0000;

/// The entries of a fake address space, by address.
#[derive(Default)]
struct FakeTables(BTreeMap<u64, (PhysRange, MapSize)>);

impl FakeTables {
    /// One fault at `address`, installed at the aligned address as `mm` would.
    fn fault(&mut self, open: &OpenDax, vma: VmaRequest, address: u64) -> Result<Installed, FaultError> {
        let offset_bytes = vma.entry_offset(VirtAddr::new(address), open.granule()).ok_or(FaultError::Bus)?;
        open.fault(offset_bytes, &mut |phys, size| {
            let at = address & !(size.bytes() - 1);
            match self.0.insert(at, (phys, size)) {
                None => Installed::New,
                Some(_) => Installed::Already,
            }
        })
    }

    /// Is the byte mapped? Then the program's touch does not fault.
    fn maps(&self, address: u64) -> bool {
        let below = self.0.range(..=address).next_back();
        below.is_some_and(|(at, (_, size))| address - at < size.bytes())
    }
}

#[test]
fn s6_1_a_dead_device_answers_before_every_other_rule() {
    let device = device(MapSize::Size2M);
    let open = device.open().expect("enabled");
    let mut request = vma(BASE + 4096, 4096, 512);
    request.sharing = Sharing::Private;
    assert_eq!(open.check_vma(&request), Err(Refusal::PrivateDevice));
    assert!(device.kill().is_ok());
    assert_eq!(open.check_vma(&request), Err(Refusal::Dead));
}

#[test]
fn s6_2_each_device_installs_entries_of_exactly_its_size() {
    for align in MapSize::ALL {
        let open = device(align).open().expect("enabled");
        assert_eq!(open.granule(), align);
        let unit = align.bytes();
        let mut tables = FakeTables::default();
        let whole = vma(BASE, 4 * unit, 0);
        assert_eq!(tables.fault(&open, whole, BASE + 2 * unit + unit / 3), Ok(Installed::New));
        let entry = (phys(4 * G1 + 2 * unit, unit), align);
        assert_eq!(tables.0.into_iter().collect::<alloc::vec::Vec<_>>(), [(BASE + 2 * unit, entry)]);
    }
}

#[test]
fn s6_2_the_cells_without_a_mapping_are_sigbus_and_install_nothing() {
    for align in MapSize::ALL {
        let open = device(align).open().expect("enabled");
        let unit = align.bytes();
        let mut tables = FakeTables::default();
        // The window sticks out of the vma: what a smaller entry than the device's would need.
        for smaller in MapSize::ALL.into_iter().filter(|&size| size < align) {
            let cut = vma(BASE, smaller.bytes(), 0);
            assert_eq!(tables.fault(&open, cut, BASE), Err(FaultError::Bus), "{align} {smaller}");
        }
        // The physical lookup fails: past the end, wholly or by an offset that is not the device's.
        let past = vma(BASE, 8 * unit, 0);
        assert_eq!(open.check_vma(&past), Ok(()), "reaching past the end is allowed");
        assert_eq!(tables.fault(&open, past, BASE + 4 * unit), Err(FaultError::Bus));
        assert_eq!(tables.fault(&open, vma(BASE, unit, 512), BASE), Err(FaultError::Bus));
        assert_eq!(tables.fault(&open, vma(BASE, unit, !(unit - 1)), BASE), Err(FaultError::Bus));
        assert!(tables.0.is_empty());
    }
}

#[test]
fn s6_5_an_open_device_outlives_its_kill_but_maps_nothing_more() {
    let (registry, region) = registry_with_region(MapSize::Size2M);
    let device = registry.create_device(&region, at(&[region.range()], MapSize::Size2M)).expect("free");
    device.enable().expect("born dead");
    let open = device.open().expect("enabled");
    assert!(device.kill().is_ok());
    registry.destroy_device(&device).expect("dead");
    drop(device);

    let mut path = String::new();
    open.write_path(&mut path).expect("a String takes all");
    assert_eq!(path, "/dev/dax0.0");
    assert_eq!(open.device().size_bytes(), 8 * G1);
    let mut tables = FakeTables::default();
    assert_eq!(tables.fault(&open, vma(BASE, M2, 0), BASE), Err(FaultError::Bus));
    assert!(tables.0.is_empty());
    assert_eq!(open.check_vma(&vma(BASE, M2, 0)), Err(Refusal::Dead));
    assert_eq!(open.device().open().expect_err("dead"), Refusal::Dead);
}

#[test]
fn s6_6_after_enable_new_opens_work_and_old_ones_stay_dead() {
    let device = device(MapSize::Size2M);
    let old = device.open().expect("enabled");
    assert!(device.kill().is_ok());
    device.enable().expect("dead");
    let new = device.open().expect("enabled");
    let request = vma(BASE, M2, 0);
    assert_eq!(old.check_vma(&request), Err(Refusal::Dead));
    assert_eq!(old.flush(0, M2), Err(Refusal::Dead));
    assert_eq!(new.check_vma(&request), Ok(()));
    let mut tables = FakeTables::default();
    assert_eq!(tables.fault(&old, request, BASE), Err(FaultError::Bus));
    assert_eq!(tables.fault(&new, request, BASE), Ok(Installed::New));
    assert_eq!(tables.0.get(&BASE), Some(&(phys(4 * G1, M2), MapSize::Size2M)), "the same memory");
}

#[test]
fn s3_6_a_fault_without_frames_releases_the_pin_and_can_be_tried_again() {
    let device = device(MapSize::Size2M);
    let open = device.open().expect("enabled");
    let missing = open.fault(0, &mut |_, _| Installed::NeedsTables(2));
    assert_eq!(missing, Ok(Installed::NeedsTables(2)));
    assert!(!device.epoch().is_pinned());
    assert_eq!(open.fault(0, &mut |_, _| Installed::New), Ok(Installed::New));
    assert_eq!(open.fault(0, &mut |_, _| Installed::Already), Ok(Installed::Already));
    assert!(device.kill().is_ok());
}

#[test]
fn a_mapping_without_memory_is_not_listed_and_can_be_tried_again() {
    let open = device(MapSize::Size2M).open().expect("enabled");
    let (device, space) = (open.device(), Weak::new());
    for attaches in [true, false] {
        let map = || if attaches { open.attach(&space) } else { open.inherit(&space) };
        // The list, the place on it, the mapping itself.
        for nth in 0..3 {
            let (refused, failed) = fail_nth(nth, map);
            assert_eq!((refused.err(), failed), (Some(Refusal::NoMemory), true), "allocation {nth}");
            assert_eq!(device.mapping_count(), 0, "allocation {nth}");
        }
        let (mapping, failed) = fail_nth(3, map);
        assert_eq!((mapping.is_ok(), failed, device.mapping_count()), (true, false, 1));
    }
    assert_eq!(device.mapping_count(), 0);
    assert!(device.kill().is_ok());
}

#[test]
fn s3_3_an_entry_is_only_ever_written_inside_a_section() {
    let device = device(MapSize::Size4K);
    let open = device.open().expect("enabled");
    let epoch = device.epoch();
    let mut pinned = false;
    let answer = open.fault(0, &mut |_, _| {
        pinned = epoch.is_pinned();
        Installed::New
    });
    assert_eq!((answer, pinned, epoch.is_pinned()), (Ok(Installed::New), true, false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Touching any bytes in any order takes one fault for each entry that holds one of them.
    #[test]
    fn s7_2_faults_are_one_for_each_entry_touched(
        align in prop::sample::select(&MapSize::ALL),
        (first, len) in (0u64..4 << 12).prop_flat_map(|first| (Just(first), 1..=(4 << 12) - first)),
    ) {
        // Positions in 4096ths of an entry, so that one case serves all sizes.
        let grain = align.bytes() >> 12;
        let open = device(align).open().expect("enabled");
        let whole = vma(BASE, 4 * align.bytes(), 0);
        let (start, end) = (BASE + first * grain, BASE + (first + len) * grain);
        for _round in 0..2 {
            let mut tables = FakeTables::default();
            let mut faults = 0;
            for at in first..first + len {
                let address = BASE + at * grain;
                if !tables.maps(address) {
                    prop_assert_eq!(tables.fault(&open, whole, address), Ok(Installed::New));
                    faults += 1;
                }
            }
            let entries = end.div_ceil(align.bytes()) - start / align.bytes();
            prop_assert_eq!(faults, entries);
            prop_assert_eq!(tables.0.len() as u64, entries);
        }
    }
}

/// Two devices on one collector, a killer each, and two threads that fault on both, with present and with
/// stale descriptors: when a kill has returned, no install of its device is in flight and none begins.
#[test]
fn s3_2_s3_3_after_a_kill_no_install_is_in_flight_and_none_begins() {
    const ROUNDS: u64 = 300;
    struct Side {
        device: Arc<DevDax>,
        present: RwLock<Arc<OpenDax>>,
        in_flight: AtomicU64,
        killed: AtomicBool,
        installs: AtomicU64,
        late: AtomicU64,
    }
    let registry = registry();
    let sides = [0, 1].map(|id| {
        let range = phys((4 + u64::from(id)) * G1, G1);
        let region = registry.add_region(config(id, range, MapSize::Size2M)).expect("free");
        let device = registry.create_device(&region, at(&[range], MapSize::Size2M)).expect("free");
        device.enable().expect("born dead");
        let present = RwLock::new(device.open().expect("enabled"));
        let (in_flight, installs, late) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Side { device, present, in_flight, killed: AtomicBool::new(false), installs, late }
    });
    /// Counts a killer that ended, also by a failed assertion: the others must not wait for it.
    struct Finish<'a>(&'a AtomicU64);
    impl Drop for Finish<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let finished = AtomicU64::new(0);
    let fault = |side: &Side, open: &OpenDax| {
        open.fault(0, &mut |_, _| {
            side.in_flight.fetch_add(1, SeqCst);
            for _ in 0..20 {
                core::hint::spin_loop();
            }
            side.late.fetch_add(u64::from(side.killed.load(SeqCst)), SeqCst);
            side.installs.fetch_add(1, SeqCst);
            side.in_flight.fetch_sub(1, SeqCst);
            Installed::New
        })
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let stale = sides.each_ref().map(|side| side.present.read().clone());
                while finished.load(SeqCst) < 2 {
                    for (side, stale) in sides.iter().zip(&stale) {
                        let present = side.present.read().clone();
                        let _may_be_dead = (fault(side, &present), fault(side, stale));
                    }
                }
            });
        }
        for side in &sides {
            scope.spawn(|| {
                let _finish = Finish(&finished);
                for _ in 0..ROUNDS {
                    let seen = side.installs.load(SeqCst);
                    while side.installs.load(SeqCst) == seen {
                        thread::yield_now();
                    }
                    assert!(side.device.kill().is_ok());
                    side.killed.store(true, SeqCst);
                    assert_eq!(side.in_flight.load(SeqCst), 0, "an install was in flight after the kill");
                    let installs = side.installs.load(SeqCst);
                    thread::yield_now();
                    assert_eq!(side.installs.load(SeqCst), installs, "an install began after the kill");
                    side.killed.store(false, SeqCst);
                    side.device.enable().expect("dead");
                    *side.present.write() = side.device.open().expect("enabled");
                }
            });
        }
    });
    for side in &sides {
        assert_eq!(side.late.load(SeqCst), 0);
        assert!(side.installs.load(SeqCst) >= ROUNDS);
    }
}
