//! Processes: what threads share, and the table of all of them.
//!
//! The table knows who is there, dead ones that nobody has waited for included; it guards the tree, that is
//! every process's `parent` and `status`. Locks, outermost first: the table, a process's `group`, a thread's
//! pending signals. None is held across user memory, a park, or an operation of an address space.
//!
//! The life of a process: its last thread leaves (`exit`) and the process takes its status. Its children go to
//! init, number 1, which is the kernel and waits for nobody: whoever dies as a child of init, or of a parent
//! that ignores SIGCHLD, is forgotten at once. Others stay until they are waited for (`children`).

use super::abi::Rlimit;
use super::alarm;
use super::brk::ProgramBreak;
use super::errno::Errno;
use super::session::Kin;
use super::signal::{Actions, Group, Member, Sent, Signal};
use super::strace;
use super::tree::Place;
use crate::initrd::File;
use crate::task::Task;
use crate::task::park::{self, Interruptible, Key, Park, Wake};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general::{RLIM_NLIMITS, SI_USER};
use mm::lock::{Rank, SpaceLock, SpinLock};
use mm::space::AddressSpace;
use spin::Once;

/// Log lines about refused calls that one process may cause.
const MAX_LOGGED_REFUSALS: u32 = 32;

/// The process that has no parent, and that orphans go to.
pub const INIT: i32 = 1;

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// exit(2), with this status.
    Exited(u8),
    /// By a signal.
    Killed(Signal),
}

impl ExitStatus {
    /// The status word of wait(2).
    pub fn wait_status(self) -> u32 {
        match self {
            ExitStatus::Exited(status) => u32::from(status) << 8,
            ExitStatus::Killed(signal) => u32::from(signal.number()),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(status) => write!(f, "exited with status {status}"),
            ExitStatus::Killed(signal) => write!(f, "killed by {signal}"),
        }
    }
}

/// What runs in an address space, shared by all that share the space.
pub struct Program {
    /// What it runs.
    pub image: Image,
    /// The auxiliary vector, as /proc/self/auxv shows it.
    pub auxv: Arc<[u8]>,
    /// The end of its heap. A sleeping lock: moving the break maps memory.
    pub program_break: SpaceLock<ProgramBreak>,
}

/// What a process keeps for its program to read back.
#[derive(Clone)]
pub struct Settings {
    /// RLIMIT_*.
    pub limits: [Rlimit; RLIM_NLIMITS as usize],
    /// setpriority(2): -20 to 19. All run alike.
    pub nice: i32,
    /// umask(2).
    pub umask: u32,
    /// Its current directory, if it has left the root.
    pub directory: Option<Arc<Place>>,
    /// What it runs, as others see it.
    pub image: Image,
}

/// What a process runs, as others see it.
#[derive(Clone)]
pub struct Image {
    /// The program's file.
    pub executable: &'static File,
    /// Where the strings of its arguments lie.
    pub arguments: Range<u64>,
    /// The same of its environment.
    pub environment: Range<u64>,
    /// The monotonic clock when it was loaded, in nanoseconds.
    pub started_ns: u64,
}

/// What a process has from its parent.
pub struct Inherited {
    /// The process that waits for it, or [`INIT`].
    pub parent: i32,
    /// What that gets when it ends; 0 is nothing.
    pub exit_signal: i32,
    pub kin: Kin,
    pub actions: Actions,
    pub settings: Settings,
}

/// One or more threads with one number.
pub struct Process {
    /// Its number: that of its first task.
    pub pid: i32,
    /// Its process group and session.
    pub kin: SpinLock<Kin>,
    /// Its first task, which holds the number until the process is forgotten.
    pub leader: Arc<Task>,
    /// [`INIT`], or the process that waits for it. Changes under the table's lock.
    parent: AtomicI32,
    /// What its parent gets when it ends; 0 is nothing.
    pub exit_signal: AtomicI32,
    /// What it gets when its parent ends (PR_SET_PDEATHSIG); 0 is nothing.
    pub death_signal: AtomicI32,
    /// Set, under the table's lock, when the last thread has left.
    status: Once<ExitStatus>,
    /// Its threads and its signals.
    pub group: SpinLock<Group>,
    pub settings: SpinLock<Settings>,
    /// Its memory, which is its threads'.
    space: SpinLock<Weak<AddressSpace>>,
    /// Its threads, counted: for who may not take a lock.
    pub living: AtomicU32,
    /// It runs a program of its own or has ended: a vfork is over.
    pub is_released: AtomicBool,
    /// Counts the ends of children: who waits for one looks whether it moved.
    pub endings: AtomicU32,
    /// CPU time of threads that have left, and of children that were waited for.
    pub past_ns: AtomicU64,
    pub children_ns: AtomicU64,
    logged_refusals: AtomicU32,
}

