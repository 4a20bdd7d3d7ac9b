//! The table as a whole: signature, length, checksum, revision; and what `_FIT` returns.

mod table;

use nfit::{Nfit, TableError};
use table::{Map, Spa, Table, seal};

fn message(bytes: &[u8]) -> String {
    Nfit::parse(bytes).expect_err("the table is bad").to_string()
}

#[test]
fn empty_and_short_input_is_no_table() {
    assert_eq!(Nfit::parse(&[]).err(), Some(TableError::NoHeader { given: 0 }));
    let bytes = Table::one_dimm().bytes();
    assert_eq!(message(&bytes[..39]), "39 bytes are too few for an NFIT: its header alone has 40");
}

#[test]
fn table_without_structures_is_accepted() {
    let bytes = Table::default().bytes();
    let table = Nfit::parse(&bytes).expect("40 bytes are a table");
    assert_eq!((table.entries().count(), table.regions().count(), table.dimms().count()), (0, 0, 0));
    assert_eq!(table.refusals().count(), 0);
}

#[test]
fn other_signature_is_refused_and_shown() {
    let mut bytes = Table::one_dimm().bytes();
    bytes[..4].copy_from_slice(b"AP\0C");
    assert_eq!(message(&bytes), r#"signature is "AP\x00C", an NFIT's is "NFIT""#);
}

#[test]
fn length_past_the_bytes_or_below_the_header_is_refused() {
    let bytes = Table::one_dimm().bytes();
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(message(cut), "NFIT header claims 224 bytes, 40 to 223 are possible with 223 given");
    let mut short = Table::default().bytes();
    short[4] = 39;
    assert_eq!(message(&short), "NFIT header claims 39 bytes, 40 to 40 are possible with 40 given");
}

#[test]
fn bytes_behind_the_table_are_cut() {
    let mut bytes = Table::one_dimm().bytes();
    bytes.extend([0xff; 100]);
    let table = Nfit::parse(&bytes).expect("the length field counts");
    assert_eq!((table.entries().count(), table.refusals().count()), (3, 0));
}

#[test]
fn wrong_checksum_is_refused_with_the_right_one() {
    let mut bytes = Table::one_dimm().bytes();
    let right = bytes[9];
    bytes[9] = right.wrapping_add(3);
    let expected = format!(
        "NFIT bytes sum to 0x03 instead of 0: the checksum at offset 9 is {:#04x}, {right:#04x} would fit",
        bytes[9]
    );
    assert_eq!(message(&bytes), expected);
}

#[test]
fn unknown_revision_is_accepted_and_told() {
    let mut bytes = Table::one_dimm().bytes();
    bytes[8] = 9;
    seal(&mut bytes);
    let table = Nfit::parse(&bytes).expect("revisions stay compatible");
    assert_eq!((table.revision(), table.regions().count()), (Some(9), 1));
}

#[test]
fn fit_without_header_is_the_same_table_from_offset_0() {
    let structures = Table::one_dimm().0;
    let table = Nfit::from_fit(&structures);
    assert_eq!(table.revision(), None);
    let offsets: Vec<usize> = table.entries().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [0, 56, 104]);
    assert_eq!(table.regions().count(), 1);
}

#[test]
fn fit_update_may_add_but_not_drop() {
    let old = Table::one_dimm();
    let more = Table::default().spa(Spa { index: 4, base: 1 << 40, ..Spa::default() });
    let grown = [more.0.clone(), old.0.clone()].concat();
    let bytes = old.bytes();
    let table = Nfit::parse(&bytes).expect("the header is right");
    assert_eq!(table.dropped_by(Nfit::from_fit(&grown)), None);
    let without_dcr = Table::default().spa(Spa::default()).map(Map::default()).0;
    assert_eq!(table.dropped_by(Nfit::from_fit(&without_dcr)), Some(40 + 56 + 48));
    assert_eq!(table.dropped_by(Nfit::from_fit(&more.0)), Some(40));
}
