//! The run queue: one for all CPUs, first come first served, less the tasks that may not run on the CPU that asks.
//!
//! Who makes a task runnable wakes an idle CPU for it. When none is idle, it makes sure that the CPUs that may run it
//! count time slices (`timer`). A CPU that finds nothing to do marks itself idle under the queue's lock, so it is
//! either seen by whoever pushes, or sees what was pushed.

use super::{ATTEND_RESCHED, CPU_MASK, Task, WOKEN, park, switch, timer};
use crate::arch::interrupts;
use crate::arch::percpu::{self, Cpu, online};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use intrusive_collections::{LinkedList, LinkedListAtomicLink, intrusive_adapter};
use mm::checks::might_sleep;
use mm::lock::{Rank, SpinGuard, SpinLock};
use x86_64::instructions::interrupts as cpu_interrupts;

intrusive_adapter!(pub(super) ByLink = Arc<Task>: Task { link => LinkedListAtomicLink });

struct Queue {
    tasks: LinkedList<ByLink>,
    /// CPUs that wait for work.
    idle: u64,
}

static QUEUE: SpinLock<Queue> =
    SpinLock::new(Rank::RunQueue, Queue { tasks: LinkedList::new(ByLink::NEW), idle: 0 });

impl Queue {
    /// The first task that may run on this CPU.
    #[inline]
    fn take_for(&mut self, cpu: &Cpu) -> Option<Arc<Task>> {
        let mut cursor = self.tasks.front_mut();
        while !cursor.get()?.may_run_on(cpu) {
            cursor.move_next();
        }
        cursor.remove()
    }
}

impl Task {
    fn may_run_on(&self, cpu: &Cpu) -> bool {
        self.affinity() & cpu.bit() != 0
    }

    /// Takes back the wish to be queued; false when nobody has had it.
    fn take_wake(&self) -> bool {
        self.on_cpu.load(Ordering::Relaxed) & WOKEN != 0 && {
            self.on_cpu.fetch_and(!WOKEN, Ordering::Relaxed);
            true
        }
    }
}

/// Queues a task that no CPU runs.
#[inline]
#[optimize(speed)]
pub(super) fn push(task: Arc<Task>) {
    let allowed = task.affinity();
    let mut queue = QUEUE.lock();
    queue.tasks.push_back(task);
    find_cpu(queue, allowed);
}

/// Sees to it that a CPU of `allowed` comes for a task that may be in the queue: an idle one is woken, this one if it can
/// be, for it looks at the queue anyway; if none is idle, all of them count slices.
#[optimize(speed)]
fn find_cpu(mut queue: SpinGuard<'_, Queue>, allowed: u64) {
    let cpu = Cpu::this();
    let idle = queue.idle & allowed;
    let chosen = if idle & cpu.bit() != 0 { cpu.bit() } else { idle & idle.wrapping_neg() };
    queue.idle &= !chosen;
    drop(queue);
    if chosen == 0 {
        timer::share(cpu, allowed);
    }
    for other in percpu::each(chosen & !cpu.bit()) {
        interrupts::send(other, interrupts::RESCHEDULE);
    }
}

/// Leaves the queue. While others are in it, this CPU counts a slice: the one that has ended, or that was asked for
/// while it was idle, may have been promised to them.
#[inline]
#[optimize(speed)]
fn leave(queue: SpinGuard<'_, Queue>, cpu: &Cpu) {
    let others_wait = !queue.tasks.is_empty();
    drop(queue);
    if others_wait {
        timer::start_slice(cpu);
    }
}

/// Makes a task runnable that somebody took out of the parking lot. It may still be on its way there.
pub(super) fn wake(task: Arc<Task>) {
    let mark = |on_cpu| (on_cpu != 0).then_some(on_cpu | WOKEN);
    match task.on_cpu.fetch_update(Ordering::SeqCst, Ordering::SeqCst, mark) {
        // The CPU that still runs it gets the reference back, and queues it when it has left its stack.
        Ok(_) => drop(Arc::into_raw(task)),
        Err(_) => push(task),
    }
}

