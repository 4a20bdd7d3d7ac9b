//! kill and its kin: from a number to the threads that it means. All programs are user 0: nothing is forbidden.

use super::number::Signal;
use super::pending::Sent;
use crate::linux::abi::SigInfo;
use crate::linux::errno::{Answer, Errno};
use crate::linux::process::{self, Process};
use crate::linux::thread::Thread;
use crate::user_memory;
use linux_raw_sys::general::{SI_TKILL, SI_USER};

impl Process {
    /// Sends a signal to whichever thread takes it first. What has no room is lost: nobody could be told.
    pub fn send(&self, sent: Sent) {
        let _ = self.group.lock().send(None, sent);
    }
}

impl Thread {
    /// Sends this thread a signal in its own name.
    pub fn raise(&self, signal: Signal) {
        let sent = Sent::new(signal, SI_USER as i32, self.process.pid as u64);
        // It is none that has to queue.
        let _ = self.process.group.lock().send(Some(&self.member), sent);
    }
}

/// kill(2): one process, or all of a group (0 and below -1), or all but the caller (-1).
pub fn kill(thread: &mut Thread, pid: i32, signal: u32) -> Answer {
    let sent = sent(thread, signal, SI_USER as i32)?;
    if pid > 0 {
        return send(pid, None, sent);
    }
    let (own, group) = (thread.process.pid, thread.process.group_id());
    let mut answer = Err(Errno::ESRCH);
    process::for_each(|process| {
        let is_meant = match pid {
            0 => process.group_id() == group,
            -1 => process.pid != own,
            _ => process.group_id().checked_neg() == Some(pid),
        };
        if is_meant {
            answer = send_to(process, None, sent);
        }
    });
    answer
}

/// tkill(2).
pub fn tkill(thread: &mut Thread, tid: i32, signal: u32) -> Answer {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let sent = sent(thread, signal, SI_TKILL)?;
    // Mostly a thread means itself or its sisters (raise, pthread_kill).
    let mut answer = send_to(&thread.process, Some(tid), sent);
    if answer == Err(Errno::ESRCH) {
        process::find_by(|process| {
            answer = send_to(process, Some(tid), sent);
            answer != Err(Errno::ESRCH)
        });
    }
    answer
}

/// tgkill(2).
pub fn tgkill(thread: &mut Thread, pid: i32, tid: i32, signal: u32) -> Answer {
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    send(pid, Some(tid), sent(thread, signal, SI_TKILL)?)
}

/// rt_sigqueueinfo(2).
pub fn sigqueue(thread: &mut Thread, pid: i32, signal: u32, info: u64) -> Answer {
    send(pid, None, told(thread, pid, signal, info)?)
}

/// rt_tgsigqueueinfo(2).
pub fn tgsigqueue(thread: &mut Thread, pid: i32, tid: i32, signal: u32, info: u64) -> Answer {
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    send(pid, Some(tid), told(thread, pid, signal, info)?)
}

/// What is to be sent; `None` for signal 0, which only asks who is there.
fn sent(thread: &Thread, signal: u32, code: i32) -> Result<Option<Sent>, Errno> {
    if signal == 0 {
        return Ok(None);
    }
    let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
    Ok(Some(Sent::new(signal, code, thread.process.pid as u64)))
}

/// The same with what the program says that a handler shall be told. To others it may not pretend to be the kernel, or
/// kill(2).
fn told(thread: &Thread, pid: i32, signal: u32, info: u64) -> Result<Option<Sent>, Errno> {
    let info: SigInfo = user_memory::read_value(info)?;
    if (info.si_code >= 0 || info.si_code == SI_TKILL) && pid != thread.process.pid {
        return Err(Errno::EPERM);
    }
    let sent = sent(thread, signal, info.si_code)?;
    Ok(sent.map(|sent| Sent { origin: info.value, value: info.rest[0], ..sent }))
}

/// Sends to the process of this number.
fn send(pid: i32, tid: Option<i32>, sent: Option<Sent>) -> Answer {
    send_to(&*process::find(pid).ok_or(Errno::ESRCH)?, tid, sent)
}

/// Sends to one thread of a process, or to whichever takes it first; ESRCH when that thread is not there.
fn send_to(process: &Process, tid: Option<i32>, sent: Option<Sent>) -> Answer {
    let mut group = process.group.lock();
    let member = tid.map(|tid| group.find(tid).ok_or(Errno::ESRCH)).transpose()?;
    sent.map_or(Ok(()), |sent| group.send(member.as_deref(), sent)).map(|()| 0)
}
