//! Memory that moves, that is locked, that others share: mremap, mincore, mlock, System V shared memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use guest::ensure;
use guest::fault::{self, Touch};
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::process::{self, Ended};
use guest::sys::{self, ANON, Errno, PAGE, RW};
use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ};

use crate::files::own_program;
use crate::memory::{anonymous, answers, did};
use crate::{Context, Named, family};

const PLAIN: &[Named] = &[
    ("mremap grows in place or moves, and the bytes come along", |_| grows()),
    ("mremap FIXED replaces what is there and takes rights along", |_| replaces()),
    ("mremap moves a private file and its copies", |_| moves_file()),
    ("mremap of forked memory keeps parent and child apart", |_| moves_forked()),
    ("mremap DONTUNMAP leaves memory that is zero", |_| leaves_zeros()),
    ("mremap takes the old address from another CPU", taken_from_another_cpu),
    ("mremap refuses bad arguments", |_| bad_mremap()),
    ("mincore tells what was touched", |_| mincore()),
    ("mlock brings pages in and refuses holes", |_| mlock()),
    ("MADV_WIPEONFORK gives the child zeros, also of a child", |_| wipe_on_fork()),
    ("a shared segment is there until it is removed and detached", |_| segment()),
    ("shmget finds a segment by its key", |_| keys()),
    ("shmat obeys its flags", |_| attaching()),
    ("shmget, shmat, shmdt and shmctl refuse bad arguments", |_| bad_segments()),
    ("a segment that nobody removes goes with the run", |_| left_behind()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("memory", PLAIN)
}

fn grows() -> Outcome {
    let memory = anonymous(8 * PAGE)?;
    did("munmap", sys::munmap(memory.addr + 2 * PAGE, 6 * PAGE))?;
    memory.store(PAGE, 0x11);
    let grown = sys::mremap(memory.addr, 2 * PAGE, 4 * PAGE, 0, 0);
    ensure!(grown == Ok(memory.addr), "grow into free addresses: {grown:x?}");
    answers("the new page", memory.store(3 * PAGE, 0x33), "ok")?;
    let wall = sys::mmap(memory.addr + 4 * PAGE, PAGE, PROT_READ, ANON | libc::MAP_FIXED, -1, 0);
    ensure!(wall.is_ok(), "mmap: {wall:x?}");
    let stays = sys::mremap(memory.addr, 4 * PAGE, 5 * PAGE, 0, 0);
    ensure!(stays == Err(Errno(libc::ENOMEM)), "grow into a mapping: {stays:x?}");
    let moved = sys::mremap(memory.addr, 4 * PAGE, 1024 * PAGE, MREMAP_MAYMOVE, 0);
    let new = moved.map_err(|errno| format!("MAYMOVE: {errno}"))?;
    let new = Mapping { addr: new, len: 1024 * PAGE };
    ensure!(new.addr != memory.addr, "it cannot have stayed");
    ensure!(new.load(PAGE) == Touch::Done(0x11) && new.load(3 * PAGE) == Touch::Done(0x33), "bytes are lost");
    ensure!(new.load(1023 * PAGE) == Touch::Done(0), "new memory is not zero");
    answers("the old place", memory.load(PAGE), "SIGSEGV/MAPERR")?;
    let shrunk = sys::mremap(new.addr, 1024 * PAGE, 2 * PAGE, 0, 0);
    ensure!(shrunk == Ok(new.addr), "shrink: {shrunk:x?}");
    ensure!(new.load(PAGE) == Touch::Done(0x11), "bytes are lost");
    answers("behind the new end", new.load(2 * PAGE), "SIGSEGV/MAPERR")
}

fn replaces() -> Outcome {
    let (memory, place) = (anonymous(3 * PAGE)?, anonymous(3 * PAGE)?);
    for page in 0..3 {
        memory.store(page * PAGE, 0x40 + page as u8);
        place.store(page * PAGE, 0x50 + page as u8);
    }
    did("mprotect", sys::mprotect(memory.addr + PAGE, PAGE, PROT_NONE))?;
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    let moved = sys::mremap(memory.addr + PAGE, PAGE, PAGE, flags, place.addr + PAGE);
    ensure!(moved == Ok(place.addr + PAGE), "move into the middle: {moved:x?}");
    answers("the moved page", place.load(PAGE), "SIGSEGV/ACCERR")?;
    did("mprotect", sys::mprotect(place.addr + PAGE, PAGE, RW))?;
    let bytes =
        [place.load(0), place.load(PAGE), place.load(2 * PAGE), memory.load(0), memory.load(2 * PAGE)];
    ensure!(bytes == [0x50, 0x41, 0x52, 0x40, 0x42].map(Touch::Done), "bytes: {bytes:?}");
    answers("the hole", memory.load(PAGE), "SIGSEGV/MAPERR")
}

fn moves_file() -> Outcome {
    let fd = own_program()?;
    let file =
        Mapping::new(0, 2 * PAGE, RW, libc::MAP_PRIVATE, fd, 0).map_err(|errno| format!("mmap: {errno}"))?;
    let _ = sys::close(fd);
    ensure!(file.load(1) == Touch::Done(b'E') && file.load(PAGE).is_done(), "no file");
    file.store(2, b'x');
    let place = anonymous(4 * PAGE)?.addr;
    let moved = sys::mremap(file.addr, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    let moved = Mapping { addr: moved.map_err(|errno| format!("mremap: {errno}"))?, len: 3 * PAGE };
    let bytes = [moved.load(1), moved.load(2), moved.load(3)];
    ensure!(bytes == [b'E', b'x', b'F'].map(Touch::Done), "bytes: {bytes:?}");
    answers("the page that it has grown by", moved.load(2 * PAGE), "ok")
}

/// Runs `body` in a child, which says what is wrong by its status.
fn in_child(body: impl FnOnce() -> bool) -> Outcome {
    let ended = process::fork(|| i32::from(!body())).and_then(process::Child::wait);
    ensure!(ended == Ok(Ended::Exited(0)), "in the child: {ended:?}");
    Ok(())
}

fn moves_forked() -> Outcome {
    let memory = anonymous(2 * PAGE)?;
    memory.store(0, 1);
    in_child(|| {
        let moved = sys::mremap(memory.addr, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
        let Ok(new) = moved else { return false };
        fault::load(new) == Touch::Done(1)
            && fault::store(new, 2).is_done()
            && memory.load(0) == Touch::Done(0)
    })?;
    ensure!(memory.load(0) == Touch::Done(1), "the child's store is seen");
    Ok(())
}

fn leaves_zeros() -> Outcome {
    let memory = anonymous(2 * PAGE)?;
    memory.store(PAGE, 7);
    let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    let new =
        sys::mremap(memory.addr, 2 * PAGE, 2 * PAGE, flags, 0).map_err(|errno| format!("mremap: {errno}"))?;
    let new = Mapping { addr: new, len: 2 * PAGE };
    ensure!(new.load(PAGE) == Touch::Done(7), "the byte has not moved");
    ensure!(memory.load(PAGE) == Touch::Done(0), "the old page is not zero");
    Ok(())
}

/// A thread stores while the memory moves; when the call has returned no store reaches the old address.
fn taken_from_another_cpu(context: &Context) -> Outcome {
    let on_device = context.device.as_ref().map(|device| device.map(device.align, 0));
    for memory in [Mapping::anonymous(PAGE)].into_iter().chain(on_device) {
        let memory = memory.map_err(|errno| format!("mmap: {errno}"))?;
        let (addr, len) = (memory.addr, memory.len);
        let flags = ANON | libc::MAP_NORESERVE;
        let room =
            Mapping::new(0, 2 * len, PROT_NONE, flags, -1, 0).map_err(|errno| format!("room: {errno}"))?;
        let place = room.addr.next_multiple_of(len);
        for _ in 0..20 {
            memory.store(0, 1);
            let (stores, has_moved) = (AtomicU64::new(0), AtomicBool::new(false));
            let storer = || loop {
                let moved_before = has_moved.load(SeqCst);
                match fault::store(addr, 1) {
                    Touch::Done(_) if moved_before => return Err("a store after the move".to_string()),
                    Touch::Done(_) => _ = stores.fetch_add(1, SeqCst),
                    touch => return answers("the store", touch, "SIGSEGV/MAPERR"),
                }
            };
            thread::scope(|scope| {
                let storer = scope.spawn(storer);
                while stores.load(SeqCst) < 100 && !storer.is_finished() {
                    thread::yield_now();
                }
                let moved = sys::mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, place);
                has_moved.store(true, SeqCst);
                let stored = storer.join().unwrap_or_else(|_| Err("the storer panicked".into()));
                moved.map_err(|errno| format!("mremap: {errno}")).and(stored)
            })?;
            let back = sys::mremap(place, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr);
            ensure!(back == Ok(addr), "mremap back: {back:x?}");
            // Else the next thread's stack could come there.
            let kept = sys::mmap(place, len, PROT_NONE, flags | libc::MAP_FIXED, -1, 0);
            ensure!(kept == Ok(place), "mmap: {kept:x?}");
        }
    }
    Ok(())
}

fn bad_mremap() -> Outcome {
    let memory = anonymous(8 * PAGE)?;
    let at = memory.addr;
    did("munmap", sys::munmap(at + 4 * PAGE, PAGE))?;
    let moves = MREMAP_MAYMOVE | MREMAP_FIXED;
    let high = 0xffff_8000_0000_0000;
    let cases: &[(&str, [usize; 3], i32, usize, i32)] = &[
        ("unknown flag", [at, PAGE, PAGE], 8, 0, libc::EINVAL),
        ("FIXED without MAYMOVE", [at, PAGE, PAGE], MREMAP_FIXED, at + 8 * PAGE, libc::EINVAL),
        ("DONTUNMAP without MAYMOVE", [at, PAGE, PAGE], MREMAP_DONTUNMAP, 0, libc::EINVAL),
        ("DONTUNMAP that grows", [at, PAGE, 2 * PAGE], MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, libc::EINVAL),
        ("misaligned", [at + 1, PAGE, PAGE], 0, 0, libc::EINVAL),
        ("new length 0", [at, PAGE, 0], 0, 0, libc::EINVAL),
        ("new length wraps", [at, PAGE, usize::MAX], MREMAP_MAYMOVE, 0, libc::EINVAL),
        ("new length 2^47", [at, PAGE, 1 << 47], MREMAP_MAYMOVE, 0, libc::ENOMEM),
        ("new length 2^62", [at, PAGE, 1 << 62], MREMAP_MAYMOVE, 0, libc::ENOMEM),
        ("nothing mapped", [at + 4 * PAGE, PAGE, PAGE], 0, 0, libc::EFAULT),
        ("address 0", [0, PAGE, 2 * PAGE], MREMAP_MAYMOVE, 0, libc::EFAULT),
        ("kernel half", [high, PAGE, 2 * PAGE], MREMAP_MAYMOVE, 0, libc::EFAULT),
        ("non-canonical", [1 << 48 | at, PAGE, 2 * PAGE], MREMAP_MAYMOVE, 0, libc::EFAULT),
        ("across a hole", [at, 6 * PAGE, 9 * PAGE], MREMAP_MAYMOVE, 0, libc::EFAULT),
        ("old length 2^62", [at, 1 << 62, 1 << 63], MREMAP_MAYMOVE, 0, libc::EFAULT),
        ("old length 0 of private memory", [at, 0, PAGE], MREMAP_MAYMOVE, 0, libc::EINVAL),
        ("onto itself", [at, 2 * PAGE, 2 * PAGE], moves, at + PAGE, libc::EINVAL),
        ("to a misaligned address", [at, PAGE, PAGE], moves, at + 1, libc::EINVAL),
        ("into the kernel half", [at, PAGE, PAGE], moves, high, libc::EINVAL),
        ("across the user limit", [at, PAGE, 2 * PAGE], moves, (1 << 47) - PAGE, libc::EINVAL),
    ];
    for &(what, [addr, old, new], flags, to, errno) in cases {
        let answer = sys::mremap(addr, old, new, flags, to);
        ensure!(answer == Err(Errno(errno)), "{what}: {answer:x?}, not {}", Errno(errno));
    }
    Ok(())
}

fn resident(addr: usize, len: usize, vector: usize) -> Result<usize, Errno> {
    sys::numbers(libc::SYS_mincore, &[addr, len, vector])
}

fn mincore() -> Outcome {
    let memory = anonymous(1200 * PAGE)?;
    let touched = [0, 3, 511, 512, 1199];
    for page in touched {
        memory.store(page * PAGE, 1);
    }
    let mut bytes = [9_u8; 1200];
    did("mincore", resident(memory.addr, memory.len, bytes.as_mut_ptr() as usize).map(drop))?;
    for (page, &byte) in bytes.iter().enumerate() {
        ensure!(byte & 1 == u8::from(touched.contains(&page)), "page {page}: {byte}");
    }
    did("munmap", sys::munmap(memory.addr + 700 * PAGE, PAGE))?;
    let vector = bytes.as_mut_ptr() as usize;
    for (what, [addr, len, vector], errno) in [
        ("misaligned", [memory.addr + 1, PAGE, vector], libc::EINVAL),
        ("a hole", [memory.addr, memory.len, vector], libc::ENOMEM),
        ("length 2^63", [memory.addr, 1 << 63, vector], libc::ENOMEM),
        ("a wrapping length", [memory.addr, usize::MAX, vector], libc::ENOMEM),
        ("the kernel half", [0xffff_8000_0000_0000, PAGE, vector], libc::ENOMEM),
        ("a vector in the kernel half", [memory.addr, PAGE, 0xffff_8000_0000_0000], libc::EFAULT),
        ("no vector", [memory.addr, PAGE, 0], libc::EFAULT),
    ] {
        let answer = resident(addr, len, vector);
        ensure!(answer == Err(Errno(errno)), "{what}: {answer:x?}, not {}", Errno(errno));
    }
    let nothing = resident(memory.addr, 0, 0);
    ensure!(nothing == Ok(0), "length 0: {nothing:x?}");
    Ok(())
}

fn mlock() -> Outcome {
    let lock = |addr: usize, len: usize| sys::numbers(libc::SYS_mlock, &[addr, len]).map(drop);
    let memory = anonymous(4 * PAGE)?;
    did("mlock", lock(memory.addr + 9, PAGE))?;
    let mut bytes = [9_u8; 4];
    did("mincore", resident(memory.addr, memory.len, bytes.as_mut_ptr() as usize).map(drop))?;
    ensure!(bytes == [1, 1, 0, 0], "resident after mlock of two pages: {bytes:?}");
    let on_fault = sys::numbers(libc::SYS_mlock2, &[memory.addr, memory.len, 1]);
    ensure!(on_fault == Ok(0), "MLOCK_ONFAULT: {on_fault:?}");
    let unknown = sys::numbers(libc::SYS_mlock2, &[memory.addr, memory.len, 2]);
    ensure!(unknown == Err(Errno(libc::EINVAL)), "unknown flag: {unknown:?}");
    did("mprotect", sys::mprotect(memory.addr + 2 * PAGE, PAGE, PROT_NONE))?;
    did("munmap", sys::munmap(memory.addr + 3 * PAGE, PAGE))?;
    for (what, addr, len, errno) in [
        ("PROT_NONE", memory.addr, 3 * PAGE, libc::ENOMEM),
        ("a hole", memory.addr, 4 * PAGE, libc::ENOMEM),
        ("the kernel half", 0xffff_8000_0000_0000, PAGE, libc::ENOMEM),
        ("a wrapping length", memory.addr + 1, usize::MAX, libc::EINVAL),
    ] {
        let answer = lock(addr, len);
        ensure!(answer == Err(Errno(errno)), "mlock of {what}: {answer:?}, not {}", Errno(errno));
    }
    let unlocked = sys::numbers(libc::SYS_munlock, &[memory.addr, 3 * PAGE]);
    ensure!(unlocked == Ok(0), "munlock: {unlocked:?}");
    Ok(())
}

fn wipe_on_fork() -> Outcome {
    let memory = anonymous(3 * PAGE)?;
    for page in 0..3 {
        memory.store(page * PAGE, 5);
    }
    did("madvise", sys::madvise(memory.addr + PAGE, PAGE, libc::MADV_WIPEONFORK))?;
    let sees = |bytes: [u8; 3]| (0..3).all(|page| memory.load(page * PAGE) == Touch::Done(bytes[page]));
    in_child(|| {
        let is_wiped = sees([5, 0, 5]) && memory.store(PAGE, 6).is_done();
        is_wiped && in_child(|| sees([5, 0, 5])).is_ok() && sees([5, 6, 5])
    })?;
    ensure!(sees([5, 5, 5]), "the parent's memory was wiped");
    did("madvise", sys::madvise(memory.addr, 3 * PAGE, libc::MADV_KEEPONFORK))?;
    in_child(|| sees([5, 5, 5]))
}

const PRIVATE: usize = libc::IPC_PRIVATE as usize;

fn shmget(key: usize, size: usize, flags: i32) -> Result<usize, Errno> {
    sys::numbers(libc::SYS_shmget, &[key, size, flags as usize])
}

fn shmat(id: usize, addr: usize, flags: i32) -> Result<usize, Errno> {
    sys::numbers(libc::SYS_shmat, &[id, addr, flags as usize])
}

fn shmdt(addr: usize) -> Result<(), Errno> {
    sys::numbers(libc::SYS_shmdt, &[addr]).map(drop)
}

fn remove(id: usize) -> Result<(), Errno> {
    sys::numbers(libc::SYS_shmctl, &[id, libc::IPC_RMID as usize, 0]).map(drop)
}

fn status(id: usize) -> Result<libc::shmid_ds, Errno> {
    // SAFETY: `shmid_ds` is plain numbers, for which all-zero is a value, and the call fills it.
    unsafe {
        let mut status: libc::shmid_ds = std::mem::zeroed();
        sys::call(libc::SYS_shmctl, [id, libc::IPC_STAT as usize, &raw mut status as usize, 0, 0, 0])?;
        Ok(status)
    }
}

fn segment() -> Outcome {
    // As fio does it: attached, removed at once, inherited, detached, removed again in vain.
    let size = 1_536_456;
    let id = shmget(PRIVATE, size, libc::IPC_CREAT | 0o600).map_err(|errno| format!("shmget: {errno}"))?;
    let addr = shmat(id, 0, 0).map_err(|errno| format!("shmat: {errno}"))?;
    ensure!(fault::load(addr + size) == Touch::Done(0), "the last page is not zero");
    did("IPC_RMID", remove(id))?;
    let stat = status(id).map_err(|errno| format!("IPC_STAT: {errno}"))?;
    let found = (stat.shm_segsz, stat.shm_nattch, stat.shm_perm.mode);
    ensure!(found == (size, 1, 0o1600), "size, attached, mode: {found:?}");
    in_child(|| {
        let counts = status(id).is_ok_and(|stat| stat.shm_nattch == 2);
        counts && fault::store(addr + 7 * PAGE, 0x77).is_done()
    })?;
    ensure!(fault::load(addr + 7 * PAGE) == Touch::Done(0x77), "the child's store is not seen");
    let again = shmat(id, 0, libc::SHM_RDONLY).map_err(|errno| format!("shmat again: {errno}"))?;
    ensure!(fault::load(again + 7 * PAGE) == Touch::Done(0x77), "other bytes");
    answers("store to SHM_RDONLY", fault::store(again, 1), "SIGSEGV/ACCERR")?;
    let raised = sys::mprotect(again, PAGE, RW);
    ensure!(raised == Err(Errno(libc::EACCES)), "mprotect of SHM_RDONLY: {raised:?}");
    did("shmdt", shmdt(again))?;
    answers("a detached page", fault::load(again), "SIGSEGV/MAPERR")?;
    // A part with rights of its own is detached, too.
    did("mprotect", sys::mprotect(addr + PAGE, PAGE, PROT_READ))?;
    did("shmdt", shmdt(addr))?;
    answers("its last page", fault::load(addr + size), "SIGSEGV/MAPERR")?;
    for (what, answer) in
        [("IPC_RMID", remove(id)), ("shmat", shmat(id, 0, 0).map(drop)), ("shmdt", shmdt(addr))]
    {
        ensure!(answer == Err(Errno(libc::EINVAL)), "{what} of a segment that is gone: {answer:?}");
    }
    Ok(())
}

fn keys() -> Outcome {
    let key = 0x0da5_17e0;
    let none = shmget(key, PAGE, 0o600);
    ensure!(none == Err(Errno(libc::ENOENT)), "a key of nobody: {none:?}");
    let id = shmget(key, 100, libc::IPC_CREAT | 0o640).map_err(|errno| format!("shmget: {errno}"))?;
    let same = (shmget(key, 0, 0), shmget(key, 100, libc::IPC_CREAT));
    ensure!(same == (Ok(id), Ok(id)), "the key again: {same:?}, not {id}");
    let larger = shmget(key, PAGE, 0);
    ensure!(larger == Err(Errno(libc::EINVAL)), "more than it has: {larger:?}");
    let fresh = shmget(key, 100, libc::IPC_CREAT | libc::IPC_EXCL);
    ensure!(fresh == Err(Errno(libc::EEXIST)), "IPC_EXCL: {fresh:?}");
    let stat = status(id).map_err(|errno| format!("IPC_STAT: {errno}"))?;
    let found = (stat.shm_perm.__key as usize, stat.shm_segsz, stat.shm_nattch, stat.shm_perm.mode);
    ensure!(found == (key, 100, 0, 0o640), "key, size, attached, mode: {found:?}");
    did("IPC_RMID", remove(id))?;
    let gone = shmget(key, 0, 0);
    ensure!(gone == Err(Errno(libc::ENOENT)), "the key of a removed segment: {gone:?}");
    Ok(())
}

fn attaching() -> Outcome {
    let id = shmget(PRIVATE, 2 * PAGE, 0o600).map_err(|errno| format!("shmget: {errno}"))?;
    let place = anonymous(4 * PAGE)?;
    place.store(0, 9);
    for (what, addr, flags) in [
        ("over a mapping", place.addr, 0),
        ("misaligned", place.addr + 1, 0),
        ("SHM_REMAP nowhere", 0, libc::SHM_REMAP),
        ("the kernel half", 0xffff_8000_0000_0000, 0),
        ("across the user limit", (1 << 47) - PAGE, libc::SHM_REMAP),
    ] {
        let answer = shmat(id, addr, flags);
        ensure!(answer == Err(Errno(libc::EINVAL)), "{what}: {answer:x?}");
    }
    let over = shmat(id, place.addr + 17, libc::SHM_RND | libc::SHM_REMAP);
    ensure!(over == Ok(place.addr), "SHM_RND | SHM_REMAP: {over:x?}");
    ensure!(place.load(0) == Touch::Done(0), "the old page is still there");
    let inside = shmdt(place.addr + PAGE);
    ensure!(inside == Err(Errno(libc::EINVAL)), "shmdt inside: {inside:?}");
    // A page of the program's own behind the hole stays where it is.
    did("munmap", sys::munmap(place.addr + PAGE, PAGE))?;
    did("shmdt", shmdt(place.addr))?;
    answers("the page behind", place.load(2 * PAGE), "ok")?;
    did("IPC_RMID", remove(id))
}

fn bad_segments() -> Outcome {
    for (what, key, size, flags, errno) in [
        ("size 0", PRIVATE, 0, 0, libc::EINVAL),
        ("size 2^64 - 1", PRIVATE, usize::MAX, 0, libc::ENOMEM),
        ("size 2^48", PRIVATE, 1 << 48, 0, libc::ENOMEM),
        ("huge pages", PRIVATE, 2 << 20, libc::SHM_HUGETLB, libc::ENOMEM),
    ] {
        let answer = shmget(key, size, flags | 0o600);
        ensure!(answer == Err(Errno(errno)), "shmget of {what}: {answer:?}, not {}", Errno(errno));
    }
    for id in [usize::MAX, 0x7fff_ffff, 1 << 40 | 0x7fff_0000] {
        let answers = (shmat(id, 0, 0), remove(id), status(id).map(drop));
        let invalid = Errno(libc::EINVAL);
        ensure!(answers == (Err(invalid), Err(invalid), Err(invalid)), "number {id:#x}: {answers:?}");
    }
    let nowhere = (shmdt(0), shmdt(anonymous(PAGE)?.addr), shmdt(0xffff_8000_0000_0000));
    let invalid = Err(Errno(libc::EINVAL));
    ensure!(nowhere == (invalid, invalid, invalid), "shmdt of what is no segment: {nowhere:?}");
    let id = shmget(PRIVATE, PAGE, 0o600).map_err(|errno| format!("shmget: {errno}"))?;
    let nowhere = sys::numbers(libc::SYS_shmctl, &[id, libc::IPC_STAT as usize, 0xffff_8000_0000_0000]);
    ensure!(nowhere == Err(Errno(libc::EFAULT)), "IPC_STAT to the kernel half: {nowhere:?}");
    let unknown = sys::numbers(libc::SYS_shmctl, &[id, 99, 0]);
    ensure!(unknown == Err(Errno(libc::EINVAL)), "command 99: {unknown:?}");
    did("IPC_RMID", remove(id))
}

/// The kernel says so when memory is missing at the end.
fn left_behind() -> Outcome {
    let id = shmget(PRIVATE, 64 * PAGE, 0o600).map_err(|errno| format!("shmget: {errno}"))?;
    let addr = shmat(id, 0, 0).map_err(|errno| format!("shmat: {errno}"))?;
    for page in 0..64 {
        fault::store(addr + page * PAGE, 1);
    }
    did("shmdt", shmdt(addr))?;
    let addr = shmat(id, 0, 0).map_err(|errno| format!("shmat: {errno}"))?;
    ensure!(fault::load(addr + 63 * PAGE) == Touch::Done(1), "the segment has forgotten its bytes");
    did("shmdt", shmdt(addr))
}
