//! Files as bytes: written, read, cut, sparse, without a name or room, and what is told about them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use guest::ensure;
use guest::fault;
use guest::kernel_view::Counters;
use guest::ktap::Outcome;
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};

use super::{Scratch, c_path, errno, listing, text};
use crate::Named;

/// The cases.
pub const CASES: &[Named] = &[
    ("a file is written, read, appended to and cut", |_| contents()),
    ("vectors are written and read at a position", |_| vectors()),
    ("a sparse file has zeros", |_| sparse()),
    ("what has no name any more lives on", |_| nameless()),
    ("modes and times are kept", |_| attributes()),
    ("a file that finds no room is ENOSPC", |_| no_room()),
    ("a file of the initrd can be written", |_| initrd_file()),
];

/// Those that need the kernel's counters.
pub const COUNTED: &[Named] = &[("what is removed gives its frames back", |_| frames_return())];

fn contents() -> Outcome {
    let scratch = Scratch::new("contents")?;
    let mut file = scratch.file("a", b"0123456789")?;
    ensure!(file.metadata().map_err(text)?.len() == 10, "{:?}", file.metadata());
    file.write_all_at(b"xy", 4).map_err(text)?;
    file.write_all_at(b"end", 5000).map_err(text)?;
    let mut all = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(text)?;
    file.read_to_end(&mut all).map_err(text)?;
    ensure!(all.len() == 5003 && all.starts_with(b"0123xy6789\0") && all.ends_with(b"\0end"), "{all:?}");

    let mut log = OpenOptions::new().append(true).open(scratch.join("a")).map_err(text)?;
    log.write_all(b"!").map_err(text)?;
    // As on Linux, pwrite appends, too.
    log.write_all_at(b"?", 0).map_err(text)?;
    let read = fs::read(scratch.join("a")).map_err(text)?;
    ensure!(read.ends_with(b"end!?") && read.len() == 5005, "{} bytes", read.len());
    ensure!(log.stream_position().map_err(text)? == 5004, "position {:?}", log.stream_position());

    file.set_len(4).map_err(text)?;
    file.set_len(6000).map_err(text)?;
    let read = fs::read(scratch.join("a")).map_err(text)?;
    ensure!(read.len() == 6000 && read.starts_with(b"0123"), "{} bytes", read.len());
    ensure!(read[4..].iter().all(|byte| *byte == 0), "what was cut off came back");
    ensure!(errno(file.write_at(b"x", i64::MAX as u64)) == libc::EFBIG, "a write at the end of the world");
    for (what, answer) in [
        ("ftruncate -1", sys::numbers(libc::SYS_ftruncate, &[file.as_raw_fd() as usize, usize::MAX])),
        ("ftruncate of a descriptor for reading", {
            let file = File::open(scratch.join("a")).map_err(text)?;
            sys::numbers(libc::SYS_ftruncate, &[file.as_raw_fd() as usize, 1])
        }),
    ] {
        ensure!(answer == Err(Errno(libc::EINVAL)), "{what}: {answer:?}");
    }
    Ok(())
}

