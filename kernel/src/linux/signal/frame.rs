//! The bytes that a signal puts on the program's stack, exactly as Linux lays them out on x86-64.
//!
//! From the frame up: the handler's return address, ucontext, siginfo, padding, the XSAVE image on a 64-byte
//! boundary and its end mark. Sources: Linux arch/x86/kernel/signal.c (`struct rt_sigframe`,
//! `get_sigframe`), arch/x86/include/uapi/asm/{sigcontext,ucontext}.h, arch/x86/kernel/fpu/signal.c.
//!
//! On the way back nothing of it is trusted. `arch::context` and `arch::fpu` keep the CPU from faulting in
//! the kernel over what is in it; here a frame that makes no sense is told from one that does.

use super::super::abi::{SigAltStack, SigInfo};
use crate::arch::context::{USER_CS, USER_SS, UserContext};
use crate::arch::fpu::{self, FpuArea};
use alloc::boxed::Box;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The psABI lets functions use 128 bytes below the stack pointer.
pub const RED_ZONE_BYTES: u64 = 128;

/// uc_flags: the FPU image is in XSAVE format.
const UC_FP_XSTATE: u64 = 1;
/// uc_flags: `ss` is saved, and restored as it is.
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// Marks an image with XSAVE state behind the 512 legacy bytes, and the end of it.
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
const MAGIC2_BYTES: usize = 4;

/// rflags bits that a handler may change: AC OF DF TF SF ZF AF PF CF RF (`FIX_EFLAGS`).
const CHANGEABLE_FLAGS: u64 = 0x4_0000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 0x4 | 0x1 | 0x1_0000;
/// rflags bits that a handler starts without: DF, RF, TF.
pub const CLEARED_FLAGS: u64 = 0x400 | 0x1_0000 | 0x100;

/// FXSAVE's part of the image; the software bytes at its end tell what follows.
const LEGACY_BYTES: usize = 512;
const MXCSR_OFFSET: usize = 24;
const SOFTWARE_OFFSET: usize = 464;
/// The XSAVE header: xstate_bv, xcomp_bv, 48 reserved bytes.
const HEADER_END: usize = 576;
/// First byte of xstate_bv: x87 and SSE.
const FP_SSE: u8 = 3;
/// Where AVX's state ends.
const AVX_END: usize = 832;

/// struct sigcontext (64 bit).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct SigContext {
    /// As [`in_order`] has them: r8 to rflags.
    general: [u64; 18],
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    /// Address of the FPU image, or 0.
    pub fpstate: u64,
    reserved: [u64; 8],
}

/// struct ucontext.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct UContext {
    flags: u64,
    link: u64,
    /// The alternate stack as it was.
    pub stack: SigAltStack,
    /// The registers.
    pub registers: SigContext,
    /// The signals that were blocked.
    pub mask: u64,
}

/// struct rt_sigframe.
#[repr(C)]
#[derive(Clone, Copy, IntoBytes, Immutable)]
pub struct SignalFrame {
    /// Where the handler returns to: SA_RESTORER's function.
    pub restorer: u64,
    /// What sigreturn restores.
    pub context: UContext,
    /// What a SA_SIGINFO handler gets to see.
    pub info: SigInfo,
}

/// struct _fpx_sw_bytes.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct SoftwareBytes {
    magic1: u32,
    /// The image and the mark behind it.
    extended_bytes: u32,
    features: u64,
    xstate_bytes: u32,
    padding: [u32; 7],
}

/// What the last fault left: Linux keeps it with the thread and shows it in every later frame.
#[derive(Clone, Copy, Default)]
pub struct FaultRecord {
    /// The exception's number.
    pub trap: u64,
    /// Its error code.
    pub error: u64,
    /// The address of the last page fault.
    pub cr2: u64,
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Of the [`SignalFrame`]; also the handler's stack pointer.
    pub frame: u64,
    /// Of the FPU image.
    pub fpstate: u64,
}

impl Placement {
    /// Finds room below `top`; `None` when there is none above address 0.
    pub fn below(top: u64) -> Option<Placement> {
        let fpstate = top.checked_sub(image_bytes() as u64)? & !63;
        // As after a call: 8 below a multiple of 16.
        let frame = (fpstate.checked_sub(size_of::<SignalFrame>() as u64)? & !15).checked_sub(8)?;
        Some(Placement { frame, fpstate })
    }
}

/// Bytes of stack that a frame takes at most (AT_MINSIGSTKSZ).
pub fn stack_bytes() -> u64 {
    let padding = 63 + 15 + 8;
    (size_of::<SignalFrame>() as u64 + image_bytes() as u64 + padding).next_multiple_of(16)
}

