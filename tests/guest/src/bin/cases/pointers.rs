//! Every pointer argument of every call, bad in every way: the answer is EFAULT.

use std::cell::Cell;

use guest::ensure;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};
use libc::{PROT_NONE, PROT_READ};

use crate::Context;
use crate::files::own_program;

/// Stands for the bad pointer in an argument list.
const P: usize = 0x7777_0001;
/// Stands for a good descriptor: this program's file.
const FD: usize = 0x7777_0002;
/// Stands for a good path.
const PATH: usize = 0x7777_0003;
/// Stands for a pointer to an iovec whose base is the bad pointer and whose length is 64.
const IOV: usize = 0x7777_0004;
const CWD: usize = libc::AT_FDCWD as usize;

/// What the kernel does with the pointer.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// Reads this many bytes.
    Reads(usize),
    /// Writes this many bytes.
    Writes(usize),
    /// Reads a string up to its NUL.
    Text,
    /// Copies as much as it can: a transfer may end short.
    Bytes,
    /// As `Bytes`, and writes them.
    Fills,
}

/// One pointer argument: the call, its arguments, the use, and whether NULL means "none".
struct Argument(&'static str, i64, [usize; 6], Use, Null);

#[derive(Clone, Copy, PartialEq)]
enum Null {
    IsBad,
    IsNone,
}

use Null::{IsBad, IsNone};
use Use::{Bytes, Fills, Reads, Text, Writes};

#[rustfmt::skip]
const ARGUMENTS: &[Argument] = &[
    Argument("read(buf)", libc::SYS_read, [FD, P, 64, 0, 0, 0], Fills, IsBad),
    Argument("pread64(buf)", libc::SYS_pread64, [FD, P, 64, 0, 0, 0], Fills, IsBad),
    Argument("write(buf)", libc::SYS_write, [1, P, 64, 0, 0, 0], Bytes, IsBad),
    Argument("writev(iov)", libc::SYS_writev, [1, P, 1, 0, 0, 0], Reads(16), IsBad),
    Argument("writev(base)", libc::SYS_writev, [1, IOV, 1, 0, 0, 0], Bytes, IsBad),
    Argument("readv(iov)", libc::SYS_readv, [FD, P, 1, 0, 0, 0], Reads(16), IsBad),
    Argument("readv(base)", libc::SYS_readv, [FD, IOV, 1, 0, 0, 0], Fills, IsBad),
    Argument("open(path)", libc::SYS_open, [P, 0, 0, 0, 0, 0], Text, IsBad),
    Argument("openat(path)", libc::SYS_openat, [CWD, P, 0, 0, 0, 0], Text, IsBad),
    Argument("fstat(buf)", libc::SYS_fstat, [FD, P, 0, 0, 0, 0], Writes(144), IsBad),
    Argument("newfstatat(path)", libc::SYS_newfstatat, [CWD, P, 0, 0, 0, 0], Text, IsBad),
    Argument("newfstatat(buf)", libc::SYS_newfstatat, [CWD, PATH, P, 0, 0, 0], Writes(144), IsBad),
    Argument("readlink(path)", libc::SYS_readlink, [P, 0, 64, 0, 0, 0], Text, IsBad),
    Argument("readlink(buf)", libc::SYS_readlink, [PATH, P, 64, 0, 0, 0], Writes(3), IsBad),
    Argument("poll(fds)", libc::SYS_poll, [P, 2, 0, 0, 0, 0], Writes(16), IsBad),
    Argument("getrandom(buf)", libc::SYS_getrandom, [P, 64, 0, 0, 0, 0], Fills, IsBad),
    Argument("clock_gettime(time)", libc::SYS_clock_gettime, [1, P, 0, 0, 0, 0], Writes(16), IsBad),
    Argument("rt_sigaction(new)", libc::SYS_rt_sigaction, [12, P, 0, 8, 0, 0], Reads(32), IsNone),
    Argument("rt_sigaction(old)", libc::SYS_rt_sigaction, [12, 0, P, 8, 0, 0], Writes(32), IsNone),
    Argument("rt_sigprocmask(new)", libc::SYS_rt_sigprocmask, [0, P, 0, 8, 0, 0], Reads(8), IsNone),
    Argument("rt_sigprocmask(old)", libc::SYS_rt_sigprocmask, [0, 0, P, 8, 0, 0], Writes(8), IsNone),
    Argument("sigaltstack(new)", libc::SYS_sigaltstack, [P, 0, 0, 0, 0, 0], Reads(24), IsNone),
    Argument("sigaltstack(old)", libc::SYS_sigaltstack, [0, P, 0, 0, 0, 0], Writes(24), IsNone),
    Argument("prlimit64(new)", libc::SYS_prlimit64, [0, 3, P, 0, 0, 0], Reads(16), IsNone),
    Argument("prlimit64(old)", libc::SYS_prlimit64, [0, 3, 0, P, 0, 0], Writes(16), IsNone),
    Argument("sched_getaffinity(mask)", libc::SYS_sched_getaffinity, [0, 128, P, 0, 0, 0], Writes(8), IsBad),
    Argument("arch_prctl(fs)", libc::SYS_arch_prctl, [0x1003, P, 0, 0, 0, 0], Writes(8), IsBad),
];

/// Calls that a later issue brings: until then the answer may be ENOSYS.
#[rustfmt::skip]
const LATER: &[Argument] = &[
    Argument("uname(buf)", libc::SYS_uname, [P, 0, 0, 0, 0, 0], Writes(390), IsBad),
    Argument("gettimeofday(time)", libc::SYS_gettimeofday, [P, 0, 0, 0, 0, 0], Writes(16), IsNone),
    Argument("clock_getres(time)", libc::SYS_clock_getres, [1, P, 0, 0, 0, 0], Writes(16), IsNone),
    Argument("nanosleep(time)", libc::SYS_nanosleep, [P, 0, 0, 0, 0, 0], Reads(16), IsBad),
    Argument("access(path)", libc::SYS_access, [P, 0, 0, 0, 0, 0], Text, IsBad),
    Argument("readlinkat(path)", libc::SYS_readlinkat, [CWD, P, 0, 64, 0, 0], Text, IsBad),
    Argument("statx(path)", libc::SYS_statx, [CWD, P, 0, 0x7ff, 0, 0], Text, IsBad),
    Argument("statx(buf)", libc::SYS_statx, [CWD, PATH, 0, 0x7ff, P, 0], Writes(256), IsBad),
    Argument("getcwd(buf)", libc::SYS_getcwd, [P, 64, 0, 0, 0, 0], Writes(2), IsBad),
];

/// One case an argument.
pub fn cases() -> Vec<Case<Context>> {
    let now = ARGUMENTS.iter().map(|argument| (argument, false));
    let later = LATER.iter().map(|argument| (argument, true));
    now.chain(later)
        .map(|(argument, may_be_unknown)| Case {
            family: "pointers",
            name: format!("bad pointers to {}", argument.0),
            run: Box::new(move |context| argument.check(context, may_be_unknown)),
        })
        .collect()
}

/// The memory that bad pointers point into; dropped after the calls.
struct Places {
    /// Page 0 readable and writable and full of `a`, page 1 a hole, page 2 PROT_NONE, page 3 read-only.
    pages: Mapping,
    /// One alignment of the device, past its end.
    dax: Option<Mapping>,
}

impl Places {
    fn new(context: &Context) -> Result<Places, String> {
        let pages = Mapping::anonymous(4 * PAGE).map_err(|errno| format!("mmap: {errno}"))?;
        for at in 0..PAGE {
            pages.store(at, b'a');
        }
        let made = sys::munmap(pages.addr + PAGE, PAGE)
            .and(sys::mprotect(pages.addr + 2 * PAGE, PAGE, PROT_NONE))
            .and(sys::mprotect(pages.addr + 3 * PAGE, PAGE, PROT_READ));
        made.map_err(|errno| format!("munmap, mprotect: {errno}"))?;
        let past = |d: &guest::device::Device| d.map_as(0, d.align, RW, libc::MAP_SHARED, d.size as u64).ok();
        Ok(Places { pages, dax: context.device.as_ref().ok().and_then(past) })
    }

    /// Every bad pointer for this use.
    fn bad(&self, usage: Use, null: Null) -> Vec<(&'static str, usize)> {
        let base = self.pages.addr;
        let mut bad = vec![
            ("unmapped", base + PAGE),
            ("PROT_NONE", base + 2 * PAGE),
            ("kernel half", 0xffff_8000_0000_0000),
            ("kernel image", 0xffff_ffff_8010_0000),
            ("last user page", (1 << 47) - PAGE),
            ("non-canonical", 0x8000_0000_0000_0000),
            ("wrapping", usize::MAX - 7),
        ];
        if null == IsBad {
            bad.push(("NULL", 0));
        }
        if matches!(usage, Writes(_) | Fills) {
            bad.push(("read-only", base + 3 * PAGE));
        }
        match usage {
            Reads(len) | Writes(len) if len > 1 => bad.push(("half in a hole", base + PAGE - len / 2)),
            Text => bad.push(("no NUL before a hole", base + PAGE - 8)),
            _ => {}
        }
        bad.extend(self.dax.iter().map(|dax| ("dax past the end", dax.addr)));
        bad
    }
}

impl Argument {
    fn check(&self, context: &Context, may_be_unknown: bool) -> Outcome {
        let Argument(name, number, args, usage, null) = *self;
        let places = Places::new(context)?;
        let fd = own_program()?;
        let iov = Cell::new([0_usize, 64]);
        for (kind, pointer) in places.bad(usage, null) {
            iov.set([pointer, 64]);
            let args = args.map(|arg| match arg {
                P => pointer,
                FD => fd as usize,
                PATH => c"/proc/self/exe".as_ptr() as usize,
                IOV => iov.as_ptr() as usize,
                number => number,
            });
            // SAFETY: the pointer is bad, or the kernel has a bug that this case is here to find.
            let answer = unsafe { sys::call(number, args) };
            let is_unknown = may_be_unknown && answer == Err(Errno(libc::ENOSYS));
            ensure!(
                is_unknown || answer == Err(Errno(libc::EFAULT)),
                "{name} {kind}: {answer:?}, not EFAULT"
            );
        }
        let _ = sys::close(fd);
        Ok(())
    }
}
