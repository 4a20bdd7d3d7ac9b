//! Clocks and sleep. There is no vDSO: each question is a call.

use super::abi::{Rusage, Timespec, Timeval};
use super::errno::{Answer, Errno};
use super::io::{tell, tell_if_asked};
use super::process;
use super::sched;
use super::stack::CLOCK_TICKS;
use super::thread::Thread;
use crate::clock;
use crate::task::park::{self, Wake};
use crate::user_memory;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;
use zerocopy::FromZeros;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// A tick of times(2) and /proc: 100 a second, as AT_CLKTCK says.
const NS_PER_TICK: u64 = NS_PER_SECOND / CLOCK_TICKS;

/// How many ticks that is.
pub fn to_ticks(ns: u64) -> u64 {
    ns / NS_PER_TICK
}

/// The time on one of Linux's clocks, in nanoseconds, or EINVAL.
fn now(thread: &Thread, clock: u32) -> Answer {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(clock::realtime_ns()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => {
            Ok(clock::monotonic_ns())
        }
        CLOCK_PROCESS_CPUTIME_ID => Ok(thread.process.cpu_ns()),
        CLOCK_THREAD_CPUTIME_ID => Ok(thread.task.cpu_ns()),
        _ => cpu_time(thread, clock as i32),
    }
}

/// The time on the CPU clock of a process or thread: its number, upside down, then a bit for a thread and two for the
/// kind of clock (include/linux/posix-timers_types.h; glibc: clock_getcpuclockid, pthread_getcpuclockid).
fn cpu_time(thread: &Thread, clock: i32) -> Answer {
    const OF_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    let tid = !(clock >> 3);
    match clock & 7 {
        _ if clock >= 0 || tid < 0 => Err(Errno::EINVAL),
        SCHEDULED if tid == 0 => Ok(thread.process.cpu_ns()),
        SCHEDULED => Ok(process::find(tid).ok_or(Errno::EINVAL)?.cpu_ns()),
        kind if kind == SCHEDULED | OF_THREAD => {
            Ok(sched::find(thread, tid).map_err(|_| Errno::EINVAL)?.cpu_ns())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The same as a struct timespec.
pub fn to_timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NS_PER_SECOND) as i64, tv_nsec: (ns % NS_PER_SECOND) as i64 }
}

/// The same as a struct timeval.
pub fn to_timeval(ns: u64) -> Timeval {
    let Timespec { tv_sec, tv_nsec } = to_timespec(ns);
    Timeval { tv_sec, tv_usec: tv_nsec / 1000 }
}

/// A timespec argument in nanoseconds, at most `u64::MAX` (584 years), or EFAULT or EINVAL.
pub fn read_timespec(address: u64) -> Answer {
    let Timespec { tv_sec, tv_nsec } = user_memory::read_value(address)?;
    let seconds = u64::try_from(tv_sec).map_err(|_| Errno::EINVAL)?;
    let ns = u64::try_from(tv_nsec).ok().filter(|&ns| ns < NS_PER_SECOND).ok_or(Errno::EINVAL)?;
    Ok(seconds.saturating_mul(NS_PER_SECOND).saturating_add(ns))
}

/// The time on the monotonic clock when the real-time clock shows `ns`; now, when that is past.
pub fn from_realtime(ns: u64) -> u64 {
    clock::monotonic_ns().saturating_add(ns.saturating_sub(clock::realtime_ns()))
}

/// Sleeps until then; EINTR when a signal came first.
pub fn sleep_until(thread: &Thread, deadline_ns: u64, what: &'static str) -> Result<(), Errno> {
    while park::sleep_until(deadline_ns, what) == Wake::Interrupted {
        if thread.is_interrupted() {
            return Err(Errno::EINTR);
        }
    }
    Ok(())
}

/// clock_gettime(2).
pub fn clock_gettime(thread: &mut Thread, clock: u32, out: u64) -> Answer {
    tell(out, &to_timespec(now(thread, clock)?))
}

/// clock_getres(2): all count in nanoseconds.
pub fn clock_getres(thread: &mut Thread, clock: u32, out: u64) -> Answer {
    now(thread, clock)?;
    tell_if_asked(out, &to_timespec(1))
}

/// gettimeofday(2); the time zone is UTC.
pub fn gettimeofday(out: u64, zone: u64) -> Answer {
    if out != 0 {
        user_memory::write_value(out, &to_timeval(clock::realtime_ns()))?;
    }
    if zone != 0 {
        user_memory::write_value(zone, &[0u32; 2])?;
    }
    Ok(0)
}

/// time(2).
pub fn time(out: u64) -> Answer {
    let seconds = clock::realtime_ns() / NS_PER_SECOND;
    tell_if_asked(out, &seconds)?;
    Ok(seconds)
}

/// nanosleep(2).
pub fn nanosleep(thread: &mut Thread, request: u64, rest: u64) -> Answer {
    let deadline_ns = clock::monotonic_ns().saturating_add(read_timespec(request)?);
    sleep(thread, deadline_ns, rest, "nanosleep")
}

/// clock_nanosleep(2).
pub fn clock_nanosleep(thread: &mut Thread, clock: u32, flags: u32, request: u64, rest: u64) -> Answer {
    let now = now(thread, clock)?;
    // The clocks without `nsleep` (kernel/time/posix-timers.c, posix-cpu-timers.c).
    if let CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE | CLOCK_THREAD_CPUTIME_ID =
        clock
    {
        return Err(Errno::EOPNOTSUPP);
    }
    let ns = read_timespec(request)?;
    let is_absolute = flags & TIMER_ABSTIME != 0;
    let ns = if is_absolute { ns.saturating_sub(now) } else { ns };
    let deadline_ns = clock::monotonic_ns().saturating_add(ns);
    sleep(thread, deadline_ns, if is_absolute { 0 } else { rest }, "clock_nanosleep")
}

/// Sleeps; when a signal ends it, `rest` (0: nobody asks) is told what was left.
fn sleep(thread: &Thread, deadline_ns: u64, rest: u64, what: &'static str) -> Answer {
    if let Err(errno) = sleep_until(thread, deadline_ns, what) {
        if rest != 0 {
            let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
            user_memory::write_value(rest, &to_timespec(left_ns))?;
        }
        return Err(errno);
    }
    Ok(0)
}

/// times(2): in ticks, its own and its children's, all as the programs' own; answers those since the boot.
pub fn times(thread: &mut Thread, out: u64) -> Answer {
    let process = &thread.process;
    let (own, children) = (process.cpu_ns(), process.children_ns.load(Ordering::Relaxed));
    tell_if_asked(out, &[own, 0, children, 0].map(to_ticks))?;
    Ok(to_ticks(clock::monotonic_ns()))
}

/// getrusage(2): the CPU time, all of it counted as the program's own; the counters are zero.
pub fn getrusage(thread: &mut Thread, who: i32, out: u64) -> Answer {
    const SELF: i32 = RUSAGE_SELF as i32;
    const THREAD: i32 = RUSAGE_THREAD as i32;
    let ns = match who {
        SELF => thread.process.cpu_ns(),
        THREAD => thread.task.cpu_ns(),
        RUSAGE_CHILDREN => thread.process.children_ns.load(Ordering::Relaxed),
        _ => return Err(Errno::EINVAL),
    };
    tell(out, &usage(ns))
}

/// A struct rusage with this CPU time.
pub fn usage(cpu_ns: u64) -> Rusage {
    Rusage { ru_utime: to_timeval(cpu_ns), ..Rusage::new_zeroed() }
}
