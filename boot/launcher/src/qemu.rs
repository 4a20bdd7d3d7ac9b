//! The QEMU process: started with its inherited files, ended for certain.
//!
//! QEMU leads a process group of its own, so a Ctrl-C reaches only this process, which then ends QEMU in
//! order. Should this process be killed outright, the kernel kills QEMU (parent death signal).

use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{ffi::OsString, mem::ManuallyDrop, path::Path};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::channels::LAST_FD;
use crate::failure::Failure;

/// Open files in the place of the numbers that QEMU will inherit, so that nothing else in this process
/// gets one of them. Make this before any other file is opened.
pub struct ReservedNumbers(#[expect(dead_code, reason = "only held open")] Vec<File>);

impl ReservedNumbers {
    /// Takes every free number up to the last fixed one.
    pub fn new() -> io::Result<Self> {
        let mut held = Vec::new();
        loop {
            let file = File::open("/dev/null")?;
            if file.as_raw_fd() > LAST_FD {
                return Ok(Self(held));
            }
            held.push(file);
        }
    }
}

/// A running QEMU.
pub struct Qemu {
    child: Child,
}

impl Qemu {
    /// Starts QEMU with `inherited` files under their fixed numbers and `own_output` as stdout and stderr.
    ///
    /// Call it on the main thread: the parent death signal comes when the starting *thread* ends. The
    /// numbers above `LAST_FD` that `inherited` has now are sure because of `_reserved`.
    pub fn start(
        binary: &Path,
        arguments: &[OsString],
        inherited: Vec<(OwnedFd, RawFd)>,
        own_output: PipeWriter,
        _reserved: &ReservedNumbers,
    ) -> Result<Self, Failure> {
        let fail = |error: io::Error| {
            let hint = match error.kind() {
                ErrorKind::NotFound => " (Debian: apt install qemu-system-x86; or name it with --qemu)",
                _ => "",
            };
            Failure::launcher(format!("cannot start {}: {error}{hint}", binary.display()))
        };
        let mut command = Command::new(binary);
        command.args(arguments).process_group(0).stdin(Stdio::null());
        command.stdout(own_output.try_clone().map_err(fail)?).stderr(own_output);
        let parent = rustix::process::getpid();
        let set_up = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            for (file, number) in &inherited {
                // SAFETY:
                // 1. This runs in the forked child, on its only thread: nobody else uses `number` here.
                // 2. What `number` held is a placeholder or a file of our parent that is not ours to use;
                //    std's own files for the fork lie above, because `ReservedNumbers` filled this range.
                // 3. `ManuallyDrop` keeps the number open for QEMU.
                let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(*number) });
                rustix::io::dup2(file, &mut target)?;
            }
            Ok(())
        };
        // SAFETY: `set_up` makes system calls only (prctl, getppid, dup2): no allocation, no lock,
        // nothing that is unsafe between fork and exec.
        unsafe { command.pre_exec(set_up) };
        command.spawn().map(|child| Self { child }).map_err(fail)
    }

    /// Asks QEMU to end (SIGTERM): it closes its files and goes.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends QEMU and everything it started (SIGKILL).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether QEMU has ended. It stays to be waited for.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(rustix::process::waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(Some(_)))
    }

    /// Waits for QEMU's end, which must be near: its pipes have ended or it was killed.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    fn signal(&self, signal: Signal) {
        // The child is not reaped before `wait` takes `self`, so the group cannot be somebody else's.
        // An error means that it is gone already.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), signal);
    }
}
