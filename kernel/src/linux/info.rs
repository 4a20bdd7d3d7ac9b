//! Who am I and where: identity, limits, the machine, random numbers, the thread's pointers.

use super::abi::{Rlimit, Sysinfo, Utsname, padded};
use super::errno::{Answer, Errno};
use super::files::MAX_DESCRIPTORS;
use super::io::{self, tell, tell_if_asked};
use super::process;
use super::signal::Signal;
use super::thread::Thread;
use crate::clock;
use crate::machine::machine;
use crate::random;
use crate::task;
use crate::user_memory;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;
use linux_raw_sys::prctl::{
    PR_GET_DUMPABLE, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_GET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG,
};
use mm::range::{PAGE_SIZE, USER_END};
use mm::space::STACK_LIMIT_BYTES;
use zerocopy::FromZeros;

/// arch_prctl: the numbers that linux-raw-sys lacks (arch/x86/include/uapi/asm/prctl.h).
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;

/// struct robust_list_head (include/uapi/linux/futex.h).
const ROBUST_HEAD_BYTES: u64 = size_of::<robust_list_head>() as u64;

/// RLIMIT_* of a new program: no limits but those that Linux has by default and that mean something here.
pub fn default_limits() -> [Rlimit; RLIM_NLIMITS as usize] {
    core::array::from_fn(|resource| {
        let (rlim_cur, rlim_max) = match resource as u32 {
            RLIMIT_STACK => (STACK_LIMIT_BYTES, u64::MAX),
            RLIMIT_NOFILE => (MAX_DESCRIPTORS as u64, MAX_DESCRIPTORS as u64),
            RLIMIT_CORE => (0, u64::MAX),
            RLIMIT_MEMLOCK => (u64::from(MLOCK_LIMIT), u64::from(MLOCK_LIMIT)),
            RLIMIT_MSGQUEUE | RLIMIT_NICE | RLIMIT_RTPRIO => (0, 0),
            _ => (u64::MAX, u64::MAX),
        };
        Rlimit { rlim_cur, rlim_max }
    })
}

/// prlimit64(2). New limits are kept for the program to read back; only the old ones hold.
pub fn prlimit(thread: &mut Thread, pid: i32, resource: u32, new: u64, old: u64) -> Answer {
    if pid != 0 && pid != thread.process.pid {
        return Err(Errno::ESRCH);
    }
    let wanted = if new != 0 { Some(user_memory::read_value::<Rlimit>(new)?) } else { None };
    let mut settings = thread.process.settings.lock();
    let slot = settings.limits.get_mut(resource as usize).ok_or(Errno::EINVAL)?;
    let before = *slot;
    if let Some(wanted) = wanted {
        if wanted.rlim_cur > wanted.rlim_max {
            return Err(Errno::EINVAL);
        }
        if resource == RLIMIT_NOFILE && wanted.rlim_max > MAX_DESCRIPTORS as u64 {
            return Err(Errno::EPERM);
        }
        *slot = wanted;
    }
    drop(settings);
    tell_if_asked(old, &before)
}

/// uname(2).
#[inline(never)]
pub fn uname(out: u64) -> Answer {
    let field = |text: &str| padded(text.as_bytes());
    let name = Utsname {
        sysname: field("Linux"),
        nodename: field("daxite"),
        // The Linux whose answers are given here; libc refuses to run on old ones.
        release: field("6.1.0-daxite"),
        version: field(concat!("#1 Daxite ", env!("CARGO_PKG_VERSION"))),
        machine: field("x86_64"),
        domainname: field("(none)"),
    };
    tell(out, &name)
}

