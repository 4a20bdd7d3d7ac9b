//! The files of /proc/self and /proc/daxite: written anew at each read, never stored.
//!
//! - `auxv`: the vector that the program found on its stack.
//! - `maps`: as Linux writes it (fs/proc/task_mmu.c, `show_map_vma`).
//! - `daxite`: this kernel's counters for this program, one `key value` a line.
//! - `/proc/daxite/removals`: the last devices that were taken from their users, one a line ([`crate::removal`]).
//! - `/proc/daxite/lifetime`: how many there were, one `key value` a line.
//! - `pagewalk`: `pread` at offset A tells what the CPU finds on its way to address A, from the root on.

use super::errno::{Answer, Errno};
use super::io::copy_out;
use super::memory::vec_for;
use super::stat::Metadata;
use super::thread::Thread;
use super::tree;
use crate::machine::machine;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use mm::pager::{Prot, Sharing};
use mm::range::PAGE_SIZE;
use mm::tables::{OWNED, Walk};
use mm::vma::{Backing, Vma};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags;

/// Most bytes that one read gives, as for Linux's seq files.
const MAX_READ: u64 = PAGE_SIZE;

/// One of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcFile {
    /// /proc/self/auxv.
    Auxv,
    /// /proc/self/maps.
    Maps,
    /// /proc/self/daxite.
    Daxite,
    /// /proc/self/pagewalk.
    Pagewalk,
    /// /proc/daxite/removals.
    Removals,
    /// /proc/daxite/lifetime.
    Lifetime,
}

impl ProcFile {
    /// Finds a file by its name in /proc/self.
    pub fn parse(name: &str) -> Option<ProcFile> {
        match name {
            "auxv" => Some(ProcFile::Auxv),
            "maps" => Some(ProcFile::Maps),
            "daxite" => Some(ProcFile::Daxite),
            "pagewalk" => Some(ProcFile::Pagewalk),
            _ => None,
        }
    }

    /// Finds a file by its name in /proc/daxite.
    pub fn parse_machine(name: &str) -> Option<ProcFile> {
        match name {
            "removals" => Some(ProcFile::Removals),
            "lifetime" => Some(ProcFile::Lifetime),
            _ => None,
        }
    }

    /// Is a plain read from this position at the end? The page walk answers one page address and then ends:
    /// a `cat` of it must.
    pub fn ends_before(self, position: u64) -> bool {
        self == ProcFile::Pagewalk && !position.is_multiple_of(PAGE_SIZE)
    }
}

/// Copies the file's text from `position` on to the program; bytes copied, 0 at the end.
pub fn read(thread: &mut Thread, file: ProcFile, position: u64, buffer: u64, count: u64) -> Answer {
    let len = count.min(MAX_READ) as usize;
    let mut text = vec_for(len)?;
    text.resize(len, 0);
    // Vmas are copied out of the space's lock, for their paths are looked up.
    let mut vmas = Vec::new();
    if file == ProcFile::Maps {
        copy_vmas(thread, &mut vmas)?;
    }
    let skip = if file == ProcFile::Pagewalk { 0 } else { position };
    let mut window = Window { skip, out: &mut text, filled: 0 };
    // A full window is the only way to fail, and then it holds what was asked for.
    let _ = match file {
        ProcFile::Auxv => window.put(&thread.program.auxv),
        ProcFile::Maps => write_maps(thread, &vmas, &mut window),
        ProcFile::Daxite => write_counters(thread, &mut window),
        ProcFile::Pagewalk => write_walk(thread, position, &mut window),
        ProcFile::Removals => write_removals(&mut window),
        ProcFile::Lifetime => write_lifetime(&mut window),
    };
    let filled = window.filled;
    text.truncate(filled);
    copy_out(buffer, &text)
}

/// Keeps the part of a text that a read wants, so that no text is ever stored whole.
struct Window<'a> {
    /// Bytes of text still to be dropped.
    skip: u64,
    out: &'a mut [u8],
    filled: usize,
}

