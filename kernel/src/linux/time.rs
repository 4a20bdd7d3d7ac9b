//! Clocks. There is no vDSO: each question is a call. CPU time is the time since the program's start, for
//! nothing else runs.

use super::abi::{Rusage, Timespec, Timeval};
use super::errno::{Answer, Errno};
use super::process::Process;
use crate::clock;
use crate::user_memory;
use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, RUSAGE_CHILDREN, RUSAGE_SELF,
    RUSAGE_THREAD, TIMER_ABSTIME,
};
use zerocopy::FromZeros;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// The time on one of Linux's clocks, in nanoseconds, or EINVAL.
fn now(process: &Process, clock: u32) -> Answer {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(clock::realtime_ns()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => {
            Ok(clock::monotonic_ns())
        }
        CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID => {
            Ok(clock::monotonic_ns().saturating_sub(process.started_ns()))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn to_timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NS_PER_SECOND) as i64, tv_nsec: (ns % NS_PER_SECOND) as i64 }
}

/// A timespec argument in nanoseconds, at most `u64::MAX` (584 years), or EFAULT or EINVAL.
pub fn read_timespec(address: u64) -> Answer {
    let Timespec { tv_sec, tv_nsec } = user_memory::read_value(address)?;
    let seconds = u64::try_from(tv_sec).map_err(|_| Errno::EINVAL)?;
    let ns = u64::try_from(tv_nsec).ok().filter(|&ns| ns < NS_PER_SECOND).ok_or(Errno::EINVAL)?;
    Ok(seconds.saturating_mul(NS_PER_SECOND).saturating_add(ns))
}

/// Waits for `ns` nanoseconds. There is nothing else to do meanwhile.
pub fn pass(ns: u64) {
    let start = clock::monotonic_ns();
    while clock::monotonic_ns() - start < ns {
        core::hint::spin_loop();
    }
}

/// clock_gettime(2).
pub fn clock_gettime(process: &mut Process, clock: u32, out: u64) -> Answer {
    user_memory::write_value(out, &to_timespec(now(process, clock)?))?;
    Ok(0)
}

/// clock_getres(2): all count in nanoseconds.
pub fn clock_getres(process: &mut Process, clock: u32, out: u64) -> Answer {
    now(process, clock)?;
    if out != 0 {
        user_memory::write_value(out, &to_timespec(1))?;
    }
    Ok(0)
}

/// gettimeofday(2); the time zone is UTC.
pub fn gettimeofday(out: u64, zone: u64) -> Answer {
    if out != 0 {
        let Timespec { tv_sec, tv_nsec } = to_timespec(clock::realtime_ns());
        user_memory::write_value(out, &Timeval { tv_sec, tv_usec: tv_nsec / 1000 })?;
    }
    if zone != 0 {
        user_memory::write_value(zone, &[0u32; 2])?;
    }
    Ok(0)
}

/// time(2).
pub fn time(out: u64) -> Answer {
    let seconds = clock::realtime_ns() / NS_PER_SECOND;
    if out != 0 {
        user_memory::write_value(out, &seconds)?;
    }
    Ok(seconds)
}

/// nanosleep(2). Nothing interrupts it, so the remaining time is never written.
pub fn nanosleep(request: u64) -> Answer {
    pass(read_timespec(request)?);
    Ok(0)
}

/// clock_nanosleep(2).
pub fn clock_nanosleep(process: &mut Process, clock: u32, flags: u32, request: u64) -> Answer {
    let now = now(process, clock)?;
    // The clocks without `nsleep` (kernel/time/posix-timers.c, posix-cpu-timers.c).
    if let CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE | CLOCK_THREAD_CPUTIME_ID =
        clock
    {
        return Err(Errno::EOPNOTSUPP);
    }
    let ns = read_timespec(request)?;
    pass(if flags & TIMER_ABSTIME != 0 { ns.saturating_sub(now) } else { ns });
    Ok(0)
}

/// getrusage(2): the CPU time, all of it the program's own; the counters are zero, and there are no children.
pub fn getrusage(process: &mut Process, who: i32, out: u64) -> Answer {
    let mut usage = Rusage::new_zeroed();
    if who == RUSAGE_SELF as i32 || who == RUSAGE_THREAD as i32 {
        let Timespec { tv_sec, tv_nsec } = to_timespec(now(process, CLOCK_PROCESS_CPUTIME_ID)?);
        usage.ru_utime = Timeval { tv_sec, tv_usec: tv_nsec / 1000 };
    } else if who != RUSAGE_CHILDREN {
        return Err(Errno::EINVAL);
    }
    user_memory::write_value(out, &usage)?;
    Ok(0)
}