fn vectors() -> Outcome {
    let scratch = Scratch::new("vectors")?;
    let file = scratch.file("a", b"0123456789")?;
    let mut read = [[0_u8; 2]; 2];
    let mut transfer = |number: i64, fd: i32, bytes: &[u8], at: i64| {
        let from = [bytes.as_ptr() as usize, 1, bytes.as_ptr() as usize + 1, bytes.len() - 1];
        let to = [read[0].as_mut_ptr() as usize, 2, read[1].as_mut_ptr() as usize, 2];
        let parts = if number == libc::SYS_preadv { to } else { from };
        // SAFETY: two iovecs, which name bytes that are read and live arrays that may be written.
        unsafe { sys::call(number, [fd as usize, parts.as_ptr() as usize, 2, at as usize, 0, 0]) }
    };
    let fd = file.as_raw_fd();
    let mut ends = [0_i32; 2];
    // SAFETY: the call writes two descriptors.
    let made = unsafe { sys::call(libc::SYS_pipe, [ends.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) };
    ensure!(made == Ok(0), "pipe: {made:?}");
    let answers = [
        transfer(libc::SYS_pwritev, fd, b"abc", 3),
        transfer(libc::SYS_preadv, fd, b"", 2),
        transfer(libc::SYS_preadv, fd, b"", 9),
        transfer(libc::SYS_preadv, fd, b"", -1),
        transfer(libc::SYS_preadv, ends[0], b"", 0),
        transfer(libc::SYS_pwritev, ends[1], b"abc", 0),
    ];
    let _ = ends.map(sys::close);
    let pipe = Err(Errno(libc::ESPIPE));
    ensure!(answers == [Ok(3), Ok(4), Ok(1), Err(Errno(libc::EINVAL)), pipe, pipe], "{answers:?}");
    ensure!(read == [*b"9a", *b"bc"], "{read:?}");
    ensure!(fs::read(scratch.join("a")).map_err(text)? == b"012abc6789", "the file");
    ensure!(sys::lseek(fd, 0, libc::SEEK_CUR) == Ok(10), "the position moved");
    Ok(())
}

fn sparse() -> Outcome {
    const FAR: u64 = 5 << 30;
    let scratch = Scratch::new("sparse")?;
    let file = scratch.file("a", b"")?;
    file.write_all_at(b"far", FAR).map_err(text)?;
    ensure!(file.metadata().map_err(text)?.len() == FAR + 3, "{:?}", file.metadata());
    let mut page = [1; 2 * PAGE];
    file.read_exact_at(&mut page, FAR - 2 * PAGE as u64 - 1).map_err(text)?;
    ensure!(page.iter().all(|byte| *byte == 0), "a hole shows bytes");
    let mut far = [1; 5];
    let read = file.read_at(&mut far, FAR - 1).map_err(text)?;
    ensure!(read == 4 && far == *b"\0far\x01", "{read} bytes: {far:?}");
    ensure!(file.read_at(&mut far, u64::MAX >> 1).map_err(text)? == 0, "bytes behind the end");
    Ok(())
}

fn nameless() -> Outcome {
    let scratch = Scratch::new("nameless")?;
    let unlinked = scratch.file("a", b"still here")?;
    fs::remove_file(scratch.join("a")).map_err(text)?;
    let temporary = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&scratch.0);
    let temporary = temporary.map_err(text)?;
    temporary.write_all_at(b"still here", 0).map_err(text)?;
    let create =
        |flags: u32| sys::numbers(libc::SYS_memfd_create, &[c"name".as_ptr() as usize, flags as usize]);
    let memory = create(libc::MFD_CLOEXEC).map_err(|errno| format!("memfd_create: {errno}"))? as i32;
    ensure!(sys::write(memory, b"still here") == Ok(10), "write to a memfd");
    for fd in [unlinked.as_raw_fd(), temporary.as_raw_fd(), memory] {
        let mut bytes = [0; 12];
        let read = sys::pread(fd, &mut bytes, 0);
        ensure!(read == Ok(10) && bytes.starts_with(b"still here"), "{fd}: {read:?}, {bytes:?}");
        ensure!(sys::fstat(fd).map(|stat| stat.st_nlink) == Ok(0), "{fd}: {:?}", sys::fstat(fd).map(drop));
    }
    let _ = sys::close(memory);
    ensure!(create(u32::MAX) == Err(Errno(libc::EINVAL)), "unknown flags of memfd_create");
    ensure!(listing(&scratch.0)?.is_empty(), "{:?}", listing(&scratch.0));
    Ok(())
}

fn attributes() -> Outcome {
    let scratch = Scratch::new("attributes")?;
    let file = scratch.file("a", b"")?;
    let mode = |path: &Path| fs::metadata(path).map(|meta| meta.mode() & 0o7777).map_err(text);
    // std creates with 0666, mkdir with 0777, and the umask is 022.
    fs::create_dir(scratch.join("d")).map_err(text)?;
    let modes = (mode(&scratch.join("a"))?, mode(&scratch.join("d"))?);
    ensure!(modes == (0o644, 0o755), "{modes:?}");
    file.set_permissions(PermissionsExt::from_mode(0o4711)).map_err(text)?;
    ensure!(mode(&scratch.join("a"))? == 0o4711, "fchmod: {:o}", mode(&scratch.join("a"))?);
    fs::set_permissions(scratch.join("d"), PermissionsExt::from_mode(0o700)).map_err(text)?;
    let meta = fs::metadata(scratch.join("d")).map_err(text)?;
    ensure!(meta.is_dir() && meta.mode() & 0o7777 == 0o700, "chmod: {meta:?}");
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    file.set_modified(then).map_err(text)?;
    ensure!(file.metadata().and_then(|meta| meta.modified()).map_err(text)? == then, "utimensat");
    file.write_all_at(b"x", 0).map_err(text)?;
    ensure!(file.metadata().and_then(|meta| meta.modified()).map_err(text)? > then, "a write changes it");
    let access = |mode: i32| {
        let path = c_path(&scratch.join("a"));
        sys::numbers(libc::SYS_access, &[path.as_ptr() as usize, mode as usize])
    };
    ensure!(access(libc::R_OK | libc::W_OK | libc::X_OK) == Ok(0), "access of 4711");
    file.set_permissions(PermissionsExt::from_mode(0o000)).map_err(text)?;
    let answers = [access(libc::R_OK | libc::W_OK), access(libc::X_OK)];
    ensure!(answers == [Ok(0), Err(Errno(libc::EACCES))], "access of 0000: {answers:?}");
    let mut stats = [0_u64; 15];
    // SAFETY: a struct statfs is fifteen words.
    let answer = unsafe {
        sys::call(libc::SYS_fstatfs, [file.as_raw_fd() as usize, stats.as_mut_ptr() as usize, 0, 0, 0, 0])
    };
    let is_right = stats[0] == libc::TMPFS_MAGIC as u64 && stats[3] > 0 && stats[3] <= stats[2];
    ensure!(answer == Ok(0) && is_right, "fstatfs: {answer:?}, {stats:?}");
    Ok(())
}

