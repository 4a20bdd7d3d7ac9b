//! The signals of a process's threads: who is there, what was sent, what is to be done.
//!
//! A signal waits in its thread's set or, sent to the process, in the group's until a thread that does not
//! block it takes it. `ATTEND_SIGNAL` makes a thread look; it may look in vain, for another was faster. Nobody
//! waits without having been told: a sender puts the signal into a set and then looks at the masks, a thread
//! changes its mask and then looks at the sets, both under the group's lock.

use super::number::{DefaultAction, Signal, UNBLOCKABLE};
use super::{DEFAULT, IGNORE};
use crate::linux::abi::{SigAction, SigInfo};
use crate::linux::errno::Errno;
use crate::linux::process::ExitStatus;
use crate::task::{ATTEND_EXIT, ATTEND_SIGNAL, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use linux_raw_sys::general::{CLD_EXITED, CLD_KILLED, SA_NOCLDWAIT};
use mm::lock::{Rank, SpinLock};
use zerocopy::FromZeros;

/// A signal on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Which.
    pub signal: Signal,
    /// si_code: SI_USER, SI_TKILL, CLD_*.
    pub code: i32,
    /// The process that sent it or, for a child's, that ended.
    pub pid: i32,
    /// A child's exit status or signal; else 0.
    pub status: i32,
}

impl Sent {
    /// What a parent is told.
    pub fn of_child(signal: Signal, pid: i32, status: ExitStatus) -> Sent {
        let (code, status) = match status {
            ExitStatus::Exited(status) => (CLD_EXITED, status.into()),
            ExitStatus::Killed(signal) => (CLD_KILLED, signal.number().into()),
        };
        Sent { signal, code: code as i32, pid, status }
    }

