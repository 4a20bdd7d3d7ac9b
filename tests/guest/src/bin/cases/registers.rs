//! Registers: what a signal and a system call give back.

use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use guest::ensure;
use guest::fault;
use guest::ktap::{Case, Outcome};
use libc::{REG_RAX, REG_RIP};

use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("a signal preserves every register", |_| signal_round_trip()),
    ("a system call preserves every register but rax, rcx and r11", |_| syscall_round_trip()),
    ("a handler starts with a fresh FPU and the return restores mxcsr", |_| control_words()),
    ("the red zone survives a signal", |_| red_zone()),
    ("a handler may change registers in the frame", |_| changed_frame()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("signals", CASES)
}

/// Every register that a program sees, as the assembly below loads and stores them.
#[repr(C, align(64))]
#[derive(Clone, PartialEq, Eq, Debug)]
struct Registers {
    /// rax rbx rcx rdx rsi rdi rbp r8 ... r15; the last slot is unused.
    general: [u64; 16],
    /// ymm0 ... ymm15; without AVX the low halves count.
    vector: [[u64; 4]; 16],
}

global_asm!(
    r#"
    .macro guest_round_trip name, move, width, trap
    .globl \name
\name:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rsi
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    \move \width\n, [rdi + 128 + 32 * \n]
    .endr
    mov rax, [rdi]
    mov rbx, [rdi + 8]
    mov rcx, [rdi + 16]
    mov rdx, [rdi + 24]
    mov rsi, [rdi + 32]
    mov rbp, [rdi + 48]
    mov r8,  [rdi + 56]
    mov r9,  [rdi + 64]
    mov r10, [rdi + 72]
    mov r11, [rdi + 80]
    mov r12, [rdi + 88]
    mov r13, [rdi + 96]
    mov r14, [rdi + 104]
    mov r15, [rdi + 112]
    mov rdi, [rdi + 40]
    \trap
    push rax
    mov rax, [rsp + 8]
    mov [rax + 8], rbx
    mov [rax + 16], rcx
    mov [rax + 24], rdx
    mov [rax + 32], rsi
    mov [rax + 40], rdi
    mov [rax + 48], rbp
    mov [rax + 56], r8
    mov [rax + 64], r9
    mov [rax + 72], r10
    mov [rax + 80], r11
    mov [rax + 88], r12
    mov [rax + 96], r13
    mov [rax + 104], r14
    mov [rax + 112], r15
    pop rbx
    mov [rax], rbx
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    \move [rax + 128 + 32 * \n], \width\n
    .endr
    pop rsi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .endm

    .text
    guest_round_trip guest_ud2_xmm, movups, xmm, ud2
    guest_round_trip guest_ud2_ymm, vmovups, ymm, ud2
    guest_round_trip guest_syscall_xmm, movups, xmm, syscall
    guest_round_trip guest_syscall_ymm, vmovups, ymm, syscall

    .globl guest_red_zone
guest_red_zone:
    movabs rcx, 0x1122334455667788
    mov [rsp - 8], rcx
    mov [rsp - 64], rcx
    mov [rsp - 128], rcx
    ud2
    xor eax, eax
    cmp [rsp - 8], rcx
    jne 1f
    cmp [rsp - 64], rcx
    jne 1f
    cmp [rsp - 128], rcx
    jne 1f
    inc eax
1:  ret
"#
);

unsafe extern "C" {
    fn guest_ud2_xmm(from: *const Registers, to: *mut Registers);
    fn guest_ud2_ymm(from: *const Registers, to: *mut Registers);
    fn guest_syscall_xmm(from: *const Registers, to: *mut Registers);
    fn guest_syscall_ymm(from: *const Registers, to: *mut Registers);
    fn guest_red_zone() -> i32;
}

/// Whether the vector registers have upper halves.
pub fn has_avx() -> bool {
    std::is_x86_feature_detected!("avx")
}

/// Whether signal frames hold an XSAVE area, not only FXSAVE's.
pub fn has_xsave() -> bool {
    std::is_x86_feature_detected!("xsave")
}

impl Registers {
    /// Each register with a value of its own; without AVX the upper halves are 0 in both copies.
    fn pattern() -> Registers {
        let halves = if has_avx() { 4 } else { 2 };
        let vector = std::array::from_fn(|n| {
            std::array::from_fn(
                |part| if part < halves { 0x0101_0101 * (4 * n + part + 1) as u64 } else { 0 },
            )
        });
        let general = std::array::from_fn(|n| if n < 15 { 0x1000_0000_0001 * (n + 1) as u64 } else { 0 });
        Registers { general, vector }
    }

    fn zero() -> Registers {
        Registers { general: [0; 16], vector: [[0; 4]; 16] }
    }
}

/// The control word of the SSE unit as the last handler found it.
static HANDLER_MXCSR: AtomicU64 = AtomicU64::new(0);

fn mxcsr() -> u32 {
    let mut word = 0_u32;
    // SAFETY: stores four bytes to a live word.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
    word
}

