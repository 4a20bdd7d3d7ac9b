//! Info blocks: what Linux creates is placed as Linux does, and each wrong value is named, in Linux's order.

mod common;

use common::{BASE, Block, Create, GIB, KIB, MIB, btt_block, head_with, no_labels, put, seal};
use nvdimm::{Btt, Error, Extent, Found, InfoBlock, InfoBlockKind, Map, Placement, Structure};
use nvdimm::{fletcher64, identify};
use uuid::Uuid;

const ONE_GIB: Extent = Extent { base_phys: BASE, len_bytes: GIB };

fn place(block: &Block, namespace: Extent) -> Result<Placement, Error> {
    InfoBlock::parse(block).unwrap().expect("a signature").place(namespace, Uuid::nil())
}

/// A devdax block of 1 GiB with `value` at `at`, and a checksum that is right.
fn altered<const N: usize>(at: usize, value: [u8; N]) -> Block {
    let mut block = Create::devdax(GIB, Map::Dev, 2 * MIB).block().unwrap();
    put(&mut block, at, value);
    seal(&mut block, 4088);
    block
}

#[test]
fn fletcher64_vector() {
    let words: Vec<u8> = [1u32, 2, 3, 4].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(fletcher64(&words), 0x0000_0014_0000_000a);
    assert_eq!(fletcher64(&[]), 0);
    // 0xffffffff, then 1: the low sum wraps to 0, and the high sum keeps what it had.
    assert_eq!(fletcher64(&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]), 0xffff_ffff_0000_0000);
}

#[test]
fn created_blocks_have_linux_checksums() {
    let cases =
        [(InfoBlockKind::DevDax, 0x320c_4ad0_fbba_6c84u64), (InfoBlockKind::FsDax, 0x25e4_72c6_07ba_6289)];
    for (kind, checksum) in cases {
        let block = Create { kind, ..Create::devdax(GIB, Map::Mem, 2 * MIB) }.block().unwrap();
        assert_eq!(block[4088..], checksum.to_le_bytes());
    }
}

#[test]
fn created_namespaces_have_linux_sizes() {
    let table = [
        (16 * MIB, 2 * MIB, Some(14_680_064), Some(14_680_064)),
        (256 * MIB, 2 * MIB, Some(266_338_304), Some(262_144_000)),
        (GIB, 2 * MIB, Some(1_071_644_672), Some(1_054_867_456)),
        (4 * GIB, 2 * MIB, Some(4_292_870_144), Some(4_225_761_280)),
        (4 * GIB, 4 * KIB, Some(4_292_870_144), Some(4_225_761_280)),
        (GIB, GIB, None, None),
        (4 * GIB, GIB, Some(3_221_225_472), Some(3_221_225_472)),
    ];
    for (len_bytes, align, mem, dev) in table {
        for (map, expected) in [(Map::Mem, mem), (Map::Dev, dev)] {
            for kind in [InfoBlockKind::DevDax, InfoBlockKind::FsDax] {
                let create = Create { kind, ..Create::devdax(len_bytes, map, align) };
                let placement = create.block().map(|block| place(&block, create.namespace).unwrap());
                assert_eq!(placement.map(|placement| placement.len_bytes), expected, "{len_bytes} {align}");
                if let Some(placement) = placement {
                    assert_eq!((placement.map, placement.align_bytes, placement.minor), (map, align, 4));
                    assert_eq!(placement.uuid, common::counting_uuid());
                }
            }
        }
    }
}

#[test]
fn misaligned_end_is_trimmed_by_end_trunc() {
    let create = Create::devdax(GIB - 128 * KIB, Map::Mem, 2 * MIB);
    let placement = place(&create.block().unwrap(), create.namespace).unwrap();
    assert_eq!(u64::from(placement.end_trunc_bytes), 2 * MIB - 128 * KIB);
    assert_eq!(placement.len_bytes, GIB - 4 * MIB);
}

