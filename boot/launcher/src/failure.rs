//! Why `daxite` itself could not do what was asked: a message for the user and an exit status.
//!
//! The statuses are those of `timeout`, `env` and the shells, so scripts can tell the program's own
//! failure from ours as long as the program stays below 124.

use std::fmt;

/// The guest ran longer than `--timeout`.
pub const TIMED_OUT: u8 = 124;
/// The launcher, QEMU or the kernel failed; the program's own status is not known.
pub const LAUNCHER: u8 = 125;
/// The program exists, but the guest cannot run it.
pub const CANNOT_RUN: u8 = 126;
/// The program does not exist.
pub const NOT_FOUND: u8 = 127;

/// A refusal or a failure, with the exit status that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status of `daxite`: one of this module's constants.
    pub status: u8,
    /// What is wrong, naming the offending value and what would be accepted.
    pub message: String,
}

impl Failure {
    /// A failure of the launcher, QEMU or the kernel, or a request that cannot be met.
    pub fn launcher(message: impl Into<String>) -> Self {
        Self { status: LAUNCHER, message: message.into() }
    }

    /// A program that the guest cannot run.
    pub fn cannot_run(message: impl Into<String>) -> Self {
        Self { status: CANNOT_RUN, message: message.into() }
    }

    /// A program that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: NOT_FOUND, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}
