//! What a device tells about itself, a device of several ranges, and what enable refuses.

use super::*;
use crate::testing::{G1, M2, RecordingFlush, at, config, device, phys, registry};
use alloc::vec::Vec;
use mm::pager::Pager;
use std::string::ToString;

fn dax_of(config: crate::RegionConfig, ranges: &[PhysRange], align: MapSize) -> Arc<DevDax> {
    let registry = registry();
    let region = registry.add_region(config).expect("the fixture fits");
    let device = registry.create_device(&region, at(ranges, align)).expect("the fixture fits");
    device.enable().expect("born dead");
    device
}

#[test]
fn s7_4_what_a_device_tells_agrees_with_where_it_lies() {
    for align in MapSize::ALL {
        let device = device(align);
        assert_eq!(device.name().to_string(), "dax0.0");
        assert_eq!(device.align(), align);
        assert_eq!(device.size_bytes(), 4 * align.bytes());
        let whole = DevRange { offset_bytes: 0, phys: phys(4 * G1, 4 * align.bytes()) };
        assert!(device.ranges().eq([whole]));
        assert_eq!(device.region().id(), 0);
        for unit in 0..4 {
            let offset = unit * align.bytes();
            assert_eq!(device.offset_to_phys(offset, align), Some(phys(4 * G1 + offset, align.bytes())));
        }
        assert_eq!(device.offset_to_phys(4 * align.bytes(), align), None);
    }
}

#[test]
fn a_flush_reaches_each_range_and_ignores_what_is_past_the_end() {
    let flush = Arc::new(RecordingFlush::default());
    let mut config = config(3, phys(4 * G1, G1), MapSize::Size2M);
    config.flush = flush.clone();
    let parts = [phys(4 * G1, M2), phys(4 * G1 + 8 * M2, 2 * M2)];
    let device = dax_of(config, &parts, MapSize::Size2M);
    let open = device.open().expect("enabled");
    assert_eq!(open.flush(M2 - 64, u64::MAX), Ok(()));
    let expected = Vec::from([phys(4 * G1 + M2 - 64, 64), parts[1]]);
    assert_eq!(core::mem::take(&mut *flush.0.lock()), expected);

    assert_eq!(open.flush(3 * M2, 4096), Ok(()));
    assert!(flush.0.lock().is_empty(), "nothing lies past the end");
    assert!(device.kill().is_ok());
    assert_eq!(open.flush(0, 4096), Err(Refusal::Dead));
    assert!(flush.0.lock().is_empty());
}

#[test]
fn read_only_media_can_be_opened_but_never_mapped_writable() {
    let mut config = config(3, phys(4 * G1, G1), MapSize::Size2M);
    config.access = MediaAccess::ReadOnly;
    let read_only = dax_of(config, &[phys(4 * G1, M2)], MapSize::Size2M);
    let open = read_only.open().expect("enabled");
    assert_eq!(open.max_prot(), Prot::READ | Prot::EXEC);
    assert_eq!(device(MapSize::Size2M).max_prot(), Prot::READ | Prot::WRITE | Prot::EXEC);
}
