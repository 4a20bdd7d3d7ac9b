//! /sys and /proc as programs look for things in them: fio and libpmem for a device, libndctl for its region, everybody
//! for themselves.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use guest::device::Device;
use guest::ensure;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::process;
use guest::sys::{self, Errno, PAGE, RW};
use guest::sysfs;
use libc::{EINVAL, MAP_SHARED};

use crate::{Context, Named};

const CASES: &[Named] = &[
    ("sys: fio finds out that a file is a dax device, and its size", is_found_by_number),
    ("sys: libdaxctl finds the region beside its devices", region_is_beside_devices),
    ("sys: libndctl finds bus, DIMM, region, namespace and claim", nd_tree),
    ("sys: a deep flush takes 1", deep_flush),
    ("sys: what a directory lists is there, what it links to, too", |_| listings("/sys")),
    ("sys: the CPUs and the node", |_| cpus()),
    ("proc: what a directory lists is there", |_| listings("/proc")),
    ("proc: self is the number of the process", |_| own_number()),
    ("proc: a descriptor leads to its file", |_| descriptors()),
    ("proc: status and smaps tell what libraries read", |_| status_and_smaps()),
    ("proc: each uuid is another one", |_| uuids()),
    ("proc: stat and cmdline tell of this process and of its child", |_| tell_of_a_child()),
    ("proc: the clocks of CPU time agree", |_| cpu_time()),
];

/// All of the family.
pub fn cases() -> Vec<Case<Context>> {
    crate::family("sys", CASES)
}

/// What an error of `path` is called.
fn at<E: std::fmt::Display>(path: impl AsRef<Path>) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.as_ref().display())
}

fn text(path: impl AsRef<Path>) -> Result<String, String> {
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    text.strip_suffix('\n')
        .map(str::to_owned)
        .ok_or(format!("{}: {text:?} is no line", path.as_ref().display()))
}

fn resolved(path: impl AsRef<Path>) -> Result<PathBuf, String> {
    fs::canonicalize(&path).map_err(at(&path))
}

fn name(path: &Path) -> Result<&str, String> {
    path.file_name().and_then(|name| name.to_str()).ok_or(format!("{} has no name", path.display()))
}

/// /sys/dev/char/M:m of the device under test.
fn by_number(device: &Device) -> Result<PathBuf, String> {
    let path = device.path.to_str().map_err(|error| error.to_string())?;
    let metadata = fs::metadata(path).map_err(at(path))?;
    ensure!(metadata.file_type().is_char_device(), "{path} is no character device");
    let number = metadata.rdev();
    Ok(format!("/sys/dev/char/{}:{}", libc::major(number), libc::minor(number)).into())
}

fn is_found_by_number(context: &Context) -> Outcome {
    let device = context.device()?;
    let path = by_number(device)?;
    let subsystem = resolved(path.join("subsystem"))?;
    ensure!(name(&subsystem)? == "dax", "its subsystem is {}", subsystem.display());
    let size = text(path.join("size"))?;
    ensure!(size == device.size.to_string(), "its size is {size}");
    let driver = fs::symlink_metadata(path.join("driver")).map_err(at("driver"))?;
    ensure!(driver.is_symlink() && name(&resolved(path.join("driver"))?)? == "device_dax", "another driver");
    let uevent = fs::read_to_string(path.join("uevent")).map_err(at("uevent"))?;
    ensure!(
        uevent.contains("\nDEVNAME=dax") && uevent.contains("\nDRIVER=device_dax\n"),
        "uevent is {uevent:?}"
    );
    Ok(())
}

/// The directory of the claim that has the device.
fn home(device: &Device) -> Result<PathBuf, String> {
    let path = resolved(by_number(device)?)?;
    let by_name = resolved(Path::new("/sys/bus/dax/devices").join(name(&path)?))?;
    ensure!(by_name == path, "by its name it is {}", by_name.display());
    path.parent().map(Path::to_owned).ok_or("it has no parent".into())
}

fn region_is_beside_devices(context: &Context) -> Outcome {
    let device = context.device()?;
    let home = home(device)?;
    let align = text(home.join("dax_region/align"))?;
    ensure!(align == device.align.to_string(), "dax_region/align is {align}");
    let size: usize = text(home.join("dax_region/size"))?.parse().map_err(at("dax_region/size"))?;
    ensure!(size >= device.size, "the region has {size} bytes");
    let id = text(home.join("dax_region/id"))?;
    let names = names(&home)?;
    ensure!(names.contains(&format!("dax{id}.0")), "it has {names:?}");
    Ok(())
}

