//! A program that runs: its task, its descriptors, its signals, its end.

use super::abi::Rlimit;
use super::brk::ProgramBreak;
use super::call;
use super::files::Descriptors;
use super::signal::{Signal, Signals};
use super::tree::Owner;
use crate::initrd::File;
use crate::task::Task;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicI32, Ordering};
use linux_raw_sys::general::RLIM_NLIMITS;

/// Log lines about refused calls that one program may cause.
const MAX_LOGGED_REFUSALS: u32 = 32;

/// The process number that the next program gets. Not 1: Linux spares that one signals.
static NEXT_PID: AtomicI32 = AtomicI32::new(2);

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// exit(2), with this status.
    Exited(u8),
    /// By a signal.
    Killed(Signal),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(status) => write!(f, "exited with status {status}"),
            ExitStatus::Killed(signal) => write!(f, "killed by {signal}"),
        }
    }
}

/// A program and everything that Linux keeps about it.
pub struct Process {
    pub(super) task: Task,
    pub(super) pid: i32,
    pub(super) executable: &'static File,
    pub(super) files: Descriptors,
    pub(super) signals: Signals,
    pub(super) program_break: ProgramBreak,
    /// The auxiliary vector, as /proc/self/auxv shows it.
    pub(super) auxv: Box<[u8]>,
    /// RLIMIT_*: kept for the program to read back.
    pub(super) limits: [Rlimit; RLIM_NLIMITS as usize],
    /// umask(2): kept for the program to read back.
    pub(super) umask: u32,
    /// PR_SET_NAME, NUL-padded.
    pub(super) thread_name: [u8; 16],
    started_ns: u64,
    logged_refusals: u32,
    ended: Option<ExitStatus>,
}

impl Process {
    pub(super) fn new(
        task: Task,
        executable: &'static File,
        program_break: ProgramBreak,
        auxv: Box<[u8]>,
    ) -> Process {
        let mut thread_name = [0; 16];
        let name = executable.path.rsplit('/').next().unwrap_or(executable.path);
        for (to, from) in thread_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        Process {
            task,
            pid: NEXT_PID.fetch_add(1, Ordering::Relaxed),
            executable,
            files: Descriptors::new(),
            signals: Signals::new(),
            program_break,
            auxv,
            limits: super::info::default_limits(),
            umask: 0o022,
            thread_name,
            started_ns: crate::clock::monotonic_ns(),
            logged_refusals: 0,
            ended: None,
        }
    }

    /// The task: registers and address space.
    pub fn task(&mut self) -> &mut Task {
        &mut self.task
    }

    /// Answers the system call that the registers hold, and delivers signals that are due.
    #[inline]
    pub fn syscall(&mut self) {
        self.task.context.rax = match call::dispatch(self) {
            Ok(value) => value,
            Err(errno) => errno.to_rax(),
        };
        if self.signals.deliverable() != 0 {
            self.deliver_pending();
        }
    }

    /// How the program ended, if it has: then it must not run on.
    #[inline]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// Ends the program; the first end counts.
    pub(super) fn end(&mut self, status: ExitStatus) {
        self.ended.get_or_insert(status);
    }

    /// The monotonic clock at the program's start, in nanoseconds.
    pub(super) fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// May one more refusal go to the log? The last time, the log says so.
    pub(super) fn may_log(&mut self) -> bool {
        self.logged_refusals = self.logged_refusals.saturating_add(1);
        if self.logged_refusals == MAX_LOGGED_REFUSALS + 1 {
            log::warn!("/{}: further refusals are not logged", self.name());
        }
        self.logged_refusals <= MAX_LOGGED_REFUSALS
    }

    /// The path of the program's file, without the slash at its start.
    pub(super) fn name(&self) -> &'static str {
        self.executable.path
    }

    /// Absolute path of the program's file.
    pub(super) fn executable_path(&self) -> String {
        format!("/{}", self.executable.path)
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { pid: self.pid }
    }
}

/// exit(2), exit_group(2): the low byte counts.
pub fn exit(process: &mut Process, status: u64) -> super::errno::Answer {
    process.end(ExitStatus::Exited(status as u8));
    Ok(0)
}
