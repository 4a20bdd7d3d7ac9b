//! Memory that is not dax: anonymous, brk, private files, and addresses that are nobody's.

use guest::ensure;
use guest::fault::{self, Touch};
use guest::kernel_view::Counters;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, ANON, Errno, PAGE, RW};
use libc::{MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ};

use crate::files::own_program;
use crate::{Context, Named, family};

const PLAIN: &[Named] = &[
    ("anonymous memory is zero", |_| anonymous_is_zero()),
    ("128 MiB of PROT_NONE cost nothing until opened", |_| arena()),
    ("mprotect takes rights away and gives them back", |_| rights()),
    ("munmap of the middle leaves both ends", |_| middle_unmapped()),
    ("MAP_FIXED replaces, MAP_FIXED_NOREPLACE refuses", |_| fixed()),
    ("anonymous mmap refuses bad arguments", |_| bad_mmap()),
    ("mprotect, munmap and madvise refuse bad ranges", |_| bad_ranges()),
    ("MADV_DONTNEED gives zero pages", |_| dontneed_is_zero()),
    ("MAP_POPULATE has the pages there", |_| populate()),
    ("data is not code", |_| data_is_not_code()),
    ("brk grows, shrinks and zeroes", |_| brk()),
    ("private file mapping has the file's bytes", |_| file_bytes()),
    ("private file mapping keeps stores to itself", |_| file_private()),
    ("private file mapping is zero behind the end, SIGBUS a page later", |_| file_end()),
    ("kernel addresses are SIGSEGV", |_| kernel_addresses()),
    ("non-canonical addresses are SIGSEGV with si_addr 0", |_| non_canonical()),
];

const COUNTED: &[Named] = &[
    ("untouched memory takes no frames", |_| lazily()),
    ("munmap gives every frame back", |_| frames_back()),
    ("a dax mapping takes table frames only and gives them back", dax_frames_back),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("memory", PLAIN)
}

/// The cases that need this kernel's counters.
pub fn counted_cases() -> Vec<Case<Context>> {
    family("memory", COUNTED)
}

/// Private anonymous memory, or why there is none.
pub fn anonymous(len: usize) -> Result<Mapping, String> {
    Mapping::anonymous(len).map_err(|errno| format!("mmap of {len} anonymous bytes: {errno}"))
}

/// Fails when the call did.
pub fn did(what: &str, answer: Result<(), Errno>) -> Outcome {
    answer.map_err(|errno| format!("{what}: {errno}"))
}

/// Fails unless the touch answered `wanted` (`ok`, `SIGSEGV/MAPERR`, ...).
pub fn answers(what: &str, touch: Touch, wanted: &str) -> Outcome {
    ensure!(touch.to_string() == wanted, "{what}: {touch}, not {wanted}");
    Ok(())
}

fn anonymous_is_zero() -> Outcome {
    let memory = anonymous(16 * PAGE)?;
    for page in 0..16 {
        ensure!(memory.load(page * PAGE + page) == Touch::Done(0), "page {page} is not zero");
        memory.store(page * PAGE + page, 0xee);
        ensure!(memory.load(page * PAGE + page) == Touch::Done(0xee), "page {page} lost its byte");
    }
    Ok(())
}

fn arena() -> Outcome {
    let flags = ANON | libc::MAP_NORESERVE;
    let arena =
        Mapping::new(0, 128 << 20, PROT_NONE, flags, -1, 0).map_err(|errno| format!("mmap: {errno}"))?;
    answers("load before mprotect", arena.load(0), "SIGSEGV/ACCERR")?;
    for at in [0, 64 << 20, (128 << 20) - PAGE] {
        did("mprotect", sys::mprotect(arena.addr + at, PAGE, RW))?;
        answers("store", arena.store(at + 9, 1), "ok")?;
    }
    answers("load beside the opened page", arena.load(PAGE), "SIGSEGV/ACCERR")
}

fn rights() -> Outcome {
    let memory = anonymous(PAGE)?;
    memory.store(5, 0x42);
    for (prot, read, write) in [
        (PROT_READ, "ok", "SIGSEGV/ACCERR"),
        (PROT_NONE, "SIGSEGV/ACCERR", "SIGSEGV/ACCERR"),
        (RW, "ok", "ok"),
        (libc::PROT_WRITE, "ok", "ok"),
    ] {
        did("mprotect", sys::mprotect(memory.addr, PAGE, prot))?;
        answers(&format!("load with prot {prot}"), memory.load(5), read)?;
        answers(&format!("store with prot {prot}"), memory.store(6, 1), write)?;
    }
    ensure!(memory.load(5) == Touch::Done(0x42), "the byte is gone");
    Ok(())
}

