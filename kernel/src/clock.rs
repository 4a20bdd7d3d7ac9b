//! Time: the TSC, measured lazily against the ACPI PM timer.
//!
//! Nobody waits for a calibration: the PM timer itself is the clock until enough time has passed by itself to
//! tell how fast the TSC runs. Only the start of the first program makes sure ([`settle`]), as a program may
//! run for longer than the PM timer's 4.7 s without asking for the time.

use core::sync::atomic::{AtomicU64, Ordering};
use platform::pm_timer::{HZ, PmTimer};
use platform::rtc;
use spin::{LazyLock, Once};

/// PM ticks (0.5 ms) after which the TSC's rate is known to a tenth of a per cent.
const SETTLED_TICKS: u64 = HZ / 2000;

struct Start {
    tsc: u64,
    /// The PM timer and what it and the TSC showed at boot.
    pm: Option<(PmTimer, u32, u64)>,
}

static BOOT_TSC: AtomicU64 = AtomicU64::new(0);
static START: Once<Start> = Once::new();
/// TSC ticks in 2^32 ns; 0 until it is known.
static TSC_RATE: AtomicU64 = AtomicU64::new(0);
static BOOT_UNIX_NS: LazyLock<u64> =
    LazyLock::new(|| (rtc::unix_seconds() * 1_000_000_000).saturating_sub(monotonic_ns()));

/// Remembers the kernel's first moment. Called first of all.
pub fn start() {
    BOOT_TSC.store(tsc(), Ordering::Relaxed);
}

/// Brings the PM timer in, if the machine has one; without it the TSC is taken to run at 1 GHz.
pub fn init(pm_timer: Option<PmTimer>) {
    START.call_once(|| Start {
        tsc: BOOT_TSC.load(Ordering::Relaxed),
        pm: pm_timer.map(|timer| (timer, timer.read(), tsc())),
    });
    if pm_timer.is_none() {
        TSC_RATE.store(1 << 32, Ordering::Relaxed);
    }
}

/// Waits, at most 0.5 ms after boot, until the TSC's rate is known.
pub fn settle() {
    // Bounded: a PM timer that stands still must not hold up the boot.
    for _ in 0..10_000_000 {
        if TSC_RATE.load(Ordering::Relaxed) != 0 || START.get().is_none_or(measure) {
            return;
        }
        core::hint::spin_loop();
    }
    TSC_RATE.store(1 << 32, Ordering::Relaxed);
    log::warn!("clock: the ACPI PM timer stands still, taking the TSC for 1 GHz");
}

/// Nanoseconds since the kernel's first instruction (CLOCK_MONOTONIC, CLOCK_BOOTTIME); 0 before `init`.
pub fn monotonic_ns() -> u64 {
    let Some(start) = START.get() else { return 0 };
    if TSC_RATE.load(Ordering::Relaxed) == 0 && !measure(start) {
        return pm_elapsed(start).map_or(0, |(ticks, _)| ticks * 1_000_000_000 / HZ);
    }
    let ticks = u128::from(tsc().wrapping_sub(start.tsc));
    ((ticks << 32) / u128::from(TSC_RATE.load(Ordering::Relaxed))) as u64
}

/// Nanoseconds since 1970-01-01 UTC, from the battery-backed clock (CLOCK_REALTIME).
pub fn realtime_ns() -> u64 {
    *BOOT_UNIX_NS + monotonic_ns()
}

/// PM ticks and TSC ticks since `init`.
fn pm_elapsed(start: &Start) -> Option<(u64, u64)> {
    let (timer, pm, tsc_then) = start.pm?;
    let ticks = timer.read().wrapping_sub(pm) & 0xff_ffff;
    Some((u64::from(ticks), tsc().wrapping_sub(tsc_then)))
}

/// Sets the TSC's rate once enough time has passed; says whether it is known.
fn measure(start: &Start) -> bool {
    let Some((pm_ticks, tsc_ticks)) = pm_elapsed(start) else { return false };
    if pm_ticks < SETTLED_TICKS {
        return false;
    }
    let elapsed_ns = u128::from(pm_ticks) * 1_000_000_000 / u128::from(HZ);
    let rate = (u128::from(tsc_ticks) << 32) / elapsed_ns;
    TSC_RATE.store((rate as u64).max(1), Ordering::Relaxed);
    true
}

fn tsc() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU and reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
