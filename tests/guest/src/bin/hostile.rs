//! `hostile MODE [SEED]`: programs that a kernel must survive, each run in children of this one.
//!
//! | mode | what |
//! |---|---|
//! | fork | every process forks for as long as it can |
//! | thread | threads until no more can be had |
//! | memory | several processes touch memory until there is none |
//! | hoard | pipes, files, memory files, mappings, signals and timers until no more can be had |
//! | kill | processes with threads, under a storm of signals to all of them |
//! | sysfs | garbage to every attribute of the devices, while they are mapped |
//! | exec | execve of what is no program, and with arguments that are none |
//!
//! Offenders may be refused or killed; this process may not, children must still be had afterwards, and
//! a second time leaves as much free memory as the first, which may fill pools of the kernel.

use std::ffi::CString;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use guest::ensure;
use guest::fault;
use guest::mapping::Mapping;
use guest::process::{self, Child, Ended};
use guest::random::Random;
use guest::sys::{self, Errno, PAGE, RW};
use guest::sysfs::{self, Name, Region};

/// For so long a bomb goes on.
const FUSE: Duration = Duration::from_secs(3);
/// What may differ between two times.
const SLACK_BYTES: u64 = 2 << 20;

type Outcome = Result<String, String>;
type Mode = (&'static str, fn(&mut Random) -> Outcome);

/// What the processes of a mode tell each other.
struct Words(&'static [AtomicU64]);

impl Words {
    fn new() -> Result<Words, String> {
        process::shared_words(8).map(Words).map_err(|errno| format!("shared memory: {errno}"))
    }

    fn is_over(&self) -> bool {
        self.0[0].load(SeqCst) != 0
    }

    fn end(&self) {
        self.0[0].store(1, SeqCst);
    }

    fn done(&self) -> &AtomicU64 {
        &self.0[1]
    }

    fn refused(&self) -> &AtomicU64 {
        &self.0[2]
    }
}

fn child(what: &str, body: impl FnOnce() -> i32) -> Result<Child, String> {
    process::fork(body).map_err(|errno| format!("fork of {what}: {errno}"))
}

fn wait(child: Child) -> Result<Ended, String> {
    child.wait().map_err(|errno| format!("wait4: {errno}"))
}

fn nap() {
    std::thread::sleep(Duration::from_millis(2));
}

fn pause_for_ever() -> i32 {
    loop {
        let _ = sys::numbers(libc::SYS_pause, &[]);
    }
}

fn fork_bomb(_: &mut Random) -> Outcome {
    let words = Words::new()?;
    let end = Instant::now() + FUSE;
    let bomb = child("the bomb", || {
        // Children that nobody waits for are gone when they end.
        // SAFETY: sets the action of SIGCHLD.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        while !words.is_over() {
            match sys::numbers(libc::SYS_fork, &[]) {
                Ok(_) => _ = words.done().fetch_add(1, SeqCst),
                Err(Errno(libc::EAGAIN | libc::ENOMEM)) => {
                    words.refused().fetch_add(1, SeqCst);
                    nap();
                }
                Err(_) => return 1,
            }
        }
        0
    })?;
    while Instant::now() < end && words.refused().load(SeqCst) < 1000 {
        nap();
    }
    words.end();
    let ended = wait(bomb)?;
    ensure!(
        matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)),
        "the bomb ended with {ended:?}"
    );
    let (forks, refused) = (words.done().load(SeqCst), words.refused().load(SeqCst));
    ensure!(forks > 10, "only {forks} forks");
    Ok(format!("{forks} forks, {refused} refused"))
}

extern "C" fn sleeper(_: *mut libc::c_void) -> *mut libc::c_void {
    pause_for_ever();
    std::ptr::null_mut()
}