#[test]
fn data_counts_from_start_pad() {
    // As Linux wrote before 5.x: a base 1M past a 2M boundary is padded by 1M.
    let namespace = Extent { base_phys: BASE + MIB, len_bytes: GIB - MIB };
    let mut block = altered(56, (2 * MIB).to_le_bytes());
    put(&mut block, 76, (MIB as u32).to_le_bytes());
    seal(&mut block, 4088);
    let placement = place(&block, namespace).unwrap();
    assert_eq!(placement.start_pad_bytes, MIB as u32);
    assert_eq!(placement.data_offset_bytes, 3 * MIB);
    assert_eq!(placement.len_bytes, GIB - 4 * MIB);
    let found = identify(&head_with(4096, &block), no_labels(), namespace);
    let device = found.device(namespace).unwrap();
    assert_eq!(device, Extent { base_phys: BASE + 4 * MIB, len_bytes: GIB - 4 * MIB });
}

#[test]
fn fields_newer_than_the_minor_are_not_read() {
    // Junk in every field that came after 1.0; each minor makes the fields of its version count.
    let junk = |minor: u16| {
        let mut block = altered(54, minor.to_le_bytes());
        put(&mut block, 76, (2 * MIB as u32).to_le_bytes());
        put(&mut block, 80, (4 * MIB as u32).to_le_bytes());
        put(&mut block, 84, (4 * KIB as u32).to_le_bytes());
        put(&mut block, 88, 65536u32.to_le_bytes());
        put(&mut block, 92, 1u16.to_le_bytes());
        seal(&mut block, 4088);
        InfoBlock::parse(&block).unwrap().unwrap()
    };
    // The data offset is 18M: without an align field the alignment is 16M.
    let read = |minor| {
        let info = junk(minor);
        (info.start_pad_bytes, info.end_trunc_bytes, info.align_bytes, info.page_size_bytes)
    };
    let (pad, trunc) = (2 * MIB as u32, 4 * MIB as u32);
    assert_eq!(read(0), (0, 0, 16 * MIB, 4096));
    assert_eq!(read(1), (pad, trunc, 16 * MIB, 4096));
    assert_eq!(read(2), (pad, trunc, 4 * KIB, 4096));
    assert_eq!(read(3), (pad, trunc, 4 * KIB, 4096));
    assert_eq!(read(4), (pad, trunc, 4 * KIB, 65536));
    assert_eq!((junk(3).page_struct_bytes, junk(4).page_struct_bytes), (64, 1));
}

#[test]
fn zero_align_means_the_largest_power_of_two_in_the_data_offset() {
    let mut block = altered(84, 0u32.to_le_bytes());
    put(&mut block, 56, (2 * MIB).to_le_bytes());
    seal(&mut block, 4088);
    assert_eq!(place(&block, ONE_GIB).unwrap().align_bytes, 2 * MIB);
    put(&mut block, 56, 0u64.to_le_bytes());
    seal(&mut block, 4088);
    assert_eq!(place(&block, ONE_GIB), Err(Error::Align(0)));
}

#[test]
fn each_wrong_value_is_named() {
    let data_offset = 18 * MIB;
    let no_data_left = |data_offset_bytes, end_trunc_bytes| Error::NoDataLeft {
        data_offset_bytes,
        start_pad_bytes: 0,
        end_trunc_bytes,
        len_bytes: GIB,
    };
    let cases = [
        (
            altered(32, [0xab; 16]),
            Error::ParentUuid { found: Uuid::from_bytes([0xab; 16]), expected: Uuid::nil() },
        ),
        (altered(72, 0u32.to_le_bytes()), Error::MapMode(0)),
        (altered(72, 3u32.to_le_bytes()), Error::MapMode(3)),
        (altered(88, 65536u32.to_le_bytes()), Error::PageSize(65536)),
        (altered(92, 56u16.to_le_bytes()), Error::PageStructSize(56)),
        (altered(84, (16 * MIB as u32).to_le_bytes()), Error::Align(16 * MIB)),
        (altered(56, GIB.to_le_bytes()), Error::DataOffsetPastEnd { data_offset_bytes: GIB, len_bytes: GIB }),
        (
            altered(56, u64::MAX.to_le_bytes()),
            Error::DataOffsetPastEnd { data_offset_bytes: u64::MAX, len_bytes: GIB },
        ),
        (
            altered(56, (18 * MIB + 4 * KIB).to_le_bytes()),
            Error::DataMisaligned { data_phys: BASE + 18 * MIB + 4 * KIB, align_bytes: 2 * MIB },
        ),
        (
            altered(76, (4 * KIB as u32).to_le_bytes()),
            Error::DataMisaligned { data_phys: BASE + data_offset + 4 * KIB, align_bytes: 2 * MIB },
        ),
        (
            altered(80, (4 * KIB as u32).to_le_bytes()),
            Error::EndMisaligned { end_phys: BASE + GIB - 4 * KIB },
        ),
        (altered(80, (1022 * MIB as u32).to_le_bytes()), no_data_left(data_offset, 1022 * MIB as u32)),
        (altered(80, (GIB as u32).to_le_bytes()), no_data_left(data_offset, GIB as u32)),
        (altered(56, 0u64.to_le_bytes()), Error::DataOverInfoBlock { data_offset_bytes: 0 }),
    ];
    for (block, error) in cases {
        assert_eq!(place(&block, ONE_GIB), Err(error));
        let found = identify(&head_with(4096, &block), no_labels(), ONE_GIB);
        assert_eq!(found, Found::Damaged { what: Structure::InfoBlock(InfoBlockKind::DevDax), why: error });
        assert_eq!(found.device(ONE_GIB), None);
    }
}

