//! COM1, the kernel's log.

use spin::Mutex;
use uart_16550::{Config, Uart16550, backend::PioBackend};

/// I/O port of COM1 on every PC.
const COM1: u16 = 0x3f8;

static UART: Mutex<Option<Uart16550<PioBackend>>> = Mutex::new(None);

/// Sets COM1 up (115200 8N1). Without a UART there, [`write()`] drops what it is given.
pub fn init() {
    // SAFETY: ports 0x3f8-0x3ff are COM1's by PC convention; nobody else in this kernel touches them.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(COM1) }) else { return };
    if uart.init(Config::default()).is_ok() {
        *UART.lock() = Some(uart);
    }
}

/// Writes bytes; waits for the transmitter.
pub fn write(bytes: &[u8]) {
    if let Some(uart) = UART.lock().as_mut() {
        uart.send_bytes_exact(bytes);
    }
}

/// Waits until nobody writes, for a few milliseconds at most.
pub fn wait_for_line() {
    for _ in 0..100_000 {
        if !UART.is_locked() {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Writes bytes from a panic: takes the UART even from a holder that will never run again.
///
/// # Safety
/// Nothing else runs on any CPU any more.
pub unsafe fn write_at_panic(bytes: &[u8]) {
    if UART.is_locked() {
        // SAFETY: the holder is the code that panicked (caller's promise), and it does not come back.
        unsafe { UART.force_unlock() };
    }
    write(bytes);
}
