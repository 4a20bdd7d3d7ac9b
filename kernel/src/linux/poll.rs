//! Waiting for files: poll, select, and reads and writes that have to wait.
//!
//! Who changes what a file's `events` say announces it by a [`Source`]; who waits looks, then parks with the bits of all
//! that it looked at. Sources share the 32 bits: a wake-up says "look again", no more. Nothing is lost: announcements
//! are counted, the count is read before the look, and the park is refused when it has moved.

use super::abi::PollFd;
use super::errno::{Answer, Errno};
use super::files::{MAX_DESCRIPTORS, OpenFile};
use super::signal::{self, Signal};
use super::thread::Thread;
use crate::clock;
use crate::task;
use crate::task::park::{self, Interruptible, Key, Park};
use crate::user_memory;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::*;
use zerocopy::IntoBytes;

/// How what a file's `events` say may change.
#[derive(Clone, Copy, Default)]
pub struct Changes {
    /// Bits under which it is announced; 0: by nobody.
    pub bits: u32,
    /// When it comes by itself, on the monotonic clock.
    pub at_ns: Option<u64>,
    /// Another number after every change: what an edge is to epoll.
    pub edge: u64,
}

impl Changes {
    /// Those of two.
    pub fn and(self, other: Changes) -> Changes {
        let at_ns = self.at_ns.into_iter().chain(other.at_ns).min();
        let edge = self.edge.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(other.edge);
        Changes { bits: self.bits | other.bits, at_ns, edge }
    }

    /// The wish to sleep until they come.
    pub fn wish(self, interruptible: Interruptible, what: &'static str) -> Park {
        Park { key: key(), mask: self.bits, deadline_ns: self.at_ns, interruptible, what }
    }
}

/// Something that others wait for, as who brings it about has it.
#[derive(Default)]
pub struct Source {
    announced: AtomicU64,
}

impl Source {
    /// One that nobody has heard of.
    pub const fn new() -> Source {
        Source { announced: AtomicU64::new(0) }
    }

    /// How those that wait learn of it.
    pub fn changes(&self) -> Changes {
        Changes { bits: self.bit(), at_ns: None, edge: self.announced.load(Ordering::SeqCst) }
    }

    /// Tells them that it may have come.
    pub fn announce(&self) {
        self.announced.fetch_add(1, Ordering::SeqCst);
        ANNOUNCED.fetch_add(1, Ordering::SeqCst);
        park::unpark(key(), self.bit(), usize::MAX);
    }

    fn bit(&self) -> u32 {
        let address = core::ptr::from_ref(self).addr() >> 3;
        1 << (address.wrapping_mul(0x9e37_79b9) >> 16 & 31)
    }
}

/// Announcements of all sources so far.
static ANNOUNCED: AtomicU64 = AtomicU64::new(0);

fn key() -> Key {
    Key { object: (&raw const ANNOUNCED).addr() as u64, offset: 0 }
}

/// Asks `look` until it answers other than EAGAIN; it says what it has looked at. `Ok(0)` when `deadline_ns` comes first,
/// EINTR when a signal does.
pub fn wait(
    thread: &mut Thread,
    deadline_ns: Option<u64>,
    what: &'static str,
    look: &mut dyn FnMut(&mut Thread, &mut Changes) -> Answer,
) -> Answer {
    loop {
        let announced = ANNOUNCED.load(Ordering::SeqCst);
        let mut changes = Changes { at_ns: deadline_ns, ..Changes::default() };
        let answer = look(thread, &mut changes);
        if answer != Err(Errno::EAGAIN) {
            return answer;
        }
        // Where others change much, the park may be refused again and again: they get their turn, and signals theirs.
        task::preempt_point();
        if thread.task.attention() != 0 && thread.is_interrupted() {
            return Err(Errno::EINTR);
        }
        if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= clock::monotonic_ns()) {
            return Ok(0);
        }
        let wish = changes.wish(Interruptible::Yes, what);
        if thread.park(&wish, &|| ANNOUNCED.load(Ordering::SeqCst) == announced).is_none() {
            return Err(Errno::EINTR);
        }
    }
}

