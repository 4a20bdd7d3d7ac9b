//! The first process of a run, and the end of the last one.

use super::files::Descriptors;
use super::flock;
use super::load::{self, LoadError, Loaded};
use super::process::{self, ExitStatus, INIT, Inherited, Process, Settings};
use super::session::Kin;
use super::shm;
use super::signal::{Actions, Member, Sent, Signal, Signals};
use super::thread::{Newborn, Thread, conceive, default_name};
use super::tree;
use crate::task::park::Interruptible;
use crate::task::{self, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::SI_KERNEL;
use mm::lock::{Rank, SpinLock};

/// Runs the program at `path` of the initrd until it and all its descendants have ended; its status.
pub fn run(path: &str, argv: Vec<Vec<u8>>, envp: &[Vec<u8>]) -> Result<ExitStatus, LoadError> {
    process::close(false);
    let first = start(path, argv, envp);
    if let Ok(first) = &first {
        first.wait_until("the program", Interruptible::No, &|| first.status().is_some());
        kill_all();
    }
    // Their tasks are on their last steps.
    while task::live() > 1 {
        task::preempt_point();
        task::yield_now();
    }
    flock::forget_unmapped();
    tree::fell();
    shm::forget_all();
    Ok(first?.status().expect("the wait above is over when there is one"))
}

fn start(path: &str, argv: Vec<Vec<u8>>, envp: &[Vec<u8>]) -> Result<Arc<Process>, LoadError> {
    let file = load::find(path)?;
    let Loaded { space, program, context } =
        load::load(file, path, argv, envp, &|path| Ok(load::find(path)?))?;
    let cradle = Arc::new(SpinLock::new(Rank::Process, None));
    let task = conceive(&cradle).ok_or(LoadError::NoMemory)?;
    let member = Member::new(Arc::clone(&task), 0);
    let inherited = Inherited {
        parent: INIT,
        exit_signal: Signal::CHLD.number().into(),
        kin: Kin { group: Arc::clone(&task), session: Arc::clone(&task) },
        actions: Actions::new(),
        settings: Settings {
            limits: super::info::default_limits(),
            nice: 0,
            umask: 0o022,
            directory: None,
            image: program.image.clone(),
        },
    };
    let process = Process::publish(&member, inherited).map_err(|_| LoadError::NoMemory)?;
    space.set_owner(process.pid.unsigned_abs());
    process.use_space(&space);
    let thread = Thread {
        context,
        task,
        space,
        process: Arc::clone(&process),
        program,
        files: Arc::new(SpinLock::new(Rank::Process, Descriptors::new())),
        member,
        signals: Signals::new(),
        name: default_name(file),
        clear_tid: 0,
        robust_list: 0,
        traced: None,
    };
    *cradle.lock() = Some(Newborn { thread, fs_base: None, set_tid: 0 });
    Ok(process)
}

/// Kills what is left of a run, until nothing is: all at once, for they may wait for each other.
fn kill_all() {
    let kill = Sent::new(Signal::KILL, SI_KERNEL as i32, 0);
    process::close(true);
    process::for_each(|process| process.send(kill));
    while let Some(process) = process::find_by(|process| process.status().is_none()) {
        process.wait_until("the end", Interruptible::No, &|| process.status().is_some());
    }
}

/// Ends the process of a task that could never wake: all tasks wait, and this is the youngest of those that a signal
/// can end.
pub fn end_deadlock(task: &Arc<Task>, what: &'static str) {
    let is_its =
        |process: &Process| process.group.lock().members.iter().any(|member| Arc::ptr_eq(&member.task, task));
    if let Some(process) = process::find_by(is_its) {
        let name = process.settings.lock().image.executable.path;
        log::warn!("/{name}: {what} would wait for ever: nobody is there to end it; killed");
        process.send(Sent::new(Signal::KILL, SI_KERNEL as i32, 0));
    }
}