/// All processes, by number.
static TABLE: SpinLock<Vec<Arc<Process>>> = SpinLock::new(Rank::Children, Vec::new());

/// The first process has ended: there will be no new one. Changed under the table's lock.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Offsets of park keys whose object is a process: its own end, and the end of one of its children.
const ENDED: u64 = 0;
const CHILD_ENDED: u64 = 1;

impl Process {
    /// Puts a process that consists of `first` alone into the table; ENOMEM when that has no room, EAGAIN when the run
    /// is over.
    pub fn publish(first: &Arc<Member>, inherited: Inherited) -> Result<Arc<Process>, Errno> {
        let leader = Arc::clone(&first.task);
        let process = Arc::new(Process {
            pid: leader.tid(),
            kin: SpinLock::new(Rank::Process, inherited.kin),
            leader,
            parent: AtomicI32::new(inherited.parent),
            exit_signal: AtomicI32::new(inherited.exit_signal),
            death_signal: AtomicI32::new(0),
            status: Once::new(),
            group: SpinLock::new(Rank::Process, Group::new(Arc::clone(first), inherited.actions)?),
            settings: SpinLock::new(Rank::Process, inherited.settings),
            space: SpinLock::new(Rank::Process, Weak::new()),
            living: AtomicU32::new(1),
            is_released: AtomicBool::new(false),
            endings: AtomicU32::new(0),
            past_ns: AtomicU64::new(0),
            children_ns: AtomicU64::new(0),
            logged_refusals: AtomicU32::new(0),
        });
        let mut table = TABLE.lock();
        if CLOSED.load(Ordering::Relaxed) {
            return Err(Errno::EAGAIN);
        }
        // A parent that has ended meanwhile has given its children away already.
        let is_gone = |parent: Option<Arc<Process>>| parent.is_none_or(|parent| parent.status().is_some());
        if is_gone(lookup(&table, process.parent())) {
            process.parent.store(INIT, Ordering::Relaxed);
        }
        table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let index = table.partition_point(|other| other.pid < process.pid);
        table.insert(index, Arc::clone(&process));
        Ok(process)
    }

    /// The parent's number.
    pub fn parent(&self) -> i32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// Says what its memory is from now on.
    pub fn use_space(&self, space: &Arc<AddressSpace>) {
        *self.space.lock() = Arc::downgrade(space);
    }

    /// Its memory, while it has any.
    pub fn space(&self) -> Option<Arc<AddressSpace>> {
        self.space.lock().upgrade()
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status.get().copied()
    }

