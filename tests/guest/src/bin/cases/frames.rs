//! Signal frames: what they hold, and what a bad one may not do.

use std::arch::asm;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use guest::ensure;
use guest::fault;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, PAGE};
use libc::{REG_CSGSFS, REG_EFL, REG_RIP, REG_RSP};

use crate::registers::{has_avx, has_xsave, set_mxcsr};
use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("the frame is aligned and has its xsave magic", |_| frame_layout()),
    ("a bad frame is survived or a signal", |_| bad_frames()),
    ("a frame with a bad FPU state is SIGSEGV", |_| bad_fpu_state()),
    ("sigreturn without a frame is SIGSEGV", |_| no_frame()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("signals", CASES)
}

/// The frame's pointer to the FPU state, and words of that state.
static FPSTATE: AtomicUsize = AtomicUsize::new(0);
static FLAGS: AtomicU64 = AtomicU64::new(0);
static WORDS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Offsets in the FPU state: Linux, arch/x86/include/uapi/asm/sigcontext.h.
const MXCSR: usize = 24;
const MAGIC1: usize = 464;
const EXTENDED_SIZE: usize = 468;
const XFEATURES: usize = 472;
const XSTATE_SIZE: usize = 480;
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
const HEADER_RESERVED: usize = 536;

fn peek(at: usize) -> u32 {
    // SAFETY: the handlers below pass addresses inside their own frame.
    unsafe { (at as *const u32).read_unaligned() }
}

fn poke(at: usize, word: u32) {
    // SAFETY: as for `peek`; only sigreturn reads the frame.
    unsafe { (at as *mut u32).write_unaligned(word) };
}

extern "C" fn note_frame(_: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    let state = context.uc_mcontext.fpregs as usize;
    FPSTATE.store(state, Relaxed);
    FLAGS.store(context.uc_flags, Relaxed);
    if !has_xsave() {
        return;
    }
    let size = peek(state + XSTATE_SIZE);
    let words = [peek(state + MAGIC1), peek(state + XFEATURES), size, peek(state + size as usize)];
    for (slot, word) in WORDS.iter().zip(words) {
        slot.store(word.into(), Relaxed);
    }
}

fn raise(signal: i32) -> Result<(), String> {
    let ids = [libc::SYS_getpid, libc::SYS_gettid].map(|number| sys::numbers(number, &[]).unwrap_or(0));
    sys::numbers(libc::SYS_tgkill, &[ids[0], ids[1], signal as usize])
        .map(drop)
        .map_err(|errno| format!("tgkill: {errno}"))
}

fn frame_layout() -> Outcome {
    fault::set_handler(libc::SIGUSR1, note_frame);
    raise(libc::SIGUSR1)?;
    let state = FPSTATE.load(Relaxed);
    ensure!(state != 0 && state.is_multiple_of(64), "the FPU state is at {state:#x}");
    if !has_xsave() {
        // A plain FXSAVE area: no magic, and the flag that would announce it is clear.
        ensure!(FLAGS.load(Relaxed) & 1 == 0, "uc_flags {:#x} announce XSAVE", FLAGS.load(Relaxed));
        return Ok(());
    }
    let [magic1, features, size, magic2] = [0, 1, 2, 3].map(|n| WORDS[n].load(Relaxed));
    ensure!(magic1 == 0x4650_5853, "magic 1 is {magic1:#x}");
    ensure!(magic2 == 0x4650_5845, "magic 2, {size} bytes in, is {magic2:#x}");
    ensure!(features & 3 == 3 && (features & 4 != 0) == has_avx(), "xfeatures {features:#x}");
    ensure!(FLAGS.load(Relaxed) & 7 == 7, "uc_flags {:#x}, not 7", FLAGS.load(Relaxed));
    // SAFETY: getauxval reads the vector that the kernel passed; 51 is AT_MINSIGSTKSZ.
    let minimum = unsafe { libc::getauxval(51) };
    ensure!(minimum >= size && minimum < 64 * 1024, "AT_MINSIGSTKSZ {minimum}, FPU state {size}");
    Ok(())
}