fn names(path: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(path).map_err(at(path))?;
    entries.map(|entry| Ok(entry.map_err(at(path))?.file_name().to_string_lossy().into_owned())).collect()
}

/// Memory that forgets is behind a platform device, and on no bus of NVDIMMs.
fn is_volatile(home: &Path) -> Result<bool, String> {
    if !home.starts_with("/sys/devices/platform") {
        return Ok(false);
    }
    let id = text(home.join("dax_region/id"))?;
    let link = resolved(format!("/sys/bus/nd/devices/region{id}"))?;
    ensure!(link == home && name(home)? == format!("hmem.{id}"), "region{id} is {}", link.display());
    ensure!(fs::metadata(home.join("deep_flush")).is_err(), "{} has a deep flush", home.display());
    Ok(true)
}

fn nd_tree(context: &Context) -> Outcome {
    let claim = home(context.device()?)?;
    if is_volatile(&claim)? {
        return Ok(());
    }
    let region = claim.parent().ok_or("the claim is in no region")?;
    let bus = resolved("/sys/class/nd/ndctl0/device")?;
    ensure!(region.parent() == Some(&bus), "the region is not on the bus {}", bus.display());
    let number = text("/sys/class/nd/ndctl0/dev")?;
    let by_number = resolved(format!("/sys/dev/char/{number}"))?;
    ensure!(by_number == resolved("/sys/class/nd/ndctl0")?, "{number} is {}", by_number.display());
    let expect = |path: PathBuf, expected: &str| {
        let found = text(&path)?;
        ensure!(found == expected, "{} is {found:?} and not {expected:?}", path.display());
        Ok(())
    };
    expect(bus.join("provider"), "ACPI.NFIT")?;
    let (region_name, claim_name) = (name(region)?, name(&claim)?);
    let namespace = text(claim.join("namespace"))?;
    for (one, path) in [(region_name, region), (claim_name, claim.as_path())] {
        let link = resolved(Path::new("/sys/bus/nd/devices").join(one))?;
        ensure!(link == path, "{one} is {}", link.display());
        fs::read_link(path.join("driver")).map_err(at(path))?;
    }
    let space = resolved(Path::new("/sys/bus/nd/devices").join(&namespace))?;
    ensure!(space == region.join(&namespace), "{namespace} is {}", space.display());
    for (what, expected) in
        [("mode", "dax"), ("holder", claim_name), ("holder_class", "dax"), ("nstype", "4")]
    {
        expect(space.join(what), expected)?;
    }
    expect(space.join("size"), &text(region.join("size"))?)?;
    expect(claim.join("size"), &text(claim.join("dax_region/size"))?)?;
    expect(claim.join("align"), &text(claim.join("dax_region/align"))?)?;
    let dimm = text(region.join("mapping0"))?;
    let dimm = dimm.split(',').next().unwrap_or_default();
    let handle = text(bus.join(dimm).join("nfit/handle"))?;
    ensure!(handle.starts_with("0x"), "the handle of {dimm} is {handle}");
    fs::read_link(bus.join(dimm).join("driver")).map_err(at(dimm))?;
    Ok(())
}

fn deep_flush(context: &Context) -> Outcome {
    let claim = home(context.device()?)?;
    if is_volatile(&claim)? {
        return Ok(());
    }
    let path = claim.join("../deep_flush");
    let path = path.to_str().ok_or("a path that is no text")?;
    let shown = text(path)?;
    ensure!(shown == "0" || shown == "1", "it is {shown:?}");
    sysfs::write(path, "1").map_err(at(path))?;
    let refused = sysfs::write(path, "2");
    ensure!(refused == Err(Errno(EINVAL)), "2 is {refused:?}");
    Ok(())
}

/// Walks the tree: every name that is listed can be looked up and is of the type that is listed, links lead somewhere,
/// texts can be read, and no two directories have one inode number.
fn listings(root: &str) -> Outcome {
    let mut directories = vec![PathBuf::from(root)];
    let mut inodes = HashSet::new();
    while let Some(directory) = directories.pop() {
        let inode = fs::metadata(&directory).map_err(at(&directory))?.ino();
        ensure!(inodes.insert(inode), "{} has the inode number of another directory", directory.display());
        ensure!(inodes.len() < 10_000, "there is no end to it: {}", directory.display());
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).map_err(at(&path))?;
            let listed = entry.file_type().map_err(at(&path))?;
            ensure!(listed == metadata.file_type(), "{} is listed as {listed:?}", path.display());
            if metadata.is_dir() {
                directories.push(path);
            } else if metadata.is_symlink() {
                // What has no path, and the directory that was open while it was listed, lead nowhere.
                let is_open_file = directory.ends_with("fd");
                let target = fs::canonicalize(&path);
                ensure!(is_open_file || target.is_ok(), "{} leads nowhere", path.display());
            } else if metadata.permissions().mode() & 0o400 != 0 {
                let read = fs::read(&path).map_err(at(&path))?;
                let is_text = read.last() == Some(&b'\n') || root == "/proc";
                ensure!(is_text, "{} does not end its line", path.display());
            }
        }
    }
    Ok(())
}