/// Does `step` until it does not have to wait (EAGAIN) for the file, unless that was opened with O_NONBLOCK. A signal
/// with SA_RESTART starts the call again; EPIPE raises SIGPIPE.
pub fn transfer(
    thread: &mut Thread,
    file: &OpenFile,
    what: &'static str,
    step: &mut dyn FnMut(&mut Thread) -> Answer,
) -> Answer {
    let mut answer = step(thread);
    if answer == Err(Errno::EAGAIN) && !file.is_nonblocking() {
        answer = wait(thread, None, what, &mut |thread, changes| {
            *changes = file.node.changes(!0).unwrap_or_default();
            step(thread)
        });
        if answer == Err(Errno::EINTR) {
            return Err(thread.restartable());
        }
    }
    if answer == Err(Errno::EPIPE) {
        thread.raise(Signal::PIPE);
    }
    answer
}

/// Which of `wanted`, or POLLERR and POLLHUP, a file shows.
pub fn events(file: &OpenFile, wanted: u32, changes: &mut Changes) -> u32 {
    // Asked first: a timer may expire in between.
    *changes = changes.and(file.node.changes(wanted).unwrap_or_default());
    file.node.events() & (wanted | POLLERR | POLLHUP)
}

/// poll(2); `timeout_ms` below 0 is no limit.
pub fn poll(thread: &mut Thread, fds: u64, count: u64, timeout_ms: i32) -> Answer {
    wait(thread, deadline_in_ms(timeout_ms), "poll", &mut |thread, changes| {
        look_at(thread, fds, count, changes)
    })
}

/// When a time limit is over; below 0 there is none.
pub fn deadline_in_ms(timeout_ms: i32) -> Option<u64> {
    let limit_ns = u64::try_from(timeout_ms).ok()? * 1_000_000;
    Some(clock::monotonic_ns().saturating_add(limit_ns))
}

/// ppoll(2): with other signals blocked until it returns.
pub fn ppoll(thread: &mut Thread, fds: u64, count: u64, timeout: u64, mask: [u64; 2]) -> Answer {
    let look = &mut |thread: &mut Thread, changes: &mut Changes| look_at(thread, fds, count, changes);
    wait_limited(thread, (timeout, 1), mask, "ppoll", look)
}

/// Fills in what the `count` entries at `fds` ask for; how many have something, or EAGAIN.
fn look_at(thread: &mut Thread, fds: u64, count: u64, changes: &mut Changes) -> Answer {
    if count > MAX_DESCRIPTORS as u64 {
        return Err(Errno::EINVAL);
    }
    let mut ready = 0;
    for index in 0..count {
        let address = fds.checked_add(index * size_of::<PollFd>() as u64).ok_or(Errno::EFAULT)?;
        let mut entry: PollFd = user_memory::read_value(address)?;
        entry.revents = match thread.file(entry.fd) {
            _ if entry.fd < 0 => 0,
            Err(_) => POLLNVAL as u16,
            Ok(file) => events(&file, entry.events.into(), changes) as u16,
        };
        ready += u64::from(entry.revents != 0);
        user_memory::write_value(address, &entry)?;
    }
    if ready > 0 { Ok(ready) } else { Err(Errno::EAGAIN) }
}

/// A set of descriptors (fd_set).
type Set = [u64; MAX_DESCRIPTORS / 64];

/// What the three sets of select ask for (fs/select.c, POLLIN_SET, POLLOUT_SET, POLLEX_SET).
const ASKED: [u32; 3] = [
    POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR,
    POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR,
    POLLPRI,
];

