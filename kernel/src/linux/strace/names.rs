//! The names of numbers that calls and signals have.

use crate::linux::call::Kind;
use crate::linux::signal::Signal;
use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};
use linux_raw_sys::general::*;

/// Values and their names.
type Table = &'static [(u64, &'static str)];

/// What a number may be made of: the bits of a field with one of these values, and other bits, those of more than one
/// first.
type Names = (u64, Table, Table);

macro_rules! table {
    ($($name:ident)*) => { &[$(($name as i64 as u64, stringify!($name))),*] };
}

const NONE: u64 = 0;
const ALL: u64 = u64::MAX;

const STATUS: Table = table!(
    O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_DIRECT O_LARGEFILE O_TMPFILE O_DIRECTORY
    O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH
);
const ADVICE: Table = table!(
    MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK
    MADV_DOFORK MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP
    MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE
    MADV_DONTNEED_LOCKED MADV_COLLAPSE MADV_HWPOISON MADV_SOFT_OFFLINE
);
const MAP: Table = table!(
    MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK
    MAP_HUGETLB MAP_SYNC MAP_FIXED_NOREPLACE
);
const FUTEX: Table = table!(
    FUTEX_WAIT FUTEX_WAKE FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI
    FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET
);
const CLONE: Table = table!(
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_SYSVSEM
    CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_CHILD_SETTID CLONE_IO
);
const CLOCK: Table = table!(
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
    CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_TAI
);

/// The names of what an argument of this kind can be.
fn names(kind: Kind) -> Names {
    match kind {
        Kind::Dirfd => (ALL, table!(AT_FDCWD), &[]),
        Kind::Open => (O_ACCMODE.into(), table!(O_RDONLY O_WRONLY O_RDWR), STATUS),
        Kind::Status => (NONE, &[], STATUS),
        Kind::At => (
            NONE,
            &[],
            table!(AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH),
        ),
        Kind::Prot => (ALL, table!(PROT_NONE), table!(PROT_READ PROT_WRITE PROT_EXEC)),
        Kind::Map => (MAP_TYPE.into(), table!(MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE), MAP),
        Kind::Advice => (ALL, ADVICE, &[]),
        Kind::Whence => (ALL, table!(SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE), &[]),
        Kind::Epoll => (ALL, table!(EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD), &[]),
        Kind::Fcntl => (
            ALL,
            table!(F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_DUPFD_CLOEXEC),
            &[],
        ),
        Kind::Futex => (0x7f, FUTEX, table!(FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME)),
        Kind::Clone => (CSIGNAL.into(), table!(SIGCHLD), CLONE),
        Kind::Clock => (ALL, CLOCK, &[]),
        _ => (NONE, &[], &[]),
    }
}

fn find(table: Table, value: u64) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == value).map(|(_, name)| *name)
}

/// Writes the names of `value`, and what has none as a number.
pub fn show(kind: Kind, value: u64, out: &mut impl Write) -> fmt::Result {
    let (field, values, bits) = names(kind);
    let (mut rest, mut separator) = (value, "");
    if let Some(name) = find(values, value & field) {
        out.write_str(name)?;
        (rest, separator) = (rest & !field, "|");
    }
    for (bits, name) in bits {
        if rest & bits == *bits {
            write!(out, "{separator}{name}")?;
            (rest, separator) = (rest & !bits, "|");
        }
    }
    match rest {
        0 if separator.is_empty() => out.write_str("0"),
        0 => Ok(()),
        // A descriptor where AT_FDCWD might be.
        _ if kind == Kind::Dirfd => write!(out, "{}", rest as i64),
        _ => write!(out, "{separator}{rest:#x}"),
    }
}

/// The name of a signal's si_code.
pub fn code(signal: Signal, code: i32) -> String {
    let own: Table = match signal {
        Signal::SEGV => table!(SEGV_MAPERR SEGV_ACCERR),
        Signal::BUS => table!(BUS_ADRALN BUS_ADRERR),
        Signal::FPE => table!(FPE_INTDIV FPE_FLTDIV FPE_FLTOVF FPE_FLTUND FPE_FLTRES FPE_FLTINV),
        Signal::ILL => table!(ILL_ILLOPN),
        Signal::TRAP => table!(TRAP_TRACE),
        Signal::CHLD => table!(CLD_EXITED CLD_KILLED),
        _ => &[],
    };
    let common: Table = table!(SI_USER SI_QUEUE SI_TIMER SI_TKILL SI_KERNEL);
    let value = i64::from(code) as u64;
    find(own, value).or(find(common, value)).map_or_else(|| format!("{code}"), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Kind, value: u64) -> String {
        let mut text = String::new();
        show(kind, kind.cut(value) as u64, &mut text).map(|()| text).unwrap()
    }

    #[test]
    fn numbers_are_named_as_strace_names_them() {
        for (kind, value, text) in [
            (Kind::Open, 0, "O_RDONLY"),
            (Kind::Open, 0o2000102, "O_RDWR|O_CREAT|O_CLOEXEC"),
            (Kind::Open, 0o4010000 | 3, "O_SYNC|0x3"),
            (Kind::Status, 0o2000000, "O_CLOEXEC"),
            (Kind::Status, 0, "0"),
            (Kind::Prot, 0, "PROT_NONE"),
            (Kind::Prot, 3, "PROT_READ|PROT_WRITE"),
            (Kind::Prot, 9, "PROT_READ|0x8"),
            (Kind::Map, 0x8_0003, "MAP_SHARED_VALIDATE|MAP_SYNC"),
            (Kind::Map, 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
            (Kind::Map, 0, "0"),
            (Kind::Dirfd, 0xffff_ff9c, "AT_FDCWD"),
            (Kind::Dirfd, 3, "3"),
            (Kind::Futex, 0x81, "FUTEX_WAKE|FUTEX_PRIVATE_FLAG"),
            (Kind::Clone, 0x4111, "SIGCHLD|CLONE_VM|CLONE_VFORK"),
            (Kind::Clock, 1, "CLOCK_MONOTONIC"),
            (Kind::Flags, 0x5413, "0x5413"),
        ] {
            assert_eq!(shown(kind, value), text);
        }
    }

    #[test]
    fn codes_are_those_of_their_signal() {
        assert_eq!(code(Signal::SEGV, 1), "SEGV_MAPERR");
        assert_eq!(code(Signal::CHLD, 1), "CLD_EXITED");
        assert_eq!(
            [0, -6, 0x80, 77].map(|number| code(Signal::PIPE, number)),
            ["SI_USER", "SI_TKILL", "SI_KERNEL", "77"]
        );
    }
}
