//! The call table: number -> function. One `match`, which the compiler makes one jump table.
//!
//! A later call is one line here and one function in its family's file. Arguments are cut to their C types
//! here, as Linux's SYSCALL_DEFINE does: `int` arguments ignore the upper half of the register.

use super::errno::{Answer, Errno};
use super::peer::Direction;
use super::thread::Thread;
use super::{
    advice, alarm, attributes, brk, children, clone, entries, epoll, event, exec, exit, files, flock, futex,
    info, io, memory, names, open, peer, pipe, poll, remap, residence, sched, session, shm, signal, stat,
    time, timer,
};
use crate::task;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::*;
use syscalls::Sysno;

/// Words of the bitmap of calls that were named in the log; numbers beyond it share the last bit.
const NAMED_WORDS: usize = 16;
static NAMED: [AtomicU64; NAMED_WORDS] = [const { AtomicU64::new(0) }; NAMED_WORDS];

/// Calls the function that the registers ask for.
#[allow(non_upper_case_globals)] // the call numbers are spelled as in Linux's headers
#[inline]
pub fn dispatch(thread: &mut Thread) -> Answer {
    let p = thread;
    // Linux looks at the lower half only (arch/x86/entry/common.c, do_syscall_64).
    let number = p.context.rax as u32;
    /// Reads as many argument registers as there are names. In the arms, not before the match: a call
    /// without arguments shall not load six.
    macro_rules! with {
        (@ $call:expr; $name:ident $($names:ident)*; $register:ident $($registers:ident)*) => {{
            let $name = p.context.$register;
            with!(@ $call; $($names)*; $($registers)*)
        }};
        (@ $call:expr; ; $($registers:ident)*) => { $call };
        (|$($name:ident),*| $call:expr) => { with!(@ $call; $($name)*; rdi rsi rdx r10 r8 r9) };
    }
    match number {
        // Reading and writing.
        __NR_read => with!(|a, b, c| io::read(p, a as i32, b, c, None)),
        __NR_write => with!(|a, b, c| io::write(p, a as i32, b, c, None)),
        __NR_pread64 => with!(|a, b, c, d| io::read(p, a as i32, b, c, Some(d as i64))),
        __NR_pwrite64 => with!(|a, b, c, d| io::write(p, a as i32, b, c, Some(d as i64))),
        __NR_readv => with!(|a, b, c| io::readv(p, a as i32, b, c, None)),
        __NR_writev => with!(|a, b, c| io::writev(p, a as i32, b, c, None)),
        __NR_preadv => with!(|a, b, c, d| io::readv(p, a as i32, b, c, Some(d as i64))),
        __NR_pwritev => with!(|a, b, c, d| io::writev(p, a as i32, b, c, Some(d as i64))),
        __NR_sendfile => with!(|a, b| io::sendfile(p, a as i32, b as i32)),
        __NR_vmsplice => with!(|a, b, c, d| io::vmsplice(p, a as i32, b, c, d as u32)),
        __NR_lseek => with!(|a, b, c| io::lseek(p, a as i32, b as i64, c as u32)),
        __NR_fsync | __NR_fdatasync => with!(|a| io::fsync(p, a as i32)),
        __NR_ftruncate => with!(|a, b| io::ftruncate(p, a as i32, b as i64)),
        __NR_fallocate => with!(|a, b, c, d| io::fallocate(p, a as i32, b as u32, c as i64, d as i64)),

        // Paths and descriptors.
        __NR_open => with!(|a, b, c| open::openat(p, AT_FDCWD, a, b as u32, c as u32)),
        __NR_creat => with!(|a, b| open::openat(p, AT_FDCWD, a, O_CREAT | O_WRONLY | O_TRUNC, b as u32)),
        __NR_openat => with!(|a, b, c, d| open::openat(p, a as i32, b, c as u32, d as u32)),
        __NR_close => with!(|a| files::close(p, a as i32)),
        __NR_close_range => with!(|a, b, c| files::close_range(p, a as u32, b as u32, c as u32)),
        __NR_pipe => with!(|a| pipe::pipe2(p, a, 0)),
        __NR_pipe2 => with!(|a, b| pipe::pipe2(p, a, b as u32)),
        __NR_stat => with!(|a, b| stat::fstatat(p, AT_FDCWD, a, b, 0)),
        __NR_lstat => with!(|a, b| stat::fstatat(p, AT_FDCWD, a, b, AT_SYMLINK_NOFOLLOW)),
        __NR_fstat => with!(|a, b| stat::fstat(p, a as i32, b)),
        __NR_newfstatat => with!(|a, b, c, d| stat::fstatat(p, a as i32, b, c, d as u32)),
        __NR_statx => with!(|a, b, c, d, e| stat::statx(p, a as i32, b, c as u32, d as u32, e)),
        __NR_access => with!(|a, b| open::faccessat(p, AT_FDCWD, a, b as u32, 0)),
        __NR_faccessat => with!(|a, b, c| open::faccessat(p, a as i32, b, c as u32, 0)),
        __NR_faccessat2 => with!(|a, b, c, d| open::faccessat(p, a as i32, b, c as u32, d as u32)),
        __NR_mkdir => with!(|a, b| names::mkdirat(p, AT_FDCWD, a, b as u32)),
        __NR_mkdirat => with!(|a, b, c| names::mkdirat(p, a as i32, b, c as u32)),
        __NR_rmdir => with!(|a| names::unlinkat(p, AT_FDCWD, a, AT_REMOVEDIR)),
        __NR_unlink => with!(|a| names::unlinkat(p, AT_FDCWD, a, 0)),
        __NR_unlinkat => with!(|a, b, c| names::unlinkat(p, a as i32, b, c as u32)),
        __NR_rename => with!(|a, b| names::renameat2(p, AT_FDCWD, a, AT_FDCWD, b, 0)),
        __NR_renameat => with!(|a, b, c, d| names::renameat2(p, a as i32, b, c as i32, d, 0)),
        __NR_renameat2 => with!(|a, b, c, d, e| names::renameat2(p, a as i32, b, c as i32, d, e as u32)),
        __NR_link => with!(|a, b| names::linkat(p, AT_FDCWD, a, AT_FDCWD, b, 0)),
        __NR_linkat => with!(|a, b, c, d, e| names::linkat(p, a as i32, b, c as i32, d, e as u32)),
        __NR_symlink => with!(|a, b| names::symlinkat(p, a, AT_FDCWD, b)),
        __NR_symlinkat => with!(|a, b, c| names::symlinkat(p, a, b as i32, c)),
        __NR_chmod => with!(|a, b| attributes::fchmodat(p, AT_FDCWD, a, b as u32)),
        __NR_fchmodat => with!(|a, b, c| attributes::fchmodat(p, a as i32, b, c as u32)),
        __NR_fchmod => with!(|a, b| attributes::fchmod(p, a as i32, b as u32)),
        __NR_utimensat => with!(|a, b, c, d| attributes::utimensat(p, a as i32, b, c, d as u32)),
        __NR_truncate => with!(|a, b| attributes::truncate(p, a, b as i64)),
        __NR_statfs => with!(|a, b| attributes::statfs(p, a, b)),
        __NR_fstatfs => with!(|a, b| attributes::fstatfs(p, a as i32, b)),
        __NR_memfd_create => with!(|a, b| open::memfd_create(p, a, b as u32)),
        __NR_readlink => with!(|a, b, c| open::readlinkat(p, AT_FDCWD, a, b, c as i32)),
        __NR_readlinkat => with!(|a, b, c, d| open::readlinkat(p, a as i32, b, c, d as i32)),
        __NR_getdents64 => with!(|a, b, c| entries::getdents64(p, a as i32, b, c & 0xffff_ffff)),
        __NR_getcwd => with!(|a, b| open::getcwd(p, a, b)),
        __NR_chdir => with!(|a| open::chdir(p, a)),
        __NR_fchdir => with!(|a| open::fchdir(p, a as i32)),
        __NR_dup => with!(|a| files::dup(p, a as i32)),
        __NR_dup2 => with!(|a, b| files::dup2(p, a as i32, b as i32)),
        __NR_dup3 => with!(|a, b, c| files::dup3(p, a as i32, b as i32, c as u32)),
        __NR_fcntl => with!(|a, b, c| files::fcntl(p, a as i32, b as u32, c)),
        __NR_flock => with!(|a, b| flock::flock(p, a as i32, b as u32)),
        __NR_ioctl => with!(|a, b, c| files::ioctl(p, a as i32, b as u32, c)),
        __NR_umask => with!(|a| files::umask(p, a as u32)),

        // Memory.
        __NR_mmap => with!(|a, b, c, d, e, f| memory::mmap(p, a, b, c as u32, d as u32, e as i32, f)),
        __NR_munmap => with!(|a, b| memory::munmap(p, a, b)),
        __NR_mprotect => with!(|a, b, c| memory::mprotect(p, a, b, c as u32)),
        __NR_madvise => with!(|a, b, c| advice::madvise(p, a, b, c as u32)),
        __NR_msync => with!(|a, b, c| memory::msync(p, a, b, c as u32)),
        __NR_brk => with!(|a| brk::brk(p, a)),
        __NR_mremap => with!(|a, b, c, d, e| remap::mremap(p, a, b, c, d as u32, e)),
        __NR_mincore => with!(|a, b, c| residence::mincore(p, a, b, c)),
        __NR_mlock => with!(|a, b| residence::mlock(p, a, b, 0)),
        __NR_mlock2 => with!(|a, b, c| residence::mlock(p, a, b, c as u32)),
        __NR_munlock => with!(|a, b| residence::munlock(p, a, b)),
        __NR_mlockall => with!(|a| residence::mlockall(a as u32)),
        __NR_munlockall => Ok(0),
        __NR_move_pages => {
            with!(|a, b, c, d, e, f| residence::move_pages(p, a as i32, b, c, d, e, f as u32))
        }
        __NR_process_vm_readv => {
            with!(|a, b, c, d, e, f| peer::process_vm(Direction::Read, a as i32, (b, c), (d, e), f))
        }
        __NR_process_vm_writev => {
            with!(|a, b, c, d, e, f| peer::process_vm(Direction::Write, a as i32, (b, c), (d, e), f))
        }
        __NR_shmget => with!(|a, b, c| shm::shmget(p, a as i32, b, c as u32)),
        __NR_shmat => with!(|a, b, c| shm::shmat(p, a as i32, b, c as u32)),
        __NR_shmdt => with!(|a| shm::shmdt(p, a)),
        __NR_shmctl => with!(|a, b, c| shm::shmctl(a as i32, b as u32, c)),

        // Signals.
        __NR_rt_sigaction => with!(|a, b, c, d| signal::sigaction(p, a as u32, b, c, d)),
        __NR_rt_sigprocmask => with!(|a, b, c, d| signal::sigprocmask(p, a as u32, b, c, d)),
        __NR_rt_sigpending => with!(|a, b| signal::sigpending(p, a, b)),
        __NR_rt_sigsuspend => with!(|a, b| signal::sigsuspend(p, a, b)),
        __NR_rt_sigreturn => signal::sigreturn(p),
        __NR_rt_sigtimedwait => with!(|a, b, c, d| signal::sigtimedwait(p, a, b, c, d)),
        __NR_rt_sigqueueinfo => with!(|a, b, c| signal::sigqueue(p, a as i32, b as u32, c)),
        __NR_rt_tgsigqueueinfo => with!(|a, b, c, d| signal::tgsigqueue(p, a as i32, b as i32, c as u32, d)),
        __NR_sigaltstack => with!(|a, b| signal::sigaltstack(p, a, b)),
        __NR_kill => with!(|a, b| signal::kill(p, a as i32, b as u32)),
        __NR_tkill => with!(|a, b| signal::tkill(p, a as i32, b as u32)),
        __NR_tgkill => with!(|a, b, c| signal::tgkill(p, a as i32, b as i32, c as u32)),

        // Time and waiting.
        __NR_clock_gettime => with!(|a, b| time::clock_gettime(p, a as u32, b)),
        __NR_clock_getres => with!(|a, b| time::clock_getres(p, a as u32, b)),
        __NR_gettimeofday => with!(|a, b| time::gettimeofday(a, b)),
        __NR_time => with!(|a| time::time(a)),
        __NR_nanosleep => with!(|a, b| time::nanosleep(p, a, b)),
        __NR_clock_nanosleep => with!(|a, b, c, d| time::clock_nanosleep(p, a as u32, b as u32, c, d)),
        __NR_getrusage => with!(|a, b| time::getrusage(p, a as i32, b)),
        __NR_alarm => with!(|a| alarm::alarm(p, a as u32)),
        __NR_getitimer => with!(|a, b| alarm::getitimer(p, a as u32, b)),
        __NR_setitimer => with!(|a, b, c| alarm::setitimer(p, a as u32, b, c)),
        __NR_timer_create => with!(|a, b, c| alarm::timer_create(p, a as u32, b, c)),
        __NR_timer_settime => with!(|a, b, c, d| alarm::timer_settime(p, a as i32, b as u32, c, d)),
        __NR_timer_gettime => with!(|a, b| alarm::timer_gettime(p, a as i32, b)),
        __NR_timer_getoverrun => with!(|a| alarm::timer_getoverrun(p, a as i32)),
        __NR_timer_delete => with!(|a| alarm::timer_delete(p, a as i32)),
        __NR_poll => with!(|a, b, c| poll::poll(p, a, b & 0xffff_ffff, c as i32)),
        __NR_ppoll => with!(|a, b, c, d, e| poll::ppoll(p, a, b & 0xffff_ffff, c, [d, e])),
        __NR_select => with!(|a, b, c, d, e| poll::select(p, a as i32, [b, c, d], (e, 1000), 0)),
        __NR_pselect6 => with!(|a, b, c, d, e, f| poll::select(p, a as i32, [b, c, d], (e, 1), f)),
        __NR_epoll_create => with!(|a| epoll::epoll_create(p, a as i32)),
        __NR_epoll_create1 => with!(|a| epoll::epoll_create1(p, a as u32)),
        __NR_epoll_ctl => with!(|a, b, c, d| epoll::epoll_ctl(p, a as i32, b as u32, c as i32, d)),
        __NR_epoll_wait => {
            with!(|a, b, c, d| epoll::epoll_wait(p, a as i32, b, c as i32, d as i32, [0; 2]))
        }
        __NR_epoll_pwait => {
            with!(|a, b, c, d, e, f| epoll::epoll_wait(p, a as i32, b, c as i32, d as i32, [e, f]))
        }
        __NR_epoll_pwait2 => {
            with!(|a, b, c, d, e, f| epoll::epoll_pwait2(p, a as i32, b, c as i32, d, [e, f]))
        }
        __NR_eventfd => with!(|a| event::eventfd2(p, a as u32, 0)),
        __NR_eventfd2 => with!(|a, b| event::eventfd2(p, a as u32, b as u32)),
        __NR_timerfd_create => with!(|a, b| timer::timerfd_create(p, a as u32, b as u32)),
        __NR_timerfd_settime => {
            with!(|a, b, c, d| timer::timerfd_settime(p, a as i32, b as u32, c, d))
        }
        __NR_timerfd_gettime => with!(|a, b| timer::timerfd_gettime(p, a as i32, b)),
        __NR_futex => with!(|a, b, c, d, e, f| futex::futex(p, a, b as u32, c as u32, d, e, f as u32)),
        __NR_pause => poll::pause(p),
        __NR_sched_yield => {
            task::yield_now();
            Ok(0)
        }

        // Threads and processes.
        __NR_clone => with!(|a, b, c, d, e| clone::clone(p, a, b, c, d, e)),
        __NR_clone3 => with!(|a, b| clone::clone3(p, a, b)),
        __NR_fork => clone::fork(p),
        __NR_vfork => clone::vfork(p),
        __NR_execve => with!(|a, b, c| exec::execve(p, a, b, c)),
        __NR_exit => with!(|a| exit::exit(p, a)),
        __NR_exit_group => with!(|a| exit::exit_group(p, a)),
        __NR_wait4 => with!(|a, b, c, d| children::wait4(p, a as i32, b, c as u32, d)),
        __NR_waitid => with!(|a, b, c, d, e| children::waitid(p, a as u32, b as i32, c, d as u32, e)),
        __NR_set_tid_address => with!(|a| {
            p.clear_tid = a;
            Ok(p.member.tid() as u64)
        }),
        __NR_set_robust_list => with!(|a, b| info::set_robust_list(p, a, b)),
        __NR_get_robust_list => with!(|a, b, c| info::get_robust_list(p, a as i32, b, c)),
        __NR_sched_setaffinity => with!(|a, b, c| sched::sched_setaffinity(p, a as i32, b as u32, c)),
        __NR_sched_getaffinity => with!(|a, b, c| sched::sched_getaffinity(p, a as i32, b as u32, c)),
        __NR_sched_getscheduler => with!(|a| sched::sched_getscheduler(p, a as i32)),
        __NR_sched_setscheduler => with!(|a, b, c| sched::sched_setscheduler(p, a as i32, b as u32, c)),
        __NR_sched_getparam => with!(|a, b| sched::sched_getparam(p, a as i32, b)),
        __NR_sched_setparam => with!(|a, b| sched::sched_setscheduler(p, a as i32, SCHED_NORMAL, b)),
        __NR_sched_get_priority_min => with!(|a| sched::priority_bound(a as u32, 1)),
        __NR_sched_get_priority_max => with!(|a| sched::priority_bound(a as u32, 99)),
        __NR_getpriority => with!(|a, b| sched::getpriority(p, a as u32, b as i32)),
        __NR_setpriority => with!(|a, b, c| sched::setpriority(p, a as u32, b as i32, c as i32)),
        __NR_getcpu => with!(|a, b| sched::getcpu(a, b)),

        // The program and the machine.
        __NR_getpid => Ok(p.process.pid as u64),
        __NR_gettid => Ok(p.member.tid() as u64),
        __NR_getpgrp => Ok(p.process.group_id() as u64),
        __NR_getpgid => with!(|a| session::getpgid(p, a as i32)),
        __NR_setpgid => with!(|a, b| session::setpgid(p, a as i32, b as i32)),
        __NR_getsid => with!(|a| session::getsid(p, a as i32)),
        __NR_setsid => session::setsid(p),
        __NR_getppid => Ok(p.process.parent() as u64),
        __NR_getuid | __NR_geteuid | __NR_getgid | __NR_getegid => Ok(0),
        __NR_getgroups => with!(|a| info::getgroups(a as i32)),
        __NR_getresuid | __NR_getresgid => with!(|a, b, c| info::get_three_ids(a, b, c)),
        __NR_uname => with!(|a| info::uname(a)),
        __NR_sysinfo => with!(|a| info::sysinfo(a)),
        __NR_prlimit64 => with!(|a, b, c, d| info::prlimit(p, a as i32, b as u32, c, d)),
        __NR_getrlimit => with!(|a, b| info::prlimit(p, 0, a as u32, 0, b)),
        __NR_setrlimit => with!(|a, b| info::prlimit(p, 0, a as u32, b, 0)),
        __NR_arch_prctl => with!(|a, b| info::arch_prctl(a as u32, b)),
        __NR_getrandom => with!(|a, b, c| info::getrandom(a, b, c as u32)),
        __NR_prctl => with!(|a, b| info::prctl(p, a as u32, b)),
        // libc does without it and says nothing; so does the log.
        __NR_rseq => Err(Errno::ENOSYS),

        unknown => refuse(unknown),
    }
}

/// ENOSYS, named once in the log.
#[cold]
#[inline(never)]
fn refuse(number: u32) -> Answer {
    let index = (number as usize).min(NAMED_WORDS * 64 - 1);
    let bit = 1 << (index % 64);
    let before = NAMED.get(index / 64).map(|word| word.fetch_or(bit, Ordering::Relaxed));
    if before.is_some_and(|word| word & bit == 0) {
        match Sysno::new(number as usize) {
            Some(call) => log::warn!("unsupported system call {call} ({number}): ENOSYS"),
            None => log::warn!("unsupported system call {number}: ENOSYS"),
        }
    }
    Err(Errno::ENOSYS)
}
