//! PVH entry: from the hypervisor's first instruction to [`BootInfo`].
//!
//! `entry.s` goes to long mode and calls the kernel's `kernel_main(start_info)`; [`start_info`] reads what the
//! hypervisor left (Xen's `hvm_start_info`) out of physical memory. Its pages may lie anywhere low, so
//! everything in it is copied or reserved before memory is written.
#![no_std]

pub mod start_info;

pub use start_info::{BootError, BootInfo, MemoryMapEntry, PhysicalMemory};

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"), options(raw));

/// Where the kernel image is linked: virtual address = physical address + this.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Where physical memory is seen by the kernel: virtual address = physical address + this.
pub const PHYSMAP_BASE: u64 = 0xffff_8000_0000_0000;

/// Bytes of physical memory, from 0, that `entry.s` maps at [`PHYSMAP_BASE`].
pub const EARLY_MAPPED_BYTES: u64 = 4 << 30;
