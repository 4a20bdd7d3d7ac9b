//! What structures must be to each other: one test for each rule, with the words of its refusal.

mod table;

use nfit::{DeviceHandle, MAX_STRUCTURES, Nfit, RegionKind};
use table::{BLOCK, CONTROL, DISKS, Dcr, GIB, Map, Spa, Table, VOLATILE};

const NOTHING: [&str; 0] = [];

/// A second DIMM, range 4, at 8 GiB.
fn two_dimms() -> Table {
    Table::one_dimm()
        .spa(Spa { index: 4, base: 8 * GIB, ..Spa::default() })
        .map(Map { handle: 2, range: 4, dcr: 5, ..Map::default() })
        .dcr(Dcr { index: 5, serial: 7, ..Dcr::default() })
}

/// A lone SPA range must be refused in these words (after its name), and make no region.
#[track_caller]
fn refused(spa: Spa, words: &str) {
    let table = Table::default().spa(spa);
    assert_eq!(table.refusals(), [format!("SPA range {words} (table offset 0x28)")]);
    assert_eq!(table.regions(), []);
}

#[test]
fn good_ranges_become_regions_in_table_order() {
    assert_eq!(two_dimms().refusals(), NOTHING);
    assert_eq!(two_dimms().regions(), [(2, 4 * GIB), (4, 8 * GIB)]);
}

#[test]
fn structure_of_length_0_to_3_ends_the_walk() {
    for length in 0..4 {
        let mut table = Table::one_dimm().with_length(1, length, &[0; 44]);
        table.0.extend(two_dimms().0);
        let expected = format!(
            "mapping structure has length {length}, at least 4 is possible: the rest of the table \
             is not read (table offset 0xe0)"
        );
        assert_eq!(table.refusals(), [expected]);
        assert_eq!(table.regions(), [(2, 4 * GIB)]);
    }
}

#[test]
fn structure_past_the_table_end_ends_the_walk() {
    let table = Table::one_dimm().with_length(1, 49, &[0; 44]);
    let expected =
        "mapping structure has length 49, but the table ends after 48 bytes: not read (table offset 0xe0)";
    assert_eq!(table.refusals(), [expected]);
    assert_eq!(table.regions(), [(2, 4 * GIB)]);
}

#[test]
fn torn_header_at_the_end_is_reported() {
    let mut table = Table::one_dimm();
    table.0.extend([0; 3]);
    let expected =
        "3 bytes are left at the table's end, a structure starts with 4: not read (table offset 0xe0)";
    assert_eq!(table.refusals(), [expected]);
    assert_eq!(table.regions(), [(2, 4 * GIB)]);
}

#[test]
fn malformed_structure_costs_only_itself() {
    let mut table = Table::default().raw(0, &[0; 10]).raw(1, &[0; 10]).raw(4, &[0; 10]).raw(5, &[0; 10]);
    table.0.extend(Table::one_dimm().0);
    assert_eq!(table.refusals().len(), 4);
    assert_eq!(table.regions(), [(2, 4 * GIB)]);
}

#[test]
fn structures_past_the_bound_are_refused() {
    let mut table = Table::default();
    for _ in 0..MAX_STRUCTURES {
        table = table.raw(3, &[0; 4]);
    }
    assert_eq!(table.refusals(), NOTHING);
    table.0.extend(Table::one_dimm().0);
    let expected =
        "only 2048 structures are read: the last 184 bytes of the table are not (table offset 0x4028)";
    assert_eq!(table.refusals(), [expected]);
    assert_eq!(table.regions(), []);
}

#[test]
fn block_mode_range_is_refused_as_blk() {
    let words =
        "2 [0x100000000-0x13fffffff] is blk (NVDIMM control region): that mode is obsolete and has no memory";
    refused(Spa { guid: CONTROL, ..Spa::default() }, words);
    let words = "2 [0x100000000-0x13fffffff] is blk (NVDIMM block data window): that mode is obsolete \
                 and has no memory";
    refused(Spa { guid: BLOCK, ..Spa::default() }, words);
}

#[test]
fn virtual_disk_is_refused_as_dax() {
    let kinds =
        ["volatile virtual disk", "volatile virtual CD", "persistent virtual disk", "persistent virtual CD"];
    for (guid, kind) in DISKS.into_iter().zip(kinds) {
        let words = format!("0 [0x100000000-0x13fffffff] is a {kind}, not memory for dax");
        refused(Spa { index: 0, guid, ..Spa::default() }, &words);
    }
}

#[test]
fn unknown_guid_is_refused_and_printed() {
    let words = "2 [0x100000000-0x13fffffff] has unknown type GUID 13121110-1514-1716-1819-1a1b1c1d1e1f";
    refused(Spa { guid: core::array::from_fn(|i| 16 + i as u8), ..Spa::default() }, words);
}

