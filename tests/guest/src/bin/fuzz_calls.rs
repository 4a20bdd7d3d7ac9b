//! `fuzz_calls [SEED] [STEPS]`: system calls with random numbers and arguments, which a kernel must survive.
//!
//! SEED is a number, or `time`, which is the default and makes one from the clock; it is printed first. In each of
//! several rounds a child opens a file of every kind and maps memory of every kind; its threads, and whatever they fork,
//! then make a thousand calls. What they do to themselves is their own affair: they
//! may crash, hang and leave things behind. This process may not be hurt, so a few calls are kept from aiming at it.
//!
//! With one CPU a seed repeats, as far as threads take turns at the same places. After each round all processes but this
//! one are killed and the files removed. Whether memory was lost the kernel says itself at the end of the run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use guest::ensure;
use guest::fault;
use guest::kernel_view;
use guest::process;
use guest::random::Random;
use guest::sys::{self, ANON, Errno, PAGE, RW};

/// A round ends when its share of the steps is used up or its processes have come to nothing.
const SHARE: u64 = 1000;
/// So many rounds make no call before that is an error.
const EMPTY_ROUNDS: u32 = 5;
const STEPS: u64 = 40_000;
const THREADS: usize = 3;
/// For so long a round may make no call before its processes are woken, and so often until they are killed.
const NAP: Duration = Duration::from_millis(10);
const NAPS: u32 = 10;
/// Where the files of a round are.
const FOLDER: &str = "/tmp/fuzz";

/// Numbers that no table has: between the first calls and the next ones, x32's, and none at all.
const UNKNOWN: [i64; 6] = [335, 399, 500, 512, 1 << 30, -1];
/// Three calls of four are one of these, which have the most to lose, with arguments of the right kinds, mostly
/// ([`Arena::of_kind`]).
const FAVOURITES: &[(i64, &str)] = &[
    (libc::SYS_read, "fvl"),
    (libc::SYS_write, "fvl"),
    (libc::SYS_pread64, "fvls"),
    (libc::SYS_pwrite64, "fvls"),
    (libc::SYS_readv, "fvs"),
    (libc::SYS_writev, "fvs"),
    (libc::SYS_open, "pOm"),
    (libc::SYS_openat, "dpOm"),
    (libc::SYS_close, "f"),
    (libc::SYS_mmap, "alPMfl"),
    (libc::SYS_mprotect, "alP"),
    (libc::SYS_munmap, "al"),
    (libc::SYS_mremap, "alles"),
    (libc::SYS_madvise, "als"),
    (libc::SYS_mincore, "alv"),
    (libc::SYS_msync, "als"),
    (libc::SYS_brk, "a"),
    (libc::SYS_mlock, "al"),
    (libc::SYS_mlockall, "s"),
    (libc::SYS_vmsplice, "fvss"),
    (libc::SYS_process_vm_readv, "ivsvsz"),
    (libc::SYS_process_vm_writev, "ivsvsz"),
    (libc::SYS_poll, "vss"),
    (libc::SYS_pselect6, "svzvz"),
    (libc::SYS_dup2, "ff"),
    (libc::SYS_dup3, "ffz"),
    (libc::SYS_pipe2, "vz"),
    (libc::SYS_fcntl, "fsr"),
    (libc::SYS_flock, "fs"),
    (libc::SYS_lseek, "fls"),
    (libc::SYS_ftruncate, "fl"),
    (libc::SYS_truncate, "pl"),
    (libc::SYS_fallocate, "fsll"),
    (libc::SYS_getdents64, "fvl"),
    (libc::SYS_rename, "pp"),
    (libc::SYS_link, "pp"),
    (libc::SYS_unlink, "p"),
    (libc::SYS_symlink, "pp"),
    (libc::SYS_mkdir, "pm"),
    (libc::SYS_rmdir, "p"),
    (libc::SYS_chdir, "p"),
    (libc::SYS_fchmodat, "dpm"),
    (libc::SYS_utimensat, "dpzz"),
    (libc::SYS_readlink, "pvl"),
    (libc::SYS_statx, "dpsrv"),
    (libc::SYS_futex, "asseas"),
    (libc::SYS_clone, "Czzzz"),
    (libc::SYS_fork, ""),
    (libc::SYS_vfork, ""),
    (libc::SYS_wait4, "zvsz"),
    (libc::SYS_rt_sigaction, "svvE"),
    (libc::SYS_rt_sigprocmask, "svvE"),
    (libc::SYS_rt_sigtimedwait, "vvvE"),
    (libc::SYS_sigaltstack, "vv"),
    (libc::SYS_kill, "is"),
    (libc::SYS_shmget, "sls"),
    (libc::SYS_shmat, "sas"),
    (libc::SYS_shmdt, "a"),
    (libc::SYS_memfd_create, "ps"),
    (libc::SYS_timerfd_settime, "fsvv"),
    (libc::SYS_epoll_ctl, "fsfv"),
    (libc::SYS_epoll_pwait, "fvssz"),
    (libc::SYS_eventfd2, "sz"),
    (libc::SYS_setpgid, "zs"),
    (libc::SYS_set_robust_list, "vs"),
];
/// The process that the first argument names is always the caller's own: the parent is out of bounds.
const AIMED: [i64; 12] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_process_vm_writev,
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
    libc::SYS_pidfd_open,
    libc::SYS_ptrace,
];
/// They would end the round too soon.
const ENDS: [i64; 2] = [libc::SYS_exit, libc::SYS_exit_group];

