//! The tree of files in RAM: what programs make, change, list and take away in it.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use guest::device::Device;
use guest::ensure;
use guest::fault::{self, Touch};
use guest::kernel_view::Counters;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::process::{self, Ended};
use guest::sys::{self, Errno, PAGE, RW};

use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("a file is written, read, appended to and cut", |_| contents()),
    ("a sparse file has zeros", |_| sparse()),
    ("open obeys O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY", |_| opens()),
    ("directories list what is in them", |_| listings()),
    ("a thousand names are listed and removed", |_| many_names()),
    ("names are made, moved and taken away as on Linux", |_| names()),
    ("links are followed, forty at most", |_| links()),
    ("the current directory and descriptors begin paths", |_| relative()),
    ("what has no name any more lives on", |_| nameless()),
    ("modes and times are kept", |_| attributes()),
    ("a shared mapping is the file, a private one a copy", |_| mappings()),
    ("what a truncation cuts off is SIGBUS, in children too", |_| cut_mapping()),
    ("a file is cut under those that write to it and map it", |_| raced_cuts()),
    ("O_DIRECT reads to and writes from dax memory", direct),
    ("a file that finds no room is ENOSPC", |_| no_room()),
    ("a file of the initrd can be written", |_| initrd_file()),
    ("/dev lists its devices", |_| devices()),
    ("a tree is as deep as paths are long", |_| deep()),
    ("links to links of descriptors hold nothing", |_| links_of_descriptors()),
    ("the root of a file system stays", |_| mounted()),
];

const COUNTED: &[Named] = &[("what is removed gives its frames back", |_| frames_return())];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("tree", CASES)
}

/// Those that need the kernel's counters.
pub fn counted_cases() -> Vec<Case<Context>> {
    family("tree", COUNTED)
}

/// A directory of this process's own, which goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Scratch, String> {
        let path = PathBuf::from(format!("/tmp/tree-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("mkdir {path:?}: {error}"))?;
        Ok(Scratch(path))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new file with these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> Result<File, String> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(self.join(name));
        let mut file = file.map_err(|error| format!("create {name}: {error}"))?;
        file.write_all(bytes).map_err(|error| format!("write of {name}: {error}"))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// The errno of an answer, 0 when it is good.
fn errno<T>(answer: io::Result<T>) -> i32 {
    answer.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

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

fn listing(path: impl AsRef<Path>) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(text)? {
        names.push(entry.map_err(text)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
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
        ("rename of d into e", errno(fs::rename(at("d"), at("e/d"))), libc::EXDEV),
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
    fs::remove_dir(at("e/f")).map_err(text)?;
    fs::rename(at("d"), at("e")).map_err(text)?;
    ensure!(listing(&scratch.0)? == ["e", "l"], "{:?}", listing(&scratch.0));
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
