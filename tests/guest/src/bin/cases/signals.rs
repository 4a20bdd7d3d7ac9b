//! Signals: what siginfo says, what handlers may do, masks and the alternate stack.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};

use guest::ensure;
use guest::fault::{self, Fault, Touch};
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, ANON, Errno, PAGE, RW};
use libc::{PROT_NONE, PROT_READ, SIGSEGV, SIGUSR1, SIGUSR2};

use crate::files::own_program;
use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("siginfo and error code tell the access", |_| siginfo()),
    ("SIGBUS behind a file's end tells the address", |_| sigbus_info()),
    ("SIGBUS behind a device's end tells the address", dax_sigbus_info),
    ("instructions that trap raise their signals", |_| traps()),
    ("a handler that calls mprotect and returns retries the access", |_| retry()),
    ("the handled signal and sa_mask are blocked in the handler only", |_| masks()),
    ("SA_NODEFER and SA_RESETHAND do as they say", |_| flags()),
    ("tgkill runs the handler with SI_TKILL", |_| tgkill()),
    ("a blocked signal waits, an ignored one is dropped", |_| pending()),
    ("a handler may fault into another handler", |_| nested()),
    ("the alternate stack is used and told", |_| alternate_stack()),
    ("sigaction, sigprocmask and sigaltstack refuse bad arguments", |_| refusals()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("signals", CASES)
}

fn faulted(what: &str, touch: Touch) -> Result<Fault, String> {
    match touch {
        Touch::Faulted(fault) => Ok(fault),
        Touch::Done(_) => Err(format!("{what} worked")),
    }
}

fn anonymous(len: usize, prot: i32) -> Result<Mapping, String> {
    Mapping::new(0, len, prot, ANON, -1, 0).map_err(|errno| format!("mmap: {errno}"))
}

fn siginfo() -> Outcome {
    let read_only = anonymous(PAGE, PROT_READ)?;
    read_only.load(0);
    let none = anonymous(PAGE, PROT_NONE)?;
    // Made last: a later mapping would be put into the hole.
    let around = anonymous(3 * PAGE, RW)?;
    let hole = around.addr + PAGE;
    sys::munmap(hole, PAGE).map_err(|errno| format!("munmap: {errno}"))?;
    // Error code: 1 the page is there, 2 write, 4 user, 16 instruction fetch (SDM vol. 3, 4.7).
    let cases = [
        ("load from a hole", fault::load(hole + 5), "SIGSEGV/MAPERR", hole + 5, 4),
        ("store to a hole", fault::store(hole + 9, 0), "SIGSEGV/MAPERR", hole + 9, 6),
        ("load from NULL", fault::load(0), "SIGSEGV/MAPERR", 0, 4),
        ("store to read-only", read_only.store(7, 0), "SIGSEGV/ACCERR", read_only.addr + 7, 7),
        ("load from PROT_NONE", none.load(3), "SIGSEGV/ACCERR", none.addr + 3, 4),
        ("call of read-only", fault::exec(read_only.addr), "SIGSEGV/ACCERR", read_only.addr, 21),
        ("call of a hole", fault::exec(hole), "SIGSEGV/MAPERR", hole, 20),
    ];
    for (what, touch, name, addr, error) in cases {
        let fault = faulted(what, touch)?;
        ensure!(touch.to_string() == name, "{what}: {touch}, not {name}");
        ensure!(fault.addr == addr, "{what}: si_addr {:#x}, not {addr:#x}", fault.addr);
        ensure!(fault.cr2 == addr as u64 && fault.vector == 14, "{what}: {fault:x?}");
        ensure!(fault.error == error, "{what}: error code {}, not {error}", fault.error);
    }
    Ok(())
}

fn sigbus_info() -> Outcome {
    let fd = own_program()?;
    let size = sys::fstat(fd).map_err(|errno| format!("fstat: {errno}"))?.st_size as usize;
    let past = size.next_multiple_of(PAGE);
    let mapping = Mapping::new(0, past + PAGE, PROT_READ, libc::MAP_PRIVATE, fd, 0)
        .map_err(|errno| format!("mmap: {errno}"))?;
    let _ = sys::close(fd);
    let fault = faulted("load", mapping.load(past + 77))?;
    ensure!(fault.to_string() == "SIGBUS/ADRERR", "load: {fault}");
    ensure!(fault.addr == mapping.addr + past + 77, "si_addr {:#x}", fault.addr);
    Ok(())
}

