//! x87, SSE and AVX state of programs. The kernel itself is soft-float: the registers always hold the
//! running program's values, so only signal frames, task switches and new programs touch them.

use alloc::boxed::Box;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use spin::Once;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// A 64-byte aligned XSAVE area in standard format for XCR0 = 7 (FXSAVE's 512 bytes without XSAVE).
#[repr(C, align(64))]
#[derive(Clone)]
pub struct FpuArea(pub [u8; 832]);

impl FpuArea {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Makes the area one that XRSTOR takes without a fault: MXCSR within its mask, only components that are
    /// on, standard format, reserved header bytes zero (SDM 1, 13.8.1).
    fn sanitise(&mut self) {
        let mxcsr = self.word(MXCSR_AT) & mxcsr_mask();
        self.0[MXCSR_AT..MXCSR_AT + 4].copy_from_slice(&mxcsr.to_le_bytes());
        self.0[HEADER_AT] &= features() as u8;
        self.0[HEADER_AT + 1..HEADER_AT + 64].fill(0);
    }
}

/// Byte of MXCSR in the legacy area (SDM 1, table 10-2).
const MXCSR_AT: usize = 24;

/// Byte of the XSAVE header, which starts with XSTATE_BV.
const HEADER_AT: usize = 512;

/// Byte of MXCSR_MASK in the legacy area (SDM 1, table 10-2).
const MXCSR_MASK_AT: usize = 28;

struct Fpu {
    /// XCR0, 0 without XSAVE.
    features: u64,
    area_bytes: usize,
    mxcsr_mask: u32,
}

static FPU: Once<Fpu> = Once::new();

/// Switches the state components on, on this CPU: x87, SSE and, where there is one, AVX. `xsave` says whether
/// CR4.OSXSAVE is on.
pub fn init(xsave: bool) {
    let features = if xsave { __cpuid_count(0xd, 0).eax & 7 } else { 0 };
    if features != 0 {
        // SAFETY: CPUID lists these components, x87 and SSE are among them, and CR4.OSXSAVE is on.
        unsafe { XCr0::write(XCr0Flags::from_bits_truncate(u64::from(features))) };
    }
    let area_bytes = match features {
        0 => 512,
        f if f & 4 == 0 => 576,
        _ => 832,
    };
    let mut area = FpuArea([0; 832]);
    // SAFETY: FXSAVE writes 512 bytes to a 16-byte aligned area.
    unsafe { asm!("fxsave64 [{}]", in(reg) area.0.as_mut_ptr(), options(nostack, preserves_flags)) };
    // SDM 1, 11.6.6: zero stands for the default mask.
    let mxcsr_mask = match area.word(MXCSR_MASK_AT) {
        0 => 0xffbf,
        mask => mask,
    };
    FPU.call_once(|| Fpu { features: u64::from(features), area_bytes, mxcsr_mask });
}

fn fpu() -> &'static Fpu {
    FPU.get().expect("boot calls fpu::init before the first program")
}

/// Bytes of the area that the CPU uses: 832 with AVX, 576 with XSAVE only, 512 without XSAVE.
pub fn area_bytes() -> usize {
    fpu().area_bytes
}

/// The state components that are on (XCR0), 0 without XSAVE: what a signal frame's xstate_bv may hold.
pub fn features() -> u64 {
    fpu().features
}

/// The bits of MXCSR that may be set; others make XRSTOR fault.
pub fn mxcsr_mask() -> u32 {
    fpu().mxcsr_mask
}

/// Copies the registers into a new area (all components, XSAVE's standard format).
pub fn save() -> Box<FpuArea> {
    let mut area = Box::new(FpuArea([0; 832]));
    // SAFETY: the area is ours; its header is zero, as XSAVE expects of one that it has not written itself.
    unsafe { save_to(&mut *area) };
    area
}

/// Copies the registers into an area.
///
/// # Safety
/// `area` may be written, and held zeros or a saved state before (XSAVE leaves most of the header as it is).
#[inline]
pub unsafe fn save_to(area: *mut FpuArea) {
    // SAFETY: the area is 64-byte aligned and as large as all components of XCR0 = 7; the rest is the caller's
    // promise.
    unsafe {
        if features() == 0 {
            asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
        } else {
            asm!("xsave64 [{}]", in(reg) area, in("eax") 7, in("edx") 0, options(nostack, preserves_flags));
        }
    }
}

/// Loads the registers from an area.
///
/// # Safety
/// `area` may be read, and holds what [`save_to`] or `FpuArea::sanitise` left: the CPU refuses other things.
#[inline]
pub unsafe fn load_from(area: *const FpuArea) {
    // SAFETY: aligned and large enough as above; the rest is the caller's promise.
    unsafe {
        if features() == 0 {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
        } else {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") 7, in("edx") 0, options(nostack, preserves_flags));
        }
    }
}

/// Loads the registers from an area, which may hold anything: what the CPU would refuse is taken out first.
pub fn restore(area: &FpuArea) {
    let mut area = area.clone();
    area.sanitise();
    // SAFETY: sanitised.
    unsafe { load_from(&area) };
}

/// The values that a new program starts with: the x87 control word and MXCSR of Linux, all else zero.
pub fn initial() -> FpuArea {
    let mut area = FpuArea([0; 832]);
    area.0[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    area.0[MXCSR_AT..MXCSR_AT + 4].copy_from_slice(&0x1f80_u32.to_le_bytes());
    // xstate_bv: x87 and SSE come from the area, AVX takes its initial state.
    area.0[HEADER_AT] = (features() & 3) as u8;
    area
}

/// Gives the registers the values that a new program starts with.
pub fn reset() {
    restore(&initial());
}