    /// CPU time of its threads, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        // Under the lock a thread that leaves counts once.
        let group = self.group.lock();
        let running: u64 = group.members.iter().map(|member| member.task.cpu_ns()).sum();
        running + self.past_ns.load(Ordering::Relaxed)
    }

    /// May one more refusal go to the log? The last time, the log says so.
    pub fn may_log(&self) -> bool {
        let before = self.logged_refusals.fetch_add(1, Ordering::Relaxed);
        if before == MAX_LOGGED_REFUSALS {
            log::warn!("/{}: further refusals are not logged", self.settings.lock().image.executable.path);
        }
        // The count stays above the limit for good: it would take 2^32 refusals to wrap.
        before < MAX_LOGGED_REFUSALS
    }

    /// Takes `member`, which has left user memory behind, out of the process; the last one ends it.
    pub fn leave(self: &Arc<Process>, member: &Arc<Member>) {
        let mut group = self.group.lock();
        self.past_ns.fetch_add(member.task.cpu_ns(), Ordering::Relaxed);
        let status = group.remove(member);
        drop(group);
        self.living.fetch_sub(1, Ordering::SeqCst);
        match status {
            Some(status) => {
                if strace::is_on() {
                    strace::ended(self.pid, status);
                }
                self.become_zombie(status);
            }
            None => self.announce(),
        }
    }

    /// Ends a vfork of its parent.
    pub fn release(&self) {
        self.is_released.store(true, Ordering::SeqCst);
        self.announce();
    }

    /// Wakes who waits in [`Process::wait_until`].
    fn announce(&self) {
        park::unpark(self.key(ENDED), !0, usize::MAX);
    }

    fn become_zombie(self: &Arc<Process>, status: ExitStatus) {
        let table = TABLE.lock();
        self.status.call_once(|| status);
        self.is_released.store(true, Ordering::SeqCst);
        for child in table.iter().filter(|child| child.parent() == self.pid) {
            child.parent.store(INIT, Ordering::Relaxed);
            if let Some(signal) = Signal::new(child.death_signal.load(Ordering::Relaxed).unsigned_abs()) {
                child.send(Sent::new(signal, SI_USER as i32, self.pid as u64));
            }
        }
        let parent = lookup(&table, self.parent());
        let signal = Signal::new(self.exit_signal.load(Ordering::Relaxed).unsigned_abs());
        let is_forgotten = signal == Some(Signal::CHLD)
            && parent.as_ref().is_some_and(|parent| parent.group.lock().forgets_children());
        if is_forgotten {
            self.parent.store(INIT, Ordering::Relaxed);
        }
        drop(table);
        if let Some(parent) = parent {
            if let Some(signal) = signal {
                parent.send(Sent::of_child(signal, self.pid, status));
            }
            parent.endings.fetch_add(1, Ordering::SeqCst);
            park::unpark(parent.key(CHILD_ENDED), !0, usize::MAX);
        }
        alarm::forget_all(self.pid);
        self.announce();
        forget_orphans();
    }

    /// Forgets a dead process; false when somebody else has. Its number is free when it is dropped.
    pub fn forget(&self) -> bool {
        let mut table = TABLE.lock();
        let index = table.binary_search_by_key(&self.pid, |process| process.pid);
        let gone = index.ok().map(|index| table.remove(index));
        if table.is_empty() {
            // A run gives everything back.
            *table = Vec::new();
        }
        drop(table);
        // With the lock released, though the caller's reference makes that of the table not the last one.
        gone.is_some()
    }

    /// CPU time of the threads that have left, and of children that were waited for.
    pub fn all_past_ns(&self) -> u64 {
        self.past_ns.load(Ordering::Relaxed) + self.children_ns.load(Ordering::Relaxed)
    }

    /// Waits until `is_over`, which is asked whenever a thread leaves or the process is released, or until what
    /// `interruptible` names. It takes no lock.
    pub fn wait_until(&self, what: &'static str, interruptible: Interruptible, is_over: &dyn Fn() -> bool) {
        let wish = Park { key: self.key(ENDED), mask: !0, deadline_ns: None, interruptible, what };
        while !is_over() && park::park(&wish, &|| !is_over()) != Wake::Interrupted {}
    }

    /// What its threads wait for in wait4.
    pub fn child_key(&self) -> Key {
        self.key(CHILD_ENDED)
    }

    fn key(&self, offset: u64) -> Key {
        Key { object: core::ptr::from_ref(self).addr() as u64, offset }
    }
}

fn lookup(table: &[Arc<Process>], pid: i32) -> Option<Arc<Process>> {
    let index = table.binary_search_by_key(&pid, |process| process.pid).ok()?;
    table.get(index).cloned()
}

/// The process of this number, dead ones included.
pub fn find(pid: i32) -> Option<Arc<Process>> {
    lookup(&TABLE.lock(), pid)
}

/// The first process, by number, that `wanted` picks. It is asked under the table's lock.
pub fn find_by(mut wanted: impl FnMut(&Process) -> bool) -> Option<Arc<Process>> {
    TABLE.lock().iter().find(|process| wanted(process)).cloned()
}

/// Lets new processes in, or keeps them out.
pub fn close(closed: bool) {
    let _table = TABLE.lock();
    CLOSED.store(closed, Ordering::Relaxed);
}

/// Calls `visit` for every process under the table's lock.
pub fn for_each(mut visit: impl FnMut(&Process)) {
    TABLE.lock().iter().for_each(|process| visit(process));
}

/// CPU time of all processes, and of those that they waited for, in nanoseconds.
pub fn all_cpu_ns() -> u64 {
    let mut sum = 0;
    for_each(|process| sum += process.cpu_ns() + process.children_ns.load(Ordering::Relaxed));
    sum
}

/// How many threads there are.
pub fn count_threads() -> usize {
    let mut count = 0;
    for_each(|process| count += process.living.load(Ordering::Relaxed) as usize);
    count
}

/// Forgets dead children of init. One at a time: a process is dropped with the lock released.
fn forget_orphans() {
    while let Some(orphan) = find_by(|process| process.parent() == INIT && process.status().is_some()) {
        orphan.forget();
    }
}
