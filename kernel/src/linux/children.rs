//! wait4 and waitid: the ends of children.

use super::abi::{Rusage, SigInfo};
use super::errno::{Answer, Errno};
use super::io::tell_if_asked;
use super::process::{self, ExitStatus, Process};
use super::signal::{Sent, Signal};
use super::thread::Thread;
use super::time;
use crate::task::park::{Interruptible, Park};
use crate::user_memory;
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

/// What a call wants.
#[derive(Clone, Copy)]
struct Wish {
    which: Which,
    options: u32,
    what: &'static str,
}

impl Wish {
    fn means(&self, caller: &Process, process: &Process) -> bool {
        let is_meant = match self.which {
            Which::Any => true,
            Which::Pid(pid) => process.pid == pid,
            Which::Group(group_id) => process.group_id() == group_id,
        };
        // A child that ends with another signal than SIGCHLD has to be asked for (wait(2), __WCLONE).
        let is_clone = process.exit_signal.load(Ordering::Relaxed) != i32::from(Signal::CHLD.number());
        let is_kind = self.options & __WALL != 0 || is_clone == (self.options & __WCLONE != 0);
        process.parent() == caller.pid && is_meant && is_kind
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
    let wish = Wish { which, options: options | WEXITED, what: "wait4" };
    let Some((child, end)) = wait(thread, &wish)? else { return Ok(0) };
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
    let found = wait(thread, &Wish { which, options, what: "waitid" })?;
    if let (Some((child, _)), true) = (&found, usage != 0) {
        user_memory::write_value(usage, &usage_of(child))?;
    }
    if info != 0 {
        let found = found.map(|(child, end)| Sent::of_child(Signal::CHLD, child.pid, end).info());
        user_memory::write_value(info, &found.unwrap_or_else(SigInfo::new_zeroed))?;
    }
    Ok(0)
}

/// Waits for a child and forgets it (not with WNOWAIT); `None` when WNOHANG is set and none has ended.
fn wait(thread: &mut Thread, wish: &Wish) -> Result<Option<(Arc<Process>, ExitStatus)>, Errno> {
    let process = Arc::clone(&thread.process);
    loop {
        let endings = process.endings.load(Ordering::SeqCst);
        let mut has_children = false;
        let dead = process::find_by(|child| {
            let is_meant = wish.means(&process, child);
            has_children |= is_meant;
            is_meant && child.status().is_some()
        });
        if let Some((child, status)) = dead.and_then(|child| child.status().map(|status| (child, status)))
            && wish.options & WEXITED != 0
        {
            if wish.options & WNOWAIT != 0 {
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
        if wish.options & WNOHANG != 0 {
            return Ok(None);
        }
        let park = Park {
            key: process.child_key(),
            mask: !0,
            deadline_ns: None,
            interruptible: Interruptible::Yes,
            what: wish.what,
        };
        if thread.park(&park, &|| process.endings.load(Ordering::SeqCst) == endings).is_none() {
            return Err(thread.restartable());
        }
    }
}

/// What a child and those that it waited for have used.
fn usage_of(child: &Process) -> Rusage {
    time::usage(child.all_past_ns())
}
