//! Rows of the error matrix about mmap: sharing, protection, length, offset, hint and MAP_FIXED.

use guest::device::{Align, Device};
use guest::fault::{self, Touch};
use guest::mapping::Mapping;
use guest::sys::{self, ANON, Errno, PAGE, RW};
use libc::{MAP_FIXED, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SYNC};
use libc::{PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};

use crate::matrix::{Probe, Row, mapped, verdict};

const READ: Probe = ("read", |_, m| m.load(0));
const WRITE: Probe = ("write", |_, m| m.store(0, 0x5a));

/// The rows.
pub const ROWS: &[Row] = &[
    ("mmap SHARED RW align", |d| sharing(d, RW, MAP_SHARED)),
    ("mmap PRIVATE RW", |d| sharing(d, RW, MAP_PRIVATE)),
    ("mmap PRIVATE R", |d| sharing(d, PROT_READ, MAP_PRIVATE)),
    ("mmap type=0", |d| sharing(d, RW, 0)),
    ("mmap SHARED_VALIDATE", |d| sharing(d, RW, MAP_SHARED_VALIDATE)),
    ("mmap SHARED|SYNC", |d| sharing(d, RW, MAP_SHARED | MAP_SYNC)),
    ("mmap PRIVATE|SYNC", |d| sharing(d, RW, MAP_PRIVATE | MAP_SYNC)),
    ("mmap SHARED|POPULATE", |d| sharing(d, RW, MAP_SHARED | MAP_POPULATE)),
    ("mmap SHARED|32BIT", |d| sharing(d, RW, MAP_SHARED | libc::MAP_32BIT)),
    ("mmap SHARED|ANONYMOUS with fd", anonymous_with_fd),
    ("prot NONE", |d| sharing(d, PROT_NONE, MAP_SHARED)),
    ("prot R", |d| sharing(d, PROT_READ, MAP_SHARED)),
    ("prot W", |d| sharing(d, PROT_WRITE, MAP_SHARED)),
    ("prot X", |d| sharing(d, PROT_EXEC, MAP_SHARED)),
    ("prot RX exec ret", |d| execute(d, PROT_READ | PROT_EXEC)),
    ("prot R (not X) exec ret", |d| execute(d, PROT_READ)),
    ("O_RDONLY fd: SHARED RW", |d| opened(d, libc::O_RDONLY, RW, MAP_SHARED)),
    ("O_RDONLY fd: SHARED R", |d| opened(d, libc::O_RDONLY, PROT_READ, MAP_SHARED)),
    ("O_RDONLY fd: PRIVATE RW", |d| opened(d, libc::O_RDONLY, RW, MAP_PRIVATE)),
    ("O_WRONLY fd: SHARED W", |d| opened(d, libc::O_WRONLY, PROT_WRITE, MAP_SHARED)),
    ("O_WRONLY fd: SHARED RW", |d| opened(d, libc::O_WRONLY, RW, MAP_SHARED)),
    ("len 0", |d| window(d, 0, 0)),
    ("len 1", |d| window(d, 1, 0)),
    ("len align/2 (or 2048)", |d| window(d, d.align / 2, 0)),
    ("len align+1", |d| window(d, d.align + 1, 0)),
    ("len align+4096", |d| window(d, d.align + PAGE, 0)),
    ("len 2*align", |d| window(d, 2 * d.align, 0)),
    ("off 1", |d| window(d, d.align, 1)),
    ("off 4096", |d| window(d, d.align, PAGE as u64)),
    ("off align/2", |d| window(d, d.align, d.align as u64 / 2)),
    ("off align", |d| window(d, d.align, d.align as u64)),
    ("off size (1 align past)", |d| window(d, d.align, d.size as u64)),
    ("off 16*size", |d| window(d, d.align, 16 * d.size as u64)),
    ("off -4096", |d| window(d, d.align, (PAGE as u64).wrapping_neg())),
    ("off 2^62", |d| window(d, d.align, 1 << 62)),
    ("len size+align", past_the_end),
    ("len 2*align at off size-align", across_the_end),
    ("len size+align POPULATE", populate_past_the_end),
    ("len 8*size", |d| mapped(d, d.map(8 * d.size, 0), &[])),
    ("hint aligned", |d| hinted(d, 0, 0)),
    ("hint misaligned +1", |d| hinted(d, 1, 0)),
    ("hint misaligned +4096", |d| hinted(d, PAGE, 0)),
    ("FIXED +4096", |d| hinted(d, PAGE, MAP_FIXED)),
    ("FIXED +align/2", |d| hinted(d, d.align / 2, MAP_FIXED)),
    ("FIXED +1", |d| hinted(d, 1, MAP_FIXED)),
    ("FIXED addr 0", fixed_at_zero),
    ("FIXED misaligned over live map: old map survives?", fixed_misaligned_over_live),
    ("FIXED dax over part of anon map (aligned)", fixed_over_anonymous),
    ("two maps of one page agree", two_maps),
    ("close fd, mapping stays", close_then_write),
    ("mmap on closed fd", closed_fd),
];

fn sharing(device: &Device, prot: i32, flags: i32) -> String {
    mapped(device, device.map_as(0, device.align, prot, flags, 0), &[READ, WRITE])
}

fn window(device: &Device, len: usize, off: u64) -> String {
    mapped(device, device.map_as(0, len, RW, MAP_SHARED, off), &[READ, WRITE])
}

fn anonymous_with_fd(device: &Device) -> String {
    match device.map_as(0, device.align, RW, MAP_SHARED | libc::MAP_ANONYMOUS, 0) {
        Ok(m) => format!("ok read={} write={}", m.load(0), m.store(0, 0x5a)),
        Err(errno) => errno.to_string(),
    }
}

