//! What a process wants done about each signal.

use super::number::{DefaultAction, Signal};
use super::{DEFAULT, IGNORE};
use crate::linux::abi::SigAction;
use alloc::sync::Arc;
use zerocopy::FromZeros;

/// What is to be done about each signal. Few children change what they inherit: they share it until then.
#[derive(Clone)]
pub struct Actions(Arc<[SigAction; Signal::COUNT]>);

impl Actions {
    /// The default for all.
    pub fn new() -> Actions {
        Actions(Arc::new([SigAction::new_zeroed(); Signal::COUNT]))
    }

    pub fn get(&self, signal: Signal) -> SigAction {
        self.0[signal.index()]
    }

    pub fn set(&mut self, signal: Signal, action: SigAction) {
        Arc::make_mut(&mut self.0)[signal.index()] = action;
    }

    /// Is nothing to be done?
    pub fn is_ignored(&self, signal: Signal) -> bool {
        match self.get(signal).sa_handler_kernel {
            DEFAULT => signal.default_action() == DefaultAction::Ignore,
            handler => handler == IGNORE,
        }
    }

    /// Those of `signals` that nothing is to be done about.
    pub fn ignored(&self, mut signals: u64) -> u64 {
        let mut ignored = 0;
        while let Some(signal) = Signal::first_of(signals) {
            signals &= !signal.bit();
            ignored |= if self.is_ignored(signal) { signal.bit() } else { 0 };
        }
        ignored
    }

    /// For a new program: handlers are gone, what was ignored still is.
    pub fn reset(&mut self) {
        for action in Arc::make_mut(&mut self.0) {
            let handler = if action.sa_handler_kernel == IGNORE { IGNORE } else { DEFAULT };
            *action = SigAction { sa_handler_kernel: handler, ..SigAction::new_zeroed() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::{SIGCHLD, SIGUSR1};

    #[test]
    fn a_new_program_keeps_what_was_ignored() {
        let mut actions = Actions::new();
        let [usr1, chld] = [SIGUSR1, SIGCHLD].map(|number| Signal::new(number).unwrap());
        assert!(actions.is_ignored(chld) && !actions.is_ignored(usr1));
        let action = |handler| SigAction { sa_handler_kernel: handler, ..SigAction::new_zeroed() };
        actions.set(usr1, action(IGNORE));
        actions.set(chld, action(0x1234));
        assert_eq!(actions.ignored(usr1.bit() | chld.bit()), usr1.bit());
        actions.reset();
        assert!(actions.is_ignored(usr1));
        assert_eq!(actions.get(chld).sa_handler_kernel, DEFAULT);
    }
}
