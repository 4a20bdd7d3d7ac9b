//! Names: what open, directories, links and renames make of them.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use guest::device::Device;
use guest::ensure;
use guest::ktap::Outcome;
use guest::process::{self, Ended};
use guest::sys::{self, Errno};

use super::{Scratch, c_path, errno, listing, text};
use crate::Named;

/// The cases.
pub const CASES: &[Named] = &[
    ("open obeys O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY", |_| opens()),
    ("directories list what is in them", |_| listings()),
    ("a thousand names are listed and removed", |_| many_names()),
    ("names are made, moved and taken away as on Linux", |_| names()),
    ("a rename goes over a name that another makes meanwhile", |_| raced_renames()),
    ("what no path leads to has a name in /proc/self/fd", |_| nameless()),
    ("links are followed, forty at most", |_| links()),
    ("the current directory and descriptors begin paths", |_| relative()),
    ("/dev lists its devices", |_| devices()),
    ("a tree is as deep as paths are long", |_| deep()),
    ("links to links of descriptors hold nothing", |_| links_of_descriptors()),
    ("the root of a file system stays", |_| mounted()),
];

fn opens() -> Outcome {
    let scratch = Scratch::new("opens")?;
    drop(scratch.file("a", b"text")?);
    let open = |name: &str, flags: i32| {
        let answer = sys::open(&c_path(&scratch.join(name)), flags);
        answer.map(sys::close).map_or_else(|errno| errno.0, |_| 0)
    };
    symlink("nothing/there", scratch.join("dangling")).map_err(text)?;
    symlink("made", scratch.join("to-made")).map_err(text)?;
    let new = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let rows = [
        ("missing", libc::O_RDONLY, libc::ENOENT),
        ("a", new, libc::EEXIST),
        ("dangling", new, libc::EEXIST),
        ("dangling", libc::O_CREAT | libc::O_RDWR, libc::ENOENT),
        ("to-made", libc::O_CREAT | libc::O_RDWR, 0),
        ("made", libc::O_RDONLY, 0),
        ("new/", libc::O_CREAT | libc::O_RDWR, libc::EISDIR),
        ("no/new", libc::O_CREAT | libc::O_RDWR, libc::ENOENT),
        ("a/new", libc::O_CREAT | libc::O_RDWR, libc::ENOTDIR),
        ("a/", libc::O_RDONLY, libc::ENOTDIR),
        (".", libc::O_RDWR, libc::EISDIR),
        (".", libc::O_CREAT, libc::EISDIR),
        (".", libc::O_DIRECTORY, 0),
        ("a", libc::O_DIRECTORY, libc::ENOTDIR),
        ("to-made", libc::O_NOFOLLOW, libc::ELOOP),
        ("to-made", libc::O_NOFOLLOW | libc::O_PATH, 0),
    ];
    for (name, flags, wanted) in rows {
        let answer = open(name, flags);
        ensure!(answer == wanted, "open {name} with {flags:#o}: {}, not {}", Errno(answer), Errno(wanted));
    }
    ensure!(open("a", libc::O_RDWR | libc::O_TRUNC) == 0, "O_TRUNC");
    ensure!(fs::metadata(scratch.join("a")).map_err(text)?.len() == 0, "O_TRUNC left bytes");
    let created = ["/proc/x", "/sys/x", "/dev/x"].map(|path| errno(File::create(path)));
    ensure!(created.iter().all(|errno| *errno == libc::EACCES || *errno == libc::ENOENT), "{created:?}");
    let long = scratch.join(&"n".repeat(256));
    ensure!(errno(File::create(long)) == libc::ENAMETOOLONG, "a name of 256 bytes");
    Ok(())
}

