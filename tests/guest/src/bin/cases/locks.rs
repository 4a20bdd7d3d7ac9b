//! fcntl's locks of bytes (flock's are in tests/c/sessions.c).

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::SeqCst;

use guest::ensure;
use guest::ktap::{Case, Outcome};
use guest::process::{self, Ended};
use guest::sys::{self, Errno};
use libc::{F_GETLK, F_RDLCK, F_SETLK, F_SETLKW, F_UNLCK, F_WRLCK, SEEK_END, SEEK_SET};

use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("locks of bytes are cut, told and given up", |_| bytes()),
    ("a lock of bytes is waited for", |_| waits()),
    ("who has less of a lock of bytes lets others have it", |_| shares()),
    ("bad locks of bytes are refused", |_| refused()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("files", CASES)
}

/// A file of 100 bytes that goes with its descriptors.
fn file(name: &str) -> Result<File, String> {
    let path = format!("/tmp/locks-{name}-{}", std::process::id());
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = file.and_then(|file| file.set_len(100).map(|()| file));
    let _ = std::fs::remove_file(&path);
    file.map_err(|error| format!("{path}: {error}"))
}

/// fcntl with a lock of the `len` bytes from `start` on, seen from `whence`; the lock as it is told.
fn lock(fd: i32, command: i32, kind: i32, place: (i32, i64, i64)) -> Result<libc::flock, Errno> {
    let (whence, l_start, l_len) = place;
    let mut lock = libc::flock { l_type: kind as i16, l_whence: whence as i16, l_start, l_len, l_pid: 0 };
    let args = [fd as usize, command as usize, &raw mut lock as usize, 0, 0, 0];
    // SAFETY: the lock is live, and may be written.
    unsafe { sys::call(libc::SYS_fcntl, args) }.map(|_| lock)
}

fn set(file: &File, kind: i32, start: i64, len: i64) -> Result<(), Errno> {
    lock(file.as_raw_fd(), F_SETLK, kind, (SEEK_SET, start, len)).map(drop)
}

/// Does a child that tries to lock these bytes, one row after the other, get these answers?
fn child_sees(file: &File, rows: &[(i32, i64, i64, Result<(), Errno>)]) -> Outcome {
    let child = process::fork(|| {
        let wrong = rows.iter().position(|row| set(file, row.0, row.1, row.2) != row.3);
        wrong.map_or(0, |row| row as i32 + 1)
    });
    let ended = child.and_then(|child| child.wait());
    ensure!(ended == Ok(Ended::Exited(0)), "{ended:?}, one more than the row of {rows:?}");
    Ok(())
}

fn bytes() -> Outcome {
    let busy = Err(Errno(libc::EAGAIN));
    let file = file("bytes")?;
    let fd = file.as_raw_fd();
    ensure!(lock(fd, F_SETLK, F_WRLCK, (SEEK_END, -80, -10)).is_ok(), "from 10 to 20, seen from the end");
    child_sees(
        &file,
        &[(F_WRLCK, 19, 1, busy), (F_RDLCK, 0, 11, busy), (F_RDLCK, 0, 10, Ok(())), (F_WRLCK, 20, 0, Ok(()))],
    )?;
    // A piece in the middle is read by all; the child's locks went with it.
    let cut = [set(&file, F_RDLCK, 12, 2), set(&file, F_UNLCK, 18, 0)];
    ensure!(cut == [Ok(()); 2], "{cut:?}");
    child_sees(
        &file,
        &[
            (F_WRLCK, 11, 1, busy),
            (F_RDLCK, 12, 2, Ok(())),
            (F_WRLCK, 12, 2, busy),
            (F_RDLCK, 14, 1, busy),
            (F_WRLCK, 18, 2, Ok(())),
        ],
    )?;
    let parent = std::process::id() as i32;
    let child = process::fork(|| {
        let told = [(F_RDLCK, 14), (F_WRLCK, 12), (F_WRLCK, 18)].map(|(kind, start)| {
            let told = lock(fd, F_GETLK, kind, (SEEK_SET, start, 1));
            told.map(|told| (i32::from(told.l_type), told.l_start, told.l_len, told.l_pid))
        });
        let free = Ok((F_UNLCK, 18, 1, 0));
        if told == [Ok((F_WRLCK, 14, 4, parent)), Ok((F_RDLCK, 12, 2, parent)), free] { 0 } else { 1 }
    });
    let ended = child.and_then(|child| child.wait());
    ensure!(ended == Ok(Ended::Exited(0)), "what F_GETLK tells: {ended:?}");
    // Any descriptor of the file that is closed takes them all.
    let other = File::open(format!("/proc/self/fd/{fd}")).map_err(|error| error.to_string())?;
    child_sees(&file, &[(F_WRLCK, 0, 0, busy)])?;
    drop(other);
    child_sees(&file, &[(F_WRLCK, 0, 0, Ok(()))])
}