fn middle_unmapped() -> Outcome {
    let memory = anonymous(3 * PAGE)?;
    for page in 0..3 {
        memory.store(page * PAGE, 7);
    }
    did("munmap", sys::munmap(memory.addr + PAGE, PAGE))?;
    answers("the first page", memory.load(0), "ok")?;
    answers("the middle page", memory.load(PAGE), "SIGSEGV/MAPERR")?;
    answers("the last page", memory.load(2 * PAGE), "ok")
}

fn fixed() -> Outcome {
    let memory = anonymous(4 * PAGE)?;
    memory.store(PAGE, 7);
    let refused = sys::mmap(memory.addr + PAGE, PAGE, RW, ANON | libc::MAP_FIXED_NOREPLACE, -1, 0);
    ensure!(refused == Err(Errno(libc::EEXIST)), "MAP_FIXED_NOREPLACE over a live page: {refused:x?}");
    ensure!(memory.load(PAGE) == Touch::Done(7), "the refused mapping changed the page");
    let placed = sys::mmap(memory.addr + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0);
    ensure!(placed == Ok(memory.addr + PAGE), "MAP_FIXED went to {placed:x?}");
    ensure!(memory.load(PAGE) == Touch::Done(0), "the new page is not fresh");
    Ok(())
}

fn bad_mmap() -> Outcome {
    let place = anonymous(PAGE)?.addr;
    let cases: &[(&str, usize, usize, i32, i32)] = &[
        ("len 0", 0, 0, ANON, libc::EINVAL),
        ("len wraps", 0, usize::MAX, ANON, libc::ENOMEM),
        ("len 2^47", 0, 1 << 47, ANON, libc::ENOMEM),
        ("fixed and misaligned", place + 1, PAGE, ANON | MAP_FIXED, libc::EINVAL),
        ("fixed in the kernel half", 0xffff_8000_0000_0000, PAGE, ANON | MAP_FIXED, libc::ENOMEM),
        ("fixed across the user limit", (1 << 47) - PAGE, 2 * PAGE, ANON | MAP_FIXED, libc::ENOMEM),
        ("neither shared nor private", 0, PAGE, libc::MAP_ANONYMOUS, libc::EINVAL),
    ];
    for &(what, addr, len, flags, errno) in cases {
        let answer = sys::mmap(addr, len, RW, flags, -1, 0);
        ensure!(answer == Err(Errno(errno)), "{what}: {answer:x?}, not {}", Errno(errno));
    }
    let no_file = sys::mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0);
    ensure!(no_file == Err(Errno(libc::EBADF)), "fd -1: {no_file:x?}, not EBADF");
    let no_offset = sys::mmap(0, 2 * PAGE, RW, ANON, -1, 4096_u64.wrapping_neg());
    ensure!(no_offset.is_ok(), "anonymous at offset -4096: {no_offset:x?}");
    did("munmap", sys::munmap(no_offset.unwrap_or(0), 2 * PAGE))?;
    let hinted = sys::mmap(0xffff_8000_0000_0000, PAGE, RW, ANON, -1, 0);
    ensure!(hinted.is_ok(), "a hint in the kernel half: {hinted:x?}");
    did("munmap", sys::munmap(hinted.unwrap_or(0), PAGE))
}

fn bad_ranges() -> Outcome {
    const KERNEL: usize = 0xffff_8000_0000_0000;
    let hole = anonymous(2 * PAGE)?;
    let (at, _) = (hole.addr, sys::munmap(hole.addr + PAGE, PAGE));
    let cases = [
        ("mprotect misaligned", sys::mprotect(at + 1, PAGE, RW), libc::EINVAL),
        ("mprotect over a hole", sys::mprotect(at, 2 * PAGE, RW), libc::ENOMEM),
        ("mprotect wraps", sys::mprotect(at, usize::MAX - PAGE, RW), libc::ENOMEM),
        ("mprotect unknown prot", sys::mprotect(at, PAGE, 0x40), libc::EINVAL),
        ("munmap misaligned", sys::munmap(at + 1, PAGE), libc::EINVAL),
        ("munmap len 0", sys::munmap(at, 0), libc::EINVAL),
        ("munmap kernel half", sys::munmap(KERNEL, PAGE), libc::EINVAL),
        ("munmap wraps", sys::munmap(at, usize::MAX - PAGE), libc::EINVAL),
        ("madvise misaligned", sys::madvise(at + 1, PAGE, 0), libc::EINVAL),
        ("madvise unknown", sys::madvise(at, PAGE, 9999), libc::EINVAL),
        ("madvise over a hole", sys::madvise(at, 2 * PAGE, libc::MADV_DONTNEED), libc::ENOMEM),
        ("msync over a hole", sys::msync(at, 2 * PAGE, libc::MS_ASYNC), libc::ENOMEM),
        ("msync sync and async", sys::msync(at, PAGE, libc::MS_SYNC | libc::MS_ASYNC), libc::EINVAL),
        ("msync misaligned", sys::msync(at + 1, PAGE, libc::MS_SYNC), libc::EINVAL),
    ];
    for (what, answer, errno) in cases {
        ensure!(answer == Err(Errno(errno)), "{what}: {answer:?}, not {}", Errno(errno));
    }
    did("munmap of a hole", sys::munmap(at + PAGE, PAGE))?;
    did("mprotect of nothing", sys::mprotect(at, 0, RW))?;
    did("madvise of nothing", sys::madvise(at, 0, 0))
}