impl Window<'_> {
    fn put(&mut self, bytes: &[u8]) -> fmt::Result {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let bytes = bytes.get(skipped as usize..).unwrap_or(&[]);
        let room = self.out.get_mut(self.filled..).unwrap_or(&mut []);
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        let copied = bytes.len().min(room.len());
        self.filled += copied;
        if copied < bytes.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl Write for Window<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes())
    }
}

fn copy_vmas(thread: &Thread, vmas: &mut Vec<Vma>) -> Result<(), Errno> {
    let mut is_complete = true;
    thread.space.for_each_vma(&mut |vma| {
        is_complete &= vmas.try_reserve(1).is_ok();
        if is_complete {
            vmas.push(vma.clone());
        }
    });
    if is_complete { Ok(()) } else { Err(Errno::ENOMEM) }
}

fn write_maps(thread: &Thread, vmas: &[Vma], out: &mut Window<'_>) -> fmt::Result {
    let heap = thread.program.program_break.read().range();
    let owner = thread.owner();
    for vma in vmas {
        let is_heap = heap.is_some_and(|heap| heap.intersection(vma.range).is_some());
        let mut line = Line::of(vma, if is_heap { "[heap]" } else { vma.name });
        if line.has_path
            && let Ok(node) = tree::find(&owner, &line.path)
        {
            line.identity = Metadata::of_node(&node).identity();
        }
        write!(out, "{line}")?;
    }
    Ok(())
}

/// One line of maps.
struct Line<'a> {
    vma: &'a Vma,
    /// Path, name in brackets, or nothing.
    path: String,
    has_path: bool,
    /// Device and inode.
    identity: (u32, u32, u64),
}

impl Line<'_> {
    fn of<'a>(vma: &'a Vma, name: &str) -> Line<'a> {
        let mut path = String::new();
        // Writing to a String cannot fail.
        let _ = match &vma.backing {
            Backing::Anonymous => path.write_str(name),
            // Linux backs it with a file of its own.
            Backing::Shared(_) => path.write_str("/dev/zero (deleted)"),
            Backing::Private(source) => source.write_path(&mut path),
            Backing::Device(pager) => pager.write_path(&mut path),
        };
        let has_path = !matches!(vma.backing, Backing::Anonymous);
        Line { vma, path, has_path, identity: (0, 0, 0) }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vma { range, prot, sharing, offset_bytes, .. } = self.vma;
        let bit = |bit, letter| if prot.contains(bit) { letter } else { '-' };
        let (r, w, x) = (bit(Prot::READ, 'r'), bit(Prot::WRITE, 'w'), bit(Prot::EXEC, 'x'));
        let s = if *sharing == Sharing::Shared { 's' } else { 'p' };
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        let (major, minor, inode) = self.identity;
        let mut head = String::new();
        write!(
            head,
            "{start:08x}-{end:08x} {r}{w}{x}{s} {offset_bytes:08x} {major:02x}:{minor:02x} {inode} "
        )?;
        match self.path.as_str() {
            "" => writeln!(f, "{head}"),
            // The name starts in column 73.
            path => writeln!(f, "{head:<72} {path}"),
        }
    }
}

fn write_counters(thread: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let [faults_4k, faults_2m, faults_1g] = thread.space.device_entries();
    writeln!(out, "faults_4k {faults_4k}")?;
    writeln!(out, "faults_2m {faults_2m}")?;
    writeln!(out, "faults_1g {faults_1g}")?;
    writeln!(out, "free_frames {}", machine().memory.frames.free_frames())?;
    writeln!(out, "boot_ns {}", thread.program.started_ns)
}

#[cfg(feature = "dax")]
fn write_removals(out: &mut Window<'_>) -> fmt::Result {
    crate::removal::history().try_for_each(|removal| writeln!(out, "{removal}"))
}

#[cfg(feature = "dax")]
fn write_lifetime(out: &mut Window<'_>) -> fmt::Result {
    write!(out, "{}", crate::removal::COUNTERS)
}

