//! A device that is removed while programs use it.
//!
//! The names that begin with `removal` are the rows of the measurements of Linux 6.1 "after a device is
//! removed while mapped".
//!
//! Each case opens the device anew: a descriptor from before a removal is dead for good. The family stands at
//! the end of the table, since every other case uses one descriptor.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

use guest::device::Device;
use guest::ensure;
use guest::fault::{self, Touch};
use guest::kernel_view::{Counters, Walk};
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::process::{self, Child, Ended};
use guest::sys::{self, Errno, PAGE, RW};
use guest::sysfs::{self, Name, Region};
use libc::{MAP_POPULATE, MAP_SHARED, PROT_READ};

use crate::{Context, Named};

const CASES: &[Named] = &[
    ("removal: touch of a touched page is SIGBUS/ADRERR", |_| after_unbind(touch_touched)),
    ("removal: touch of an untouched page is SIGBUS/ADRERR", |_| after_unbind(touch_untouched)),
    ("removal: touch in a forked child is SIGBUS/ADRERR", |_| touch_in_child()),
    ("removal: mmap on the old descriptor is ENXIO", |_| after_unbind(mmap_old)),
    ("removal: munmap, mprotect, madvise and close work", |_| after_unbind(give_up)),
    ("removal: open after a destroy is ENOENT", |_| open_after_destroy()),
    ("removal: open after unbind is ENXIO, with and without an old descriptor", |_| open_after_unbind()),
    ("removal: a copy of the kernel to and from a dead device is EFAULT", |_| after_unbind(copies)),
    ("removal: MAP_POPULATE and POPULATE_WRITE map nothing of a dead device", |_| {
        after_unbind(populate_dead)
    }),
    ("removal: with several mappings, cut and moved", |_| many_mappings()),
    ("s3_2_s3_4_kill_with_faulters_on_other_cpus", |_| kill_under_faulters()),
    ("s3_3_fault_after_the_kill_is_sigbus_and_installs_nothing", |_| after_unbind(nothing_installed)),
    ("s5_4_open_that_races_a_delete", |_| open_race()),
    ("s6_5_old_descriptor_and_mapping_outlive_a_disable", |_| outlives_disable()),
    ("s6_6_after_enable_new_mappings_show_the_same_bytes", |_| after_enable()),
];

/// All of the family.
pub fn cases() -> Vec<Case<Context>> {
    crate::family("removal", CASES)
}

/// The device, opened anew, and mapped whole with its first unit touched.
pub struct Held {
    /// The device.
    pub device: Device,
    /// Its name.
    pub name: Name,
    /// All of it.
    pub whole: Mapping,
}

/// Enables the device again when a case is over, however it ended.
pub struct Rebind(pub Name);

impl Drop for Rebind {
    fn drop(&mut self) {
        // Where it is bound already that is what was wanted.
        let _ = self.0.bind();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = sys::close(self.device.fd);
    }
}

pub fn errno(what: &'static str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {errno}")
}

pub fn hold() -> Result<Held, String> {
    let device = Device::open()?;
    let path = device.path.to_string_lossy().into_owned();
    let name = path.strip_prefix("/dev/").and_then(Name::parse).ok_or(format!("{path} is no dax device"))?;
    let whole = device.map(device.size, 0).map_err(errno("mmap"))?;
    ensure!(whole.store(0, 0x5a).is_done(), "store to a device that is alive");
    Ok(Held { device, name, whole })
}

pub fn unbind(name: Name) -> Outcome {
    name.unbind().map_err(errno("unbind"))
}

/// Runs a case on a device that was disabled while mapped.
fn after_unbind(case: fn(&Held) -> Outcome) -> Outcome {
    let held = hold()?;
    let _rebind = Rebind(held.name);
    unbind(held.name)?;
    case(&held)
}

