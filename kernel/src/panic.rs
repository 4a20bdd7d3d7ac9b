//! The end of a kernel that cannot go on: says why and where, fails the machine, never hangs.
//!
//! The launcher turns the backtrace's addresses into names and lines.

use crate::arch::{interrupts, paging, percpu, stack};
use crate::log::Line;
use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};
use entry::KERNEL_BASE;
use platform::{channel, power, serial};
use spin::Once;

static POWER: Once<power::SoftOff> = Once::new();
/// The number of the CPU that panics, plus 1.
static PANICKING: AtomicUsize = AtomicUsize::new(0);

/// Remembers how to turn the machine off.
pub fn set_power(how: power::SoftOff) {
    POWER.call_once(|| how);
}

fn power() -> power::SoftOff {
    POWER.get().copied().unwrap_or(power::QEMU_DEFAULT)
}

/// Ends the machine in order; the status channel has been told already.
pub fn power_off() -> ! {
    power::off(power())
}

/// Ends the machine because of something from outside that the kernel cannot work with.
pub fn fail(reason: Arguments<'_>) -> ! {
    be_the_only_one();
    // Whatever the log level: it is the only explanation there will be.
    line(3, reason);
    tell_status(reason);
    power::fail(power())
}

/// Prints the panic and the calls that led to it, and ends the machine.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    be_the_only_one();
    let message = info.message();
    match info.location() {
        Some(place) => line(0, format_args!("panic: {message} at {place}")),
        None => line(0, format_args!("panic: {message}")),
    }
    for (number, address) in return_addresses().enumerate() {
        line(0, format_args!(" #{number} {address:#018x}"));
    }
    tell_status(format_args!("panic: {message}"));
    power::fail(power())
}

/// Stops all other CPUs, so that one message arrives whole. They may be in the middle of a line of the log: it gets a
/// moment to end.
fn be_the_only_one() {
    mm::checks::stop();
    let this = percpu::number_if_any() + 1;
    match PANICKING.compare_exchange(0, this, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        // A panic in this very file: there is nothing left that could be trusted to print.
        Err(panicking) if panicking == this => power::triple_fault(),
        Err(_) => halt(),
    }
    if percpu::online().count_ones() > 1
        && let Some(apic) = interrupts::apic()
    {
        serial::wait_for_line();
        apic.nmi_to_others();
    }
}

/// Stops this CPU when another one panics: what an NMI is for.
pub fn stop_if_panicking() {
    if PANICKING.load(Ordering::SeqCst) != 0 {
        halt();
    }
}

fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

fn line(level: u8, text: Arguments<'_>) {
    // SAFETY: the other CPUs are stopped, interrupts are off, and this code does not return to whoever held the UART.
    let mut line = Line::new(|bytes| unsafe { serial::write_at_panic(bytes) });
    let _ = line.start(level).and_then(|()| line.write_fmt(text));
    line.end();
}

fn tell_status(reason: Arguments<'_>) {
    let mut line = Line::new(channel::status);
    let _ = write!(line, "fail {reason}");
    line.end();
}

/// What looks like a return address on this stack, innermost first: frame pointers would cost every fault a dozen
/// instructions, so old calls may show among the real ones.
fn return_addresses() -> impl Iterator<Item = u64> {
    let here: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    // A stack is in the area of its own or in the image's .bss, and a page boundary never cuts a word.
    let end = stack::end_of(here).unwrap_or(KERNEL_BASE + paging::kernel_image().end());
    let stack = (here..end).step_by(8).take(SCANNED_WORDS);
    // SAFETY: from rsp up to the end everything is mapped: the guard pages lie below stacks, and a scan of the image ends
    // with the boot stack's top or the first guard page.
    let words = stack.take_while(|&at| !paging::is_guard(at)).map(|at| unsafe { (at as *const u64).read() });
    words.filter(|&word| follows_call(word)).take(32)
}

/// Words of the stack that are looked through: 16 KiB.
const SCANNED_WORDS: usize = 2048;

/// Is this the address behind a call instruction of the kernel (E8 rel32, or FF /2 with its shortest forms)?
fn follows_call(address: u64) -> bool {
    let text = paging::kernel_text();
    if !(text.start + 7..text.end).contains(&address) {
        return false;
    }
    // SAFETY: .text is mapped readable, and at least 7 bytes of it lie before the address.
    let before = unsafe { core::slice::from_raw_parts((address - 7) as *const u8, 7) };
    let indirect = |len: usize| before[7 - len] == 0xff && before[8 - len] & 0x38 == 0x10;
    before[2] == 0xe8 || [2, 3, 6, 7].into_iter().any(indirect)
}
