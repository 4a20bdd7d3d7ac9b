//! The generic device: access to its memory, alone and under a service; who holds it, and its end.

use super::*;
use crate::devices::DaxDevices;
use crate::holder::DaxHolder;
use crate::testing::{G1, HostEpoch, device, phys, registry, registry_with_region, sized};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use mm::range::MapSize;
use spin::Mutex;
use std::string::{String, ToString};

/// A RAM disk of ten pages, whose objects are counted.
struct Ramdisk(u32, &'static AtomicUsize);

impl DaxOperations for Ramdisk {
    fn name(&self) -> DaxName {
        DaxName::Host("ram", self.0)
    }

    fn direct_access(&self, page: u64, pages: u64) -> Result<Option<PhysRange>, Unsupported> {
        let Some(left) = 10u64.checked_sub(page) else { return Ok(None) };
        Ok(PhysRange::new(G1 + page * PAGE_SIZE, pages.min(left) * PAGE_SIZE))
    }

    fn zero_page(&self, page_range: PhysRange) -> Result<(), Unsupported> {
        assert_eq!(page_range, phys(G1 + 3 * PAGE_SIZE, PAGE_SIZE));
        Ok(())
    }

    fn flush(&self, _offset_bytes: u64, _len_bytes: u64) -> Result<(), Unsupported> {
        Ok(())
    }
}

impl Drop for Ramdisk {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// A name and nothing else.
struct Nothing;

impl DaxOperations for Nothing {
    fn name(&self) -> DaxName {
        NAME
    }
}

/// Notes what it is told.
#[derive(Default)]
struct FileSystem(Mutex<Vec<String>>);

impl DaxHolder for FileSystem {
    fn name(&self) -> &'static str {
        "fs"
    }

    fn notify_failure(&self, offset_bytes: u64, len_bytes: u64) {
        self.0.lock().push(std::format!("lost {offset_bytes}+{len_bytes}"));
    }

    fn removed(&self) {
        self.0.lock().push("removed".to_string());
    }
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);
const NAME: DaxName = DaxName::Host("ram", 9);

fn ramdisk(devices: &DaxDevices) -> Arc<DaxDevice<Ramdisk>> {
    devices.register(Ramdisk(9, &DROPPED)).expect("free")
}

#[test]
fn s2_6_direct_access_gives_what_is_left_and_refuses_the_rest() {
    let device = ramdisk(registry().devices());
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
    let device = ramdisk(registry().devices());
    let dead = DaxError::Lifetime { name: NAME, why: LifetimeError::Dead };
    assert!(device.shut_down().is_ok());
    assert_eq!(device.direct_access(0, 1, &mut |_| panic!("dead")), Err(dead));
    assert_eq!(device.zero_page_range(0, 1), Err(dead));
    assert_eq!(device.flush(0, 1), Err(dead));
    assert_eq!(device.shut_down(), Err(dead));
}

#[test]
fn s2_3_the_memory_is_held_while_a_user_has_it() {
    let device = ramdisk(registry().devices());
    let mut end = None;
    assert_eq!(device.direct_access(0, 1, &mut |_| end = Some(device.shut_down())), Ok(1));
    let why = LifetimeError::PinHeld;
    assert_eq!(end, Some(Err(DaxError::Lifetime { name: NAME, why })));
}

#[test]
fn s2_6_pages_are_zeroed_one_at_a_time_and_only_where_the_provider_can() {
    let devices = registry().devices();
    let device = ramdisk(devices);
    assert_eq!(device.zero_page_range(3, 1), Ok(()));
    assert_eq!(device.zero_page_range(10, 1), Err(DaxError::PastEnd { name: NAME, page: 10 }));
    for pages in [0, 2] {
        assert_eq!(device.zero_page_range(3, pages), Err(DaxError::ManyPages { name: NAME, pages }));
    }
    let none = DaxDevices::new(device.epoch(), 1).register(Nothing).expect("free");
    let why = DaxError::NoOperation { name: NAME };
    assert_eq!(none.direct_access(0, 1, &mut |_| panic!("no memory")), Err(why));
    assert_eq!(none.zero_page_range(0, 1), Err(why));
    assert_eq!(none.flush(0, 1), Err(why));
    assert!(none.shut_down().is_ok());
}

#[test]
fn s2_1_a_device_without_a_service_is_found_by_number_and_by_name() {
    let (registry, region) = registry_with_region(MapSize::Size2M);
    let first = registry.create_device(&region, sized(0, MapSize::Size2M)).expect("free");
    let ram = ramdisk(registry.devices());
    assert_eq!((ram.number(), ram.host_name().to_string().as_str()), (1, "ram9"));
    let found = registry.devices().by_number(1).expect("listed");
    assert_eq!(found.direct_access(9, 9, &mut |_| ()), Ok(1));
    assert!(registry.by_number(1).is_none() && registry.by_name("ram9").is_none(), "nobody maps it");
    assert_eq!(registry.by_host_name("dax0.0").map(|device| device.number()), Some(first.number()));
    assert!(registry.by_host_name("ram8").is_none());

    let again = registry.devices().register(Ramdisk(9, &DROPPED)).expect_err("a second ram9");
    assert_eq!(again, DaxError::NameExists { name: NAME });
    assert_eq!(
        registry.devices().unregister(&*ram).expect_err("alive").to_string(),
        "ram9 is enabled: disable it first"
    );
    assert!(ram.shut_down().is_ok());
    assert_eq!(registry.devices().unregister(&*ram), Ok(()));
    assert!(registry.by_host_name("ram9").is_none() && registry.devices().by_number(1).is_none());
    let gone = DaxError::NoSuchDevice { name: NAME };
    assert_eq!(registry.devices().unregister(&*ram), Err(gone));
}

#[test]
fn s2_5_two_lookups_give_one_object_which_is_freed_once_after_its_last_user() {
    static DROPPED_HERE: AtomicUsize = AtomicUsize::new(0);
    let registry = registry();
    let made = registry.devices().register(Ramdisk(9, &DROPPED_HERE)).expect("free");
    let first = registry.devices().by_number(0).expect("listed");
    let second = registry.by_host_name("ram9").expect("listed");
    assert!(Arc::ptr_eq(&first, &second));
    assert!(made.shut_down().is_ok());
    assert_eq!(registry.devices().unregister(&first), Ok(()));
    drop((made, first));
    assert_eq!(DROPPED_HERE.load(Ordering::SeqCst), 0);
    let next = registry.devices().register(Nothing).expect("the name is free");
    assert_eq!(next.number(), 1, "the number is in use for as long as the object");
    drop(second);
    assert_eq!(DROPPED_HERE.load(Ordering::SeqCst), 1);
}

#[test]
fn s2_2_detaching_the_service_leaves_direct_access_and_ending_the_object_stops_both() {
    let dev_dax = device(MapSize::Size2M);
    let below: Arc<DaxDevice> = dev_dax.clone();
    assert_eq!(below.direct_access(0, 1, &mut |_| ()), Ok(1));
    assert!(dev_dax.kill().is_ok());
    assert!(dev_dax.open().is_err());
    assert_eq!(below.direct_access(0, 1, &mut |_| ()), Ok(1));

    assert!(dev_dax.enable().is_ok() && dev_dax.open().is_ok());
    assert!(below.shut_down().is_ok());
    assert!(below.direct_access(0, 1, &mut |_| ()).is_err());
    assert!(dev_dax.open().is_err());
}

#[test]
fn s2_2_a_holder_is_alone_and_is_told_of_failure_and_of_the_end() {
    let device: Arc<DaxDevice> = ramdisk(registry().devices());
    let fs = Arc::new(FileSystem::default());
    assert!(!device.notify_failure(0, 4096), "nobody to tell");
    let hold = device.hold(fs.clone()).expect("free");
    let error = device.hold(Arc::new(FileSystem::default())).err().expect("held");
    assert_eq!(error.to_string(), "ram9 is held by fs");
    assert!(hold.device().notify_failure(4096, 8192));
    drop(hold);
    assert!(!device.notify_failure(0, 4096));

    let hold = device.hold(fs.clone()).expect("free again");
    assert!(device.shut_down().is_ok());
    drop(hold);
    assert_eq!(*fs.0.lock(), ["lost 4096+8192", "removed"]);
    let dead = DaxError::Lifetime { name: NAME, why: LifetimeError::Dead };
    assert_eq!(device.hold(fs).err(), Some(dead));
}

/// Keeps the last line of the log.
#[cfg(not(feature = "checks"))]
fn freed_alive(free: impl FnOnce()) -> String {
    static LINES: Mutex<String> = Mutex::new(String::new());
    struct Lines;
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            *LINES.lock() = record.args().to_string();
        }
        fn flush(&self) {}
    }
    log::set_logger(&Lines).expect("no other test logs");
    log::set_max_level(log::LevelFilter::Error);
    free();
    LINES.lock().clone()
}

#[cfg(feature = "checks")]
fn freed_alive(free: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(free)).expect_err("it panics");
    *panic.downcast::<String>().expect("it says why")
}

#[test]
fn s2_4_freeing_an_alive_device_is_diagnosed_by_name() {
    let said = freed_alive(|| {
        let devices = DaxDevices::new(HostEpoch::leak(), 1);
        drop(ramdisk(&devices));
        drop(devices);
    });
    assert_eq!(said, "ram9 was freed while it was alive: shut it down first");
}