/// Loads the control word of the SSE unit.
pub fn set_mxcsr(word: u32) {
    // SAFETY: the callers set rounding bits and put the default back before they compute.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
}

/// Steps over `ud2` and leaves nothing in the vector registers.
extern "C" fn skip_ud2(_: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    HANDLER_MXCSR.store(mxcsr().into(), Relaxed);
    context.uc_mcontext.gregs[REG_RIP as usize] += 2;
    if has_avx() {
        // SAFETY: vzeroall is an AVX instruction, and the CPU has AVX; all registers are named as changed.
        unsafe {
            asm!("vzeroall", out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _,
                out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nomem, nostack));
        }
    }
}

fn differences(from: &Registers, to: &Registers) -> Vec<String> {
    const NAMES: [&str; 15] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ];
    let general = NAMES.iter().zip(from.general.iter().zip(&to.general)).filter(|(_, (a, b))| a != b);
    let vector = from.vector.iter().zip(&to.vector).enumerate().filter(|(_, (a, b))| a != b);
    general
        .map(|(name, (a, b))| format!("{name} {a:#x} came back {b:#x}"))
        .chain(vector.map(|(n, (a, b))| format!("vector {n} {a:x?} came back {b:x?}")))
        .collect()
}

fn signal_round_trip() -> Outcome {
    fault::set_handler(libc::SIGILL, skip_ud2);
    let (from, mut to) = (Registers::pattern(), Registers::zero());
    for _ in 0..3 {
        // SAFETY: both blocks are live; the handler above steps over the trap.
        unsafe { if has_avx() { guest_ud2_ymm(&from, &mut to) } else { guest_ud2_xmm(&from, &mut to) } }
        let lost = differences(&from, &to);
        ensure!(lost.is_empty(), "{}", lost.join("\n"));
    }
    Ok(())
}

fn syscall_round_trip() -> Outcome {
    for number in [libc::SYS_getppid, 9999] {
        let (mut from, mut to) = (Registers::pattern(), Registers::zero());
        from.general[0] = number as u64;
        // SAFETY: both blocks are live; neither call looks at its arguments.
        unsafe {
            if has_avx() { guest_syscall_ymm(&from, &mut to) } else { guest_syscall_xmm(&from, &mut to) }
        }
        for may_change in [0, 2, 10] {
            to.general[may_change] = from.general[may_change];
        }
        let lost = differences(&from, &to);
        ensure!(lost.is_empty(), "call {number}:\n{}", lost.join("\n"));
    }
    Ok(())
}

fn control_words() -> Outcome {
    const DEFAULT: u32 = 0x1f80;
    const TOWARD_ZERO: u32 = DEFAULT | 0x6000;
    fault::set_handler(libc::SIGILL, skip_ud2);
    set_mxcsr(TOWARD_ZERO);
    // SAFETY: the handler steps over the trap, and the function keeps the registers of the C ABI.
    let kept = unsafe { guest_red_zone() };
    let after = mxcsr();
    set_mxcsr(DEFAULT);
    ensure!(kept == 1 && after & !0x3f == TOWARD_ZERO, "mxcsr came back {after:#x}");
    let inside = HANDLER_MXCSR.load(Relaxed) as u32;
    ensure!(inside & !0x3f == DEFAULT, "the handler began with mxcsr {inside:#x}");
    Ok(())
}

fn red_zone() -> Outcome {
    // On the interrupted stack: that is where a frame could overwrite the zone.
    // SAFETY: an all-zero sigaction is a value; the handler has the signature of SA_SIGINFO.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = skip_ud2 as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut());
    }
    // SAFETY: the handler steps over the trap.
    ensure!(unsafe { guest_red_zone() } == 1, "a byte below the stack pointer changed");
    Ok(())
}

/// Offset of xmm3 in the FPU state of a frame (fxsave layout).
const XMM3: usize = 160 + 3 * 16;

extern "C" fn change_frame(_: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    context.uc_mcontext.gregs[REG_RIP as usize] += 2;
    context.uc_mcontext.gregs[REG_RAX as usize] = 0x5150;
    let xmm3 = context.uc_mcontext.fpregs as usize + XMM3;
    // SAFETY: inside the frame that the kernel wrote; only sigreturn reads it.
    unsafe { (xmm3 as *mut u32).write_unaligned(0xdead_beef) };
}

fn changed_frame() -> Outcome {
    fault::set_handler(libc::SIGILL, change_frame);
    let (from, mut to) = (Registers::pattern(), Registers::zero());
    // SAFETY: both blocks are live; the handler above steps over the trap.
    unsafe { guest_ud2_xmm(&from, &mut to) };
    ensure!(to.general[0] == 0x5150, "rax came back {:#x}", to.general[0]);
    ensure!(to.vector[3][0] as u32 == 0xdead_beef, "xmm3 came back {:#x}", to.vector[3][0]);
    ensure!(to.general[1] == from.general[1], "rbx came back {:#x}", to.general[1]);
    Ok(())
}
