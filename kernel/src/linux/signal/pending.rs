//! Signals on their way: what a handler is told, and those that wait.

use super::number::Signal;
use crate::linux::abi::SigInfo;
use crate::linux::errno::Errno;
use crate::linux::process::ExitStatus;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general::{CLD_EXITED, CLD_KILLED, SI_TIMER, SI_USER};
use zerocopy::FromZeros;

/// Signals that may wait with what they tell, in all processes together (Linux: RLIMIT_SIGPENDING of the one user).
const MAX_QUEUED: usize = 4096;
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// A signal on its way, with as much of siginfo_t as anybody fills in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Which.
    pub signal: Signal,
    /// si_code.
    pub code: i32,
    /// The word behind that: the process that sent it or ended, a timer, a fault's address.
    pub origin: u64,
    /// The next one: a child's exit status or signal, the value that came along.
    pub value: u64,
}

impl Sent {
    /// A signal without a value.
    pub fn new(signal: Signal, code: i32, origin: u64) -> Sent {
        Sent { signal, code, origin, value: 0 }
    }

    /// What a parent is told.
    pub fn of_child(signal: Signal, pid: i32, status: ExitStatus) -> Sent {
        let (code, status) = match status {
            ExitStatus::Exited(status) => (CLD_EXITED, status),
            ExitStatus::Killed(signal) => (CLD_KILLED, signal.number()),
        };
        Sent { signal, code: code as i32, origin: u64::from(pid.unsigned_abs()), value: status.into() }
    }

    /// What a handler is told.
    pub fn info(&self) -> SigInfo {
        let mut info = SigInfo::new_zeroed();
        (info.si_signo, info.si_code) = (self.signal.number().into(), self.code);
        (info.value, info.rest[0]) = (self.origin, self.value);
        info
    }
}

/// Signals that were sent and not delivered. Each counts once; real-time ones as often as they were sent, and each timer's
/// beside them.
#[derive(Default)]
pub struct Pending {
    set: u64,
    /// What they tell, in the order of their coming; may lack some when there is no room.
    queue: Vec<Sent>,
}

impl Pending {
    /// Bit n-1: signal n waits.
    pub fn set(&self) -> u64 {
        self.set
    }

    /// Does what this timer sends wait already? What others sent does not count.
    pub fn has(&self, sent: &Sent) -> bool {
        // The upper half is how often it has expired meanwhile.
        let tells = |sent: &Sent| (sent.signal, sent.code, sent.origin as u32);
        self.set & sent.signal.bit() != 0 && self.queue.iter().any(|waiting| tells(waiting) == tells(sent))
    }

    /// Adds a signal. EAGAIN when there is no room for a real-time one that kill(2) did not send; others tell less then
    /// (kernel/signal.c, `__send_signal_locked`).
    pub fn add(&mut self, sent: Sent) -> Result<(), Errno> {
        let Sent { signal, code, .. } = sent;
        // As on Linux a timer has a place of its own in the queue (kernel/signal.c, `send_sigqueue`).
        if self.set & signal.bit() == 0 || signal.is_real_time() || code == SI_TIMER {
            if QUEUED.load(Ordering::Relaxed) < MAX_QUEUED && self.queue.try_reserve(1).is_ok() {
                QUEUED.fetch_add(1, Ordering::Relaxed);
                self.queue.push(sent);
            } else if signal.is_real_time() && code != SI_USER as i32 {
                return Err(Errno::EAGAIN);
            }
        }
        self.set |= signal.bit();
        Ok(())
    }

    /// Takes a signal out, the one that came first, if it waits.
    pub fn take(&mut self, signal: Signal) -> Option<Sent> {
        if self.set & signal.bit() == 0 {
            return None;
        }
        let is_it = |sent: &Sent| sent.signal == signal;
        let mut taken = Sent::new(signal, SI_USER as i32, 0);
        if let Some(index) = self.queue.iter().position(is_it) {
            taken = self.queue.remove(index);
            QUEUED.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.queue.iter().any(is_it) {
            self.set &= !signal.bit();
        }
        Some(taken)
    }

    /// Drops signals.
    pub fn forget(&mut self, signals: u64) {
        if self.set & signals != 0 {
            self.set &= !signals;
            let before = self.queue.len();
            self.queue.retain(|sent| sent.signal.bit() & signals == 0);
            QUEUED.fetch_sub(before - self.queue.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.forget(!0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::{SI_QUEUE, SIGUSR1};

    fn told(pending: &mut Pending, signal: Signal) -> Option<u64> {
        pending.take(signal).map(|sent| sent.origin)
    }

    fn a_signal_waits_once_and_says_who_sent_it() {
        let mut pending = Pending::default();
        let usr1 = Signal::new(SIGUSR1).unwrap();
        for pid in [7, 8] {
            assert_eq!(pending.add(Sent::new(usr1, SI_USER as i32, pid)), Ok(()));
        }
        assert_eq!((told(&mut pending, usr1), told(&mut pending, usr1)), (Some(7), None));
        assert_eq!(pending.add(Sent::new(usr1, SI_USER as i32, 9)), Ok(()));
        pending.forget(usr1.bit());
        assert_eq!((pending.set(), told(&mut pending, usr1)), (0, None));
    }

    fn real_time_signals_wait_in_order_until_there_is_no_room() {
        let mut pending = Pending::default();
        let (first, second) = (Signal::new(34).unwrap(), Signal::new(64).unwrap());
        for (signal, value) in [(second, 1), (first, 2), (second, 3)] {
            assert_eq!(pending.add(Sent::new(signal, SI_QUEUE, value)), Ok(()));
        }
        assert_eq!(told(&mut pending, second), Some(1));
        assert_eq!(pending.set(), first.bit() | second.bit());
        assert_eq!((told(&mut pending, second), told(&mut pending, second)), (Some(3), None));
        let room = (0..).take_while(|&n| pending.add(Sent::new(second, SI_QUEUE, n)).is_ok()).count();
        assert!((MAX_QUEUED - 64..MAX_QUEUED).contains(&room), "{room}");
        assert_eq!(pending.add(Sent::new(second, SI_USER as i32, 5)), Ok(()));
        drop(pending);
        assert!(QUEUED.load(Ordering::Relaxed) < 64);
    }

    fn each_timer_has_its_place() {
        let mut pending = Pending::default();
        let usr1 = Signal::new(SIGUSR1).unwrap();
        let sent = |timer: u64| Sent::new(usr1, SI_TIMER, timer);
        assert_eq!(pending.add(Sent::new(usr1, SI_USER as i32, 1)), Ok(()));
        assert!(!pending.has(&sent(1)));
        assert_eq!([1 | 7 << 32, 2].map(|timer| pending.add(sent(timer))), [Ok(()); 2]);
        assert_eq!([1, 2, 3].map(|timer| pending.has(&sent(timer))), [true, true, false]);
        assert_eq!([(); 4].map(|()| told(&mut pending, usr1)), [Some(1), Some(1 | 7 << 32), Some(2), None]);
    }

    /// One after another: they share the room, which one of them fills.
    #[test]
    fn signals_wait_as_on_linux() {
        a_signal_waits_once_and_says_who_sent_it();
        real_time_signals_wait_in_order_until_there_is_no_room();
        each_timer_has_its_place();
    }

    #[test]
    fn a_child_tells_its_status() {
        let info = Sent::of_child(Signal::CHLD, 7, ExitStatus::Exited(3)).info();
        assert_eq!((info.si_signo, info.si_code, info.value, info.rest[0]), (17, CLD_EXITED as i32, 7, 3));
    }
}
