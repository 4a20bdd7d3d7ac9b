//! What this CPU can do, and switching the protections on.

use alloc::vec::Vec;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU8, Ordering};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Efer;

/// 1 when SMAP is on: `trap.s` opens and closes it around copies.
#[unsafe(export_name = "smap_is_on")]
static SMAP_IS_ON: AtomicU8 = AtomicU8::new(0);

/// Features that the kernel uses where they exist.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// EFER.NXE is on: pages can be non-executable.
    pub no_execute: bool,
    /// 1 GiB pages.
    pub gigabyte_pages: bool,
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// sgdt, sidt, sldt, smsw and str are the kernel's.
    pub umip: bool,
    /// XSAVE, with or without AVX behind it.
    pub xsave: bool,
    /// The TSC runs at one rate, whatever the CPU does.
    pub invariant_tsc: bool,
    /// RDRAND.
    pub rdrand: bool,
    /// Bits of a physical address.
    pub physical_address_bits: u32,
}

/// The bits of a CPUID leaf as (eax, ebx, ecx, edx), zeros where the CPU has no such leaf.
fn leaf(number: u32) -> [u32; 4] {
    if __cpuid(number & 0x8000_0000).eax < number {
        return [0; 4];
    }
    let answer = __cpuid_count(number, 0);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

impl Features {
    /// Asks the CPU (SDM 2A, CPUID; leaves 1, 7.0, 0x80000001, 0x80000007, 0x80000008).
    pub fn detect() -> Features {
        let [_, _, ecx1, _] = leaf(1);
        let [_, ebx7, ecx7, _] = leaf(7);
        let [_, _, _, extended_edx] = leaf(0x8000_0001);
        let [_, _, _, power_edx] = leaf(0x8000_0007);
        let [address_bits, ..] = leaf(0x8000_0008);
        Features {
            // entry.s has set it where the CPU has it.
            no_execute: Efer::read_raw() & 1 << 11 != 0,
            gigabyte_pages: extended_edx & 1 << 26 != 0,
            smep: ebx7 & 1 << 7 != 0,
            smap: ebx7 & 1 << 20 != 0,
            umip: ecx7 & 1 << 2 != 0,
            xsave: ecx1 & 1 << 26 != 0,
            invariant_tsc: power_edx & 1 << 8 != 0,
            rdrand: ecx1 & 1 << 30 != 0,
            physical_address_bits: if address_bits == 0 { 36 } else { address_bits & 0xff },
        }
    }

    /// Names what this CPU lacks, in one line of the log.
    pub fn log_missing(&self) {
        let table = [
            (self.no_execute, "NX"),
            (self.smep, "SMEP"),
            (self.smap, "SMAP"),
            (self.umip, "UMIP"),
            (self.xsave, "XSAVE"),
            (self.gigabyte_pages, "1 GiB pages"),
            (self.rdrand, "RDRAND"),
        ];
        let missing: Vec<_> = table.iter().filter(|(there, _)| !there).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            log::warn!("cpu: no {}: going on without", missing.join(", "));
        }
    }

    /// Switches on what there is. SMAP needs the final page tables: the early ones have no user pages either.
    pub fn enable(&self) {
        let mut cr4 = Cr4Flags::PAGE_GLOBAL | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
        cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, self.smep);
        cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, self.smap);
        cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, self.umip);
        cr4.set(Cr4Flags::OSXSAVE, self.xsave);
        // Without it a machine check (a poisoned line of an NVDIMM) shuts the CPU down in silence.
        cr4.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, leaf(1)[3] & 1 << 7 != 0);
        // SAFETY: each bit is set only where CPUID says that the CPU knows it; none changes what the running
        // code may do but SMEP and SMAP, and no page that it uses is a user page.
        unsafe {
            Cr4::update(|flags| flags.insert(cr4));
            // A program that sets AC gets its SIGBUS, as on Linux.
            // Native x87 errors, no emulation, no lazy switching: the kernel never touches the FPU.
            Cr0::update(|flags| {
                flags.insert(
                    Cr0Flags::ALIGNMENT_MASK
                        | Cr0Flags::MONITOR_COPROCESSOR
                        | Cr0Flags::NUMERIC_ERROR
                        | Cr0Flags::WRITE_PROTECT,
                );
                flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            });
        }
        SMAP_IS_ON.store(u8::from(self.smap), Ordering::Relaxed);
    }
}
