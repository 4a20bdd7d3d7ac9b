//! Files, /proc and the small calls that every start-up makes.

use std::ffi::CString;

use guest::ensure;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE};

use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("open refuses what is not there", |_| open_refuses()),
    ("close twice is EBADF, the lowest number comes back", |_| descriptors()),
    ("fcntl duplicates from a number on", |_| duplicates()),
    ("read, pread and lseek move as they should", |_| positions()),
    ("a read-only descriptor refuses write", |_| read_only()),
    ("O_PATH and access mode 3 neither read nor write", |_| no_access()),
    ("lseek of /dev/null stays at 0", |_| null_seek()),
    ("fstat and newfstatat agree", |_| stats_agree()),
    ("stdin is at its end", |_| stdin_is_empty()),
    ("/proc/self/exe names this program", |_| exe_link()),
    ("/proc/self/maps shows code, stack and heap", |_| maps()),
    ("/proc/self/maps shows a dax mapping", maps_of_dax),
    ("auxv has what start-up reads", |_| auxv()),
    ("getrandom gives fresh bytes", |_| random()),
    ("clocks go forward", |_| clocks()),
    ("clocks that cannot sleep are EOPNOTSUPP", |_| sleepless_clocks()),
    ("poll of no descriptors returns", |_| poll()),
    ("process numbers are there", |_| numbers()),
    ("calls that only tell a number", |_| tellers()),
    ("sched_getaffinity has a CPU", |_| affinity()),
    ("prlimit64 tells the stack limit", |_| stack_limit()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("files", CASES)
}

