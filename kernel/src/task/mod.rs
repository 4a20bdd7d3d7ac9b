//! Tasks: what runs on the CPUs, and who waits for what.
//!
//! The kernel is not preemptible: a task keeps its CPU until it parks, yields, or passes a [`preempt_point`]. A
//! program's task is preempted where it comes back from ring 3: `traps` looks at [`Task::attention`] after each trap.
//! So what belongs to a CPU needs no lock, and nobody waits for a spin lock whose holder does not run. A task may
//! sleep wherever it holds no spin lock and no epoch pin, for each has a stack of its own; it may wake up on another
//! CPU.
//!
//! | file | noun |
//! |---|---|
//! | `switch` | a task's machine state; the way from one task to the next |
//! | `queue` | the run queue: who is next, who is woken for it; the idle loop |
//! | `park` | the parking lot: who waits for what |
//! | `timer` | deadlines and time slices |
//! | `number` | task numbers |
//!
//! One reference to a task belongs to the scheduler. It is where the task is: in the run queue, in a bucket of the
//! parking lot, or with the CPU that runs it.

mod number;
pub mod park;
mod queue;
mod switch;
mod timer;

pub use crate::arch::percpu::online;
pub use crate::arch::stack::pooled_frames;
pub use queue::{asked_to_look, idle, preempt_point, yield_now};
pub use switch::{CpuTasks, current, current_space, fs_base, init_cpu, live, set_fs_base, spawn, use_space};
pub use switch::{faults_are_off, with_current, without_faults};
pub use timer::fired as timer_fired;

use crate::arch::interrupts;
use crate::arch::percpu::Cpu;
use crate::clock;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use intrusive_collections::LinkedListAtomicLink;
use number::Number;
use spin::Once;

/// Bit of [`Task::attention`]: a signal waits to be delivered.
pub const ATTEND_SIGNAL: u32 = 1;
/// The task shall end.
pub const ATTEND_EXIT: u32 = 2;
/// Others wait for this CPU.
pub const ATTEND_RESCHED: u32 = 4;

/// A call that is traced has been answered.
pub const ATTEND_TRACE: u32 = 8;

/// In `Task::on_cpu`: the CPU's number plus 1, 0 for none.
const CPU_MASK: u32 = 0xff;
/// In `Task::on_cpu`: it is to be queued when it has left its stack.
const WOKEN: u32 = 0x100;
/// In `Task::on_cpu`: it is to be dropped when it has left its stack.
const ENDED: u32 = 0x200;

/// Something that runs on a kernel stack of its own.
pub struct Task {
    number: Number,
    attention: AtomicU32,
    affinity: AtomicU64,
    /// Whose registers or stack it still uses: until that is 0, no other CPU may run it.
    on_cpu: AtomicU32,
    used_ticks: AtomicU64,
    state: UnsafeCell<switch::State>,
    /// In the run queue or in a bucket of the parking lot.
    link: LinkedListAtomicLink,
    parked: park::Parked,
    deadline: timer::Deadline,
}

// SAFETY: `state` is touched only by the task itself and by the CPU that switches to it or away from it (`on_cpu`
// hands it over). The links are changed under the lock of the list that they belong to.
unsafe impl Sync for Task {}
// SAFETY: as above; nothing in it is bound to a CPU.
unsafe impl Send for Task {}

impl Task {
    fn new(number: Number, affinity: u64, state: switch::State) -> Arc<Task> {
        Arc::new(Task {
            number,
            attention: AtomicU32::new(0),
            affinity: AtomicU64::new(affinity),
            on_cpu: AtomicU32::new(0),
            used_ticks: AtomicU64::new(0),
            state: UnsafeCell::new(state),
            link: LinkedListAtomicLink::new(),
            parked: park::Parked::default(),
            deadline: timer::Deadline::default(),
        })
    }

    /// Its number: positive, at least 2, unique while somebody holds the task.
    pub fn tid(&self) -> i32 {
        self.number.get()
    }

    /// The `ATTEND_` bits that it has not answered yet.
    #[inline]
    pub fn attention(&self) -> u32 {
        self.attention.load(Ordering::Relaxed)
    }

    /// Sets a bit of the attention word, and makes the task look: it is interrupted where it runs, and for a signal
    /// or its end woken from an interruptible park.
    pub fn attend(&self, bit: u32) {
        self.attention.fetch_or(bit, Ordering::SeqCst);
        let on = self.on_cpu.load(Ordering::SeqCst) & CPU_MASK;
        if let Some(cpu) = on.checked_sub(1).and_then(|number| Cpu::numbered(number as usize))
            && cpu.number() != Cpu::this().number()
        {
            interrupts::send(cpu, interrupts::RESCHEDULE);
        }
        if bit & (ATTEND_SIGNAL | ATTEND_EXIT) != 0 {
            park::interrupt(self, park::Wake::Interrupted);
        }
    }

    /// Clears a bit: it has been answered.
    pub fn attended(&self, bit: u32) {
        self.attention.fetch_and(!bit, Ordering::SeqCst);
    }

    /// Lets it run on the CPUs of `mask` only, of which one is online; moves it when it runs on another.
    pub fn set_affinity(&self, mask: u64) {
        self.affinity.store(mask, Ordering::SeqCst);
        queue::affinity_changed(self);
    }

    /// The CPUs that it may run on, a bit each.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// CPU time used, in nanoseconds; of a task that runs on another CPU, up to when it last let others run.
    pub fn cpu_ns(&self) -> u64 {
        let running = with_current(|current| core::ptr::eq(self, current));
        let since = if running { clock::tsc().wrapping_sub(Cpu::this().tasks.since.get()) } else { 0 };
        clock::ns_of(self.used_ticks.load(Ordering::Relaxed).wrapping_add(since))
    }
}

/// What is done when every task waits and nobody is there to end it.
pub type DeadlockHook = fn(task: &Arc<Task>, what: &'static str);

static DEADLOCK_HOOK: Once<DeadlockHook> = Once::new();

/// Says what is to be done when every task waits and nobody is there to end it: `hook` is called with the youngest
/// task that waits interruptibly, and the call that it waits in, and makes it go on ([`Task::attend`]). It runs on
/// an idle CPU and must not wait. Set once.
pub fn on_deadlock(hook: DeadlockHook) {
    DEADLOCK_HOOK.call_once(|| hook);
}

/// The CPU that this runs on, counted from 0. It may be another one after a wait.
pub fn cpu_number() -> usize {
    Cpu::this().number()
}
