//! A task's machine state, and the way from one task to the next.
//!
//! 1. The old task's registers that the kernel does not save by itself (FPU, fs base, selectors) go to its state;
//!    those of the new one are loaded, and its address space.
//! 2. `switch_stacks` leaves the old stack and goes on with the new one.
//! 3. Only now may another CPU run the old task: `finish_switch`, on the new stack, says so (`on_cpu`), queues the
//!    old task when somebody has woken it meanwhile, and drops it when it has ended.

use super::number::Number;
use super::{ENDED, Task, WOKEN, queue, timer};
use crate::arch::percpu::Cpu;
use crate::arch::stack::Stack;
use crate::arch::{context, fpu};
use crate::clock;
use crate::machine::machine;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use mm::frames::KERNEL_RESERVE;
use mm::space::AddressSpace;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::FsBase;

/// What a task has on the machine; its FPU registers are at the top of its stack.
pub(super) struct State {
    /// Where its stack was left.
    rsp: u64,
    /// None: an idle task, which runs where its CPU began.
    stack: Option<Stack>,
    /// The root table of `space`; 0 for the kernel's own.
    root: u64,
    space: Option<Arc<AddressSpace>>,
    fs_base: u64,
    segments: u64,
    body: Option<Box<dyn FnOnce() + Send>>,
}

/// What runs on a CPU, in its block.
pub struct CpuTasks {
    current: Cell<*const Task>,
    /// Who ran before, until its stack was left.
    previous: Cell<*const Task>,
    pub(super) idle: Cell<*const Task>,
    /// The TSC when the current task came.
    pub(super) since: Cell<u64>,
    faults_off: Cell<bool>,
    pub(super) timer: timer::CpuTimer,
}

static LIVE: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn switch_stacks(save: *mut u64, load: u64);
}

impl CpuTasks {
    /// Nothing runs yet.
    pub const fn none() -> CpuTasks {
        CpuTasks {
            current: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            idle: Cell::new(ptr::null()),
            since: Cell::new(0),
            faults_off: Cell::new(false),
            timer: timer::CpuTimer::new(),
        }
    }

    /// The task that runs here.
    #[inline]
    pub(super) fn current(&self) -> &Task {
        // SAFETY: set by `init_cpu` and by `switch_to`; the scheduler's reference keeps a task that runs.
        unsafe { &*self.current.get() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.get() == self.idle.get()
    }
}

impl State {
    fn new(stack: Option<Stack>, body: Option<Box<dyn FnOnce() + Send>>) -> State {
        State { rsp: 0, stack, root: 0, space: None, fs_base: 0, segments: 0, body }
    }

    fn fpu_area(&self) -> *mut fpu::FpuArea {
        self.stack.as_ref().expect("only tasks with a stack of their own get an address space").fpu_area()
    }

    /// Saves what a program has in the CPU's registers, if the task has a program.
    #[inline]
    #[optimize(speed)]
    fn leave(&mut self) {
        if self.root != 0 {
            // SAFETY: the area is the task's, and `spawn` has filled it first.
            unsafe { fpu::save_to(self.fpu_area()) };
            self.fs_base = FsBase::read().as_u64();
            self.segments = context::segments();
        }
    }

