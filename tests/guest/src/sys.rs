//! System calls of x86-64 Linux, straight from the instruction.
//!
//! Numbers and flags are the `libc` crate's; its functions are not used, for they may retry, translate or
//! refuse before the kernel is asked.

use std::arch::asm;
use std::ffi::CStr;
use std::fmt;

/// One page, the unit of every address and length that the kernel rounds.
pub const PAGE: usize = 4096;
/// Read and write.
pub const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// Private anonymous memory.
pub const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// An error number of the kernel, positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::ESRCH => "ESRCH",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::ENXIO => "ENXIO",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::ENOTDIR => "ENOTDIR",
            libc::EISDIR => "EISDIR",
            libc::EINVAL => "EINVAL",
            libc::ENOTTY => "ENOTTY",
            libc::ETXTBSY => "ETXTBSY",
            libc::EFBIG => "EFBIG",
            libc::ENOSPC => "ENOSPC",
            libc::ESPIPE => "ESPIPE",
            libc::EROFS => "EROFS",
            libc::ERANGE => "ERANGE",
            libc::ENAMETOOLONG => "ENAMETOOLONG",
            libc::ENOSYS => "ENOSYS",
            libc::EOVERFLOW => "EOVERFLOW",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::EHWPOISON => "EHWPOISON",
            n => return write!(f, "errno {n}"),
        };
        f.write_str(name)
    }
}

/// Makes system call `number` and returns the kernel's answer.
///
/// # Safety
/// The call may not write to memory that Rust believes unchanged, nor unmap what is in use.
pub unsafe fn call(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the kernel changes rax, rcx and r11 only; what the call does is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&answer) { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// A call whose arguments are numbers or memory that the program mapped for it: see the crate's head.
fn plain(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: every caller below passes a number, a live Rust buffer with its length, or an address whose
    // memory no Rust reference points into.
    unsafe { call(number, args) }
}

/// mmap(2); the address of the mapping.
pub fn mmap(addr: usize, len: usize, prot: i32, flags: i32, fd: i32, off: u64) -> Result<usize, Errno> {
    plain(libc::SYS_mmap, [addr, len, prot as usize, flags as usize, fd as usize, off as usize])
}

/// munmap(2).
pub fn munmap(addr: usize, len: usize) -> Result<(), Errno> {
    plain(libc::SYS_munmap, [addr, len, 0, 0, 0, 0]).map(drop)
}

/// mprotect(2).
pub fn mprotect(addr: usize, len: usize, prot: i32) -> Result<(), Errno> {
    plain(libc::SYS_mprotect, [addr, len, prot as usize, 0, 0, 0]).map(drop)
}

/// mremap(2); the address of the mapping.
pub fn mremap(addr: usize, old_len: usize, new_len: usize, flags: i32, to: usize) -> Result<usize, Errno> {
    plain(libc::SYS_mremap, [addr, old_len, new_len, flags as usize, to, 0])
}

/// madvise(2).
pub fn madvise(addr: usize, len: usize, advice: i32) -> Result<(), Errno> {
    plain(libc::SYS_madvise, [addr, len, advice as usize, 0, 0, 0]).map(drop)
}

/// msync(2).
pub fn msync(addr: usize, len: usize, flags: i32) -> Result<(), Errno> {
    plain(libc::SYS_msync, [addr, len, flags as usize, 0, 0, 0]).map(drop)
}

/// open(2) with mode 0600; the descriptor.
pub fn open(path: &CStr, flags: i32) -> Result<i32, Errno> {
    plain(libc::SYS_open, [path.as_ptr() as usize, flags as usize, 0o600, 0, 0, 0]).map(|fd| fd as i32)
}

/// close(2).
pub fn close(fd: i32) -> Result<(), Errno> {
    plain(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// read(2) into `buffer`.
pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    plain(libc::SYS_read, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0])
}

/// pread64(2) into `buffer` from byte `offset`.
pub fn pread(fd: i32, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let address = buffer.as_mut_ptr() as usize;
    plain(libc::SYS_pread64, [fd as usize, address, buffer.len(), offset as usize, 0, 0])
}

/// write(2) of `bytes`.
pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    plain(libc::SYS_write, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
}

/// pwrite64(2) of `bytes` at byte `offset`.
pub fn pwrite(fd: i32, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    plain(libc::SYS_pwrite64, [fd as usize, bytes.as_ptr() as usize, bytes.len(), offset as usize, 0, 0])
}

/// wait4(2) without resource usage; the child that ended, 0 when none did and WNOHANG was given.
pub fn wait4(pid: i32, status: &mut i32, options: i32) -> Result<i32, Errno> {
    plain(libc::SYS_wait4, [pid as usize, &raw mut *status as usize, options as usize, 0, 0, 0])
        .map(|pid| pid as i32)
}

/// Bytes of memory that nobody uses, by sysinfo(2).
pub fn free_bytes() -> Result<u64, Errno> {
    // SAFETY: `sysinfo` is plain numbers, for which all-zero is a value.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    plain(libc::SYS_sysinfo, [&raw mut info as usize, 0, 0, 0, 0, 0])?;
    Ok(info.freeram * u64::from(info.mem_unit))
}

/// lseek(2); the new position.
pub fn lseek(fd: i32, offset: i64, whence: i32) -> Result<usize, Errno> {
    plain(libc::SYS_lseek, [fd as usize, offset as usize, whence as usize, 0, 0, 0])
}

/// fstat(2).
pub fn fstat(fd: i32) -> Result<libc::stat, Errno> {
    // SAFETY: `stat` is plain numbers, for which all-zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    plain(libc::SYS_fstat, [fd as usize, &raw mut stat as usize, 0, 0, 0, 0]).map(|_| stat)
}

/// A call that takes numbers only (fsync, ioctl of a number, getppid, ...).
pub fn numbers(number: i64, args: &[usize]) -> Result<usize, Errno> {
    let mut six = [0; 6];
    for (slot, value) in six.iter_mut().zip(args) {
        *slot = *value;
    }
    plain(number, six)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = libc::CLOCK_MONOTONIC as usize;
    match plain(libc::SYS_clock_gettime, [clock, &raw mut time as usize, 0, 0, 0, 0]) {
        Ok(_) => time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64,
        Err(_) => 0,
    }
}
