//! The block that gs points to in the kernel, one a CPU.

use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// The block of the boot CPU: the CPU's number, then the words that `trap.s` names and alone reads and writes.
struct Block(UnsafeCell<[u64; 5]>);

/// The word that `trap.s` calls TSS_RSP0.
const TSS_RSP0: usize = 4;

// SAFETY: each CPU uses its own block only, and there is one CPU.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(UnsafeCell::new([0; 5]));

/// Points gs at the block; `tss_rsp0` is the address of the TSS field that `enter_user` sets.
pub fn init(tss_rsp0: u64) {
    // SAFETY: nothing reads the block before gs points to it, two lines below.
    unsafe { (*BLOCK.0.get())[TSS_RSP0] = tss_rsp0 };
    GsBase::write(VirtAddr::from_ptr(BLOCK.0.get()));
    // The program's gs, which swapgs brings in: it has none.
    KernelGsBase::write(VirtAddr::zero());
}
