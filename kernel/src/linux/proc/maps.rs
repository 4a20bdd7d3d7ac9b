//! maps and smaps: what a program has mapped.

use super::window::Window;
use crate::initrd::File;
use crate::linux::memory::lets_others_in;
use crate::linux::ram::inode_behind;
use crate::linux::thread::Thread;
use crate::linux::tree::{self, End, Links};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use linux_raw_sys::general::AT_FDCWD;
use mm::pager::{Prot, Sharing};
use mm::vma::{Backing, Vma, VmaFlags};

/// How much is told of each vma.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// A line, as in `maps`.
    Line,
    /// What `smaps` says. Pages are not counted: a device has no struct page, and here nothing has.
    All,
}

/// Writes the vmas of the thread's memory.
pub fn write(thread: &Thread, detail: Detail, out: &mut Window<'_>) -> fmt::Result {
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
        // Some are a walk of a path.
        if !lets_others_in() {
            return Err(fmt::Error);
        }
        let is_heap = heap.is_some_and(|heap| heap.intersection(vma.range).is_some());
        let path = path_of(vma, if is_heap { "[heap]" } else { vma.name });
        let identity = identity(thread, vma, &path).unwrap_or_default();
        out.write_str(&maps_line(vma, &path, identity))?;
        if detail == Detail::All {
            write_pages(vma, out)?;
        }
    }
    Ok(())
}

/// As Linux writes it (fs/proc/task_mmu.c, `show_smap`).
fn write_pages(vma: &Vma, out: &mut impl Write) -> fmt::Result {
    let (size, page) = (vma.range.len_bytes() >> 10, vma.granule.bytes() >> 10);
    writeln!(out, "Size:           {size:8} kB")?;
    writeln!(out, "KernelPageSize: {page:8} kB\nMMUPageSize:    {page:8} kB")?;
    let may = |bit| vma.max_prot.contains(bit);
    let flags = [
        (vma.prot.contains(Prot::READ), "rd "),
        (vma.prot.contains(Prot::WRITE), "wr "),
        (vma.prot.contains(Prot::EXEC), "ex "),
        (vma.sharing == Sharing::Shared, "sh "),
        (may(Prot::READ), "mr "),
        (may(Prot::WRITE), "mw "),
        (may(Prot::EXEC), "me "),
        (vma.sharing == Sharing::Shared, "ms "),
        (vma.flags.contains(VmaFlags::GROWS_DOWN), "gd "),
        (vma.flags.contains(VmaFlags::DONT_FORK), "dc "),
        (matches!(vma.backing, Backing::Device(_)), "mm hg "),
    ];
    let names = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name);
    writeln!(out, "VmFlags: {}", names.collect::<String>())
}

/// Device and inode of the file behind a vma: of what was mapped, whatever has its name now.
fn identity(thread: &Thread, vma: &Vma, path: &str) -> Option<(u32, u32, u64)> {
    if let Some(inode) = inode_behind(&vma.backing) {
        return Some(inode.metadata().identity());
    }
    // A device, whose name nobody can give away, or the segment of a program, which a name may have left.
    let is_program = matches!(vma.backing, Backing::Private(_));
    let is_named = is_program || matches!(vma.backing, Backing::Device(_));
    let End::Found(place) = tree::walk(thread, AT_FDCWD, path, Links::Keep).ok().filter(|_| is_named)? else {
        return None;
    };
    let is_same = |file: &File| path.strip_prefix('/') == Some(file.path);
    (!is_program || place.node.program().is_some_and(is_same)).then(|| place.node.metadata().identity())
}

/// What stands behind a vma: a path, else a name in brackets or nothing.
fn path_of(vma: &Vma, name: &str) -> String {
    let mut path = String::new();
    // Writing to a String cannot fail.
    let _ = match &vma.backing {
        Backing::Anonymous => path.write_str(name),
        // Linux backs it with a file of its own.
        Backing::Shared(_) => path.write_str("/dev/zero (deleted)"),
        Backing::Private(source) => source.write_path(&mut path),
        Backing::Device(pager) => pager.write_path(&mut path),
    };
    path
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

#[cfg(test)]
mod tests {
    use super::*;
    use mm::range::{MapSize, VirtRange};

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
    fn smaps_tells_the_size_of_entries_and_the_marks() {
        let mut text = String::new();
        let stack = vma(0x1000, Prot::READ | Prot::WRITE, Sharing::Private, "[stack]");
        write_pages(&stack, &mut text).unwrap();
        assert_eq!(
            text,
            "Size:                132 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n\
             VmFlags: rd wr mr mw me \n"
        );
    }
}