/// Bytes of the FPU image with its end mark.
fn image_bytes() -> usize {
    fpu::area_bytes() + if has_xsave() { MAGIC2_BYTES } else { 0 }
}

fn has_xsave() -> bool {
    fpu::features() != 0
}

impl UContext {
    /// The interrupted program, for a frame.
    pub fn capture(
        context: &UserContext,
        fault: FaultRecord,
        fpstate: u64,
        stack: SigAltStack,
        mask: u64,
    ) -> UContext {
        let xstate = if has_xsave() { UC_FP_XSTATE } else { 0 };
        UContext {
            flags: xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            link: 0,
            stack,
            registers: SigContext {
                general: in_order(&mut context.clone()).map(|register| *register),
                cs: USER_CS as u16,
                gs: 0,
                fs: 0,
                ss: USER_SS as u16,
                error: fault.error,
                trap: fault.trap,
                old_mask: mask,
                cr2: fault.cr2,
                fpstate,
                reserved: [0; 8],
            },
            mask,
        }
    }

    /// Gives the program its registers back. False, and nothing changed, when it could not go on there.
    ///
    /// Of rflags only what a program may change anyway is taken; segments are not. A stack pointer may be
    /// anything: the program could have loaded it itself.
    #[must_use]
    pub fn restore(&self, context: &mut UserContext) -> bool {
        let mut restored = context.clone();
        for (to, from) in in_order(&mut restored).into_iter().zip(self.registers.general) {
            *to = from;
        }
        if x86_64::VirtAddr::try_new(restored.rip).is_err() {
            return false;
        }
        restored.rflags = context.rflags & !CHANGEABLE_FLAGS | restored.rflags & CHANGEABLE_FLAGS;
        *context = restored;
        true
    }
}

/// The registers in the order of struct sigcontext.
fn in_order(context: &mut UserContext) -> [&mut u64; 18] {
    let UserContext { r8, r9, r10, r11, r12, r13, r14, r15, .. } = context;
    let UserContext { rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags, .. } = context;
    [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags]
}

/// The FPU image of a frame: the registers as XSAVE wrote them, with the software bytes filled in.
pub fn finish_image(area: &mut FpuArea) {
    let xstate_bytes = fpu::area_bytes();
    let software = SoftwareBytes {
        magic1: FP_XSTATE_MAGIC1,
        extended_bytes: (xstate_bytes + MAGIC2_BYTES) as u32,
        features: fpu::features(),
        xstate_bytes: xstate_bytes as u32,
        padding: [0; 7],
    };
    if let Some(room) = area.0.get_mut(SOFTWARE_OFFSET..LEGACY_BYTES) {
        if has_xsave() { room.copy_from_slice(software.as_bytes()) } else { room.fill(0) }
    }
}

/// The mark behind the image, if it has one.
pub fn end_mark() -> Option<[u8; MAGIC2_BYTES]> {
    has_xsave().then_some(FP_XSTATE_MAGIC2.to_le_bytes())
}

/// How many bytes of an image to read back: from its 512 legacy bytes. The XSAVE part counts only when the
/// software bytes make sense; without it the other registers start afresh, as on Linux.
pub fn claimed_bytes(legacy: &[u8; LEGACY_BYTES]) -> usize {
    let Some(Ok((software, _))) = legacy.get(SOFTWARE_OFFSET..).map(SoftwareBytes::read_from_prefix) else {
        return LEGACY_BYTES;
    };
    let bytes = software.xstate_bytes as usize;
    let makes_sense = software.magic1 == FP_XSTATE_MAGIC1
        && (HEADER_END..=fpu::area_bytes()).contains(&bytes)
        && software.extended_bytes as usize >= bytes;
    if has_xsave() && makes_sense { bytes } else { LEGACY_BYTES }
}

/// Is this the mark that ends an XSAVE image?
pub fn is_end_mark(bytes: [u8; MAGIC2_BYTES]) -> bool {
    u32::from_le_bytes(bytes) == FP_XSTATE_MAGIC2
}

/// The state in an image that a program wrote, as far as it was read; the rest is as if never used.
pub fn area_from(image: &[u8]) -> Box<FpuArea> {
    let mut area = Box::new(FpuArea([0; AVX_END]));
    for (to, from) in area.0.iter_mut().zip(image) {
        *to = *from;
    }
    if let Some(used) = area.0.get_mut(LEGACY_BYTES) {
        *used = match image.len() {
            len if len < HEADER_END => FP_SSE,
            len if len < AVX_END => *used & FP_SSE,
            _ => *used,
        };
    }
    area
}

