//! What tasks cost: fork, exit and wait; a switch; a fault while a thousand others exist.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use guest::clock::{percentile, ticks, timed};
use guest::device::Device;
use guest::process;
use guest::sys;

use crate::Values;
use crate::memory::{timed_store, touch_every, units};

const FORKS: usize = 31;
const SWITCHES: u64 = 2000;
const TASKS: usize = 1000;
const STACK_BYTES: usize = 16 << 10;

/// fork(2) alone and with exit(2) and wait4(2): the calls themselves, as little around them as can be.
fn fork_exit_wait() -> Result<[u64; 2], String> {
    let mut status = 0;
    let start = ticks();
    let pid = sys::numbers(libc::SYS_fork, &[]);
    if pid == Ok(0) {
        let _ = sys::numbers(libc::SYS_exit_group, &[0]);
    }
    let forked = ticks() - start;
    let pid = pid.map_err(|errno| format!("fork: {errno}"))?;
    sys::wait4(pid as i32, &mut status, 0).map_err(|errno| format!("wait4: {errno}"))?;
    let waited = ticks() - start;
    if status == 0 { Ok([forked, waited]) } else { Err(format!("the child's status is {status:#x}")) }
}

/// Medians of [`fork_exit_wait`].
fn medians() -> Result<[u64; 2], String> {
    let (mut forked, mut waited) = ([0; FORKS], [0; FORKS]);
    for (forked, waited) in forked.iter_mut().zip(&mut waited) {
        [*forked, *waited] = fork_exit_wait()?;
    }
    Ok([percentile(&mut forked, 50), percentile(&mut waited, 50)])
}

/// Forks of a small process.
pub fn forks(values: &mut Values) -> Result<(), String> {
    let [forked, waited] = medians()?;
    values.push(("fork_nomap", forked));
    values.push(("fork_exit_wait_nomap", waited));
    Ok(())
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    // EAGAIN, when the word has changed, is as good as a wake-up: the caller looks again.
    let _ = sys::numbers(libc::SYS_futex, &[word.as_ptr() as usize, operation, value as usize, 0]);
}

fn wait_for(word: &AtomicU32, turn: u32) {
    loop {
        let found = word.load(SeqCst);
        if found == turn {
            return;
        }
        futex(word, libc::FUTEX_WAIT, found);
    }
}

fn give(word: &AtomicU32, turn: u32) {
    word.store(turn, SeqCst);
    futex(word, libc::FUTEX_WAKE, 1);
}

/// Two threads wake each other in turn: a switch is one FUTEX_WAKE, one FUTEX_WAIT, and the change of tasks.
pub fn switches(values: &mut Values) -> Result<(), String> {
    let (ping, pong) = (AtomicU32::new(0), AtomicU32::new(0));
    let mut ticks_of_all = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 1..=SWITCHES as u32 {
                wait_for(&ping, turn);
                give(&pong, turn);
            }
        });
        // The first turn waits for the thread to start.
        give(&ping, 1);
        wait_for(&pong, 1);
        ticks_of_all = timed(|| {
            for turn in 2..=SWITCHES as u32 {
                give(&ping, turn);
                wait_for(&pong, turn);
            }
        });
    });
    values.push(("futex_ping_pong_switch", ticks_of_all / (2 * (SWITCHES - 1))));
    Ok(())
}

/// Forks of a process that has the device mapped and touched; faults among a thousand tasks.
pub fn with_device(device: &Device, values: &mut Values) -> Result<(), String> {
    let units = units(device);
    let mapping = device.map(device.size, 0).map_err(|errno| format!("mmap: {errno}"))?;
    touch_every(mapping.addr, units * device.align, device.align);
    values.push(("fork_exit_wait_touched", medians()?[1]));

    let words = process::shared_words(1).map_err(|errno| format!("shared memory: {errno}"))?;
    let mut samples = Vec::new();
    for _ in 0..FORKS {
        let child = process::fork(|| {
            words[0].store(timed_store(mapping.addr), SeqCst);
            0
        });
        let ended = child.and_then(process::Child::wait);
        if ended != Ok(process::Ended::Exited(0)) {
            return Err(format!("the child that touches ended with {ended:?}"));
        }
        samples.push(words[0].load(SeqCst));
    }
    values.push(("child_first_touch_of_parent_page", percentile(&mut samples, 50)));
    drop(mapping);
    among_tasks(device, units, values)
}

fn among_tasks(device: &Device, units: usize, values: &mut Values) -> Result<(), String> {
    let mut samples = vec![1; units];
    let (is_over, asleep) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let outcome = (0..TASKS).try_for_each(|number| {
            let sleeper = || {
                asleep.fetch_add(1, SeqCst);
                wait_for(&is_over, 1);
            };
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            builder
                .spawn_scoped(scope, sleeper)
                .map(drop)
                .map_err(|error| format!("thread {number}: {error}"))
        });
        let outcome = outcome.and_then(|()| {
            while asleep.load(SeqCst) < TASKS as u32 {
                thread::yield_now();
            }
            let mapping = device.map(device.size, 0).map_err(|errno| format!("mmap: {errno}"))?;
            for (unit, sample) in samples.iter_mut().enumerate() {
                *sample = timed_store(mapping.addr + unit * device.align);
            }
            Ok(())
        });
        is_over.store(1, SeqCst);
        futex(&is_over, libc::FUTEX_WAKE, i32::MAX as u32);
        outcome
    })?;
    values.push(("dax_write_fault_p50_with_1000_tasks", percentile(&mut samples, 50)));
    values.push(("dax_write_fault_p99_with_1000_tasks", percentile(&mut samples, 99)));
    Ok(())
}
