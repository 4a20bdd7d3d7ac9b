//! Scheduling as programs may ask for it: on which CPUs. There is one policy; priorities are kept and change nothing.

use super::errno::{Answer, Errno};
use super::io::{tell, tell_if_asked};
use super::process::{self, Process};
use super::thread::Thread;
use crate::task::{self, Task};
use crate::user_memory;
use alloc::sync::Arc;
use linux_raw_sys::general::{PRIO_PROCESS, SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_NORMAL, SCHED_RR};

/// sched_yield(2).
pub fn sched_yield() -> Answer {
    task::yield_now();
    Ok(0)
}

/// The task of a thread, the caller's for 0, or ESRCH.
pub fn find(thread: &Thread, tid: i32) -> Result<Arc<Task>, Errno> {
    if tid == 0 || tid == thread.member.tid() {
        return Ok(Arc::clone(&thread.task));
    }
    let mut found = None;
    process::find_by(|process| {
        found = process.group.lock().find(tid);
        found.is_some()
    });
    found.map(|member| Arc::clone(&member.task)).ok_or(Errno::ESRCH)
}

/// sched_setaffinity(2): EINVAL when the mask names no CPU that is there.
pub fn sched_setaffinity(thread: &mut Thread, tid: i32, len_bytes: u32, mask: u64) -> Answer {
    let mut bytes = [0; 8];
    let (known, _) = bytes.split_at_mut((len_bytes as usize).min(8));
    user_memory::read(mask, known)?;
    let mask = u64::from_le_bytes(bytes) & task::online();
    let task = find(thread, tid)?;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    task.set_affinity(mask);
    Ok(0)
}

/// sched_getaffinity(2). Answers the bytes written, one word.
pub fn sched_getaffinity(thread: &mut Thread, tid: i32, len_bytes: u32, out: u64) -> Answer {
    if len_bytes == 0 || !len_bytes.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mask = find(thread, tid)?.affinity() & task::online();
    user_memory::write_value(out, &mask)?;
    Ok(8)
}

/// The process that PRIO_PROCESS means; groups and users (PRIO_PGRP, PRIO_USER) are not known here.
fn process_of(thread: &Thread, which: u32, pid: i32) -> Result<Arc<Process>, Errno> {
    match (which, pid) {
        (PRIO_PROCESS, 0) => Ok(Arc::clone(&thread.process)),
        (PRIO_PROCESS, pid) => process::find(pid).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// getpriority(2): 20 less the nice value.
pub fn getpriority(thread: &mut Thread, which: u32, pid: i32) -> Answer {
    let nice = process_of(thread, which, pid)?.settings.lock().nice;
    Ok((20 - nice) as u64)
}

/// setpriority(2).
pub fn setpriority(thread: &mut Thread, which: u32, pid: i32, nice: i32) -> Answer {
    process_of(thread, which, pid)?.settings.lock().nice = nice.clamp(-20, 19);
    Ok(0)
}

/// getcpu(2): there is one node.
pub fn getcpu(cpu: u64, node: u64) -> Answer {
    for (address, value) in [(cpu, task::cpu_number() as u32), (node, 0)] {
        tell_if_asked(address, &value)?;
    }
    Ok(0)
}

/// sched_getscheduler(2).
pub fn sched_getscheduler(thread: &mut Thread, tid: i32) -> Answer {
    find(thread, tid).map(|_| u64::from(SCHED_NORMAL))
}

/// sched_setscheduler(2): only to what it is already.
pub fn sched_setscheduler(thread: &mut Thread, tid: i32, policy: u32, parameter: u64) -> Answer {
    let priority: i32 = user_memory::read_value(parameter)?;
    find(thread, tid)?;
    match policy {
        SCHED_NORMAL if priority == 0 => Ok(0),
        SCHED_FIFO | SCHED_RR if (1..100).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_getparam(2): struct sched_param is the priority.
pub fn sched_getparam(thread: &mut Thread, tid: i32, out: u64) -> Answer {
    find(thread, tid)?;
    tell(out, &0i32)
}

/// sched_get_priority_min(2), sched_get_priority_max(2): `real_time` is the answer for the real-time policies.
pub fn priority_bound(policy: u32, real_time: u64) -> Answer {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(real_time),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
