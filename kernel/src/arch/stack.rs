//! Kernel stacks with an unmapped page below each.

use core::cell::UnsafeCell;
use x86_64::VirtAddr;

/// Stacks for the exceptions that must not rely on the current one.
pub const IST_STACKS: usize = 3;

/// Bytes of a stack for an exception that only reports.
const STACK_BYTES: usize = 16 * 1024;

const GUARD_BYTES: usize = 4096;

/// A stack and, below it, the page that [`super::paging`] leaves out: an overflow is a double fault, never
/// silent damage.
#[repr(C, align(4096))]
pub struct Stack(UnsafeCell<[u8; GUARD_BYTES + STACK_BYTES]>);

// SAFETY: Rust code never touches the bytes: the CPU and the code that runs on the stack do, one CPU a stack.
unsafe impl Sync for Stack {}

impl Stack {
    const fn new() -> Stack {
        Stack(UnsafeCell::new([0; GUARD_BYTES + STACK_BYTES]))
    }

    /// The address just behind the stack, where the first push goes.
    pub fn top(&self) -> VirtAddr {
        self.guard() + (GUARD_BYTES + STACK_BYTES) as u64
    }

    /// The page that must not be mapped.
    pub fn guard(&self) -> VirtAddr {
        VirtAddr::from_ptr(self.0.get())
    }
}

/// The stacks of double fault, NMI and machine check.
pub static IST: [Stack; IST_STACKS] = [const { Stack::new() }; IST_STACKS];
