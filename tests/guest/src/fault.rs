//! Touching memory that may not be there, without fork: the signal is part of the answer.
//!
//! A probe is a few instructions of assembly. The handler of the signals that faults raise knows their
//! addresses; when the fault came from a probe it notes the siginfo, moves RIP to the probe's failure exit
//! and returns. A fault outside a probe ends the [`guarded`] call around it (the frames in between are
//! abandoned without destructors: a failed case leaks, and the next one runs). Without one, the default
//! action is restored and the instruction runs again, so the program dies of its signal as it should.
//!
//! What a probe and the handler share is each thread's own, so threads may probe at the same time. A thread
//! needs [`install`] of the process only; the handler runs on its alternate stack where it has one.

use std::arch::{asm, global_asm};
use std::cell::Cell;
use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

global_asm!(
    r#"
    .pushsection .text.guest_probes, "ax", @progbits
    .globl guest_probe_load, guest_probe_store, guest_probe_word, guest_probe_end, guest_probe_failed
    .globl guest_probe_exec, guest_exec_failed, guest_guarded, guest_escape
guest_probe_load:
    movzx eax, byte ptr [rdi]
    ret
guest_probe_store:
    mov byte ptr [rdi], sil
    xor eax, eax
    ret
guest_probe_load_word:
    mov rax, [rdi]
    mov [rsi], rax
    xor eax, eax
    ret
guest_probe_store_word:
    mov [rdi], rsi
    xor eax, eax
    ret
guest_probe_end:
    nop
guest_probe_failed:
    mov eax, -1
    ret

guest_probe_exec:
    push rbp
    mov rbp, rsp
    call rdi
    xor eax, eax
    pop rbp
    ret
guest_exec_failed:
    mov rsp, rbp
    mov eax, -1
    pop rbp
    ret

guest_guarded:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov [rdx], rsp
    mov rax, rdi
    mov rdi, rsi
    call rax
    xor eax, eax
    jmp 2f
guest_escape:
    cld
    mov eax, 1
2:  add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .popsection
"#
);

unsafe extern "C" {
    fn guest_probe_load(addr: usize) -> i32;
    fn guest_probe_store(addr: usize, byte: u8) -> i32;
    fn guest_probe_load_word(addr: usize, word: *mut u64) -> i32;
    fn guest_probe_store_word(addr: usize, word: u64) -> i32;
    fn guest_probe_exec(addr: usize) -> i32;
    fn guest_guarded(f: extern "C" fn(*mut c_void), arg: *mut c_void, saved_rsp: *mut usize) -> i32;
    static guest_probe_end: u8;
    static guest_probe_failed: u8;
    static guest_exec_failed: u8;
    static guest_escape: u8;
}

/// The signal of one fault, as its siginfo and ucontext told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGTRAP.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: usize,
    /// Exception vector from the ucontext: 14 page fault, 13 general protection.
    pub vector: u64,
    /// Page-fault error code from the ucontext.
    pub error: u64,
    /// CR2 from the ucontext.
    pub cr2: u64,
    /// `si_addr_lsb`: how much is lost with bad memory, as a power of two.
    pub lsb: i16,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.signal, self.code) {
            (libc::SIGSEGV, 1) => "SIGSEGV/MAPERR",
            (libc::SIGSEGV, 2) => "SIGSEGV/ACCERR",
            (libc::SIGSEGV, 0x80) => "SIGSEGV/KERNEL",
            (libc::SIGSEGV, _) => "SIGSEGV/?",
            (libc::SIGBUS, 2) => "SIGBUS/ADRERR",
            (libc::SIGBUS, 4) => "SIGBUS/MCEERR_AR",
            (libc::SIGBUS, _) => "SIGBUS/?",
            (libc::SIGILL, _) => "SIGILL",
            (libc::SIGFPE, _) => "SIGFPE",
            (libc::SIGTRAP, _) => "SIGTRAP",
            _ => "another signal",
        })
    }
}

