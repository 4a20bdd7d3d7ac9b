//! Properties over random and altered media: no panic, no read out of bounds, no device where data is.

mod common;

use common::{Area, BASE, Create, KIB, MIB, Mailbox, btt_block, head_with, no_labels, put, seal};
use nvdimm::{Extent, Found, HEAD_BYTES, InfoBlockKind, LabelFormat, Map, identify};
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

const SIGNATURES: [&[u8; 16]; 3] = [b"NVDIMM_DAX_INFO\0", b"NVDIMM_PFN_INFO\0", b"BTT_ARENA_INFO\0\0"];

/// A device must lie in the namespace and, when an info block places it, be aligned as that says.
fn assert_sound(found: &Found, namespace: Extent) -> Result<(), TestCaseError> {
    prop_assert!(!found.to_string().is_empty());
    prop_assert!(found.device(namespace).is_none_or(|device| device.end_phys().is_some()));
    if let (Some(device), Found::DevDax(placement)) = (found.device(namespace), found) {
        let align = placement.align_bytes;
        prop_assert!(device.len_bytes > 0);
        prop_assert!(device.base_phys >= namespace.base_phys + HEAD_BYTES as u64);
        prop_assert!(device.end_phys().unwrap() <= namespace.end_phys().unwrap());
        prop_assert!([4 * KIB, 2 * MIB, 1024 * MIB].contains(&align));
        prop_assert!(device.base_phys % align == 0 && device.len_bytes % align == 0);
    } else {
        prop_assert_eq!(found.device(namespace).is_some(), matches!(found, Found::Bare | Found::DevDax(_)));
    }
    Ok(())
}

fn any_namespace() -> impl Strategy<Value = Extent> {
    let pages = (0..4096u64, 1..(1u64 << 21)).prop_map(|(base, len)| (BASE + base * 4 * KIB, len * 4 * KIB));
    let sections = (0..4096u64, 1..4096u64).prop_map(|(base, len)| (BASE + base * 2 * MIB, len * 2 * MIB));
    prop_oneof![4 => sections, 2 => pages, 1 => any::<(u64, u64)>()]
        .prop_map(|(base_phys, len_bytes)| Extent { base_phys, len_bytes })
}

fn any_create() -> impl Strategy<Value = Create> {
    let kind = prop_oneof![Just(InfoBlockKind::DevDax), Just(InfoBlockKind::FsDax)];
    let map = prop_oneof![Just(Map::Mem), Just(Map::Dev)];
    let align = prop_oneof![Just(4 * KIB), Just(2 * MIB), Just(1024 * MIB)];
    let namespace = (0..2048u64, 4..(1u64 << 21))
        .prop_map(|(base, len)| Extent { base_phys: BASE + base * 2 * MIB, len_bytes: len * 4 * KIB });
    (kind, namespace, map, align).prop_map(|(kind, namespace, map, align)| Create {
        kind,
        namespace,
        map,
        align,
        parent: Uuid::nil(),
    })
}

