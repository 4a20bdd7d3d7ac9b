//! Calls that wait: poll, futex, pause. Nobody else runs, so whoever waits without a time limit for something
//! that is not there already would wait for ever; the program is killed and the log says in which call.

use super::abi::PollFd;
use super::errno::{Answer, Errno};
use super::files::{Descriptors, MAX_DESCRIPTORS, Object, Stream};
use super::process::{ExitStatus, Process};
use super::signal::{self, Signal};
use super::time;
use crate::clock;
use crate::user_memory;
use linux_raw_sys::general::{
    CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG,
    FUTEX_REQUEUE, FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, POLLHUP, POLLIN, POLLNVAL,
    POLLOUT, POLLRDNORM, POLLWRNORM,
};

impl Process {
    /// Kills the program because `call` would never return. The errno is never seen.
    #[cold]
    pub(super) fn wait_for_ever(&mut self, call: &str) -> Errno {
        log::warn!("/{}: {call} would wait for ever: nobody is there to end it; killed", self.name());
        self.end(ExitStatus::Killed(Signal::KILL));
        Errno::EINTR
    }
}

/// poll(2); `timeout_ms` below 0 is no limit.
pub fn poll(process: &mut Process, fds: u64, count: u64, timeout_ms: i32) -> Answer {
    let limit_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
    poll_for(process, fds, count, limit_ns, "poll")
}

/// ppoll(2). The mask makes no difference: no signal comes from outside.
pub fn ppoll(
    process: &mut Process,
    fds: u64,
    count: u64,
    timeout: u64,
    mask: u64,
    mask_bytes: u64,
) -> Answer {
    let limit_ns = if timeout == 0 { None } else { Some(time::read_timespec(timeout)?) };
    if mask != 0 {
        signal::check_set_size(mask_bytes)?;
        user_memory::read_value::<u64>(mask)?;
    }
    poll_for(process, fds, count, limit_ns, "ppoll")
}

fn poll_for(process: &mut Process, fds: u64, count: u64, limit_ns: Option<u64>, call: &str) -> Answer {
    if count > MAX_DESCRIPTORS as u64 {
        return Err(Errno::EINVAL);
    }
    let mut ready = 0;
    for index in 0..count {
        let address = fds.checked_add(index * size_of::<PollFd>() as u64).ok_or(Errno::EFAULT)?;
        let mut entry: PollFd = user_memory::read_value(address)?;
        entry.revents = events(&process.files, &entry);
        ready += u64::from(entry.revents != 0);
        user_memory::write_value(address, &entry)?;
    }
    match limit_ns {
        _ if ready > 0 => {}
        // What is not ready now never will be: nobody else can make it so.
        Some(ns) => time::pass(ns),
        None => return Err(process.wait_for_ever(call)),
    }
    Ok(ready)
}

fn events(files: &Descriptors, entry: &PollFd) -> u16 {
    if entry.fd < 0 {
        return 0;
    }
    let possible = match files.get(entry.fd).map(|file| &file.object) {
        Err(_) => return POLLNVAL as u16,
        // A pipe that everybody has closed.
        Ok(Object::Stream(Stream::Stdin)) => POLLHUP,
        Ok(Object::Stream(Stream::Stdout | Stream::Stderr)) => POLLOUT | POLLWRNORM,
        // What cannot block is always ready (include/linux/poll.h, DEFAULT_POLLMASK).
        Ok(_) => POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM,
    };
    possible as u16 & (entry.events | POLLHUP as u16)
}

/// futex(2): waiting and waking. Waking finds nobody.
pub fn futex(
    process: &mut Process,
    word: u64,
    operation: u32,
    value: u32,
    timeout: u64,
    value3: u32,
) -> Answer {
    let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let is_known = matches!(
        command,
        FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_WAKE | FUTEX_WAKE_BITSET | FUTEX_REQUEUE | FUTEX_CMP_REQUEUE
    );
    if !is_known {
        return Err(Errno::ENOSYS);
    }
    let waits = matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET);
    let limit_ns = if waits && timeout != 0 { Some(time::read_timespec(timeout)?) } else { None };
    let has_set = matches!(command, FUTEX_WAIT_BITSET | FUTEX_WAKE_BITSET);
    if !word.is_multiple_of(4) || (has_set && value3 == 0) {
        return Err(Errno::EINVAL);
    }
    // Read also to wake: the address must be good (reference error matrix, `futex WAKE shared on dax word`).
    let current: u32 = user_memory::read_value(word)?;
    match command {
        FUTEX_CMP_REQUEUE if current != value3 => Err(Errno::EAGAIN),
        FUTEX_WAIT | FUTEX_WAIT_BITSET if current != value => Err(Errno::EAGAIN),
        FUTEX_WAIT => wait(process, limit_ns, None),
        FUTEX_WAIT_BITSET => {
            let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
            wait(process, limit_ns, Some(if realtime { CLOCK_REALTIME } else { CLOCK_MONOTONIC }))
        }
        _ => Ok(0),
    }
}

/// Waits out the limit: from now on, or until this time on `clock`.
fn wait(process: &mut Process, limit_ns: Option<u64>, clock: Option<u32>) -> Answer {
    let ns = limit_ns.ok_or_else(|| process.wait_for_ever("futex"))?;
    time::pass(match clock {
        Some(CLOCK_REALTIME) => ns.saturating_sub(clock::realtime_ns()),
        Some(_) => ns.saturating_sub(clock::monotonic_ns()),
        None => ns,
    });
    Err(Errno::ETIMEDOUT)
}

/// pause(2).
pub fn pause(process: &mut Process) -> Answer {
    Err(process.wait_for_ever("pause"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_ready_by_their_kind() {
        let files = Descriptors::new();
        let ask = |fd| events(&files, &PollFd { fd, events: (POLLIN | POLLOUT) as u16, revents: 0 });
        assert_eq!(ask(0), POLLHUP as u16);
        assert_eq!(ask(1), POLLOUT as u16);
        assert_eq!(ask(2), POLLOUT as u16);
        assert_eq!(ask(3), POLLNVAL as u16);
        assert_eq!(ask(-1), 0);
    }
}
