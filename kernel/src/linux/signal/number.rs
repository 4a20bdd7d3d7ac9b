//! Signal numbers, their names and default actions.

use core::fmt;
use linux_raw_sys::general::{
    SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGPROF, SIGRTMIN, SIGSEGV, SIGSTOP,
    SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGVTALRM, SIGWINCH,
};

/// A signal, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(u8);

/// What happens when a program has not said anything (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultAction {
    /// The program ends. (Linux may also write a core file.)
    Terminate,
    /// Nothing.
    Ignore,
    /// The program stops until somebody continues it.
    Stop,
}

/// SIGKILL and SIGSTOP can be neither blocked, nor ignored, nor handled.
pub const UNBLOCKABLE: u64 = Signal::KILL.bit() | Signal(SIGSTOP as u8).bit();

/// Those that have names, from 1 on, less their SIG (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// How many there are.
    pub const COUNT: usize = 64;
    /// Ends a program, whatever it says.
    pub const KILL: Signal = Signal(SIGKILL as u8);
    /// A bad access.
    pub const SEGV: Signal = Signal(SIGSEGV as u8);
    /// An access to memory that is not there.
    pub const BUS: Signal = Signal(SIGBUS as u8);
    /// An arithmetic error.
    pub const FPE: Signal = Signal(SIGFPE as u8);
    /// A bad instruction.
    pub const ILL: Signal = Signal(SIGILL as u8);
    /// A breakpoint.
    pub const TRAP: Signal = Signal(SIGTRAP as u8);
    /// A write that nobody will read.
    pub const PIPE: Signal = Signal(SIGPIPE as u8);
    /// A timer of setitimer or alarm.
    pub const ALRM: Signal = Signal(SIGALRM as u8);
    /// The same for the process's CPU time, less the kernel's.
    pub const VTALRM: Signal = Signal(SIGVTALRM as u8);
    /// The same for all of it.
    pub const PROF: Signal = Signal(SIGPROF as u8);
    /// A child ended.
    pub const CHLD: Signal = Signal(SIGCHLD as u8);

    /// The signal of this number; `None` outside of 1 to 64.
    pub fn new(number: u32) -> Option<Signal> {
        (1..=Self::COUNT as u32).contains(&number).then_some(Signal(number as u8))
    }

    /// Its number, 1 to 64.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its bit in a signal set.
    pub const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// Does each one that is sent count?
    pub fn is_real_time(self) -> bool {
        u32::from(self.0) >= SIGRTMIN
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0 - 1)
    }

    /// The first signal of a set.
    pub(super) fn first_of(set: u64) -> Option<Signal> {
        Signal::new(set.trailing_zeros() + 1)
    }

    /// What it does when a program has not said anything.
    pub fn default_action(self) -> DefaultAction {
        match u32::from(self.0) {
            SIGCHLD | SIGCONT | SIGURG | SIGWINCH => DefaultAction::Ignore,
            SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => DefaultAction::Stop,
            _ => DefaultAction::Terminate,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.index()) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn numbers_and_bits_are_linux_ones() {
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::new(64).map(Signal::bit), Some(1 << 63));
        assert_eq!(Signal::first_of(0b1_0000), Signal::new(5));
        assert_eq!(Signal::first_of(0), None);
        assert_eq!(UNBLOCKABLE, 1 << 8 | 1 << 18);
        assert_eq!(format!("{} {} {}", Signal::SEGV, Signal(31), Signal(40)), "SIGSEGV SIGSYS signal 40");
    }
}
