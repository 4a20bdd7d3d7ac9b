//! Making stores durable: cache-line write-back, fence, and the flush hints of the platform.
//!
//! Reference section 6: stores -> CLWB of each line -> SFENCE puts them in the power-fail protected domain; where
//! the NFIT gives flush hint addresses, a write to one of them drains the memory controller's queue.

use core::arch::asm;

/// Which instruction writes a line back, best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushKind {
    /// CLWB: writes back, keeps the line.
    Clwb,
    /// CLFLUSHOPT: writes back and drops, unordered.
    ClflushOpt,
    /// CLFLUSH: writes back and drops, ordered. Every x86-64 CPU has it.
    Clflush,
}

impl FlushKind {
    /// What this CPU has (CPUID leaf 7.0 EBX bits 24 and 23; SDM 2A, CPUID).
    pub fn detect() -> FlushKind {
        let highest = core::arch::x86_64::__cpuid(0).eax;
        let ebx = if highest >= 7 { core::arch::x86_64::__cpuid_count(7, 0).ebx } else { 0 };
        match ebx {
            b if b & 1 << 24 != 0 => FlushKind::Clwb,
            b if b & 1 << 23 != 0 => FlushKind::ClflushOpt,
            _ => FlushKind::Clflush,
        }
    }

    /// Writes every cache line of `bytes` back, then fences.
    pub fn write_back(self, bytes: *const [u8]) {
        // 64 bytes is the line of every CPU with CLWB and of all others since 2003.
        const LINE: usize = 64;
        let start = bytes.cast::<u8>().addr() & !(LINE - 1);
        let end = bytes.cast::<u8>().addr() + bytes.len();
        for line in (start..end).step_by(LINE) {
            macro_rules! write_line_back {
                ($instruction:literal) => {
                    asm!(concat!($instruction, " [{}]"), in(reg) line, options(nostack, preserves_flags))
                };
            }
            // SAFETY: the instructions change no memory contents; an unmapped line would fault, and the
            // caller passes memory that is mapped (a range of the physmap).
            unsafe {
                match self {
                    FlushKind::Clwb => write_line_back!("clwb"),
                    FlushKind::ClflushOpt => write_line_back!("clflushopt"),
                    FlushKind::Clflush => write_line_back!("clflush"),
                }
            }
        }
        fence();
    }
}

/// Orders all earlier write-backs before whatever follows.
pub fn fence() {
    // SAFETY: SFENCE only orders stores.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}