fn listings() -> Outcome {
    let scratch = Scratch::new("listings")?;
    drop(scratch.file("file", b"")?);
    fs::create_dir(scratch.join("sub")).map_err(text)?;
    symlink("file", scratch.join("link")).map_err(text)?;
    for entry in fs::read_dir(&scratch.0).map_err(text)? {
        let entry = entry.map_err(text)?;
        let (kind, meta) = (entry.file_type().map_err(text)?, entry.metadata().map_err(text)?);
        ensure!(kind == meta.file_type() && entry.ino() == meta.ino(), "{entry:?}: {kind:?}, {meta:?}");
    }
    ensure!(listing(&scratch.0)? == ["file", "link", "sub"], "{:?}", listing(&scratch.0));
    let root = listing("/")?;
    for name in ["dev", "proc", "tmp"] {
        ensure!(root.iter().any(|known| known == name), "no {name} in {root:?}");
    }
    // `.` and `..` come first, and a buffer without room for one of them is EINVAL.
    let directory = File::open(&scratch.0).map_err(text)?;
    let mut buffer = [0_u8; 48];
    let mut getdents = |len: usize| {
        let args = [directory.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, len, 0, 0, 0];
        // SAFETY: the buffer is at least `len` bytes long.
        unsafe { sys::call(libc::SYS_getdents64, args) }
    };
    let answers = [getdents(20), getdents(48)];
    ensure!(answers == [Err(Errno(libc::EINVAL)), Ok(48)], "{answers:?}");
    ensure!(buffer[19] == b'.' && buffer[20] == 0 && &buffer[43..46] == b"..\0", "{buffer:?}");
    let file = File::open(scratch.join("file")).map_err(text)?;
    let args = [file.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, 48, 0, 0, 0];
    // SAFETY: as above.
    let answer = unsafe { sys::call(libc::SYS_getdents64, args) };
    ensure!(answer == Err(Errno(libc::ENOTDIR)), "getdents64 of a file: {answer:?}");
    Ok(())
}

fn many_names() -> Outcome {
    const NAMES: usize = 1000;
    let scratch = Scratch::new("many")?;
    for number in 0..NAMES {
        drop(scratch.file(&format!("{number:04}"), b"")?);
    }
    let names = listing(&scratch.0)?;
    ensure!(names.len() == NAMES && names[999] == "0999", "{} names", names.len());
    // Each is removed while the listing goes on.
    let mut seen = 0;
    for entry in fs::read_dir(&scratch.0).map_err(text)? {
        fs::remove_file(entry.map_err(text)?.path()).map_err(text)?;
        seen += 1;
    }
    ensure!(seen == NAMES && listing(&scratch.0)?.is_empty(), "{seen} names were seen");
    Ok(())
}

