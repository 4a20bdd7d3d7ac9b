//! The files of /proc/self and /proc/daxite: written anew at each read, never stored.
//!
//! - `auxv`: the vector that the program found on its stack.
//! - `maps`: as Linux writes it (fs/proc/task_mmu.c, `show_map_vma`).
//! - `exe`: a link to the program.
//! - `daxite`: this kernel's counters for this program, one `key value` a line.
//! - `/proc/daxite/removals`: the last devices that were taken from their users, one a line ([`crate::removal`]).
//! - `/proc/daxite/lifetime`: how many there were, one `key value` a line.
//! - `pagewalk`: `pread` at offset A tells what the CPU finds on its way to address A, from the root on.

use super::errno::{Answer, Errno};
use super::io::copy_out;
use super::memory::vec_for;
use super::node::Node;
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::tree::{self, End, Links};
use crate::initrd::File;
use crate::machine::machine;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use linux_raw_sys::general::{AT_FDCWD, O_ACCMODE, O_RDONLY, S_IFLNK, S_IFREG};
use mm::pager::{Prot, Sharing};
use mm::range::PAGE_SIZE;
use mm::tables::{OWNED, Walk};
use mm::vma::{Backing, Vma};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags;

/// Most bytes that one read gives, as for Linux's seq files.
const MAX_READ: u64 = PAGE_SIZE;

/// A file: its name, its inode number, and what writes its text.
struct ProcFile {
    name: &'static str,
    inode: u64,
    show: Show,
}

/// How a text comes about. One that does not fit the window ends with an error, and then the window is full.
enum Show {
    Text(fn(&Thread, &mut Window<'_>) -> fmt::Result),
    /// It depends on where it is read.
    At(fn(&Thread, u64, &mut Window<'_>) -> fmt::Result),
}

/// The files of a process.
static PROCESS: [ProcFile; 4] = [
    ProcFile { name: "auxv", inode: 10, show: Show::Text(|thread, out| out.put(&thread.program.auxv)) },
    ProcFile { name: "maps", inode: 11, show: Show::Text(write_maps) },
    ProcFile { name: "daxite", inode: 12, show: Show::Text(write_counters) },
    ProcFile { name: "pagewalk", inode: 13, show: Show::At(write_walk) },
];

/// The files of the machine.
#[cfg(feature = "dax")]
static MACHINE: [ProcFile; 2] = [
    ProcFile {
        name: "removals",
        inode: 14,
        show: Show::Text(|_, out| {
            crate::removal::history().try_for_each(|removal| writeln!(out, "{removal}"))
        }),
    },
    ProcFile {
        name: "lifetime",
        inode: 15,
        show: Show::Text(|_, out| write!(out, "{}", crate::removal::COUNTERS)),
    },
];
/// There are no devices.
#[cfg(not(feature = "dax"))]
static MACHINE: [ProcFile; 0] = [];

/// The directory /proc.
pub fn root() -> Arc<dyn Node> {
    tree::directory("/proc")
}

/// What an absolute path under /proc names. Other processes than the caller's have nothing there.
pub fn find(thread: &Thread, path: &str) -> Option<Arc<dyn Node>> {
    let path_in_proc = path.strip_prefix("/proc/")?;
    let (owner, name) = path_in_proc.split_once('/').unwrap_or((path_in_proc, ""));
    let is_machine = owner == "daxite";
    if !is_machine && owner != "self" && owner.parse() != Ok(thread.process.pid) {
        return None;
    }
    match name {
        "" => Some(tree::directory(path)),
        "exe" if !is_machine => Some(Arc::new(Executable(thread.program.executable))),
        name => {
            let mut files = if is_machine { MACHINE.iter() } else { PROCESS.iter() };
            files.find(|file| file.name == name).map(|file| Arc::new(file) as Arc<dyn Node>)
        }
    }
}

impl Node for &'static ProcFile {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Proc, self.inode, S_IFREG | 0o400)
    }

    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        if flags & O_ACCMODE == O_RDONLY { Ok(None) } else { Err(Errno::EACCES) }
    }

    fn read(&self, thread: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let mut text = vec_for(count.min(MAX_READ) as usize)?;
        text.resize(text.capacity(), 0);
        let mut window = Window { skip: position, out: &mut text, filled: 0 };
        let written = match self.show {
            Show::Text(show) => show(thread, &mut window),
            Show::At(show) => {
                window.skip = 0;
                show(thread, position, &mut window)
            }
        };
        let filled = window.filled;
        // The other way to fail is that memory is out.
        if written.is_err() && filled < text.len() {
            return Err(Errno::ENOMEM);
        }
        copy_out(buffer, &text[..filled])
    }

    /// What depends on the place answers one page address and then ends: a `cat` of it must.
    fn is_at_end(&self, position: u64) -> bool {
        matches!(self.show, Show::At(_)) && !position.is_multiple_of(PAGE_SIZE)
    }
}

/// /proc/self/exe: a link to the program.
struct Executable(&'static File);

impl Node for Executable {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Proc, 2, S_IFLNK | 0o777)
    }

