//! Each structure type: every field from its place, and each way in which its own bytes can be wrong.

mod table;

use nfit::{
    BlockDataWindow, Capabilities, DeviceHandle, DimmState, Guid, MemoryAttributes, Nfit, PersistenceDomain,
    RangeKind, Structure, StructureType,
};
use table::{BLOCK, CONTROL, DISKS, Dcr, Map, PM, Spa, Table, VOLATILE, dcr_body, map_body, spa_body};

/// A structure whose byte at offset `n` is `n`: each field then tells where it was read.
fn counted(kind: u16, length: u8) -> Table {
    let body: Vec<u8> = (4..length).collect();
    Table::default().raw(kind, &body)
}

fn le(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Parses the one structure of `table`, refused or not.
fn only<T>(table: &Table, look: impl FnOnce(Structure<'_>) -> T) -> T {
    let bytes = table.bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    let mut entries = parsed.entries();
    let content = entries.next().expect("there is one").content;
    assert!(entries.next().is_none(), "one structure only");
    look(content.expect("the structure is well-formed"))
}

/// The one refusal of the one structure of `table`.
fn refusal(table: &Table) -> String {
    let refusals = table.refusals();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    refusals[0].clone()
}

#[test]
fn spa_range_fields_are_read_from_their_places() {
    let table = counted(0, 56); // flags = 0x0706: proximity valid and, alas, a cookie
    let at = |offset, width| le(&table.0, offset, width);
    let mut with_cookie = counted(0, 64);
    let cookie = at_of(&with_cookie, 56);
    only(&with_cookie, |structure| {
        let Structure::SpaRange(spa) = structure else { panic!("{structure:?}") };
        assert_eq!(u64::from(spa.range_index), at(4, 2));
        assert_eq!(u64::from(spa.flags), at(6, 2));
        assert_eq!(spa.proximity.map(u64::from), Some(at(12, 4)));
        let guid: [u8; 16] = core::array::from_fn(|i| 16 + i as u8);
        assert_eq!(spa.kind, RangeKind::Unknown(Guid(guid)));
        assert_eq!((spa.base, spa.len_bytes), (at(32, 8), at(40, 8)));
        assert_eq!((spa.attributes.0, spa.location_cookie), (at(48, 8), Some(cookie)));
    });
    with_cookie.0[6] = 4; // no valid proximity
    only(&with_cookie, |structure| {
        let Structure::SpaRange(spa) = structure else { panic!("{structure:?}") };
        assert_eq!((spa.proximity, spa.location_cookie), (None, Some(cookie)));
    });
}

fn at_of(table: &Table, offset: usize) -> u64 {
    le(&table.0, offset, 8)
}

#[test]
fn spa_range_length_follows_the_cookie_flag() {
    let body = spa_body(Spa { flags: 0, ..Spa::default() });
    let cookie_body = [spa_body(Spa { flags: 4, ..Spa::default() }).as_slice(), &[9; 8]].concat();
    assert_eq!(Table::default().raw(0, &body).refusals(), [""; 0]);
    assert_eq!(Table::default().raw(0, &cookie_body).refusals(), [""; 0]);
    assert_eq!(
        refusal(&Table::default().raw(0, &[body.as_slice(), &[0; 8]].concat())),
        "SPA range structure has length 64, must have 56: 64 if flag bit 2 announces a location cookie, \
         otherwise 56 (table offset 0x28)"
    );
    assert_eq!(
        refusal(&Table::default().raw(0, &cookie_body[..52])),
        "SPA range structure has length 56, must have 64: 64 if flag bit 2 announces a location cookie, \
         otherwise 56 (table offset 0x28)"
    );
    assert_eq!(
        refusal(&Table::default().raw(0, &body[..51])),
        "SPA range structure has length 55, must have at least 56 (table offset 0x28)"
    );
}

#[test]
fn every_guid_of_the_specification_is_known() {
    let kind = |guid| {
        only(&Table::default().spa(Spa { guid, ..Spa::default() }), |structure| match structure {
            Structure::SpaRange(spa) => spa.kind,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(kind(PM), RangeKind::Persistent);
    assert_eq!(kind(VOLATILE), RangeKind::Volatile);
    assert_eq!(kind(CONTROL), RangeKind::ControlRegion);
    assert_eq!(kind(BLOCK), RangeKind::BlockDataWindow);
    let disks =
        [RangeKind::VolatileDisk, RangeKind::VolatileCd, RangeKind::PersistentDisk, RangeKind::PersistentCd];
    assert_eq!(DISKS.map(kind), disks);
}

#[test]
fn memory_attributes_are_named() {
    assert_eq!(MemoryAttributes(0x8008).to_string(), "WB|NV");
    assert_eq!(MemoryAttributes(0).to_string(), "0x0");
    assert_eq!(MemoryAttributes(0x0f_f01f).to_string(), {
        "UC|WC|WT|WB|UCE|WP|RP|XP|NV|MORE_RELIABLE|RO|SP|CPU_CRYPTO"
    });
    assert_eq!(MemoryAttributes(0x8000_0000_0000_0001).to_string(), "UC|0x8000000000000000");
}

#[test]
fn mapping_fields_are_read_from_their_places() {
    let table = counted(1, 48);
    let at = |offset, width| le(&table.0, offset, width);
    only(&table, |structure| {
        let Structure::Memdev(map) = structure else { panic!("{structure:?}") };
        assert_eq!(u64::from(map.device_handle.0), at(4, 4));
        let ids = [map.physical_id, map.region_id, map.range_index, map.control_region_index];
        assert_eq!(ids.map(u64::from), [at(8, 2), at(10, 2), at(12, 2), at(14, 2)]);
        assert_eq!([map.region_size, map.region_offset, map.dpa], [at(16, 8), at(24, 8), at(32, 8)]);
        let rest = [map.interleave_index, map.interleave_ways, map.state.0];
        assert_eq!(rest.map(u64::from), [at(40, 2), at(42, 2), at(44, 2)]);
    });
}

#[test]
fn mapping_of_another_length_is_refused() {
    let body = [map_body(Map::default()).as_slice(), &[0; 4]].concat();
    let expected = "mapping structure has length 52, must have 48 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().raw(1, &body)), expected);
    let expected = "mapping structure has length 44, must have 48 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().raw(1, &body[..40])), expected);
}

#[test]
fn device_handle_falls_into_its_parts() {
    let handle = DeviceHandle(0x0abc_d321);
    assert_eq!([handle.dimm(), handle.channel(), handle.memory_controller()], [1, 2, 3]);
    assert_eq!([handle.socket(), handle.node()], [0xd, 0xabc]);
    assert_eq!(handle.to_string(), "0xabcd321");
}

#[test]
fn dimm_state_is_named_as_linux_does() {
    assert_eq!(DimmState(0).to_string(), "");
    assert_eq!(DimmState(0b100_1000).to_string(), "not_armed map_fail");
    assert!(!DimmState(8).armed() && DimmState(0xfff7).armed());
    assert!(DimmState(0x40).map_failed() && !DimmState(0xffbf).map_failed());
}

#[test]
fn interleave_lines_are_read() {
    only(&Table::default().interleave(6, 3, 256, &[0, 2, 0x0102_0304]), |structure| {
        let Structure::Interleave(interleave) = structure else { panic!("{structure:?}") };
        assert_eq!((interleave.index, interleave.line_size), (6, 256));
        assert_eq!(interleave.line_offsets().collect::<Vec<_>>(), [0, 2, 0x0102_0304]);
    });
}

#[test]
fn interleave_count_past_its_length_is_refused() {
    let expected = "interleave structure claims 3 items, its length 24 has room for 2 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().interleave(6, 3, 256, &[0, 2])), expected);
    let huge = refusal(&Table::default().interleave(6, u32::MAX, 256, &[0, 2]));
    assert!(huge.starts_with("interleave structure claims 4294967295 items, its length 24"), "{huge}");
    let expected = "interleave structure has length 15, must have at least 16 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().raw(2, &[0; 11])), expected);
}

#[test]
fn smbios_records_are_handed_out_as_bytes() {
    only(&counted(3, 12), |structure| assert_eq!(structure, Structure::Smbios(&[8, 9, 10, 11])));
    only(&counted(3, 8), |structure| assert_eq!(structure, Structure::Smbios(&[])));
    let expected = "SMBIOS structure has length 7, must have at least 8 (table offset 0x28)";
    assert_eq!(refusal(&counted(3, 7)), expected);
}

#[test]
fn control_region_fields_are_read_from_their_places() {
    let mut table = counted(4, 80);
    let stored = table.0.clone();
    let at = |offset, width| le(&stored, offset, width);
    table.0[18] = 1;
    only(&table, |structure| {
        let Structure::ControlRegion(dcr) = structure else { panic!("{structure:?}") };
        let ids = [dcr.index, dcr.vendor_id, dcr.device_id, dcr.revision_id];
        assert_eq!(ids.map(u64::from), [at(4, 2), at(6, 2), at(8, 2), at(10, 2)]);
        let sub = [dcr.subsystem_vendor_id, dcr.subsystem_device_id, dcr.subsystem_revision_id];
        assert_eq!(sub.map(u64::from), [at(12, 2), at(14, 2), at(16, 2)]);
        assert_eq!(dcr.manufacturing, Some((19, 0x1514)));
        assert_eq!(u64::from(dcr.serial), at(24, 4));
        assert_eq!([dcr.format_code, dcr.windows].map(u64::from), [at(28, 2), at(30, 2)]);
        assert_eq!(dcr.unique_id().to_string(), "0607-13-1415-18191a1b");
    });
}

#[test]
fn control_region_needs_its_window_registers_only_with_windows() {
    let short = |windows| Table::default().raw(4, &dcr_body(Dcr { windows, ..Dcr::default() })[..28]);
    assert_eq!(short(0).refusals(), [""; 0]);
    let expected = "control region structure has length 32, must have at least 80 (table offset 0x28)";
    assert_eq!(refusal(&short(1)), expected);
    let expected = "control region structure has length 31, must have at least 32 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().raw(4, &[0; 27])), expected);
    only(&short(0), |structure| {
        let Structure::ControlRegion(dcr) = structure else { panic!("{structure:?}") };
        assert_eq!((dcr.manufacturing, dcr.unique_id().to_string()), (None, "8680-56341200".into()));
    });
}

#[test]
fn block_data_window_fields_are_read_from_their_places() {
    let table = counted(5, 40);
    let at = |offset| le(&table.0, offset, 8);
    let expected = BlockDataWindow {
        control_region_index: 0x0504,
        windows: 0x0706,
        offset: at(8),
        size: at(16),
        capacity: at(24),
        start: at(32),
    };
    only(&table, |structure| assert_eq!(structure, Structure::BlockDataWindow(expected)));
    let message = "block data window structure has length 48, must have 40 (table offset 0x28)";
    assert_eq!(refusal(&counted(5, 48)), message);
}

#[test]
fn flush_hints_are_read() {
    only(&Table::default().flush(0x12, 2, &[0xfee0_1000, u64::MAX]), |structure| {
        let Structure::FlushHints(hints) = structure else { panic!("{structure:?}") };
        assert_eq!(hints.device_handle, DeviceHandle(0x12));
        assert_eq!(hints.addresses().collect::<Vec<_>>(), [0xfee0_1000, u64::MAX]);
    });
}

#[test]
fn flush_hint_count_past_its_length_is_refused() {
    let expected = "flush hint structure claims 3 items, its length 32 has room for 2 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().flush(1, 3, &[1, 2])), expected);
    let expected = "flush hint structure has length 12, must have at least 16 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().raw(6, &[0; 8])), expected);
}

#[test]
fn capabilities_above_the_highest_bit_mean_nothing() {
    let effective = |highest_bit, stored| Capabilities { highest_bit, stored }.effective();
    assert_eq!(effective(0, 0xffff_ffff), 1);
    assert_eq!(effective(1, 0xffff_ffff), 3);
    assert_eq!(effective(30, 0xffff_ffff), 0x7fff_ffff);
    assert_eq!([31, 32, 255].map(|bit| effective(bit, 0xffff_ffff)), [0xffff_ffff; 3]);
    assert!(!Capabilities { highest_bit: 1, stored: 7 }.mirroring());
    assert!(Capabilities { highest_bit: 2, stored: 4 }.mirroring());
}

#[test]
fn persistence_domain_follows_effective_capabilities() {
    let domain = |highest_bit, bits| {
        let bytes = Table::default().capabilities(highest_bit, bits).bytes();
        Nfit::parse(&bytes).expect("the header is right").persistence()
    };
    assert_eq!(domain(1, 3), PersistenceDomain::CpuCache);
    assert_eq!(domain(0, 1), PersistenceDomain::CpuCache); // eADR implies ADR
    assert_eq!(domain(1, 2), PersistenceDomain::MemoryController);
    assert_eq!(domain(0, 2), PersistenceDomain::Unknown);
    assert_eq!(domain(2, 4), PersistenceDomain::Unknown);
    let message = "platform capabilities structure has length 12, must have at least 16 (table offset 0x28)";
    assert_eq!(refusal(&Table::default().raw(7, &[1, 0, 0, 0, 3, 0, 0, 0])), message);
}

#[test]
fn reserved_type_is_skipped_by_its_length() {
    let table = Table(counted(9, 21).0.into_iter().chain(Table::one_dimm().0).collect());
    let bytes = table.bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    assert_eq!(
        parsed.entries().next().expect("it is listed").content,
        Ok(Structure::Unknown(StructureType(9)))
    );
    assert_eq!(
        table.refusals(),
        ["structure of type 9 is skipped: ACPI 6.5 has types 0 to 7 (table offset 0x28)"]
    );
    assert_eq!(table.regions().len(), 1);
}