pub fn is_sigbus(what: &str, touch: Touch, addr: usize) -> Outcome {
    match touch {
        Touch::Faulted(fault) if touch.to_string() == "SIGBUS/ADRERR" && fault.addr == addr => Ok(()),
        Touch::Faulted(fault) => Err(format!("{what}: {touch} at {:#x}", fault.addr)),
        Touch::Done(_) => Err(format!("{what}: it worked")),
    }
}

fn touch_touched(held: &Held) -> Outcome {
    for at in [0, PAGE - 1, held.device.align - 1] {
        is_sigbus("load", held.whole.load(at), held.whole.addr + at)?;
        is_sigbus("store", held.whole.store(at, 1), held.whole.addr + at)?;
    }
    Ok(())
}

fn touch_untouched(held: &Held) -> Outcome {
    for at in [held.device.align, held.device.size - 1] {
        is_sigbus("load", held.whole.load(at), held.whole.addr + at)?;
        is_sigbus("store", held.whole.store(at, 1), held.whole.addr + at)?;
    }
    Ok(())
}

/// A child that inherits the mapping before the removal, and one that is made after it.
fn touch_in_child() -> Outcome {
    let held = hold()?;
    let _rebind = Rebind(held.name);
    let words = process::shared_words(1).map_err(errno("shared memory"))?;
    let touch = || i32::from(touch_touched(&held).and_then(|()| touch_untouched(&held)).is_err());
    let early = process::fork(|| {
        let is_mine = held.whole.load(0) == Touch::Done(0x5a);
        words[0].store(1, SeqCst);
        while words[0].load(SeqCst) == 1 {
            let _ = sys::numbers(libc::SYS_sched_yield, &[]);
        }
        if is_mine { touch() } else { 2 }
    });
    let early = early.map_err(errno("fork"))?;
    while words[0].load(SeqCst) == 0 {
        let _ = sys::numbers(libc::SYS_sched_yield, &[]);
    }
    let unbound = unbind(held.name);
    words[0].store(2, SeqCst);
    let late = process::fork(touch).and_then(Child::wait);
    let early = early.wait();
    unbound?;
    ensure!(early == Ok(Ended::Exited(0)), "the child from before ended with {early:?}");
    ensure!(late == Ok(Ended::Exited(0)), "the child from after ended with {late:?}");
    Ok(())
}

pub fn refused_mmap(device: &Device, wanted: i32) -> Outcome {
    match device.map(device.align, 0) {
        Err(Errno(errno)) if errno == wanted => Ok(()),
        Err(errno) => Err(format!("mmap: {errno}, not {}", Errno(wanted))),
        Ok(_) => Err("mmap worked".into()),
    }
}

fn mmap_old(held: &Held) -> Outcome {
    refused_mmap(&held.device, libc::ENXIO)?;
    // The first rule of the order: even what is wrong in other ways is ENXIO.
    let private = held.device.map_as(0, held.device.align, PROT_READ, libc::MAP_PRIVATE, 0);
    ensure!(matches!(private, Err(Errno(libc::ENXIO))), "MAP_PRIVATE is not ENXIO");
    Ok(())
}

fn give_up(held: &Held) -> Outcome {
    let (addr, align) = (held.whole.addr, held.device.align);
    sys::mprotect(addr, align, PROT_READ).map_err(errno("mprotect"))?;
    sys::madvise(addr, align, libc::MADV_DONTNEED).map_err(errno("MADV_DONTNEED"))?;
    is_sigbus("load after mprotect", held.whole.load(0), addr)?;
    sys::munmap(addr, align).map_err(errno("munmap of a part"))?;
    let gone = held.whole.load(0);
    ensure!(gone.to_string() == "SIGSEGV/MAPERR", "after munmap: {gone}");
    sys::munmap(addr, held.whole.len).map_err(errno("munmap"))?;
    let second = sys::numbers(libc::SYS_dup, &[held.device.fd as usize]).map_err(errno("dup"))?;
    sys::close(second as i32).map_err(errno("close"))
}

