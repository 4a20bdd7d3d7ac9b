//! What /proc tells of a process.

use super::window::Window;
use crate::linux::memory::within;
use crate::linux::process::{Process, Settings};
use crate::linux::thread::{Thread, default_name};
use crate::linux::time::to_ticks;
use crate::machine::machine;
use crate::task;
use crate::user_memory;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use mm::tables::{OWNED, Walk};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags;

/// What it calls itself: another's by the file that it runs.
fn name(thread: &Thread, process: &Process) -> String {
    let name = match process.pid == thread.process.pid {
        true => thread.name,
        false => default_name(process.settings.lock().image.executable),
    };
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..len]).into_owned()
}

/// `comm`.
pub fn comm(thread: &Thread, process: &Process, out: &mut Window<'_>) -> fmt::Result {
    writeln!(out, "{}", name(thread, process))
}

/// The reader runs; of others, those that have ended are told apart.
fn state(thread: &Thread, process: &Process) -> &'static str {
    match process.status() {
        Some(_) => "Z (zombie)",
        None if process.pid == thread.process.pid => "R (running)",
        None => "S (sleeping)",
    }
}

fn mapped_bytes(process: &Process) -> u64 {
    let mut bytes = 0;
    if let Some(space) = process.space() {
        space.for_each_vma(&mut |vma| bytes += vma.range.len_bytes());
    }
    bytes
}

/// `cmdline`: the arguments, as they are in its memory now.
pub fn command_line(_: &Thread, process: &Process, out: &mut Window<'_>) -> fmt::Result {
    let arguments = process.settings.lock().image.arguments.clone();
    strings(process, arguments, out)
}

/// `environ`: the environment that it was started with. Sanitizers look for their options here.
pub fn environment(_: &Thread, process: &Process, out: &mut Window<'_>) -> fmt::Result {
    let environment = process.settings.lock().image.environment.clone();
    strings(process, environment, out)
}

fn strings(process: &Process, range: Range<u64>, out: &mut Window<'_>) -> fmt::Result {
    let Some(space) = process.space() else { return Ok(()) };
    for start in range.clone().step_by(256) {
        let mut bytes = [0; 256];
        let piece = &mut bytes[..(range.end - start).min(256) as usize];
        // What it has unmapped is not shown, as on Linux.
        if within(&space, || user_memory::read(start, piece)).is_err() {
            break;
        }
        out.put(piece)?;
    }
    Ok(())
}

/// `stat`: what `ps` and `top` read (fs/proc/array.c, `do_task_stat`). All time is the program's own, and resident
/// memory is not counted.
pub fn stat(thread: &Thread, process: &Process, out: &mut Window<'_>) -> fmt::Result {
    let (pid, parent) = (process.pid, process.parent());
    let (group, session) = (process.group_id(), process.session_id());
    let Settings { nice, image, .. } = process.settings.lock().clone();
    let (ticks, children_ticks) = (to_ticks(process.cpu_ns()), to_ticks(process.children_ns.load(Relaxed)));
    let state = state(thread, process).chars().next().unwrap_or_default();
    write!(out, "{pid} ({}) {state} {parent} {group} {session} 0 -1 0 0 0 0 0 ", name(thread, process))?;
    write!(out, "{ticks} 0 {children_ticks} 0 {} {nice} ", 20 + nice)?;
    let (threads, start) = (process.living.load(Relaxed), to_ticks(image.started_ns));
    write!(out, "{threads} 0 {start} {} 0 {}", mapped_bytes(process), u64::MAX)?;
    // From the addresses of its text on.
    writeln!(out, "{}", " 0".repeat(27))
}