fn dax_sigbus_info(context: &Context) -> Outcome {
    let Ok(device) = context.device() else { return Ok(()) };
    let mapping =
        device.map(2 * device.align, device.size - device.align).map_err(|errno| format!("mmap: {errno}"))?;
    for at in [device.align, device.align * 3 / 2 + 1, 2 * device.align - 1] {
        for touch in [mapping.load(at), mapping.store(at, 1)] {
            let fault = faulted("the touch", touch)?;
            ensure!(fault.to_string() == "SIGBUS/ADRERR", "byte {at:#x}: {fault}");
            ensure!(fault.addr == mapping.addr + at, "byte {at:#x}: si_addr {:#x}", fault.addr);
        }
    }
    Ok(())
}

fn traps() -> Outcome {
    let code = anonymous(PAGE, RW)?;
    let div_by_zero = [0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1, 0xc3]; // xor edx,edx; xor ecx,ecx; div ecx; ret
    let cases: &[(&str, &[u8], i32, i32)] = &[
        ("ud2", &[0x0f, 0x0b], libc::SIGILL, 2),
        ("div by 0", &div_by_zero, libc::SIGFPE, 1),
        ("int3", &[0xcc, 0xc3], libc::SIGTRAP, 0x80),
        ("hlt", &[0xf4, 0xc3], SIGSEGV, 0x80),
        ("cli", &[0xfa, 0xc3], SIGSEGV, 0x80),
        ("in al, dx", &[0xec, 0xc3], SIGSEGV, 0x80),
        ("mov cr3, rax", &[0x0f, 0x22, 0xd8, 0xc3], SIGSEGV, 0x80),
        ("wrmsr", &[0x0f, 0x30, 0xc3], SIGSEGV, 0x80),
        ("int 0x42", &[0xcd, 0x42, 0xc3], SIGSEGV, 0x80),
    ];
    for &(what, bytes, signal, si_code) in cases {
        let _ = sys::mprotect(code.addr, PAGE, RW);
        for (at, byte) in bytes.iter().enumerate() {
            code.store(at, *byte);
        }
        let _ = sys::mprotect(code.addr, PAGE, PROT_READ | libc::PROT_EXEC);
        let fault = faulted(what, fault::exec(code.addr))?;
        let found = (fault.signal, fault.code);
        ensure!(found == (signal, si_code), "{what}: signal, code {found:?}, not {:?}", (signal, si_code));
    }
    Ok(())
}

static TARGET: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicI32 = AtomicI32::new(0);

extern "C" fn open_page(signal: i32, info: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    fault::record(signal, info, context);
    COUNT.fetch_add(1, Relaxed);
    let _ = sys::mprotect(TARGET.load(Relaxed), PAGE, RW);
}

fn retry() -> Outcome {
    let page = anonymous(PAGE, PROT_NONE)?;
    TARGET.store(page.addr, Relaxed);
    COUNT.store(0, Relaxed);
    fault::set_handler(SIGSEGV, open_page);
    let touches = [page.store(3, 0x77), page.load(3)];
    ensure!(touches == [Touch::Done(0), Touch::Done(0x77)], "after the handler: {touches:?}");
    ensure!(COUNT.load(Relaxed) == 1, "the handler ran {} times", COUNT.load(Relaxed));
    Ok(())
}

/// One bit a signal, as the kernel keeps a mask.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn change_mask(how: i32, set: Option<u64>) -> Result<u64, Errno> {
    let mut old = 0_u64;
    let new = set.as_ref().map_or(0, |set| set as *const u64 as usize);
    // SAFETY: both sets are eight bytes, as the last argument says.
    unsafe { sys::call(libc::SYS_rt_sigprocmask, [how as usize, new, &raw mut old as usize, 8, 0, 0]) }
        .map(|_| old)
}

fn mask_now() -> u64 {
    change_mask(libc::SIG_BLOCK, None).unwrap_or(u64::MAX)
}

fn raise(signal: i32) -> Result<usize, Errno> {
    let pid = sys::numbers(libc::SYS_getpid, &[])?;
    sys::numbers(libc::SYS_tgkill, &[pid, sys::numbers(libc::SYS_gettid, &[])?, signal as usize])
}

/// sigaction(2) with flags and a mask, through the C library for its restorer.
fn act(signal: i32, action: usize, flags: i32, blocked: &[i32]) {
    // SAFETY: an all-zero sigaction is a value; the handlers below have the signature of SA_SIGINFO.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = action;
        new.sa_flags = flags;
        for signal in blocked {
            libc::sigaddset(&raw mut new.sa_mask, *signal);
        }
        libc::sigaction(signal, &raw const new, std::ptr::null_mut());
    }
}

