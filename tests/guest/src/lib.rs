//! What the guest programs share: ordinary Linux programs that run in ring 3 on Daxite.
//!
//! - [`sys`]: system calls without a C library between, so that an errno is exactly the kernel's
//! - [`fault`]: touching an address and learning which signal it raised, without fork
//! - [`device`]: the device under test and its alignment
//! - [`mapping`]: one mapping that is unmapped when dropped
//! - [`sysfs`]: the attributes that make, size, bind and remove devices
//! - [`clock`]: ticks that are instructions where QEMU counts them
//! - [`process`], [`random`]: children and memory shared with them; numbers that repeat with a seed
//! - [`kernel_view`]: what only the kernel knows: faults taken, free frames, the page tables
//! - [`counter`]: a number that the NVDIMM keeps from boot to boot
//! - [`ktap`]: a table of named cases and its report
//!
//! On addresses and safety: mapped memory is named by `usize` and touched by assembly or volatile
//! access only; no Rust reference ever points into it. So the safe functions here may map, unmap and
//! touch anything that the program mapped itself. They cannot keep a caller from unmapping the heap:
//! these are test programs, and a kernel test must be able to ask for exactly that.

pub mod clock;
pub mod counter;
pub mod device;
pub mod fault;
pub mod kernel_view;
pub mod ktap;
pub mod mapping;
pub mod process;
pub mod random;
pub mod sys;
pub mod sysfs;
