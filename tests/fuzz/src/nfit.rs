//! The NFIT: whatever the table says, regions are sound, and what is not taken is told.

use crate::{Numbers, Target, line, number, shape};
use nfit::{Entry, MAX_MAPPINGS, Nfit, PAGE_BYTES, Region, Structure};
use std::collections::HashSet;

/// Header of the table with its 4 reserved bytes.
const HEADER_BYTES: usize = 40;

/// An input is a table.
pub static NFIT: Target =
    Target { name: "nfit", check: check_nfit, pieces, seal, numbers: Numbers::Binary, max_bytes: 4096 };

/// Checks `bytes` as a table; when they are none, what follows the header as the structures of a `_FIT`.
pub fn check_nfit(bytes: &[u8]) -> Vec<String> {
    match Nfit::parse(bytes) {
        Ok(table) => check_table(table, bytes.len()),
        Err(error) => {
            let structures = bytes.get(HEADER_BYTES..).unwrap_or_default();
            let mut shapes = check_table(Nfit::from_fit(structures), structures.len());
            shapes.push(shape(&line(&error)));
            shapes
        }
    }
}

fn check_table(table: Nfit<'_>, len_bytes: usize) -> Vec<String> {
    let mut shapes = Vec::new();
    let entries: Vec<Entry<'_>> = table.entries().collect();
    assert!(entries.is_sorted_by(|one, next| one.offset < next.offset), "entries out of order");
    assert!(entries.iter().all(|entry| entry.offset < len_bytes), "an entry outside of the table");

    let regions: Vec<Region<'_>> = table.regions().collect();
    for region in &regions {
        check_region(region, table);
        let Region { kind, persistence, read_only, mapping_count, .. } = region;
        let mappings = mapping_count.min(&3);
        let odd = region.refused_mappings > 0;
        shapes.push(format!("{kind} {persistence} region, read-only {read_only}, mappings {mappings} {odd}"));
    }
    check_disjoint(&regions);

    let refusals: Vec<_> = table.refusals().collect();
    assert!(refusals.is_sorted_by(|one, next| one.offset < next.offset), "refusals out of order");
    let refused: HashSet<usize> = refusals.iter().map(|refusal| refusal.offset).collect();
    let taken: HashSet<usize> = regions.iter().map(|region| region.table_offset).collect();
    shapes.extend(refusals.iter().map(|refusal| shape(&line(refusal))));
    for Entry { offset, content } in &entries {
        match content {
            Ok(Structure::SpaRange(_)) => {
                assert!(taken.contains(offset) != refused.contains(offset), "range at {offset:#x}");
            }
            Ok(_) => assert!(!taken.contains(offset), "a region from another structure at {offset:#x}"),
            Err(_) => assert!(refused.contains(offset), "nothing is said of the bytes at {offset:#x}"),
        }
    }
    assert!(refused.iter().chain(&taken).all(|at| entries.iter().any(|entry| entry.offset == *at)));

    let dimms: Vec<_> = table.dimms().collect();
    assert!(dimms.is_sorted_by(|one, next| one.handle < next.handle), "DIMMs out of order");
    for dimm in &dimms {
        let hints = table.flush_hints(dimm.handle).count();
        assert!(hints * 8 <= len_bytes, "{hints} flush hints in {len_bytes} bytes");
        shapes.push(format!(
            "DIMM, hints {}, control region {}",
            hints.min(2),
            dimm.control_region.is_some()
        ));
    }
    assert_eq!(table.dropped_by(table), None, "a table drops nothing of itself");
    shapes
}

fn check_region(region: &Region<'_>, table: Nfit<'_>) {
    let Region { base, len_bytes, range_index, .. } = *region;
    assert!(len_bytes > 0 && base.checked_add(len_bytes - 1) == Some(region.last()), "{region:?} wraps");
    assert!(base % PAGE_BYTES == 0 && len_bytes % PAGE_BYTES == 0, "{region:?} is not whole pages");
    assert!(range_index != 0 && region.attributes.write_back(), "{region:?}");
    assert_eq!(region.persistence, table.persistence());
    line(&region.attributes);

    let mappings: Vec<_> = region.mappings().collect();
    assert!(mappings.len() == region.mapping_count && mappings.len() <= MAX_MAPPINGS, "{region:?}");
    let lowest = mappings.iter().map(|mapping| mapping.memdev.device_handle.0).min();
    assert_eq!(region.order_key(), (lowest.unwrap_or(u32::MAX), base));
    for mapping in mappings {
        let memdev = mapping.memdev;
        assert_eq!(memdev.range_index, range_index);
        assert!(memdev.region_size > 0 && memdev.dpa.checked_add(memdev.region_size).is_some(), "{memdev:?}");
        assert!(memdev.region_size % PAGE_BYTES == 0 && memdev.dpa % PAGE_BYTES == 0, "{memdev:?}");
        assert_eq!(mapping.control_region.is_some(), memdev.control_region_index != 0, "{memdev:?}");
        assert!(memdev.state.armed() || region.read_only, "{memdev:?} is not armed");
    }
}

fn check_disjoint(regions: &[Region<'_>]) {
    let mut by_base: Vec<_> = regions.iter().map(|region| (region.base, region.last())).collect();
    by_base.sort_unstable();
    assert!(by_base.is_sorted_by(|one, next| one.1 < next.0), "regions overlap: {by_base:x?}");
    let indices: HashSet<u16> = regions.iter().map(|region| region.range_index).collect();
    assert_eq!(indices.len(), regions.len(), "two regions with one index");
}

/// The header, then each structure as far as lengths lead.
fn pieces(input: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = HEADER_BYTES;
    while let Some(length) = number::<2>(input, at + 2) {
        starts.push(at);
        at += length.max(4) as usize;
    }
    starts
}

fn seal(input: &mut [u8]) {
    if input.len() < HEADER_BYTES {
        return;
    }
    let length = input.len() as u32;
    input[..4].copy_from_slice(b"NFIT");
    input[4..8].copy_from_slice(&length.to_le_bytes());
    let sum = input.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    input[9] = input[9].wrapping_sub(sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_table_is_parsed() {
        let mut input = vec![0xa5; 200];
        seal(&mut input);
        assert!(Nfit::parse(&input).is_ok());
        assert_eq!(pieces(&[0; 50]), [0, 40, 44]);
    }
}