pub fn open_node(name: Name) -> Result<(), Errno> {
    sys::open(&name.node(), libc::O_RDWR).and_then(sys::close)
}

/// A second device, made of the last unit of the first, which gets it back in the end.
struct Spare {
    first: Name,
    size: u64,
    name: Name,
}

impl Spare {
    fn make(units: u64) -> Result<Spare, String> {
        let (first, size, align) = {
            let held = hold()?;
            (held.name, held.device.size as u64, held.device.align)
        };
        unbind(first)?;
        let _rebind = Rebind(first);
        // Scrubbing a gigabyte takes a second, and is none of these cases' business.
        Spare::scrub(first, "0")?;
        first.set("size", &(size - units * align as u64).to_string())?;
        let name = Region(first.region).create_bound(align as u64 * units, align)?;
        Ok(Spare { first, size, name })
    }

    fn scrub(device: Name, is_required: &str) -> Outcome {
        sysfs::write(&Region(device.region).attribute("scrub"), is_required).map_err(errno("scrub"))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // A case that failed may have left any of these undone.
        let _ = self.name.unbind();
        let _ = self.name.set("size", "0");
        let _ = Region(self.first.region).delete(self.name);
        let _ = self.first.unbind();
        let _ = self.first.set("size", &self.size.to_string());
        let _ = self.first.bind();
        let _ = Spare::scrub(self.first, "1");
    }
}

fn open_after_destroy() -> Outcome {
    let spare = Spare::make(1)?;
    let fd = sys::open(&spare.name.node(), libc::O_RDWR).map_err(errno("open"))?;
    spare.name.destroy()?;
    let again = open_node(spare.name);
    let stat = sys::fstat(fd);
    sys::close(fd).map_err(errno("close"))?;
    ensure!(again == Err(Errno(libc::ENOENT)), "with an old descriptor: {again:?}");
    ensure!(stat.is_ok(), "fstat of the old descriptor: {:?}", stat.err());
    let again = open_node(spare.name);
    ensure!(again == Err(Errno(libc::ENOENT)), "without: {again:?}");
    Ok(())
}

fn open_after_unbind() -> Outcome {
    let name = {
        let held = hold()?;
        unbind(held.name)?;
        let rebind = Rebind(held.name);
        let opened = open_node(held.name);
        ensure!(opened == Err(Errno(libc::ENXIO)), "with an old descriptor: {opened:?}");
        std::mem::forget(rebind);
        held.name
    };
    let _rebind = Rebind(name);
    let opened = open_node(name);
    ensure!(opened == Err(Errno(libc::ENXIO)), "after the last close: {opened:?}");
    Ok(())
}

fn copies(held: &Held) -> Outcome {
    let at = held.whole.addr;
    let clock = libc::CLOCK_MONOTONIC as usize;
    let calls = [
        ("the path of open", sys::numbers(libc::SYS_open, &[at, 0, 0])),
        ("the set of rt_sigprocmask", sys::numbers(libc::SYS_rt_sigprocmask, &[0, at, 0, 8])),
        ("the time of clock_gettime", sys::numbers(libc::SYS_clock_gettime, &[clock, at])),
        ("the record of fstat", sys::numbers(libc::SYS_fstat, &[1, at])),
        ("the bytes of write", sys::numbers(libc::SYS_write, &[1, at, 16])),
    ];
    for (what, answer) in calls {
        ensure!(answer == Err(Errno(libc::EFAULT)), "{what}: {answer:?}");
    }
    Ok(())
}

fn populate_dead(held: &Held) -> Outcome {
    let flags = MAP_SHARED | MAP_POPULATE;
    let mapped = held.device.map_as(0, held.device.align, RW, flags, 0);
    ensure!(matches!(mapped, Err(Errno(libc::ENXIO))), "MAP_POPULATE is not ENXIO");
    let populated = sys::madvise(held.whole.addr, held.device.align, libc::MADV_POPULATE_WRITE);
    ensure!(populated == Err(Errno(libc::EFAULT)), "POPULATE_WRITE: {populated:?}");
    Ok(())
}