fn own_path() -> Result<CString, String> {
    let path = std::fs::read_link("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    CString::new(path.into_os_string().into_encoded_bytes()).map_err(|error| error.to_string())
}

/// Opens this program's own file for reading: a file that is there in every guest.
pub fn own_program() -> Result<i32, String> {
    let path = own_path()?;
    sys::open(&path, libc::O_RDONLY).map_err(|errno| format!("open {path:?}: {errno}"))
}

fn open_refuses() -> Outcome {
    let long = CString::new(vec![b'a'; 5000]).map_err(|error| error.to_string())?;
    let below = own_path()?.into_string().map_err(|error| error.to_string())? + "/x";
    let below = CString::new(below).map_err(|error| error.to_string())?;
    let cases = [
        (c"/no/such/file", libc::O_RDONLY, libc::ENOENT),
        (c"", libc::O_RDONLY, libc::ENOENT),
        (c"/dev/dax7.7", libc::O_RDWR, libc::ENOENT),
        (long.as_c_str(), libc::O_RDONLY, libc::ENAMETOOLONG),
        (below.as_c_str(), libc::O_RDONLY, libc::ENOTDIR),
    ];
    for (path, flags, errno) in cases {
        let answer = sys::open(path, flags);
        ensure!(answer == Err(Errno(errno)), "open {path:.40?}: {answer:?}, not {}", Errno(errno));
    }
    Ok(())
}

fn descriptors() -> Outcome {
    let (first, second) = (own_program()?, own_program()?);
    ensure!(second > first, "descriptor {second} after {first}");
    ensure!(sys::close(first) == Ok(()), "close of {first}");
    ensure!(sys::close(first) == Err(Errno(libc::EBADF)), "{first} closed twice");
    let again = own_program()?;
    ensure!(again == first, "{again} was given, {first} was free");
    for fd in [again, second] {
        ensure!(sys::close(fd) == Ok(()), "close of {fd}");
    }
    for fd in [-1, second, 1 << 20, i32::MAX, i32::MIN] {
        let answers = (sys::close(fd), sys::read(fd, &mut [0]), sys::fstat(fd).map(drop));
        let bad = Errno(libc::EBADF);
        ensure!(answers == (Err(bad), Err(bad), Err(bad)), "descriptor {fd}: {answers:?}");
    }
    Ok(())
}

fn duplicates() -> Outcome {
    const FROM: usize = 100;
    let fd = own_program()?;
    let fcntl = |command: i32, argument: usize| {
        sys::numbers(libc::SYS_fcntl, &[fd as usize, command as usize, argument])
    };
    let (plain, closing) = (fcntl(libc::F_DUPFD, FROM), fcntl(libc::F_DUPFD_CLOEXEC, FROM));
    ensure!((plain, closing) == (Ok(FROM), Ok(FROM + 1)), "{plain:?} and {closing:?} from {FROM} on");
    for (copy, flags) in [(FROM, 0), (FROM + 1, libc::FD_CLOEXEC as usize)] {
        let found = sys::numbers(libc::SYS_fcntl, &[copy, libc::F_GETFD as usize]);
        ensure!(found == Ok(flags), "the flags of {copy} are {found:?}");
        ensure!(sys::read(copy as i32, &mut [0]) == Ok(1), "{copy} reads");
        ensure!(sys::close(copy as i32) == Ok(()), "close of {copy}");
    }
    for argument in [1024, usize::MAX] {
        let answer = fcntl(libc::F_DUPFD, argument);
        ensure!(answer == Err(Errno(libc::EINVAL)), "from {argument}: {answer:?}");
    }
    ensure!(sys::close(fd) == Ok(()), "close of {fd}");
    Ok(())
}

fn positions() -> Outcome {
    let fd = own_program()?;
    let size = sys::fstat(fd).map_err(|errno| format!("fstat: {errno}"))?.st_size;
    let mut head = [0; 4];
    let steps = [
        ("read", sys::read(fd, &mut head), Ok(4)),
        ("pread", sys::pread(fd, &mut [0; 8], 1), Ok(8)),
        ("SEEK_CUR", sys::lseek(fd, 0, libc::SEEK_CUR), Ok(4)),
        ("SEEK_SET -1", sys::lseek(fd, -1, libc::SEEK_SET), Err(Errno(libc::EINVAL))),
        ("whence 77", sys::lseek(fd, 0, 77), Err(Errno(libc::EINVAL))),
        ("SEEK_END", sys::lseek(fd, -1, libc::SEEK_END), Ok(size as usize - 1)),
        ("read of the last byte", sys::read(fd, &mut [0; 8]), Ok(1)),
        ("read at the end", sys::read(fd, &mut [0; 8]), Ok(0)),
        ("SEEK_SET past the end", sys::lseek(fd, size + 100, libc::SEEK_SET), Ok(size as usize + 100)),
        ("read past the end", sys::read(fd, &mut [0; 8]), Ok(0)),
        ("pread past the end", sys::pread(fd, &mut [0; 8], 1 << 40), Ok(0)),
        ("pread of -1", sys::pread(fd, &mut [0; 8], u64::MAX), Err(Errno(libc::EINVAL))),
    ];
    let _ = sys::close(fd);
    ensure!(&head == b"\x7fELF", "the file begins with {head:?}");
    for (what, answer, wanted) in steps {
        ensure!(answer == wanted, "{what}: {answer:?}, not {wanted:?}");
    }
    Ok(())
}

fn read_only() -> Outcome {
    let fd = own_program()?;
    let answer = sys::write(fd, b"x");
    let shared = Mapping::new(0, PAGE, sys::RW, libc::MAP_SHARED, fd, 0).map(|m| m.addr);
    let _ = sys::close(fd);
    ensure!(answer == Err(Errno(libc::EBADF)), "write: {answer:?}, not EBADF");
    ensure!(shared == Err(Errno(libc::EACCES)), "shared writable mapping: {shared:x?}, not EACCES");
    Ok(())
}

fn open_zero(flags: i32) -> Result<i32, String> {
    sys::open(c"/dev/zero", flags).map_err(|errno| format!("open /dev/zero, flags {flags:#x}: {errno}"))
}

fn no_access() -> Outcome {
    let bad = Err(Errno(libc::EBADF));
    for flags in [libc::O_PATH, libc::O_PATH | libc::O_RDWR, libc::O_ACCMODE] {
        let fd = open_zero(flags)?;
        let answers = (sys::read(fd, &mut [0; 4]), sys::write(fd, b"x"), sys::fstat(fd).map(drop));
        let seek = sys::lseek(fd, 0, libc::SEEK_SET);
        let _ = sys::close(fd);
        ensure!(answers == (bad, bad, Ok(())), "flags {flags:#x}: {answers:?}");
        let wanted = if flags & libc::O_PATH != 0 { bad } else { Ok(0) };
        ensure!(seek == wanted, "flags {flags:#x}: lseek {seek:?}");
    }
    Ok(())
}

fn null_seek() -> Outcome {
    let null = sys::open(c"/dev/null", libc::O_RDWR).map_err(|errno| format!("open /dev/null: {errno}"))?;
    for fd in [null, open_zero(libc::O_RDWR)?] {
        let _ = sys::read(fd, &mut [0; 4]);
        for whence in [libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END, libc::SEEK_DATA, libc::SEEK_HOLE] {
            let answer = sys::lseek(fd, 100, whence);
            ensure!(answer == Ok(0), "whence {whence}: {answer:?}, not 0");
        }
        let unknown = sys::lseek(fd, 0, 77);
        ensure!(unknown == Err(Errno(libc::EINVAL)), "whence 77: {unknown:?}");
        let _ = sys::close(fd);
    }
    Ok(())
}

fn stats_agree() -> Outcome {
    let (path, fd) = (own_path()?, own_program()?);
    let by_fd = sys::fstat(fd).map_err(|errno| format!("fstat: {errno}"))?;
    let stat_at = |dir: i32, path: &std::ffi::CStr, flags: i32| {
        // SAFETY: `stat` is plain numbers, for which all-zero is a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        let args = [dir as usize, path.as_ptr() as usize, &raw mut stat as usize, flags as usize, 0, 0];
        // SAFETY: the path ends in NUL and `stat` is live.
        unsafe { sys::call(libc::SYS_newfstatat, args) }
            .map(|_| stat)
            .map_err(|errno| format!("newfstatat {path:?}: {errno}"))
    };
    let by_name = stat_at(libc::AT_FDCWD, &path, 0)?;
    let by_empty = stat_at(fd, c"", libc::AT_EMPTY_PATH)?;
    let _ = sys::close(fd);
    let facts = |s: &libc::stat| (s.st_size, s.st_mode, s.st_ino, s.st_dev);
    ensure!(
        facts(&by_fd) == facts(&by_name),
        "{:?} by descriptor, {:?} by name",
        facts(&by_fd),
        facts(&by_name)
    );
    ensure!(facts(&by_fd) == facts(&by_empty), "AT_EMPTY_PATH differs: {:?}", facts(&by_empty));
    ensure!(by_fd.st_mode & libc::S_IFMT == libc::S_IFREG, "mode {:o}", by_fd.st_mode);
    Ok(())
}

fn stdin_is_empty() -> Outcome {
    let answer = sys::read(0, &mut [0; 16]);
    ensure!(answer == Ok(0), "read of stdin: {answer:?}, not 0");
    Ok(())
}

fn exe_link() -> Outcome {
    let path = own_path()?;
    ensure!(path.as_bytes().first() == Some(&b'/'), "{path:?} is not absolute");
    let mut short = [0_u8; 3];
    let args = [c"/proc/self/exe".as_ptr() as usize, short.as_mut_ptr() as usize, short.len(), 0, 0, 0];
    // SAFETY: the buffer is live and `args` tells its length.
    let len = unsafe { sys::call(libc::SYS_readlink, args) };
    ensure!(len == Ok(3) && short == path.as_bytes()[..3], "a short buffer got {len:?} bytes: {short:?}");
    let flat = c"/proc/self/maps".as_ptr() as usize;
    // SAFETY: as above.
    let refused = unsafe { sys::call(libc::SYS_readlink, [flat, short.as_mut_ptr() as usize, 3, 0, 0, 0]) };
    ensure!(refused == Err(Errno(libc::EINVAL)), "readlink of a file: {refused:?}, not EINVAL");
    Ok(())
}

/// The line of /proc/self/maps that covers `addr`.
fn line_of(maps: &str, addr: usize) -> Result<&str, String> {
    maps.lines()
        .find(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds =
                range.map(|(from, to)| [from, to].map(|t| usize::from_str_radix(t, 16).unwrap_or(0)));
            bounds.is_some_and(|[from, to]| (from..to).contains(&addr))
        })
        .ok_or_else(|| format!("no line covers {addr:#x}:\n{maps}"))
}