/// Each ends with a NUL, as calls want them.
const PATHS: &[&str] = &[
    "\0",
    "/\0",
    ".\0",
    "..\0",
    "a\0",
    "b\0",
    "d\0",
    "d/e\0",
    "d/../a\0",
    "link\0",
    "/none/x\0",
    "/tmp\0",
    "/tmp/fuzz/a\0",
    "/tmp/fuzz/d/\0",
    "/dev/null\0",
    "/dev/zero\0",
    "/dev/full\0",
    "/dev/urandom\0",
    "/dev/shm/s\0",
    "/dev/dax0.0\0",
    "/proc/self/maps\0",
    "/proc/self/exe\0",
    "/proc/self/fd/3\0",
    "/proc/self/fd\0",
    "/sys/bus/dax/devices/dax0.0/size\0",
    "/sys/bus/dax/drivers/device_dax/bind\0",
    "/sys/bus/nd/devices\0",
    "/sys/dev/char\0",
    "not\u{ff}ascii\0",
];

/// What the processes of a run tell each other: steps that are left in the round, calls that succeeded.
struct Board(&'static [AtomicU64]);

impl Board {
    fn left(&self) -> &'static AtomicU64 {
        &self.0[0]
    }

    fn succeeded(&self) -> &'static AtomicU64 {
        &self.0[1]
    }
}

/// A child's memory and what it can name.
#[derive(Clone, Copy)]
struct Arena {
    /// Addresses: the first pages of several mappings, and what lies around their ends.
    addresses: [usize; 16],
    left: &'static AtomicU64,
    succeeded: &'static AtomicU64,
}

