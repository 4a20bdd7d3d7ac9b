//! Calls that wait for descriptors or signals: poll and pause. No descriptor becomes ready while one waits: who waits
//! without a time limit waits for a signal.

use super::abi::PollFd;
use super::errno::{Answer, Errno};
use super::files::{Descriptors, MAX_DESCRIPTORS};
use super::signal;
use super::thread::Thread;
use super::time;
use crate::clock;
use crate::user_memory;
use linux_raw_sys::general::{POLLHUP, POLLNVAL};

/// poll(2); `timeout_ms` below 0 is no limit.
pub fn poll(thread: &mut Thread, fds: u64, count: u64, timeout_ms: i32) -> Answer {
    let limit_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
    poll_for(thread, fds, count, limit_ns, "poll")
}

/// ppoll(2): with another mask until it returns.
pub fn ppoll(thread: &mut Thread, fds: u64, count: u64, timeout: u64, mask: u64, mask_bytes: u64) -> Answer {
    let limit_ns = if timeout == 0 { None } else { Some(time::read_timespec(timeout)?) };
    if mask != 0 {
        signal::check_set_size(mask_bytes)?;
        thread.suspend_mask(user_memory::read_value(mask)?);
    }
    let answer = poll_for(thread, fds, count, limit_ns, "ppoll");
    // Interrupted, it leaves that to the signal's frame.
    if answer != Err(Errno::EINTR) {
        thread.resume_mask();
    }
    answer
}

fn poll_for(thread: &mut Thread, fds: u64, count: u64, limit_ns: Option<u64>, call: &'static str) -> Answer {
    if count > MAX_DESCRIPTORS as u64 {
        return Err(Errno::EINVAL);
    }
    let mut ready = 0;
    for index in 0..count {
        let address = fds.checked_add(index * size_of::<PollFd>() as u64).ok_or(Errno::EFAULT)?;
        let mut entry: PollFd = user_memory::read_value(address)?;
        entry.revents = events(&thread.files.lock(), &entry);
        ready += u64::from(entry.revents != 0);
        user_memory::write_value(address, &entry)?;
    }
    match limit_ns {
        _ if ready > 0 => {}
        Some(ns) => time::sleep_until(thread, clock::monotonic_ns().saturating_add(ns), call)?,
        None => return Err(thread.wait_for_signal(call)),
    }
    Ok(ready)
}

fn events(files: &Descriptors, entry: &PollFd) -> u16 {
    if entry.fd < 0 {
        return 0;
    }
    match files.get(entry.fd) {
        Err(_) => POLLNVAL as u16,
        Ok(file) => file.node.events() as u16 & (entry.events | POLLHUP as u16),
    }
}

/// pause(2).
pub fn pause(thread: &mut Thread) -> Answer {
    Err(thread.wait_for_signal("pause"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::{POLLIN, POLLOUT};

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