fn read_maps() -> Result<String, String> {
    std::fs::read_to_string("/proc/self/maps").map_err(|error| format!("/proc/self/maps: {error}"))
}

fn maps() -> Outcome {
    let maps = read_maps()?;
    let (heap, stack) = (Box::new(1_u8), 1_u8);
    let code = line_of(&maps, read_maps as *const () as usize)?;
    ensure!(code.contains(" r-xp "), "code: {code}");
    let own = own_path()?.into_string().unwrap_or_default();
    ensure!(code.ends_with(&own), "code is not named {own}: {code}");
    let stack = line_of(&maps, &raw const stack as usize)?;
    ensure!(stack.contains(" rw-p ") && stack.ends_with("[stack]"), "stack: {stack}");
    let heap = line_of(&maps, &raw const *heap as usize)?;
    ensure!(heap.contains(" rw-p "), "heap: {heap}");
    let starts: Vec<usize> = maps
        .lines()
        .filter_map(|line| usize::from_str_radix(line.split('-').next()?, 16).ok())
        .filter(|start| *start < 1 << 47)
        .collect();
    ensure!(starts.is_sorted(), "the lines are not in the order of their addresses:\n{maps}");
    Ok(())
}

fn maps_of_dax(context: &Context) -> Outcome {
    let Ok(device) = context.device() else { return Ok(()) };
    let off = device.align;
    let mapping = device.map(2 * device.align, off).map_err(|errno| format!("mmap: {errno}"))?;
    let maps = read_maps()?;
    let line = line_of(&maps, mapping.addr)?;
    let head = format!("{:x}-{:x} rw-s {off:08x} ", mapping.addr, mapping.addr + mapping.len);
    ensure!(line.starts_with(&head), "{line}\nnot {head}");
    ensure!(line.ends_with(&*device.path.to_string_lossy()), "{line}\nis not named {:?}", device.path);
    Ok(())
}