impl Arena {
    /// Opens and maps. What fails is missing; a kernel without devices has that much less to break.
    fn new(board: &Board) -> Arena {
        let open = |path, flags| sys::open(path, flags).unwrap_or(-1);
        let _ = sys::numbers(libc::SYS_chdir, &[c"/tmp/fuzz".as_ptr() as usize]);
        let null = open(c"/dev/null", libc::O_RDWR);
        for fd in 0..3 {
            let _ = sys::numbers(libc::SYS_dup2, &[null as usize, fd]);
        }
        let dax = open(c"/dev/dax0.0", libc::O_RDWR);
        let ram = open(c"a", libc::O_RDWR | libc::O_CREAT);
        for path in [c"/dev/zero", c"/dev/full", c"/dev/urandom", c"/proc/self/maps", c"/sys/bus/nd/devices"]
        {
            open(path, libc::O_RDONLY);
        }
        open(c"/tmp/fuzz", libc::O_DIRECTORY);
        open(c"/tmp", libc::O_PATH);
        open(c"/dev/shm", libc::O_TMPFILE | libc::O_RDWR);
        open(c"/sys/bus/dax/devices/dax0.0/align", libc::O_RDWR);
        let _ = sys::numbers(libc::SYS_pipe2, &[null_word(), libc::O_NONBLOCK as usize]);
        let mut ends = [0_i32; 2];
        let _ = sys::numbers(libc::SYS_pipe, &[ends.as_mut_ptr() as usize]);
        let _ = sys::numbers(libc::SYS_timerfd_create, &[libc::CLOCK_MONOTONIC as usize, 0]);
        let _ = sys::numbers(libc::SYS_memfd_create, &[c"m".as_ptr() as usize, 0]);
        let _ = sys::numbers(libc::SYS_eventfd2, &[0, 0]);
        let _ = sys::numbers(libc::SYS_epoll_create1, &[0]);
        let map = |len, prot, flags, fd| sys::mmap(0, len, prot, flags, fd, 0).unwrap_or(0);
        // Below the board: what is written past the end of the others stops here.
        map(1 << 20, libc::PROT_NONE, ANON, -1);
        let own = map(16 * PAGE, RW, ANON, -1);
        let shared = map(16 * PAGE, RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
        let read_only = map(PAGE, libc::PROT_READ, ANON, -1);
        let none = map(16 * PAGE, libc::PROT_NONE, ANON, -1);
        let file = map(4 * PAGE, RW, libc::MAP_SHARED, ram);
        let device = map(4 << 20, RW, libc::MAP_SHARED, dax);
        let gone = map(PAGE, RW, ANON, -1);
        let _ = sys::munmap(gone, PAGE);
        let addresses = [
            own,
            own + PAGE,
            own + 9 * PAGE - 8,
            own + 16 * PAGE - 4,
            shared,
            shared + 16 * PAGE - 16,
            read_only,
            none,
            none + PAGE,
            file,
            device,
            device + (2 << 20),
            gone,
            0,
            0x8000_0000_0000 - PAGE,
            0xffff_ffff_8020_0000,
        ];
        Arena { addresses, left: board.left(), succeeded: board.succeeded() }
    }

    fn argument(&self, random: &mut Random) -> usize {
        match random.below(10) {
            0 | 1 => random.below(40),
            2..=4 => self.addresses[random.below(16)].wrapping_add(random.below(4) * random.below(9)),
            5 => PATHS[random.below(PATHS.len())].as_ptr() as usize,
            6 => PAGE * random.below(40),
            7 => 1 << random.below(64),
            8 => [usize::MAX, libc::AT_FDCWD as usize, 1 << 31, (1 << 31) - 1, 4095][random.below(5)],
            _ => (random.bits() >> random.below(64)) as usize,
        }
    }

    /// An argument of one kind: a file, a path, an address, a length and so on.
    fn of_kind(&self, kind: u8, random: &mut Random) -> usize {
        let or = |random: &mut Random, bits: &[i32]| {
            bits.iter().filter(|_| random.one_in(3)).fold(0, |all, bit| all | *bit as usize)
        };
        match kind {
            b'f' => random.below(26),
            b'd' => [libc::AT_FDCWD as usize, random.below(26)][random.below(2)],
            b'p' => PATHS[random.below(PATHS.len())].as_ptr() as usize,
            b'a' => self.addresses[random.below(16)] & !(PAGE - 1),
            b'v' => self.addresses[random.below(4)],
            b'l' => [random.below(100), PAGE * random.below(40), 2 << 20][random.below(3)],
            b's' => random.below(20),
            b'e' => [random.below(4), 1 << random.below(9)][random.below(2)],
            b'm' => 0o777,
            b'i' => std::process::id() as usize,
            b'E' => 8,
            b'P' => random.below(8),
            b'M' => {
                let kind = [libc::MAP_SHARED, libc::MAP_PRIVATE, libc::MAP_SHARED_VALIDATE][random.below(3)];
                kind as usize
                    | or(
                        random,
                        &[libc::MAP_ANONYMOUS, libc::MAP_FIXED, libc::MAP_POPULATE, libc::MAP_LOCKED],
                    )
            }
            b'O' => {
                random.below(3)
                    | or(random, &[libc::O_CREAT, libc::O_TRUNC, libc::O_APPEND, libc::O_NONBLOCK])
            }
            b'C' => {
                let all = [
                    libc::CLONE_VM,
                    libc::CLONE_FS,
                    libc::CLONE_FILES,
                    libc::CLONE_SIGHAND,
                    libc::CLONE_THREAD,
                ];
                or(random, &all) | libc::SIGCHLD as usize
            }
            b'z' => 0,
            _ => random.bits() as usize,
        }
    }

    /// Arguments again, where calls look for structures: pointers, lengths, flags and numbers.
    fn scribble(&self, random: &mut Random) {
        for at in (0..256).step_by(8) {
            let value = self.argument(random);
            fault::store(self.addresses[0] + at, value as u8);
            for byte in 1..8 {
                fault::store(self.addresses[0] + at + byte, (value >> (8 * byte)) as u8);
            }
        }
    }

    /// Makes calls until none is left. Allocates nothing and takes no lock: any call may be a fork.
    fn run(&self, seed: u64) {
        let mut random = Random::new(seed);
        loop {
            let (number, kinds) = match random.below(16) {
                0 => (UNKNOWN[random.below(UNKNOWN.len())], ""),
                1..=3 => (random.below(470) as i64, ""),
                _ => FAVOURITES[random.below(FAVOURITES.len())],
            };
            let mut arguments: [usize; 6] = std::array::from_fn(|at| match kinds.as_bytes().get(at) {
                Some(&kind) if !random.one_in(12) => self.of_kind(kind, &mut random),
                _ => self.argument(&mut random),
            });
            if ENDS.contains(&number) {
                continue;
            }
            if AIMED.contains(&number) {
                arguments[0] = std::process::id() as usize;
            }
            // No program of this initrd: it would start over.
            if matches!(number, libc::SYS_execve | libc::SYS_execveat) {
                arguments[0] = self.addresses[random.below(16)];
            }
            if random.one_in(8) {
                self.scribble(&mut random);
            }
            if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
                return;
            }
            // SAFETY: none. A call may do anything to this process, which is here to be harmed.
            let answer = unsafe { sys::call(number, arguments) };
            self.succeeded.fetch_add(u64::from(answer.is_ok()), Relaxed);
            let makes =
                matches!(number, libc::SYS_fork | libc::SYS_vfork | libc::SYS_clone | libc::SYS_clone3);
            if makes && answer == Ok(0) {
                random = Random::new(seed ^ random.bits());
            }
        }
    }
}