    /// Loads what [`State::leave`] saved, and the address space.
    #[inline]
    #[optimize(speed)]
    fn arrive(&self, cpu: &Cpu) {
        // SAFETY: the space lives as long as `root` names it, and `use_space` loads another root before it changes.
        unsafe { cpu.tlb.load(self.root) };
        if self.root != 0 {
            // SAFETY: `leave` or `spawn` has filled the area.
            unsafe { fpu::load_from(self.fpu_area()) };
            if self.segments != context::segments() {
                context::load_segments(self.segments);
            }
            FsBase::write(VirtAddr::new_truncate(self.fs_base));
        }
    }
}

/// Makes what runs here the idle task of this CPU, and the CPU one that runs tasks.
pub fn init_cpu() {
    let cpu = Cpu::this();
    let idle = Task::new(Number::NONE, cpu.bit(), State::new(None, None));
    idle.on_cpu.store(cpu.number() as u32 + 1, Ordering::Relaxed);
    let idle = Arc::into_raw(idle);
    cpu.tasks.idle.set(idle);
    cpu.tasks.current.set(idle);
    cpu.tasks.since.set(clock::tsc());
    cpu.epoch.register();
    cpu.go_online();
}

/// Makes a task that runs `body` on a stack of its own; `None` when memory or task numbers are out. It is runnable at
/// once, may run where the caller may, and starts with the caller's FPU registers and fs base (those of a new program
/// where the caller has none), which it gets with its first address space ([`use_space`]). It is gone when `body`
/// returns.
pub fn spawn(body: Box<dyn FnOnce() + Send>) -> Option<Arc<Task>> {
    let stack = Stack::take()?;
    let number = Number::take()?;
    if machine().memory.frames.free_frames() <= KERNEL_RESERVE {
        return None;
    }
    let (area, top) = (stack.fpu_area(), stack.fpu_area() as u64);
    let mut state = State::new(Some(stack), Some(body));
    let cpu = Cpu::this();
    let caller = cpu.tasks.current();
    // SAFETY: 1. the caller's state is ours to read, for we are the caller;
    // 2. area and stack are the new task's, which does not run yet; the area holds zeros before it is saved to.
    // 3. What `switch_stacks` pops: six registers, then its return address; `begin` then finds its stack as after a
    //    call, 8 behind a multiple of 16.
    unsafe {
        if (*caller.state.get()).root == 0 {
            area.write(fpu::initial());
        } else {
            (&raw mut (*area).0).write_bytes(0, 1);
            fpu::save_to(area);
            state.fs_base = FsBase::read().as_u64();
            state.segments = context::segments();
        }
        let frame = (top - 8 * 8) as *mut u64;
        frame.write_bytes(0, 8);
        frame.add(6).write(begin as *const () as u64);
        state.rsp = frame as u64;
    }
    let affinity = if cpu.tasks.is_idle() { u64::MAX } else { caller.affinity() };
    let task = Task::new(number, affinity, state);
    LIVE.fetch_add(1, Ordering::Relaxed);
    queue::push(Arc::clone(&task));
    Some(task)
}

/// The first function on a new task's stack.
extern "C" fn begin() -> ! {
    finish_switch();
    let task = Cpu::this().tasks.current();
    // SAFETY: a task's state is its own while it runs.
    if let Some(body) = unsafe { (*task.state.get()).body.take() } {
        body();
    }
    use_space(None);
    task.on_cpu.fetch_or(ENDED, Ordering::Relaxed);
    queue::give_way();
    unreachable!("task {} ran on after its end", task.tid());
}

/// Tasks that are not gone, their stacks included. An idle task is none.
pub fn live() -> usize {
    LIVE.load(Ordering::Acquire)
}

/// Runs `next`, whose reference the CPU takes over, until somebody switches back to the current task.
#[inline]
pub(super) fn switch_to(cpu: &Cpu, next: *const Task) {
    let previous = cpu.tasks.current.replace(next);
    cpu.tasks.previous.set(previous);
    // SAFETY:
    // 1. Both live: `next` by the reference that the caller gives, `previous` until `finish_switch`.
    // 2. Both states are ours: `previous` runs here, and `next` came from the run queue (or is this CPU's idle task),
    //    so no CPU runs it and the one that did has left its stack.
    // 3. The stack that `next` goes on with was left by this function or made by `spawn`.
    unsafe {
        account(cpu, &*previous);
        (*(*previous).state.get()).leave();
        // A full fence: whoever sets a bit of its attention either sees it run here, or the task sees the bit.
        (*next).on_cpu.swap(cpu.number() as u32 + 1, Ordering::SeqCst);
        (*(*next).state.get()).arrive(cpu);
        switch_stacks(&raw mut (*(*previous).state.get()).rsp, (*(*next).state.get()).rsp);
    }
    finish_switch();
}

/// Adds to the CPU time of the task that runs here what it has had of this CPU since the last time.
#[inline]
pub(super) fn account(cpu: &Cpu, current: &Task) {
    let now = clock::tsc();
    let used = now.wrapping_sub(cpu.tasks.since.replace(now));
    let ticks = current.used_ticks.load(Ordering::Relaxed);
    current.used_ticks.store(ticks.wrapping_add(used), Ordering::Relaxed);
}

/// What is left to do for the task that this CPU ran before, now that its stack is not in use.
#[optimize(speed)]
fn finish_switch() {
    let cpu = Cpu::this();
    let previous = cpu.tasks.previous.get();
    // SAFETY: `switch_to` has set it, and the scheduler's reference is still with this CPU or, when the task was
    // woken, with whoever gets it below; until `on_cpu` is 0 nobody runs it, so nobody ends it.
    let on_cpu = unsafe { (*previous).on_cpu.swap(0, Ordering::SeqCst) };
    if on_cpu & (WOKEN | ENDED) == 0 {
        return;
    }
    // SAFETY: a task that was woken or has ended is in no list: its reference came back to this CPU.
    let task = unsafe { Arc::from_raw(previous) };
    if on_cpu & WOKEN != 0 {
        return queue::push(task);
    }
    // SAFETY: it will never run again, so its state is ours.
    let stack = unsafe { (*task.state.get()).stack.take() };
    drop(stack);
    drop(task);
    LIVE.fetch_sub(1, Ordering::Release);
}

/// The task that runs here.
pub fn current() -> Arc<Task> {
    let task = Cpu::this().tasks.current.get();
    // SAFETY: it came from an `Arc`, which lives while the task runs; this adds a reference.
    unsafe {
        Arc::increment_strong_count(task);
        Arc::from_raw(task)
    }
}

/// Looks at the task that runs here.
#[inline]
pub fn with_current<T>(look: impl FnOnce(&Task) -> T) -> T {
    look(Cpu::this().tasks.current())
}

/// Gives the calling task an address space (`None`: the kernel's own), loaded at once and whenever it runs. The one
/// before is dropped when this CPU has left it.
pub fn use_space(space: Option<Arc<AddressSpace>>) {
    let cpu = Cpu::this();
    // SAFETY: a task's state is its own while it runs, and nothing below parks before the last use of it.
    let state = unsafe { &mut *cpu.tasks.current().state.get() };
    let root = space.as_ref().map_or(0, |space| space.root().as_u64());
    let before = core::mem::replace(&mut state.space, space);
    if state.root != 0 && root != 0 {
        state.root = root;
        // SAFETY: `state` holds the space.
        unsafe { cpu.tlb.load(root) };
    } else {
        state.leave();
        state.root = root;
        state.arrive(cpu);
    }
    drop(before);
}

/// The address space of the calling task.
pub fn current_space() -> Option<Arc<AddressSpace>> {
    // SAFETY: a task's state is its own while it runs.
    unsafe { (*Cpu::this().tasks.current().state.get()).space.clone() }
}

/// Sets the calling task's fs base, below the end of the programs' half. It has an address space.
pub fn set_fs_base(base: u64) {
    FsBase::write(VirtAddr::new_truncate(base));
}

/// The calling task's fs base. It has an address space.
pub fn fs_base() -> u64 {
    FsBase::read().as_u64()
}

/// Runs `copy` with copies to and from programs failing where a page is not there, instead of faulting it in. It does
/// not park.
#[inline]
pub fn without_faults<T>(copy: impl FnOnce() -> T) -> T {
    let tasks = &Cpu::this().tasks;
    tasks.faults_off.set(true);
    let result = copy();
    tasks.faults_off.set(false);
    result
}

/// Is this inside [`without_faults`]?
pub fn faults_are_off() -> bool {
    Cpu::this().tasks.faults_off.get()
}