fn auxv() -> Outcome {
    // SAFETY: getauxval reads the vector that the kernel passed.
    let value = |key| unsafe { libc::getauxval(key) } as usize;
    ensure!(value(libc::AT_PAGESZ) == PAGE, "AT_PAGESZ {}", value(libc::AT_PAGESZ));
    ensure!(value(libc::AT_CLKTCK) == 100, "AT_CLKTCK {}", value(libc::AT_CLKTCK));
    ensure!(value(libc::AT_PHENT) == 56 && value(libc::AT_PHNUM) > 1, "AT_PHENT, AT_PHNUM");
    let (entry, main) = (value(libc::AT_ENTRY), auxv as *const () as usize);
    ensure!(entry.abs_diff(main) < 1 << 30, "AT_ENTRY {entry:#x} is far from the code at {main:#x}");
    for (name, key) in [
        ("AT_PHDR", libc::AT_PHDR),
        ("AT_RANDOM", libc::AT_RANDOM),
        ("AT_EXECFN", libc::AT_EXECFN),
        ("AT_PLATFORM", libc::AT_PLATFORM),
    ] {
        ensure!(guest::fault::load(value(key)).is_done(), "{name} is {:#x}: not readable", value(key));
    }
    // SAFETY: AT_RANDOM points to sixteen bytes for the life of the program.
    let random = unsafe { *(value(libc::AT_RANDOM) as *const [u8; 16]) };
    ensure!(random.iter().any(|byte| *byte != random[0]), "AT_RANDOM is sixteen times {}", random[0]);
    ensure!(value(libc::AT_SECURE) == 0, "AT_SECURE is set");
    Ok(())
}