/// An address that cannot be written.
fn null_word() -> usize {
    8
}

extern "C" fn ignore(_: i32) {}

/// One round; `Err` when this process could not do its part.
fn round(board: &Board, seed: u64, steps: u64) -> Result<(), String> {
    std::fs::create_dir_all(format!("{FOLDER}/d")).map_err(|error| format!("{FOLDER}: {error}"))?;
    board.left().store(steps, Relaxed);
    let child = process::fork(|| {
        // SAFETY: the handler does nothing; it ends waits.
        unsafe { libc::signal(libc::SIGUSR1, ignore as *const () as usize) };
        fault::install();
        let arena = Arena::new(board);
        let threads = (1..THREADS as u64).map(|thread| {
            std::thread::Builder::new().spawn(move || arena.run(seed.wrapping_mul(31).wrapping_add(thread)))
        });
        let threads: Vec<_> = threads.collect();
        arena.run(seed);
        drop(threads);
        0
    });
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    let (mut last, mut idle) = (steps, 0);
    while last > 0 && idle < NAPS {
        std::thread::sleep(NAP);
        let left = board.left().load(Relaxed);
        idle = if left == last { idle + 1 } else { 0 };
        last = left;
        let _ = child.kill(libc::SIGUSR1);
        // Whatever they have come to, their number is bounded by what waits for them here.
        if idle == NAPS / 2 {
            let _ = sys::numbers(libc::SYS_kill, &[-1_isize as usize, libc::SIGUSR1 as usize]);
        }
    }
    // All processes but this one.
    let _ = sys::numbers(libc::SYS_kill, &[-1_isize as usize, libc::SIGKILL as usize]);
    child.wait().map_err(|errno| format!("wait4: {errno}"))?;
    let others = || sys::numbers(libc::SYS_kill, &[-1_isize as usize, 0]).is_ok();
    let end = Instant::now() + Duration::from_secs(2);
    while others() {
        ensure!(Instant::now() < end, "processes live on after SIGKILL");
        // CLONE_PARENT makes more children of ours.
        let _ = sys::wait4(-1, &mut 0, libc::WNOHANG | libc::__WALL);
        std::thread::sleep(NAP);
    }
    Ok(())
}