fn thread_bomb(_: &mut Random) -> Outcome {
    let words = Words::new()?;
    let bomb = child("the bomb", || {
        let end = Instant::now() + FUSE;
        // SAFETY: the attributes are initialised before they are used; a thread pauses until the process ends.
        unsafe {
            let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setstacksize(&raw mut attributes, libc::PTHREAD_STACK_MIN);
            while Instant::now() < end {
                let mut thread = 0;
                if libc::pthread_create(&raw mut thread, &raw const attributes, sleeper, std::ptr::null_mut())
                    != 0
                {
                    words.refused().fetch_add(1, SeqCst);
                    return 0;
                }
                words.done().fetch_add(1, SeqCst);
            }
        }
        0
    })?;
    let ended = wait(bomb)?;
    ensure!(
        matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)),
        "the bomb ended with {ended:?}"
    );
    let (threads, refused) = (words.done().load(SeqCst), words.refused().load(SeqCst));
    ensure!(threads > 10, "only {threads} threads");
    Ok(format!("{threads} threads, {refused} refused, {ended:?}"))
}

fn memory_hogs(_: &mut Random) -> Outcome {
    const HOGS: usize = 6;
    let mut hogs = Vec::new();
    for _ in 0..HOGS {
        hogs.push(child("a hog", || {
            loop {
                let Ok(addr) = sys::mmap(0, 256 * PAGE, RW, sys::ANON, -1, 0) else { return 12 };
                for page in 0..256 {
                    fault::store(addr + page * PAGE, 1);
                }
            }
        })?);
    }
    let ended: Vec<Ended> = hogs.into_iter().map(wait).collect::<Result<_, _>>()?;
    let is_expected = |ended: &Ended| matches!(ended, Ended::Exited(12) | Ended::Killed(libc::SIGKILL));
    ensure!(ended.iter().all(is_expected), "hogs ended with {ended:?}");
    Ok(format!("{HOGS} hogs ended"))
}

/// Each takes one thing until it is refused, and says why; 0 when it has enough.
type Hoarder = fn() -> Errno;

fn pipes() -> Errno {
    loop {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        if let Err(errno) = unsafe {
            sys::call(libc::SYS_pipe2, [ends.as_mut_ptr() as usize, libc::O_NONBLOCK as usize, 0, 0, 0, 0])
        } {
            return errno;
        }
        while sys::write(ends[1], &[1; 4096]).is_ok() {}
    }
}

/// Writes until there is no room.
fn fill(fd: i32) -> Errno {
    loop {
        if let Err(errno) = sys::write(fd, &[1; 4096]) {
            return errno;
        }
    }
}

fn files() -> Errno {
    // It goes with the last descriptor of it.
    match sys::open(c"/tmp", libc::O_TMPFILE | libc::O_RDWR) {
        Ok(fd) => fill(fd),
        Err(errno) => errno,
    }
}

fn memory_files() -> Errno {
    // SAFETY: a string that ends with a NUL.
    match unsafe { sys::call(libc::SYS_memfd_create, [c"hoard".as_ptr() as usize, 0, 0, 0, 0, 0]) } {
        Ok(fd) => fill(fd as i32),
        Err(errno) => errno,
    }
}

fn mappings() -> Errno {
    for prot in [libc::PROT_READ, RW].into_iter().cycle().take(4000) {
        // Of another kind than its neighbour, so none becomes a part of the other.
        if let Err(errno) = sys::mmap(0, PAGE, prot, sys::ANON, -1, 0) {
            return errno;
        }
    }
    Errno(0)
}

fn signals() -> Errno {
    let signal = libc::SIGRTMIN();
    // SAFETY: the set is initialised before it is used, and siginfo_t is plain numbers.
    let info = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let mut info: libc::siginfo_t = std::mem::zeroed();
        info.si_code = libc::SI_QUEUE;
        info
    };
    loop {
        let arguments = [std::process::id() as usize, signal as usize, &raw const info as usize, 0, 0, 0];
        // SAFETY: the structure that the call reads is there.
        if let Err(errno) = unsafe { sys::call(libc::SYS_rt_sigqueueinfo, arguments) } {
            return errno;
        }
    }
}

