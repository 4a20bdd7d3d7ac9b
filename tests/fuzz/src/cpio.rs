//! The initrd: files are bytes of the archive, each under a name of its own.

use crate::{Numbers, Target, line, shape};
use kernel::initrd::{File, Initrd};
use mm::range::PhysRange;
use std::collections::HashSet;

const HEADER_BYTES: usize = 110;
const MAGIC: &[u8] = b"0707";
/// Where the archive is said to lie in physical memory.
const ARCHIVE_PHYS: u64 = 0x123_4000;

/// An input is an archive.
pub static CPIO: Target =
    Target { name: "cpio", check: check_cpio, pieces, seal: |_| {}, numbers: Numbers::Hex, max_bytes: 4096 };

/// Checks what [`Initrd::parse`] finds.
pub fn check_cpio(input: &[u8]) -> Vec<String> {
    let owned = Box::into_raw(Box::<[u8]>::from(input));
    // SAFETY:
    // 1. `owned` comes from a box that nobody else frees or changes, so it may be read until it is freed.
    // 2. It is freed below, when `check_archive` has returned: that keeps nothing of the archive, as its
    //    result owns its text. When it panics, the archive leaks.
    let shapes = check_archive(unsafe { &*owned });
    // SAFETY: `owned` is a box's pointer, given up above and taken back only here, and fact 2.
    drop(unsafe { Box::from_raw(owned) });
    shapes
}

fn check_archive(archive: &'static [u8]) -> Vec<String> {
    let phys = PhysRange::new(ARCHIVE_PHYS, archive.len() as u64);
    let (initrd, result) = Initrd::parse(archive, phys);
    let files: Vec<&File> = initrd.files().collect();
    files.iter().for_each(|file| check_file(file, archive, phys));
    let bytes_of_headers = files.len() * HEADER_BYTES;
    assert!(bytes_of_headers <= archive.len(), "{} files in {} bytes", files.len(), archive.len());

    let paths: HashSet<&str> = files.iter().map(|file| file.path).collect();
    assert_eq!(paths.len(), files.len(), "two files with one name");
    for file in &files {
        let found = initrd.find(file.path).expect("a file is found by its path");
        assert!(std::ptr::eq(found, *file), "{:?} is found elsewhere", file.path);
    }

    let ending = match result {
        Ok(()) => "whole".to_owned(),
        Err(error) => shape(&line(&error)),
    };
    let empty = files.iter().any(|file| file.bytes.is_empty());
    let nested = files.iter().any(|file| file.path.contains('/'));
    vec![
        format!("{} files: {ending}", files.len().min(3)),
        format!("{} files, empty {empty}, nested {nested}", files.len().min(20)),
    ]
}

fn check_file(file: &File, archive: &[u8], phys: Option<PhysRange>) {
    let outer = archive.as_ptr_range();
    let inner = file.bytes.as_ptr_range();
    assert!(outer.start <= inner.start && inner.end <= outer.end, "{:?} leaves the archive", file.path);
    assert!(!file.path.contains('\0') && !file.path.starts_with('/'), "{:?}", file.path);
    let offset = (inner.start.addr() - outer.start.addr()) as u64;
    let expected = PhysRange::new(ARCHIVE_PHYS + offset, file.bytes.len() as u64);
    assert_eq!(file.phys, expected, "{:?} lies elsewhere", file.path);
    assert!(file.phys.is_none_or(|range| phys.is_some_and(|phys| phys.contains(range))));
}

/// Each header by its magic, wherever it is.
fn pieces(input: &[u8]) -> Vec<usize> {
    let headers = input.windows(MAGIC.len()).enumerate().skip(1).filter(|(_, bytes)| *bytes == MAGIC);
    [0].into_iter().chain(headers.map(|(at, _)| at)).collect()
}
