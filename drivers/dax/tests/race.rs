//! Opens, look-ups and listings that race creation, resizing and destruction.

mod common;

use common::{G1, config, phys, registry, sized};
use dax::Scrub;
use mm::pager::Refusal;
use mm::range::MapSize;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

/// An open finds no device, or is refused, or has one of a size that some owner gave it; never a stale one. No number,
/// id or byte is lost.
#[test]
fn s5_4_an_open_that_races_a_delete_gets_a_device_or_a_refusal() {
    const ROUNDS: u64 = 2_000;
    const DEVICES: u64 = 8;
    let registry = registry();
    let region = registry.add_region(config(0, phys(4 * G1, G1), MapSize::Size4K)).expect("free");
    region.set_scrub(Scrub::Waived);
    let (done, opened, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for owner in 0..2 {
            let done = &done;
            let region = &region;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let device = registry.create_device(region, sized(4096, MapSize::Size4K)).expect("free");
                    assert!(u64::from(device.name().id) < DEVICES && device.number() < 64, "ids are reused");
                    device.enable().expect("waived");
                    device.kill().expect("only we kill it");
                    let device = match round % 3 {
                        0 => registry.resize(&device, (2 + owner) * 4096).expect("free"),
                        _ => device,
                    };
                    registry.destroy_device(&device).expect("disabled, and only we destroy it");
                }
                done.fetch_add(1, SeqCst);
            });
        }
        for start in 0..2u32 {
            let (done, opened, refused) = (&done, &opened, &refused);
            scope.spawn(move || {
                let mut number = start;
                while done.load(SeqCst) < 2 {
                    number = (number + 1) % 16;
                    let found = match number % 3 {
                        0 => registry.by_number(number),
                        1 => registry.by_name(if number < 8 { "dax0.0" } else { "dax0.1" }),
                        _ => registry.next_device(None),
                    };
                    let Some(device) = found else { continue };
                    match device.open() {
                        Ok(open) => {
                            assert!([1, 2, 3].contains(&(open.device().size_bytes() / 4096)));
                            opened.fetch_add(1, SeqCst);
                        }
                        Err(why) => {
                            assert_eq!(why, Refusal::Dead);
                            refused.fetch_add(1, SeqCst);
                        }
                    }
                }
            });
        }
    });
    println!("{} opened, {} refused", opened.load(SeqCst), refused.load(SeqCst));
    assert!(refused.load(SeqCst) > 0, "they never met");
    assert_eq!((registry.device_count(), region.available_bytes()), (0, G1));
    let next = registry.create_device(&region, sized(0, MapSize::Size4K)).expect("free");
    assert_eq!((next.name().id, next.number()), (0, 0));
}