fn names() -> Outcome {
    let scratch = Scratch::new("names")?;
    let at = |name: &str| scratch.join(name);
    drop(scratch.file("a", b"a")?);
    drop(scratch.file("b", b"b")?);
    for name in ["d", "e", "e/f"] {
        fs::create_dir(at(name)).map_err(text)?;
    }
    let rename2 = |old: &str, new: &str, flags: usize| {
        let (old, new) = (c_path(&at(old)), c_path(&at(new)));
        let here = libc::AT_FDCWD as usize;
        let args = [here, old.as_ptr() as usize, here, new.as_ptr() as usize, flags];
        sys::numbers(libc::SYS_renameat2, &args).map_or_else(|errno| errno.0, |_| 0)
    };
    let rows = [
        ("mkdir of what is there", errno(fs::create_dir(at("a"))), libc::EEXIST),
        ("mkdir below nothing", errno(fs::create_dir(at("x/y"))), libc::ENOENT),
        ("mkdir of x/", errno(fs::create_dir(at("x/"))), 0),
        ("rmdir of x/", errno(fs::remove_dir(at("x/"))), 0),
        ("rmdir of a file", errno(fs::remove_dir(at("a"))), libc::ENOTDIR),
        ("rmdir of e", errno(fs::remove_dir(at("e"))), libc::ENOTEMPTY),
        ("rmdir of d/.", errno(fs::remove_dir(at("d/."))), libc::EINVAL),
        ("unlink of a directory", errno(fs::remove_file(at("d"))), libc::EISDIR),
        ("unlink of nothing", errno(fs::remove_file(at("x"))), libc::ENOENT),
        ("rename of nothing", errno(fs::rename(at("x"), at("y"))), libc::ENOENT),
        ("rename with NOREPLACE", rename2("a", "b", libc::RENAME_NOREPLACE as usize), libc::EEXIST),
        ("rename with EXCHANGE", rename2("a", "b", libc::RENAME_EXCHANGE as usize), libc::EINVAL),
        ("rename of a file to a directory", errno(fs::rename(at("a"), at("d"))), libc::EISDIR),
        ("rename of a directory to a file", errno(fs::rename(at("d"), at("a"))), libc::ENOTDIR),
        ("rename of d to e", errno(fs::rename(at("d"), at("e"))), libc::ENOTEMPTY),
        ("rename of e into itself", errno(fs::rename(at("e"), at("e/f/g"))), libc::EINVAL),
        ("rename of e over what is in it", errno(fs::rename(at("e"), at("e/f"))), libc::EINVAL),
        ("rename of d into e", errno(fs::rename(at("d"), at("e/f/d"))), 0),
        ("rename of e into what moved into it", errno(fs::rename(at("e"), at("e/f/d/e"))), libc::EINVAL),
        ("rename of d back", errno(fs::rename(at("e/f/d"), at("d"))), 0),
        ("rename of a to b", errno(fs::rename(at("a"), at("b"))), 0),
        ("rename of b into d", errno(fs::rename(at("b"), at("d/c"))), 0),
        ("rename to itself", errno(fs::rename(at("d/c"), at("d/c"))), 0),
        ("link to a directory", errno(fs::hard_link(at("d"), at("l"))), libc::EPERM),
        ("link", errno(fs::hard_link(at("d/c"), at("l"))), 0),
        ("link over a name", errno(fs::hard_link(at("d/c"), at("l"))), libc::EEXIST),
        ("rename over a link of the same file", errno(fs::rename(at("l"), at("d/c"))), 0),
        ("unlink of /dev", errno(fs::remove_dir("/dev")), libc::EBUSY),
        ("unlink of /dev/null", errno(fs::remove_file("/dev/null")), libc::EPERM),
        ("rename of the root", errno(fs::rename("/", at("r"))), libc::EBUSY),
        ("rename of .", errno(fs::rename(at("d/."), at("r"))), libc::EBUSY),
        ("rename to ..", errno(fs::rename(at("d"), at("e/.."))), libc::EBUSY),
        ("rename to /dev", errno(fs::rename(at("l"), "/dev/l")), libc::EXDEV),
    ];
    for (what, answer, wanted) in rows {
        ensure!(answer == wanted, "{what}: {}, not {}", Errno(answer), Errno(wanted));
    }
    let (one, other) = (fs::metadata(at("d/c")).map_err(text)?, fs::metadata(at("l")).map_err(text)?);
    ensure!(one.ino() == other.ino() && one.nlink() == 2, "{one:?} and {other:?}");
    fs::remove_file(at("d/c")).map_err(text)?;
    ensure!(fs::read(at("l")).map_err(text)? == b"a", "the file under its other name");
    ensure!(fs::metadata(at("l")).map_err(text)?.nlink() == 1, "one name is left");
    // The name that a descriptor was opened by has become another's.
    let moved = File::open(at("e/f")).map_err(text)?;
    fs::rename(at("e/f"), at("e/g")).and_then(|()| fs::create_dir(at("e/f"))).map_err(text)?;
    let stale = errno(fs::remove_dir(format!("/proc/self/fd/{}/", moved.as_raw_fd())));
    ensure!(stale != 0 && listing(at("e"))? == ["f", "g"], "{}: {:?}", Errno(stale), listing(at("e")));
    fs::remove_dir(at("e/f")).and_then(|()| fs::remove_dir(at("e/g"))).map_err(text)?;
    fs::rename(at("d"), at("e")).map_err(text)?;
    ensure!(listing(&scratch.0)? == ["e", "l"], "{:?}", listing(&scratch.0));
    Ok(())
}

