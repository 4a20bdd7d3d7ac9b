//! The kernel as a library: everything but the first and the last step, which are `main.rs`.
//!
//! | module | noun |
//! |---|---|
//! | [`boot`], [`command_line`], [`initrd`] | what the hypervisor gave |
//! | [`discovery`] | from the NFIT to dax devices |
//! | [`machine`] | what boot made, for good |
//! | [`programs`], [`task`], [`linux`] | what runs in ring 3 |
//! | [`traps`], [`user_memory`], [`shootdown`], [`epoch`], [`flush`] | what it runs on |
//! | [`clock`], [`random`], [`mod@log`], [`mod@panic`] | services |
//! | [`arch`] | the CPU |
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod arch;
pub mod boot;
pub mod clock;
pub mod command_line;
pub mod discovery;
pub mod epoch;
pub mod flush;
pub mod initrd;
pub mod linux;
pub mod log;
pub mod machine;
pub mod panic;
pub mod programs;
pub mod random;
pub mod shootdown;
pub mod task;
pub mod traps;
pub mod user_memory;