fn dontneed_is_zero() -> Outcome {
    let memory = anonymous(2 * PAGE)?;
    memory.store(0, 5);
    memory.store(PAGE, 6);
    did("madvise", sys::madvise(memory.addr, PAGE, libc::MADV_DONTNEED))?;
    ensure!(memory.load(0) == Touch::Done(0), "the dropped page is not zero");
    ensure!(memory.load(PAGE) == Touch::Done(6), "the other page was dropped too");
    Ok(())
}

fn populate() -> Outcome {
    let memory = Mapping::new(0, 64 * PAGE, RW, ANON | libc::MAP_POPULATE, -1, 0)
        .map_err(|errno| format!("mmap: {errno}"))?;
    (0..64).try_for_each(|page| answers("store", memory.store(page * PAGE, 1), "ok"))
}

fn data_is_not_code() -> Outcome {
    const RET: u8 = 0xc3;
    let page = anonymous(PAGE)?;
    page.store(0, RET);
    answers("call of a data page", fault::exec(page.addr), "SIGSEGV/ACCERR")?;
    did("mprotect", sys::mprotect(page.addr, PAGE, PROT_READ | PROT_EXEC))?;
    answers("call of a code page", fault::exec(page.addr), "ok")?;
    let local = RET;
    answers("call of the stack", fault::exec(&raw const local as usize), "SIGSEGV/ACCERR")
}

fn brk_to(addr: usize) -> usize {
    sys::numbers(libc::SYS_brk, &[addr]).unwrap_or(0)
}

fn brk() -> Outcome {
    // The C library uses the first part; this case takes its own beyond it and puts the end back.
    let end = brk_to(0);
    ensure!(end != 0, "brk(0) answers 0");
    let fresh = end.next_multiple_of(PAGE);
    ensure!(brk_to(fresh + 4 * PAGE) == fresh + 4 * PAGE, "brk did not grow");
    ensure!(fault::load(fresh + PAGE) == Touch::Done(0), "fresh brk memory is not zero");
    fault::store(fresh + PAGE, 9);
    ensure!(brk_to(fresh) == fresh, "brk did not shrink");
    answers("above the shrunk end", fault::load(fresh + PAGE), "SIGSEGV/MAPERR")?;
    ensure!(brk_to(fresh + 4 * PAGE) == fresh + 4 * PAGE, "brk did not grow again");
    ensure!(fault::load(fresh + PAGE) == Touch::Done(0), "regrown brk memory is not zero");
    ensure!(brk_to(1) == fresh + 4 * PAGE, "brk below the heap moved it");
    ensure!(brk_to(1 << 60) == fresh + 4 * PAGE, "brk to 2^60 moved it");
    ensure!(brk_to(end) == end, "brk did not go back");
    Ok(())
}

fn file_mapping(len: usize, off: u64) -> Result<(Mapping, i32), String> {
    let fd = own_program()?;
    let mapping = Mapping::new(0, len, RW, MAP_PRIVATE, fd, off).map_err(|errno| format!("mmap: {errno}"))?;
    Ok((mapping, fd))
}

fn file_bytes() -> Outcome {
    for off in [0_u64, PAGE as u64, 3 * PAGE as u64] {
        let (mapping, fd) = file_mapping(2 * PAGE, off)?;
        let mut bytes = [0; 2 * PAGE];
        let len = sys::pread(fd, &mut bytes, off).map_err(|errno| format!("pread: {errno}"))?;
        did("close", sys::close(fd))?;
        ensure!(len == bytes.len(), "pread gave {len} bytes");
        for (at, byte) in bytes.into_iter().enumerate().step_by(61) {
            let found = mapping.load(at);
            ensure!(found == Touch::Done(byte), "byte {at} from {off:#x} is {found:?}, not {byte}");
        }
    }
    Ok(())
}

fn file_private() -> Outcome {
    let (mapping, fd) = file_mapping(PAGE, 0)?;
    answers("store", mapping.store(1, b'?'), "ok")?;
    let mut head = [0; 4];
    let _ = sys::pread(fd, &mut head, 0);
    ensure!(&head == b"\x7fELF", "the store reached the file: {head:?}");
    let again =
        Mapping::new(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0).map_err(|errno| format!("mmap: {errno}"))?;
    let _ = sys::close(fd);
    ensure!(again.load(1) == Touch::Done(b'E'), "the store reached another mapping");
    answers("store to a read-only mapping", again.store(1, 0), "SIGSEGV/ACCERR")?;
    ensure!(mapping.load(1) == Touch::Done(b'?'), "the store is gone");
    Ok(())
}

