//! Rows of the error matrix about a live mapping: munmap, mprotect, msync and madvise.

use guest::device::Device;
use guest::fault::{self, Touch};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};
use libc::PROT_READ;

use crate::matrix::{Row, verdict};

const MADV_COLLAPSE: i32 = 25;
const MADV_SOFT_OFFLINE: i32 = 101;

/// The rows.
pub const ROWS: &[Row] = &[
    ("munmap first align of 2", |d| after_munmap(d, 0, d.align, &[("left", |_| 0), ("right", |d| d.align)])),
    ("munmap second align of 2", |d| {
        after_munmap(d, d.align, d.align, &[("left", |_| 0), ("right", |d| d.align)])
    }),
    ("munmap last 4096", |d| after_munmap(d, 2 * d.align - PAGE, PAGE, &[("last", |d| 2 * d.align - PAGE)])),
    ("munmap middle 4096", |d| after_munmap(d, middle(d), PAGE, &[("middle", middle)])),
    ("munmap len 1 (rounds up to 4096)", |d| after_munmap(d, 0, 1, &[("first", |_| 0)])),
    ("munmap len 0", |d| after_munmap(d, 0, 0, &[])),
    ("munmap misaligned addr +1", |d| after_munmap(d, 1, d.align, &[])),
    ("munmap first 4096 of one-align map", munmap_of_one),
    ("mprotect whole RWX", |d| with_two(d, |m| verdict(sys::mprotect(m.addr, m.len, RW | libc::PROT_EXEC)))),
    ("mprotect first 4096 R", |d| {
        with_two(d, |m| {
            let answer = verdict(sys::mprotect(m.addr, PAGE, PROT_READ));
            format!("{answer} w-first={} w+4096={}", m.store(0, 2), m.store(PAGE, 2))
        })
    }),
    ("mprotect middle 4096 same prot", |d| {
        with_two(d, |m| verdict(sys::mprotect(m.addr + middle(d), PAGE, RW)))
    }),
    ("mprotect whole R, sleep 50 ms, touch", read_only_for_50_ms),
    ("msync SYNC", |d| msync(d, libc::MS_SYNC)),
    ("msync ASYNC", |d| msync(d, libc::MS_ASYNC)),
    ("msync SYNC|INVALIDATE", |d| msync(d, libc::MS_SYNC | libc::MS_INVALIDATE)),
    ("msync 0 flags", |d| msync(d, 0)),
    ("madvise NORMAL", |d| advise(d, libc::MADV_NORMAL)),
    ("madvise RANDOM", |d| advise(d, libc::MADV_RANDOM)),
    ("madvise WILLNEED", |d| advise(d, libc::MADV_WILLNEED)),
    ("madvise DONTNEED", |d| advise(d, libc::MADV_DONTNEED)),
    ("madvise FREE", |d| advise(d, libc::MADV_FREE)),
    ("madvise REMOVE", |d| advise(d, libc::MADV_REMOVE)),
    ("madvise DONTFORK", |d| advise(d, libc::MADV_DONTFORK)),
    ("madvise DOFORK", |d| advise(d, libc::MADV_DOFORK)),
    ("madvise UNMERGEABLE", |d| advise(d, libc::MADV_UNMERGEABLE)),
    ("madvise DONTDUMP", |d| advise(d, libc::MADV_DONTDUMP)),
    ("madvise COLD", |d| advise(d, libc::MADV_COLD)),
    ("madvise PAGEOUT", |d| advise(d, libc::MADV_PAGEOUT)),
    ("madvise POPULATE_READ", |d| advise(d, libc::MADV_POPULATE_READ)),
    ("madvise POPULATE_WRITE", |d| advise(d, libc::MADV_POPULATE_WRITE)),
    ("madvise COLLAPSE", |d| advise(d, MADV_COLLAPSE)),
    ("madvise SOFT_OFFLINE 4096", |d| advise_part(d, 0, PAGE, MADV_SOFT_OFFLINE)),
    ("madvise DONTFORK 4096 of first", |d| advise_part(d, 0, PAGE, libc::MADV_DONTFORK)),
    ("madvise RANDOM 4096 of first", |d| advise_part(d, 0, PAGE, libc::MADV_RANDOM)),
    ("madvise DONTNEED addr+1", |d| advise_part(d, 1, d.align, libc::MADV_DONTNEED)),
];

/// Two alignments of the device, each written to.
fn two(device: &Device) -> Result<Mapping, Errno> {
    let mapping = device.map(2 * device.align, 0)?;
    mapping.store(0, 1);
    mapping.store(device.align, 1);
    Ok(mapping)
}

fn with_two(device: &Device, f: impl FnOnce(&Mapping) -> String) -> String {
    match two(device) {
        Ok(mapping) => f(&mapping),
        Err(errno) => format!("no map: {errno}"),
    }
}

/// A page in the middle of the second alignment; the second page at 4K.
fn middle(device: &Device) -> usize {
    (device.align * 3 / 2) & !(PAGE - 1)
}

/// An offset into the mapping, and its name in the row's text.
type Place = (&'static str, fn(&Device) -> usize);

/// munmap of part of two alignments, then a store to each named offset.
fn after_munmap(device: &Device, at: usize, len: usize, touched: &[Place]) -> String {
    with_two(device, |m| {
        let mut text = verdict(sys::munmap(m.addr + at, len));
        for (name, offset) in touched {
            text += &format!(" {name}={}", m.store(offset(device), 2));
        }
        text
    })
}

fn munmap_of_one(device: &Device) -> String {
    match device.map(device.align, 0) {
        Ok(m) => {
            m.store(0, 1);
            let answer = verdict(sys::munmap(m.addr, PAGE));
            format!("{answer} first={}", m.store(0, 2))
        }
        Err(errno) => format!("no map: {errno}"),
    }
}

fn read_only_for_50_ms(device: &Device) -> String {
    with_two(device, |m| {
        let answer = verdict(sys::mprotect(m.addr, m.len, PROT_READ));
        // The clock is read in a loop: sleeping calls come later, and the time is what counts.
        let end = sys::monotonic_ns() + 50_000_000;
        while sys::monotonic_ns() < end {}
        format!("{answer} read={} write={}", m.load(0), m.store(0, 2))
    })
}

fn msync(device: &Device, flags: i32) -> String {
    with_two(device, |m| verdict(sys::msync(m.addr, m.len, flags)))
}

fn advise(device: &Device, advice: i32) -> String {
    advise_part(device, 0, device.align, advice)
}

/// madvise of part of the first of two alignments, then whether its bytes are still there.
fn advise_part(device: &Device, at: usize, len: usize, advice: i32) -> String {
    with_two(device, |m| {
        m.store(0, 0xa7);
        let answer = verdict(sys::madvise(m.addr + at, len, advice));
        let after = fault::load(m.addr);
        let kept = if after == Touch::Done(0xa7) { "data-kept" } else { "data-lost" };
        format!("{answer} read-after={after} {kept}")
    })
}
