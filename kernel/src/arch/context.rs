//! A program's registers, and the way into ring 3 and back: traps return.
//!
//! [`UserContext::enter`] runs the program until it traps and returns what happened, like a function call. The
//! CPU pushes its exception frame straight into the context (TSS.rsp0 points behind it), so nothing is
//! copied.

use core::sync::atomic::{AtomicU64, Ordering};
use mm::range::USER_END;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;
use x86_64::registers::rflags::RFlags;
use x86_64::registers::segmentation::{DS, ES, FS, GS, Segment};
use x86_64::structures::gdt::SegmentSelector;

/// Selector of ring 3's code segment (arch/descriptors.rs), Linux's number: programs see it in signal frames.
pub const USER_CS: u64 = 0x33;

/// Selector of ring 3's data segment.
pub const USER_SS: u64 = 0x2b;

/// What `vector` says after a `syscall` instruction.
const SYSCALL: u64 = 0x100;
/// And that once [`trace_syscalls`] was called.
const TRACED_SYSCALL: u64 = 0x101;

/// What trap.s says: one of the two above. A variable, so that calls that are not traced pay nothing.
#[unsafe(no_mangle)]
static SYSCALL_VECTOR: AtomicU64 = AtomicU64::new(SYSCALL);

/// A program's registers. The order is fixed: `trap.s` and the CPU's exception frame rely on it.
#[repr(C, align(16))]
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // the fields are the registers of their names
pub struct UserContext {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    vector: u64,
    error: u64,
    pub rip: u64,
    pub(crate) cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub(crate) ss: u64,
}

const _: () = assert!(size_of::<UserContext>() == 176);

/// Why the program came back into the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// `syscall`: number in rax, arguments in rdi rsi rdx r10 r8 r9; the result goes to rax.
    Syscall,
    /// The same, once [`trace_syscalls`] was called.
    TracedSyscall,
    /// A page fault at `address`; `error` is the CPU's error code.
    PageFault {
        /// CR2.
        address: u64,
        /// SDM 3A, 4.7: bit 0 present, 1 write, 2 user, 3 reserved, 4 instruction fetch.
        error: u64,
    },
    /// Another exception.
    Exception {
        /// Its number (0 divide error, 6 invalid opcode, 13 general protection, ...).
        vector: u8,
        /// Its error code, 0 where it has none.
        error: u64,
    },
    /// A device interrupted; nothing for the program to see.
    Interrupt {
        /// The vector.
        vector: u8,
    },
}

unsafe extern "C" {
    fn enter_user();
}

impl UserContext {
    /// Runs the program until its next trap. Its address space is loaded (`task::use_space`).
    pub fn enter(&mut self) -> Trap {
        let by_sysret = self.vector == SYSCALL
            && self.rcx == self.rip
            && self.r11 == self.rflags
            && self.rip < USER_END
            && self.rflags & (RFlags::TRAP_FLAG.bits() | RFlags::RESUME_FLAG.bits()) == 0;
        if !by_sysret {
            // iretq to a non-canonical address would fault in the kernel: say what the program would get.
            if VirtAddr::try_new(self.rip).is_err() {
                return Trap::Exception { vector: 13, error: 0 };
            }
            self.cs = USER_CS;
            self.ss = USER_SS;
            self.rflags = user_flags(self.rflags);
        }
        // SAFETY:
        // 1. cs, ss and rflags are ring 3's: set just above, or as `syscall` left them; rip is canonical;
        // 2. the kernel half of the loaded tables is the same in every space, so the way back exists;
        // 3. trap.s writes only into this context, which we hold exclusively.
        // 4. every register but rbx and rbp, which enter_user keeps, is declared as lost; the direction flag is
        //    clear when it returns.
        unsafe {
            core::arch::asm!(
                "call {enter_user}",
                enter_user = sym enter_user,
                inout("rdi") &raw mut *self => _,
                inout("esi") u32::from(by_sysret) => _,
                out("rax") _, out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _,
                out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
        match self.vector {
            SYSCALL => Trap::Syscall,
            TRACED_SYSCALL => Trap::TracedSyscall,
            // Interrupts are still off: nothing can fault before CR2 is read.
            14 => Trap::PageFault { address: x86_64::registers::control::Cr2::read_raw(), error: self.error },
            vector @ 0..32 => Trap::Exception { vector: vector as u8, error: self.error },
            vector => Trap::Interrupt { vector: vector as u8 },
        }
    }
}

/// From now on each call is a [`Trap::TracedSyscall`].
pub fn trace_syscalls() {
    SYSCALL_VECTOR.store(TRACED_SYSCALL, Ordering::Relaxed);
}

/// Gives a new program null in the segment registers that mean nothing in 64-bit mode but can be read.
pub fn reset_segments() {
    load_segments(0);
}

/// The selectors in ds, es, fs and gs, sixteen bits each: they mean nothing in 64-bit mode, but a program can set and
/// read them.
#[inline]
pub fn segments() -> u64 {
    let selectors = [DS::get_reg().0, ES::get_reg().0, FS::get_reg().0, GS::get_reg().0];
    selectors.iter().rev().fold(0, |all, &selector| all << 16 | u64::from(selector))
}

/// Loads what [`segments`] returned, or 0 for none. The caller sets the fs base anew.
#[cold]
pub fn load_segments(segments: u64) {
    let selector = |index: u32| SegmentSelector((segments >> (16 * index)) as u16);
    let kernel_gs = GsBase::read();
    // SAFETY: null is a valid selector for all four, and so is what a program could load, for every CPU has the same
    // GDT; the bases of fs and gs, which this may clear, are written anew: gs's just below, and fs's by the caller.
    unsafe {
        DS::set_reg(selector(0));
        ES::set_reg(selector(1));
        FS::set_reg(selector(2));
        GS::set_reg(selector(3));
    }
    GsBase::write(kernel_gs);
}

/// What of `rflags` a program may have: interrupts always on, no I/O privilege, no nested task.
fn user_flags(rflags: u64) -> u64 {
    let allowed = RFlags::CARRY_FLAG
        | RFlags::PARITY_FLAG
        | RFlags::AUXILIARY_CARRY_FLAG
        | RFlags::ZERO_FLAG
        | RFlags::SIGN_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::OVERFLOW_FLAG
        | RFlags::RESUME_FLAG
        | RFlags::ALIGNMENT_CHECK
        | RFlags::ID;
    rflags & allowed.bits() | RFlags::INTERRUPT_FLAG.bits() | 2
}