/// What touching one byte did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// It worked; a load's byte, 0 otherwise.
    Done(u8),
    /// It raised a signal.
    Faulted(Fault),
}

impl Touch {
    /// Whether it worked.
    pub fn is_done(self) -> bool {
        matches!(self, Touch::Done(_))
    }
}

impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Touch::Done(_) => f.write_str("ok"),
            Touch::Faulted(fault) => fault.fmt(f),
        }
    }
}

/// What a thread's probes and its handler tell each other. Plain cells without destructors: to look at them
/// from the handler is a load from the thread's own block.
struct Notes {
    last: Cell<Fault>,
    /// Where an exec probe is jumping to, 0 when none runs.
    exec_target: Cell<usize>,
    /// Stack pointer of the innermost [`guarded`] call, 0 when none runs.
    escape_rsp: Cell<usize>,
}

thread_local! {
    static NOTES: Notes = const {
        let none = Fault { signal: 0, code: 0, addr: 0, vector: 0, error: 0, cr2: 0, lsb: 0 };
        Notes { last: Cell::new(none), exec_target: Cell::new(0), escape_rsp: Cell::new(0) }
    };
}

/// The segment registers of this program as a signal frame holds them, from [`install`].
static SEGMENTS: AtomicU64 = AtomicU64::new(0);

/// The fault of this thread that was recorded last.
pub fn last() -> Fault {
    NOTES.with(|notes| notes.last.get())
}

/// Notes the signal for [`last`]. For handlers only.
pub fn record(signal: i32, info: &libc::siginfo_t, context: &libc::ucontext_t) {
    let registers = &context.uc_mcontext.gregs;
    let fault = Fault {
        signal,
        code: info.si_code,
        // SAFETY: reads the address member of the siginfo union; the record is the kernel's, fully written.
        addr: unsafe { info.si_addr() } as usize,
        vector: registers[libc::REG_TRAPNO as usize] as u64,
        error: registers[libc::REG_ERR as usize] as u64,
        cr2: registers[libc::REG_CR2 as usize] as u64,
        // SAFETY: the record has 128 bytes; include/uapi/asm-generic/siginfo.h has the number behind `si_addr`.
        lsb: unsafe { (&raw const *info).cast::<i16>().add(12).read() },
    };
    NOTES.with(|notes| notes.last.set(fault));
}

/// Code of an exec probe is shorter than this.
const CODE_LEN: usize = 16;
const TRAP_FLAG: i64 = 1 << 8;
const DIRECTION_FLAG: i64 = 1 << 10;

/// A handler as sigaction(2) takes it with SA_SIGINFO.
pub type Handler = extern "C" fn(i32, &libc::siginfo_t, &mut libc::ucontext_t);

