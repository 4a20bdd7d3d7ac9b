//! Signals: what a program wants done about each, which are blocked, which wait.
//!
//! Three ways lead to a signal. `kill` and its kin make it pending; it is delivered on the way back from that
//! call, or when it is unblocked. A fault forces it (`fault`): blocked or ignored, it kills. And a call that
//! could only hang ends the program (`wait`). Delivery and return are in `deliver`, the bytes on the
//! program's stack in `frame`. Source: Linux kernel/signal.c.

mod deliver;
mod fault;
mod frame;
mod number;

pub use deliver::sigreturn;
pub use frame::stack_bytes;
pub use number::Signal;

use super::abi::{SigAction, SigAltStack};
use super::errno::{Answer, Errno};
use super::process::Process;
use crate::user_memory;
use linux_raw_sys::general::{
    MINSIGSTKSZ, SA_NOCLDSTOP, SA_NOCLDWAIT, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER,
    SA_SIGINFO, SI_TKILL, SI_USER, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SS_AUTODISARM, SS_DISABLE,
    SS_FLAG_BITS, SS_ONSTACK,
};
use number::{DefaultAction, UNBLOCKABLE};
use zerocopy::FromZeros;

/// sa_handler: the default action (asm-generic/signal-defs.h, SIG_DFL).
const DEFAULT: u64 = 0;
/// sa_handler: nothing (SIG_IGN).
const IGNORE: u64 = 1;

/// Flags that sigaction(2) keeps; others are dropped, which is how programs find out (UAPI_SA_FLAGS).
const KNOWN_FLAGS: u32 = SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND
    | SA_RESTORER;

/// A program's signal state.
pub struct Signals {
    /// Bit n-1: signal n waits until it is unblocked. Never SIGKILL or SIGSTOP.
    blocked: u64,
    /// Bit n-1: signal n was sent and not delivered yet.
    pending: u64,
    /// `pending & !blocked`, kept up to date: asked after every call.
    due: u64,
    /// Of the pending ones, those sent to the thread (tkill) rather than the process (kill).
    to_thread: u64,
    actions: [SigAction; Signal::COUNT],
    alternate: SigAltStack,
    /// The mask to restore after the handler that ends an rt_sigsuspend.
    suspended: Option<u64>,
    /// What the last fault left for sigcontext.
    last_fault: frame::FaultRecord,
}

impl Signals {
    /// The state of a new program: everything default, nothing blocked.
    pub fn new() -> Signals {
        Signals {
            blocked: 0,
            pending: 0,
            due: 0,
            to_thread: 0,
            actions: [SigAction::new_zeroed(); Signal::COUNT],
            alternate: no_alternate_stack(),
            suspended: None,
            last_fault: frame::FaultRecord::default(),
        }
    }

    /// Signals that can be delivered now.
    #[inline]
    pub fn deliverable(&self) -> u64 {
        self.due
    }

    fn set_pending(&mut self, signals: u64) {
        self.pending = signals;
        self.due = self.pending & !self.blocked;
    }

    fn set_blocked(&mut self, mask: u64) {
        self.blocked = mask & !UNBLOCKABLE;
        self.due = self.pending & !self.blocked;
    }

    fn action(&self, signal: Signal) -> SigAction {
        self.actions.get(signal.index()).copied().unwrap_or_else(SigAction::new_zeroed)
    }

    fn set_action(&mut self, signal: Signal, action: SigAction) {
        if let Some(slot) = self.actions.get_mut(signal.index()) {
            *slot = action;
        }
    }

    fn is_ignored(&self, signal: Signal) -> bool {
        match self.action(signal).sa_handler_kernel {
            DEFAULT => signal.default_action() == DefaultAction::Ignore,
            handler => handler == IGNORE,
        }
    }

    /// Makes a signal pending, unless nobody would ever see it.
    fn send(&mut self, signal: Signal, code: i32) {
        if self.is_ignored(signal) && self.blocked & signal.bit() == 0 {
            return;
        }
        self.set_pending(self.pending | signal.bit());
        if code == SI_TKILL {
            self.to_thread |= signal.bit();
        }
    }