/// Leaves the CPU to others until the current task is woken. It is in the parking lot, or marked `WOKEN` or `ENDED`.
#[optimize(speed)]
pub(super) fn give_way() {
    let cpu = Cpu::this();
    let current = cpu.tasks.current();
    if current.attention() & ATTEND_RESCHED != 0 {
        current.attended(ATTEND_RESCHED);
    }
    let mut queue = QUEUE.lock();
    let next = queue.take_for(cpu);
    leave(queue, cpu);
    match next {
        Some(next) => switch::switch_to(cpu, Arc::into_raw(next)),
        // Nobody else is there.
        None if current.may_run_on(cpu) && current.take_wake() => switch::account(cpu, current),
        None => switch::switch_to(cpu, cpu.tasks.idle.get()),
    }
}

/// Lets others run, if there are any.
pub fn yield_now() {
    might_sleep("yielding");
    super::with_current(|task| task.on_cpu.fetch_or(WOKEN, Ordering::Relaxed));
    give_way();
}

/// Lets interrupts in for a moment, and others run if it is their turn. For long loops; the caller holds no spin
/// lock and no pin.
#[inline]
pub fn preempt_point() {
    might_sleep("a preemption point");
    cpu_interrupts::enable();
    // `sti` lets interrupts in only behind the instruction that follows it.
    x86_64::instructions::nop();
    cpu_interrupts::disable();
    if super::with_current(|task| task.attention() & ATTEND_RESCHED != 0) {
        yield_now();
    }
}

/// Another CPU has interrupted this one: it pushed a task that may run here, or the current one has something to attend
/// to, which it sees on its way back to ring 3.
pub fn asked_to_look() {
    let cpu = Cpu::this();
    if !cpu.tasks.is_idle() {
        leave(QUEUE.lock(), cpu);
    }
}

/// Moves a task that may not stay where it is.
pub(super) fn affinity_changed(task: &Task) {
    let cpu = Cpu::this();
    let on = task.on_cpu.load(Ordering::SeqCst) & CPU_MASK;
    if core::ptr::eq(task, cpu.tasks.current()) {
        if !task.may_run_on(cpu) {
            yield_now();
        }
    } else if on != 0 {
        if task.affinity() & 1 << (on - 1) == 0 {
            task.attend(ATTEND_RESCHED);
        }
    } else {
        // A CPU may just have taken it from the queue: it looks when it runs.
        task.attention.fetch_or(ATTEND_RESCHED, Ordering::SeqCst);
        let on = task.on_cpu.load(Ordering::SeqCst) & CPU_MASK;
        if on != 0 {
            return task.attend(ATTEND_RESCHED);
        }
        // It may be queued, and those that may run it idle.
        find_cpu(QUEUE.lock(), task.affinity());
    }
}

/// Runs tasks on this CPU for ever, and waits for interrupts while there are none.
pub fn idle() -> ! {
    let cpu = Cpu::this();
    loop {
        let mut queue = QUEUE.lock();
        match queue.take_for(cpu) {
            Some(task) => {
                queue.idle &= !cpu.bit();
                leave(queue, cpu);
                switch::switch_to(cpu, Arc::into_raw(task));
            }
            // All others wait, and nothing will wake any of us.
            None if queue.idle | cpu.bit() == online() && queue.tasks.is_empty() && timer::nothing_due() => {
                // Not idle meanwhile: no other CPU shall come to the same conclusion.
                queue.idle &= !cpu.bit();
                drop(queue);
                park::end_deadlock();
            }
            None => {
                queue.idle |= cpu.bit();
                drop(queue);
                wait_for_interrupt();
            }
        }
    }
}

fn wait_for_interrupt() {
    if interrupts::apic().is_some() {
        cpu_interrupts::enable_and_hlt();
        cpu_interrupts::disable();
    } else {
        core::hint::spin_loop();
        timer::fired();
    }
}
