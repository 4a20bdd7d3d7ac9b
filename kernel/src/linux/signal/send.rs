//! kill and its kin: from a number to the threads that it means. All programs are user 0: nothing is forbidden.

use super::number::Signal;
use super::pending::Sent;
use crate::linux::errno::{Answer, Errno};
use crate::linux::process::{self, Process};
use crate::linux::thread::Thread;
use linux_raw_sys::general::{SI_TKILL, SI_USER};

impl Process {
    /// Sends a signal to whichever thread takes it first.
    pub fn send(&self, sent: Sent) {
        self.group.lock().send(None, sent);
    }
}

impl Thread {
    /// Sends this thread a signal in its own name.
    pub fn raise(&self, signal: Signal) {
        let sent = Sent { signal, code: SI_USER as i32, pid: self.process.pid, value: 0 };
        self.process.group.lock().send(Some(&self.member), sent);
    }
}

/// kill(2): one process, or all of a group (0 and below -1), or all but the caller (-1).
pub fn kill(thread: &mut Thread, pid: i32, signal: u32) -> Answer {
    let sent = sent(thread, signal, SI_USER as i32)?;
    let (own, group) = (thread.process.pid, thread.process.group_id());
    let mut found = false;
    let mut send = |process: &Process| {
        found = true;
        if let Some(sent) = sent {
            process.send(sent);
        }
    };
    match pid {
        1.. => process::find(pid).iter().for_each(|process| send(process)),
        _ => process::for_each(|process| {
            let is_meant = match pid {
                0 => process.group_id() == group,
                -1 => process.pid != own,
                _ => process.group_id().checked_neg() == Some(pid),
            };
            if is_meant {
                send(process);
            }
        }),
    }
    if found { Ok(0) } else { Err(Errno::ESRCH) }
}

/// tkill(2).
pub fn tkill(thread: &mut Thread, tid: i32, signal: u32) -> Answer {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let sent = sent(thread, signal, SI_TKILL)?;
    // Mostly a thread means itself or its sisters (raise, pthread_kill).
    if send_to_thread(&thread.process, tid, sent) {
        return Ok(0);
    }
    process::find_by(|process| send_to_thread(process, tid, sent)).map(|_| 0).ok_or(Errno::ESRCH)
}

/// tgkill(2).
pub fn tgkill(thread: &mut Thread, pid: i32, tid: i32, signal: u32) -> Answer {
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let sent = sent(thread, signal, SI_TKILL)?;
    let process = process::find(pid).ok_or(Errno::ESRCH)?;
    if send_to_thread(&process, tid, sent) { Ok(0) } else { Err(Errno::ESRCH) }
}

/// What is to be sent; `None` for signal 0, which only asks who is there.
fn sent(thread: &Thread, signal: u32, code: i32) -> Result<Option<Sent>, Errno> {
    if signal == 0 {
        return Ok(None);
    }
    let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
    Ok(Some(Sent { signal, code, pid: thread.process.pid, value: 0 }))
}

/// Says whether the thread is there.
fn send_to_thread(process: &Process, tid: i32, sent: Option<Sent>) -> bool {
    let mut group = process.group.lock();
    let Some(member) = group.find(tid) else { return false };
    if let Some(sent) = sent {
        group.send(Some(&member), sent);
    }
    true
}
