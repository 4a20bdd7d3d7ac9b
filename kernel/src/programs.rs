//! The programs of the command line, one after another, each with all processes that it makes.

use crate::command_line::CommandLine;
use crate::linux::{self, ExitStatus, LoadError};
use crate::machine::machine;
use crate::panic;
use crate::task;
use alloc::format;
use alloc::string::String;
use platform::channel;

/// What the run of all programs came to.
pub enum Outcome {
    /// All ran; the status is that of the first one that failed, or 0.
    Ended(ExitStatus),
    /// The kernel lost memory: its own fault, whatever the programs said.
    Leaked {
        /// After which program.
        program: String,
        /// Frames of 4 KiB, before less after.
        frames: i64,
    },
}

/// Runs every program of `init=`.
pub fn run_all(options: &CommandLine) -> Outcome {
    if options.init.is_empty() {
        panic::fail(format_args!("command line: no init=PROGRAM: there is nothing to run"));
    }
    assert!(!options.test_panic, "dax.test_panic: a panic on purpose");
    task::on_deadlock(linux::end_deadlock);
    let mut outcome = ExitStatus::Exited(0);
    for (number, path) in options.init.iter().enumerate() {
        let before = unused_frames();
        let status = run(path, options, number);
        if options.test_leak {
            log::warn!("dax.test_leak: losing a frame on purpose");
            // A frame's token has no Drop: not to free it is the leak.
            let _lost = machine().memory.frames.allocate(0);
        }
        let after = unused_frames();
        if before != after {
            return Outcome::Leaked { program: path.clone(), frames: before as i64 - after as i64 };
        }
        if outcome == ExitStatus::Exited(0) {
            outcome = status;
        }
    }
    Outcome::Ended(outcome)
}

/// Frames that nobody uses. Those of pooled stacks wait for the next task.
fn unused_frames() -> u64 {
    machine().memory.frames.free_frames() + task::pooled_frames()
}

fn run(path: &str, options: &CommandLine, number: usize) -> ExitStatus {
    let Some((argv, envp)) = linux::arguments(options, number) else {
        log::error!("{path}: not enough memory for its arguments and environment");
        return ExitStatus::Exited(126);
    };
    match linux::run(path, &argv, &envp) {
        Ok(status) => {
            log::info!("{path}: {status}");
            status
        }
        Err(error) => {
            log::error!("{path}: {error}");
            ExitStatus::Exited(if matches!(error, LoadError::NotFound) { 127 } else { 126 })
        }
    }
}

/// Tells the launcher, and the log, how it ended.
pub fn report(status: ExitStatus) {
    let line = match status {
        ExitStatus::Exited(code) => format!("exit {code}\n"),
        ExitStatus::Killed(signal) => format!("signal {}\n", signal.number()),
    };
    log::info!("daxite: {}", line.trim_end());
    channel::status(line.as_bytes());
}