fn no_room() -> Outcome {
    let scratch = Scratch::new("room")?;
    let file = scratch.file("a", b"x")?;
    let allocate = |mode: usize, offset: usize, len: usize| {
        sys::numbers(libc::SYS_fallocate, &[file.as_raw_fd() as usize, mode, offset, len])
    };
    let rows = [
        (allocate(0, 0, 0), Err(Errno(libc::EINVAL))),
        (allocate(0, usize::MAX, 1), Err(Errno(libc::EINVAL))),
        (allocate(0, i64::MAX as usize, 1), Err(Errno(libc::EFBIG))),
        (allocate(libc::FALLOC_FL_PUNCH_HOLE as usize | 1, 0, 1), Err(Errno(libc::EOPNOTSUPP))),
        (allocate(0, PAGE, PAGE), Ok(0)),
        // More than any machine of the tests has.
        (allocate(0, 0, 1 << 40), Err(Errno(libc::ENOSPC))),
    ];
    for (number, (answer, wanted)) in rows.into_iter().enumerate() {
        ensure!(answer == wanted, "row {number}: {answer:?}, not {wanted:?}");
    }
    ensure!(file.metadata().map_err(text)?.len() == 2 * PAGE as u64, "{:?}", file.metadata());
    file.set_len(1).map_err(text)?;
    file.set_len(1 << 40).map_err(text)?;
    fs::write(scratch.join("b"), b"there is room again").map_err(text)?;
    Ok(())
}

fn initrd_file() -> Outcome {
    let path = fs::read_link("/proc/self/exe").map_err(text)?;
    let before = fs::read(&path).map_err(text)?;
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(text)?;
    let (middle, end) = (before.len() as u64 / 2, before.len() as u64);
    file.write_all_at(b"written", middle).map_err(text)?;
    file.write_all_at(b"longer", end).map_err(text)?;
    let mut after = fs::read(&path).map_err(text)?;
    ensure!(after.ends_with(b"longer") && after[middle as usize..].starts_with(b"written"), "the writes");
    file.set_len(end).map_err(text)?;
    file.write_all_at(&before[middle as usize..][..7], middle).map_err(text)?;
    after = fs::read(&path).map_err(text)?;
    ensure!(after == before, "the rest of the file changed");
    Ok(())
}

fn frames_return() -> Outcome {
    let free = || Counters::read().map(|counters| counters.free_frames);
    let round = || -> Outcome {
        let scratch = Scratch::new("frames")?;
        let file = scratch.file("a", &[1; 64 * PAGE])?;
        let map = Mapping::new(0, 64 * PAGE, RW, libc::MAP_SHARED, file.as_raw_fd(), 0);
        let map = map.map_err(|errno| format!("mmap: {errno}"))?;
        ensure!((0..64).all(|page| map.store(page * PAGE, 2).is_done()), "stores");
        fs::remove_file(scratch.join("a")).map_err(text)
    };
    round()?;
    let before = free()?;
    for _ in 0..8 {
        round()?;
    }
    let lost = before.saturating_sub(free()?);
    ensure!(lost < 32, "{lost} frames are missing after eight files of 64 pages");
    fault::restore();
    Ok(())
}