/// One process makes the name that another renames to, and renames away.
fn raced_renames() -> Outcome {
    const ROUNDS: usize = 2000;
    let scratch = Scratch::new("raced-names")?;
    drop(scratch.file("from", b"")?);
    let (from, to) = (scratch.join("from"), scratch.join("to"));
    let words = process::shared_words(1).map_err(|errno| format!("shared memory: {errno}"))?;
    let child = process::fork(|| {
        process::run_on(1 << 1);
        let mut answers = std::iter::from_fn(|| (words[0].load(SeqCst) == 0).then(|| File::create(&to)));
        if answers.all(|answer| answer.is_ok()) { 0 } else { 1 }
    });
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    let there_and_back = |_| fs::rename(&from, &to).and_then(|()| fs::rename(&to, &from));
    let renamed = (0..ROUNDS).try_for_each(there_and_back);
    words[0].store(1, SeqCst);
    let ended = child.wait();
    renamed.map_err(text)?;
    ensure!(ended == Ok(Ended::Exited(0)), "the child {ended:?}");
    Ok(())
}

fn nameless() -> Outcome {
    let scratch = Scratch::new("nameless-names")?;
    let link = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).map_err(text);
    let memory = sys::numbers(libc::SYS_memfd_create, &[c"some name".as_ptr() as usize, 0]);
    let memory = memory.map_err(|errno| format!("memfd_create: {errno}"))? as i32;
    ensure!(link(memory)? == Path::new("/memfd:some name (deleted)"), "{:?}", link(memory));
    let again = fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{memory}")).map_err(text)?;
    ensure!(sys::write(again.as_raw_fd(), b"x") == Ok(1), "write through the link");
    ensure!(sys::pread(memory, &mut [0; 2], 0) == Ok(1), "what was written through the link");
    let _ = sys::close(memory);

    let open = |flags: i32| sys::open(&c_path(&scratch.0), flags);
    for flags in [libc::O_TMPFILE, libc::O_TMPFILE | libc::O_CREAT | libc::O_RDWR, 0o20000000 | libc::O_RDWR]
    {
        ensure!(open(flags) == Err(Errno(libc::EINVAL)), "open with {flags:#o}: {:?}", open(flags));
    }
    let file = open(libc::O_TMPFILE | libc::O_RDWR).map_err(|errno| format!("O_TMPFILE: {errno}"))?;
    let inode = sys::fstat(file).map_err(|errno| format!("fstat: {errno}"))?.st_ino;
    let wanted = scratch.join(&format!("#{inode} (deleted)"));
    ensure!(link(file)? == wanted, "{:?}, not {wanted:?}", link(file));
    // The two ways to give it a name.
    let (old, here) = (c_path(Path::new(&format!("/proc/self/fd/{file}"))), libc::AT_FDCWD as usize);
    for (number, (directory, old, flags)) in [
        (here, old.as_ptr(), libc::AT_SYMLINK_FOLLOW as usize),
        (file as usize, c"".as_ptr(), libc::AT_EMPTY_PATH as usize),
    ]
    .into_iter()
    .enumerate()
    {
        let new = c_path(&scratch.join(&format!("{number}")));
        let args = [directory, old as usize, here, new.as_ptr() as usize, flags];
        let answer = sys::numbers(libc::SYS_linkat, &args);
        ensure!(answer == Ok(0), "linkat with {flags:#x}: {answer:?}");
    }
    let links = sys::fstat(file).map(|stat| stat.st_nlink);
    let _ = sys::close(file);
    ensure!(links == Ok(2) && listing(&scratch.0)? == ["0", "1"], "{links:?}, {:?}", listing(&scratch.0));
    Ok(())
}

