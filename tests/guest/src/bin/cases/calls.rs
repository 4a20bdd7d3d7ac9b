//! Calls that do not exist, and every call with garbage: the kernel answers and lives.
//!
//! Runs on Daxite only: garbage to every call of a root shell's Linux is no test.

use guest::ensure;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, Errno};

use crate::Context;

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    vec![
        Case::new("calls", "numbers that Linux never gave are ENOSYS", |_| never_given()),
        Case::new("calls", "every call survives garbage arguments", |_| garbage()),
    ]
}

fn never_given() -> Outcome {
    let gaps =
        (335..424).chain(512..600).chain([1 << 20, 0x4000_0000, 0x7fff_ffff, -1, -4096, i32::MIN.into()]);
    for number in gaps {
        let answer = sys::numbers(number, &[1, 2, 3, 4, 5, 6]);
        ensure!(answer == Err(Errno(libc::ENOSYS)), "call {number}: {answer:?}, not ENOSYS");
    }
    Ok(())
}

/// Calls that end, stop or copy this program, wait for what never comes, or signal it, as they should.
const NOT_SWEPT: &[i64] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_pause,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_alarm,
    libc::SYS_setitimer,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_reboot,
    // Closes every descriptor when its range is garbage.
    libc::SYS_close_range,
    // Changes what the sweep itself stands on.
    libc::SYS_arch_prctl,
    libc::SYS_prctl,
    libc::SYS_seccomp,
];

/// No argument is an address that this program has, a length that fits, or an open descriptor.
const GARBAGE: &[[usize; 6]] = &[
    [usize::MAX; 6],
    [0xdead_beef_dead_b33f; 6],
    [0x8000_0000_0000_0421; 6],
    [0xffff_ffff_8010_0001, 0xffff_8000_0000_0003, 0x7fff_ffff_ffff_ffff, 1, usize::MAX, 7],
    [9999, 0x0000_7fff_ffff_f001, usize::MAX - 4095, 0xffff_ffff, 0xffff_ffff_0000_0000, 3],
];

fn garbage() -> Outcome {
    for number in (0..=600).filter(|number| !NOT_SWEPT.contains(number)) {
        for args in GARBAGE {
            let _ = sys::numbers(number, args);
        }
    }
    let memory = Mapping::anonymous(1 << 16).map_err(|errno| format!("mmap afterwards: {errno}"))?;
    ensure!(memory.store(9, 1).is_done(), "fresh memory afterwards cannot be written");
    ensure!(sys::write(1, b"") == Ok(0), "stdout is gone");
    Ok(())
}
