//! The signals of a process's threads: who is there, what was sent, what is to be done.
//!
//! A signal waits in its thread's set or, sent to the process, in the group's until a thread that does not
//! block it takes it. `ATTEND_SIGNAL` makes a thread look; it may look in vain, for another was faster. Nobody
//! waits without having been told: a sender puts the signal into a set and then looks at the masks, a thread
//! changes its mask and then looks at the sets, both under the group's lock.

use super::IGNORE;
use super::actions::Actions;
use super::number::{Signal, UNBLOCKABLE};
use super::pending::{Pending, Sent};
use crate::linux::errno::Errno;
use crate::linux::process::ExitStatus;
use crate::task::{ATTEND_EXIT, ATTEND_SIGNAL, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use linux_raw_sys::general::SA_NOCLDWAIT;
use mm::lock::{Rank, SpinLock};

/// What others may know of a thread.
pub struct Member {
    tid: AtomicI32,
    /// Its task.
    pub task: Arc<Task>,
    blocked: AtomicU64,
    /// What it waits for in rt_sigtimedwait, blocked or not.
    awaited: AtomicU64,
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
            awaited: AtomicU64::new(0),
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

    /// Those that make it look.
    fn accepted(&self) -> u64 {
        !self.blocked() | self.awaited.load(Ordering::Relaxed)
    }
}

/// The threads of a process with their signals.
pub struct Group {
    /// In the order of their creation.
    pub members: Vec<Arc<Member>>,
    pending: Pending,
    pub actions: Actions,
    /// All threads shall end, and this is the process's status.
    pub ending: Option<ExitStatus>,
    /// The status when no `ending` says otherwise: what the first thread left with.
    pub first_status: ExitStatus,
    /// One thread runs execve: the others end, and no new ones come.
    is_closed: bool,
}

impl Group {
    /// The group of a new process; ENOMEM when that has no room.
    pub fn new(first: Arc<Member>, actions: Actions) -> Result<Group, Errno> {
        let (pending, first_status) = (Pending::default(), ExitStatus::Exited(0));
        let mut group =
            Group { members: Vec::new(), pending, actions, ending: None, first_status, is_closed: false };
        group.add(first)?;
        Ok(group)
    }

    /// The thread of this number.
    pub fn find(&self, tid: i32) -> Option<Arc<Member>> {
        self.members.iter().find(|member| member.tid() == tid).cloned()
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
        // Others can queue as much as soon as somebody knows of this end.
        member.pending.lock().forget(!0);
        self.rouse();
        self.members.is_empty().then(|| {
            self.pending.forget(!0);
            self.ending.unwrap_or(self.first_status)
        })
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

    /// Sends a signal to one thread (`Some`) or to whoever takes it first. EAGAIN when a real-time one has no room.
    pub fn send(&mut self, to: Option<&Member>, sent: Sent) -> Result<(), Errno> {
        let signal = sent.signal;
        if signal == Signal::KILL {
            self.end(ExitStatus::Killed(signal));
            return Ok(());
        }
        let takes = |member: &&Member| member.accepted() & signal.bit() != 0;
        let taker = match to {
            Some(member) => Some(member).filter(takes),
            None => self.members.iter().map(|member| &**member).find(takes),
        };
        // One that is blocked or waited for is kept even when it is ignored: the action may change.
        if taker.is_some_and(|taker| taker.awaited.load(Ordering::Relaxed) & signal.bit() == 0)
            && self.actions.is_ignored(signal)
        {
            return Ok(());
        }
        match to {
            Some(member) => member.pending.lock().add(sent)?,
            None => self.pending.add(sent)?,
        }
        if let Some(taker) = taker {
            taker.task.attend(ATTEND_SIGNAL);
        }
        Ok(())
    }

    /// Does what this timer sends there wait already ([`Pending::has`])?
    pub fn waits(&self, to: Option<&Member>, sent: &Sent) -> bool {
        to.map_or_else(|| self.pending.has(sent), |member| member.pending.lock().has(sent))
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

    /// Takes the next signal for this thread that is in `set`: its own first, then the lowest.
    pub fn take(&mut self, member: &Member, set: u64) -> Option<Sent> {
        let mut own = member.pending.lock();
        match Signal::first_of(own.set() & set) {
            Some(signal) => own.take(signal),
            None => Signal::first_of(self.pending.set() & set).and_then(|signal| self.pending.take(signal)),
        }
    }

    /// Says which signals this thread waits for although it may block them.
    pub fn set_awaited(&mut self, member: &Member, set: u64) {
        member.awaited.store(set, Ordering::Relaxed);
        self.rouse();
    }

    /// Is there a signal that interrupts this thread's wait? Then it is this thread's alone from now on. Those that
    /// nothing is to be done about are dropped.
    pub fn claim(&mut self, member: &Member) -> bool {
        let mut own = member.pending.lock();
        let ready = (own.set() | self.pending.set()) & member.accepted();
        let ignored = self.actions.ignored(ready & !member.awaited.load(Ordering::Relaxed));
        own.forget(ignored);
        self.pending.forget(ignored);
        if let Some(sent) = Signal::first_of(ready & !ignored).and_then(|signal| self.pending.take(signal)) {
            // One that has no room is lost, which only a flood of real-time signals can bring about.
            let _ = own.add(sent);
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
            let takers = self.members.iter().filter(|member| self.pending.set() & member.accepted() != 0);
            takers.for_each(|member| member.task.attend(ATTEND_SIGNAL));
        }
    }
}