extern "C" fn on_fault(signal: i32, info: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    let rip = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    let probes = guest_probe_load as *const () as usize..&raw const guest_probe_end as usize;
    record(signal, info, context);
    let registers = &mut context.uc_mcontext.gregs;
    // A case may have returned through a frame with another CS, or with the trap flag.
    registers[libc::REG_CSGSFS as usize] = SEGMENTS.load(Relaxed) as i64;
    registers[libc::REG_EFL as usize] &= !(TRAP_FLAG | DIRECTION_FLAG);
    let (target, escape_rsp) = NOTES.with(|notes| (notes.exec_target.get(), notes.escape_rsp.get()));
    // Breakpoints are reported behind the instruction, and the call itself faults on a bad target.
    let in_target = target != 0 && rip.wrapping_sub(target) < CODE_LEN;
    let call_of_target = guest_probe_exec as *const () as usize..&raw const guest_exec_failed as usize;
    if probes.contains(&rip) {
        registers[libc::REG_RIP as usize] = &raw const guest_probe_failed as i64;
    } else if in_target || (target != 0 && call_of_target.contains(&rip)) {
        registers[libc::REG_RIP as usize] = &raw const guest_exec_failed as i64;
    } else if escape_rsp != 0 {
        registers[libc::REG_RIP as usize] = &raw const guest_escape as i64;
        registers[libc::REG_RSP as usize] = escape_rsp as i64;
    } else {
        // SAFETY: puts the default action back; it takes no pointer of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Makes `handler` the action of `signal`, on the alternate stack where there is one.
pub fn set_handler(signal: i32, handler: Handler) {
    // SAFETY: an all-zero sigaction is a valid value, the handler has the signature that SA_SIGINFO asks
    // for, and it touches atomics, the siginfo and the ucontext only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// Installs the handlers that probes and [`guarded`] need, on an alternate stack that is never freed.
pub fn install() {
    let stack = Box::leak(vec![0_u8; 64 * 1024].into_boxed_slice());
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack was leaked above, so it is there as long as the program.
    unsafe { libc::sigaltstack(&raw const alternate, std::ptr::null_mut()) };
    let (cs, ss): (u64, u64);
    // SAFETY: reads two segment registers.
    unsafe { asm!("mov {0:e}, cs", "mov {1:e}, ss", out(reg) cs, out(reg) ss, options(nomem, nostack)) };
    SEGMENTS.store(cs & 0xffff | (ss & 0xffff) << 48, Relaxed);
    restore();
}

/// Puts the handlers of [`install`] back after a case used its own, and blocks no signal.
pub fn restore() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
        set_handler(signal, on_fault);
    }
    // SAFETY: an all-zero set is the empty set.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn touched(answer: i32) -> Touch {
    if answer < 0 { Touch::Faulted(last()) } else { Touch::Done(answer as u8) }
}

/// Loads one byte from `addr`.
pub fn load(addr: usize) -> Touch {
    // SAFETY: a load changes nothing; a fault comes back as the answer.
    touched(unsafe { guest_probe_load(addr) })
}

/// Stores `byte` at `addr`, where no Rust object may live.
pub fn store(addr: usize, byte: u8) -> Touch {
    // SAFETY: callers store to memory that they mapped, or that must refuse the store.
    touched(unsafe { guest_probe_store(addr, byte) })
}

/// Loads the word at `addr`, a multiple of 8.
pub fn load_word(addr: usize) -> Result<u64, Fault> {
    let mut word = 0;
    // SAFETY: as [`load`]; the word goes to a local variable.
    match unsafe { guest_probe_load_word(addr, &raw mut word) } {
        0 => Ok(word),
        _ => Err(last()),
    }
}

/// Stores `word` at `addr`, a multiple of 8, where no Rust object may live.
pub fn store_word(addr: usize, word: u64) -> Result<(), Fault> {
    // SAFETY: as [`store`].
    match unsafe { guest_probe_store_word(addr, word) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Calls the code at `addr`: at most 16 bytes that end in `ret` or fault, or an address that must not run.
pub fn exec(addr: usize) -> Touch {
    NOTES.with(|notes| notes.exec_target.set(addr));
    // SAFETY: callers placed a `ret` there, or the fetch faults and comes back as the answer.
    let answer = unsafe { guest_probe_exec(addr) };
    NOTES.with(|notes| notes.exec_target.set(0));
    touched(answer)
}

extern "C" fn run<F: FnOnce()>(slot: *mut c_void) {
    // SAFETY: `guarded` below passes a pointer to its own live `Option<F>`.
    let slot = unsafe { &mut *slot.cast::<Option<F>>() };
    if let Some(f) = slot.take() {
        f();
    }
}

/// Runs `f`; a fault in it ends it and is returned.
pub fn guarded<F: FnOnce()>(f: F) -> Result<(), Fault> {
    let mut slot = Some(f);
    NOTES.with(|notes| {
        let outer = notes.escape_rsp.get();
        // SAFETY: `run::<F>` matches the slot; the escape returns here with the callee-saved registers that
        // the assembly pushed, which are on this stack below us as long as the call lasts.
        let escaped = unsafe { guest_guarded(run::<F>, (&raw mut slot).cast(), notes.escape_rsp.as_ptr()) };
        notes.escape_rsp.set(outer);
        if escaped == 0 { Ok(()) } else { Err(last()) }
    })
}
