//! The legacy interrupt controllers, silenced.

use x86_64::instructions::port::PortWriteOnly;

/// Masks every line of both 8259s: SeaBIOS leaves IRQ 0 unmasked at vector 8, the double fault's.
pub fn mask_all() {
    // SAFETY: 0x21 and 0xa1 are the mask registers of the PC's two PICs; where a machine has none, the
    // writes go nowhere. All ones masks every line.
    unsafe {
        PortWriteOnly::<u8>::new(0x21).write(0xff);
        PortWriteOnly::<u8>::new(0xa1).write(0xff);
    }
}