/// Each is due again as soon as it was looked at.
fn timers() -> Errno {
    let often = [0_u64, 1, 0, 1];
    let mut event = [0_u32; 16];
    event[3] = libc::SIGEV_NONE as u32;
    loop {
        let mut timer = 0_i32;
        let clock = libc::CLOCK_MONOTONIC as usize;
        let arguments = [clock, event.as_ptr() as usize, &raw mut timer as usize];
        if let Err(errno) = sys::numbers(libc::SYS_timer_create, &arguments) {
            return errno;
        }
        let arguments = [timer as usize, 0, often.as_ptr() as usize, 0];
        if let Err(errno) = sys::numbers(libc::SYS_timer_settime, &arguments) {
            return errno;
        }
    }
}

fn hoard(_: &mut Random) -> Outcome {
    let hoarders: [Hoarder; 6] = [pipes, files, memory_files, mappings, signals, timers];
    let mut children = Vec::new();
    for hoarder in hoarders.into_iter().chain(hoarders) {
        children.push(child("a hoarder", move || {
            let Errno(errno) = hoarder();
            // It keeps what it has while others want more.
            std::thread::sleep(FUSE / 10);
            errno
        })?);
    }
    let ended: Vec<Ended> = children.into_iter().map(wait).collect::<Result<_, _>>()?;
    let refusals = [0, libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENOSPC];
    let is_expected = |ended: &Ended| match ended {
        Ended::Exited(errno) => refusals.contains(errno),
        Ended::Killed(signal) => *signal == libc::SIGKILL,
    };
    ensure!(ended.iter().all(is_expected), "hoarders ended with {ended:?}");
    Ok(format!("hoarders ended with {ended:?}"))
}

extern "C" fn count_signal(_: i32) {}

fn kill_storm(random: &mut Random) -> Outcome {
    const VICTIMS: usize = 12;
    const SIGNALS: usize = 20_000;
    let mut victims = Vec::new();
    for number in 0..VICTIMS {
        victims.push(child("a victim", || {
            if number % 2 == 0 {
                // SAFETY: the handler does nothing.
                unsafe { libc::signal(libc::SIGUSR1, count_signal as *const () as usize) };
            }
            for _ in 0..3 {
                let mut thread = 0;
                // SAFETY: a thread that pauses until the process ends.
                unsafe {
                    libc::pthread_create(&raw mut thread, std::ptr::null(), sleeper, std::ptr::null_mut())
                };
            }
            loop {
                let _ = process::fork(|| 3).and_then(Child::wait);
            }
        })?);
    }
    let mild = [0, libc::SIGCHLD, libc::SIGWINCH, libc::SIGURG, libc::SIGCONT, libc::SIGUSR1];
    for _ in 0..SIGNALS {
        let victim = victims[random.below(VICTIMS)];
        let signal = if random.one_in(2000) { libc::SIGTERM } else { mild[random.below(mild.len())] };
        // A victim that is a zombie takes signals as well.
        match random.below(3) {
            0 => victim.kill(signal).map_err(|errno| format!("kill {signal}: {errno}"))?,
            1 => _ = sys::numbers(libc::SYS_tkill, &[victim.0 as usize, signal as usize]),
            _ => {
                let tid = victim.0 as usize + random.below(4);
                let _ = sys::numbers(libc::SYS_tgkill, &[victim.0 as usize, tid, signal as usize]);
            }
        }
    }
    for victim in &victims {
        victim.kill(libc::SIGKILL).map_err(|errno| format!("SIGKILL: {errno}"))?;
    }
    for victim in victims {
        let ended = wait(victim)?;
        ensure!(matches!(ended, Ended::Killed(_)), "a victim ended with {ended:?}");
    }
    Ok(format!("{SIGNALS} signals"))
}

