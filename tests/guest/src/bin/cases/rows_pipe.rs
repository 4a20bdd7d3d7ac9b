//! Rows of the error matrix about copies between a pipe, or a file without a cache, and the device's pages.

use std::ffi::CString;

use guest::device::Device;
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};

use crate::matrix::Row;

/// The rows.
pub const ROWS: &[Row] = &[
    ("sendfile dax->pipe", |d| with_pipe(|_, writer| sendfile(writer, d.fd))),
    ("write(pipe, untouched dax page, 4096)", |d| at_device(d, 0, |_, writer, at| write(writer, at))),
    ("read(pipe -> untouched dax page)", |d| {
        at_device(d, 0, |reader, writer, at| {
            let bytes = [7_u8; 4096];
            write(writer, bytes.as_ptr() as usize)?;
            transfer(libc::SYS_read, reader, at)
        })
    }),
    ("write(pipe, past-end page)", |d| at_device(d, d.align, |_, writer, at| write(writer, at))),
    ("write(pipe, 4096 bytes half before the end)", |d| {
        at_device(d, d.align - 2048, |_, writer, at| write(writer, at))
    }),
    ("vmsplice dax page to pipe", |d| at_device(d, 0, |_, writer, at| vmsplice(writer, at))),
    ("O_DIRECT read -> untouched dax page", |d| direct(d, 4096, RW)),
    ("O_DIRECT read 1 MiB (or align) -> dax", |d| direct(d, MIB, RW)),
    ("O_DIRECT read -> R-only dax map", |d| direct(d, 4096, libc::PROT_READ)),
];

const MIB: usize = 1 << 20;

type Answer = Result<usize, Errno>;

/// `ok(bytes)`, or the errno's name, of what `call` does with a fresh pipe's reading and writing end.
fn with_pipe(call: impl FnOnce(i32, i32) -> Answer) -> String {
    let mut ends = [0_i32; 2];
    // SAFETY: the call writes two descriptors.
    let made = unsafe { sys::call(libc::SYS_pipe, [ends.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) };
    let answer = made.and_then(|_| call(ends[0], ends[1]));
    for fd in ends {
        let _ = sys::close(fd);
    }
    bytes(answer)
}

fn bytes(answer: Answer) -> String {
    match answer {
        Ok(bytes) => format!("ok({bytes})"),
        Err(errno) => errno.to_string(),
    }
}

/// The same of a read of `len` bytes, past any cache, to a fresh mapping of the device; what arrives is checked.
fn direct(device: &Device, len: usize, prot: i32) -> String {
    let path = CString::new(format!("/tmp/direct-{}", std::process::id())).expect("no NUL in it");
    let file = sys::numbers(
        libc::SYS_open,
        &[path.as_ptr() as usize, (libc::O_RDWR | libc::O_CREAT | libc::O_DIRECT) as usize, 0o600],
    );
    // SAFETY: the path ends in NUL.
    let _ = unsafe { sys::call(libc::SYS_unlink, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) };
    let (Ok(file), Ok(source)) = (file, Mapping::anonymous(len)) else { return format!("open: {file:?}") };
    for at in (0..len).step_by(PAGE) {
        source.store(at, (at / PAGE + 1) as u8);
    }
    let answer = device.map_as(0, len.max(device.align), prot, libc::MAP_SHARED, 0).and_then(|map| {
        let transfer = |number: i64, at: usize| {
            // SAFETY: the source is `len` bytes long, and nobody else looks at the mapping of the device.
            unsafe { sys::call(number, [file, at, len, 0, 0, 0]) }
        };
        transfer(libc::SYS_pwrite64, source.addr)?;
        let read = transfer(libc::SYS_pread64, map.addr)?;
        let arrived = (0..len).step_by(PAGE).all(|at| map.load(at) == source.load(at));
        if arrived { Ok(read) } else { Err(Errno(libc::EILSEQ)) }
    });
    let _ = sys::close(file as i32);
    bytes(answer)
}

/// The same with the address `offset` bytes into a mapping whose second half is behind the device's end.
fn at_device(device: &Device, offset: usize, call: impl FnOnce(i32, i32, usize) -> Answer) -> String {
    match device.map(2 * device.align, device.size - device.align) {
        Ok(mapping) => with_pipe(|reader, writer| call(reader, writer, mapping.addr + offset)),
        Err(errno) => format!("mmap: {errno}"),
    }
}

fn write(writer: i32, at: usize) -> Answer {
    transfer(libc::SYS_write, writer, at)
}

fn transfer(number: i64, fd: i32, at: usize) -> Answer {
    // SAFETY: `at` is an array, or in a mapping of the device that nobody else looks at.
    unsafe { sys::call(number, [fd as usize, at, 4096, 0, 0, 0]) }
}

fn vmsplice(writer: i32, at: usize) -> Answer {
    let part = [at, 4096];
    // SAFETY: one iovec, which names memory of the device.
    unsafe { sys::call(libc::SYS_vmsplice, [writer as usize, part.as_ptr() as usize, 1, 0, 0, 0]) }
}

fn sendfile(writer: i32, from: i32) -> Answer {
    sys::numbers(libc::SYS_sendfile, &[writer as usize, from as usize, 0, 4096])
}
