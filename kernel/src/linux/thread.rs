//! Threads: what one task of a program has, from its first instruction to its last.
//!
//! A thread is owned by its task and nobody else touches it; what others may know of it is its `Member`. It ends
//! where it comes back from ring 3 (`traps::run`), never inside a call: whoever wants it to end sets
//! `ATTEND_EXIT`, which also ends its waits.

use super::abi::padded;
use super::call;
use super::errno::Errno;
use super::files::Descriptors;
use super::process::{ExitStatus, Process, Program};
use super::signal::{Member, Signals};
use super::strace::TracedCall;
use crate::arch::context::UserContext;
use crate::initrd::File;
use crate::task::park::{self, Interruptible, Key, Park, Wake};
use crate::task::{self, ATTEND_EXIT, ATTEND_RESCHED, ATTEND_SIGNAL, ATTEND_TRACE, Task};
use crate::traps;
use crate::user_memory;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::ControlFlow;
use mm::lock::SpinLock;
use mm::space::AddressSpace;

/// A thread of a program.
pub struct Thread {
    /// Its registers while it is not running.
    pub context: UserContext,
    /// Its task.
    pub task: Arc<Task>,
    /// Its memory, which other threads and, after vfork, its parent may share.
    pub space: Arc<AddressSpace>,
    pub(super) process: Arc<Process>,
    pub(super) program: Arc<Program>,
    pub(super) files: Arc<SpinLock<Descriptors>>,
    /// What others know of it.
    pub(super) member: Arc<Member>,
    pub(super) signals: Signals,
    /// PR_SET_NAME, NUL-padded.
    pub(super) name: [u8; 16],
    /// Cleared and woken at its end (CLONE_CHILD_CLEARTID); 0 is nothing.
    pub(super) clear_tid: u64,
    /// Head of its list of robust futexes; 0 is none.
    pub(super) robust_list: u64,
    /// The call that a trace will tell of.
    pub(super) traced: Option<Box<TracedCall>>,
}

/// The name of a thread that runs `file` and has not said otherwise.
pub fn default_name(file: &File) -> [u8; 16] {
    let base = file.path.rsplit('/').next().unwrap_or(file.path).as_bytes();
    padded(base.get(..15).unwrap_or(base))
}

/// A thread that waits for its first instruction.
pub struct Newborn {
    /// The thread.
    pub thread: Thread,
    /// Its fs base, when it is not that of its parent.
    pub fs_base: Option<u64>,
    /// Where its number goes (CLONE_CHILD_SETTID); 0 is nowhere.
    pub set_tid: u64,
}

/// Makes a task that waits for its [`Newborn`]: it takes what is in the cradle once it is the only one that has it, and
/// ends if nothing is. So a task can be known by its number before it runs. `None` when memory is out.
pub fn conceive(cradle: &Arc<SpinLock<Option<Newborn>>>) -> Option<Arc<Task>> {
    let mut cradle = Arc::clone(cradle);
    task::spawn(Box::new(move || {
        let newborn = loop {
            match Arc::try_unwrap(cradle) {
                Ok(mut cradle) => break cradle.get_mut().take(),
                Err(shared) => cradle = shared,
            }
            // The one that has it may be waiting for this CPU to answer an interrupt.
            task::preempt_point();
            task::yield_now();
        };
        if let Some(newborn) = newborn {
            newborn.live();
        }
    }))
}

impl Newborn {
    fn live(self) {
        let Newborn { mut thread, fs_base, set_tid } = self;
        task::use_space(Some(Arc::clone(&thread.space)));
        if let Some(base) = fs_base {
            task::set_fs_base(base);
        }
        if set_tid != 0 {
            // As on Linux, a bad address is the program's own loss.
            let _ = user_memory::write_value(set_tid, &thread.member.tid());
        }
        traps::run(&mut thread);
        thread.finish();
    }
}

impl Thread {
    /// Answers the system call that the registers hold.
    #[inline]
    pub fn syscall(&mut self) {
        self.context.rax = match call::dispatch(self) {
            Ok(value) => value,
            Err(errno) => errno.to_rax(),
        };
    }

    /// Answers what others want of this thread; `Break` when it must not run on.
    #[cold]
    #[inline(never)]
    pub fn attend(&mut self) -> ControlFlow<()> {
        if self.task.attention() & ATTEND_TRACE != 0 {
            self.trace_result();
        }
        if self.task.attention() & ATTEND_SIGNAL != 0 {
            self.deliver_pending();
        }
        if self.task.attention() & ATTEND_RESCHED != 0 {
            task::yield_now();
        }
        if self.task.attention() & ATTEND_EXIT != 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Ends the process; the first end counts.
    pub(super) fn end(&mut self, status: ExitStatus) {
        self.process.group.lock().end(status);
    }

    /// The path of the program's file, without the slash at its start.
    pub(super) fn name(&self) -> &'static str {
        self.program.image.executable.path
    }

    /// May one more refusal go to the log?
    pub(super) fn may_log(&self) -> bool {
        self.process.may_log()
    }

    /// Waits for `key` as `wish` says until it is woken or its time is over; `None` when a signal came first.
    #[inline]
    pub(super) fn park(&self, wish: &Park, still: &dyn Fn() -> bool) -> Option<Wake> {
        loop {
            match park::park(wish, still) {
                Wake::Interrupted if self.is_interrupted() => return None,
                Wake::Interrupted => {}
                wake => return Some(wake),
            }
        }
    }

    /// Waits until a signal comes, EINTR, or until that time, EAGAIN.
    pub(super) fn wait_for_signal(&self, what: &'static str, deadline_ns: Option<u64>) -> Errno {
        // Nobody wakes it: there is no bit in its mask.
        let key = Key { object: Arc::as_ptr(&self.member).addr() as u64, offset: 0 };
        let wish = Park { key, mask: 0, deadline_ns, interruptible: Interruptible::Yes, what };
        if self.park(&wish, &|| true).is_some() { Errno::EAGAIN } else { Errno::EINTR }
    }
}
