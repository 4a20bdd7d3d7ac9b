//! Rows of the error matrix about the descriptor: open, fstat, read and write, lseek, sync, ioctl.

use guest::device::Device;
use guest::sys::{self, Errno};

use crate::matrix::{Row, verdict};

/// The rows.
pub const ROWS: &[Row] = &[
    ("open O_RDWR", |d| reopen(d, libc::O_RDWR)),
    ("open O_RDONLY", |d| reopen(d, libc::O_RDONLY)),
    ("open O_WRONLY", |d| reopen(d, libc::O_WRONLY)),
    ("open O_RDWR|O_DIRECT", |d| reopen(d, libc::O_RDWR | libc::O_DIRECT)),
    ("open O_RDWR|O_TRUNC", |d| reopen(d, libc::O_RDWR | libc::O_TRUNC)),
    ("open O_RDWR|O_APPEND", |d| reopen(d, libc::O_RDWR | libc::O_APPEND)),
    ("open O_EXCL|O_CREAT", |d| reopen(d, libc::O_RDWR | libc::O_EXCL | libc::O_CREAT)),
    ("open second O_RDWR", second),
    ("fstat", fstat),
    ("read(fd,4096)", |d| transfer(d, libc::SYS_read, 4096, 0)),
    ("read(fd,0)", |d| transfer(d, libc::SYS_read, 0, 0)),
    ("write(fd,4096)", |d| transfer(d, libc::SYS_write, 4096, 0)),
    ("pread(fd)", |d| transfer(d, libc::SYS_pread64, 4096, 0)),
    ("pwrite(fd)", |d| transfer(d, libc::SYS_pwrite64, 4096, 0)),
    ("readv", |d| vector(d, libc::SYS_readv)),
    ("writev", |d| vector(d, libc::SYS_writev)),
    ("lseek SET align", |d| verdict(sys::lseek(d.fd, d.align as i64, libc::SEEK_SET))),
    ("lseek END", seek_end),
    ("lseek SET size+align", |d| verdict(sys::lseek(d.fd, (d.size + d.align) as i64, libc::SEEK_SET))),
    ("fallocate", |d| fallocate(d, 0)),
    ("fallocate PUNCH_HOLE", |d| fallocate(d, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)),
    ("fsync", |d| verdict(sys::numbers(libc::SYS_fsync, &[d.fd as usize]))),
    ("fdatasync", |d| verdict(sys::numbers(libc::SYS_fdatasync, &[d.fd as usize]))),
    ("ioctl BLKGETSIZE64", blkgetsize64),
];

fn reopen(device: &Device, flags: i32) -> String {
    verdict(sys::open(&device.path, flags).and_then(sys::close))
}

fn second(device: &Device) -> String {
    let first = sys::open(&device.path, libc::O_RDWR);
    let second = sys::open(&device.path, libc::O_RDWR);
    let text = verdict(first.and(second));
    for fd in first.into_iter().chain(second) {
        let _ = sys::close(fd);
    }
    text
}

fn fstat(device: &Device) -> String {
    let stat = match sys::fstat(device.fd) {
        Ok(stat) => stat,
        Err(errno) => return errno.to_string(),
    };
    let kind = if stat.st_mode & libc::S_IFMT == libc::S_IFCHR { "S_IFCHR" } else { "not S_IFCHR" };
    format!("ok {kind} st_size={} blksize={}", size_name(device, stat.st_size as usize), stat.st_blksize)
}

/// `SIZE` for the device's own size, which differs from run to run.
fn size_name(device: &Device, size: usize) -> String {
    if size == device.size && size != 0 { "SIZE".into() } else { size.to_string() }
}

fn transfer(device: &Device, number: i64, len: usize, offset: usize) -> String {
    let mut buffer = [0_u8; 4096];
    // SAFETY: the buffer is live and at least `len` long.
    verdict(unsafe {
        sys::call(number, [device.fd as usize, buffer.as_mut_ptr() as usize, len, offset, 0, 0])
    })
}

fn vector(device: &Device, number: i64) -> String {
    let mut buffer = [0_u8; 4096];
    let iov = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
    // SAFETY: one iovec that names a live buffer.
    verdict(unsafe { sys::call(number, [device.fd as usize, iov.as_ptr() as usize, 1, 0, 0, 0]) })
}

fn seek_end(device: &Device) -> String {
    match sys::lseek(device.fd, 0, libc::SEEK_END) {
        Ok(0) => "ok".into(),
        Ok(position) => format!("ok {}", size_name(device, position)),
        Err(errno) => errno.to_string(),
    }
}

fn fallocate(device: &Device, mode: i32) -> String {
    verdict(sys::numbers(libc::SYS_fallocate, &[device.fd as usize, mode as usize, 0, device.align]))
}

fn blkgetsize64(device: &Device) -> String {
    const BLKGETSIZE64: usize = 0x8008_1272;
    let mut size = 0_u64;
    let args = [device.fd as usize, BLKGETSIZE64, &raw mut size as usize, 0, 0, 0];
    // SAFETY: the call may write the eight bytes of `size`.
    let answer: Result<usize, Errno> = unsafe { sys::call(libc::SYS_ioctl, args) };
    verdict(answer)
}