type Damage = (&'static str, fn(&mut libc::ucontext_t));

fn state_of(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.fpregs as usize
}

fn set_state(context: &mut libc::ucontext_t, at: usize) {
    context.uc_mcontext.fpregs = at as *mut _;
}

fn set(context: &mut libc::ucontext_t, register: i32, value: u64) {
    context.uc_mcontext.gregs[register as usize] = value as i64;
}

fn set_segments(context: &mut libc::ucontext_t, cs: u64, ss: u64) {
    set(context, REG_CSGSFS, cs | ss << 48);
}

const KERNEL: u64 = 0xffff_ffff_8000_0000;
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;

const DAMAGES: &[Damage] = &[
    ("no FPU state", |c| set_state(c, 0)),
    ("FPU state unmapped", |c| set_state(c, 64)),
    ("FPU state in the kernel", |c| set_state(c, KERNEL as usize)),
    ("FPU state non-canonical", |c| set_state(c, NON_CANONICAL as usize)),
    ("FPU state misaligned", |c| set_state(c, state_of(c) + 8)),
    ("mxcsr all ones", |c| poke(state_of(c) + MXCSR, u32::MAX)),
    ("rip in the kernel", |c| set(c, REG_RIP, KERNEL)),
    ("rip non-canonical", |c| set(c, REG_RIP, NON_CANONICAL)),
    ("rip at the user limit", |c| set(c, REG_RIP, 1 << 47)),
    ("rsp 0", |c| set(c, REG_RSP, 0)),
    ("rsp in the kernel", |c| set(c, REG_RSP, KERNEL)),
    ("rsp non-canonical", |c| set(c, REG_RSP, NON_CANONICAL)),
    ("cs of the kernel", |c| set_segments(c, 0x10, 0x2b)),
    ("cs 0", |c| set_segments(c, 0, 0x2b)),
    ("cs all ones", |c| set_segments(c, 0xffff, 0x2b)),
    ("ss of the kernel", |c| set_segments(c, 0x33, 0x18)),
    ("ss all ones", |c| set_segments(c, 0x33, 0xffff)),
    ("IF clear; IOPL, NT, VM, VIF, VIP set", |c| {
        let flags = c.uc_mcontext.gregs[REG_EFL as usize] as u64;
        set(c, REG_EFL, flags & !(1 << 9) | 3 << 12 | 1 << 14 | 1 << 17 | 1 << 19 | 1 << 20);
    }),
];

/// Damages to what only an XSAVE frame has; without XSAVE other memory would be hit.
const XSAVE_DAMAGES: &[Damage] = &[
    ("xstate_bv all ones", |c| (0..2).for_each(|n| poke(state_of(c) + XSTATE_BV + 4 * n, u32::MAX))),
    ("xcomp_bv all ones", |c| (0..2).for_each(|n| poke(state_of(c) + XCOMP_BV + 4 * n, u32::MAX))),
    ("xsave header byte 16", |c| poke(state_of(c) + XCOMP_BV + 8, 1)),
    ("xsave header reserved", |c| poke(state_of(c) + HEADER_RESERVED, 1)),
    ("no magic 1", |c| poke(state_of(c) + MAGIC1, 0)),
    ("no magic 2", |c| poke(state_of(c) + peek(state_of(c) + XSTATE_SIZE) as usize, 0)),
    ("xstate_size huge", |c| poke(state_of(c) + XSTATE_SIZE, u32::MAX)),
    ("extended_size huge", |c| poke(state_of(c) + EXTENDED_SIZE, u32::MAX)),
    ("xfeatures all ones", |c| (0..2).for_each(|n| poke(state_of(c) + XFEATURES + 4 * n, u32::MAX))),
];

/// The damages that this CPU's frames can take.
fn damages() -> impl Iterator<Item = &'static Damage> {
    let xsave: &[Damage] = if has_xsave() { XSAVE_DAMAGES } else { &[] };
    DAMAGES.iter().chain(xsave)
}

static DAMAGE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn damage_frame(_: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    if let Some((_, damage)) = damages().nth(DAMAGE.load(Relaxed)) {
        damage(context);
    }
}

/// Damages after which the registers cannot be loaded (SDM 1, 13.8.1).
const NOT_LOADABLE: &[&str] = &[
    "FPU state unmapped",
    "FPU state in the kernel",
    "FPU state non-canonical",
    "FPU state misaligned",
    "mxcsr all ones",
    "xstate_bv all ones",
    "xcomp_bv all ones",
    "xsave header byte 16",
];

fn bad_fpu_state() -> Outcome {
    for (index, (what, _)) in damages().enumerate().filter(|(_, (what, _))| NOT_LOADABLE.contains(what)) {
        DAMAGE.store(index, Relaxed);
        fault::set_handler(libc::SIGUSR1, damage_frame);
        let end = fault::guarded(|| drop(raise(libc::SIGUSR1)));
        set_mxcsr(0x1f80);
        fault::restore();
        ensure!(end.is_err_and(|f| f.signal == libc::SIGSEGV), "{what}: ended with {end:?}");
    }
    Ok(())
}

fn flags_register() -> u64 {
    let flags;
    // SAFETY: pushes and pops one word.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags
}

fn bad_frames() -> Outcome {
    for (index, (what, _)) in damages().enumerate() {
        DAMAGE.store(index, Relaxed);
        fault::set_handler(libc::SIGUSR1, damage_frame);
        let end = fault::guarded(|| drop(raise(libc::SIGUSR1)));
        let flags = flags_register();
        set_mxcsr(0x1f80);
        fault::restore();
        // A push to a non-canonical stack is #SS, which is SIGBUS.
        let is_signal = |f: fault::Fault| [libc::SIGSEGV, libc::SIGBUS].contains(&f.signal);
        ensure!(end.is_ok() || end.is_err_and(is_signal), "{what}: ended with {end:?}");
        ensure!(
            flags & (1 << 9) != 0 && flags & (3 << 12 | 1 << 14 | 1 << 17) == 0,
            "{what}: flags {flags:#x}"
        );
    }
    Ok(())
}

/// rt_sigreturn with the stack pointer at `rsp`; ends in a fault.
fn sigreturn_at(rsp: usize) {
    // SAFETY: never returns here: the call fails or jumps to what the words at `rsp` say, and the caller's
    // `guarded` takes the fault.
    unsafe { asm!("mov rsp, {}", "mov eax, 15", "syscall", "ud2", in(reg) rsp, options(noreturn)) }
}

fn no_frame() -> Outcome {
    let zeros = Mapping::anonymous(2 * PAGE).map_err(|errno| format!("mmap: {errno}"))?;
    let _ = sys::munmap(zeros.addr + PAGE, PAGE);
    let places = [
        ("unmapped", 4096),
        ("the kernel", KERNEL as usize),
        ("non-canonical", NON_CANONICAL as usize),
        ("the top of everything", usize::MAX - 7),
        ("zeros", zeros.addr),
        ("the end of a page", zeros.addr + PAGE - 64),
        ("nowhere aligned", zeros.addr + 3),
    ];
    for (what, rsp) in places {
        let end = fault::guarded(|| sigreturn_at(rsp));
        fault::restore();
        ensure!(end.is_err_and(|f| f.signal == libc::SIGSEGV), "frame at {what}: ended with {end:?}");
    }
    Ok(())
}
