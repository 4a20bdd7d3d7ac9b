//! The call table: number, arguments, function. One `match`, which the compiler makes one jump table.
//!
//! A later call is one line here and one function in its family's file. What an argument is (a [`Kind`]) says both to
//! which C type its register is cut, as Linux's SYSCALL_DEFINE does, and how a trace of the call shows it (`strace`).

use super::errno::{Answer, Errno};
use super::peer::Direction;
use super::thread::Thread;
use super::{
    advice, alarm, attributes, brk, children, clone, entries, epoll, event, exec, exit, files, flock, futex,
    info, io, memory, names, open, peer, pipe, poll, remap, residence, sched, session, shm, signal, stat,
    time, timer,
};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::*;
use syscalls::Sysno;

/// Words of the bitmap of calls that were named in the log; numbers beyond it share the last bit.
const NAMED_WORDS: usize = 16;
static NAMED: [AtomicU64; NAMED_WORDS] = [const { AtomicU64::new(0) }; NAMED_WORDS];

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $type:ty,)*) => {
        /// What an argument is.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// What is in a register, cut to the C type.
            pub fn cut(self, register: u64) -> i64 {
                match self {
                    $(Kind::$kind => register as $type as i64,)*
                }
            }
        }

        /// The C types, by kind.
        mod c {
            $(pub type $kind = $type;)*
        }
    };
}

kinds! {
    /// A number with a sign: a process, a limit in milliseconds.
    Int: i32,
    /// One without: a count, a command.
    Number: u32,
    /// A file descriptor.
    Fd: i32,
    /// A directory's, or AT_FDCWD.
    Dirfd: i32,
    /// A length or a count.
    Size: u64,
    /// A position in a file.
    Offset: i64,
    /// Whatever fits a register.
    Word: u64,
    /// Where something is.
    Address: u64,
    /// A string.
    Path: u64,
    /// Strings, up to a null pointer.
    Strings: u64,
    /// Bytes that the call takes; the next argument is their count.
    Bytes: u64,
    /// Bytes that the call gives; the result is their count.
    Filled: u64,
    /// Two descriptors that the call gives.
    Pair: u64,
    /// Bits without names.
    Flags: u32,
    /// Permission bits.
    Mode: u32,
    /// O_*.
    Open: u32,
    /// O_* without an access mode.
    Status: u32,
    /// AT_*.
    At: u32,
    /// PROT_*.
    Prot: u32,
    /// MAP_*.
    Map: u32,
    /// MADV_*.
    Advice: u32,
    /// EPOLL_CTL_*.
    Epoll: u32,
    /// SEEK_*.
    Whence: u32,
    /// F_*.
    Fcntl: u32,
    /// FUTEX_*.
    Futex: u32,
    /// CLONE_*, and a signal in the lowest byte.
    Clone: u64,
    /// CLOCK_*.
    Clock: u32,
    /// A signal's number.
    Signal: u32,
}

/// The table. `dispatch` reads as many registers as a call has arguments, in its arm and not before the match: a call
/// without arguments shall not load six.
macro_rules! calls {
    (@read $p:ident;; $($registers:ident)*) => {};
    (@read $p:ident; $name:ident: $kind:ident $($names:ident: $kinds:ident)*; $register:ident $($registers:ident)*) => {
        let $name = $p.context.$register as c::$kind;
        calls!(@read $p; $($names: $kinds)*; $($registers)*);
    };
    ($p:ident; $($($number:ident)|+ ($($name:ident: $kind:ident),*) => $call:expr,)*) => {
        /// Calls the function that the registers ask for.
        #[allow(non_upper_case_globals)] // the call numbers are spelled as in Linux's headers
        #[inline]
        pub fn dispatch($p: &mut Thread) -> Answer {
            // Linux looks at the lower half only (arch/x86/entry/common.c, do_syscall_64).
            match $p.context.rax as u32 {
                $($($number)|+ => {
                    calls!(@read $p; $($name: $kind)*; rdi rsi rdx r10 r8 r9);
                    $call
                })*
                unknown => refuse(unknown),
            }
        }

        /// What the arguments of a call are; `None` for one that is not in the table.
        #[allow(non_upper_case_globals)]
        pub fn kinds(number: u32) -> Option<&'static [Kind]> {
            match number {
                $($($number)|+ => Some(&[$(Kind::$kind),*]),)*
                _ => None,
            }
        }
    };
}

