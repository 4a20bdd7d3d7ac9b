//! The programs of the command line, one after another, each with all processes that it makes.

use crate::command_line::CommandLine;
use crate::linux::{self, ExitStatus, LoadError};
use crate::machine::machine;
use crate::panic;
use crate::task;
use alloc::format;
use alloc::string::String;
use platform::channel;
use thiserror::Error;

/// What the run of all programs came to.
pub enum Outcome {
    /// All ran; the status is that of the first one that failed, or 0.
    Ended(ExitStatus),
    /// The kernel lost memory: its own fault, whatever the programs said.
    Leaked {
        /// After which program.
        program: String,
        /// What of it.
        lost: Lost,
    },
}

/// Memory that is missing after a program, and all processes that it made, have gone.
#[derive(Debug, Error)]
#[error("{frames} frame(s) and {heap_bytes} bytes of the heap lost by the kernel")]
pub struct Lost {
    /// Frames of 4 KiB outside of the heap: pages, page tables, stacks.
    frames: i64,
    /// Bytes of the heap, beyond what devices that the program left behind may take.
    heap_bytes: i64,
}

/// What is compared before and after a program.
struct Books {
    /// Frames that are free or the heap's. Those of pooled stacks wait for the next task.
    frames: u64,
    heap_bytes: u64,
    devices: usize,
    /// Nodes of the epoch's queue, at most: there are some since the first removal.
    epoch_nodes: u32,
}

/// A frame's worth of small objects may stay: logs, tables that grew.
const HEAP_SLACK_BYTES: i64 = 4096;
/// A device, and the first one's share of the tables.
const DEVICE_BYTES: i64 = 512;
const FIRST_DEVICE_BYTES: i64 = 64 << 10;
/// A node of the epoch's queue, 64 closures and a link: the heap rounds it up to a frame.
const EPOCH_NODE_BYTES: i64 = 4096;

impl Books {
    fn take() -> Books {
        #[cfg(feature = "dax")]
        let epoch_nodes = crate::epoch::settle();
        #[cfg(not(feature = "dax"))]
        let epoch_nodes = 0;
        let machine = machine();
        let heap = machine.heap.usage();
        Books {
            frames: machine.memory.frames.free_frames() + task::pooled_frames() + heap.frames,
            heap_bytes: heap.live_bytes,
            devices: machine.registry.device_count(),
            epoch_nodes,
        }
    }

    /// What was lost since `before`, if anything.
    fn lost_since(&self, before: &Books) -> Option<Lost> {
        let devices = self.devices.saturating_sub(before.devices) as i64;
        let theirs = if devices > 0 { devices * DEVICE_BYTES + FIRST_DEVICE_BYTES } else { 0 };
        let nodes = i64::from(self.epoch_nodes - before.epoch_nodes) * EPOCH_NODE_BYTES;
        let heap_bytes = self.heap_bytes as i64 - before.heap_bytes as i64 - theirs - nodes;
        let heap_bytes = if heap_bytes > HEAP_SLACK_BYTES { heap_bytes } else { 0 };
        let lost = Lost { frames: before.frames as i64 - self.frames as i64, heap_bytes };
        (lost.frames != 0 || lost.heap_bytes != 0).then_some(lost)
    }
}

/// Runs every program of `init=`.
pub fn run_all(options: &CommandLine) -> Outcome {
    if options.init.is_empty() {
        panic::fail(format_args!("command line: no init=PROGRAM: there is nothing to run"));
    }
    assert!(!options.test_panic, "dax.test_panic: a panic on purpose");
    task::on_deadlock(linux::end_deadlock);
    if options.strace {
        linux::trace_calls();
    }
    let mut outcome = ExitStatus::Exited(0);
    for (number, path) in options.init.iter().enumerate() {
        let before = Books::take();
        let status = run(path, options, number);
        if options.test_leak {
            log::warn!("dax.test_leak: losing a frame on purpose");
            // A frame's token has no Drop: not to free it is the leak.
            let _lost = machine().memory.frames.allocate(0);
        }
        if let Some(lost) = Books::take().lost_since(&before) {
            return Outcome::Leaked { program: path.clone(), lost };
        }
        if outcome == ExitStatus::Exited(0) {
            outcome = status;
        }
    }
    Outcome::Ended(outcome)
}

fn run(path: &str, options: &CommandLine, number: usize) -> ExitStatus {
    let Some((argv, envp)) = linux::arguments(options, number) else {
        log::error!("{path}: not enough memory for its arguments and environment");
        return ExitStatus::Exited(126);
    };
    match linux::run(path, argv, &envp) {
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
