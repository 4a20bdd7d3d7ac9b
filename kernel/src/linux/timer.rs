//! Times to come, and timerfd: one as a file. Nothing runs when it comes: who looks or waits compares it with the clock.

use super::abi::Timespec;
use super::errno::{Answer, Errno};
use super::io::{tell, tell_if_asked};
use super::node::{Node, Seek};
use super::open::open_anonymous;
use super::poll::{Changes, Source};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::time;
use crate::clock;
use alloc::sync::Arc;
use linux_raw_sys::general::*;
use mm::lock::{Rank, SpinLock};

/// The file behind a timerfd.
struct Timer {
    clock: u32,
    setting: SpinLock<Setting>,
    /// Another setting, or another time to come.
    changed: Source,
}

/// When a timer expires.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The first time that nobody has heard of yet, on a clock that nobody sets; none when it is not armed.
    pub next_ns: Option<u64>,
    /// Then again and again; 0: once.
    interval_ns: u64,
}

impl Setting {
    /// What an interval and a time stand for, with TIMER_ABSTIME or without, on a clock that shows `now_ns`;
    /// CLOCK_REALTIME's is the monotonic one's. A time of 0 disarms.
    pub fn new([interval_ns, value_ns]: [u64; 2], flags: u32, clock: u32, now_ns: u64) -> Setting {
        let next_ns = match flags & TIMER_ABSTIME {
            0 => now_ns.saturating_add(value_ns),
            _ if matches!(clock, CLOCK_REALTIME | CLOCK_TAI) => time::from_realtime(value_ns),
            _ => value_ns,
        };
        Setting { next_ns: (value_ns != 0).then_some(next_ns), interval_ns }
    }

    /// How often it has expired, and what is to come.
    pub fn at(self, now_ns: u64) -> (u64, Setting) {
        match self.next_ns {
            Some(next_ns) if next_ns <= now_ns => {
                let more = (now_ns - next_ns).checked_div(self.interval_ns);
                let count = more.unwrap_or(0) + 1;
                let next_ns = more.map(|_| next_ns.saturating_add(count.saturating_mul(self.interval_ns)));
                (count, Setting { next_ns, ..self })
            }
            _ => (0, self),
        }
    }

    /// The interval, and the time that is left.
    pub fn spec_ns(self, now_ns: u64) -> [u64; 2] {
        [self.interval_ns, self.at(now_ns).1.next_ns.map_or(0, |next_ns| next_ns - now_ns)]
    }
}

/// Reads a struct itimerspec: an interval and a time.
pub fn read_spec(address: u64) -> Result<[u64; 2], Errno> {
    let value = address.checked_add(size_of::<Timespec>() as u64).ok_or(Errno::EFAULT)?;
    Ok([time::read_timespec(address)?, time::read_timespec(value)?])
}

impl Node for Timer {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Anonymous, 1, 0o600)
    }

    fn read(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        if count < size_of::<u64>() as u64 {
            return Err(Errno::EINVAL);
        }
        let mut setting = self.setting.lock();
        let (expired, next) = setting.at(clock::monotonic_ns());
        *setting = next;
        drop(setting);
        if expired == 0 {
            return Err(Errno::EAGAIN);
        }
        // Others may wait for the next one.
        self.changed.announce();
        tell(buffer, &expired)?;
        Ok(size_of::<u64>() as u64)
    }

    fn seek(&self) -> Seek {
        Seek::Nowhere
    }

    fn events(&self) -> u32 {
        let (expired, _) = self.setting.lock().at(clock::monotonic_ns());
        if expired > 0 { POLLIN | POLLRDNORM } else { 0 }
    }

    fn changes(&self, _: u32) -> Option<Changes> {
        let Changes { bits, edge, .. } = self.changed.changes();
        let next_ns = self.setting.lock().next_ns;
        let at_ns = next_ns.filter(|&next_ns| next_ns > clock::monotonic_ns());
        // It comes without being announced; then the one who reads it announces, and it is to come again.
        let has_come = next_ns.is_some() && at_ns.is_none();
        Some(Changes { bits, at_ns, edge: edge + u64::from(has_come) })
    }
}

/// timerfd_create(2): on the clocks that nobody sets.
pub fn timerfd_create(thread: &mut Thread, clock: u32, flags: u32) -> Answer {
    let is_clock = matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME);
    if !is_clock || flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let setting = SpinLock::new(Rank::File, Setting::default());
    let timer = Timer { clock, setting, changed: Source::new() };
    open_anonymous(thread, Arc::new(timer), "timerfd", flags)
}

/// timerfd_settime(2): a value of 0 disarms it.
pub fn timerfd_settime(thread: &mut Thread, fd: i32, flags: u32, new: u64, old: u64) -> Answer {
    let spec_ns = read_spec(new)?;
    // No clock is ever set, so none needs to be watched for that (TFD_TIMER_CANCEL_ON_SET).
    if flags & !TFD_SETTIME_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = thread.file(fd)?;
    let timer: &Timer = file.node_as().ok_or(Errno::EINVAL)?;
    let now_ns = clock::monotonic_ns();
    let setting = Setting::new(spec_ns, flags, timer.clock, now_ns);
    let before = core::mem::replace(&mut *timer.setting.lock(), setting);
    timer.changed.announce();
    tell_if_asked(old, &before.spec_ns(now_ns).map(time::to_timespec))
}

/// timerfd_gettime(2).
pub fn timerfd_gettime(thread: &mut Thread, fd: i32, out: u64) -> Answer {
    let file = thread.file(fd)?;
    let timer: &Timer = file.node_as().ok_or(Errno::EINVAL)?;
    let setting = *timer.setting.lock();
    tell(out, &setting.spec_ns(clock::monotonic_ns()).map(time::to_timespec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_counts_what_nobody_has_read() {
        let once = Setting { next_ns: Some(10), interval_ns: 0 };
        assert_eq!(once.at(9), (0, once));
        assert_eq!(once.at(10), (1, Setting { next_ns: None, interval_ns: 0 }));
        let often = Setting { next_ns: Some(10), interval_ns: 4 };
        assert_eq!(often.at(10), (1, Setting { next_ns: Some(14), interval_ns: 4 }));
        assert_eq!(often.at(19), (3, Setting { next_ns: Some(22), interval_ns: 4 }));
        assert_eq!(Setting::default().at(u64::MAX), (0, Setting::default()));
        assert_eq!(Setting { next_ns: Some(0), interval_ns: 1 }.at(u64::MAX - 1).0, u64::MAX);
    }
}