fn draw(flags: usize) -> Result<[u8; 32], Errno> {
    let mut bytes = [0_u8; 32];
    let args = [bytes.as_mut_ptr() as usize, bytes.len(), flags, 0, 0, 0];
    // SAFETY: the buffer is live.
    unsafe { sys::call(libc::SYS_getrandom, args) }.map(|_| bytes)
}

fn random() -> Outcome {
    for flags in [0, libc::GRND_NONBLOCK] {
        let (one, two) = (draw(flags as usize), draw(flags as usize));
        ensure!(one.is_ok() && two.is_ok(), "getrandom flags {flags}: {one:?}");
        ensure!(one != two, "two draws are the same: {one:?}");
    }
    ensure!(draw(0x1000) == Err(Errno(libc::EINVAL)), "unknown flag: {:?}", draw(0x1000));
    Ok(())
}

fn clocks() -> Outcome {
    let mut last = sys::monotonic_ns();
    ensure!(last != 0, "clock_gettime(CLOCK_MONOTONIC) failed");
    let start = last;
    for _ in 0..1000 {
        let now = sys::monotonic_ns();
        ensure!(now >= last, "the clock went from {last} back to {now}");
        last = now;
    }
    ensure!(last > start, "a thousand calls took no time");
    for (clock, wanted) in [(libc::CLOCK_REALTIME, Ok(0)), (9999, Err(Errno(libc::EINVAL)))] {
        let mut time = [0_u64; 2];
        let args = [clock as usize, time.as_mut_ptr() as usize, 0, 0, 0, 0];
        // SAFETY: a timespec is sixteen bytes.
        let answer = unsafe { sys::call(libc::SYS_clock_gettime, args) };
        ensure!(answer == wanted, "clock {clock}: {answer:?}");
        ensure!(time[1] < 1_000_000_000, "clock {clock}: {} ns", time[1]);
    }
    Ok(())
}

fn sleepless_clocks() -> Outcome {
    let time = [0_u64, 1];
    let sleep = |clock: i32| {
        let args = [clock as usize, 0, time.as_ptr() as usize, 0, 0, 0];
        // SAFETY: a timespec is sixteen bytes.
        unsafe { sys::call(libc::SYS_clock_nanosleep, args) }
    };
    for clock in [libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_THREAD_CPUTIME_ID, libc::CLOCK_MONOTONIC_COARSE] {
        ensure!(sleep(clock) == Err(Errno(libc::EOPNOTSUPP)), "clock {clock}: {:?}", sleep(clock));
    }
    ensure!(sleep(libc::CLOCK_MONOTONIC) == Ok(0), "CLOCK_MONOTONIC: {:?}", sleep(libc::CLOCK_MONOTONIC));
    Ok(())
}

fn poll() -> Outcome {
    let none = sys::numbers(libc::SYS_poll, &[0, 0, 0]);
    ensure!(none == Ok(0), "poll(NULL, 0, 0): {none:?}");
    let mut fds = [libc::pollfd { fd: 999, events: libc::POLLIN, revents: 0 }; 2];
    fds[1].fd = -1;
    // SAFETY: two pollfds.
    let answer = unsafe { sys::call(libc::SYS_poll, [fds.as_mut_ptr() as usize, 2, 0, 0, 0, 0]) };
    ensure!(answer == Ok(1) && fds[0].revents == libc::POLLNVAL, "poll of fd 999: {answer:?}");
    let (time, mask) = ([0_u64; 2], 0_u64);
    for (mask, size, wanted) in [(&raw const mask as usize, 4, Err(Errno(libc::EINVAL))), (0, 4, Ok(0))] {
        // SAFETY: no pollfd, a timespec and a mask, both live.
        let answer = unsafe { sys::call(libc::SYS_ppoll, [0, 0, time.as_ptr() as usize, mask, size, 0]) };
        ensure!(answer == wanted, "ppoll, mask {mask:#x} of {size} bytes: {answer:?}");
    }
    Ok(())
}

