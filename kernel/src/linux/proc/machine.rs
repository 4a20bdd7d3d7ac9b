//! What /proc tells of the machine.

use super::window::Window;
use crate::clock;
use crate::linux::process;
use crate::linux::stat::FileSystem;
use crate::linux::thread::Thread;
use crate::linux::time::to_ticks;
use crate::machine::machine;
use crate::{random, task};
use core::arch::x86_64::__cpuid;
use core::fmt::{self, Write};
use mm::range::PAGE_SIZE;

/// `cpuinfo`: the CPUs, whose names are CPUID's.
pub fn cpuinfo(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let leaf = __cpuid(0);
    let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
    for cpu in 0..task::online().count_ones() {
        write!(out, "processor\t: {cpu}\nvendor_id\t: ")?;
        out.put(vendor.as_flattened())?;
        writeln!(out, "\n")?;
    }
    Ok(())
}

/// `filesystems`: those of the tree.
pub fn filesystems(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    ["sysfs", "tmpfs", "proc", "devtmpfs"].iter().try_for_each(|name| writeln!(out, "nodev\t{name}"))
}

/// Type, path and device number of what is in the tree.
const MOUNTS: [(&str, &str, FileSystem); 4] = [
    ("tmpfs", "/", FileSystem::Ram),
    ("devtmpfs", "/dev", FileSystem::Dev),
    ("proc", "/proc", FileSystem::Proc),
    ("sysfs", "/sys", FileSystem::Sys),
];

/// `mounts`: where they are.
pub fn mounts(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    MOUNTS.iter().try_for_each(|(kind, path, _)| writeln!(out, "{kind} {path} {kind} rw 0 0"))
}

/// `mountinfo`: the same for df and findmnt. The first one has no parent, which is its own number then.
pub fn mount_info(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    MOUNTS.iter().zip(1..).try_for_each(|((kind, path, file_system), id)| {
        writeln!(out, "{id} 1 0:{} / {path} rw - {kind} {kind} rw", *file_system as u32)
    })
}

/// `meminfo`.
pub fn meminfo(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let frames = machine().memory.frames;
    let kib = |frames| frames * (PAGE_SIZE >> 10);
    let (total, free) = (kib(frames.total_frames()), kib(frames.free_frames()));
    writeln!(out, "MemTotal:       {total:8} kB\nMemFree:        {free:8} kB\nMemAvailable:   {free:8} kB")?;
    writeln!(out, "SwapTotal:             0 kB\nSwapFree:              0 kB")
}

/// `uptime`: seconds since the boot, and those of all CPUs in which they had nothing to do.
pub fn uptime(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let cs = |ns: u64| (ns / 1_000_000_000, ns / 10_000_000 % 100);
    let ((up, up_cs), (idle, idle_cs)) = (cs(clock::monotonic_ns()), cs(idle_ns()));
    writeln!(out, "{up}.{up_cs:02} {idle}.{idle_cs:02}")
}

/// What programs have not used of the CPUs' time.
fn idle_ns() -> u64 {
    let all_ns = clock::monotonic_ns() * u64::from(task::online().count_ones());
    all_ns.saturating_sub(process::all_cpu_ns())
}

/// `stat`: the time of all CPUs in ticks, all that was used as the programs' own.
pub fn stat(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let (used, idle) = (to_ticks(process::all_cpu_ns()), to_ticks(idle_ns()));
    let boot_seconds = (clock::realtime_ns() - clock::monotonic_ns()) / 1_000_000_000;
    writeln!(out, "cpu  {used} 0 0 {idle} 0 0 0 0 0 0\nbtime {boot_seconds}")
}

/// `loadavg`: no average is kept; the threads, and the youngest process.
pub fn loadavg(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let mut last = 0;
    process::for_each(|process| last = last.max(process.pid));
    writeln!(out, "0.00 0.00 0.00 1/{} {last}", process::count_threads())
}

/// `sys/kernel/random/uuid`: another one at each read (RFC 9562, version 4).
pub fn uuid(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let (high, low) = (random::u64(), random::u64());
    let (time, middle, version) = (high >> 32, high >> 16 & 0xffff, high & 0xfff | 0x4000);
    let (variant, node) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    writeln!(out, "{time:08x}-{middle:04x}-{version:04x}-{variant:04x}-{node:012x}")
}

/// `daxite/removals`.
#[cfg(feature = "dax")]
pub fn removals(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    crate::removal::history().try_for_each(|removal| writeln!(out, "{removal}"))
}

/// `daxite/lifetime`.
#[cfg(feature = "dax")]
pub fn lifetime(_: &Thread, out: &mut Window<'_>) -> fmt::Result {
    write!(out, "{}", crate::removal::COUNTERS)
}
