//! The CPUs: descriptor tables, page tables of the kernel, traps, the way into ring 3 and back, stacks.

pub mod context;
pub mod cpu;
pub mod descriptors;
pub mod fpu;
pub mod interrupts;
pub mod paging;
pub mod percpu;
pub mod smp;
pub mod stack;

// In tests only for the linker: what a vtable of a file reaches.
#[cfg(any(target_os = "none", test))]
core::arch::global_asm!(include_str!("trap.s"));
