//! The program's stdout and stderr and the kernel's status, byte for byte, through QEMU's debug ports.
//!
//! `isa-debugcon` devices: 0xe9 stdout, 0xea stderr, 0xeb status. A port that has one reads back its own
//! number; without it output goes to COM1, so that a plain QEMU line still shows everything.

use crate::serial;
use core::sync::atomic::{AtomicU8, Ordering};
use mm::lock::{Rank, SpinLock};
use x86_64::instructions::port::PortReadOnly;

/// The three ports; the discriminant is the port number and what it reads back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    Stdout = 0xe9,
    Stderr = 0xea,
    Status = 0xeb,
}

/// Bit n: port 0xe9 + n answered.
static PRESENT: AtomicU8 = AtomicU8::new(0);

/// Held while a program's bytes go out, so that those of two CPUs do not mix. Not for the status: a panic writes it too.
static WRITING: SpinLock<()> = SpinLock::new(Rank::Log, ());

/// Finds out which ports have a debugcon.
pub fn init() {
    let mut present = 0;
    for (bit, channel) in [Channel::Stdout, Channel::Stderr, Channel::Status].into_iter().enumerate() {
        let port = channel as u16;
        // SAFETY: reading these ports has no side effect; no PC device lives there.
        let answer: u8 = unsafe { PortReadOnly::new(port).read() };
        if u16::from(answer) == port {
            present |= 1 << bit;
        }
    }
    PRESENT.store(present, Ordering::Relaxed);
}

/// Writes to the program's stdout.
pub fn stdout(bytes: &[u8]) {
    let _whole = WRITING.lock();
    write(Channel::Stdout, bytes);
}

/// Writes to the program's stderr.
pub fn stderr(bytes: &[u8]) {
    let _whole = WRITING.lock();
    write(Channel::Stderr, bytes);
}

/// Writes to the status channel, if there is one: the log says the same in words.
pub fn status(bytes: &[u8]) {
    if present(Channel::Status) {
        write(Channel::Status, bytes);
    }
}

fn present(channel: Channel) -> bool {
    PRESENT.load(Ordering::Relaxed) & (1 << (channel as u8 - Channel::Stdout as u8)) != 0
}

fn write(channel: Channel, bytes: &[u8]) {
    if !present(channel) {
        return serial::write(bytes);
    }
    // SAFETY: 1. the port has a debugcon, which takes any byte at any time;
    // 2. `rep outsb` reads exactly `bytes.len()` bytes from `bytes`.
    unsafe {
        core::arch::asm!(
            "rep outsb",
            in("dx") channel as u16,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(nostack, readonly, preserves_flags)
        );
    }
}
