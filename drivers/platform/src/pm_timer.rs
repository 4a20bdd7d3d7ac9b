//! The ACPI power-management timer: 3.579545 MHz, 24 bits that always count (ACPI 6.5, 4.8.3.3).

use x86_64::instructions::port::PortReadOnly;

/// Ticks a second.
pub const HZ: u64 = 3_579_545;

/// The timer at an I/O port.
#[derive(Clone, Copy)]
pub struct PmTimer {
    port: u16,
}

impl PmTimer {
    /// The timer at `port`, as the FADT names it; `None` for port 0.
    pub fn at(port: u16) -> Option<PmTimer> {
        (port != 0).then_some(PmTimer { port })
    }

    /// The counter's low 24 bits.
    pub fn read(self) -> u32 {
        // SAFETY: the FADT says that the PM timer is here, and reading it changes nothing.
        let value: u32 = unsafe { PortReadOnly::new(self.port).read() };
        value & 0xff_ffff
    }
}