fn cpus() -> Outcome {
    let count = std::thread::available_parallelism().map_err(|error| error.to_string())?.get();
    let expected = if count == 1 { "0".to_owned() } else { format!("0-{}", count - 1) };
    for path in ["/sys/devices/system/cpu/online", "/sys/devices/system/node/node0/cpulist"] {
        let online = text(path)?;
        ensure!(online == expected, "{path} is {online} with {count} CPUs");
    }
    let memory = fs::read_to_string("/sys/devices/system/node/node0/meminfo").map_err(at("meminfo"))?;
    ensure!(memory.starts_with("Node 0 MemTotal:"), "meminfo is {memory:?}");
    Ok(())
}

fn own_number() -> Outcome {
    let pid = std::process::id();
    let link = fs::read_link("/proc/self").map_err(at("/proc/self"))?;
    ensure!(link == Path::new(&pid.to_string()), "/proc/self leads to {}", link.display());
    ensure!(resolved("/proc/self")? == Path::new(&format!("/proc/{pid}")), "it is somewhere else");
    let listed = names(Path::new("/proc"))?;
    ensure!(listed.contains(&pid.to_string()), "/proc lists {listed:?}");
    let other = fs::metadata(format!("/proc/{}", pid + 1000));
    ensure!(other.is_err(), "there is a process {}", pid + 1000);
    Ok(())
}

fn descriptors() -> Outcome {
    let own = fs::read_link("/proc/self/exe").map_err(at("/proc/self/exe"))?;
    let file = fs::File::open(&own).map_err(at(&own))?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = fs::read_link(&path).map_err(at(&path))?;
    ensure!(link == own, "{path} leads to {}", link.display());
    let (here, there) = (file.metadata().map_err(at(&own))?, fs::metadata(&path).map_err(at(&path))?);
    ensure!(here.ino() == there.ino() && here.dev() == there.dev(), "{path} is another file");
    let again = fs::read(&path).map_err(at(&path))?;
    ensure!(again.starts_with(b"\x7fELF"), "{path} has other bytes");
    drop(file);
    ensure!(fs::symlink_metadata(&path).is_err(), "{path} is there when it is closed");
    Ok(())
}