static MASK_LOW: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(signal: i32, info: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    fault::record(signal, info, context);
    COUNT.fetch_add(1, Relaxed);
    MASK_LOW.store(mask_now() as usize, Relaxed);
}

fn noted(signal: i32, flags: i32, blocked: &[i32]) {
    COUNT.store(0, Relaxed);
    act(signal, note as *const () as usize, flags | libc::SA_SIGINFO, blocked);
}

fn masks() -> Outcome {
    noted(SIGUSR1, 0, &[SIGUSR2]);
    let before = mask_now();
    ensure!(raise(SIGUSR1) == Ok(0) && COUNT.load(Relaxed) == 1, "ran {} times", COUNT.load(Relaxed));
    let inside = MASK_LOW.load(Relaxed) as u64;
    ensure!(inside == before | bit(SIGUSR1) | bit(SIGUSR2), "blocked in the handler: {inside:#x}");
    ensure!(mask_now() == before, "blocked afterwards: {:#x}", mask_now());
    Ok(())
}

fn flags() -> Outcome {
    noted(SIGUSR1, libc::SA_NODEFER, &[]);
    ensure!(raise(SIGUSR1) == Ok(0), "tgkill");
    let inside = MASK_LOW.load(Relaxed) as u64;
    ensure!(inside & bit(SIGUSR1) == 0, "SA_NODEFER blocked {inside:#x}");
    noted(SIGUSR1, libc::SA_RESETHAND, &[]);
    ensure!(raise(SIGUSR1) == Ok(0) && COUNT.load(Relaxed) == 1, "SA_RESETHAND: not run");
    // SAFETY: asks for the action only.
    let action = unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(SIGUSR1, std::ptr::null(), &raw mut old);
        old.sa_sigaction
    };
    ensure!(action == libc::SIG_DFL, "SA_RESETHAND left action {action:#x}");
    Ok(())
}

fn tgkill() -> Outcome {
    noted(SIGUSR1, 0, &[]);
    ensure!(raise(SIGUSR1) == Ok(0), "tgkill");
    let seen = fault::last();
    ensure!(
        (seen.signal, seen.code) == (SIGUSR1, libc::SI_TKILL),
        "signal {}, code {}",
        seen.signal,
        seen.code
    );
    ensure!(raise(0) == Ok(0), "signal 0 asks whether the thread is there");
    let answers = [raise(65), raise(-1), sys::numbers(libc::SYS_tgkill, &[0, 0, 10])];
    ensure!(answers == [Err(Errno(libc::EINVAL)); 3], "bad arguments: {answers:?}");
    let nobody = sys::numbers(libc::SYS_tgkill, &[0x3fff_fff0, 0x3fff_fff0, 10]);
    ensure!(nobody == Err(Errno(libc::ESRCH)), "a thread that is not: {nobody:?}");
    Ok(())
}

fn pending() -> Outcome {
    noted(SIGUSR2, 0, &[]);
    let answer = change_mask(libc::SIG_BLOCK, Some(bit(SIGUSR2)));
    ensure!(answer == Ok(0), "SIG_BLOCK: {answer:?}");
    ensure!(raise(SIGUSR2) == Ok(0) && raise(SIGUSR2) == Ok(0), "tgkill");
    ensure!(COUNT.load(Relaxed) == 0, "a blocked signal ran its handler");
    let answer = change_mask(libc::SIG_UNBLOCK, Some(bit(SIGUSR2)));
    ensure!(answer == Ok(bit(SIGUSR2)), "SIG_UNBLOCK: {answer:x?}");
    ensure!(COUNT.load(Relaxed) == 1, "two while blocked ran the handler {} times", COUNT.load(Relaxed));
    act(SIGUSR2, libc::SIG_IGN, 0, &[]);
    ensure!(raise(SIGUSR2) == Ok(0), "tgkill");
    ensure!(COUNT.load(Relaxed) == 1, "an ignored signal ran the handler");
    Ok(())
}

extern "C" fn touch_next(_: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    // Faults in turn, with SIGUSR1 blocked; the probe's own handler answers.
    let inner = fault::load(TARGET.load(Relaxed));
    COUNT.store(i32::from(!inner.is_done()), Relaxed);
    let _ = context;
}

