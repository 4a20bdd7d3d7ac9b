//! Structures that cross the border to programs, as plain bytes.
//!
//! linux-raw-sys has them all, but with pointers and hidden padding, which safe code cannot read as bytes.
//! So each is spelled out here, and held against the original at compile time.

use core::mem::{offset_of, size_of};
use linux_raw_sys::{general, system};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Structures with the size of their originals, and every field at the offset of the original's field of that name.
/// Fields marked `= ours` have no counterpart: padding, and unions as numbers.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident = $original:path {
        $($(#[$field_doc:meta])* $field:ident: $type:ty $(= $ours:ident)?,)*
    })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
        const _: () = {
            assert!(size_of::<$name>() == size_of::<$original>());
            $(structures!(@ $name, $original, $field $($ours)?);)*
        };
    )*};
    (@ $name:ty, $original:path, $field:ident ours) => {};
    (@ $name:ty, $original:path, $field:ident) => {
        assert!(offset_of!($name, $field) == offset_of!($original, $field));
    };
}

/// The bytes, cut or filled up with NULs.
pub fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    core::array::from_fn(|index| bytes.get(index).copied().unwrap_or(0))
}

structures! {
    /// struct stat.
    Stat = general::stat {
        st_dev: u64,
        st_ino: u64,
        st_nlink: u64,
        st_mode: u32,
        st_uid: u32,
        st_gid: u32,
        pad: u32 = ours,
        st_rdev: u64,
        st_size: u64,
        st_blksize: u64,
        st_blocks: u64,
        st_atime: u64,
        st_atime_nsec: u64,
        st_mtime: u64,
        st_mtime_nsec: u64,
        st_ctime: u64,
        st_ctime_nsec: u64,
        unused: [u64; 3] = ours,
    }

    /// struct statx_timestamp.
    StatxTimestamp = general::statx_timestamp {
        tv_sec: i64,
        tv_nsec: u32,
        reserved: i32 = ours,
    }

    /// struct statx.
    Statx = general::statx {
        stx_mask: u32,
        stx_blksize: u32,
        stx_attributes: u64,
        stx_nlink: u32,
        stx_uid: u32,
        stx_gid: u32,
        stx_mode: u16,
        spare0: u16 = ours,
        stx_ino: u64,
        stx_size: u64,
        stx_blocks: u64,
        stx_attributes_mask: u64,
        stx_atime: StatxTimestamp,
        stx_btime: StatxTimestamp,
        stx_ctime: StatxTimestamp,
        stx_mtime: StatxTimestamp,
        stx_rdev_major: u32,
        stx_rdev_minor: u32,
        stx_dev_major: u32,
        stx_dev_minor: u32,
        rest: [u64; 14] = ours,
    }

    /// struct statfs.
    Statfs = general::statfs {
        f_type: u64,
        f_bsize: u64,
        f_blocks: u64,
        f_bfree: u64,
        f_bavail: u64,
        f_files: u64,
        f_ffree: u64,
        f_fsid: u64,
        f_namelen: u64,
        f_frsize: u64,
        f_flags: u64,
        f_spare: [u64; 4],
    }

    /// struct flock.
    Flock = general::flock {
        l_type: i16,
        l_whence: i16,
        pad: u32 = ours,
        l_start: i64,
        l_len: i64,
        l_pid: i32,
        pad1: u32 = ours,
    }

    /// struct timespec.
    Timespec = general::__kernel_timespec {
        tv_sec: i64,
        tv_nsec: i64,
    }

    /// struct timeval.
    Timeval = general::timeval {
        tv_sec: i64,
        tv_usec: i64,
    }

    /// struct sigevent: the union behind sigev_notify as a thread's number.
    SigEvent = general::sigevent {
        sigev_value: u64,
        sigev_signo: i32,
        sigev_notify: u32,
        tid: i32 = ours,
        rest: [u32; 11] = ours,
    }

    /// struct rusage: the times, and 14 counters that stay zero.
    Rusage = general::rusage {
        ru_utime: Timeval,
        ru_stime: Timeval,
        counters: [u64; 14] = ours,
    }

    /// struct iovec.
    Iovec = general::iovec {
        iov_base: u64,
        iov_len: u64,
    }

    /// struct pollfd.
    PollFd = general::pollfd {
        fd: i32,
        events: u16,
        revents: u16,
    }

    /// struct rlimit64.
    Rlimit = general::rlimit64 {
        rlim_cur: u64,
        rlim_max: u64,
    }

    /// The kernel's struct sigaction.
    SigAction = general::kernel_sigaction {
        sa_handler_kernel: u64,
        sa_flags: u64,
        sa_restorer: u64,
        sa_mask: u64,
    }

    /// stack_t.
    SigAltStack = general::sigaltstack {
        ss_sp: u64,
        ss_flags: u32,
        pad: u32 = ours,
        ss_size: u64,
    }

    /// siginfo_t: the union behind si_code as numbers.
    SigInfo = general::siginfo {
        si_signo: i32 = ours,
        si_errno: i32 = ours,
        si_code: i32 = ours,
        pad: i32 = ours,
        /// si_addr of a fault; si_pid (low half) and si_uid (high half) of kill.
        value: u64 = ours,
        rest: [u64; 13] = ours,
    }

    /// struct new_utsname.
    Utsname = system::new_utsname {
        sysname: [u8; 65],
        nodename: [u8; 65],
        release: [u8; 65],
        version: [u8; 65],
        machine: [u8; 65],
        domainname: [u8; 65],
    }

    /// struct sysinfo.
    Sysinfo = system::sysinfo {
        uptime: i64,
        loads: [u64; 3],
        totalram: u64,
        freeram: u64,
        sharedram: u64,
        bufferram: u64,
        totalswap: u64,
        freeswap: u64,
        procs: u16,
        pad: [u16; 3],
        totalhigh: u64,
        freehigh: u64,
        mem_unit: u32,
        pad1: u32 = ours,
    }
}
