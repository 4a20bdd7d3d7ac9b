//! Timers that send signals: those of timer_create(2), and the three of setitimer(2).
//!
//! One list has those of all processes. A task of its own sleeps until the first of them comes; it is there while one is
//! armed. A timer of CPU time is looked at when it could come at the earliest. Signals are sent with the list
//! locked: a timer that was deleted or set anew is heard of no more.

use super::abi::{SigEvent, Timeval};
use super::errno::{Answer, Errno};
use super::io::{tell, tell_if_asked};
use super::memory::check_reserve;
use super::poll::{Changes, Source};
use super::process::Process;
use super::signal::{Sent, Signal};
use super::stat::NS_PER_SECOND;
use super::thread::Thread;
use super::time::{self, to_timeval};
use super::timer::{Setting, read_spec};
use crate::clock;
use crate::task::park::{self, Interruptible};
use crate::task::{self, ATTEND_RESCHED, Task};
use crate::user_memory;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicI32, Ordering};
use linux_raw_sys::general::*;
use mm::lock::{Rank, SpinLock};
use zerocopy::FromZeros;

/// Timers of timer_create(2) that there may be, in all processes together (Linux: RLIMIT_SIGPENDING of the one user). The
/// task looks at all of them with the list locked, which lets no interrupt in.
const MAX_MADE: usize = 1024;

/// So long the task sleeps at least, whatever the intervals: programs get their turn.
const LEAST_NS: u64 = 50_000;
/// And while a timer of CPU time is armed, which may be that of a process that sleeps.
const CPU_LEAST_NS: u64 = 1_000_000;

/// A timer's name in its process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    /// timer_create's: no two have one number, whatever their processes.
    Made(i32),
    /// setitimer's: ITIMER_*.
    Interval(u32),
}

struct Alarm {
    process: Arc<Process>,
    id: Id,
    clock: u32,
    /// Whose time CLOCK_THREAD_CPUTIME_ID is.
    task: Arc<Task>,
    setting: Setting,
    /// How often it has expired beyond the one time that its last signal stands for.
    overrun: u64,
    /// What it sends, if anything, and the only thread that may get it (SIGEV_THREAD_ID).
    sent: Option<Sent>,
    tid: Option<i32>,
}

struct Alarms {
    list: Vec<Alarm>,
    /// The task is there.
    is_served: bool,
}

static ALARMS: SpinLock<Alarms> =
    SpinLock::new(Rank::Children, Alarms { list: Vec::new(), is_served: false });

/// What the task has to hear of.
static CHANGED: Source = Source::new();

/// Counts the timers that were made.
static MADE: AtomicI32 = AtomicI32::new(0);

impl Alarm {
    fn now_ns(&self) -> u64 {
        match self.clock {
            CLOCK_PROCESS_CPUTIME_ID => self.process.cpu_ns(),
            CLOCK_THREAD_CPUTIME_ID => self.task.cpu_ns(),
            _ => clock::monotonic_ns(),
        }
    }

    /// How long the task may sleep when so much is left; a CPU that does not switch is made to say what it has used.
    fn wait_ns(&self, left_ns: u64) -> u64 {
        match self.clock {
            CLOCK_PROCESS_CPUTIME_ID => {
                let group = self.process.group.lock();
                group.members.iter().for_each(|member| member.task.attend(ATTEND_RESCHED));
                CPU_LEAST_NS.max(left_ns / u64::from(task::online().count_ones()))
            }
            CLOCK_THREAD_CPUTIME_ID => {
                self.task.attend(ATTEND_RESCHED);
                CPU_LEAST_NS.max(left_ns)
            }
            _ => LEAST_NS.max(left_ns),
        }
    }

    /// Sends its signal if its time has come; when to look again, on the monotonic clock.
    fn expire(&mut self) -> Option<u64> {
        let now_ns = self.now_ns();
        let (count, next) = self.setting.at(now_ns);
        self.setting = next;
        if count > 0
            && let Some(sent) = self.sent
        {
            let mut group = self.process.group.lock();
            let only = match self.tid {
                // A thread that has ended hears of nothing any more.
                Some(tid) => Some(group.find(tid)?),
                None => None,
            };
            let is_waiting = group.waits(only.as_deref(), &sent);
            let overrun = if is_waiting { self.overrun.saturating_add(count) } else { count - 1 };
            self.overrun = overrun.min(i32::MAX as u64);
            if !is_waiting {
                // What has no room is lost: nobody could be told.
                let origin = sent.origin | self.overrun << 32;
                let _ = group.send(only.as_deref(), Sent { origin, ..sent });
            }
        }
        let left_ns = next.next_ns?.saturating_sub(now_ns);
        Some(clock::monotonic_ns().saturating_add(self.wait_ns(left_ns)))
    }
}

