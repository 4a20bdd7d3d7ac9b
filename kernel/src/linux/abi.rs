//! Structures that cross the border to programs, as plain bytes.
//!
//! linux-raw-sys has them all, but with pointers and hidden padding, which safe code cannot read as bytes.
//! So each is spelled out here, and `same_layout!` holds it against the original at compile time.

use core::mem::{offset_of, size_of};
use linux_raw_sys::{general, system};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Fails to compile unless our structure has the original's size and the named fields at its offsets.
macro_rules! same_layout {
    ($ours:ty, $theirs:ty $(, $field:ident)*) => {
        const _: () = {
            assert!(size_of::<$ours>() == size_of::<$theirs>());
            $(assert!(offset_of!($ours, $field) == offset_of!($theirs, $field));)*
        };
    };
}

/// struct stat.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Stat {
    pub st_dev: u64,
    pub st_ino: u64,
    pub st_nlink: u64,
    pub st_mode: u32,
    pub st_uid: u32,
    pub st_gid: u32,
    pub pad: u32,
    pub st_rdev: u64,
    pub st_size: u64,
    pub st_blksize: u64,
    pub st_blocks: u64,
    pub st_atime: u64,
    pub st_atime_nsec: u64,
    pub st_mtime: u64,
    pub st_mtime_nsec: u64,
    pub st_ctime: u64,
    pub st_ctime_nsec: u64,
    pub unused: [u64; 3],
}
same_layout!(
    Stat,
    general::stat,
    st_dev,
    st_ino,
    st_nlink,
    st_mode,
    st_uid,
    st_gid,
    st_rdev,
    st_size,
    st_blksize,
    st_blocks,
    st_atime,
    st_mtime,
    st_ctime
);

/// struct statx_timestamp.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct StatxTimestamp {
    pub tv_sec: i64,
    pub tv_nsec: u32,
    pub reserved: i32,
}
same_layout!(StatxTimestamp, general::statx_timestamp, tv_sec, tv_nsec);

/// struct statx.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Statx {
    pub stx_mask: u32,
    pub stx_blksize: u32,
    pub stx_attributes: u64,
    pub stx_nlink: u32,
    pub stx_uid: u32,
    pub stx_gid: u32,
    pub stx_mode: u16,
    pub spare0: u16,
    pub stx_ino: u64,
    pub stx_size: u64,
    pub stx_blocks: u64,
    pub stx_attributes_mask: u64,
    pub stx_atime: StatxTimestamp,
    pub stx_btime: StatxTimestamp,
    pub stx_ctime: StatxTimestamp,
    pub stx_mtime: StatxTimestamp,
    pub stx_rdev_major: u32,
    pub stx_rdev_minor: u32,
    pub stx_dev_major: u32,
    pub stx_dev_minor: u32,
    pub rest: [u64; 14],
}
same_layout!(
    Statx,
    general::statx,
    stx_mask,
    stx_blksize,
    stx_nlink,
    stx_mode,
    stx_ino,
    stx_size,
    stx_blocks,
    stx_mtime,
    stx_rdev_major,
    stx_rdev_minor,
    stx_dev_major,
    stx_dev_minor
);

/// struct timespec.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Timespec {
    pub tv_sec: i64,
    pub tv_nsec: i64,
}
same_layout!(Timespec, general::__kernel_timespec, tv_sec, tv_nsec);

/// struct timeval.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Timeval {
    pub tv_sec: i64,
    pub tv_usec: i64,
}
same_layout!(Timeval, general::timeval, tv_sec, tv_usec);

/// struct rusage: the times, and 14 counters that stay zero.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Rusage {
    pub ru_utime: Timeval,
    pub ru_stime: Timeval,
    pub counters: [u64; 14],
}
same_layout!(Rusage, general::rusage, ru_utime, ru_stime);

/// struct iovec.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Iovec {
    pub iov_base: u64,
    pub iov_len: u64,
}
same_layout!(Iovec, general::iovec, iov_base, iov_len);

/// struct pollfd.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct PollFd {
    pub fd: i32,
    pub events: u16,
    pub revents: u16,
}
same_layout!(PollFd, general::pollfd, fd, events, revents);

/// struct rlimit64.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Rlimit {
    pub rlim_cur: u64,
    pub rlim_max: u64,
}
same_layout!(Rlimit, general::rlimit64, rlim_cur, rlim_max);

/// The kernel's struct sigaction.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct SigAction {
    pub sa_handler_kernel: u64,
    pub sa_flags: u64,
    pub sa_restorer: u64,
    pub sa_mask: u64,
}
same_layout!(SigAction, general::kernel_sigaction, sa_handler_kernel, sa_flags, sa_restorer, sa_mask);

/// stack_t.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct SigAltStack {
    pub ss_sp: u64,
    pub ss_flags: u32,
    pub pad: u32,
    pub ss_size: u64,
}
same_layout!(SigAltStack, general::sigaltstack, ss_sp, ss_flags, ss_size);

/// siginfo_t: the union behind si_code as numbers.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct SigInfo {
    pub si_signo: i32,
    pub si_errno: i32,
    pub si_code: i32,
    pub pad: i32,
    /// si_addr of a fault; si_pid (low half) and si_uid (high half) of kill.
    pub value: u64,
    pub rest: [u64; 13],
}
same_layout!(SigInfo, general::siginfo);

/// struct new_utsname.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Utsname {
    pub sysname: [u8; 65],
    pub nodename: [u8; 65],
    pub release: [u8; 65],
    pub version: [u8; 65],
    pub machine: [u8; 65],
    pub domainname: [u8; 65],
}
same_layout!(Utsname, system::new_utsname, sysname, nodename, release, version, machine, domainname);

/// struct sysinfo.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Sysinfo {
    pub uptime: i64,
    pub loads: [u64; 3],
    pub totalram: u64,
    pub freeram: u64,
    pub sharedram: u64,
    pub bufferram: u64,
    pub totalswap: u64,
    pub freeswap: u64,
    pub procs: u16,
    pub pad: [u16; 3],
    pub totalhigh: u64,
    pub freehigh: u64,
    pub mem_unit: u32,
    pub pad1: u32,
}
same_layout!(Sysinfo, system::sysinfo, uptime, totalram, freeram, procs, totalhigh, mem_unit);