    fn link(&self) -> Option<String> {
        Some(format!("/{}", self.0.path))
    }
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

fn write_maps(thread: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let heap = thread.program.program_break.read().range();
    // Copied out of the space's lock, for their paths are looked up.
    let (mut vmas, mut is_complete) = (Vec::new(), true);
    thread.space.for_each_vma(&mut |vma| {
        is_complete &= vmas.try_reserve(1).is_ok();
        if is_complete {
            vmas.push(vma.clone());
        }
    });
    if !is_complete {
        return Err(fmt::Error);
    }
    for vma in &vmas {
        let is_heap = heap.is_some_and(|heap| heap.intersection(vma.range).is_some());
        let (path, is_file) = path_of(vma, if is_heap { "[heap]" } else { vma.name });
        let identity = match tree::walk(thread, AT_FDCWD, &path, Links::Keep) {
            Ok(End::Found(place)) if is_file => place.node.metadata().identity(),
            _ => (0, 0, 0),
        };
        out.write_str(&maps_line(vma, &path, identity))?;
    }
    Ok(())
}

/// What stands behind a vma: a path (true), else a name in brackets or nothing.
fn path_of(vma: &Vma, name: &str) -> (String, bool) {
    let mut path = String::new();
    // Writing to a String cannot fail.
    let _ = match &vma.backing {
        Backing::Anonymous => path.write_str(name),
        // Linux backs it with a file of its own.
        Backing::Shared(_) => path.write_str("/dev/zero (deleted)"),
        Backing::Private(source) => source.write_path(&mut path),
        Backing::Device(pager) => pager.write_path(&mut path),
    };
    (path, !matches!(vma.backing, Backing::Anonymous))
}

/// One line of maps; `identity` is the device's numbers and the inode.
fn maps_line(vma: &Vma, path: &str, (major, minor, inode): (u32, u32, u64)) -> String {
    let Vma { range, prot, sharing, offset_bytes, .. } = vma;
    let bit = |bit, letter| if prot.contains(bit) { letter } else { '-' };
    let (r, w, x) = (bit(Prot::READ, 'r'), bit(Prot::WRITE, 'w'), bit(Prot::EXEC, 'x'));
    let s = if *sharing == Sharing::Shared { 's' } else { 'p' };
    let (start, end) = (range.start().as_u64(), range.end().as_u64());
    let head =
        format!("{start:08x}-{end:08x} {r}{w}{x}{s} {offset_bytes:08x} {major:02x}:{minor:02x} {inode} ");
    // The name starts in column 73.
    if path.is_empty() { format!("{head}\n") } else { format!("{head:<72} {path}\n") }
}

fn write_counters(thread: &Thread, out: &mut Window<'_>) -> fmt::Result {
    let [faults_4k, faults_2m, faults_1g] = thread.space.device_entries();
    writeln!(out, "faults_4k {faults_4k}")?;
    writeln!(out, "faults_2m {faults_2m}")?;
    writeln!(out, "faults_1g {faults_1g}")?;
    writeln!(out, "free_frames {}", machine().memory.frames.free_frames())?;
    writeln!(out, "boot_ns {}", thread.program.started_ns)
}

fn write_walk(thread: &Thread, address: u64, out: &mut Window<'_>) -> fmt::Result {
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
        let line = maps_line(&stack, stack.name, (0, 0, 0));
        // As Linux pads it: the name starts in column 73.
        let expected = "7ffcf2a4f000-7ffcf2a70000 rw-p 00000000 00:00 0                          [stack]\n";
        assert_eq!(line, expected);
        let guard = vma(0x1000, Prot::empty(), Sharing::Shared, "");
        assert_eq!(maps_line(&guard, "", (0, 0, 0)), "00001000-00022000 ---s 00000000 00:00 0 \n");
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
}