/// One mapping whole, one in two pieces, one read-only, one with a hole.
fn many_mappings() -> Outcome {
    let held = hold()?;
    let _rebind = Rebind(held.name);
    let (device, align) = (&held.device, held.device.align);
    let map = |len: usize, offset| device.map(len * align, offset * align).map_err(errno("mmap"));
    let (pieces, read_only, holed) = (map(2, 0)?, map(1, 1)?, map(3, 0)?);
    for (mapping, units) in [(&pieces, 2), (&read_only, 1), (&holed, 3)] {
        for unit in 0..units {
            ensure!(mapping.store(unit * align, 1).is_done(), "store to a device that is alive");
        }
    }
    sys::mprotect(pieces.addr + align, align, PROT_READ).map_err(errno("mprotect"))?;
    sys::mprotect(read_only.addr, align, PROT_READ).map_err(errno("mprotect"))?;
    sys::munmap(holed.addr + align, align).map_err(errno("munmap"))?;
    unbind(held.name)?;
    for addr in [pieces.addr, pieces.addr + align, read_only.addr, holed.addr, holed.addr + 2 * align] {
        is_sigbus("load", fault::load(addr), addr)?;
        ensure!(Walk::to(addr)?.size.is_none(), "{addr:#x} has an entry of a dead device");
    }
    let hole = fault::load(holed.addr + align);
    ensure!(hole.to_string() == "SIGSEGV/MAPERR", "the hole: {hole}");
    Ok(())
}

/// Faulters drop their entries and touch again, until a touch ends in SIGBUS. Times over, that device is killed.
fn kill_under_faulters() -> Outcome {
    const ROUNDS: usize = 40;
    for round in 0..ROUNDS {
        let held = hold()?;
        let _rebind = Rebind(held.name);
        let (align, units) = (held.device.align, (held.device.size / held.device.align).min(8));
        let (dead, touches) = (AtomicBool::new(false), AtomicU64::new(0));
        let faulter = || loop {
            let was_dead = dead.load(SeqCst);
            for unit in 0..units {
                let addr = held.whole.addr + unit * align;
                match held.whole.store(unit * align, 7) {
                    Touch::Done(_) if was_dead => return Err(format!("a store to {addr:#x} after the kill")),
                    Touch::Done(_) => _ = touches.fetch_add(1, Relaxed),
                    touch => return is_sigbus("store", touch, addr),
                }
            }
            sys::madvise(held.whole.addr, units * align, libc::MADV_DONTNEED)
                .map_err(errno("MADV_DONTNEED"))?;
        };
        let outcomes = thread::scope(|scope| {
            let faulters: Vec<_> = (0..3).map(|_| scope.spawn(faulter)).collect();
            while touches.load(Relaxed) < 50 && !faulters.iter().any(|faulter| faulter.is_finished()) {
                thread::yield_now();
            }
            let unbound = unbind(held.name);
            dead.store(true, SeqCst);
            let joined = faulters
                .into_iter()
                .map(|faulter| faulter.join().unwrap_or_else(|_| Err("a faulter panicked".into())));
            std::iter::once(unbound).chain(joined.collect::<Vec<_>>()).collect::<Vec<_>>()
        });
        if let Some(Err(what)) = outcomes.into_iter().find(Result::is_err) {
            return Err(format!("round {round}: {what}"));
        }
        for unit in 0..units {
            let walk = Walk::to(held.whole.addr + unit * align)?;
            ensure!(walk.size.is_none(), "round {round}: unit {unit} is still mapped: {walk}");
        }
    }
    Ok(())
}

fn nothing_installed(held: &Held) -> Outcome {
    let before = Counters::read()?;
    touch_touched(held)?;
    touch_untouched(held)?;
    let taken = Counters::read()?.faults_since(&before);
    ensure!(taken == [0; 3], "faults after the kill installed {taken:?} (4K, 2M, 1G)");
    ensure!(Walk::to(held.whole.addr)?.size.is_none(), "an entry of a dead device");
    Ok(())
}

