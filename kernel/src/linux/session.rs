//! Sessions and process groups: which processes belong together.

use super::errno::{Answer, Errno};
use super::process::{self, Process};
use super::thread::Thread;
use crate::task::Task;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// The first tasks of those who lead a process's group and session: so their numbers stay in use.
#[derive(Clone)]
pub struct Kin {
    /// Of its process group.
    pub group: Arc<Task>,
    /// Of its session.
    pub session: Arc<Task>,
}

impl Process {
    /// The number of its process group.
    pub fn group_id(&self) -> i32 {
        self.kin.lock().group.tid()
    }

    /// The number of its session.
    pub fn session_id(&self) -> i32 {
        self.kin.lock().session.tid()
    }
}

/// The process of this number, the caller for 0.
fn find(thread: &Thread, pid: i32) -> Result<Arc<Process>, Errno> {
    if pid == 0 { Ok(Arc::clone(&thread.process)) } else { process::find(pid).ok_or(Errno::ESRCH) }
}

/// getpgid(2).
pub fn getpgid(thread: &mut Thread, pid: i32) -> Answer {
    find(thread, pid).map(|process| process.group_id() as u64)
}

/// getsid(2).
pub fn getsid(thread: &mut Thread, pid: i32) -> Answer {
    find(thread, pid).map(|process| process.session_id() as u64)
}

/// setpgid(2): moves the caller, or a child that has not run another program yet, to a group of the session.
pub fn setpgid(thread: &mut Thread, pid: i32, group_id: i32) -> Answer {
    let caller = &thread.process;
    if group_id < 0 {
        return Err(Errno::EINVAL);
    }
    let process = find(thread, pid)?;
    let is_own = process.pid == caller.pid;
    if !is_own && process.parent() != caller.pid {
        return Err(Errno::ESRCH);
    }
    let session_id = process.session_id();
    if session_id != caller.session_id() || session_id == process.pid {
        return Err(Errno::EPERM);
    }
    if !is_own && process.is_released.load(Ordering::SeqCst) {
        return Err(Errno::EACCES);
    }
    let leader = if group_id == 0 || group_id == process.pid {
        Arc::clone(&process.leader)
    } else {
        let is_in = |other: &Process| other.group_id() == group_id && other.session_id() == session_id;
        let member = process::find_by(is_in).ok_or(Errno::EPERM)?;
        Arc::clone(&member.kin.lock().group)
    };
    process.kin.lock().group = leader;
    Ok(0)
}

/// setsid(2): for who leads no group yet.
pub fn setsid(thread: &mut Thread) -> Answer {
    let process = &thread.process;
    if process::find_by(|other| other.group_id() == process.pid).is_some() {
        return Err(Errno::EPERM);
    }
    let leader = &process.leader;
    *process.kin.lock() = Kin { group: Arc::clone(leader), session: Arc::clone(leader) };
    Ok(process.pid as u64)
}
