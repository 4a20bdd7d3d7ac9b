//! Rows of the error matrix about copies between a pipe and the device's pages.

use guest::device::Device;
use guest::sys::{self, Errno};

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
];

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
    match answer {
        Ok(bytes) => format!("ok({bytes})"),
        Err(errno) => errno.to_string(),
    }
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