/// What the task does.
fn serve() {
    loop {
        task::preempt_point();
        let changes = CHANGED.changes();
        let mut alarms = ALARMS.lock();
        let next_ns = alarms.list.iter_mut().filter_map(Alarm::expire).min();
        alarms.is_served = next_ns.is_some();
        drop(alarms);
        if next_ns.is_none() {
            return;
        }
        let wish = Changes { at_ns: next_ns, ..changes }.wish(Interruptible::No, "a timer");
        park::park(&wish, &|| CHANGED.changes().edge == changes.edge);
    }
}

/// Forgets the timers that execve does not leave to the next program.
pub fn forget_made(pid: i32) {
    forget(|alarm| alarm.process.pid == pid && matches!(alarm.id, Id::Made(_)));
}

/// Forgets all timers of a process.
pub fn forget_all(pid: i32) {
    forget(|alarm| alarm.process.pid == pid);
}

fn forget(is_gone: impl Fn(&Alarm) -> bool) {
    let mut alarms = ALARMS.lock();
    if alarms.list.is_empty() {
        return;
    }
    alarms.list.retain(|alarm| !is_gone(alarm));
    if alarms.list.is_empty() {
        // A run gives everything back.
        alarms.list = Vec::new();
    }
    drop(alarms);
    CHANGED.announce();
}

/// What `with` makes of a timer of this process, or EINVAL.
fn find<T>(thread: &Thread, id: Id, with: impl FnOnce(&mut Alarm) -> T) -> Result<T, Errno> {
    let mut alarms = ALARMS.lock();
    let is_it = |alarm: &&mut Alarm| Arc::ptr_eq(&alarm.process, &thread.process) && alarm.id == id;
    alarms.list.iter_mut().find(is_it).map(with).ok_or(Errno::EINVAL)
}

/// Makes a timer that is not armed, which sends what `sent` makes of it, if anything, to that thread, or to any.
fn add(thread: &Thread, id: Id, clock: u32, sent: Option<Sent>, tid: Option<i32>) -> Result<(), Errno> {
    check_reserve()?;
    let (process, task) = (Arc::clone(&thread.process), Arc::clone(&thread.task));
    let alarm = Alarm { process, id, clock, task, setting: Setting::default(), overrun: 0, sent, tid };
    let mut alarms = ALARMS.lock();
    let is_made = |alarm: &Alarm| matches!(alarm.id, Id::Made(_));
    let is_full = is_made(&alarm) && alarms.list.iter().filter(|other| is_made(other)).count() >= MAX_MADE;
    if is_full || alarms.list.try_reserve(1).is_err() {
        return Err(Errno::EAGAIN);
    }
    alarms.list.push(alarm);
    Ok(())
}

/// Sets a timer to an interval and a time; what they were, and what was left.
fn set(thread: &Thread, id: Id, spec_ns: [u64; 2], flags: u32) -> Result<[u64; 2], Errno> {
    let before_ns = find(thread, id, |alarm| {
        let now_ns = alarm.now_ns();
        let setting = Setting::new(spec_ns, flags, alarm.clock, now_ns);
        mem::replace(&mut alarm.setting, setting).spec_ns(now_ns)
    })?;
    if spec_ns[1] != 0 && !mem::replace(&mut ALARMS.lock().is_served, true) {
        let Some(task) = task::spawn(Box::new(serve)) else {
            ALARMS.lock().is_served = false;
            find(thread, id, |alarm| alarm.setting = Setting::default())?;
            return Err(Errno::EAGAIN);
        };
        task.set_affinity(u64::MAX);
    }
    CHANGED.announce();
    Ok(before_ns)
}

/// timer_create(2): its number goes to `out`. Without an event it sends SIGALRM.
pub fn timer_create(thread: &mut Thread, clock: u32, event: u64, out: u64) -> Answer {
    if !matches!(clock, CLOCK_REALTIME..=CLOCK_THREAD_CPUTIME_ID | CLOCK_BOOTTIME | CLOCK_TAI) {
        return Err(Errno::EINVAL);
    }
    let event = if event == 0 { None } else { Some(user_memory::read_value::<SigEvent>(event)?) };
    let id = MADE.fetch_add(1, Ordering::Relaxed) & i32::MAX;
    let sent = |signal, value| Sent { signal, code: SI_TIMER, origin: id as u64, value };
    let (sent, tid) = match event {
        None => (Some(sent(Signal::ALRM, id as u64)), None),
        Some(SigEvent { sigev_notify: SIGEV_NONE, .. }) => (None, None),
        Some(SigEvent { sigev_value, sigev_signo, sigev_notify, tid, .. }) => {
            let signal = Signal::new(sigev_signo as u32).ok_or(Errno::EINVAL)?;
            let tid = match sigev_notify {
                SIGEV_SIGNAL | SIGEV_THREAD => None,
                SIGEV_THREAD_ID if thread.process.group.lock().find(tid).is_some() => Some(tid),
                _ => return Err(Errno::EINVAL),
            };
            (Some(sent(signal, sigev_value)), tid)
        }
    };
    tell(out, &id)?;
    add(thread, Id::Made(id), clock, sent, tid)?;
    Ok(0)
}