fn numbers() -> Outcome {
    let pid = sys::numbers(libc::SYS_getpid, &[]);
    let tid = sys::numbers(libc::SYS_gettid, &[]);
    ensure!(pid == tid && pid.is_ok_and(|pid| pid > 0), "pid {pid:?}, tid {tid:?}");
    ensure!(sys::numbers(libc::SYS_getppid, &[]).is_ok(), "getppid");
    let set = sys::numbers(libc::SYS_set_tid_address, &[0]);
    ensure!(set == tid, "set_tid_address {set:?}, tid {tid:?}");
    Ok(())
}

fn tellers() -> Outcome {
    let answers = [
        ("getgroups(-1)", sys::numbers(libc::SYS_getgroups, &[usize::MAX, 0]), Err(Errno(libc::EINVAL))),
        ("PR_GET_DUMPABLE", sys::numbers(libc::SYS_prctl, &[libc::PR_GET_DUMPABLE as usize]), Ok(1)),
        ("alarm(0)", sys::numbers(libc::SYS_alarm, &[0]), Ok(0)),
    ];
    for (what, answer, wanted) in answers {
        ensure!(answer == wanted, "{what}: {answer:?}, not {wanted:?}");
    }
    let before = sys::numbers(libc::SYS_umask, &[0o1027]).unwrap_or(0);
    let between = sys::numbers(libc::SYS_umask, &[before]);
    ensure!(between == Ok(0o027), "umask after 01027: {between:?}, not 027");

    const ARCH_GET_GS: usize = 0x1004;
    let mut base = u64::MAX;
    // SAFETY: the call writes one word.
    let got = unsafe { sys::call(libc::SYS_arch_prctl, [ARCH_GET_GS, &raw mut base as usize, 0, 0, 0, 0]) };
    ensure!(got == Ok(0) && base == 0, "ARCH_GET_GS: {got:?}, {base:#x}");

    let mut usage = [u64::MAX; 18];
    let mut ask = |who: i32| {
        // SAFETY: a struct rusage is eighteen words.
        unsafe { sys::call(libc::SYS_getrusage, [who as usize, usage.as_mut_ptr() as usize, 0, 0, 0, 0]) }
    };
    let (unknown, own) = (ask(7), ask(libc::RUSAGE_SELF));
    ensure!(unknown == Err(Errno(libc::EINVAL)), "getrusage(7): {unknown:?}");
    ensure!(own == Ok(0) && usage[1] < 1_000_000 && usage[17] != u64::MAX, "getrusage: {own:?}, {usage:?}");
    Ok(())
}

fn affinity() -> Outcome {
    let mut mask = [0_u64; 16];
    let args = [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the mask is as long as told.
    let answer = unsafe { sys::call(libc::SYS_sched_getaffinity, args) };
    ensure!(answer.is_ok_and(|len| len >= 8 && len % 8 == 0), "sched_getaffinity: {answer:?}");
    ensure!(mask.iter().any(|word| *word != 0), "no CPU in the mask");
    Ok(())
}

fn stack_limit() -> Outcome {
    let mut limit = [0_u64; 2];
    let args = [0, libc::RLIMIT_STACK as usize, 0, limit.as_mut_ptr() as usize, 0, 0];
    // SAFETY: an rlimit64 is two numbers.
    let answer = unsafe { sys::call(libc::SYS_prlimit64, args) };
    ensure!(answer == Ok(0) && limit[0] == 8 << 20, "RLIMIT_STACK: {answer:?}, {limit:?}");
    let unknown = sys::numbers(libc::SYS_prlimit64, &[0, 999, 0, 0]);
    ensure!(unknown == Err(Errno(libc::EINVAL)), "limit 999: {unknown:?}");
    Ok(())
}