#[test]
fn range_index_0_is_refused() {
    refused(Spa { index: 0, ..Spa::default() }, {
        "0 [0x100000000-0x13fffffff] has the reserved index 0, must have another"
    });
}

#[test]
fn empty_and_wrapping_ranges_are_refused() {
    refused(Spa { len: 0, ..Spa::default() }, "2 [0x100000000, 0x0 bytes] is empty");
    let wrapping = Spa { base: u64::MAX - 0xfff, len: 0x2000, ..Spa::default() };
    refused(wrapping, "2 [0xfffffffffffff000, 0x2000 bytes] wraps past the last address");
    let up_to_the_last = Table::default().spa(Spa { len: 0x1000, ..wrapping });
    assert_eq!(up_to_the_last.regions(), [(2, u64::MAX - 0xfff)]);
}

#[test]
fn range_of_torn_pages_is_refused() {
    let words =
        "2 [0x100000800-0x1400007ff] has base 0x100000800, length 0x40000000: must be multiples of 4096";
    refused(Spa { base: 4 * GIB + 0x800, ..Spa::default() }, words);
    let words = "2 [0x100000000-0x100000000] has base 0x100000000, length 0x1: must be multiples of 4096";
    refused(Spa { len: 1, ..Spa::default() }, words);
}

#[test]
fn range_that_may_not_be_cached_is_refused() {
    let words = "2 [0x100000000-0x13fffffff] has attributes UC|NV, dax needs WB (write-back, 0x8)";
    refused(Spa { attributes: 0x8001, ..Spa::default() }, words);
}

#[test]
fn repeated_range_index_keeps_the_first() {
    let table = Table::one_dimm().spa(Spa { base: 8 * GIB, ..Spa::default() });
    let expected = "SPA range 2 [0x200000000-0x23fffffff] has the index of SPA range 2 \
                    [0x100000000-0x13fffffff] at 0x28, which keeps it (table offset 0xe0)";
    assert_eq!(table.refusals(), [expected]);
    assert_eq!(table.regions(), [(2, 4 * GIB)]);
}

#[test]
fn exact_copy_of_a_range_makes_no_second_region() {
    let table = Table::one_dimm().spa(Spa::default());
    assert_eq!(table.refusals().len(), 1);
    assert_eq!(table.regions(), [(2, 4 * GIB)]);
}

#[test]
fn overlapping_range_is_refused_and_the_other_named() {
    let table = Table::default()
        .spa(Spa { index: 4, base: 5 * GIB - 0x1000, ..Spa::default() })
        .spa(Spa { index: 2, ..Spa::default() });
    let expected = "SPA range 2 [0x100000000-0x13fffffff] overlaps SPA range 4 [0x13ffff000-0x17fffefff] \
                    (table offset 0x60)";
    assert_eq!(table.refusals(), [expected]);
    assert_eq!(table.regions(), [(4, 5 * GIB - 0x1000)]);
}

#[test]
fn ranges_that_only_touch_are_both_taken() {
    let table = Table::default().spa(Spa::default()).spa(Spa { index: 4, base: 5 * GIB, ..Spa::default() });
    assert_eq!(table.regions(), [(2, 4 * GIB), (4, 5 * GIB)]);
}

#[test]
fn one_shared_byte_is_an_overlap() {
    for base in [5 * GIB - 1, 4 * GIB - 1] {
        let odd = Spa { index: 4, base, len: 2, ..Spa::default() };
        assert_eq!(Table::default().spa(odd).spa(Spa::default()).regions(), []);
    }
}

#[test]
fn range_inside_a_refused_one_is_refused_too() {
    let table = Table::default().spa(Spa { index: 6, guid: CONTROL, ..Spa::default() }).spa(Spa {
        index: 2,
        base: 4 * GIB + 0x1000,
        len: 0x1000,
        ..Spa::default()
    });
    assert_eq!(table.refusals().len(), 2);
    assert_eq!(table.regions(), []);
}

#[test]
fn range_with_more_than_32_mappings_is_refused() {
    let with_mappings = |count| {
        let table = Table::default().spa(Spa::default()).dcr(Dcr::default());
        (1..=count).fold(table, |table, handle| table.map(Map { handle, ..Map::default() }))
    };
    assert_eq!(with_mappings(32).regions(), [(2, 4 * GIB)]);
    assert_eq!(with_mappings(33).regions(), []);
    let expected =
        "SPA range 2 [0x100000000-0x13fffffff] has 33 mappings, at most 32 are possible (table offset 0x28)";
    assert_eq!(with_mappings(33).refusals(), [expected]);
}