/// `status`: who it is, its threads, and where they may run (fs/proc/array.c, `proc_pid_status`).
pub fn status(thread: &Thread, process: &Process, out: &mut Window<'_>) -> fmt::Result {
    let (pid, parent, state) = (process.pid, process.parent(), state(thread, process));
    let name = name(thread, process);
    writeln!(out, "Name:\t{name}\nState:\t{state}\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{parent}")?;
    writeln!(out, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0")?;
    let threads = process.living.load(Relaxed);
    writeln!(out, "VmSize:\t{:8} kB\nThreads:\t{threads}", mapped_bytes(process) >> 10)?;
    let cpus = process.leader.affinity() & task::online();
    writeln!(out, "Cpus_allowed:\t{cpus:x}\nCpus_allowed_list:\t{}", list(cpus))?;
    writeln!(out, "Mems_allowed:\t1\nMems_allowed_list:\t0")
}

/// The bits of a mask as Linux lists them: `0-2,5`.
fn list(mask: u64) -> String {
    let is_set = |bit: u32| bit < 64 && mask & 1 << bit != 0;
    let starts = (0..64).filter(|&bit| is_set(bit) && (bit == 0 || !is_set(bit - 1)));
    let ranges = starts.map(|start| {
        let end = (start..).find(|&bit| !is_set(bit + 1)).unwrap_or(start);
        if start == end { format!("{start}") } else { format!("{start}-{end}") }
    });
    ranges.collect::<Vec<_>>().join(",")
}

/// This kernel's counters.
pub fn counters(thread: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let [faults_4k, faults_2m, faults_1g] = thread.space.device_entries();
    writeln!(out, "faults_4k {faults_4k}")?;
    writeln!(out, "faults_2m {faults_2m}")?;
    writeln!(out, "faults_1g {faults_1g}")?;
    writeln!(out, "free_frames {}", machine().memory.frames.free_frames())?;
    writeln!(out, "boot_ns {}", thread.program.image.started_ns)
}

/// What the CPU finds on its way to `address`.
pub fn walk(thread: &Thread, address: u64, out: &mut Window<'_>) -> fmt::Result {
    match VirtAddr::try_new(address) {
        Ok(address) => show_walk(&thread.space.walk(address), out),
        Err(_) => writeln!(out, "not mapped"),
    }
}

fn show_walk(walk: &Walk, out: &mut impl Write) -> fmt::Result {
    for step in walk.steps.iter().flatten() {
        let table = match step.level {
            4 => "PML4",
            3 => "PDPT",
            2 => "PD",
            _ => "PT",
        };
        writeln!(out, "{table}[{}] {:#018x}", step.index, step.entry)?;
    }
    let Some(leaf) = walk.leaf else { return writeln!(out, "not mapped") };
    write!(out, "size {} phys {:#x} flags ", leaf.size, leaf.phys)?;
    let names = FLAG_NAMES.iter().filter(|(flag, _)| leaf.flags.contains(*flag)).map(|(_, name)| *name);
    writeln!(out, "{}", names.collect::<Vec<_>>().join("|"))
}

/// SDM 3A, tables 4-15 to 4-20.
const FLAG_NAMES: [(PageTableFlags, &str); 11] = [
    (PageTableFlags::PRESENT, "PRESENT"),
    (PageTableFlags::WRITABLE, "WRITABLE"),
    (PageTableFlags::USER_ACCESSIBLE, "USER"),
    (PageTableFlags::WRITE_THROUGH, "WRITE_THROUGH"),
    (PageTableFlags::NO_CACHE, "NO_CACHE"),
    (PageTableFlags::ACCESSED, "ACCESSED"),
    (PageTableFlags::DIRTY, "DIRTY"),
    (PageTableFlags::HUGE_PAGE, "HUGE"),
    (PageTableFlags::GLOBAL, "GLOBAL"),
    (OWNED, "OWNED"),
    (PageTableFlags::NO_EXECUTE, "NO_EXECUTE"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use mm::range::MapSize;
    use mm::tables::{Leaf, WalkStep};
    use x86_64::PhysAddr;

    #[test]
    fn a_walk_names_every_level_and_the_leaf() {
        let step = |level, index, entry| Some(WalkStep { level, index, entry });
        let steps = [step(4, 255, 0x123_4067), step(3, 3, 0x123_5067), step(2, 5, 0x1_4020_00e7), None];
        let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE;
        let leaf = Leaf { size: MapSize::Size2M, phys: PhysAddr::new(0x1_4020_0000), flags };
        let text = |walk| {
            let mut text = String::new();
            show_walk(&walk, &mut text).map(|()| text).unwrap()
        };
        assert_eq!(
            text(Walk { steps, leaf: Some(leaf) }),
            "PML4[255] 0x0000000001234067\nPDPT[3] 0x0000000001235067\nPD[5] 0x00000001402000e7\n\
             size 2M phys 0x140200000 flags PRESENT|WRITABLE|USER\n"
        );
        let empty = Walk { steps: [step(4, 0, 0), None, None, None], leaf: None };
        assert_eq!(text(empty), "PML4[0] 0x0000000000000000\nnot mapped\n");
    }

    #[test]
    fn masks_are_listed_in_ranges() {
        assert_eq!([0, 1, 0b10_0111, !0].map(list), ["", "0", "0-2,5", "0-63"]);
    }
}
