//! 2^20 devices: what they cost in memory and in time, and the storage of one that is open.
//!
//! A test of its own, for it counts every allocation of the process as the kernel's heap would have it: blocks of a
//! power of two, of which a frame holds as many as fit behind its header of 40 bytes; more than 1024 bytes are whole
//! frames.

mod common;

use common::{G1, config, phys, registry, sized};
use dax::{DaxError, DevDax, DeviceName, Registry, Scrub};
use mm::range::MapSize;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SMALL: MapSize = MapSize::Size4K;
const MINORS: u32 = 1 << 20;

/// Objects in use by size class (16 to 1024 bytes), and bytes of whole frames.
static OBJECTS: [AtomicI64; 7] = [const { AtomicI64::new(0) }; 7];
static FRAME_BYTES: AtomicI64 = AtomicI64::new(0);

struct Counting;

fn count(layout: Layout, sign: i64) {
    let size = layout.size().max(layout.align()).max(16).next_power_of_two();
    match OBJECTS.get(size.trailing_zeros() as usize - 4) {
        Some(objects) => objects.fetch_add(sign, Relaxed),
        None => FRAME_BYTES.fetch_add(sign * size.max(4096) as i64, Relaxed),
    };
}

// SAFETY: every call is passed on as it came; counting touches only atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes of the frames that the kernel's heap would have in use.
fn heap_bytes() -> i64 {
    let slabs = OBJECTS.iter().enumerate().map(|(class, objects)| {
        let size = 16u64 << class;
        let fit = (4096 - 40u64.next_multiple_of(size)) / size;
        (objects.load(Relaxed) as u64).div_ceil(fit) as i64 * 4096
    });
    slabs.sum::<i64>() + FRAME_BYTES.load(Relaxed)
}

/// A step of a pseudo-random sequence (Marsaglia's xorshift64).
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The shortest of some turns: what the machine does besides only adds.
fn shortest(mut turn: impl FnMut() -> Duration) -> Duration {
    (0..5).map(|_| turn()).min().unwrap_or_default()
}

fn random_name(state: &mut u64, devices: u32) -> String {
    format!("dax0.{}", next_random(state) % u64::from(devices))
}

/// Nanoseconds of an open, of a creation with its destruction, and of a step of a listing, by `devices` that exist.
fn costs(registry: &Registry, devices: u32, state: &mut u64) -> [f64; 3] {
    const OPENS: u32 = 2_000;
    let names: Vec<String> = (0..OPENS).map(|_| random_name(state, devices)).collect();
    let open = shortest(|| {
        let start = Instant::now();
        for name in &names {
            black_box(registry.by_name(name).expect("listed").open().expect("enabled"));
        }
        start.elapsed()
    });
    let region = registry.region(0).expect("the fixture's");
    let churn = shortest(|| {
        let start = Instant::now();
        for name in &names {
            let device = registry.by_name(name).expect("listed");
            device.kill().expect("enabled");
            registry.destroy_device(&device).expect("disabled");
            drop(device);
            registry.create_device(&region, sized(4096, SMALL)).expect("free").enable().expect("waived");
        }
        start.elapsed()
    });
    let list = shortest(|| {
        let start = Instant::now();
        let mut last = DeviceName { region: 0, id: (next_random(state) % u64::from(devices)) as u32 };
        for _ in 0..OPENS {
            last =
                registry.next_device(Some(last)).or_else(|| registry.next_device(None)).expect("some").name();
        }
        start.elapsed()
    });
    [open, churn, list].map(|time| time.as_nanos() as f64 / f64::from(OPENS))
}

#[test]
fn s1_1_s1_3_s5_1_s5_2_s5_3_a_million_devices_cost_the_same_as_a_thousand() {
    let registry = registry();
    let region = registry.add_region(config(0, phys(4 * G1, 8 * G1), SMALL)).expect("free");
    region.set_scrub(Scrub::Waived);
    let empty = heap_bytes();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut small = [0.0; 3];
    for steps in [1_000, 10_000, 100_000, MINORS] {
        while (registry.device_count() as u32) < steps {
            for _ in registry.device_count() as u32..steps {
                registry
                    .create_device(&region, sized(4096, SMALL))
                    .expect("free")
                    .enable()
                    .expect("never dirty");
            }
        }
        let each = (heap_bytes() - empty) as f64 / f64::from(steps);
        let cost = costs(registry, steps, &mut state);
        println!(
            "{steps} devices: {each:.0} bytes each; open {:.0}, destroy+create {:.0}, list {:.0} ns",
            cost[0], cost[1], cost[2]
        );
        assert!(each <= 256.0, "{each} bytes each");
        if steps == 1_000 {
            small = cost;
        }
        // Wide, for a host has caches and other work: a guest counts instructions. What grows with the devices grows by
        // a thousand here.
        assert!(
            cost.iter().zip(small).all(|(now, before)| *now < 20.0 * before),
            "{cost:?} against {small:?}"
        );
    }
    let none = DaxError::NoNumber { limit: MINORS };
    assert_eq!(registry.create_device(&region, sized(4096, SMALL)).err(), Some(none));
    assert_eq!(registry.by_number(MINORS - 1).map(|device| device.number()), Some(MINORS - 1));

    // An open descriptor holds the storage of a device, and its number, after that was destroyed.
    let open = registry.by_name("dax0.77").expect("listed").open().expect("enabled");
    let number = open.device().number();
    let mut order: Vec<u32> = (0..MINORS).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, (next_random(&mut state) % (last as u64 + 1)) as usize);
    }
    let destroyed = Instant::now();
    for id in order {
        let device: Arc<DevDax> = region.device(id).expect("listed");
        device.kill().expect("enabled");
        registry.destroy_device(&device).expect("disabled");
    }
    println!("destroyed in random order: {} ns each", destroyed.elapsed().as_nanos() / u128::from(MINORS));
    assert_eq!((registry.device_count(), region.available_bytes()), (0, 8 * G1));
    let weak = Arc::downgrade(open.device());
    assert!(weak.upgrade().is_some() && registry.by_number(number).is_none());
    drop(open);
    assert!(weak.upgrade().is_none(), "the storage went with the last descriptor");
    drop(weak);
    let left = heap_bytes() - empty;
    println!("{left} bytes are left");
    assert!(left <= 64 << 10, "{left} bytes are left when all are gone");
}
