//! Files as memory: mappings of them, cuts under mappings, and copies between them and dax memory.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use guest::ensure;
use guest::fault::Touch;
use guest::ktap::Outcome;
use guest::mapping::Mapping;
use guest::process::{self, Ended};
use guest::sys::{self, Errno, PAGE, RW};

use super::{Scratch, errno, text};
use crate::{Context, Named};

/// The cases.
pub const CASES: &[Named] = &[
    ("a shared mapping is the file, a private one a copy", |_| mappings()),
    ("what a truncation cuts off is SIGBUS, in children too", |_| cut_mapping()),
    ("a file is cut under those that write to it and map it", |_| raced_cuts()),
    ("O_DIRECT reads to and writes from dax memory", direct),
];

fn mappings() -> Outcome {
    let scratch = Scratch::new("mappings")?;
    let file = scratch.file("a", &[b'a'; 3 * PAGE])?;
    let map = |flags| {
        let mapping = Mapping::new(0, 3 * PAGE, RW, flags, file.as_raw_fd(), 0);
        mapping.map_err(|errno| format!("mmap, flags {flags:#x}: {errno}"))
    };
    let (shared, again) = (map(libc::MAP_SHARED)?, map(libc::MAP_SHARED)?);
    let private = map(libc::MAP_PRIVATE)?;
    let steps = [
        ("private sees the file", private.load(PAGE), Touch::Done(b'a')),
        ("private store", private.store(PAGE, b'p'), Touch::Done(0)),
        ("shared store", shared.store(PAGE, b's'), Touch::Done(0)),
        ("the other shared", again.load(PAGE), Touch::Done(b's')),
        ("private keeps its own", private.load(PAGE), Touch::Done(b'p')),
    ];
    for (what, touch, wanted) in steps {
        ensure!(touch == wanted, "{what}: {touch:?}, not {wanted:?}");
    }
    let mut bytes = [0; 2];
    file.read_exact_at(&mut bytes, PAGE as u64).map_err(text)?;
    ensure!(&bytes == b"sa", "read(2) after a store: {bytes:?}");
    file.write_all_at(b"w", PAGE as u64 + 1).map_err(text)?;
    ensure!(shared.load(PAGE + 1) == Touch::Done(b'w'), "the mapping after write(2)");
    // From one mapping of the file to another place of it: the copy faults on the file that it writes.
    // SAFETY: the mapping is three pages long.
    let source = unsafe { std::slice::from_raw_parts((again.addr + PAGE) as *const u8, PAGE) };
    ensure!(sys::pwrite(file.as_raw_fd(), source, 2 * PAGE as u64) == Ok(PAGE), "write from its own mapping");
    ensure!(shared.load(2 * PAGE) == Touch::Done(b's'), "{:?}", shared.load(2 * PAGE));
    let child = process::fork(|| {
        let seen = shared.load(PAGE + 1).is_done();
        if seen && shared.store(0, b'c').is_done() && private.store(PAGE, b'q').is_done() { 0 } else { 1 }
    });
    let ended = child.and_then(|child| child.wait());
    ensure!(ended == Ok(Ended::Exited(0)), "the child {ended:?}");
    let found = (shared.load(0), private.load(PAGE));
    ensure!(found == (Touch::Done(b'c'), Touch::Done(b'p')), "after the child: {found:?}");
    let sync = Mapping::new(0, PAGE, RW, libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC, file.as_raw_fd(), 0);
    ensure!(sync.err() == Some(Errno(libc::EOPNOTSUPP)), "MAP_SYNC of a file in RAM");
    Ok(())
}

