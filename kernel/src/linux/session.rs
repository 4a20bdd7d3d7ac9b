//! Sessions: which processes belong together. A session is one process group, for there is no terminal and no shell
//! that would move processes between groups.

use super::errno::{Answer, Errno};
use super::process::{self, Process};
use super::thread::Thread;
use alloc::sync::Arc;

impl Process {
    /// The number of its process group and session.
    pub fn group_id(&self) -> i32 {
        self.session.lock().tid()
    }
}

/// getpgid(2), getsid(2).
pub fn getsid(thread: &mut Thread, pid: i32) -> Answer {
    let group_id = match pid {
        0 => thread.process.group_id(),
        pid => process::find(pid).ok_or(Errno::ESRCH)?.group_id(),
    };
    Ok(group_id as u64)
}

/// setsid(2): for who leads no group yet.
pub fn setsid(thread: &mut Thread) -> Answer {
    let process = &thread.process;
    if process::find_by(|other| other.group_id() == process.pid).is_some() {
        return Err(Errno::EPERM);
    }
    *process.session.lock() = Arc::clone(&process.leader);
    Ok(process.pid as u64)
}
