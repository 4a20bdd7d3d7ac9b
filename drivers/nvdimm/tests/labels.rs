//! Label areas: which index is current, which labels count, and what never counts as bare.

mod common;

use common::{Area, BASE, Create, GIB, MIB, Mailbox, head_with, put, seal};
use nvdimm::identify;
use nvdimm::{ActiveSlot, Error, Extent, Found, HEAD_BYTES, LabelFormat, LabelIndex, Map, Structure};
use uuid::{Uuid, uuid};

const DAX: Uuid = uuid!("97a86d9c-3cdd-4eda-986f-5068b4f80088");
const NAMESPACE: Extent = Extent { base_phys: BASE, len_bytes: GIB };
const FORMATS: [LabelFormat; 2] = [LabelFormat::V1_1, LabelFormat::V1_2];

fn current(area: &Area) -> Result<Option<LabelIndex>, Error> {
    LabelIndex::current(&mut &area.bytes[..])
}

fn identify_area(area: &[u8]) -> Found {
    identify(&[0; HEAD_BYTES], Some(area), NAMESPACE)
}

fn stored(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn initialised_areas_have_linux_checksums() {
    let mut area = Area::initialised(LabelFormat::V1_2);
    assert_eq!(stored(area.index(0), 64), 0xe793_e3ed_1832_3c1c);
    assert_eq!(stored(area.index(1), 64), 0xe793_e7b2_1832_3c1b);
    let mut area = Area::initialised(LabelFormat::V1_1);
    assert_eq!(stored(area.index(0), 64), 0xdb63_4621_e731_3e0a);
}

#[test]
fn initialised_areas_are_read_back() {
    for (format, slots) in [(LabelFormat::V1_1, 1020), (LabelFormat::V1_2, 510)] {
        let index = current(&Area::initialised(format)).unwrap().unwrap();
        assert_eq!((index.format(), index.slots(), index.sequence()), (format, slots, 3));
    }
}

#[test]
fn slot_count_of_older_kernels_is_accepted() {
    let mut area = Area::initialised(LabelFormat::V1_1);
    put(area.index(0), 56, 1016u32.to_le_bytes());
    seal(area.index(0), 64);
    assert_eq!(current(&area).unwrap().unwrap().slots(), 1016);
}

#[test]
fn area_without_labels_is_bare() {
    assert_eq!(identify_area(&Area::zeroed()), Found::Bare);
    assert_eq!(identify_area(&[]), Found::Bare);
    assert_eq!(identify_area(&[0xff; 1023]), Found::Bare);
    for format in FORMATS {
        assert_eq!(identify_area(&Area::initialised(format).bytes), Found::Bare);
    }
}

#[test]
fn info_block_counts_beside_an_area_without_labels() {
    let block = Create::devdax(GIB, Map::Mem, 2 * MIB).block().unwrap();
    let area = Area::initialised(LabelFormat::V1_2);
    let found = identify(&head_with(4096, &block), Some(&area.bytes[..]), NAMESPACE);
    assert!(matches!(found, Found::DevDax(_)), "{found}");
}

#[test]
fn area_without_labels_costs_four_small_reads() {
    let area = Area::zeroed();
    let mut mailbox = Mailbox::new(&area);
    assert_eq!(identify(&[0; HEAD_BYTES], Some(&mut mailbox), NAMESPACE), Found::Bare);
    assert_eq!(mailbox.reads, 4);
}

#[test]
fn successor_in_1_2_3_1_is_current() {
    // (sequence of block 0, of block 1, the current one's); equal ones give the second.
    let cases = [(3, 2, 3), (3, 1, 1), (1, 2, 2), (2, 1, 2), (2, 3, 3), (1, 3, 1), (2, 2, 2)];
    for format in FORMATS {
        for (first, second, expected) in cases {
            let mut area = Area::initialised(format);
            area.write_label(7, b"in block 0", DAX);
            area.write_label(8, b"in block 1", DAX);
            area.write_index(0, first, &[7]);
            area.write_index(1, second, &[8]);
            assert_eq!(current(&area).unwrap().unwrap().sequence(), expected);
            let Found::Labelled(found) = identify_area(&area.bytes) else { panic!() };
            let block_0 = expected == first && first != second;
            assert_eq!(found.first.slot, if block_0 { 7 } else { 8 }, "{first} {second}");
        }
    }
}

#[test]
fn torn_index_leaves_the_other_one() {
    for torn in [0, 1] {
        let mut area = Area::initialised(LabelFormat::V1_2);
        area.index(torn)[100] ^= 0x40;
        assert_eq!(current(&area).unwrap().unwrap().sequence(), if torn == 0 { 2 } else { 3 });
    }
}

#[test]
fn area_with_only_wrong_indexes_is_damage() {
    let mut area = Area::initialised(LabelFormat::V1_2);
    area.index(0)[200] ^= 1;
    area.index(1)[200] ^= 1;
    let found = identify_area(&area.bytes);
    let Found::Damaged { what: Structure::LabelArea, why: Error::Checksum { stored, computed } } = found
    else {
        panic!("{found}")
    };
    assert_eq!(stored, 0xe793_e3ed_1832_3c1c);
    assert_eq!(
        found.to_string(),
        format!("damaged label area: checksum is {stored:#018x}, its bytes give {computed:#018x}")
    );
    assert_eq!(found.device(NAMESPACE), None);
}

#[test]
fn each_wrong_index_field_is_named() {
    fn only<const N: usize>(at: usize, value: [u8; N]) -> Result<Option<LabelIndex>, Error> {
        let mut area = Area::initialised(LabelFormat::V1_2);
        area.index(1).fill(0);
        put(area.index(0), at, value);
        seal(area.index(0), 64);
        current(&area)
    }
    assert_eq!(only(19, [2]), Err(Error::LabelSize { log2_over_128: 2 }));
    assert_eq!(only(19, [255]), Err(Error::LabelSize { log2_over_128: 255 }));
    assert_eq!(only(20, 4u32.to_le_bytes()), Err(Error::IndexSequence(4)));
    assert_eq!(only(24, 256u64.to_le_bytes()), Err(Error::IndexOffset { found: 256, expected: 0 }));
    assert_eq!(only(40, 0u64.to_le_bytes()), Err(Error::OtherIndexOffset { found: 0, expected: 256 }));
    assert_eq!(only(32, 71u64.to_le_bytes()), Err(Error::IndexSize { found: 71, max: 256 }));
    assert_eq!(only(32, 257u64.to_le_bytes()), Err(Error::IndexSize { found: 257, max: 256 }));
    assert_eq!(only(56, 511u32.to_le_bytes()), Err(Error::SlotCount { found: 511, max: 510 }));
    assert_eq!(only(56, u32::MAX.to_le_bytes()), Err(Error::SlotCount { found: u32::MAX, max: 510 }));
    assert!(only(56, 510u32.to_le_bytes()).unwrap().is_some());
}

#[test]
fn sized_labels_came_with_version_1_2() {
    // A v1.1 index whose label size byte is junk still has labels of 128 bytes.
    let mut area = Area::initialised(LabelFormat::V1_1);
    put(area.index(0), 19, [9]);
    seal(area.index(0), 64);
    assert_eq!(current(&area).unwrap().unwrap().format(), LabelFormat::V1_1);
}

#[test]
fn large_areas_have_large_indexes() {
    // 1 MiB of v1.2: 4096 labels by the first guess, so 768 bytes for an index and 4090 slots.
    let (index_bytes, slots) = (768usize, 4090u32);
    let mut bytes = vec![0; 1 << 20];
    let index = &mut bytes[..index_bytes];
    put(index, 0, *b"NAMESPACE_INDEX\0");
    put(index, 19, [1]);
    put(index, 20, 1u32.to_le_bytes());
    put(index, 32, (index_bytes as u64).to_le_bytes());
    put(index, 40, (index_bytes as u64).to_le_bytes());
    put(index, 56, slots.to_le_bytes());
    put(index, 60, 1u16.to_le_bytes());
    put(index, 62, 2u16.to_le_bytes());
    index[72..72 + slots.div_ceil(8) as usize].fill(0xff);
    index[72 + 4000 / 8] &= !1; // slot 4000
    seal(index, 64);
    let mut label = vec![0; 256];
    put(&mut label, 120, 4000u32.to_le_bytes());
    seal(&mut label, 248);
    let at = 2 * index_bytes + 4000 * 256;
    bytes[at..at + 256].copy_from_slice(&label);
    let mut seen = Vec::new();
    let mut area = &bytes[..];
    let index = LabelIndex::current(&mut area).unwrap().unwrap();
    assert_eq!(index.slots(), slots);
    index.for_each_active(&mut area, |slot| seen.push(slot)).unwrap();
    assert!(matches!(seen[..], [ActiveSlot::Label(label)] if label.slot == 4000), "{seen:?}");
}

#[test]
fn last_slot_is_seen_and_bits_past_it_are_not() {
    for format in FORMATS {
        let mut area = Area::initialised(format);
        let last = area.slots() - 1;
        area.write_label(last, b"last", DAX);
        area.write_index(0, 3, &[last]);
        let Found::Labelled(found) = identify_area(&area.bytes) else { panic!() };
        assert_eq!((found.labels, found.damaged, found.first.slot), (1, 0, last as u32));
    }
}

#[test]
fn v1_2_label_carries_its_abstraction() {
    let mut area = Area::initialised(LabelFormat::V1_2);
    area.write_label(0, b"", DAX);
    area.write_index(0, 3, &[0]);
    assert_eq!(area.label(0)[144..148], [0x9c, 0x6d, 0xa8, 0x97], "bytes as Linux stores the GUID");
    let Found::Labelled(found) = identify_area(&area.bytes) else { panic!() };
    assert_eq!(found.first.abstraction_guid, DAX);
    assert_eq!(found.first.name(), b"");
}

#[test]
fn labels_that_do_not_hold_are_damage() {
    fn alone<const N: usize>(format: LabelFormat, at: usize, value: [u8; N]) -> Found {
        let mut area = Area::initialised(format);
        area.write_label(3, b"x", DAX);
        put(area.label(3), at, value);
        area.write_index(0, 3, &[3]);
        identify_area(&area.bytes)
    }
    let damaged = |why| Found::Damaged { what: Structure::LabelArea, why };
    for format in FORMATS {
        assert_eq!(
            alone(format, 120, 2u32.to_le_bytes()),
            damaged(Error::LabelSlot { found: 2, expected: 3 })
        );
        assert_eq!(
            alone(format, 104, 512u64.to_le_bytes()),
            damaged(Error::LabelNotPages { dpa: 512, rawsize_bytes: GIB })
        );
        assert_eq!(
            alone(format, 112, 1u64.to_le_bytes()),
            damaged(Error::LabelNotPages { dpa: 3 * GIB, rawsize_bytes: 1 })
        );
    }
    let found = alone(LabelFormat::V1_2, 20, [b'!']);
    assert!(matches!(found, Found::Damaged { why: Error::Checksum { .. }, .. }), "{found}");
    assert!(matches!(alone(LabelFormat::V1_1, 20, [b'!']), Found::Labelled(_)), "v1.1 has no checksum");
}

#[test]
fn damaged_labels_are_counted_beside_valid_ones() {
    let mut area = Area::initialised(LabelFormat::V1_2);
    area.write_label(2, b"good", DAX);
    area.write_index(0, 3, &[1, 2, 3]);
    let found = identify_area(&area.bytes);
    assert_eq!(
        found.to_string(),
        format!(
            "labelled namespaces, 1 label in use and 2 damaged, first \"good\", uuid {}, 1G",
            common::counting_uuid()
        )
    );
}

#[test]
fn name_cannot_forge_a_log_line() {
    let mut area = Area::initialised(LabelFormat::V1_1);
    area.write_label(0, b"a\n[ok] \x1b[2Jall is well\"", DAX);
    area.write_index(0, 3, &[0]);
    let line = identify_area(&area.bytes).to_string();
    assert!(line.contains(r#""a\n[ok] \x1b[2Jall is well\"""#), "{line}");
    assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
}

#[test]
fn name_may_fill_its_field() {
    let mut area = Area::initialised(LabelFormat::V1_1);
    area.write_label(0, &[b'n'; 64], DAX);
    area.write_index(0, 3, &[0]);
    let Found::Labelled(found) = identify_area(&area.bytes) else { panic!() };
    assert_eq!(found.first.name(), [b'n'; 64]);
}

#[test]
fn cxl_labels_are_recognised() {
    let region = uuid!("529d7c61-da07-47c4-a93f-ecdf2c06f444");
    let namespace = uuid!("68bb2c0a-5a77-4937-9f85-3caf41a0f93c");
    for kind in [region.into_bytes(), region.to_bytes_le(), namespace.into_bytes(), namespace.to_bytes_le()] {
        let mut area = Area::initialised(LabelFormat::V1_2);
        // CXL 2.0 states version 2.1 in the index.
        put(area.index(0), 60, 2u16.to_le_bytes());
        put(area.index(0), 62, 1u16.to_le_bytes());
        put(area.index(0), 72, [0xfe]);
        seal(area.index(0), 64);
        put(area.label(0), 0, kind);
        let found = identify_area(&area.bytes);
        assert_eq!(found, Found::CxlLabels(1));
        assert_eq!(found.device(NAMESPACE), None);
        assert_eq!(found.to_string(), "CXL labels, 1 in use");
    }
}

#[test]
fn labels_of_any_dimm_of_the_range_count() {
    let empty = Area::initialised(LabelFormat::V1_2);
    let mut second = empty.clone();
    second.write_label(5, b"half", DAX);
    second.write_index(0, 3, &[5]);
    let areas = [&empty.bytes[..], &second.bytes[..], &second.bytes[..]];
    let Found::Labelled(found) = identify(&[0; HEAD_BYTES], areas, NAMESPACE) else { panic!() };
    assert_eq!(found.labels, 2);
}

#[test]
fn labels_come_before_the_head() {
    let block = Create::devdax(GIB, Map::Mem, 2 * MIB).block().unwrap();
    let mut area = Area::initialised(LabelFormat::V1_2);
    area.write_label(0, b"", DAX);
    area.write_index(0, 3, &[0]);
    let found = identify(&head_with(4096, &block), Some(&area.bytes[..]), NAMESPACE);
    assert!(matches!(found, Found::Labelled(_)), "{found}");
}

#[test]
fn area_that_cannot_be_read_is_not_bare() {
    let mut area = Area::initialised(LabelFormat::V1_2);
    area.write_label(0, b"", DAX);
    area.write_index(0, 3, &[0]);
    // Both places for each label size, the bitmap and the label: every one of the reads may fail.
    let mut whole = Mailbox::new(&area.bytes);
    assert!(matches!(identify(&[0; HEAD_BYTES], Some(&mut whole), NAMESPACE), Found::Labelled(_)));
    for fail_at in 0..whole.reads {
        let mut mailbox = Mailbox { fail_at, ..Mailbox::new(&area.bytes) };
        let found = identify(&[0; HEAD_BYTES], Some(&mut mailbox), NAMESPACE);
        assert!(
            matches!(found, Found::Damaged { what: Structure::LabelArea, why: Error::LabelRead { .. } }),
            "{fail_at}: {found}"
        );
    }
}