fn execute(device: &Device, prot: i32) -> String {
    const RET: u8 = 0xc3;
    if let Ok(code) = device.map(device.align, 0) {
        code.store(0, RET);
    }
    mapped(
        device,
        device.map_as(0, device.align, prot, MAP_SHARED, 0),
        &[("exec", |_, m| fault::exec(m.addr))],
    )
}

fn opened(device: &Device, open_flags: i32, prot: i32, flags: i32) -> String {
    let fd = match sys::open(&device.path, open_flags) {
        Ok(fd) => fd,
        Err(errno) => return format!("open {errno}"),
    };
    let mapping = Mapping::new(0, device.align, prot, flags, fd, 0);
    let _ = sys::close(fd);
    let upgrade = mapping.as_ref().map(|m| (m.addr, m.len)).ok();
    match upgrade {
        None => mapped(device, mapping, &[]),
        Some((addr, len)) => {
            let upgraded = verdict(sys::mprotect(addr, len, RW));
            format!("{} mprotect+W={upgraded}", mapped(device, mapping, &[READ]))
        }
    }
}

fn past_the_end(device: &Device) -> String {
    mapped(
        device,
        device.map(device.size + device.align, 0),
        &[
            ("last-in", |d, m| m.store(d.size - 1, 1)),
            ("first-past", |d, m| m.store(d.size, 1)),
            ("last-past-read", |d, m| m.load(d.size + d.align - 1)),
        ],
    )
}

fn across_the_end(device: &Device) -> String {
    mapped(
        device,
        device.map(2 * device.align, device.size - device.align),
        &[("in", |_, m| m.store(0, 1)), ("past", |d, m| m.store(d.align, 1))],
    )
}

fn populate_past_the_end(device: &Device) -> String {
    let len = device.size + device.align;
    mapped(device, device.map_as(0, len, RW, MAP_SHARED | MAP_POPULATE, 0), &[])
}

/// An aligned address with four alignments free behind it.
fn free_place(device: &Device) -> Result<usize, Errno> {
    device.map(4 * device.align, 0).map(|m| m.addr)
}

fn hinted(device: &Device, add: usize, flags: i32) -> String {
    let hint = match free_place(device) {
        Ok(place) => place + add,
        Err(errno) => return format!("no place: {errno}"),
    };
    let mapping = device.map_as(hint, device.align, RW, MAP_SHARED | flags, 0);
    let place = match &mapping {
        Ok(m) if m.addr == hint => " at-hint",
        Ok(_) => " elsewhere",
        Err(_) => "",
    };
    mapped(device, mapping, &[]) + place
}

fn fixed_at_zero(device: &Device) -> String {
    if device.alignment == Align::Page1G {
        return "skipped: would cover this program".into();
    }
    let mapping = device.map_as(0, device.align, RW, MAP_SHARED | MAP_FIXED, 0);
    let place = if mapping.as_ref().is_ok_and(|m| m.addr == 0) { " at-0" } else { "" };
    mapped(device, mapping, &[]) + place
}

fn fixed_misaligned_over_live(device: &Device) -> String {
    let old = match device.map(2 * device.align, 0) {
        Ok(old) => old,
        Err(errno) => return format!("first map: {errno}"),
    };
    old.store(0, 1);
    old.store(device.align, 1);
    // The new mapping lies inside the old one, whose drop unmaps both.
    let answer = sys::mmap(old.addr + PAGE, device.align, RW, MAP_SHARED | MAP_FIXED, device.fd, 0);
    let (first, second, third) = (old.load(0), old.load(PAGE), old.load(device.align));
    format!("{} old-read={first} old+4096={second} old+align={third}", verdict(answer))
}

fn fixed_over_anonymous(device: &Device) -> String {
    let align = device.align;
    let around = match Mapping::new(0, 4 * align, RW, ANON | libc::MAP_NORESERVE, -1, 0) {
        Ok(around) => around,
        Err(errno) => return format!("anonymous map: {errno}"),
    };
    let inside = around.addr.next_multiple_of(align) + align;
    match sys::mmap(inside, align, RW, MAP_SHARED | MAP_FIXED, device.fd, 0) {
        Ok(addr) => {
            let aligned = if addr.is_multiple_of(align) { "addr-aligned" } else { "addr%align!=0" };
            let place = if addr == inside { "at-hint" } else { "elsewhere" };
            format!("ok {aligned} {place} write={}", fault::store(addr, 1))
        }
        Err(errno) => errno.to_string(),
    }
}

fn two_maps(device: &Device) -> String {
    let (Ok(one), Ok(two)) = (device.map(device.align, 0), device.map(device.align, 0)) else {
        return "two maps refused".into();
    };
    for byte in [0x11, 0xee] {
        one.store(77, byte);
        if two.load(77) != Touch::Done(byte) {
            return "ok other bytes".into();
        }
    }
    "ok same bytes".into()
}

fn close_then_write(device: &Device) -> String {
    let mapping = sys::open(&device.path, libc::O_RDWR).and_then(|fd| {
        let mapping = Mapping::new(0, device.align, RW, MAP_SHARED, fd, 0);
        sys::close(fd).and(mapping)
    });
    match mapping {
        Ok(m) => format!("write={}", m.store(0, 1)),
        Err(errno) => errno.to_string(),
    }
}

fn closed_fd(device: &Device) -> String {
    let mapping = sys::open(&device.path, libc::O_RDWR).and_then(|fd| {
        sys::close(fd)?;
        Mapping::new(0, device.align, RW, MAP_SHARED, fd, 0)
    });
    verdict(mapping)
}