/// A text that an attribute may take for something, or no text at all.
fn garbage(random: &mut Random) -> Vec<u8> {
    const TEXTS: [&str; 26] = [
        "",
        "\n",
        "0",
        "1",
        "1\n",
        "1\n\n",
        " 1",
        "-1",
        "0x",
        "0x200000",
        "4096",
        "4097",
        "2097152",
        "1073741824",
        "18446744073709551615",
        "18446744073709551616",
        "1 revoke",
        "0 revoke",
        "2097152 revoke",
        "dax0.0",
        "dax0.1",
        "dax0.4294967296",
        "dax9.0",
        "../dax0.0",
        "0-fff",
        "100000000-1001fffff",
    ];
    match random.below(8) {
        0 => (0..random.below(64)).map(|_| random.bits() as u8).collect(),
        1 => vec![b'1'; random.below(8192)],
        2 => random.below(1 << 34).to_string().into_bytes(),
        _ => TEXTS[random.below(TEXTS.len())].as_bytes().to_vec(),
    }
}

fn sysfs_garbage(random: &mut Random) -> Outcome {
    const WRITES: usize = 6000;
    let mut paths: Vec<String> = vec![sysfs::BIND.into(), sysfs::UNBIND.into()];
    let of_region = ["id", "size", "align", "available_size", "create", "seed", "delete", "scrub"];
    paths.extend(of_region.map(|name| Region(0).attribute(name)));
    for id in 0..3 {
        let name = Name { region: 0, id };
        let of_device =
            ["size", "align", "resource", "target_node", "numa_node", "dev", "modalias", "mapping"];
        paths.extend(of_device.map(|attribute| name.attribute(attribute)));
        paths.extend(of_region.map(|attribute| name.attribute(&format!("dax_region/{attribute}"))));
        paths.extend(["start", "end", "page_offset"].map(|end| name.attribute(&format!("mapping0/{end}"))));
    }
    let words = Words::new()?;
    let user = child("a user of the device", || {
        fault::install();
        while !words.is_over() {
            let Ok(fd) = sys::open(c"/dev/dax0.0", libc::O_RDWR) else {
                nap();
                continue;
            };
            let size = sys::fstat(fd).map_or(0, |stat| stat.st_size as usize);
            if let Ok(mapping) = Mapping::new(0, size, RW, libc::MAP_SHARED, fd, 0) {
                (0..64).for_each(|_| _ = mapping.store(0, 1));
            }
            let _ = sys::close(fd);
        }
        0
    })?;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..WRITES {
        let path =
            CString::new(paths[random.below(paths.len())].as_str()).map_err(|error| error.to_string())?;
        let flags = [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY][random.below(3)];
        let Ok(fd) = sys::open(&path, flags) else {
            refused += 1;
            continue;
        };
        let text = garbage(random);
        let offset = if random.one_in(8) { random.bits() >> random.below(64) } else { 0 };
        let answer = match random.below(4) {
            0 => sys::pwrite(fd, &text, offset),
            1 => sys::pread(fd, &mut [0; 128], offset),
            _ => sys::write(fd, &text),
        };
        if answer.is_ok() {
            taken += 1
        } else {
            refused += 1
        }
        sys::close(fd).map_err(|errno| format!("close of {path:?}: {errno}"))?;
    }
    words.end();
    let ended = wait(user)?;
    ensure!(ended == Ended::Exited(0), "the user of the device ended with {ended:?}");
    // Whatever devices there are now, with whatever size: they go.
    for id in 0..256 {
        let name = Name { region: 0, id };
        let _ = name.unbind();
        let _ = name.set("size", "0");
        let _ = Region(0).delete(name);
    }
    let first = Name { region: 0, id: 0 };
    first.set("align", "2097152")?;
    first.set("size", &Region(0).available()?.to_string())?;
    first.bind().map_err(|errno| format!("bind of {first}: {errno}"))?;
    ensure!(taken > 0 && refused > 0, "{taken} calls were taken, {refused} refused");
    Ok(format!("{taken} calls taken, {refused} refused"))
}

