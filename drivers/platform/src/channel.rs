//! The program's stdout and stderr and the kernel's status, byte for byte, through QEMU's debug ports.
//!
//! `isa-debugcon` devices: 0xe9 stdout, 0xea stderr, 0xeb status. A port that has one reads back its own
//! number; without it output goes to COM1, so that a plain QEMU line still shows everything.

use crate::serial;
use core::sync::atomic::{AtomicU8, Ordering};
use mm::lock::{Rank, SpinLock};
use x86_64::instructions::port::PortReadOnly;

/// The three ports, one behind the other.
const STDOUT: u16 = 0xe9;
const STDERR: u16 = 0xea;
const STATUS: u16 = 0xeb;

/// Bit n: port STDOUT + n answered.
static PRESENT: AtomicU8 = AtomicU8::new(0);

/// Held while a program's bytes go out, so that those of two CPUs do not mix. Not for the status: a panic writes it too.
static WRITING: SpinLock<()> = SpinLock::new(Rank::Log, ());

/// Finds out which ports have a debugcon.
pub fn init() {
    let mut present = 0;
    for port in STDOUT..=STATUS {
        // SAFETY: reading these ports has no side effect; no PC device lives there.
        let answer: u8 = unsafe { PortReadOnly::new(port).read() };
        present |= u8::from(u16::from(answer) == port) << (port - STDOUT);
    }
    PRESENT.store(present, Ordering::Relaxed);
}

/// Writes to the program's stdout.
pub fn stdout(bytes: &[u8]) {
    let _whole = WRITING.lock();
    write(STDOUT, bytes);
}

/// Writes to the program's stderr.
pub fn stderr(bytes: &[u8]) {
    let _whole = WRITING.lock();
    write(STDERR, bytes);
}

/// Writes to the status channel, if there is one: the log says the same in words.
pub fn status(bytes: &[u8]) {
    if present(STATUS) {
        write(STATUS, bytes);
    }
}

fn present(port: u16) -> bool {
    PRESENT.load(Ordering::Relaxed) & (1 << (port - STDOUT)) != 0
}

fn write(port: u16, bytes: &[u8]) {
    if !present(port) {
        return serial::write(bytes);
    }
    // SAFETY: 1. the port has a debugcon, which takes any byte at any time;
    // 2. `rep outsb` reads exactly `bytes.len()` bytes from `bytes`.
    unsafe {
        core::arch::asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(nostack, readonly, preserves_flags)
        );
    }
}