    fn forget(&mut self, signals: u64) {
        self.set_pending(self.pending & !signals);
        self.to_thread &= !signals;
    }

    /// Is this stack pointer on the alternate stack? (An auto-disarmed one never counts: sigaltstack(2).)
    fn is_on_alternate(&self, stack_pointer: u64) -> bool {
        self.alternate.ss_flags & SS_AUTODISARM == 0 && self.is_inside_alternate(stack_pointer)
    }

    fn is_inside_alternate(&self, stack_pointer: u64) -> bool {
        let SigAltStack { ss_sp, ss_size, .. } = self.alternate;
        stack_pointer > ss_sp && stack_pointer - ss_sp <= ss_size
    }

    /// Changes the alternate stack; `stack_pointer` is the program's.
    fn set_alternate(&mut self, wanted: &SigAltStack, stack_pointer: u64) -> Result<(), Errno> {
        if self.is_on_alternate(stack_pointer) {
            return Err(Errno::EPERM);
        }
        self.alternate = match wanted.ss_flags & !SS_FLAG_BITS {
            SS_DISABLE => SigAltStack { ss_flags: wanted.ss_flags, ..no_alternate_stack() },
            0 | SS_ONSTACK if wanted.ss_size < u64::from(MINSIGSTKSZ) => return Err(Errno::ENOMEM),
            0 | SS_ONSTACK => SigAltStack { pad: 0, ..*wanted },
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }
}

fn no_alternate_stack() -> SigAltStack {
    SigAltStack { ss_sp: 0, ss_flags: SS_DISABLE, pad: 0, ss_size: 0 }
}

/// The size that a call gives for its signal set: there is only one.
pub fn check_set_size(set_bytes: u64) -> Result<(), Errno> {
    if set_bytes == size_of::<u64>() as u64 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// rt_sigaction(2).
pub fn sigaction(process: &mut Process, signal: u32, new: u64, old: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let action = if new != 0 { Some(user_memory::read_value::<SigAction>(new)?) } else { None };
    let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
    if action.is_some() && signal.bit() & UNBLOCKABLE != 0 {
        return Err(Errno::EINVAL);
    }
    let signals = &mut process.signals;
    let before = signals.action(signal);
    if let Some(mut action) = action {
        action.sa_flags &= u64::from(KNOWN_FLAGS);
        action.sa_mask &= !UNBLOCKABLE;
        signals.set_action(signal, action);
        if signals.is_ignored(signal) {
            signals.forget(signal.bit());
        }
    }
    if old != 0 {
        user_memory::write_value(old, &before)?;
    }
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn sigprocmask(process: &mut Process, how: u32, new: u64, old: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let before = process.signals.blocked;
    if new != 0 {
        let set: u64 = user_memory::read_value(new)?;
        process.signals.set_blocked(match how {
            SIG_BLOCK => before | set,
            SIG_UNBLOCK => before & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    if old != 0 {
        user_memory::write_value(old, &before)?;
    }
    Ok(0)
}

/// rt_sigpending(2).
pub fn sigpending(process: &mut Process, out: u64, set_bytes: u64) -> Answer {
    if set_bytes > size_of::<u64>() as u64 {
        return Err(Errno::EINVAL);
    }
    let waiting = (process.signals.pending & process.signals.blocked).to_le_bytes();
    let wanted = waiting.get(..set_bytes as usize).unwrap_or(&waiting);
    user_memory::write(out, wanted)?;
    Ok(0)
}

/// rt_sigsuspend(2): only a signal that is pending already can end it.
pub fn sigsuspend(process: &mut Process, mask: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let mask: u64 = user_memory::read_value(mask)?;
    let signals = &mut process.signals;
    let before = signals.blocked;
    signals.set_blocked(mask);
    if signals.deliverable() == 0 {
        return Err(process.wait_for_ever("rt_sigsuspend"));
    }
    signals.suspended = Some(before);
    Err(Errno::EINTR)
}

/// sigaltstack(2).
pub fn sigaltstack(process: &mut Process, new: u64, old: u64) -> Answer {
    let stack_pointer = process.task.context.rsp;
    let wanted = if new != 0 { Some(user_memory::read_value::<SigAltStack>(new)?) } else { None };
    let signals = &mut process.signals;
    let mut before = signals.alternate;
    before.ss_flags = before.ss_flags & SS_FLAG_BITS
        | match () {
            () if before.ss_size == 0 => SS_DISABLE,
            () if signals.is_on_alternate(stack_pointer) => SS_ONSTACK,
            () => 0,
        };
    if let Some(wanted) = wanted {
        signals.set_alternate(&wanted, stack_pointer)?;
    }
    if old != 0 {
        user_memory::write_value(old, &before)?;
    }
    Ok(0)
}

/// kill(2): the program is alone in its process group; nobody else is there to be killed.
pub fn kill(process: &mut Process, pid: i32, signal: u32) -> Answer {
    let is_self = pid == 0 || pid.unsigned_abs() == process.pid.unsigned_abs();
    if !is_self {
        return Err(Errno::ESRCH);
    }
    send(process, signal, SI_USER as i32)
}

/// tkill(2).
pub fn tkill(process: &mut Process, thread: i32, signal: u32) -> Answer {
    tgkill(process, process.pid, thread, signal)
}

/// tgkill(2).
pub fn tgkill(process: &mut Process, pid: i32, thread: i32, signal: u32) -> Answer {
    if pid <= 0 || thread <= 0 {
        return Err(Errno::EINVAL);
    }
    if pid != process.pid || thread != process.pid {
        return Err(Errno::ESRCH);
    }
    send(process, signal, SI_TKILL)
}

fn send(process: &mut Process, signal: u32, code: i32) -> Answer {
    if signal != 0 {
        let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
        process.signals.send(signal, code);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::{SIGCHLD, SIGKILL, SIGUSR1};

    fn signal(number: u32) -> Signal {
        Signal::new(number).unwrap()
    }

    #[test]
    fn a_blocked_signal_waits_and_an_ignored_one_is_dropped() {
        let mut signals = Signals::new();
        signals.set_blocked(signal(SIGUSR1).bit() | signal(SIGKILL).bit());
        signals.send(signal(SIGUSR1), SI_TKILL);
        signals.send(signal(SIGCHLD), SI_TKILL);
        assert_eq!(signals.deliverable(), 0);
        assert_eq!(signals.pending, signal(SIGUSR1).bit());
        signals.send(signal(SIGKILL), SI_TKILL);
        assert_eq!(signals.deliverable(), signal(SIGKILL).bit());
    }

    #[test]
    fn the_alternate_stack_is_checked_and_known() {
        let mut signals = Signals::new();
        let stack = |ss_flags, ss_size| SigAltStack { ss_sp: 0x1000, ss_flags, pad: 0, ss_size };
        assert_eq!(signals.set_alternate(&stack(0, 2047), 0), Err(Errno::ENOMEM));
        assert_eq!(signals.set_alternate(&stack(8, 8192), 0), Err(Errno::EINVAL));
        assert_eq!(signals.set_alternate(&stack(0, 8192), 0x1800), Ok(()));
        assert!(signals.is_on_alternate(0x3000) && !signals.is_on_alternate(0x1000));
        assert_eq!(signals.set_alternate(&stack(SS_DISABLE, 0), 0x1800), Err(Errno::EPERM));
        assert_eq!(signals.set_alternate(&stack(SS_DISABLE, 0), 0x8000), Ok(()));
        assert_eq!(signals.set_alternate(&stack(SS_AUTODISARM, 8192), 0x1800), Ok(()));
        assert!(!signals.is_on_alternate(0x1800) && signals.is_inside_alternate(0x1800));
    }
}