/// timer_settime(2).
pub fn timer_settime(thread: &mut Thread, id: i32, flags: u32, new: u64, old: u64) -> Answer {
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let before_ns = set(thread, Id::Made(id), read_spec(new)?, flags)?;
    tell_if_asked(old, &before_ns.map(time::to_timespec))
}

/// timer_gettime(2).
pub fn timer_gettime(thread: &mut Thread, id: i32, out: u64) -> Answer {
    let left_ns = find(thread, Id::Made(id), |alarm| alarm.setting.spec_ns(alarm.now_ns()))?;
    tell(out, &left_ns.map(time::to_timespec))
}

/// timer_getoverrun(2).
pub fn timer_getoverrun(thread: &mut Thread, id: i32) -> Answer {
    find(thread, Id::Made(id), |alarm| alarm.overrun)
}

/// timer_delete(2).
pub fn timer_delete(thread: &mut Thread, id: i32) -> Answer {
    find(thread, Id::Made(id), |_| ())?;
    let process = &thread.process;
    forget(|alarm| Arc::ptr_eq(&alarm.process, process) && alarm.id == Id::Made(id));
    Ok(0)
}

/// setitimer(2), alarm(2): the timer is made when it is set first.
fn set_interval(thread: &Thread, which: u32, spec_ns: [u64; 2]) -> Result<[u64; 2], Errno> {
    // All CPU time counts as the program's own.
    let (clock, signal) = match which {
        ITIMER_REAL => (CLOCK_MONOTONIC, Signal::ALRM),
        ITIMER_VIRTUAL => (CLOCK_PROCESS_CPUTIME_ID, Signal::VTALRM),
        ITIMER_PROF => (CLOCK_PROCESS_CPUTIME_ID, Signal::PROF),
        _ => return Err(Errno::EINVAL),
    };
    let id = Id::Interval(which);
    if find(thread, id, |_| ()).is_err() {
        add(thread, id, clock, Some(Sent::new(signal, SI_KERNEL as i32, 0)), None)?;
    }
    set(thread, id, spec_ns, 0)
}

/// setitimer(2); without a new value it disarms.
pub fn setitimer(thread: &mut Thread, which: u32, new: u64, old: u64) -> Answer {
    let new: [Timeval; 2] = if new == 0 { [Timeval::new_zeroed(); 2] } else { user_memory::read_value(new)? };
    let mut spec_ns = [0; 2];
    for (ns, Timeval { tv_sec, tv_usec }) in spec_ns.iter_mut().zip(new) {
        let (Ok(seconds), 0..1_000_000) = (u64::try_from(tv_sec), tv_usec) else { return Err(Errno::EINVAL) };
        *ns = seconds.saturating_mul(NS_PER_SECOND).saturating_add(tv_usec as u64 * 1000);
    }
    let before_ns = set_interval(thread, which, spec_ns)?;
    tell_if_asked(old, &before_ns.map(to_timeval))
}

/// getitimer(2).
pub fn getitimer(thread: &mut Thread, which: u32, out: u64) -> Answer {
    if which > ITIMER_PROF {
        return Err(Errno::EINVAL);
    }
    let left_ns = find(thread, Id::Interval(which), |alarm| alarm.setting.spec_ns(alarm.now_ns()));
    tell(out, &left_ns.unwrap_or_default().map(to_timeval))
}

/// alarm(2): the seconds that were left, rounded, but not to 0 (kernel/time/itimer.c, alarm_setitimer).
pub fn alarm(thread: &mut Thread, seconds: u32) -> Answer {
    let [_, left_ns] = set_interval(thread, ITIMER_REAL, [0, u64::from(seconds) * NS_PER_SECOND])?;
    Ok((left_ns.saturating_add(NS_PER_SECOND / 2) / NS_PER_SECOND).max(u64::from(left_ns > 0)))
}