/// An interesting value for a field of 8 bytes: near a power of two, or anything.
fn any_field() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..64u32, -1..2i64).prop_map(|(bit, by)| (1u64 << bit).wrapping_add_signed(by))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_head_is_answered(head in vec(any::<u8>(), 0..3 * 4096), namespace in any_namespace()) {
        let found = identify(&head, no_labels(), namespace);
        assert_sound(&found, namespace)?;
    }

    #[test]
    fn what_linux_creates_is_placed(create in any_create()) {
        let Some(block) = create.block() else { return Ok(()) };
        let found = identify(&head_with(4096, &block), no_labels(), create.namespace);
        assert_sound(&found, create.namespace)?;
        match (create.kind, found) {
            (InfoBlockKind::DevDax, Found::DevDax(placement))
            | (InfoBlockKind::FsDax, Found::FsDax(placement)) => {
                prop_assert_eq!(placement.len_bytes / (4 * KIB), page_count(&block));
                prop_assert_eq!((placement.map, placement.align_bytes), (create.map, create.align));
            }
            (_, other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn sealed_block_with_any_fields_is_sound_and_never_bare(
        create in any_create(),
        fields in vec((48..94usize, any_field()), 1..4),
        elsewhere in any_namespace(),
        moved in any::<bool>(),
    ) {
        let Some(mut block) = create.block() else { return Ok(()) };
        for (at, value) in fields {
            put(&mut block, at, value.to_le_bytes());
        }
        seal(&mut block, 4088);
        let namespace = if moved { elsewhere } else { create.namespace };
        let found = identify(&head_with(4096, &block), no_labels(), namespace);
        assert_sound(&found, namespace)?;
        prop_assert!(found != Found::Bare || namespace.len_bytes < HEAD_BYTES as u64);
    }

    #[test]
    fn signature_is_never_bare_whatever_follows(
        which in 0..3usize,
        rest in vec(any::<u8>(), 4080),
        namespace in any_namespace(),
    ) {
        prop_assume!(namespace.len_bytes >= HEAD_BYTES as u64);
        let mut head = vec![0; HEAD_BYTES];
        put(&mut head, 4096, *SIGNATURES[which]);
        head[4112..].copy_from_slice(&rest);
        let found = identify(&head, no_labels(), namespace);
        prop_assert!(matches!(found, Found::Damaged { .. }), "{}", found);
    }

    #[test]
    fn one_altered_byte_of_a_block_is_damage(
        create in any_create(),
        btt in any::<bool>(),
        at in 16..4096usize,
        by in 1..=255u8,
    ) {
        let written = if btt { Some(btt_block(1, 1)) } else { create.block() };
        let Some(mut block) = written else { return Ok(()) };
        block[at] ^= by;
        let found = identify(&head_with(4096, &block), no_labels(), create.namespace);
        prop_assert!(matches!(found, Found::Damaged { .. }), "{}", found);
    }

    #[test]
    fn altered_label_area_is_answered_within_bounds(
        v1_2 in any::<bool>(),
        slots in vec(0..510usize, 0..4),
        fields in vec((0..2 * Area::INDEX_BYTES + 1024, any_field()), 0..6),
        sealed in any::<[bool; 2]>(),
        len_bytes in prop_oneof![Just(128usize << 10), 0..(128usize << 10)],
    ) {
        let mut area = Area::initialised(if v1_2 { LabelFormat::V1_2 } else { LabelFormat::V1_1 });
        for slot in &slots {
            area.write_label(*slot, b"name", Uuid::nil());
        }
        area.write_index(0, 3, &slots);
        for (at, value) in fields {
            put(&mut area.bytes, at, value.to_le_bytes());
        }
        for block in [0, 1] {
            if sealed[block] {
                seal(area.index(block), 64);
            }
        }
        // The mailbox asserts that no read leaves the area.
        let mut mailbox = Mailbox::new(&area.bytes[..len_bytes]);
        let namespace = Extent { base_phys: BASE, len_bytes: 1024 * MIB };
        let found = identify(&[0; HEAD_BYTES], Some(&mut mailbox), namespace);
        assert_sound(&found, namespace)?;
        prop_assert!(mailbox.reads <= 4 + 1020 / 512 + 1 + 1020);
    }

    #[test]
    fn any_label_area_is_answered_within_bounds(bytes in vec(any::<u8>(), 0..8192)) {
        let mut mailbox = Mailbox::new(&bytes);
        let namespace = Extent { base_phys: BASE, len_bytes: 1024 * MIB };
        prop_assert_eq!(identify(&[0; HEAD_BYTES], Some(&mut mailbox), namespace), Found::Bare);
    }
}

/// The number of pages that the creator wrote into the block.
fn page_count(block: &common::Block) -> u64 {
    u64::from_le_bytes(block[64..72].try_into().unwrap())
}
