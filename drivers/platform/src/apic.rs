//! The local APIC: interrupts between CPUs, and a timer (Intel SDM 3A, chapter 10).
//!
//! Registers are in memory (xAPIC), or MSRs where firmware left the APIC in x2APIC mode or an id needs more than
//! eight bits. x2APIC mode is by the manual only: no accelerator that this was tested with has it.

use core::arch::x86_64::__cpuid;
use x86_64::registers::model_specific::Msr;

const APIC_BASE: u32 = 0x1b;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;

/// Registers, as offsets in memory; an x2APIC has them in MSR 0x800 + offset / 16.
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS_VECTOR: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

const SOFTWARE_ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_16: u32 = 3;
const DELIVERY_PENDING: u32 = 1 << 12;
/// Delivery modes and marks of the command register.
const FIXED: u32 = 0;
const NMI: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const ALL_BUT_SELF: u32 = 3 << 18;

/// How this machine's local APICs are reached; each CPU reaches its own.
#[derive(Clone, Copy, Debug)]
pub struct Apic {
    /// Kernel address of the registers; `None` in x2APIC mode.
    registers: Option<u64>,
}

/// Physical address of the registers of this CPU's local APIC, one page; `None` where there is no enabled one.
pub fn physical_base() -> Option<u64> {
    let has_apic = __cpuid(1).edx & 1 << 9 != 0;
    // SAFETY: the MSR is there when CPUID lists an APIC, and reading it changes nothing.
    let base =
        has_apic.then(|| unsafe { Msr::new(APIC_BASE).read() }).filter(|base| base & BASE_ENABLED != 0)?;
    Some(base & 0x000f_ffff_ffff_f000)
}

impl Apic {
    /// The APICs of a machine that has some; `wide_ids` says that an id needs more than eight bits. `None` when they
    /// do and the CPU has no x2APIC mode.
    ///
    /// # Safety
    /// `registers` is the kernel address of [`physical_base`], mapped writable and uncached for good.
    pub unsafe fn new(registers: u64, wide_ids: bool) -> Option<Apic> {
        // SAFETY: as in `physical_base`, which found the APIC.
        let is_x2apic = unsafe { Msr::new(APIC_BASE).read() } & BASE_X2APIC != 0;
        let can_x2apic = __cpuid(1).ecx & 1 << 21 != 0;
        match (is_x2apic, wide_ids) {
            (true, _) => Some(Apic { registers: None }),
            (false, true) => can_x2apic.then_some(Apic { registers: None }),
            (false, false) => Some(Apic { registers: Some(registers) }),
        }
    }

    /// Switches this CPU's APIC on. The timer starts to count down from its maximum and interrupts nobody.
    pub fn enable(self, spurious_vector: u8) {
        if self.registers.is_none() {
            let mut base = Msr::new(APIC_BASE);
            // SAFETY: `new` has seen that the CPU has x2APIC mode; from xAPIC mode it is one step away.
            unsafe { base.write(base.read() | BASE_X2APIC) };
        }
        self.write(TASK_PRIORITY, 0);
        self.write(SPURIOUS_VECTOR, SOFTWARE_ENABLED | u32::from(spurious_vector));
        self.write(DIVIDE, DIVIDE_BY_16);
        self.write(LVT_TIMER, MASKED);
        self.write(INITIAL_COUNT, u32::MAX);
    }

    /// The id of this CPU's APIC.
    pub fn id(self) -> u32 {
        let id = self.read(ID);
        if self.registers.is_some() { id >> 24 } else { id }
    }

    /// Ends the interrupt that this CPU serves.
    #[inline]
    pub fn end_of_interrupt(self) {
        self.write(END_OF_INTERRUPT, 0);
    }

    /// Interrupts another CPU with this vector.
    pub fn interrupt(self, id: u32, vector: u8) {
        self.command(id, FIXED | ASSERT | u32::from(vector));
    }

    /// Resets another CPU: it waits for [`Apic::start_up`].
    pub fn init(self, id: u32) {
        self.command(id, INIT | ASSERT);
    }

    /// Starts a CPU that waits at the beginning of a page of the first MiB, in real mode.
    pub fn start_up(self, id: u32, page_number: u8) {
        self.command(id, STARTUP | ASSERT | u32::from(page_number));
    }

    /// Sends an NMI to all other CPUs.
    pub fn nmi_to_others(self) {
        self.command(0, NMI | ASSERT | ALL_BUT_SELF);
    }

    /// Interrupts this CPU with `vector` when the timer has counted `ticks` down; an earlier order is forgotten.
    pub fn set_timer(self, ticks: u32, vector: u8) {
        self.write(LVT_TIMER, u32::from(vector));
        self.write(INITIAL_COUNT, ticks);
    }

    /// What the timer has still to count.
    pub fn timer_left(self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    fn command(self, id: u32, command: u32) {
        match self.registers {
            None => {
                // SAFETY: fences and an MSR that x2APIC mode has. Its write orders nothing by itself (SDM 3A,
                // 10.12.3), but what was written before must be seen by whoever is interrupted.
                unsafe {
                    core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
                    Msr::new(0x800 + (COMMAND >> 4)).write(u64::from(id) << 32 | u64::from(command));
                }
            }
            Some(_) => {
                while self.read(COMMAND) & DELIVERY_PENDING != 0 {
                    core::hint::spin_loop();
                }
                self.write(COMMAND_HIGH, id << 24);
                self.write(COMMAND, command);
            }
        }
    }

    fn read(self, register: u32) -> u32 {
        match self.registers {
            // SAFETY: `new`'s caller has mapped the registers.
            Some(base) => unsafe { ((base + u64::from(register)) as *const u32).read_volatile() },
            // SAFETY: x2APIC mode has this MSR, and reading it changes nothing.
            None => unsafe { Msr::new(0x800 + (register >> 4)).read() as u32 },
        }
    }

    #[inline]
    fn write(self, register: u32, value: u32) {
        match self.registers {
            // SAFETY: `new`'s caller has mapped the registers; all that is written here is by the manual.
            Some(base) => unsafe { ((base + u64::from(register)) as *mut u32).write_volatile(value) },
            // SAFETY: x2APIC mode has this MSR.
            None => unsafe { Msr::new(0x800 + (register >> 4)).write(value.into()) },
        }
    }
}
