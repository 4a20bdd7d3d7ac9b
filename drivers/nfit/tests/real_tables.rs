//! Tables that QEMU made, `tests/acpi/*/NFIT.bin`, against what iasl, Linux and ndctl say of them.

use std::fs;
use std::path::Path;

use nfit::{
    Capabilities, ControlRegion, DeviceHandle, DimmState, Memdev, MemoryAttributes, Nfit, PersistenceDomain,
    RangeKind, RegionKind, SpaRange, Structure,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn read(configuration: &str) -> Vec<u8> {
    let acpi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/acpi");
    fs::read(acpi.join(configuration).join("NFIT.bin")).expect("the table is in the tree")
}

/// The structures of an NVDIMM as QEMU writes them, `slot` counted from 0.
fn nvdimm(slot: u16, base: u64, len_bytes: u64, state: u16) -> [Structure<'static>; 3] {
    let range_index = (slot + 1) * 2;
    let spa = SpaRange {
        range_index,
        flags: 3,
        proximity: Some(0),
        kind: RangeKind::Persistent,
        base,
        len_bytes,
        attributes: MemoryAttributes(0x8008),
        location_cookie: None,
    };
    let memdev = Memdev {
        device_handle: DeviceHandle(u32::from(slot) + 1),
        physical_id: 0,
        region_id: 0,
        range_index,
        control_region_index: range_index + 1,
        region_size: len_bytes,
        region_offset: 0,
        dpa: 0,
        interleave_index: 0,
        interleave_ways: 1,
        state: DimmState(state),
    };
    let control_region = ControlRegion {
        index: range_index + 1,
        vendor_id: 0x8086,
        device_id: 1,
        revision_id: 1,
        subsystem_vendor_id: 0,
        subsystem_device_id: 0,
        subsystem_revision_id: 0,
        manufacturing: None,
        serial: 0x12_3456 + u32::from(slot),
        format_code: 0x301,
        windows: 0,
    };
    [Structure::SpaRange(spa), Structure::Memdev(memdev), Structure::ControlRegion(control_region)]
}

fn structures<'a>(table: Nfit<'a>) -> Vec<Structure<'a>> {
    table.entries().map(|entry| entry.content.expect("QEMU writes well-formed structures")).collect()
}

#[test]
fn single_nolabel_is_what_linux_shows() {
    let bytes = read("single-nolabel");
    let table = Nfit::parse(&bytes).expect("QEMU's table is good");
    assert_eq!(table.revision(), Some(1));
    assert_eq!(structures(table), nvdimm(0, 4 * GIB, 4 * GIB, 0));
    assert_eq!(table.entries().map(|entry| entry.offset).collect::<Vec<_>>(), [0x28, 0x60, 0x90]);
    assert_eq!(table.refusals().count(), 0);

    let [region] = table.regions().collect::<Vec<_>>()[..] else { panic!("one region") };
    assert_eq!((region.kind, region.range_index), (RegionKind::Persistent, 2)); // region0/nfit/range_index
    assert_eq!((region.base, region.len_bytes, region.last()), (0x1_0000_0000, 4_294_967_296, 8 * GIB - 1));
    assert_eq!((region.proximity, region.read_only, region.table_offset), (Some(0), false, 0x28));
    assert_eq!((region.mapping_count, region.refused_mappings), (1, 0));
    assert_eq!(region.persistence.to_string(), "unknown"); // persistence_domain of ndctl list
    let mapping = region.mappings().next().expect("one mapping");
    assert_eq!((mapping.memdev.dpa, mapping.memdev.region_size), (0, 4_294_967_296));

    let [dimm] = table.dimms().collect::<Vec<_>>()[..] else { panic!("one DIMM") };
    let control_region = dimm.control_region.expect("QEMU writes one");
    assert_eq!((dimm.handle.0, dimm.physical_id, dimm.state.0), (1, 0, 0));
    assert_eq!(control_region.unique_id().to_string(), "8680-56341200"); // id of nmem0
    assert_eq!(control_region.format_code, 0x301); // nmem0/nfit/format
    assert_eq!(mapping.control_region, Some(control_region));
    assert_eq!(table.flush_hints(dimm.handle).count(), 0);
}

#[test]
fn persistence_cpu_says_cpu_cache() {
    let bytes = read("persistence-cpu");
    let table = Nfit::parse(&bytes).expect("QEMU's table is good");
    let capabilities = Capabilities { highest_bit: 1, stored: 3 };
    let [spa, memdev, control_region] = nvdimm(0, 4 * GIB, 4 * GIB, 0);
    assert_eq!(structures(table), [spa, memdev, control_region, Structure::Capabilities(capabilities)]);
    assert_eq!(table.capabilities(), Some(capabilities));
    assert_eq!(table.refusals().count(), 0);
    let region = table.regions().next().expect("one region");
    assert_eq!((region.persistence, region.len_bytes), (PersistenceDomain::CpuCache, 4 * GIB));
    assert_eq!(region.persistence.to_string(), "cpu_cache");
}

#[test]
fn unarmed_nvdimm_is_read_only() {
    let bytes = read("unarmed");
    let table = Nfit::parse(&bytes).expect("QEMU's table is good");
    assert_eq!(structures(table), nvdimm(0, 4 * GIB, 4 * GIB, 8));
    assert_eq!(table.refusals().count(), 0);
    let region = table.regions().next().expect("one region");
    assert!(region.read_only);
    assert!(region.mappings().all(|mapping| !mapping.memdev.state.armed()));
    assert_eq!(table.dimms().next().expect("one DIMM").state.to_string(), "not_armed"); // flag_failed_arm
}

#[test]
fn two_nvdimms_lie_one_behind_the_other() {
    let bytes = read("two-nvdimms");
    let table = Nfit::parse(&bytes).expect("QEMU's table is good");
    let first = nvdimm(0, 4 * GIB, 64 * MIB, 0);
    let second = nvdimm(1, 4 * GIB + 64 * MIB, 64 * MIB, 0);
    assert_eq!(structures(table), [first, second].concat());
    assert_eq!(table.refusals().count(), 0);
    let ids: Vec<_> = table.dimms().filter_map(|dimm| dimm.control_region).map(|dcr| dcr.serial).collect();
    assert_eq!(ids, [0x12_3456, 0x12_3457]);
}

#[test]
fn eight_labelled_are_listed_out_of_order_and_numbered_by_handle() {
    let bytes = read("eight-labelled");
    let table = Nfit::parse(&bytes).expect("QEMU's table is good");
    let listed = [4, 3, 2, 1, 7, 0, 6, 5];
    let base = |slot: u16| 4 * GIB + u64::from(slot) * 64 * MIB;
    let mut expected: Vec<_> =
        listed.iter().flat_map(|&slot| nvdimm(slot, base(slot), 64 * MIB, 0)).collect();
    expected.push(Structure::Capabilities(Capabilities { highest_bit: 1, stored: 2 }));
    assert_eq!(structures(table), expected);
    assert_eq!(table.refusals().count(), 0);
    assert_eq!(table.persistence(), PersistenceDomain::MemoryController);

    let mut regions: Vec<_> = table.regions().collect();
    regions.sort_by_key(|region| region.order_key());
    let numbered: Vec<_> = regions.iter().map(|region| region.base).collect();
    assert_eq!(numbered, (0..8).map(base).collect::<Vec<_>>());
    let handles: Vec<_> = table.dimms().map(|dimm| dimm.handle.0).collect();
    assert_eq!(handles, (1..=8).collect::<Vec<_>>());
}