fn links() -> Outcome {
    let scratch = Scratch::new("links")?;
    let at = |name: &str| scratch.join(name);
    fs::create_dir(at("d")).map_err(text)?;
    fs::write(at("d/file"), b"found").map_err(text)?;
    symlink("d", at("to-d")).map_err(text)?;
    symlink("../to-d/file", at("d/around")).map_err(text)?;
    symlink(at("d"), at("absolute")).map_err(text)?;
    symlink("loop", at("loop")).map_err(text)?;
    for path in ["to-d/file", "to-d/around", "absolute/../to-d/./file", "to-d/../d/file"] {
        let read = fs::read(at(path)).map_err(|error| format!("{path}: {error}"))?;
        ensure!(read == b"found", "{path}: {read:?}");
    }
    ensure!(fs::canonicalize(at("absolute/around")).map_err(text)? == at("d/file"), "realpath");
    ensure!(fs::read_link(at("d/around")).map_err(text)? == Path::new("../to-d/file"), "readlink");
    let link = fs::symlink_metadata(at("to-d")).map_err(text)?;
    ensure!(link.is_symlink() && link.len() == 1, "{link:?}");
    // A slash behind it: what it leads to is meant.
    ensure!(fs::symlink_metadata(at("to-d/")).map_err(text)?.is_dir(), "lstat of to-d/");
    ensure!(errno(fs::read(at("loop"))) == libc::ELOOP, "a link to itself");
    let mut last = String::from("d/file");
    for number in 0..41 {
        let name = format!("{number}");
        symlink(&last, at(&name)).map_err(text)?;
        last = name;
    }
    let answers = (errno(fs::read(at("39"))), errno(fs::read(at("40"))));
    ensure!(answers == (0, libc::ELOOP), "forty and forty-one links: {answers:?}");
    fs::remove_file(at("to-d")).map_err(text)?;
    ensure!(fs::read(at("d/file")).is_ok(), "unlink took more than the link");
    Ok(())
}

fn relative() -> Outcome {
    let scratch = Scratch::new("relative")?;
    fs::create_dir_all(scratch.join("d/e")).map_err(text)?;
    fs::write(scratch.join("d/file"), b"found").map_err(text)?;
    let home = File::open(std::env::current_dir().map_err(text)?).map_err(text)?;
    let there = File::open(scratch.join("d")).map_err(text)?;
    let open_at = |path: &CStr| {
        let args = [there.as_raw_fd() as usize, path.as_ptr() as usize, libc::O_RDONLY as usize];
        sys::numbers(libc::SYS_openat, &args).map(|fd| sys::close(fd as i32)).map_or_else(|e| e.0, |_| 0)
    };
    let rows = [
        (c"file", 0),
        (c"e/../file", 0),
        (c"../d/file", 0),
        (c"no", libc::ENOENT),
        (c"file/x", libc::ENOTDIR),
    ];
    for (path, wanted) in rows {
        ensure!(open_at(path) == wanted, "openat {path:?}: {}", Errno(open_at(path)));
    }
    let steps = (|| {
        std::env::set_current_dir(scratch.join("d/e/.."))?;
        let first = (std::env::current_dir()?, fs::read("file")?);
        std::env::set_current_dir("e")?;
        let second = (std::env::current_dir()?, fs::read("../file")?);
        Ok((first, second))
    })();
    // A child has its own, which begins where the parent was.
    let child = process::fork(|| {
        let moved = std::env::set_current_dir("/").is_ok();
        if moved && fs::read("file").is_err() { 0 } else { 1 }
    });
    let ended = child.and_then(|child| child.wait());
    let after = std::env::current_dir();
    let mut small = [0_u8; 4];
    // SAFETY: the buffer is live and as long as told.
    let cut = unsafe { sys::call(libc::SYS_getcwd, [small.as_mut_ptr() as usize, 4, 0, 0, 0, 0]) };
    let refused = errno(std::env::set_current_dir("../file"));
    let back = sys::numbers(libc::SYS_fchdir, &[home.as_raw_fd() as usize]);
    let ((first, read), (second, read_again)) = steps.map_err(text)?;
    ensure!(first == scratch.join("d") && second == scratch.join("d/e"), "{first:?}, {second:?}");
    ensure!(read == b"found" && read_again == b"found", "{read:?}, {read_again:?}");
    ensure!(ended == Ok(Ended::Exited(0)), "the child {ended:?}");
    ensure!(after.map_err(text)? == second, "the child moved its parent");
    ensure!(cut == Err(Errno(libc::ERANGE)), "getcwd into 4 bytes: {cut:?}");
    ensure!(refused == libc::ENOTDIR && back == Ok(0), "{refused}, {back:?}");
    Ok(())
}