/// `bad` as second mapping of range 2 is skipped in these words; the region stays and says that it is torn.
#[track_caller]
fn mapping_refused(bad: Map, words: &str) {
    let table = Table::one_dimm().dcr(Dcr { index: 5, serial: 7, ..Dcr::default() }).map(bad);
    assert_eq!(table.refusals(), [format!("{words} (table offset 0x130)")]);
    let bytes = table.bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    let region = parsed.regions().next().expect("the range itself is good");
    assert_eq!((region.mapping_count, region.refused_mappings), (1, usize::from(bad.range == 2)));
    assert_eq!(region.mappings().map(|mapping| mapping.memdev.device_handle.0).collect::<Vec<_>>(), [1]);
    assert_eq!(region.order_key(), (1, 4 * GIB));
}

#[test]
fn mapping_without_its_control_region_is_skipped() {
    let words = "mapping of DIMM 0x2 names control region 9, which is not in the table";
    mapping_refused(Map { handle: 2, dcr: 9, ..Map::default() }, words);
}

#[test]
fn mapping_that_names_no_control_region_is_taken() {
    let table = Table::default().spa(Spa::default()).map(Map { dcr: 0, ..Map::default() });
    assert_eq!(table.refusals(), NOTHING);
    let bytes = table.dcr(Dcr { index: 0, ..Dcr::default() }).bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    let region = parsed.regions().next().expect("the range is good");
    assert_eq!(region.mappings().next().expect("there is one").control_region, None);
    assert_eq!(parsed.dimms().next().expect("there is one").control_region, None);
}

#[test]
fn mapping_to_no_range_is_skipped() {
    let words = "mapping of DIMM 0x2 names SPA range 8, which is not in the table";
    mapping_refused(Map { handle: 2, dcr: 5, range: 8, ..Map::default() }, words);
}

#[test]
fn mapping_of_a_bad_piece_is_skipped() {
    let rule = "must be multiples of 4096, not empty, not wrapping";
    let words = format!("mapping of DIMM 0x2 has DIMM address 0x0, length 0x0: {rule}");
    mapping_refused(Map { handle: 2, dcr: 5, size: 0, ..Map::default() }, &words);
    let words = format!("mapping of DIMM 0x2 has DIMM address 0x200, length 0x40000000: {rule}");
    mapping_refused(Map { handle: 2, dcr: 5, dpa: 0x200, ..Map::default() }, &words);
    let words = format!("mapping of DIMM 0x2 has DIMM address 0xfffffffffffff000, length 0x40000000: {rule}");
    mapping_refused(Map { handle: 2, dcr: 5, dpa: u64::MAX - 0xfff, ..Map::default() }, &words);
}

#[test]
fn small_piece_of_a_control_range_is_nobodys_concern() {
    let table = Table::one_dimm()
        .spa(Spa { index: 6, guid: CONTROL, base: 1 << 40, ..Spa::default() })
        .map(Map { range: 6, size: 0x40, ..Map::default() });
    assert_eq!(table.refusals().len(), 1, "the range is blk, its mapping is not told");
}

#[test]
fn repeated_mapping_keeps_the_first() {
    let words = "mapping of DIMM 0x1 to SPA range 2 has the region id of the one at 0x60, which stays";
    mapping_refused(Map { dpa: GIB, ..Map::default() }, words);
}

#[test]
fn two_regions_of_a_dimm_may_serve_one_range() {
    let table = Table::one_dimm().map(Map { region_id: 1, dpa: GIB, ..Map::default() });
    assert_eq!(table.refusals(), NOTHING);
}

#[test]
fn handle_of_two_dimms_keeps_the_first() {
    let words = "mapping of DIMM 0x1 has another physical id or serial number than the mapping of this \
                 handle at 0x60, which stays";
    mapping_refused(Map { region_id: 1, dcr: 5, ..Map::default() }, words);
    mapping_refused(Map { region_id: 1, physical_id: 9, ..Map::default() }, words);
}

#[test]
fn repeated_control_region_keeps_the_first() {
    let table = Table::one_dimm().dcr(Dcr { serial: 9, ..Dcr::default() });
    let expected =
        "control region structure has index 3, which the one at 0x90 has and keeps (table offset 0xe0)";
    assert_eq!(table.refusals(), [expected]);
    let bytes = table.bytes();
    let dimm = Nfit::parse(&bytes).expect("the header is right").dimms().next().expect("there is one");
    assert_eq!(dimm.control_region.map(|region| region.serial), Some(0x12_3456));
    assert_eq!(Table::one_dimm().dcr(Dcr::default()).refusals(), NOTHING, "a copy says nothing else");
}