fn nested() -> Outcome {
    let hole = anonymous(PAGE, PROT_NONE)?;
    TARGET.store(hole.addr, Relaxed);
    COUNT.store(-1, Relaxed);
    act(SIGUSR1, touch_next as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK, &[]);
    ensure!(raise(SIGUSR1) == Ok(0), "tgkill");
    ensure!(COUNT.load(Relaxed) == 1, "the fault inside the handler was not seen: {}", COUNT.load(Relaxed));
    Ok(())
}

fn current_stack() -> libc::stack_t {
    // SAFETY: asks only; all-zero is a value of the structure.
    unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &raw mut stack);
        stack
    }
}

extern "C" fn note_stack(_: i32, _: &libc::siginfo_t, _: &mut libc::ucontext_t) {
    let stack = current_stack();
    TARGET.store(&raw const stack as usize, Relaxed);
    // SAFETY: the same stack again, which must be refused while it is in use.
    let change = unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
    COUNT.store(if change == -1 { stack.ss_flags } else { -1 }, Relaxed);
}

fn alternate_stack() -> Outcome {
    let stack = current_stack();
    let range = stack.ss_sp as usize..stack.ss_sp as usize + stack.ss_size;
    ensure!(stack.ss_flags == 0, "not on it, but flags {}", stack.ss_flags);
    for (flags, is_inside) in [(libc::SA_ONSTACK, true), (0, false)] {
        act(SIGUSR1, note_stack as *const () as usize, libc::SA_SIGINFO | flags, &[]);
        ensure!(raise(SIGUSR1) == Ok(0), "tgkill");
        let at = TARGET.load(Relaxed);
        ensure!(range.contains(&at) == is_inside, "sa_flags {flags:#x}: ran at {at:#x}, stack {range:x?}");
        if is_inside {
            let told = COUNT.load(Relaxed);
            ensure!(told == libc::SS_ONSTACK, "in the handler: flags {told}, or a change was allowed");
        }
    }
    Ok(())
}

fn refusals() -> Outcome {
    let act = [0_usize; 4];
    let new = act.as_ptr() as usize;
    let set = [!0_u64; 2];
    let mask = set.as_ptr() as usize;
    let tiny = libc::stack_t { ss_sp: set.as_ptr() as *mut _, ss_flags: 0, ss_size: 100 };
    let odd = libc::stack_t { ss_sp: set.as_ptr() as *mut _, ss_flags: 77, ss_size: 1 << 16 };
    let cases = [
        ("sigaction of SIGKILL", libc::SYS_rt_sigaction, [libc::SIGKILL as usize, new, 0, 8], libc::EINVAL),
        ("sigaction of SIGSTOP", libc::SYS_rt_sigaction, [libc::SIGSTOP as usize, new, 0, 8], libc::EINVAL),
        ("sigaction of 0", libc::SYS_rt_sigaction, [0, new, 0, 8], libc::EINVAL),
        ("sigaction of 65", libc::SYS_rt_sigaction, [65, new, 0, 8], libc::EINVAL),
        ("sigaction with a set of 16", libc::SYS_rt_sigaction, [10, new, 0, 16], libc::EINVAL),
        ("sigprocmask how 9", libc::SYS_rt_sigprocmask, [9, mask, 0, 8], libc::EINVAL),
        ("sigprocmask with a set of 16", libc::SYS_rt_sigprocmask, [0, mask, 0, 16], libc::EINVAL),
        (
            "sigaltstack of 100 bytes",
            libc::SYS_sigaltstack,
            [&raw const tiny as usize, 0, 0, 0],
            libc::ENOMEM,
        ),
        ("sigaltstack flags 77", libc::SYS_sigaltstack, [&raw const odd as usize, 0, 0, 0], libc::EINVAL),
    ];
    for (what, number, [a, b, c, d], errno) in cases {
        // SAFETY: live structures; all are refused, and none is kept.
        let answer = unsafe { sys::call(number, [a, b, c, d, 0, 0]) };
        ensure!(answer == Err(Errno(errno)), "{what}: {answer:?}, not {}", Errno(errno));
    }
    ensure!(change_mask(libc::SIG_SETMASK, Some(!0)).is_ok(), "SIG_SETMASK of everything");
    let blocked = mask_now();
    let never = bit(libc::SIGKILL) | bit(libc::SIGSTOP);
    ensure!(blocked == !never, "SIGKILL and SIGSTOP cannot be blocked: {blocked:#x}");
    Ok(())
}