fn devices() -> Outcome {
    let names = listing("/dev")?;
    for name in ["console", "fd", "full", "null", "random", "shm", "stderr", "tty", "urandom", "zero"] {
        ensure!(names.iter().any(|known| known == name), "no {name} in {names:?}");
    }
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("console", 5, 1)]
    {
        let meta = fs::metadata(format!("/dev/{name}")).map_err(text)?;
        let number = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        ensure!(meta.file_type().is_char_device() && number == (major, minor), "{name}: {number:?}");
    }
    if let Ok(device) = Device::open() {
        let path = device.path.to_string_lossy();
        ensure!(names.iter().any(|name| path.ends_with(name.as_str())), "no {path} in {names:?}");
    }
    ensure!(errno(fs::write("/dev/full", b"x")) == libc::ENOSPC, "a write to /dev/full");
    ensure!(errno(File::open("/dev/tty")) == libc::ENXIO, "/dev/tty without a terminal");
    fs::write("/dev/shm/name", b"shared").map_err(text)?;
    fs::remove_file("/dev/shm/name").map_err(text)?;
    Ok(())
}

/// A tree as deep as paths are long, and each directory of it a current directory once.
fn deep() -> Outcome {
    let scratch = Scratch::new("deep")?;
    let home = File::open(std::env::current_dir().map_err(text)?).map_err(text)?;
    std::env::set_current_dir(&scratch.0).map_err(text)?;
    let mut depth = 0;
    let last = loop {
        match fs::create_dir("d").and_then(|()| std::env::set_current_dir("d")) {
            Ok(()) => depth += 1,
            refused => break errno(refused),
        }
    };
    let up = sys::numbers(libc::SYS_fchdir, &[home.as_raw_fd() as usize]);
    ensure!(last == libc::ENAMETOOLONG && depth > 1000, "{} after {depth} directories", Errno(last));
    ensure!(up == Ok(0), "fchdir: {up:?}");
    // It stays, and goes with the run: the kernel takes it down.
    std::mem::forget(scratch);
    Ok(())
}

/// Each link is opened through the one before it, which is closed then.
fn links_of_descriptors() -> Outcome {
    let open = |fd: i32| {
        let path = CString::new(format!("/proc/self/fd/{fd}")).expect("no NUL in it");
        sys::open(&path, libc::O_PATH | libc::O_NOFOLLOW).map_err(|errno| format!("open {path:?}: {errno}"))
    };
    let mut fd = open(1)?;
    for _ in 0..5000 {
        let next = open(fd)?;
        ensure!(sys::close(fd) == Ok(()), "close of {fd}");
        fd = next;
    }
    ensure!(sys::close(fd) == Ok(()), "close of {fd}");
    Ok(())
}

fn mounted() -> Outcome {
    let answer = fs::remove_dir("/dev/shm").err().and_then(|error| error.raw_os_error());
    ensure!(answer == Some(libc::EBUSY), "rmdir /dev/shm: {answer:?}");
    let path = Path::new("/dev/shm/still");
    fs::write(path, b"there")
        .and_then(|()| fs::remove_file(path))
        .map_err(|error| format!("{path:?}: {error}"))
}