    /// What a handler is told.
    pub fn info(&self) -> SigInfo {
        let mut info = SigInfo::new_zeroed();
        info.si_signo = self.signal.number().into();
        info.si_code = self.code;
        info.value = u64::from(self.pid.unsigned_abs());
        if let Some(word) = info.rest.first_mut() {
            *word = self.status as u64;
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
        let unknown = Sent { signal, code: 0, pid: 0, status: 0 };
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

/// What others may know of a thread.
pub struct Member {
    tid: AtomicI32,
    /// Its task.
    pub task: Arc<Task>,
    blocked: AtomicU64,
    /// Sent to this thread alone.
    pub pending: SpinLock<Pending>,
}

impl Member {
    /// A thread that blocks these signals.
    pub fn new(task: Arc<Task>, blocked: u64) -> Arc<Member> {
        let tid = AtomicI32::new(task.tid());
        Arc::new(Member {
            tid,
            task,
            blocked: AtomicU64::new(blocked),
            pending: SpinLock::new(Rank::Process, Pending::default()),
        })
    }

    /// Its number: the task's, or the process's since it ran execve.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Bit n-1: signal n waits until it is unblocked. Never SIGKILL or SIGSTOP.
    pub fn blocked(&self) -> u64 {
        self.blocked.load(Ordering::SeqCst)
    }
}

/// What is to be done about each signal. Few children change what they inherit: they share it until then.
#[derive(Clone)]
pub struct Actions(Arc<[SigAction; Signal::COUNT]>);

impl Actions {
    /// The default for all.
    pub fn new() -> Actions {
        Actions(Arc::new([SigAction::new_zeroed(); Signal::COUNT]))
    }

    pub fn get(&self, signal: Signal) -> SigAction {
        self.0.get(signal.index()).copied().unwrap_or_else(SigAction::new_zeroed)
    }

    pub fn set(&mut self, signal: Signal, action: SigAction) {
        if let Some(slot) = Arc::make_mut(&mut self.0).get_mut(signal.index()) {
            *slot = action;
        }
    }

    /// Is nothing to be done?
    pub fn is_ignored(&self, signal: Signal) -> bool {
        match self.get(signal).sa_handler_kernel {
            DEFAULT => signal.default_action() == DefaultAction::Ignore,
            handler => handler == IGNORE,
        }
    }

    /// Those of `signals` that nothing is to be done about.
    fn ignored(&self, mut signals: u64) -> u64 {
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

/// The threads of a process with their signals.
pub struct Group {
    /// In the order of their creation.
    members: Vec<Arc<Member>>,
    pending: Pending,
    pub actions: Actions,
    /// All threads shall end, and this is the process's status.
    ending: Option<ExitStatus>,
    /// The status when no `ending` says otherwise: what the first thread left with.
    first_status: ExitStatus,
    /// One thread runs execve: the others end, and no new ones come.
    is_closed: bool,
}

impl Group {
    /// The group of a new process; ENOMEM when that has no room.
    pub fn new(first: Arc<Member>, actions: Actions) -> Result<Group, Errno> {
        let mut members = Vec::new();
        members.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        members.push(first);
        let first_status = ExitStatus::Exited(0);
        Ok(Group {
            members,
            pending: Pending::default(),
            actions,
            ending: None,
            first_status,
            is_closed: false,
        })
    }

    pub fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// The thread of this number.
    pub fn find(&self, tid: i32) -> Option<Arc<Member>> {
        self.members.iter().find(|member| member.tid() == tid).cloned()
    }

    /// How the process shall end.
    pub fn ending(&self) -> Option<ExitStatus> {
        self.ending
    }

    /// Adds a thread; EAGAIN when the process is about to lose its threads, ENOMEM when there is no room.
    pub fn add(&mut self, member: Arc<Member>) -> Result<(), Errno> {
        if self.ending.is_some() || self.is_closed {
            return Err(Errno::EAGAIN);
        }
        self.members.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.members.push(member);
        Ok(())
    }

    /// Takes a thread out; the status of the process when it was the last one.
    pub fn remove(&mut self, member: &Arc<Member>) -> Option<ExitStatus> {
        self.members.retain(|one| !Arc::ptr_eq(one, member));
        self.rouse();
        self.members.is_empty().then(|| self.ending.unwrap_or(self.first_status))
    }

    /// Notes the status that the first thread leaves with.
    pub fn set_first_status(&mut self, status: ExitStatus) {
        self.first_status = status;
    }

    /// Ends all threads; the first end counts.
    pub fn end(&mut self, status: ExitStatus) {
        if self.ending.is_none() {
            self.ending = Some(status);
            self.members.iter().for_each(|member| member.task.attend(ATTEND_EXIT));
        }
    }

    /// Ends all threads but `survivor`, and lets no new ones come, until [`Group::reopen`]. EAGAIN when the process
    /// ends or another thread was faster.
    pub fn close(&mut self, survivor: &Arc<Member>) -> Result<(), Errno> {
        if self.ending.is_some() || self.is_closed {
            return Err(Errno::EAGAIN);
        }
        self.is_closed = true;
        let others = self.members.iter().filter(|member| !Arc::ptr_eq(member, survivor));
        others.for_each(|member| member.task.attend(ATTEND_EXIT));
        Ok(())
    }

    /// The thread that is left has the process's number from now on.
    pub fn reopen(&mut self, survivor: &Member, pid: i32) {
        self.is_closed = false;
        survivor.tid.store(pid, Ordering::Relaxed);
    }

    /// Sends a signal to one thread (`Some`) or to whoever takes it first.
    pub fn send(&mut self, to: Option<&Member>, sent: Sent) {
        let signal = sent.signal;
        if signal == Signal::KILL {
            return self.end(ExitStatus::Killed(signal));
        }
        let takes = |member: &&Arc<Member>| member.blocked() & signal.bit() == 0;
        let taker = match to {
            Some(member) => (member.blocked() & signal.bit() == 0).then_some(&member.task),
            None => self.members.iter().find(takes).map(|member| &member.task),
        };
        // A blocked signal waits even when it is ignored: the action may change.
        if taker.is_some() && self.actions.is_ignored(signal) {
            return;
        }
        match to {
            Some(member) => member.pending.lock().add(sent),
            None => self.pending.add(sent),
        }
        if let Some(task) = taker {
            task.attend(ATTEND_SIGNAL);
        }
    }

    /// Changes what a thread blocks.
    pub fn set_blocked(&mut self, member: &Member, mask: u64) {
        member.blocked.store(mask & !UNBLOCKABLE, Ordering::SeqCst);
        let waiting = member.pending.lock().set() | self.pending.set();
        if waiting & !mask != 0 {
            member.task.attend(ATTEND_SIGNAL);
        }
        self.rouse();
    }

    /// Signals that wait although they are blocked, for sigpending.
    pub fn waiting(&self, member: &Member) -> u64 {
        (member.pending.lock().set() | self.pending.set()) & member.blocked()
    }

    /// Drops signals that were sent to anybody here: nothing is to be done about them any more.
    pub fn forget(&mut self, signals: u64) {
        self.pending.forget(signals);
        self.members.iter().for_each(|member| member.pending.lock().forget(signals));
    }

    /// Takes the next signal for this thread: its own first, then the lowest.
    pub fn take(&mut self, member: &Member) -> Option<Sent> {
        let mut own = member.pending.lock();
        let ready = |set: u64| Signal::first_of(set & !member.blocked());
        match ready(own.set()) {
            Some(signal) => own.take(signal),
            None => ready(self.pending.set()).and_then(|signal| self.pending.take(signal)),
        }
    }

    /// Is there a signal that interrupts this thread's wait? Then it is this thread's alone from now on. Those that
    /// nothing is to be done about are dropped.
    pub fn claim(&mut self, member: &Member) -> bool {
        let mut own = member.pending.lock();
        let ready = (own.set() | self.pending.set()) & !member.blocked();
        let ignored = self.actions.ignored(ready);
        own.forget(ignored);
        self.pending.forget(ignored);
        if let Some(sent) = Signal::first_of(ready & !ignored).and_then(|signal| self.pending.take(signal)) {
            own.add(sent);
        }
        ready & !ignored != 0
    }

    /// Does the process want to know nothing of dead children?
    pub fn forgets_children(&self) -> bool {
        let action = self.actions.get(Signal::CHLD);
        action.sa_handler_kernel == IGNORE || action.sa_flags & u64::from(SA_NOCLDWAIT) != 0
    }

    /// Makes all threads look that could take what was sent to the process.
    fn rouse(&self) {
        if self.pending.set() != 0 {
            let takers = self.members.iter().filter(|member| self.pending.set() & !member.blocked() != 0);
            takers.for_each(|member| member.task.attend(ATTEND_SIGNAL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general::{SIGCHLD, SIGUSR1};

    #[test]
    fn a_signal_waits_once_and_says_who_sent_it() {
        let mut pending = Pending::default();
        let usr1 = Signal::new(SIGUSR1).unwrap();
        let sent = |pid| Sent { signal: usr1, code: 0, pid, status: 0 };
        pending.add(sent(7));
        pending.add(sent(8));
        assert_eq!(pending.take(usr1), Some(sent(7)));
        assert_eq!(pending.take(usr1), None);
        pending.add(sent(9));
        pending.forget(usr1.bit());
        assert_eq!((pending.set(), pending.take(usr1)), (0, None));
    }

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

    #[test]
    fn a_child_tells_its_status() {
        let info = Sent::of_child(Signal::CHLD, 7, ExitStatus::Exited(3)).info();
        assert_eq!((info.si_signo, info.si_code, info.value, info.rest[0]), (17, CLD_EXITED as i32, 7, 3));
    }
}
