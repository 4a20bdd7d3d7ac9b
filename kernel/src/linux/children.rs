//! wait4 and waitid: the ends of children.

use super::abi::{Rusage, SigInfo};
use super::errno::{Answer, Errno};
use super::io::tell_if_asked;
use super::process::{self, ExitStatus, Process};
use super::signal::{Sent, Signal};
use super::thread::Thread;
use super::time;
use crate::task::park::{Interruptible, Park};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::{
    __WALL, __WCLONE, __WNOTHREAD, P_ALL, P_PGID, P_PID, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED,
    WUNTRACED,
};
use zerocopy::FromZeros;

/// Which children a call means.
#[derive(Clone, Copy)]
enum Which {
    Any,
    Pid(i32),
    Group(i32),
}

impl Which {
    fn means(self, process: &Process) -> bool {
        match self {
            Which::Any => true,
            Which::Pid(pid) => process.pid == pid,
            Which::Group(group_id) => process.group_id() == group_id,
        }
    }
}

/// wait4(2): nothing stops or continues here, so WUNTRACED and WCONTINUED find nothing.
pub fn wait4(thread: &mut Thread, pid: i32, status: u64, options: u32, usage: u64) -> Answer {
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(thread.process.group_id()),
        1.. => Which::Pid(pid),
        // Linux: no process has this number.
        i32::MIN => return Err(Errno::ESRCH),
        _ => Which::Group(-pid),
    };
    let Some((child, end)) = wait(thread, which, options | WEXITED, "wait4")? else { return Ok(0) };
    tell_if_asked(status, &end.wait_status())?;
    tell_if_asked(usage, &usage_of(&child))?;
    Ok(child.pid as u64)
}

/// waitid(2).
pub fn waitid(thread: &mut Thread, kind: u32, id: i32, info: u64, options: u32, usage: u64) -> Answer {
    let known = WNOHANG | WEXITED | WSTOPPED | WCONTINUED | WNOWAIT | __WNOTHREAD | __WCLONE | __WALL;
    if options & !known != 0 || options & (WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let which = match kind {
        P_ALL => Which::Any,
        P_PID if id > 0 => Which::Pid(id),
        P_PGID if id == 0 => Which::Group(thread.process.group_id()),
        P_PGID if id > 0 => Which::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    let found = wait(thread, which, options, "waitid")?;
    if let Some((child, _)) = &found {
        tell_if_asked(usage, &usage_of(child))?;
    }
    let found = found.map(|(child, end)| Sent::of_child(Signal::CHLD, child.pid, end).info());
    tell_if_asked(info, &found.unwrap_or_else(SigInfo::new_zeroed))
}

/// Waits for a child and forgets it (not with WNOWAIT); `None` when WNOHANG is set and none has ended.
fn wait(
    thread: &mut Thread,
    which: Which,
    options: u32,
    what: &'static str,
) -> Result<Option<(Arc<Process>, ExitStatus)>, Errno> {
    let process = Arc::clone(&thread.process);
    let mut is_interrupted = false;
    loop {
        let endings = process.endings.load(Ordering::SeqCst);
        let mut has_children = false;
        let dead = process::find_by(|child| {
            // A child that ends with another signal than SIGCHLD has to be asked for (wait(2), __WCLONE).
            let is_clone = child.exit_signal.load(Ordering::Relaxed) != i32::from(Signal::CHLD.number());
            let is_kind = options & __WALL != 0 || is_clone == (options & __WCLONE != 0);
            let is_meant = child.parent() == process.pid && is_kind && which.means(child);
            has_children |= is_meant;
            is_meant && child.status().is_some()
        });
        if let Some(child) = dead.filter(|_| options & WEXITED != 0)
            && let Some(status) = child.status()
        {
            if options & WNOWAIT != 0 {
                return Ok(Some((child, status)));
            }
            if child.forget() {
                process.children_ns.fetch_add(child.all_past_ns(), Ordering::Relaxed);
                return Ok(Some((child, status)));
            }
            // Another thread was faster.
            continue;
        }
        if !has_children {
            return Err(Errno::ECHILD);
        }
        if options & WNOHANG != 0 {
            return Ok(None);
        }
        // As on Linux, the child that has ended comes before the signal that says so.
        if is_interrupted {
            return Err(thread.restartable());
        }
        let (key, interruptible) = (process.child_key(), Interruptible::Yes);
        let park = Park { key, mask: !0, deadline_ns: None, interruptible, what };
        is_interrupted = thread.park(&park, &|| process.endings.load(Ordering::SeqCst) == endings).is_none();
    }
}

/// What a child and those that it waited for have used.
fn usage_of(child: &Process) -> Rusage {
    time::usage(child.all_past_ns())
}
