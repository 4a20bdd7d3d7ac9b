//! Signals on their way: who sent them, and those that wait.

use super::number::Signal;
use crate::linux::abi::SigInfo;
use crate::linux::process::ExitStatus;
use alloc::vec::Vec;
use linux_raw_sys::general::{CLD_EXITED, CLD_KILLED};
use zerocopy::FromZeros;

/// A signal on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Which.
    pub signal: Signal,
    /// si_code: SI_USER, SI_TKILL, SI_TIMER, CLD_*.
    pub code: i32,
    /// The process that sent it or, for a child's, that ended; of a timer, its number.
    pub pid: i32,
    /// A child's exit status or signal, a timer's si_value; else 0.
    pub value: u64,
}

impl Sent {
    /// What a parent is told.
    pub fn of_child(signal: Signal, pid: i32, status: ExitStatus) -> Sent {
        let (code, status) = match status {
            ExitStatus::Exited(status) => (CLD_EXITED, status),
            ExitStatus::Killed(signal) => (CLD_KILLED, signal.number()),
        };
        Sent { signal, code: code as i32, pid, value: status.into() }
    }

    /// What a handler is told.
    pub fn info(&self) -> SigInfo {
        let mut info = SigInfo::new_zeroed();
        info.si_signo = self.signal.number().into();
        info.si_code = self.code;
        info.value = u64::from(self.pid.unsigned_abs());
        if let Some(word) = info.rest.first_mut() {
            *word = self.value;
        }
        info
    }
}

/// Signals that were sent and not delivered. Each counts once, real-time ones too.
#[derive(Default)]
pub struct Pending {
    set: u64,
    /// Who sent them; may lack some when memory is short.
    sent: Vec<Sent>,
}

impl Pending {
    /// Bit n-1: signal n waits.
    pub fn set(&self) -> u64 {
        self.set
    }

    /// Adds a signal.
    pub fn add(&mut self, sent: Sent) {
        if self.set & sent.signal.bit() == 0 && self.sent.try_reserve(1).is_ok() {
            self.sent.push(sent);
        }
        self.set |= sent.signal.bit();
    }

    /// Takes a signal out, if it waits.
    pub fn take(&mut self, signal: Signal) -> Option<Sent> {
        if self.set & signal.bit() == 0 {
            return None;
        }
        self.set &= !signal.bit();
        let unknown = Sent { signal, code: 0, pid: 0, value: 0 };
        let index = self.sent.iter().position(|sent| sent.signal == signal);
        Some(index.map_or(unknown, |index| self.sent.swap_remove(index)))
    }

    /// Drops signals.
    pub fn forget(&mut self, signals: u64) {
        if self.set & signals != 0 {
            self.set &= !signals;
            self.sent.retain(|sent| sent.signal.bit() & signals == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::SIGUSR1;

    #[test]
    fn a_signal_waits_once_and_says_who_sent_it() {
        let mut pending = Pending::default();
        let usr1 = Signal::new(SIGUSR1).unwrap();
        let sent = |pid| Sent { signal: usr1, code: 0, pid, value: 0 };
        pending.add(sent(7));
        pending.add(sent(8));
        assert_eq!(pending.take(usr1), Some(sent(7)));
        assert_eq!(pending.take(usr1), None);
        pending.add(sent(9));
        pending.forget(usr1.bit());
        assert_eq!((pending.set(), pending.take(usr1)), (0, None));
    }

    #[test]
    fn a_child_tells_its_status() {
        let info = Sent::of_child(Signal::CHLD, 7, ExitStatus::Exited(3)).info();
        assert_eq!((info.si_signo, info.si_code, info.value, info.rest[0]), (17, CLD_EXITED as i32, 7, 3));
    }
}
