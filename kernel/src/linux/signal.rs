//! Signals: what a program wants done about each, which are blocked, which wait.
//!
//! Two ways lead to a signal. `kill` and its kin make it pending (`send`, `group`, `pending`); it is delivered on the
//! way back from the kernel, or when it is unblocked, unless rt_sigtimedwait takes it first. A fault forces it
//! (`fault`): blocked or ignored, it kills. Delivery and return are in `deliver`, the bytes on
//! the program's stack in `frame`. Source: Linux kernel/signal.c.

mod actions;
mod deliver;
mod fault;
mod frame;
mod group;
mod number;
mod pending;
mod send;

pub use actions::Actions;
pub use deliver::sigreturn;
pub use frame::stack_bytes;
pub use group::{Group, Member};
pub use number::Signal;
pub use pending::Sent;
pub use send::{kill, sigqueue, tgkill, tgsigqueue, tkill};

use super::abi::{SigAction, SigAltStack};
use super::errno::{Answer, Errno};
use super::io::tell_if_asked;
use super::memory::check_reserve;
use super::thread::Thread;
use super::time;
use crate::clock;
use crate::task::{ATTEND_EXIT, ATTEND_SIGNAL};
use crate::user_memory;
use linux_raw_sys::general::{
    MINSIGSTKSZ, SA_NOCLDSTOP, SA_NOCLDWAIT, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER,
    SA_SIGINFO, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SS_AUTODISARM, SS_DISABLE, SS_FLAG_BITS, SS_ONSTACK,
};
use number::UNBLOCKABLE;

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

/// What of a thread's signals nobody else looks at. The rest is its `Member` of the process's `Group`.
#[derive(Clone)]
pub struct Signals {
    alternate: SigAltStack,
    /// The mask to restore after the handler that ends an rt_sigsuspend.
    suspended: Option<u64>,
    /// What the last fault left for sigcontext.
    last_fault: frame::FaultRecord,
    /// The number of the call that was interrupted, when SA_RESTART may start it again.
    pub(super) restart: Option<u64>,
}

impl Signals {
    /// The state of a new program.
    pub fn new() -> Signals {
        let last_fault = frame::FaultRecord::default();
        Signals { alternate: no_alternate_stack(), suspended: None, last_fault, restart: None }
    }

    /// For a thread with a stack of its own: the alternate one stays with its parent.
    pub fn without_alternate_stack(self) -> Signals {
        Signals { alternate: no_alternate_stack(), ..self }
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

impl Thread {
    /// Blocks these signals and no others.
    pub fn set_blocked(&self, mask: u64) {
        self.process.group.lock().set_blocked(&self.member, mask);
    }

    /// Blocks these signals until the call ends: the mask comes back when the signal that ends it has been delivered,
    /// or with [`Thread::resume_mask`].
    pub fn suspend_mask(&mut self, mask: u64) {
        self.signals.suspended = Some(self.member.blocked());
        self.set_blocked(mask);
    }

    /// Brings back the mask from before [`Thread::suspend_mask`], if that still has to be done.
    pub fn resume_mask(&mut self) {
        if let Some(mask) = self.signals.suspended.take() {
            self.set_blocked(mask);
        }
    }

    /// Asked when a wait was interrupted: is there a signal to be delivered, or is this the thread's end? If neither,
    /// another thread has taken the signal, and the wait goes on.
    pub fn is_interrupted(&self) -> bool {
        if self.task.attention() & ATTEND_EXIT != 0 {
            return true;
        }
        self.task.attended(ATTEND_SIGNAL);
        let is_claimed = self.process.group.lock().claim(&self.member);
        if is_claimed {
            self.task.attend(ATTEND_SIGNAL);
        }
        is_claimed
    }

    /// The answer of a call that a signal interrupted and that starts again when the handler's SA_RESTART says so.
    pub fn restartable(&mut self) -> Errno {
        self.signals.restart = Some(self.context.rax);
        Errno::EINTR
    }
}

/// rt_sigaction(2).
pub fn sigaction(thread: &mut Thread, signal: u32, new: u64, old: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let action = if new != 0 { Some(user_memory::read_value::<SigAction>(new)?) } else { None };
    let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
    if action.is_some() && signal.bit() & UNBLOCKABLE != 0 {
        return Err(Errno::EINVAL);
    }
    if action.is_some() {
        // For the table of actions, when a child has to get its own.
        check_reserve()?;
    }
    let mut group = thread.process.group.lock();
    let before = group.actions.get(signal);
    if let Some(mut action) = action {
        action.sa_flags &= u64::from(KNOWN_FLAGS);
        action.sa_mask &= !UNBLOCKABLE;
        group.actions.set(signal, action);
        if group.actions.is_ignored(signal) {
            group.forget(signal.bit());
        }
    }
    drop(group);
    tell_if_asked(old, &before)
}

/// rt_sigprocmask(2).
pub fn sigprocmask(thread: &mut Thread, how: u32, new: u64, old: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let before = thread.member.blocked();
    if new != 0 {
        let set: u64 = user_memory::read_value(new)?;
        thread.set_blocked(match how {
            SIG_BLOCK => before | set,
            SIG_UNBLOCK => before & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    tell_if_asked(old, &before)
}

/// rt_sigpending(2).
pub fn sigpending(thread: &mut Thread, out: u64, set_bytes: u64) -> Answer {
    if set_bytes > size_of::<u64>() as u64 {
        return Err(Errno::EINVAL);
    }
    let waiting = thread.process.group.lock().waiting(&thread.member).to_le_bytes();
    let wanted = waiting.get(..set_bytes as usize).unwrap_or(&waiting);
    user_memory::write(out, wanted)?;
    Ok(0)
}

/// rt_sigsuspend(2).
pub fn sigsuspend(thread: &mut Thread, mask: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let mask: u64 = user_memory::read_value(mask)?;
    thread.suspend_mask(mask);
    Err(thread.wait_for_signal("rt_sigsuspend", None))
}

/// rt_sigtimedwait(2): takes a signal of the set, blocked or not, and answers its number.
pub fn sigtimedwait(thread: &mut Thread, set: u64, info: u64, timeout: u64, set_bytes: u64) -> Answer {
    check_set_size(set_bytes)?;
    let set = user_memory::read_value::<u64>(set)? & !UNBLOCKABLE;
    let deadline_ns = match timeout {
        0 => None,
        address => Some(clock::monotonic_ns().saturating_add(time::read_timespec(address)?)),
    };
    let take = |awaited: u64| {
        let mut group = thread.process.group.lock();
        let sent = group.take(&thread.member, set);
        group.set_awaited(&thread.member, if sent.is_none() { awaited } else { 0 });
        sent
    };
    let (sent, failure) = match take(set) {
        None => {
            let failure = thread.wait_for_signal("rt_sigtimedwait", deadline_ns);
            (take(0), failure)
        }
        sent => (sent, Errno::EAGAIN),
    };
    let sent = sent.ok_or(failure)?;
    tell_if_asked(info, &sent.info())?;
    Ok(sent.signal.number().into())
}

/// sigaltstack(2).
pub fn sigaltstack(thread: &mut Thread, new: u64, old: u64) -> Answer {
    let stack_pointer = thread.context.rsp;
    let wanted = if new != 0 { Some(user_memory::read_value::<SigAltStack>(new)?) } else { None };
    let signals = &mut thread.signals;
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
    tell_if_asked(old, &before)
}

#[cfg(test)]
mod tests {
    use super::*;

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
