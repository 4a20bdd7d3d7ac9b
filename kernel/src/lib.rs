//! The kernel as a library: everything but the first and the last step, which are `main.rs`.
//!
//! | module | noun |
//! |---|---|
//! | [`boot`], [`command_line`], [`initrd`] | what the hypervisor gave |
//! | [`discovery`], [`providers`] | from set-aside memory to dax devices |
//! | [`machine`] | what boot made, for good |
//! | [`control`], [`removal`], [`scrub`] | what users do to devices |
//! | [`programs`], [`task`], [`linux`] | what runs in ring 3 |
//! | [`traps`], [`user_memory`], [`shootdown`], [`epoch`], [`flush`] | what it runs on |
//! | [`clock`], [`random`], [`number`], [`mod@log`], [`mod@panic`] | services |
//! | [`arch`] | the CPU |
#![no_std]
// The kernel is compiled for size, and the few functions on a hot path that live here for speed.
#![feature(optimize_attribute)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod arch;
pub mod boot;
pub mod clock;
pub mod command_line;
#[cfg(feature = "dax")]
pub mod control;
/// A kernel without dax has no device, but files and mappings that could be of one.
#[cfg(not(feature = "dax"))]
#[path = "without_dax.rs"]
pub mod dax;
pub mod discovery;
#[cfg(feature = "dax")]
pub mod epoch;
#[cfg(feature = "dax_pmem")]
pub mod flush;
pub mod initrd;
pub mod linux;
pub mod log;
pub mod log_limit;
pub mod machine;
pub mod number;
pub mod panic;
pub mod programs;
pub mod providers;
pub mod random;
#[cfg(feature = "dax")]
pub mod removal;
#[cfg(feature = "dax")]
pub mod scrub;
pub mod shootdown;
pub mod task;
pub mod traps;
pub mod user_memory;

#[cfg(not(feature = "dax"))]
pub use dax::epoch;

#[cfg(feature = "dax")]
pub use ::dax;