#[test]
fn values_that_do_not_fit_the_range_are_named() {
    let block = altered(84, (4 * KIB as u32).to_le_bytes());
    let at = |base_phys, len_bytes| place(&block, Extent { base_phys, len_bytes });
    assert_eq!(
        at(BASE + 4 * KIB, GIB - 4 * KIB),
        Err(Error::StartMisaligned { start_phys: BASE + 4 * KIB }),
        "the NVDIMM moved to another address"
    );
    assert_eq!(at(BASE, GIB + 4 * KIB), Err(Error::EndMisaligned { end_phys: BASE + GIB + 4 * KIB }));
    assert_eq!(
        at(u64::MAX - MIB, GIB),
        Err(Error::NamespaceWraps { base_phys: u64::MAX - MIB, len_bytes: GIB })
    );
    let big = altered(84, (GIB as u32).to_le_bytes());
    assert_eq!(
        place(&big, Extent { base_phys: BASE, len_bytes: 256 * MIB }),
        Err(Error::AlignExceedsNamespace { align_bytes: GIB, len_bytes: 256 * MIB })
    );
    let mut big = altered(84, (GIB as u32).to_le_bytes());
    put(&mut big, 56, GIB.to_le_bytes());
    seal(&mut big, 4088);
    assert_eq!(
        place(&big, Extent { base_phys: BASE, len_bytes: 2 * GIB + 2 * MIB }),
        Err(Error::LenMisaligned { len_bytes: GIB + 2 * MIB, align_bytes: GIB })
    );
}

#[test]
fn range_that_wraps_gives_no_device() {
    let namespace = Extent { base_phys: u64::MAX - MIB, len_bytes: GIB };
    let found = identify(&[0; 8192], no_labels(), namespace);
    assert!(matches!(found, Found::Damaged { why: Error::NamespaceWraps { .. }, .. }), "{found}");
}

#[test]
fn of_several_wrong_values_linux_s_first_is_named() {
    // From the last check of Linux to its first: each wrong value hides all those before.
    let mut block = altered(80, (4 * KIB as u32).to_le_bytes());
    type IsExpected = fn(&Error) -> bool;
    let steps: [(usize, Vec<u8>, IsExpected); 7] = [
        (76, (4 * KIB as u32).to_le_bytes().into(), |e| matches!(e, Error::DataMisaligned { .. })),
        (56, (2 * GIB).to_le_bytes().into(), |e| matches!(e, Error::DataOffsetPastEnd { .. })),
        (84, 12345u32.to_le_bytes().into(), |e| matches!(e, Error::Align(12345))),
        (92, 0u16.to_le_bytes().into(), |e| matches!(e, Error::PageStructSize(0))),
        (88, 65536u32.to_le_bytes().into(), |e| matches!(e, Error::PageSize(65536))),
        (72, 9u32.to_le_bytes().into(), |e| matches!(e, Error::MapMode(9))),
        (32, vec![1; 16], |e| matches!(e, Error::ParentUuid { .. })),
    ];
    assert!(matches!(place(&block, ONE_GIB), Err(Error::EndMisaligned { .. })));
    for (at, value, expected) in steps {
        block[at..at + value.len()].copy_from_slice(&value);
        seal(&mut block, 4088);
        let error = place(&block, ONE_GIB).unwrap_err();
        assert!(expected(&error), "after the value at {at}: {error}");
    }
}