calls! { p;
    // Reading and writing.
    __NR_read(a: Fd, b: Filled, c: Size) => io::read(p, a, b, c, None),
    __NR_write(a: Fd, b: Bytes, c: Size) => io::write(p, a, b, c, None),
    __NR_pread64(a: Fd, b: Filled, c: Size, d: Offset) => io::read(p, a, b, c, Some(d)),
    __NR_pwrite64(a: Fd, b: Bytes, c: Size, d: Offset) => io::write(p, a, b, c, Some(d)),
    __NR_readv(a: Fd, b: Address, c: Size) => io::readv(p, a, b, c, None),
    __NR_writev(a: Fd, b: Address, c: Size) => io::writev(p, a, b, c, None),
    __NR_preadv(a: Fd, b: Address, c: Size, d: Offset) => io::readv(p, a, b, c, Some(d)),
    __NR_pwritev(a: Fd, b: Address, c: Size, d: Offset) => io::writev(p, a, b, c, Some(d)),
    __NR_sendfile(a: Fd, b: Fd) => io::sendfile(p, a, b),
    __NR_vmsplice(a: Fd, b: Address, c: Size, d: Flags) => io::vmsplice(p, a, b, c, d),
    __NR_lseek(a: Fd, b: Offset, c: Whence) => io::lseek(p, a, b, c),
    __NR_fsync | __NR_fdatasync(a: Fd) => io::fsync(p, a),
    // Files are in memory; who wants a device flushed says fsync or msync.
    __NR_sync() => Ok(0),
    __NR_syncfs(a: Fd) => p.file(a).map(|_| 0),
    __NR_fadvise64(a: Fd, _b: Offset, c: Offset, d: Number) => io::fadvise(p, a, c, d),
    __NR_ftruncate(a: Fd, b: Offset) => io::ftruncate(p, a, b),
    __NR_fallocate(a: Fd, b: Flags, c: Offset, d: Offset) => io::fallocate(p, a, b, c, d),

    // Paths and descriptors.
    __NR_open(a: Path, b: Open, c: Mode) => open::openat(p, AT_FDCWD, a, b, c),
    __NR_creat(a: Path, b: Mode) => open::openat(p, AT_FDCWD, a, O_CREAT | O_WRONLY | O_TRUNC, b),
    __NR_openat(a: Dirfd, b: Path, c: Open, d: Mode) => open::openat(p, a, b, c, d),
    __NR_close(a: Fd) => files::close(p, a),
    __NR_close_range(a: Number, b: Number, c: Flags) => files::close_range(p, a, b, c),
    __NR_pipe(a: Pair) => pipe::pipe2(p, a, 0),
    __NR_pipe2(a: Pair, b: Status) => pipe::pipe2(p, a, b),
    __NR_stat(a: Path, b: Address) => stat::fstatat(p, AT_FDCWD, a, b, 0),
    __NR_lstat(a: Path, b: Address) => stat::fstatat(p, AT_FDCWD, a, b, AT_SYMLINK_NOFOLLOW),
    __NR_fstat(a: Fd, b: Address) => stat::fstat(p, a, b),
    __NR_newfstatat(a: Dirfd, b: Path, c: Address, d: At) => stat::fstatat(p, a, b, c, d),
    __NR_statx(a: Dirfd, b: Path, c: At, d: Flags, e: Address) => stat::statx(p, a, b, c, d, e),
    __NR_access(a: Path, b: Flags) => open::faccessat(p, AT_FDCWD, a, b, 0),
    __NR_faccessat(a: Dirfd, b: Path, c: Flags) => open::faccessat(p, a, b, c, 0),
    __NR_faccessat2(a: Dirfd, b: Path, c: Flags, d: Flags) => open::faccessat(p, a, b, c, d),
    __NR_mkdir(a: Path, b: Mode) => names::mkdirat(p, AT_FDCWD, a, b),
    __NR_mkdirat(a: Dirfd, b: Path, c: Mode) => names::mkdirat(p, a, b, c),
    __NR_rmdir(a: Path) => names::unlinkat(p, AT_FDCWD, a, AT_REMOVEDIR),
    __NR_unlink(a: Path) => names::unlinkat(p, AT_FDCWD, a, 0),
    __NR_unlinkat(a: Dirfd, b: Path, c: At) => names::unlinkat(p, a, b, c),
    __NR_rename(a: Path, b: Path) => names::renameat2(p, AT_FDCWD, a, AT_FDCWD, b, 0),
    __NR_renameat(a: Dirfd, b: Path, c: Dirfd, d: Path) => names::renameat2(p, a, b, c, d, 0),
    __NR_renameat2(a: Dirfd, b: Path, c: Dirfd, d: Path, e: Flags) => names::renameat2(p, a, b, c, d, e),
    __NR_link(a: Path, b: Path) => names::linkat(p, AT_FDCWD, a, AT_FDCWD, b, 0),
    __NR_linkat(a: Dirfd, b: Path, c: Dirfd, d: Path, e: At) => names::linkat(p, a, b, c, d, e),
    __NR_symlink(a: Path, b: Path) => names::symlinkat(p, a, AT_FDCWD, b),
    __NR_symlinkat(a: Path, b: Dirfd, c: Path) => names::symlinkat(p, a, b, c),
    __NR_chmod(a: Path, b: Mode) => attributes::fchmodat(p, AT_FDCWD, a, b),
    __NR_fchmodat(a: Dirfd, b: Path, c: Mode) => attributes::fchmodat(p, a, b, c),
    __NR_fchmod(a: Fd, b: Mode) => attributes::fchmod(p, a, b),
    __NR_chown(a: Path, b: Number, c: Number) => attributes::fchownat(p, AT_FDCWD, a, [b, c], 0),
    __NR_lchown(a: Path, b: Number, c: Number) =>
        attributes::fchownat(p, AT_FDCWD, a, [b, c], AT_SYMLINK_NOFOLLOW),
    __NR_fchown(a: Fd, b: Number, c: Number) => attributes::fchown(p, a, [b, c]),
    __NR_fchownat(a: Dirfd, b: Path, c: Number, d: Number, e: At) =>
        attributes::fchownat(p, a, b, [c, d], e),
    // No file has extended attributes. ENOSYS would not do: ls says of every file that it cannot be read.
    __NR_setxattr | __NR_lsetxattr(_a: Path, _b: Path, _c: Address, _d: Size, _e: Flags) =>
        Err(Errno::EOPNOTSUPP),
    __NR_getxattr | __NR_lgetxattr(_a: Path, _b: Path, _c: Address, _d: Size) => Err(Errno::EOPNOTSUPP),
    __NR_listxattr | __NR_llistxattr(_a: Path, _b: Address, _c: Size) => Err(Errno::EOPNOTSUPP),
    __NR_removexattr | __NR_lremovexattr(_a: Path, _b: Path) => Err(Errno::EOPNOTSUPP),
    __NR_fsetxattr(_a: Fd, _b: Path, _c: Address, _d: Size, _e: Flags) => Err(Errno::EOPNOTSUPP),
    __NR_fgetxattr(_a: Fd, _b: Path, _c: Address, _d: Size) => Err(Errno::EOPNOTSUPP),
    __NR_flistxattr(_a: Fd, _b: Address, _c: Size) => Err(Errno::EOPNOTSUPP),
    __NR_fremovexattr(_a: Fd, _b: Path) => Err(Errno::EOPNOTSUPP),
    __NR_utimensat(a: Dirfd, b: Path, c: Address, d: At) => attributes::utimensat(p, a, b, c, d),
    __NR_truncate(a: Path, b: Offset) => attributes::truncate(p, a, b),
    __NR_statfs(a: Path, b: Address) => attributes::statfs(p, a, b),
    __NR_fstatfs(a: Fd, b: Address) => attributes::fstatfs(p, a, b),
    __NR_memfd_create(a: Path, b: Flags) => open::memfd_create(p, a, b),
    __NR_readlink(a: Path, b: Filled, c: Int) => open::readlinkat(p, AT_FDCWD, a, b, c),
    __NR_readlinkat(a: Dirfd, b: Path, c: Filled, d: Int) => open::readlinkat(p, a, b, c, d),
    __NR_getdents64(a: Fd, b: Address, c: Number) => entries::getdents64(p, a, b, c.into()),
    __NR_getcwd(a: Filled, b: Size) => open::getcwd(p, a, b),
    __NR_chdir(a: Path) => open::chdir(p, a),
    __NR_fchdir(a: Fd) => open::fchdir(p, a),
    __NR_dup(a: Fd) => files::dup(p, a),
    __NR_dup2(a: Fd, b: Fd) => files::dup2(p, a, b),
    __NR_dup3(a: Fd, b: Fd, c: Status) => files::dup3(p, a, b, c),
    __NR_fcntl(a: Fd, b: Fcntl, c: Word) => files::fcntl(p, a, b, c),
    __NR_flock(a: Fd, b: Flags) => flock::flock(p, a, b),
    __NR_ioctl(a: Fd, b: Flags, c: Word) => files::ioctl(p, a, b, c),
    __NR_umask(a: Mode) => files::umask(p, a),

    // Memory.
    __NR_mmap(a: Address, b: Size, c: Prot, d: Map, e: Fd, f: Word) => memory::mmap(p, a, b, c, d, e, f),
    __NR_munmap(a: Address, b: Size) => memory::munmap(p, a, b),
    __NR_mprotect(a: Address, b: Size, c: Prot) => memory::mprotect(p, a, b, c),
    __NR_madvise(a: Address, b: Size, c: Advice) => advice::madvise(p, a, b, c),
    __NR_msync(a: Address, b: Size, c: Flags) => memory::msync(p, a, b, c),
    __NR_brk(a: Address) => brk::brk(p, a),
    __NR_mremap(a: Address, b: Size, c: Size, d: Flags, e: Address) => remap::mremap(p, a, b, c, d, e),
    __NR_mincore(a: Address, b: Size, c: Address) => residence::mincore(p, a, b, c),
    __NR_mlock(a: Address, b: Size) => residence::mlock(p, a, b, 0),
    __NR_mlock2(a: Address, b: Size, c: Flags) => residence::mlock(p, a, b, c),
    __NR_munlock(a: Address, b: Size) => residence::munlock(p, a, b),
    __NR_mlockall(a: Flags) => residence::mlockall(a),
    __NR_munlockall() => Ok(0),
    __NR_move_pages(a: Int, b: Size, c: Address, d: Address, e: Address, f: Flags) =>
        residence::move_pages(p, a, b, c, d, e, f),
    __NR_process_vm_readv(a: Int, b: Address, c: Size, d: Address, e: Size, f: Word) =>
        peer::process_vm(Direction::Read, a, (b, c), (d, e), f),
    __NR_process_vm_writev(a: Int, b: Address, c: Size, d: Address, e: Size, f: Word) =>
        peer::process_vm(Direction::Write, a, (b, c), (d, e), f),
    __NR_shmget(a: Int, b: Size, c: Flags) => shm::shmget(p, a, b, c),
    __NR_shmat(a: Int, b: Address, c: Flags) => shm::shmat(p, a, b, c),
    __NR_shmdt(a: Address) => shm::shmdt(p, a),
    __NR_shmctl(a: Int, b: Number, c: Address) => shm::shmctl(a, b, c),

    // Signals.
    __NR_rt_sigaction(a: Signal, b: Address, c: Address, d: Size) => signal::sigaction(p, a, b, c, d),
    __NR_rt_sigprocmask(a: Number, b: Address, c: Address, d: Size) => signal::sigprocmask(p, a, b, c, d),
    __NR_rt_sigpending(a: Address, b: Size) => signal::sigpending(p, a, b),
    __NR_rt_sigsuspend(a: Address, b: Size) => signal::sigsuspend(p, a, b),
    __NR_rt_sigreturn() => signal::sigreturn(p),
    __NR_rt_sigtimedwait(a: Address, b: Address, c: Address, d: Size) => signal::sigtimedwait(p, a, b, c, d),
    __NR_rt_sigqueueinfo(a: Int, b: Signal, c: Address) => signal::sigqueue(p, a, b, c),
    __NR_rt_tgsigqueueinfo(a: Int, b: Int, c: Signal, d: Address) => signal::tgsigqueue(p, a, b, c, d),
    __NR_sigaltstack(a: Address, b: Address) => signal::sigaltstack(p, a, b),
    __NR_kill(a: Int, b: Signal) => signal::kill(p, a, b),
    __NR_tkill(a: Int, b: Signal) => signal::tkill(p, a, b),
    __NR_tgkill(a: Int, b: Int, c: Signal) => signal::tgkill(p, a, b, c),

    // Time and waiting.
    __NR_clock_gettime(a: Clock, b: Address) => time::clock_gettime(p, a, b),
    __NR_clock_getres(a: Clock, b: Address) => time::clock_getres(p, a, b),
    __NR_gettimeofday(a: Address, b: Address) => time::gettimeofday(a, b),
    __NR_time(a: Address) => time::time(a),
    __NR_nanosleep(a: Address, b: Address) => time::nanosleep(p, a, b),
    __NR_clock_nanosleep(a: Clock, b: Flags, c: Address, d: Address) => time::clock_nanosleep(p, a, b, c, d),
    __NR_times(a: Address) => time::times(p, a),
    __NR_getrusage(a: Int, b: Address) => time::getrusage(p, a, b),
    __NR_alarm(a: Number) => alarm::alarm(p, a),
    __NR_getitimer(a: Number, b: Address) => alarm::getitimer(p, a, b),
    __NR_setitimer(a: Number, b: Address, c: Address) => alarm::setitimer(p, a, b, c),
    __NR_timer_create(a: Clock, b: Address, c: Address) => alarm::timer_create(p, a, b, c),
    __NR_timer_settime(a: Int, b: Flags, c: Address, d: Address) => alarm::timer_settime(p, a, b, c, d),
    __NR_timer_gettime(a: Int, b: Address) => alarm::timer_gettime(p, a, b),
    __NR_timer_getoverrun(a: Int) => alarm::timer_getoverrun(p, a),
    __NR_timer_delete(a: Int) => alarm::timer_delete(p, a),
    __NR_poll(a: Address, b: Number, c: Int) => poll::poll(p, a, b.into(), c),
    __NR_ppoll(a: Address, b: Number, c: Address, d: Address, e: Size) =>
        poll::ppoll(p, a, b.into(), c, [d, e]),
    __NR_select(a: Int, b: Address, c: Address, d: Address, e: Address) =>
        poll::select(p, a, [b, c, d], (e, 1000), 0),
    __NR_pselect6(a: Int, b: Address, c: Address, d: Address, e: Address, f: Address) =>
        poll::select(p, a, [b, c, d], (e, 1), f),
    __NR_epoll_create(a: Int) => epoll::epoll_create(p, a),
    __NR_epoll_create1(a: Status) => epoll::epoll_create1(p, a),
    __NR_epoll_ctl(a: Fd, b: Epoll, c: Fd, d: Address) => epoll::epoll_ctl(p, a, b, c, d),
    __NR_epoll_wait(a: Fd, b: Address, c: Int, d: Int) =>
        epoll::epoll_wait(p, a, (b, c), poll::deadline_in_ms(d), [0; 2]),
    __NR_epoll_pwait(a: Fd, b: Address, c: Int, d: Int, e: Address, f: Size) =>
        epoll::epoll_wait(p, a, (b, c), poll::deadline_in_ms(d), [e, f]),
    __NR_epoll_pwait2(a: Fd, b: Address, c: Int, d: Address, e: Address, f: Size) =>
        epoll::epoll_pwait2(p, a, (b, c), d, [e, f]),
    __NR_eventfd(a: Number) => event::eventfd2(p, a, 0),
    __NR_eventfd2(a: Number, b: Status) => event::eventfd2(p, a, b),
    __NR_timerfd_create(a: Clock, b: Flags) => timer::timerfd_create(p, a, b),
    __NR_timerfd_settime(a: Fd, b: Flags, c: Address, d: Address) => timer::timerfd_settime(p, a, b, c, d),
    __NR_timerfd_gettime(a: Fd, b: Address) => timer::timerfd_gettime(p, a, b),
    __NR_futex(a: Address, b: Futex, c: Number, d: Word, e: Address, f: Number) =>
        futex::futex(p, a, b, c, d, e, f),
    __NR_pause() => poll::pause(p),
    __NR_sched_yield() => sched::sched_yield(),

    // Threads and processes.
    __NR_clone(a: Clone, b: Address, c: Address, d: Address, e: Address) => clone::clone(p, a, b, c, d, e),
    __NR_clone3(a: Address, b: Size) => clone::clone3(p, a, b),
    __NR_fork() => clone::fork(p),
    __NR_vfork() => clone::vfork(p),
    __NR_execve(a: Path, b: Strings, c: Address) => exec::execve(p, a, b, c),
    __NR_exit(a: Int) => exit::exit(p, a),
    __NR_exit_group(a: Int) => exit::exit_group(p, a),
    __NR_wait4(a: Int, b: Address, c: Flags, d: Address) => children::wait4(p, a, b, c, d),
    __NR_waitid(a: Number, b: Int, c: Address, d: Flags, e: Address) => children::waitid(p, a, b, c, d, e),
    __NR_set_tid_address(a: Address) => info::set_tid_address(p, a),
    __NR_set_robust_list(a: Address, b: Size) => info::set_robust_list(p, a, b),
    __NR_get_robust_list(a: Int, b: Address, c: Address) => info::get_robust_list(p, a, b, c),
    __NR_sched_setaffinity(a: Int, b: Number, c: Address) => sched::sched_setaffinity(p, a, b, c),
    __NR_sched_getaffinity(a: Int, b: Number, c: Address) => sched::sched_getaffinity(p, a, b, c),
    __NR_sched_getscheduler(a: Int) => sched::sched_getscheduler(p, a),
    __NR_sched_setscheduler(a: Int, b: Number, c: Address) => sched::sched_setscheduler(p, a, b, c),
    __NR_sched_getparam(a: Int, b: Address) => sched::sched_getparam(p, a, b),
    __NR_sched_setparam(a: Int, b: Address) => sched::sched_setscheduler(p, a, SCHED_NORMAL, b),
    __NR_sched_get_priority_min(a: Number) => sched::priority_bound(a, 1),
    __NR_sched_get_priority_max(a: Number) => sched::priority_bound(a, 99),
    __NR_getpriority(a: Number, b: Int) => sched::getpriority(p, a, b),
    __NR_setpriority(a: Number, b: Int, c: Int) => sched::setpriority(p, a, b, c),
    __NR_getcpu(a: Address, b: Address) => sched::getcpu(a, b),

    // The program and the machine.
    __NR_getpid() => Ok(p.process.pid as u64),
    __NR_gettid() => Ok(p.member.tid() as u64),
    __NR_getpgrp() => Ok(p.process.group_id() as u64),
    __NR_getpgid(a: Int) => session::getpgid(p, a),
    __NR_setpgid(a: Int, b: Int) => session::setpgid(p, a, b),
    __NR_getsid(a: Int) => session::getsid(p, a),
    __NR_setsid() => session::setsid(p),
    __NR_getppid() => Ok(p.process.parent() as u64),
    __NR_getuid | __NR_geteuid | __NR_getgid | __NR_getegid() => Ok(0),
    __NR_getgroups(a: Int) => info::getgroups(a),
    __NR_getresuid | __NR_getresgid(a: Address, b: Address, c: Address) => info::get_three_ids(a, b, c),
    __NR_uname(a: Address) => info::uname(a),
    __NR_sysinfo(a: Address) => info::sysinfo(a),
    __NR_prlimit64(a: Int, b: Number, c: Address, d: Address) => info::prlimit(p, a, b, c, d),
    __NR_getrlimit(a: Number, b: Address) => info::prlimit(p, 0, a, 0, b),
    __NR_setrlimit(a: Number, b: Address) => info::prlimit(p, 0, a, b, 0),
    __NR_arch_prctl(a: Flags, b: Address) => info::arch_prctl(a, b),
    __NR_getrandom(a: Address, b: Size, c: Flags) => info::getrandom(a, b, c),
    __NR_prctl(a: Number, b: Word) => info::prctl(p, a, b),
    // libc does without it and says nothing; so does the log.
    __NR_rseq(_a: Address, _b: Number, _c: Flags, _d: Number) => Err(Errno::ENOSYS),
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
