//! Time: the TSC, measured lazily against the ACPI PM timer.
//!
//! Nobody waits for a calibration: the PM timer itself is the clock until enough time has passed by itself to
//! tell how fast the TSC runs. Only the start of the first program makes sure ([`settle`]), as a program may
//! run for longer than the PM timer's 4.7 s without asking for the time.

use core::sync::atomic::{AtomicU64, Ordering};
use platform::pm_timer::{HZ, PmTimer};
use platform::rtc;
use spin::{LazyLock, Once};

/// PM ticks (0.5 ms) after which the TSC's rate is looked for.
const SETTLED_TICKS: u64 = HZ / 2000;

struct Start {
    tsc: u64,
    /// The PM timer, and both clocks when it was found.
    pm: Option<(PmTimer, Sample)>,
}

static BOOT_TSC: AtomicU64 = AtomicU64::new(0);
static START: Once<Start> = Once::new();
/// 2^32 times the nanoseconds of a TSC tick; 0 until it is known.
static NS_PER_TICK: AtomicU64 = AtomicU64::new(0);
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
        pm: pm_timer.map(|timer| (timer, Sample::take(timer))),
    });
    if pm_timer.is_none() {
        NS_PER_TICK.store(1 << 32, Ordering::Relaxed);
    }
}

/// Waits until the TSC's rate is known: 0.5 ms after boot, a little more on a busy host.
pub fn settle() {
    // Bounded: a PM timer that stands still must not hold up the boot.
    for _ in 0..100_000 {
        if NS_PER_TICK.load(Ordering::Relaxed) != 0 || START.get().is_none_or(measure) {
            return;
        }
        core::hint::spin_loop();
    }
    NS_PER_TICK.store(1 << 32, Ordering::Relaxed);
    log::warn!("clock: the ACPI PM timer gives no measure, taking the TSC for 1 GHz");
}

/// Nanoseconds since the kernel's first instruction (CLOCK_MONOTONIC, CLOCK_BOOTTIME); 0 before `init`.
pub fn monotonic_ns() -> u64 {
    let Some(start) = START.get() else { return 0 };
    if NS_PER_TICK.load(Ordering::Relaxed) == 0 && !measure(start) {
        return start.pm.map_or(0, |(timer, then)| elapsed(timer, then).0 * 1_000_000_000 / HZ);
    }
    ns_of(tsc().wrapping_sub(start.tsc))
}

/// How long this many ticks of the TSC take; 0 before its rate is known.
#[inline]
pub fn ns_of(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(NS_PER_TICK.load(Ordering::Relaxed))) >> 32) as u64
}

/// Nanoseconds since 1970-01-01 UTC, from the battery-backed clock (CLOCK_REALTIME).
pub fn realtime_ns() -> u64 {
    *BOOT_UNIX_NS + monotonic_ns()
}

/// A reading of both clocks at one moment.
#[derive(Clone, Copy)]
struct Sample {
    pm: u32,
    tsc: u64,
    /// TSC ticks between the readings around the PM timer's: how far the two may be apart.
    width: u64,
}

impl Sample {
    /// The tightest of a few readings: between two of them the hypervisor may have run somebody else.
    fn take(timer: PmTimer) -> Sample {
        let once = || {
            let before = tsc();
            let pm = timer.read();
            let width = tsc().wrapping_sub(before);
            Sample { pm, tsc: before.wrapping_add(width / 2), width }
        };
        let first = once();
        (0..4).map(|_| once()).fold(first, |best, next| if next.width < best.width { next } else { best })
    }
}

/// PM ticks since `init`, and the TSC ticks with the most that they may be off.
fn elapsed(timer: PmTimer, then: Sample) -> (u64, u64, u64) {
    let now = Sample::take(timer);
    let ticks = now.pm.wrapping_sub(then.pm) & 0xff_ffff;
    (u64::from(ticks), now.tsc.wrapping_sub(then.tsc), now.width + then.width)
}

/// Sets the TSC's rate once enough time has passed to know it to 1 %; says whether it is known.
fn measure(start: &Start) -> bool {
    let Some((timer, then)) = start.pm else { return false };
    let (pm_ticks, tsc_ticks, error) = elapsed(timer, then);
    if pm_ticks < SETTLED_TICKS || error > tsc_ticks / 100 {
        return false;
    }
    let elapsed_ns = u128::from(pm_ticks) * 1_000_000_000 / u128::from(HZ);
    let rate = (elapsed_ns << 32) / u128::from(tsc_ticks.max(1));
    NS_PER_TICK.store((rate as u64).max(1), Ordering::Relaxed);
    true
}

/// This CPU's time-stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU and reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