fn status_and_smaps() -> Outcome {
    // The descriptor of the context may be of an earlier life of the device.
    let device = Device::open()?;
    let status = fs::read_to_string("/proc/self/status").map_err(at("status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let pid = std::process::id().to_string();
    ensure!(field("Pid:") == Some(&pid) && field("Tgid:") == Some(&pid), "status is {status:?}");
    let cpus = field("Cpus_allowed:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    ensure!(
        cpus.is_some_and(|mask| mask != 0) && field("Mems_allowed:") == Some("1"),
        "status is {status:?}"
    );
    let mapping = Mapping::new(0, device.align, RW, MAP_SHARED, device.fd, 0).map_err(at("mmap"))?;
    let smaps = fs::read_to_string("/proc/self/smaps").map_err(at("smaps"))?;
    let start = format!("{:08x}-", mapping.addr);
    let (_, found) = smaps.split_once(&start).ok_or(format!("smaps lacks {start}"))?;
    let lines: Vec<&str> = found.lines().skip(1).take(4).collect();
    let kib = |bytes: usize| format!("{:8} kB", bytes >> 10);
    let expected = [
        format!("Size:           {}", kib(device.align)),
        format!("KernelPageSize: {}", kib(device.align)),
        format!("MMUPageSize:    {}", kib(device.align)),
        "VmFlags: rd wr sh mr mw me ms mm hg ".to_owned(),
    ];
    ensure!(lines == expected, "smaps has {lines:?}");
    ensure!(smaps.contains(&format!("KernelPageSize: {}", kib(PAGE))), "smaps has no page of 4 KiB");
    sys::close(device.fd).map_err(at("close"))
}

/// The fields of PID/stat, from the state on.
fn stat(pid: i32) -> Result<Vec<String>, String> {
    let text = text(format!("/proc/{pid}/stat"))?;
    let (head, fields) = text.rsplit_once(") ").ok_or(format!("stat is {text:?}"))?;
    ensure!(head.starts_with(&format!("{pid} (")), "stat is {text:?}");
    let fields: Vec<_> = fields.split(' ').map(str::to_owned).collect();
    ensure!(fields.len() == 50, "{} fields: {text:?}", fields.len() + 2);
    Ok(fields)
}

fn tell_of_a_child() -> Outcome {
    let own = fs::read("/proc/self/cmdline").map_err(at("cmdline"))?;
    let arguments: Vec<u8> =
        std::env::args().flat_map(|argument| [argument.as_bytes(), &[0]].concat()).collect();
    ensure!(own == arguments, "cmdline is {}", own.escape_ascii());
    let child = process::fork(|| {
        loop {
            let _ = sys::numbers(libc::SYS_pause, &[]);
        }
    });
    let child = child.map_err(at("fork"))?;
    let pid = child.0;
    let (parent, fields) = (std::process::id(), stat(pid)?);
    ensure!(fields[1] == parent.to_string() && fields[17] == "1", "stat is {fields:?}");
    ensure!(fields[20].parse::<u64>().is_ok_and(|vsize| vsize > 0), "stat is {fields:?}");
    let cmdline = format!("/proc/{pid}/cmdline");
    ensure!(fs::read(&cmdline).map_err(at(&cmdline))? == own, "{cmdline} is another");
    let listed = names(Path::new("/proc"))?;
    ensure!(listed.contains(&pid.to_string()), "/proc lists {listed:?}");
    ensure!(fs::metadata(format!("/proc/{pid}/maps")).is_err(), "its memory can be seen");
    child.kill(libc::SIGKILL).map_err(at("kill"))?;
    while stat(pid)?[0] != "Z" {
        std::thread::yield_now();
    }
    ensure!(fs::read(&cmdline).map_err(at(&cmdline))?.is_empty(), "a dead process has arguments");
    child.wait().map_err(at("wait"))?;
    ensure!(fs::metadata(format!("/proc/{pid}")).is_err(), "it is there when it is forgotten");
    Ok(())
}

/// What a CPU clock says, in nanoseconds.
fn cpu_clock(clock: i32) -> Result<u64, String> {
    let mut time = [0u64; 2];
    let arguments = [clock as usize, time.as_mut_ptr() as usize];
    sys::numbers(libc::SYS_clock_gettime, &arguments).map_err(at(format!("clock {clock}")))?;
    Ok(time[0] * 1_000_000_000 + time[1])
}

fn cpu_time() -> Outcome {
    let pid = std::process::id() as i32;
    // clock_getcpuclockid(3) and pthread_getcpuclockid(3): the number, upside down, and the kind of clock.
    let [of_process, of_thread] = [2, 6].map(|kind| !pid << 3 | kind);
    while cpu_clock(of_thread)? < 12_000_000 {}
    let before = cpu_clock(libc::CLOCK_PROCESS_CPUTIME_ID)?;
    let named = cpu_clock(of_process)?;
    let (mut ticks, mut usage) = ([0u64; 4], [0u64; 18]);
    sys::numbers(libc::SYS_times, &[ticks.as_mut_ptr() as usize]).map_err(at("times"))?;
    sys::numbers(libc::SYS_getrusage, &[0, usage.as_mut_ptr() as usize]).map_err(at("getrusage"))?;
    let after = cpu_clock(libc::CLOCK_PROCESS_CPUTIME_ID)?;
    let used = usage[0] * 1_000_000 + usage[1];
    ensure!((before..=after).contains(&named), "{named} is not from {before} to {after}");
    ensure!((before / 1000..=after / 1000).contains(&used), "getrusage: {used} us, {before} to {after} ns");
    ensure!((before / 10_000_000..=after / 10_000_000).contains(&ticks[0]), "times: {ticks:?}");
    let errno = cpu_clock(!(pid + 1000) << 3 | 2);
    ensure!(errno.is_err(), "a process that is not there has used {errno:?}");
    Ok(())
}

fn uuids() -> Outcome {
    let path = "/proc/sys/kernel/random/uuid";
    let (one, other) = (text(path)?, text(path)?);
    for uuid in [&one, &other] {
        let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
        ensure!(parts == [8, 4, 4, 4, 12] && uuid.as_bytes().get(14) == Some(&b'4'), "{uuid}");
    }
    ensure!(one != other, "twice {one}");
    Ok(())
}