/// Opens race a device that comes and goes with one unit, then two: a descriptor is of one of them, whole.
fn open_race() -> Outcome {
    const LIVES: usize = 300;
    let spare = Spare::make(2)?;
    let align = hold()?.device.align;
    let (is_over, opened, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let opener = || -> Outcome {
        while !is_over.load(Relaxed) {
            let fd = match sys::open(&spare.name.node(), libc::O_RDWR) {
                Ok(fd) => fd,
                Err(Errno(libc::ENXIO | libc::ENOENT)) => {
                    refused.fetch_add(1, Relaxed);
                    continue;
                }
                Err(errno) => return Err(format!("open: {errno}")),
            };
            let size = sys::fstat(fd).map_err(errno("fstat"))?.st_size as usize;
            let mapped = Mapping::new(0, align, RW, MAP_SHARED, fd, (size - align) as u64);
            sys::close(fd).map_err(errno("close"))?;
            ensure!(size == align || size == 2 * align, "a descriptor of {size} bytes");
            match mapped.map(|mapping| mapping.load(0)) {
                Ok(Touch::Done(_)) | Err(Errno(libc::ENXIO)) => {}
                Ok(touch) if touch.to_string() == "SIGBUS/ADRERR" => {}
                other => return Err(format!("its last unit: {other:?}")),
            }
            opened.fetch_add(1, Relaxed);
        }
        Ok(())
    };
    let lives = || -> Outcome {
        for life in 0..LIVES {
            spare.name.destroy()?;
            // One CPU alone would make the next device before anybody looked.
            thread::yield_now();
            let size = (align * (1 + life % 2)) as u64;
            let name = Region(spare.name.region).create_bound(size, align)?;
            ensure!(name == spare.name, "the id was not used again: {name}");
            thread::yield_now();
        }
        Ok(())
    };
    let outcomes = thread::scope(|scope| {
        let openers = [scope.spawn(opener), scope.spawn(opener)];
        let lived = lives();
        is_over.store(true, Relaxed);
        let joined = openers.map(|opener| opener.join().unwrap_or_else(|_| Err("an opener panicked".into())));
        [[lived].as_slice(), &joined].concat()
    });
    outcomes.into_iter().collect::<Outcome>()?;
    let (opened, refused) = (opened.into_inner(), refused.into_inner());
    ensure!(opened > 0 && refused > 0, "{opened} opens worked and {refused} did not: no race");
    Ok(())
}

fn outlives_disable() -> Outcome {
    let held = hold()?;
    let _rebind = Rebind(held.name);
    unbind(held.name)?;
    let stat = sys::fstat(held.device.fd).map_err(errno("fstat of the old descriptor"))?;
    ensure!(stat.st_size as usize == held.device.size, "its size is {}", stat.st_size);
    refused_mmap(&held.device, libc::ENXIO)?;
    touch_touched(&held)
}

fn after_enable() -> Outcome {
    let held = hold()?;
    let _rebind = Rebind(held.name);
    let last = held.device.size - 1;
    ensure!(held.whole.store(last, 0xa5).is_done(), "store to the last byte");
    unbind(held.name)?;
    held.name.bind().map_err(errno("bind"))?;
    let again = Device::open()?;
    ensure!(again.size == held.device.size, "{} bytes, had {}", again.size, held.device.size);
    let mapping = again.map(again.size, 0).map_err(errno("mmap after bind"))?;
    sys::close(again.fd).map_err(errno("close"))?;
    let (first, end) = (mapping.load(0), mapping.load(last));
    ensure!((first, end) == (Touch::Done(0x5a), Touch::Done(0xa5)), "the bytes are {first:?} and {end:?}");
    // The rule of generations: what was killed stays dead.
    refused_mmap(&held.device, libc::ENXIO)?;
    touch_touched(&held)
}