/// select(2), pselect6(2): `timeout` is an address and the nanoseconds of its smaller unit; `masked`, if it is not 0, leads
/// to the address and the size of a signal mask.
#[inline(never)]
pub fn select(thread: &mut Thread, count: i32, sets: [u64; 3], timeout: (u64, u64), masked: u64) -> Answer {
    let mask = if masked == 0 { [0; 2] } else { user_memory::read_value(masked)? };
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(MAX_DESCRIPTORS);
    let len_bytes = count.div_ceil(64) * 8;
    let given = || sets.iter().enumerate().filter(|(_, address)| **address != 0);
    let (mut asked, mut found) = ([Set::default(); 3], [Set::default(); 3]);
    for (index, &address) in given() {
        user_memory::read(address, asked[index].as_mut_bytes().split_at_mut(len_bytes).0)?;
    }
    let ready = wait_limited(thread, timeout, mask, "select", &mut |thread, changes| {
        let mut ready = 0;
        for fd in 0..count {
            let (word, bit) = (fd / 64, 1 << (fd % 64));
            if asked.iter().all(|set| set[word] & bit == 0) {
                continue;
            }
            let shown = events(&*thread.file(fd as i32)?, !0, changes);
            for ((asked, found), events) in asked.iter().zip(&mut found).zip(ASKED) {
                if asked[word] & bit != 0 && shown & events != 0 {
                    found[word] |= bit;
                    ready += 1;
                }
            }
        }
        if ready > 0 { Ok(ready) } else { Err(Errno::EAGAIN) }
    })?;
    for (index, &address) in given() {
        user_memory::write(address, found[index].as_bytes().split_at(len_bytes).0)?;
    }
    Ok(ready)
}

/// Waits as [`wait`] does, with the signals of a mask, if there is one, blocked meanwhile.
pub fn wait_masked(
    thread: &mut Thread,
    deadline_ns: Option<u64>,
    [mask, mask_bytes]: [u64; 2],
    what: &'static str,
    look: &mut dyn FnMut(&mut Thread, &mut Changes) -> Answer,
) -> Answer {
    if mask != 0 {
        signal::check_set_size(mask_bytes)?;
        thread.suspend_mask(user_memory::read_value(mask)?);
    }
    let answer = wait(thread, deadline_ns, what, look);
    // Interrupted, it leaves that to the signal's frame.
    if answer != Err(Errno::EINTR) {
        thread.resume_mask();
    }
    answer
}

/// The same with a timeout in memory: what is left of it is told, if it can be written.
fn wait_limited(
    thread: &mut Thread,
    (timeout, unit_ns): (u64, u64),
    mask: [u64; 2],
    what: &'static str,
    look: &mut dyn FnMut(&mut Thread, &mut Changes) -> Answer,
) -> Answer {
    const SECOND_NS: u64 = 1_000_000_000;
    let mut deadline_ns = None;
    if timeout != 0 {
        let [seconds, units] = user_memory::read_value::<[i64; 2]>(timeout)?.map(u64::try_from);
        let (Ok(seconds), Ok(units @ ..SECOND_NS)) = (seconds, units) else { return Err(Errno::EINVAL) };
        let ns = seconds.saturating_mul(SECOND_NS).saturating_add(units * unit_ns);
        deadline_ns = Some(clock::monotonic_ns().saturating_add(ns));
    }
    let answer = wait_masked(thread, deadline_ns, mask, what, look);
    if let Some(deadline_ns) = deadline_ns {
        let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
        let _ = user_memory::write_value(timeout, &[left_ns / SECOND_NS, left_ns % SECOND_NS / unit_ns]);
    }
    answer
}

/// pause(2).
pub fn pause(thread: &mut Thread) -> Answer {
    Err(thread.wait_for_signal("pause", None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::dev::Stream;
    use alloc::sync::Arc;

    #[test]
    fn streams_are_ready_by_their_kind() {
        let ask = |stream| {
            let file = OpenFile::new(Arc::new(stream), O_RDWR);
            events(&file, POLLIN | POLLOUT, &mut Changes::default())
        };
        assert_eq!(ask(Stream::Stdin), POLLHUP);
        assert_eq!(ask(Stream::Stdout), POLLOUT);
    }

    #[test]
    fn the_first_change_of_several_files_counts() {
        let (first, second) = (Source::new(), Source::new());
        let timed = Changes { at_ns: Some(7), ..first.changes() };
        let both = |second: &Source| {
            timed.and(second.changes()).and(Changes { at_ns: Some(9), ..Changes::default() })
        };
        assert_eq!(both(&second).bits, first.bit() | second.bit());
        assert_eq!(both(&second).at_ns, Some(7));
        let before = both(&second).edge;
        second.announce();
        assert_ne!(both(&second).edge, before);
    }
}