fn file_end() -> Outcome {
    let fd = own_program()?;
    let size = sys::fstat(fd).map_err(|errno| format!("fstat: {errno}"))?.st_size as usize;
    let last = size & !(PAGE - 1);
    let mapping = Mapping::new(0, 3 * PAGE, RW, MAP_PRIVATE, fd, last as u64)
        .map_err(|errno| format!("mmap: {errno}"))?;
    let _ = sys::close(fd);
    if size > last {
        let behind = mapping.load(PAGE - 1);
        ensure!(size == last + PAGE || behind == Touch::Done(0), "behind the end: {behind:?}, not zero");
        answers("load a page behind the end", mapping.load(PAGE), "SIGBUS/ADRERR")?;
    }
    answers("load two pages behind the end", mapping.load(2 * PAGE), "SIGBUS/ADRERR")?;
    answers("store two pages behind the end", mapping.store(2 * PAGE, 1), "SIGBUS/ADRERR")
}

const KERNEL_ADDRESSES: &[usize] = &[
    0xffff_8000_0000_0000,
    0xffff_8000_0010_0000,
    0xffff_8880_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_8010_0000,
    0xffff_ffff_8020_0000,
    0xffff_ffff_ffff_f000,
    0xffff_ffff_ffff_ffff,
];

fn kernel_addresses() -> Outcome {
    for &addr in KERNEL_ADDRESSES {
        for (what, touch) in
            [("load", fault::load(addr)), ("store", fault::store(addr, 0)), ("call", fault::exec(addr))]
        {
            let Touch::Faulted(fault) = touch else { return Err(format!("{what} of {addr:#x} worked")) };
            // Whether the kernel says mapped or not would tell what lies there: Linux says MAPERR.
            ensure!(touch.to_string() == "SIGSEGV/MAPERR", "{what} of {addr:#x}: {touch}");
            ensure!(fault.addr == addr, "{what} of {addr:#x}: si_addr {:#x}", fault.addr);
        }
    }
    Ok(())
}

fn non_canonical() -> Outcome {
    for addr in [1 << 47, 0x8000_1234_5678_9abc, 0x00ff_0000_0000_0000, 0xffff_7fff_ffff_ffff] {
        for (what, touch) in [("load", fault::load(addr)), ("store", fault::store(addr, 0))] {
            let Touch::Faulted(fault) = touch else { return Err(format!("{what} of {addr:#x} worked")) };
            ensure!(touch.to_string() == "SIGSEGV/KERNEL", "{what} of {addr:#x}: {touch}");
            ensure!(fault.addr == 0, "{what} of {addr:#x}: si_addr {:#x}, not 0", fault.addr);
        }
    }
    Ok(())
}

fn free_frames() -> Result<i64, String> {
    Counters::read().map(|counters| counters.free_frames as i64)
}

fn lazily() -> Outcome {
    let before = free_frames()?;
    let memory = anonymous(1 << 30)?;
    let after = free_frames()?;
    ensure!(before - after <= 4, "1 GiB untouched took {} frames", before - after);
    memory.store(0, 1);
    let touched = free_frames()?;
    ensure!(after - touched <= 4, "one page took {} frames", after - touched);
    ensure!(touched < after, "one page took no frame");
    Ok(())
}

/// Frames that `f` keeps for good, from its second run: the first may fill caches that stay.
fn frames_kept(f: impl Fn() -> Outcome) -> Result<i64, String> {
    f()?;
    let before = free_frames()?;
    f()?;
    Ok(before - free_frames()?)
}

fn frames_back() -> Outcome {
    let kept = frames_kept(|| {
        let memory = anonymous(2000 * PAGE)?;
        (0..2000).try_for_each(|page| answers("store", memory.store(page * PAGE, 1), "ok"))
    })?;
    ensure!(kept == 0, "{kept} frames did not come back");
    Ok(())
}

fn dax_frames_back(context: &Context) -> Outcome {
    let device = context.device()?;
    let kept = frames_kept(|| {
        let before = free_frames()?;
        let mapping = device.map(4 * device.align, 0).map_err(|errno| format!("mmap: {errno}"))?;
        (0..4).try_for_each(|unit| answers("store", mapping.store(unit * device.align, 1), "ok"))?;
        let taken = before - free_frames()?;
        ensure!(taken <= 8, "four touches took {taken} frames");
        Ok(())
    })?;
    ensure!(kept == 0, "{kept} frames did not come back");
    Ok(())
}
