//! The generic device: access to its memory, alone and under a service.

use super::*;
use crate::ids::{MINORS, MinorPool};
use crate::testing::{G1, HostEpoch, device, phys};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use mm::range::MapSize;

/// A RAM disk of ten pages, whose objects are counted.
struct Ramdisk<'a>(&'a AtomicUsize);

impl DaxOperations for Ramdisk<'_> {
    fn direct_access(&self, page: u64, pages: u64) -> Option<PhysRange> {
        let left = 10u64.checked_sub(page)?;
        PhysRange::new(G1 + page * PAGE_SIZE, pages.min(left) * PAGE_SIZE)
    }

    fn flush(&self, _offset_bytes: u64, _len_bytes: u64) {}
}

impl Drop for Ramdisk<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);
const NAME: DeviceName = DeviceName { region: 9, id: 0 };

fn ramdisk(dropped: &'static AtomicUsize) -> DaxDevice {
    let minor = MinorPool::new(MINORS).lease().expect("free");
    DaxDevice::new(NAME, minor, HostEpoch::leak(), Arc::new(Ramdisk(dropped)))
}

#[test]
fn s2_6_direct_access_gives_what_is_left_and_refuses_the_rest() {
    let device = ramdisk(&DROPPED);
    device.enable().expect("born dead");
    let access = |page, pages| {
        let mut seen = Vec::new();
        (device.direct_access(page, pages, &mut |run| seen.push(run)), seen)
    };
    assert_eq!(access(0, 4), (Ok(4), [phys(G1, 4 * PAGE_SIZE)].to_vec()));
    assert_eq!(access(7, 100), (Ok(3), [phys(G1 + 7 * PAGE_SIZE, 3 * PAGE_SIZE)].to_vec()));
    assert_eq!(access(10, 1), (Err(DaxError::PastEnd { name: NAME, page: 10 }), Vec::new()));
    assert_eq!(access(u64::MAX, 1).0, Err(DaxError::PastEnd { name: NAME, page: u64::MAX }));
    assert_eq!(access(0, 0), (Err(DaxError::NoPages { name: NAME }), Vec::new()));
}

#[test]
fn s2_3_a_dead_device_gives_no_access() {
    let device = ramdisk(&DROPPED);
    let dead = DaxError::Lifetime { name: NAME, why: LifetimeError::Dead };
    assert_eq!(device.direct_access(0, 1, &mut |_| panic!("disabled")), Err(dead));
    device.enable().expect("born dead");
    assert!(device.kill().is_ok());
    assert_eq!(device.direct_access(0, 1, &mut |_| panic!("killed")), Err(dead));
    assert_eq!(device.flush(0, 1), Err(dead));
}

#[test]
fn s2_3_the_memory_is_held_while_a_user_has_it() {
    let device = ramdisk(&DROPPED);
    device.enable().expect("born dead");
    let mut kill = None;
    assert_eq!(device.direct_access(0, 1, &mut |_| kill = Some(device.kill())), Ok(1));
    let why = LifetimeError::PinHeld;
    assert_eq!(kill, Some(Err(DaxError::Lifetime { name: NAME, why })));
}

#[test]
fn s2_5_the_object_is_freed_once_after_its_last_user() {
    static DROPPED_HERE: AtomicUsize = AtomicUsize::new(0);
    let first = Arc::new(ramdisk(&DROPPED_HERE));
    let second = first.clone();
    drop(first);
    assert_eq!(DROPPED_HERE.load(Ordering::SeqCst), 0);
    drop(second);
    assert_eq!(DROPPED_HERE.load(Ordering::SeqCst), 1);
}

#[test]
fn s2_2_killing_the_object_stops_both_the_service_and_direct_access() {
    let device = device(MapSize::Size2M);
    let below = device.device().clone();
    assert_eq!(below.direct_access(0, 1, &mut |_| ()), Ok(1));
    assert!(device.open().is_ok());
    assert!(below.kill().is_ok());
    assert!(below.direct_access(0, 1, &mut |_| ()).is_err());
    assert!(device.open().is_err());
}