/// Would the CPU take this state? Linux gives it the frame as it is; where it faults, so does the program.
pub fn is_loadable(area: &FpuArea) -> bool {
    is_loadable_with(area, fpu::features(), fpu::mxcsr_mask())
}

/// SDM 1, 13.8.1: reserved bits of MXCSR, components that are off and bytes 8 to 23 of the header fault.
fn is_loadable_with(area: &FpuArea, features: u64, mxcsr_mask: u32) -> bool {
    let word = |at: usize| Some(u64::read_from_prefix(area.0.get(at..)?).ok()?.0);
    let mxcsr = word(MXCSR_OFFSET).map(|both| both as u32);
    let header = [0, 8, 16].map(|at| word(LEGACY_BYTES + at));
    let (Some(mxcsr), [Some(xstate_bv), Some(0), Some(0)]) = (mxcsr, header) else { return false };
    // Without XSAVE the area says what FXRSTOR loads anyway.
    mxcsr & !mxcsr_mask == 0 && xstate_bv & !(features | u64::from(FP_SSE)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use zerocopy::FromZeros;

    #[test]
    fn the_frame_has_linux_offsets() {
        // From a C program with <ucontext.h> and <sys/user.h> on x86-64.
        assert_eq!(offset_of!(SignalFrame, context), 8);
        assert_eq!(offset_of!(UContext, stack), 16);
        assert_eq!(offset_of!(UContext, registers), 40);
        assert_eq!(offset_of!(SigContext, general), 0);
        assert_eq!(offset_of!(SigContext, cs), 144);
        assert_eq!(offset_of!(SigContext, error), 152);
        assert_eq!(offset_of!(SigContext, cr2), 176);
        assert_eq!(offset_of!(SigContext, fpstate), 184);
        assert_eq!(offset_of!(UContext, mask), 296);
        assert_eq!(offset_of!(SignalFrame, info), 312);
        assert_eq!(size_of::<SignalFrame>(), 440);
        assert_eq!(size_of::<SoftwareBytes>(), LEGACY_BYTES - SOFTWARE_OFFSET);
    }

    #[test]
    fn registers_survive_the_frame_and_privileged_flags_do_not_change() {
        let mut frame = UContext::new_zeroed();
        let mut context = UserContext::default();
        context.rcx = 1;
        context.r11 = 2;
        context.rip = 0x40_1000;
        context.rsp = 0xdead_0000_0000_0000;
        // IOPL 3, IF off, carry on.
        context.rflags = 0x3001;
        frame.registers.general = in_order(&mut context).map(|register| *register);
        // <sys/ucontext.h>: REG_RDI is 8, REG_RIP 16.
        assert_eq!((frame.registers.general[3], frame.registers.general[16]), (2, 0x40_1000));
        let mut back = UserContext::default();
        back.rflags = 0x202;
        assert!(frame.restore(&mut back));
        assert_eq!((back.rcx, back.r11, back.rip, back.rsp), (1, 2, 0x40_1000, 0xdead_0000_0000_0000));
        assert_eq!(back.rflags, 0x203);
    }

    #[test]
    fn an_image_counts_as_far_as_it_goes() {
        let image = [7; AVX_END];
        assert_eq!(area_from(&image).0, image);
        assert_eq!(area_from(&image[..HEADER_END]).0[LEGACY_BYTES], 3);
        let legacy = area_from(&image[..LEGACY_BYTES]);
        assert_eq!(legacy.0[LEGACY_BYTES - 1..LEGACY_BYTES + 2], [7, 3, 0]);
    }

    #[test]
    fn state_that_the_cpu_would_refuse_is_a_bad_frame() {
        let with = |at: usize, byte| {
            let mut area = FpuArea([0; AVX_END]);
            area.0[at] = byte;
            is_loadable_with(&area, 7, 0xffff)
        };
        assert!(with(MXCSR_OFFSET, 0xff) && with(LEGACY_BYTES, 7) && with(LEGACY_BYTES + 24, 1));
        assert!(!with(MXCSR_OFFSET + 2, 1));
        assert!(!with(LEGACY_BYTES, 8) && !with(LEGACY_BYTES + 7, 1));
        assert!(!with(LEGACY_BYTES + 15, 0x80) && !with(LEGACY_BYTES + 16, 1));
    }

    #[test]
    fn a_return_to_a_non_canonical_address_is_refused() {
        let mut frame = UContext::new_zeroed();
        frame.registers.general[16] = 0x8000_0000_0000;
        let mut context = UserContext::default();
        context.rip = 7;
        assert!(!frame.restore(&mut context));
        assert_eq!(context.rip, 7);
    }
}