#[cfg(not(feature = "dax"))]
use {nothing as write_removals, nothing as write_lifetime};

/// There are no devices.
#[cfg(not(feature = "dax"))]
fn nothing(_: &mut Window<'_>) -> fmt::Result {
    Ok(())
}

fn write_walk(thread: &Thread, address: u64, out: &mut Window<'_>) -> fmt::Result {
    match VirtAddr::try_new(address) {
        Ok(address) => write!(out, "{}", WalkText(thread.space.walk(address))),
        Err(_) => writeln!(out, "not mapped"),
    }
}

struct WalkText(Walk);

impl fmt::Display for WalkText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.0.steps.iter().flatten() {
            let table = match step.level {
                4 => "PML4",
                3 => "PDPT",
                2 => "PD",
                _ => "PT",
            };
            writeln!(f, "{table}[{}] {:#018x}", step.index, step.entry)?;
        }
        let Some(leaf) = self.0.leaf else { return writeln!(f, "not mapped") };
        write!(f, "size {} phys {:#x} flags ", leaf.size, leaf.phys)?;
        let mut separator = "";
        for (flag, name) in FLAG_NAMES {
            if leaf.flags.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        writeln!(f)
    }
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
    use alloc::format;
    use mm::range::{MapSize, VirtRange};
    use mm::tables::{Leaf, WalkStep};
    use mm::vma::VmaFlags;
    use x86_64::PhysAddr;

    fn vma(start: u64, prot: Prot, sharing: Sharing, name: &'static str) -> Vma {
        Vma {
            range: VirtRange::new(start, 0x2_1000).unwrap(),
            prot,
            max_prot: Prot::all(),
            sharing,
            granule: MapSize::Size4K,
            flags: VmaFlags::empty(),
            name,
            offset_bytes: 0,
            backing: Backing::Anonymous,
        }
    }

    #[test]
    fn lines_of_maps_are_linux_lines() {
        let stack = vma(0x7ffc_f2a4_f000, Prot::READ | Prot::WRITE, Sharing::Private, "[stack]");
        let line = format!("{}", Line::of(&stack, stack.name));
        // As Linux pads it: the name starts in column 73.
        let expected = "7ffcf2a4f000-7ffcf2a70000 rw-p 00000000 00:00 0                          [stack]\n";
        assert_eq!(line, expected);
        let guard = vma(0x1000, Prot::empty(), Sharing::Shared, "");
        assert_eq!(format!("{}", Line::of(&guard, "")), "00001000-00022000 ---s 00000000 00:00 0 \n");
    }

    #[test]
    fn a_window_shows_the_wanted_part_of_a_text() {
        let mut bytes = [0; 4];
        let mut window = Window { skip: 3, out: &mut bytes, filled: 0 };
        assert_eq!(window.write_str("ab"), Ok(()));
        assert_eq!(window.write_str("cde"), Ok(()));
        assert_eq!(window.write_str("fgh"), Err(fmt::Error));
        assert_eq!(window.filled, 4);
        assert_eq!(&bytes, b"defg");
    }

    #[test]
    fn a_walk_names_every_level_and_the_leaf() {
        let step = |level, index, entry| Some(WalkStep { level, index, entry });
        let steps = [step(4, 255, 0x123_4067), step(3, 3, 0x123_5067), step(2, 5, 0x1_4020_00e7), None];
        let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE;
        let leaf = Leaf { size: MapSize::Size2M, phys: PhysAddr::new(0x1_4020_0000), flags };
        assert_eq!(
            format!("{}", WalkText(Walk { steps, leaf: Some(leaf) })),
            "PML4[255] 0x0000000001234067\nPDPT[3] 0x0000000001235067\nPD[5] 0x00000001402000e7\n\
             size 2M phys 0x140200000 flags PRESENT|WRITABLE|USER\n"
        );
        let empty = Walk { steps: [step(4, 0, 0), None, None, None], leaf: None };
        assert_eq!(format!("{}", WalkText(empty)), "PML4[0] 0x0000000000000000\nnot mapped\n");
    }
}