/// What is in the folders that the paths of [`PATHS`] lead to, wherever a process has gone.
fn files() -> Vec<PathBuf> {
    let folders = ["/", "/tmp", "/dev/shm"].into_iter();
    let entries = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Removes what a round has left in files and shared memory; `kept` was there before.
fn forget_files(kept: &[PathBuf]) {
    for path in files() {
        if !kept.contains(&path) {
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
    // A new segment's number is above all others.
    let flags = libc::IPC_CREAT | 0o600;
    if let Ok(last) = sys::numbers(libc::SYS_shmget, &[libc::IPC_PRIVATE as usize, PAGE, flags as usize]) {
        for id in 0..=last {
            let _ = sys::numbers(libc::SYS_shmctl, &[id, libc::IPC_RMID as usize, 0]);
        }
    }
}

fn run(seed: u64, steps: u64) -> Result<String, String> {
    // On another kernel this would kill every process of the machine.
    ensure!(kernel_view::present(), "this kernel is not Daxite");
    let words = process::shared_words(8).map_err(|Errno(errno)| format!("shared memory: errno {errno}"))?;
    let board = Board(words);
    let kept = files();
    let (mut used, mut succeeded, mut rounds, mut empty) = (0, 0, 0, 0);
    while used < steps {
        round(&board, seed.wrapping_add(rounds), SHARE)?;
        forget_files(&kept);
        // A call may have hit the board.
        let calls = SHARE.saturating_sub(board.left().load(Relaxed));
        succeeded += board.succeeded().swap(0, Relaxed).min(calls);
        empty = if calls == 0 { empty + 1 } else { 0 };
        ensure!(empty < EMPTY_ROUNDS, "the last {empty} of {rounds} rounds made no call");
        used += calls;
        rounds += 1;
    }
    ensure!(succeeded > 0, "none of {used} calls did anything");
    Ok(format!("{used} calls in {rounds} rounds, {succeeded} of them did something"))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|text| text.parse().ok());
    let seed = number(0).unwrap_or_else(|| {
        std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 & 0xffff_ffff)
    });
    println!("fuzz_calls: seed {seed}");
    match run(seed, number(1).unwrap_or(STEPS)) {
        Ok(said) => {
            println!("fuzz_calls: {said}; survived");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("fuzz_calls: {why}");
            ExitCode::FAILURE
        }
    }
}