/// sysinfo(2).
pub fn sysinfo(out: u64) -> Answer {
    let frames = machine().memory.frames;
    let info = Sysinfo {
        uptime: (clock::monotonic_ns() / 1_000_000_000) as i64,
        totalram: frames.total_frames() * PAGE_SIZE,
        freeram: frames.free_frames() * PAGE_SIZE,
        procs: u16::try_from(process::count_threads()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::new_zeroed()
    };
    tell(out, &info)
}

/// getresuid(2), getresgid(2): 0 for all three.
pub fn get_three_ids(real: u64, effective: u64, saved: u64) -> Answer {
    for address in [real, effective, saved] {
        user_memory::write_value(address, &0u32)?;
    }
    Ok(0)
}

/// getgroups(2): there are none, however much room the list has.
pub fn getgroups(room: i32) -> Answer {
    if room < 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

/// arch_prctl(2): the thread pointer.
pub fn arch_prctl(code: u32, address: u64) -> Answer {
    match code {
        ARCH_SET_FS if address >= USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            task::set_fs_base(address);
            Ok(0)
        }
        ARCH_GET_FS => tell(address, &task::fs_base()),
        // Nobody can set it.
        ARCH_GET_GS => tell(address, &0u64),
        _ => Err(Errno::EINVAL),
    }
}

/// set_tid_address(2): the word that is cleared at the thread's end.
pub fn set_tid_address(thread: &mut Thread, address: u64) -> Answer {
    thread.clear_tid = address;
    Ok(thread.member.tid() as u64)
}

/// set_robust_list(2).
pub fn set_robust_list(thread: &mut Thread, head: u64, len_bytes: u64) -> Answer {
    if len_bytes != ROBUST_HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    thread.robust_list = head;
    Ok(0)
}

/// get_robust_list(2): one's own; nobody but the thread itself knows it.
pub fn get_robust_list(thread: &mut Thread, tid: i32, head: u64, len_bytes: u64) -> Answer {
    if tid != 0 && tid != thread.member.tid() {
        return Err(Errno::ESRCH);
    }
    user_memory::write_value(len_bytes, &ROBUST_HEAD_BYTES)?;
    tell(head, &thread.robust_list)
}

/// getrandom(2): never blocks, whatever the flags.
pub fn getrandom(buffer: u64, count: u64, flags: u32) -> Answer {
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0
        || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE
    {
        return Err(Errno::EINVAL);
    }
    // As on Linux, the range is checked as a whole and cut to what one call gives.
    if buffer.checked_add(count).is_none_or(|end| end > USER_END) {
        return Err(Errno::EFAULT);
    }
    io::fill(buffer, count.min(u64::from(u32::MAX >> 1)), random::fill)
}

/// prctl(2): the thread's name, and settings that are as they are.
pub fn prctl(thread: &mut Thread, option: u32, argument: u64) -> Answer {
    match option {
        PR_SET_NAME => {
            let mut name = [0; 16];
            // Cut after 15 bytes, as on Linux; a longer string is no error.
            for (index, byte) in name.iter_mut().take(15).enumerate() {
                let address = argument.checked_add(index as u64).ok_or(Errno::EFAULT)?;
                *byte = user_memory::read_value(address)?;
                if *byte == 0 {
                    break;
                }
            }
            thread.name = name;
            Ok(0)
        }
        PR_SET_PDEATHSIG if argument <= Signal::COUNT as u64 => {
            thread.process.death_signal.store(argument as i32, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => tell(argument, &thread.process.death_signal.load(Ordering::Relaxed)),
        PR_GET_NAME => tell(argument, &thread.name),
        PR_GET_DUMPABLE => Ok(1),
        PR_GET_NO_NEW_PRIVS => Ok(0),
        PR_SET_DUMPABLE if argument <= 1 => Ok(0),
        PR_SET_NO_NEW_PRIVS if argument == 1 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_limits_are_linux_ones() {
        let limits = default_limits();
        let stack = limits[RLIMIT_STACK as usize];
        assert_eq!((stack.rlim_cur, stack.rlim_max), (8 << 20, u64::MAX));
        assert_eq!(limits[RLIMIT_NOFILE as usize].rlim_cur, 1024);
        assert_eq!(limits[RLIMIT_CORE as usize].rlim_cur, 0);
    }
}
