//! The programs of the command line, one after another, each in an address space of its own.

use crate::arch::{fpu, paging};
use crate::command_line::CommandLine;
use crate::linux::{self, ExitStatus, LoadError};
use crate::machine::{Machine, machine};
use crate::traps;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
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
    assert!(!options.test_panic, "dax.test_panic: a panic on purpose");
    let mut outcome = ExitStatus::Exited(0);
    for (number, path) in options.init.iter().enumerate() {
        let before = machine().memory.frames.free_frames();
        let status = run(path, arguments(machine(), options, number));
        if options.test_leak {
            log::warn!("dax.test_leak: losing a frame on purpose");
            // A frame's token has no Drop: not to free it is the leak.
            let _lost = machine().memory.frames.allocate(0);
        }
        let after = machine().memory.frames.free_frames();
        if before != after {
            return Outcome::Leaked { program: path.clone(), frames: before as i64 - after as i64 };
        }
        if outcome == ExitStatus::Exited(0) {
            outcome = status;
        }
    }
    Outcome::Ended(outcome)
}

fn run(path: &str, (argv, envp): (Vec<Vec<u8>>, Vec<Vec<u8>>)) -> ExitStatus {
    let mut process = match linux::load(path, &argv, &envp) {
        Ok(process) => process,
        Err(error) => {
            paging::unload_space();
            log::error!("{path}: {error}");
            return ExitStatus::Exited(if matches!(error, LoadError::NotFound) { 127 } else { 126 });
        }
    };
    paging::load_space(&process.task().space);
    process.task().context.load_fs_base();
    fpu::reset();
    let status = traps::run(&mut process);
    paging::unload_space();
    drop(process);
    log::info!("{path}: {status}");
    status
}

/// The program's argument and environment vectors.
///
/// The launcher leaves those of the first program in the initrd, as NUL-terminated strings: any byte but NUL can be
/// in them. Without them the command line's words behind `--` are the arguments.
fn arguments(machine: &Machine, options: &CommandLine, number: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let strings = |name: &str| {
        let bytes = machine.initrd.find(&format!(".daxite/{name}"))?.bytes;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        (!bytes.is_empty()).then(|| bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>())
    };
    let path = options.init[number].clone().into_bytes();
    let argv = match strings("argv") {
        Some(argv) if number == 0 => argv,
        _ => {
            let words = options.arguments.iter().filter(|_| number == 0);
            core::iter::once(path).chain(words.map(|word| word.clone().into_bytes())).collect()
        }
    };
    (
        argv,
        strings("envp")
            .unwrap_or_else(|| vec![b"HOME=/".to_vec(), b"PATH=/bin".to_vec(), b"TERM=dumb".to_vec()]),
    )
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
