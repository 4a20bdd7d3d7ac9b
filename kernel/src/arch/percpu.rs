//! The block that gs points to in the kernel, one a CPU.

use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// `trap.s` knows the offsets.
#[repr(C)]
struct PerCpu {
    number: u64,
    context_end: u64,
    kernel_rsp: u64,
    scratch: u64,
    tss_rsp0: u64,
}

/// The block of the boot CPU. Only `trap.s` reads and writes it, through gs.
struct Block(UnsafeCell<PerCpu>);

// SAFETY: each CPU uses its own block only, and there is one CPU.
unsafe impl Sync for Block {}

static BLOCK: Block =
    Block(UnsafeCell::new(PerCpu { number: 0, context_end: 0, kernel_rsp: 0, scratch: 0, tss_rsp0: 0 }));

/// Points gs at the block; `tss_rsp0` is the address of the TSS field that `enter_user` sets.
pub fn init(tss_rsp0: u64) {
    // SAFETY: nothing reads the block before gs points to it, two lines below.
    unsafe { (*BLOCK.0.get()).tss_rsp0 = tss_rsp0 };
    GsBase::write(VirtAddr::from_ptr(BLOCK.0.get()));
    // The program's gs, which swapgs brings in: it has none.
    KernelGsBase::write(VirtAddr::zero());
}
