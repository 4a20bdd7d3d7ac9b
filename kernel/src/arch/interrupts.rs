//! Interrupts: the vectors, and this machine's local APICs.
//!
//! A machine without an APIC has one CPU and no timer: its tasks run until they wait, and idling means to look at
//! the clock.

use super::percpu::Cpu;
use crate::clock;
use core::sync::atomic::{AtomicU64, Ordering};
use entry::PHYSMAP_BASE;
use platform::acpi::Cpus;
use platform::apic::{self, Apic};
use spin::Once;

/// To be ignored (SDM 3A, 10.9).
pub const SPURIOUS: u8 = 0xff;
/// Look at the attention word, the run queue and the timer.
pub const RESCHEDULE: u8 = 0xfd;
/// Flush translations.
pub const SHOOTDOWN: u8 = 0xfc;
/// The timer has counted down.
pub const TIMER: u8 = 0xfb;

static APIC: Once<Apic> = Once::new();
/// When the boot CPU's timer began to count, by the TSC.
static TIMER_START: AtomicU64 = AtomicU64::new(0);
/// Ticks of the timer in 2^32 ns; 0 until it is known.
static TIMER_RATE: AtomicU64 = AtomicU64::new(0);

/// Switches the boot CPU's APIC on, whose registers the physmap shows. `cpus` is what the MADT lists.
pub fn init(cpus: Option<&Cpus>) {
    let Some(base) = apic::physical_base() else { return };
    if let Some(cpus) = cpus.filter(|cpus| cpus.apic_base != base) {
        log::warn!("apic: at {base:#x}, says the CPU, and not at {:#x}, as the MADT says", cpus.apic_base);
    }
    let wide_ids = cpus.is_some_and(|cpus| cpus.apic_ids.iter().any(|&id| id > 254));
    // SAFETY: boot has mapped the page for this, uncached (`boot::page_tables`).
    match unsafe { Apic::new(PHYSMAP_BASE + base, wide_ids) } {
        Some(apic) => {
            APIC.call_once(|| apic).enable(SPURIOUS);
            Cpu::this().set_apic_id(apic.id());
            TIMER_START.store(clock::tsc(), Ordering::Relaxed);
        }
        None => {
            log::warn!("apic: ids of more than 8 bits, and this CPU has no x2APIC mode: no timer, one CPU")
        }
    }
}

/// The local APICs, where there are any.
#[inline]
pub fn apic() -> Option<Apic> {
    APIC.get().copied()
}

/// Interrupts another CPU.
pub fn send(cpu: &Cpu, vector: u8) {
    if let Some(apic) = apic() {
        apic.interrupt(cpu.apic_id(), vector);
    }
}

/// Compares the timer with the clock, some time after [`init`]. Nobody waits for it.
pub fn measure_timer() {
    let Some(apic) = apic() else { return };
    let ns = clock::ns_of(clock::tsc().wrapping_sub(TIMER_START.load(Ordering::Relaxed)));
    let ticks = u64::from(u32::MAX - apic.timer_left());
    TIMER_RATE.store(((ticks << 32) / ns.max(1)).max(1), Ordering::Relaxed);
}

/// Interrupts this CPU with [`TIMER`] in `ns` nanoseconds, or earlier.
pub fn set_timer(ns: u64) {
    if let Some(apic) = apic() {
        let ticks = (u128::from(ns) * u128::from(TIMER_RATE.load(Ordering::Relaxed))) >> 32;
        apic.set_timer(ticks.clamp(1, u128::from(u32::MAX)) as u32, TIMER);
    }
}