#[test]
fn repeated_interleave_keeps_the_first() {
    let table = Table::default().interleave(1, 2, 256, &[0, 1]).interleave(1, 2, 256, &[0, 2]);
    let expected =
        "interleave structure has index 1, which the one at 0x28 has and keeps (table offset 0x40)";
    assert_eq!(table.refusals(), [expected]);
    let table = Table::default().interleave(1, 1, 256, &[0]).interleave(1, 1, 256, &[0]);
    assert_eq!(table.refusals(), NOTHING, "a copy says nothing else");
}

#[test]
fn flush_hints_of_a_dimm_are_its_first() {
    let table = two_dimms().flush(2, 1, &[0xa000]).flush(1, 2, &[0xb000, 0xb008]).flush(2, 1, &[0xc000]);
    let expected = "flush hints of DIMM 0x2 are given twice, those at 0x198 stay (table offset 0x1d0)";
    assert_eq!(table.refusals(), [expected]);
    let bytes = table.bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    let hints = |handle| parsed.flush_hints(DeviceHandle(handle)).collect::<Vec<_>>();
    assert_eq!([hints(1), hints(2), hints(3)], [vec![0xb000, 0xb008], vec![0xa000], vec![]]);
}

#[test]
fn flush_hints_of_no_dimm_are_refused() {
    let table = Table::one_dimm().flush(0x31, 1, &[0xa000]);
    let expected = "flush hints are for DIMM 0x31, of which the table has no mapping (table offset 0xe0)";
    assert_eq!(table.refusals(), [expected]);
}

#[test]
fn repeated_capabilities_keep_the_first() {
    let table = Table::default().capabilities(1, 2).capabilities(1, 3);
    let expected = "platform capabilities are given twice, those at 0x28 stay (table offset 0x38)";
    assert_eq!(table.refusals(), [expected]);
    let bytes = table.bytes();
    let first = Nfit::parse(&bytes).expect("the header is right").capabilities().expect("there is one");
    assert_eq!(first.stored, 2);
}

#[test]
fn dimm_that_is_not_armed_makes_its_regions_read_only() {
    let table = two_dimms().map(Map { handle: 3, range: 4, state: 8, ..Map::default() });
    let bytes = table.bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    assert_eq!(parsed.regions().map(|region| region.read_only).collect::<Vec<_>>(), [false, true]);
    // Even when the mapping itself is refused: what it warns of is no less true.
    let bytes = Table::one_dimm().map(Map { handle: 3, dcr: 99, state: 8, ..Map::default() }).bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    assert!(parsed.regions().all(|region| region.read_only && region.refused_mappings == 1));
}

#[test]
fn regions_sort_by_lowest_handle_then_base() {
    let table = Table::default()
        .spa(Spa { index: 1, base: 10 * GIB, ..Spa::default() })
        .spa(Spa { index: 2, base: 20 * GIB, ..Spa::default() })
        .spa(Spa { index: 3, base: 30 * GIB, guid: VOLATILE, ..Spa::default() })
        .spa(Spa { index: 4, base: 40 * GIB, flags: 0, ..Spa::default() })
        .map(Map { range: 2, handle: 9, dcr: 0, ..Map::default() })
        .map(Map { range: 2, handle: 3, dcr: 0, ..Map::default() })
        .map(Map { range: 3, handle: 1, dcr: 0, ..Map::default() })
        .map(Map { range: 4, handle: 3, dcr: 0, region_id: 1, ..Map::default() });
    assert_eq!(table.refusals(), NOTHING);
    let bytes = table.bytes();
    let parsed = Nfit::parse(&bytes).expect("the header is right");
    let mut regions: Vec<_> = parsed.regions().collect();
    regions.sort_by_key(|region| region.order_key());
    let keys: Vec<_> = regions.iter().map(|region| (region.range_index, region.order_key().0)).collect();
    assert_eq!(keys, [(3, 1), (2, 3), (4, 3), (1, u32::MAX)]);
    assert_eq!(regions[0].kind, RegionKind::Volatile);
    assert_eq!((regions[0].proximity, regions[2].proximity), (Some(7), None));
}

#[test]
fn dimms_come_by_handle_and_prefer_the_control_region_with_windows() {
    let table = Table::one_dimm()
        .dcr(Dcr { index: 8, windows: 1, ..Dcr::default() })
        .map(Map { handle: 0x100, range: 0, ..Map::default() })
        .map(Map { range: 0, region_id: 1, dcr: 8, state: 0x20, ..Map::default() });
    assert_eq!(table.refusals(), NOTHING);
    let bytes = table.bytes();
    let dimms: Vec<_> = Nfit::parse(&bytes).expect("the header is right").dimms().collect();
    let seen: Vec<_> = dimms
        .iter()
        .map(|dimm| (dimm.handle.0, dimm.state.0, dimm.control_region.map(|region| region.index)))
        .collect();
    assert_eq!(seen, [(1, 0x20, Some(8)), (0x100, 0, Some(3))]);
}