fn waits() -> Outcome {
    let file = file("waits")?;
    let fd = file.as_raw_fd();
    let words = process::shared_words(1).map_err(|errno| format!("shared memory: {errno}"))?;
    let take = || lock(fd, F_SETLKW, F_WRLCK, (SEEK_SET, 0, 0)).is_ok();
    ensure!(take(), "F_SETLKW of a free file");
    let child = process::fork(|| {
        let order = take().then(|| words[0].load(SeqCst));
        words[0].store(2, SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(20));
        // Its end gives the lock back, while the open file stays.
        if order == Some(1) { 0 } else { 1 }
    });
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    words[0].store(1, SeqCst);
    let released = set(&file, F_UNLCK, 0, 0);
    while words[0].load(SeqCst) == 1 {
        std::thread::yield_now();
    }
    let taken = take();
    let ended = child.wait();
    ensure!(released == Ok(()) && taken, "{released:?}, {taken}");
    ensure!(ended == Ok(Ended::Exited(0)), "the child {ended:?}");
    Ok(())
}

fn shares() -> Outcome {
    let file = file("shares")?;
    let fd = file.as_raw_fd();
    ensure!(set(&file, F_WRLCK, 0, 0) == Ok(()), "F_SETLK of a free file");
    let child = process::fork(|| i32::from(lock(fd, F_SETLKW, F_RDLCK, (SEEK_SET, 0, 0)).is_err()));
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    let shared = set(&file, F_RDLCK, 0, 0);
    let ended = child.wait();
    ensure!(shared == Ok(()) && ended == Ok(Ended::Exited(0)), "{shared:?}, the child {ended:?}");
    Ok(())
}

fn refused() -> Outcome {
    let file = file("refused")?;
    let reader =
        File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|error| error.to_string())?;
    let (own, read) = (file.as_raw_fd(), reader.as_raw_fd());
    let rows = [
        ("F_WRLCK without write", lock(read, F_SETLK, F_WRLCK, (SEEK_SET, 0, 1)), libc::EBADF),
        ("whence 7", lock(own, F_SETLK, F_WRLCK, (7, 0, 1)), libc::EINVAL),
        ("before the file", lock(own, F_SETLK, F_WRLCK, (SEEK_SET, -1, 1)), libc::EINVAL),
        ("back before the file", lock(own, F_SETLK, F_WRLCK, (SEEK_SET, 5, -6)), libc::EINVAL),
        ("behind all files", lock(own, F_SETLK, F_WRLCK, (SEEK_SET, i64::MAX, 2)), libc::EOVERFLOW),
        ("kind 9", lock(own, F_SETLK, 9, (SEEK_SET, 0, 1)), libc::EINVAL),
        ("F_GETLK of no lock", lock(own, F_GETLK, F_UNLCK, (SEEK_SET, 0, 1)), libc::EINVAL),
        ("no descriptor", lock(99, F_SETLK, F_WRLCK, (SEEK_SET, 0, 1)), libc::EBADF),
    ];
    for (what, answer, wanted) in rows {
        let answer = answer.map(drop);
        ensure!(answer == Err(Errno(wanted)), "{what}: {answer:?}, not {}", Errno(wanted));
    }
    ensure!(set(&reader, F_RDLCK, i64::MAX, 1) == Ok(()), "the last byte of all");
    Ok(())
}