/// execve in a child; its errno, or the signal as a negative number.
fn exec(path: &str, arguments: usize) -> Result<i32, String> {
    let path = CString::new(path).map_err(|error| error.to_string())?;
    let ended = wait(child("exec", || {
        let none = [0_usize];
        let arguments = if arguments == 0 { none.as_ptr() as usize } else { arguments };
        let none = none.as_ptr() as usize;
        match sys::numbers(libc::SYS_execve, &[path.as_ptr() as usize, arguments, none]) {
            Err(Errno(errno)) => errno,
            Ok(_) => 255,
        }
    })?)?;
    Ok(match ended {
        Ended::Exited(errno) => errno,
        Ended::Killed(signal) => -signal,
    })
}

/// The suite brings `/garbage`, 4,000 bytes of no format, and `/cut`, the first half of a program.
fn exec_garbage(_: &mut Random) -> Outcome {
    let rows: [(&str, usize, &[i32]); 9] = [
        ("/none", 0, &[libc::ENOENT]),
        ("", 0, &[libc::ENOENT]),
        ("/garbage", 0, &[libc::ENOEXEC, libc::EACCES]),
        ("/cut", 0, &[libc::ENOEXEC, libc::EACCES, -libc::SIGKILL, -libc::SIGSEGV]),
        ("/dev/dax0.0", 0, &[libc::EACCES]),
        ("/", 0, &[libc::EACCES]),
        ("/garbage/x", 0, &[libc::ENOTDIR]),
        ("/bin/hostile", 1, &[libc::EFAULT]),
        ("/bin/hostile", 0xffff_8000_0000_0000, &[libc::EFAULT]),
    ];
    for (path, arguments, expected) in rows {
        let answer = exec(path, arguments)?;
        ensure!(expected.contains(&answer), "execve of {path:?} ended with {answer}, not {expected:?}");
    }
    // Pointers to one string, more of it than any limit allows.
    let text = CString::new(vec![b'a'; 100_000]).map_err(|error| error.to_string())?;
    let mut many = vec![text.as_ptr() as usize; 2000];
    many.push(0);
    let answer = exec("/bin/hostile", many.as_ptr() as usize)?;
    ensure!(answer == libc::E2BIG, "200 MB of arguments: {answer}, not E2BIG");
    Ok(format!("{} refusals", rows.len() + 1))
}

/// Free memory when all that a bomb had is back: at least `enough`, or what there is after a while.
fn settled(enough: u64) -> Result<u64, String> {
    let ended = wait(child("a last child", || 42)?)?;
    ensure!(ended == Ended::Exited(42), "a child ends with {ended:?} now");
    let end = Instant::now() + FUSE;
    loop {
        let free = sys::free_bytes().map_err(|errno| format!("sysinfo: {errno}"))?;
        if free >= enough || Instant::now() >= end {
            return Ok(free);
        }
        nap();
    }
}

fn run(mode: &str, seed: u64) -> Outcome {
    let modes: [Mode; 7] = [
        ("fork", fork_bomb),
        ("thread", thread_bomb),
        ("memory", memory_hogs),
        ("hoard", hoard),
        ("kill", kill_storm),
        ("sysfs", sysfs_garbage),
        ("exec", exec_garbage),
    ];
    let (_, bomb) = modes.iter().find(|(name, _)| *name == mode).ok_or(format!("{mode}: no such mode"))?;
    let mut random = Random::new(seed);
    bomb(&mut random)?;
    let before = settled(u64::MAX)?;
    let said = bomb(&mut random)?;
    let after = settled(before)?;
    ensure!(after + SLACK_BYTES >= before, "{said}; of {before} free bytes {after} came back");
    Ok(said)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().map_or("", String::as_str);
    let seed = args.get(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    match run(mode, seed) {
        Ok(said) => {
            println!("hostile {mode}: {said}; survived");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("hostile {mode}: {what}");
            ExitCode::FAILURE
        }
    }
}
