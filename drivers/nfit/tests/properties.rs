//! Whatever the bytes: no panic, no endless walk, and every region keeps its promises.

mod table;

use std::time::{Duration, Instant};

use nfit::{MAX_MAPPINGS, MAX_STRUCTURES, Nfit, PAGE_BYTES, Region, Structure};
use proptest::prelude::*;
use table::{BLOCK, CONTROL, DISKS, Dcr, GIB, Map, PM, Spa, Table, VOLATILE, seal};

/// Asks the table everything and checks what must hold for any bytes.
fn check(table: Nfit<'_>) -> Result<(), TestCaseError> {
    let entries: Vec<_> = table.entries().collect();
    prop_assert!(entries.len() <= MAX_STRUCTURES + 1);
    prop_assert!(entries.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    let regions: Vec<Region<'_>> = table.regions().collect();
    for region in &regions {
        prop_assert!(
            region.len_bytes != 0 && region.base.checked_add(region.len_bytes - 1) == Some(region.last())
        );
        prop_assert_eq!((region.base % PAGE_BYTES, region.len_bytes % PAGE_BYTES), (0, 0));
        prop_assert!(region.attributes.write_back() && region.range_index != 0);
        let mappings: Vec<_> = region.mappings().collect();
        prop_assert_eq!(mappings.len(), region.mapping_count);
        prop_assert!(mappings.len() <= MAX_MAPPINGS);
        prop_assert!(mappings.iter().all(|mapping| mapping.memdev.range_index == region.range_index));
        let lowest = mappings.iter().map(|mapping| mapping.memdev.device_handle.0).min();
        prop_assert_eq!(region.order_key(), (lowest.unwrap_or(u32::MAX), region.base));
    }
    let mut by_base: Vec<_> = regions.iter().map(|region| (region.base, region.last())).collect();
    by_base.sort_unstable();
    prop_assert!(by_base.windows(2).all(|pair| pair[0].1 < pair[1].0), "regions overlap: {:x?}", by_base);

    // A SPA range is a region or a refusal, never both, never neither; so is what cannot be read.
    let refused: Vec<_> = table.refusals().map(|refusal| refusal.offset).collect();
    for entry in &entries {
        let is_region = regions.iter().any(|region| region.table_offset == entry.offset);
        let is_refused = refused.contains(&entry.offset);
        match entry.content {
            Ok(Structure::SpaRange(_)) => prop_assert!(is_region != is_refused),
            Err(_) => prop_assert!(is_refused && !is_region),
            Ok(_) => prop_assert!(!is_region),
        }
    }
    prop_assert!(table.refusals().all(|refusal| !refusal.to_string().is_empty()));
    let handles: Vec<_> = table.dimms().map(|dimm| dimm.handle).collect();
    prop_assert!(handles.windows(2).all(|pair| pair[0] < pair[1]));
    let hints: usize = handles.iter().map(|handle| table.flush_hints(*handle).count()).sum();
    prop_assert!(hints <= 1 << 20);
    prop_assert_eq!(table.dropped_by(table), None);
    Ok(())
}

/// Small numbers that collide often, and the ends of the address space.
fn spa() -> impl Strategy<Value = Spa> {
    let guid = prop_oneof![8 => Just(PM), 2 => Just(VOLATILE), 1 => Just(CONTROL), 1 => Just(BLOCK),
        1 => Just(DISKS[2]), 1 => any::<[u8; 16]>()];
    let number = || {
        prop_oneof![6 => (0u64..16).prop_map(|n| n * GIB), 1 => Just(0x800), 1 => any::<u64>(),
        1 => (0u64..4).prop_map(|n| 0u64.wrapping_sub((n + 1) * 0x800))]
    };
    let attributes = prop_oneof![6 => Just(0x8008u64), 1 => any::<u64>()];
    (0u16..6, 0u16..4, guid, number(), number(), attributes).prop_map(
        |(index, flags, guid, base, len, attributes)| Spa { index, flags, guid, base, len, attributes },
    )
}

fn map() -> impl Strategy<Value = Map> {
    let ids = (0u32..5, 0u16..2, 0u16..3, 0u16..6, 0u16..4);
    (
        ids,
        prop_oneof![4 => Just(GIB), 1 => any::<u64>()],
        prop_oneof![4 => Just(0), 1 => any::<u64>()],
        0u16..16,
    )
        .prop_map(|((handle, physical_id, region_id, range, dcr), size, dpa, state)| Map {
            handle,
            physical_id,
            region_id,
            range,
            dcr,
            size,
            dpa,
            state,
        })
}

/// One structure, well-formed or of any bytes.
fn structure() -> impl Strategy<Value = Table> {
    let dcr = (0u16..4, 0u32..3, 0u16..2).prop_map(|(index, serial, windows)| Dcr { index, serial, windows });
    let hints = (0u32..5, 0u16..4, prop::collection::vec(any::<u64>(), 0..3));
    let lines = (0u16..3, 0u32..4, prop::collection::vec(any::<u32>(), 0..3));
    prop_oneof![
        6 => spa().prop_map(|spa| Table::default().spa(spa)),
        6 => map().prop_map(|map| Table::default().map(map)),
        3 => dcr.prop_map(|dcr| Table::default().dcr(dcr)),
        1 => hints.prop_map(|(handle, count, hints)| Table::default().flush(handle, count, &hints)),
        1 => lines.prop_map(|(index, count, lines)| Table::default().interleave(index, count, 256, &lines)),
        1 => any::<(u8, u32)>().prop_map(|(highest, bits)| Table::default().capabilities(highest, bits)),
        1 => (0u16..10, prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(kind, body)| Table::default().raw(kind, &body)),
    ]
}

fn structures() -> impl Strategy<Value = Table> {
    prop::collection::vec(structure(), 0..24)
        .prop_map(|all| Table(all.into_iter().flat_map(|structure| structure.0).collect()))
}

/// Damage: a byte set, a byte removed, an end cut, a structure's length replaced.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    Length(prop::sample::Index, u16),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (index(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        1 => index().prop_map(Damage::Remove),
        1 => index().prop_map(Damage::Cut),
        3 => (index(), prop_oneof![0u16..96, any::<u16>()]).prop_map(|(at, len)| Damage::Length(at, len)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Set(at, value) => *at.get_mut(bytes) = *value,
        Damage::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Length(at, length) => {
            let offsets: Vec<usize> = Nfit::from_fit(bytes).entries().map(|entry| entry.offset).collect();
            let offset = *at.get(&offsets);
            if let Some(field) = bytes.get_mut(offset + 2..offset + 4) {
                field.copy_from_slice(&length.to_le_bytes());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_structures_keep_the_promises(table in structures()) {
        let bytes = table.bytes();
        check(Nfit::parse(&bytes).expect("the header is right"))?;
    }

    #[test]
    fn damaged_tables_keep_the_promises(table in structures(), all in prop::collection::vec(damage(), 1..6)) {
        let mut structures = table.0;
        all.iter().for_each(|damage| spoil(&mut structures, damage));
        let bytes = Table(structures).bytes();
        check(Nfit::parse(&bytes).expect("the header is right"))?;
    }

    #[test]
    fn damaged_real_table_keeps_the_promises(all in prop::collection::vec(damage(), 1..8)) {
        let mut bytes = include_bytes!("../../../tests/acpi/eight-labelled/NFIT.bin")[40..].to_vec();
        all.iter().for_each(|damage| spoil(&mut bytes, damage));
        check(Nfit::from_fit(&bytes))?;
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256), sealed: bool) {
        let mut bytes = bytes;
        if sealed && bytes.len() >= 40 {
            bytes[..4].copy_from_slice(b"NFIT");
            seal(&mut bytes);
        }
        match Nfit::parse(&bytes) {
            Ok(table) => check(table)?,
            Err(error) => prop_assert!(!sealed || bytes.len() < 40, "{}", error),
        }
        check(Nfit::from_fit(&bytes))?;
    }

    #[test]
    fn any_flipped_byte_breaks_the_checksum(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = Table::one_dimm().bytes();
        *at.get_mut(&mut bytes) ^= flip;
        prop_assert!(Nfit::parse(&bytes).is_err());
    }
}

#[test]
fn table_that_asks_most_is_read_in_bounded_time() {
    // 1 MiB of mappings that each look up range, DIMM and control region, all of them last in the table.
    // As many as are ever read take 50 ms in a release build; unoptimised they would take a minute.
    let share = if cfg!(debug_assertions) { 8 } else { 1 };
    let half = u16::try_from(MAX_STRUCTURES / 2 / share).expect("the bound is small");
    let range = |handle: u16| half - handle / 4;
    let mut worst = Table::default();
    for handle in 0..half {
        worst = worst.map(Map { handle: handle.into(), range: range(handle), dcr: 9, ..Map::default() });
    }
    for index in 1..half {
        worst = worst.spa(Spa { index, base: u64::from(index) * GIB, ..Spa::default() });
    }
    let mut worst = worst.dcr(Dcr { index: 9, ..Dcr::default() });
    worst.0.resize(1 << 20, 0);
    let bytes = worst.bytes();
    let start = Instant::now();
    let table = Nfit::parse(&bytes).expect("the header is right");
    assert_eq!(table.regions().count(), usize::from(half) - 1);
    assert_eq!(table.dimms().count(), usize::from(half));
    assert_eq!(table.refusals().count(), 1 + 4, "the bytes behind, and the mappings of the range left out");
    // Far above what it takes: this is against a walk that explodes, it is no benchmark.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