fn cut_mapping() -> Outcome {
    let scratch = Scratch::new("cut")?;
    let file = scratch.file("a", &[b'a'; 3 * PAGE])?;
    let map = Mapping::new(0, 4 * PAGE, RW, libc::MAP_SHARED, file.as_raw_fd(), 0);
    let map = map.map_err(|errno| format!("mmap: {errno}"))?;
    let is_bus = |touch: Touch| matches!(touch, Touch::Faulted(fault) if fault.signal == libc::SIGBUS);
    ensure!((0..3).all(|page| map.load(page * PAGE).is_done()), "the file's pages");
    ensure!(is_bus(map.load(3 * PAGE)), "behind the end: {:?}", map.load(3 * PAGE));
    let words = process::shared_words(1).map_err(|errno| format!("shared memory: {errno}"))?;
    let child = process::fork(|| {
        let before = map.load(2 * PAGE).is_done();
        words[0].store(1, std::sync::atomic::Ordering::SeqCst);
        while words[0].load(std::sync::atomic::Ordering::SeqCst) == 1 {
            std::thread::yield_now();
        }
        if before && is_bus(map.load(2 * PAGE)) && map.load(0).is_done() { 0 } else { 1 }
    });
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    while words[0].load(std::sync::atomic::Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let cut = file.set_len(PAGE as u64 + 1);
    words[0].store(2, std::sync::atomic::Ordering::SeqCst);
    let ended = child.wait();
    cut.map_err(text)?;
    ensure!(ended == Ok(Ended::Exited(0)), "the child {ended:?}");
    let touches = (map.load(PAGE), map.load(PAGE + 1), map.load(2 * PAGE));
    ensure!(touches.0 == Touch::Done(b'a') && touches.1 == Touch::Done(0), "{touches:?}");
    ensure!(is_bus(touches.2) && is_bus(map.store(2 * PAGE, 1)), "what was cut off: {touches:?}");
    file.set_len(3 * PAGE as u64).map_err(text)?;
    ensure!(map.load(2 * PAGE) == Touch::Done(0), "zeros when it grows again: {:?}", map.load(2 * PAGE));
    Ok(())
}

/// Children store to a mapping and write to the file while it is cut and grows; a store is done or SIGBUS, and what a
/// cut took never shows again.
fn raced_cuts() -> Outcome {
    const ROUNDS: usize = 200;
    let scratch = Scratch::new("raced")?;
    let file = scratch.file("a", b"")?;
    let fd = file.as_raw_fd();
    let map = Mapping::new(0, 8 * PAGE, RW, libc::MAP_SHARED, fd, 0);
    let map = map.map_err(|errno| format!("mmap: {errno}"))?;
    let mut children = Vec::new();
    for number in 0..3 {
        let child = process::fork(|| {
            for round in 0..ROUNDS {
                let at = (round + number) % 8 * PAGE;
                let is_right = match map.store(at + 100, 1) {
                    Touch::Done(_) => true,
                    Touch::Faulted(fault) => fault.signal == libc::SIGBUS,
                };
                if !is_right || sys::pwrite(fd, &[1; 64], at as u64 + 200) != Ok(64) {
                    return 1;
                }
            }
            0
        });
        children.push(child.map_err(|errno| format!("fork: {errno}"))?);
    }
    for _ in 0..ROUNDS {
        file.set_len(PAGE as u64 + 1).map_err(text)?;
        file.set_len(8 * PAGE as u64).map_err(text)?;
    }
    for child in children {
        let ended = child.wait();
        ensure!(ended == Ok(Ended::Exited(0)), "a child {ended:?}");
    }
    file.set_len(0).map_err(text)?;
    file.set_len(8 * PAGE as u64).map_err(text)?;
    let left = fs::read(scratch.join("a")).map_err(text)?;
    ensure!(left.len() == 8 * PAGE && left.iter().all(|byte| *byte == 0), "bytes came back");
    ensure!((0..8).all(|page| map.load(page * PAGE + 100) == Touch::Done(0)), "the mapping shows old pages");
    Ok(())
}

fn direct(context: &Context) -> Outcome {
    let Ok(device) = context.device() else { return Ok(()) };
    let scratch = Scratch::new("direct")?;
    let map = device.map(device.align, 0).map_err(|errno| format!("mmap: {errno}"))?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT);
    let file = options.open(scratch.join("a")).map_err(text)?;
    ensure!((0..PAGE).step_by(512).all(|at| map.store(at, 7).is_done()), "stores to {}", device.align);
    // SAFETY: the mapping is at least a page long.
    let memory = unsafe { std::slice::from_raw_parts_mut(map.addr as *mut u8, PAGE) };
    ensure!(sys::pwrite(file.as_raw_fd(), memory, 0) == Ok(PAGE), "write from dax memory");
    file.write_all_at(&[9], 512).map_err(text)?;
    ensure!(sys::pread(file.as_raw_fd(), memory, 0) == Ok(PAGE), "read to dax memory");
    let found = [map.load(0), map.load(512), map.load(1024)];
    ensure!(found == [7, 9, 7].map(Touch::Done), "{found:?}");
    let refused = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(OsStr::from_bytes(device.path.as_bytes()));
    ensure!(errno(refused) == libc::EINVAL, "O_DIRECT of a device");
    Ok(())
}
