//! Deadlines and time slices, on one one-shot timer a CPU.
//!
//! No timer is armed while nothing is due: neither a deadline of a parked task nor, on a CPU whose task others wait
//! for, the end of a slice. A timer that was armed is not stopped when its reason goes: it interrupts once, finds
//! nothing, and is armed for what is due then. So for the earliest deadline some CPU's timer is always armed.

use super::park::{self, Wake};
use super::{ATTEND_RESCHED, Task};
use crate::arch::interrupts;
use crate::arch::percpu::{self, Cpu};
use crate::clock;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use intrusive_collections::{KeyAdapter, RBTree, RBTreeAtomicLink, intrusive_adapter};
use mm::lock::{Rank, SpinLock};

/// How long a task runs while others wait.
const SLICE_NS: u64 = 4_000_000;

/// A task's deadline, while it has one.
#[derive(Default)]
pub(super) struct Deadline {
    link: RBTreeAtomicLink,
    ns: AtomicU64,
    /// Since [`set`].
    pub passed: AtomicBool,
}

/// What a CPU's timer is armed for; `u64::MAX` for nothing.
pub(super) struct CpuTimer {
    armed_ns: Cell<u64>,
    slice_end_ns: Cell<u64>,
}

intrusive_adapter!(ByDeadline = Arc<Task>: Task { deadline.link => RBTreeAtomicLink });

impl<'a> KeyAdapter<'a> for ByDeadline {
    type Key = u64;

    fn get_key(&self, task: &'a Task) -> u64 {
        task.deadline.ns.load(Ordering::Relaxed)
    }
}

/// Taken before a bucket of the parking lot.
static DEADLINES: SpinLock<RBTree<ByDeadline>> = SpinLock::new(Rank::Deadlines, RBTree::new(ByDeadline::NEW));
/// The first of them; `u64::MAX` when there is none.
static FIRST_NS: AtomicU64 = AtomicU64::new(u64::MAX);
/// CPUs that count no slice.
static UNSLICED: AtomicU64 = AtomicU64::new(u64::MAX);

impl CpuTimer {
    pub const fn new() -> CpuTimer {
        CpuTimer { armed_ns: Cell::new(u64::MAX), slice_end_ns: Cell::new(u64::MAX) }
    }

    fn arm(&self, at_ns: u64, now_ns: u64) {
        if at_ns < self.armed_ns.get() {
            self.armed_ns.set(at_ns);
            interrupts::set_timer(at_ns.saturating_sub(now_ns));
        }
    }
}

/// Interrupts the current task's park at this time, until [`clear`].
pub(super) fn set(task: &Arc<Task>, deadline_ns: u64) {
    let now = clock::monotonic_ns();
    let mut tree = DEADLINES.lock();
    task.deadline.ns.store(deadline_ns, Ordering::Relaxed);
    task.deadline.passed.store(deadline_ns <= now, Ordering::Relaxed);
    if deadline_ns > now {
        tree.insert(Arc::clone(task));
        if deadline_ns < FIRST_NS.load(Ordering::Relaxed) {
            FIRST_NS.store(deadline_ns, Ordering::Relaxed);
            Cpu::this().tasks.timer.arm(deadline_ns, now);
        }
    }
}

/// Forgets the current task's deadline. When it returns, nobody is about to interrupt a later park for it.
pub(super) fn clear(task: &Task) {
    let mut tree = DEADLINES.lock();
    if task.deadline.link.is_linked() {
        // SAFETY: only `set` links it, into this tree, and the tree is locked.
        unsafe { tree.cursor_mut_from_ptr(task) }.remove();
        note_first(&tree);
    }
}

fn note_first(tree: &RBTree<ByDeadline>) -> u64 {
    let first = tree.front().get().map_or(u64::MAX, |task| task.deadline.ns.load(Ordering::Relaxed));
    FIRST_NS.store(first, Ordering::Relaxed);
    first
}

/// Is no deadline set?
pub(super) fn nothing_due() -> bool {
    FIRST_NS.load(Ordering::Relaxed) == u64::MAX
}

/// Other tasks wait for these CPUs: each that is not idle counts a slice from now on, unless it does already.
pub(super) fn share(cpu: &Cpu, allowed: u64) {
    if allowed & cpu.bit() != 0 {
        start_slice(cpu);
    }
    let others = UNSLICED.load(Ordering::Relaxed) & percpu::online() & allowed & !cpu.bit();
    for other in percpu::each(others) {
        interrupts::send(other, interrupts::RESCHEDULE);
    }
}

/// Counts a slice on this CPU, unless it does already.
#[inline]
pub(super) fn start_slice(cpu: &Cpu) {
    let timer = &cpu.tasks.timer;
    if timer.slice_end_ns.get() == u64::MAX {
        let now = clock::monotonic_ns();
        UNSLICED.fetch_and(!cpu.bit(), Ordering::Relaxed);
        timer.slice_end_ns.set(now + SLICE_NS);
        timer.arm(now + SLICE_NS, now);
    }
}

/// This CPU's timer has interrupted it.
pub fn fired() {
    let cpu = Cpu::this();
    let timer = &cpu.tasks.timer;
    let now = clock::monotonic_ns();
    timer.armed_ns.set(u64::MAX);
    if timer.slice_end_ns.get() <= now {
        timer.slice_end_ns.set(u64::MAX);
        UNSLICED.fetch_or(cpu.bit(), Ordering::Relaxed);
        cpu.tasks.current().attention.fetch_or(ATTEND_RESCHED, Ordering::Relaxed);
    }
    let due = timer.slice_end_ns.get().min(expire(now));
    if due != u64::MAX {
        timer.arm(due, now);
    }
}

/// Ends the parks whose deadline has passed; returns the next deadline.
fn expire(now_ns: u64) -> u64 {
    if FIRST_NS.load(Ordering::Relaxed) > now_ns {
        return FIRST_NS.load(Ordering::Relaxed);
    }
    let mut tree = DEADLINES.lock();
    while tree.front().get().is_some_and(|task| task.deadline.ns.load(Ordering::Relaxed) <= now_ns) {
        let Some(task) = tree.front_mut().remove() else { break };
        // Either it is parked already, or it sees the mark under the bucket's lock. The tree stays locked: see `clear`.
        task.deadline.passed.store(true, Ordering::SeqCst);
        park::interrupt(&task, Wake::TimedOut);
    }
    note_first(&tree)
}
