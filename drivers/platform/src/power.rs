//! The way out: soft-off, and what is left when that does not work.

use x86_64::instructions::port::{Port, PortWriteOnly};

/// Where and what to write for soft-off (ACPI 6.5, 4.8.3.2.1: PM1_CNT, SLP_TYP and SLP_EN).
#[derive(Clone, Copy, Debug)]
pub struct SoftOff {
    /// I/O port of PM1a_CNT.
    pub pm1a_control: u16,
    /// I/O port of PM1b_CNT, 0 without one.
    pub pm1b_control: u16,
    /// SLP_TYPa of the `\_S5` package.
    pub sleep_type: u8,
}

/// QEMU q35 and pc, where the tables could not be read: PM1a_CNT at 0x604 (firmware's choice), type 0.
pub const QEMU_DEFAULT: SoftOff = SoftOff { pm1a_control: 0x604, pm1b_control: 0, sleep_type: 0 };

/// Finds SLP_TYPa in the DSDT by its bytes: `08 5F 53 35 5F` (Name(_S5_)) or with a root prefix, then a
/// package whose first element is the value. Loading the AML costs a million instructions; this costs a scan.
pub fn sleep_type_of_s5(dsdt: &[u8]) -> Option<u8> {
    let at = dsdt.windows(4).position(|window| window == b"_S5_")?;
    // PackageOp, PkgLength (its top two bits count further bytes), NumElements, then the first element.
    let package = dsdt.get(at + 4..)?;
    if *package.first()? != 0x12 {
        return None;
    }
    let length_bytes = 1 + usize::from(*package.get(1)? >> 6);
    let element = package.get(1 + length_bytes + 1..)?;
    match *element.first()? {
        0x0a => element.get(1).copied(), // BytePrefix
        small @ (0 | 1) => Some(small),  // ZeroOp, OneOp
        _ => None,
    }
}

/// Ends the machine: soft-off, and a triple fault if the machine is still there a moment later.
pub fn off(how: SoftOff) -> ! {
    const SLP_EN: u16 = 1 << 13;
    let value = (u16::from(how.sleep_type) << 10) | SLP_EN;
    for port in [how.pm1a_control, how.pm1b_control].into_iter().filter(|&port| port != 0) {
        // SAFETY: the FADT says that this is a PM1 control register; turning the machine off is the purpose.
        unsafe { PortWriteOnly::<u16>::new(port).write(value) };
    }
    for _ in 0..1_000_000 {
        core::hint::spin_loop();
    }
    triple_fault()
}

/// Ends the machine as failed: QEMU's isa-debug-exit where there is one (status 99), else soft-off.
pub fn fail(how: SoftOff) -> ! {
    // SAFETY: port 0xf4 is isa-debug-exit's usual place; nothing else lives there on a PC.
    unsafe { Port::<u8>::new(0xf4).write(0x31) };
    off(how)
}

/// Resets the CPU by a fault that it cannot deliver; with `-no-reboot` that ends QEMU.
pub fn triple_fault() -> ! {
    let empty = x86_64::structures::DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: from here on nothing but the reset is wanted; an empty IDT makes the next exception fatal.
    unsafe {
        x86_64::instructions::tables::lidt(&empty);
        core::arch::asm!("ud2", options(noreturn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_of_real_tables_is_found() {
        // QEMU: Name (_S5, Package () { Zero, Zero, Zero, Zero })
        let qemu = b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00";
        assert_eq!(sleep_type_of_s5(qemu), Some(0));
        let with_byte_prefix = b"\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00";
        assert_eq!(sleep_type_of_s5(with_byte_prefix), Some(5));
        let long_length = b"\x08_S5_\x12\x40\x01\x04\x01\x00";
        assert_eq!(sleep_type_of_s5(long_length), Some(1));
    }

    #[test]
    fn cut_or_foreign_bytes_give_none() {
        let whole = b"\x08_S5_\x12\x07\x04\x0a\x05";
        for len in 0..whole.len() {
            assert_eq!(sleep_type_of_s5(&whole[..len]), None);
        }
        assert_eq!(sleep_type_of_s5(b"_S5_\x10\x07\x04\x0a\x05"), None);
    }
}