#[test]
fn page_map_in_ram_does_not_care_about_page_sizes() {
    let mut block = altered(88, 65536u32.to_le_bytes());
    put(&mut block, 72, 1u32.to_le_bytes());
    put(&mut block, 92, 0u16.to_le_bytes());
    seal(&mut block, 4088);
    assert_eq!(place(&block, ONE_GIB).unwrap().map, Map::Mem);
}

#[test]
fn fsdax_takes_alignments_that_devdax_cannot_map() {
    let mut block = altered(84, (16 * KIB as u32).to_le_bytes());
    assert_eq!(place(&block, ONE_GIB), Err(Error::Align(16 * KIB)));
    put(&mut block, 0, *common::signature(InfoBlockKind::FsDax));
    seal(&mut block, 4088);
    assert_eq!(place(&block, ONE_GIB).unwrap().align_bytes, 16 * KIB);
    put(&mut block, 84, 3u32.to_le_bytes());
    seal(&mut block, 4088);
    assert_eq!(place(&block, ONE_GIB), Err(Error::Align(3)));
}

#[test]
fn wrong_checksum_is_damage_not_bare() {
    for mut block in [altered(0, *b"NVDIMM_DAX_INFO\0"), altered(0, *b"NVDIMM_PFN_INFO\0"), btt_block(1, 1)] {
        block[3000] ^= 1;
        let found = identify(&head_with(4096, &block), no_labels(), ONE_GIB);
        assert!(matches!(found, Found::Damaged { why: Error::Checksum { .. }, .. }), "{found}");
        assert_eq!(found.device(ONE_GIB), None);
    }
}

#[test]
fn unknown_major_is_refused() {
    let found = identify(&head_with(4096, &altered(52, 2u16.to_le_bytes())), no_labels(), ONE_GIB);
    assert_eq!(found.to_string(), "damaged devdax info block: major version is 2, only 1 is known");
}

#[test]
fn only_the_exact_signature_counts() {
    let block = altered(15, [b'!']);
    assert_eq!(identify(&head_with(4096, &block), no_labels(), ONE_GIB), Found::Bare);
    let block = altered(0, *b"NVDIMM_DAX_INFO\0");
    assert_eq!(identify(&head_with(0, &block), no_labels(), ONE_GIB), Found::Bare, "block at offset 0");
}

#[test]
fn btt_is_recognised_at_both_places() {
    for (at, major, minor) in [(0, 2, 0), (4096, 1, 1)] {
        let found = identify(&head_with(at, &btt_block(major, minor)), no_labels(), ONE_GIB);
        let Found::Btt(Btt { sector_bytes: 512, sector_count: 123_456, .. }) = found else {
            panic!("{found}")
        };
        assert_eq!(found.device(ONE_GIB), None);
        assert_eq!(
            found.to_string(),
            format!(
                "BTT namespace, uuid {}, version {major}.{minor}, sectors of 512 bytes",
                common::counting_uuid()
            )
        );
    }
}

#[test]
fn btt_comes_before_an_info_block() {
    let mut head = head_with(4096, &altered(0, *b"NVDIMM_DAX_INFO\0"));
    head[..4096].copy_from_slice(&btt_block(2, 0));
    assert!(matches!(identify(&head, no_labels(), ONE_GIB), Found::Btt(_)));
}

#[test]
fn head_that_was_not_read_is_not_bare() {
    let found = identify(&[0; 8191], no_labels(), ONE_GIB);
    assert_eq!(
        found,
        Found::Damaged {
            what: Structure::Head,
            why: Error::HeadNotRead { have_bytes: 8191, need_bytes: 8192 }
        }
    );
    let page = Extent { base_phys: BASE, len_bytes: 4096 };
    assert_eq!(identify(&[0; 4096], no_labels(), page), Found::Bare, "a namespace of one page");
    assert!(matches!(identify(&btt_block(2, 0), no_labels(), page), Found::Btt(_)));
    let past_its_end = head_with(4096, &altered(0, *b"NVDIMM_DAX_INFO\0"));
    assert_eq!(identify(&past_its_end, no_labels(), page), Found::Bare, "the next page is not its own");
}
