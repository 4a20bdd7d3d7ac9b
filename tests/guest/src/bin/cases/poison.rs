//! Memory that went bad, by MADV_HWPOISON: it stays away. What ndctl's dax-poison.c asks, and the rows of the error
//! matrix.
//!
//! The family stands at the end of the table: nothing heals the device's last unit but a new owner's scrub.

use std::sync::atomic::Ordering::SeqCst;

use guest::device::Device;
use guest::ensure;
use guest::fault::{self, Fault, Touch};
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::process::{self, Ended};
use guest::sys::{self, Errno, PAGE, RW};
use guest::sysfs;
use libc::{MADV_HWPOISON, MAP_POPULATE, MAP_SHARED_VALIDATE, MAP_SYNC};

use crate::matrix::{self, Row, verdict};
use crate::memory::anonymous;
use crate::removal::{Held, Rebind, errno, hold, unbind};
use crate::{Context, Named};

const MADV_SOFT_OFFLINE: i32 = 101;

/// The rows.
pub const ROWS: &[Row] =
    &[("madvise HWPOISON 4096 at last align", poison_last), ("after HWPOISON: POPULATE_READ", populate_read)];

const CASES: &[Named] = &[
    ("poison: the caller is told by SIGBUS/MCEERR_AR with si_addr_lsb", |_| told()),
    ("linux fault 6: poisoned memory does not map again", |_| stays_away()),
    ("poison: others have no entry any more and get the signal at their touch", |_| others()),
    ("poison: a copy of the kernel to and from bad memory is EFAULT", |_| copies()),
    ("poison: it outlives a disable", |_| outlives_disable()),
    ("poison: other memory and holes are refused", |_| refused()),
];

/// The rows, each with the device opened anew, and the cases.
pub fn cases() -> Vec<Case<Context>> {
    let mut cases: Vec<_> = ROWS
        .iter()
        .map(|&(name, answer)| {
            let run = Box::new(move |context: &Context| {
                matrix::compare(name, answer, &hold()?.device, context.is_linux)
            });
            Case { family: "poison", name: name.into(), run }
        })
        .collect();
    cases.extend(crate::family("poison", CASES));
    cases
}

/// The signal that poisoning memory raises in the caller, or what the call answered without one.
fn poison(addr: usize, len: usize) -> Result<Fault, String> {
    let mut answer = Ok(());
    let raised = fault::guarded(|| answer = sys::madvise(addr, len, MADV_HWPOISON));
    raised.err().ok_or_else(|| verdict(answer))
}

/// The last unit of a device.
fn last(device: &Device) -> Result<Mapping, Errno> {
    device.map(device.align, device.size - device.align)
}

fn poison_last(device: &Device) -> String {
    let mapping = match last(device) {
        Ok(mapping) => mapping,
        Err(errno) => return format!("no map: {errno}"),
    };
    let told = match poison(mapping.addr, PAGE) {
        Ok(fault) => format!("signal {fault} lsb={}", fault.lsb),
        Err(answer) => answer,
    };
    // At 4K there is no other page in the unit.
    let other = mapping.load(PAGE % device.align);
    format!("{told} read-poisoned={} read+4096-same-align={other}", mapping.load(0))
}

fn populate_read(device: &Device) -> String {
    match last(device) {
        Ok(mapping) => verdict(sys::madvise(mapping.addr, mapping.len, libc::MADV_POPULATE_READ)),
        Err(errno) => format!("no map: {errno}"),
    }
}

fn is_poisoned(what: &str, touch: Touch, addr: usize, device: &Device) -> Outcome {
    let lsb = device.align.trailing_zeros() as i16;
    match touch {
        Touch::Faulted(fault) if touch.to_string() == "SIGBUS/MCEERR_AR" => {
            ensure!(
                (fault.addr, fault.lsb) == (addr, lsb),
                "{what}: si_addr {:#x} lsb {}",
                fault.addr,
                fault.lsb
            );
            Ok(())
        }
        _ => Err(format!("{what}: {touch}")),
    }
}

/// The device with its last unit poisoned, and the address of that unit.
fn hold_bad() -> Result<(Held, usize), String> {
    let held = hold()?;
    let at = held.whole.addr + held.device.size - held.device.align;
    poison(at, PAGE).map_err(|answer| format!("MADV_HWPOISON raised nothing: {answer}"))?;
    Ok((held, at))
}

/// The body of ndctl's test/dax-poison.c.
fn told() -> Outcome {
    let held = hold()?;
    let (align, flags) = (held.device.align, MAP_SHARED_VALIDATE | MAP_POPULATE | MAP_SYNC);
    let offset = (held.device.size - 2 * align) as u64;
    let mapping = held.device.map_as(0, 2 * align, RW, flags, offset).map_err(errno("mmap"))?;
    let at = mapping.addr + align + align / 2 / PAGE * PAGE;
    let offline = sys::madvise(at, PAGE, MADV_SOFT_OFFLINE);
    ensure!(offline.is_err(), "MADV_SOFT_OFFLINE worked");
    let fault = poison(at, PAGE).map_err(|answer| format!("MADV_HWPOISON raised nothing: {answer}"))?;
    is_poisoned("MADV_HWPOISON", Touch::Faulted(fault), at, &held.device)?;
    ensure!(mapping.load(0).is_done(), "the unit before it is lost, too");
    is_listed(&held, offset + (at - mapping.addr) as u64)
}

/// Does the region list the page at `offset` of its only device?
fn is_listed(held: &Held, offset: u64) -> Outcome {
    let path = format!("/sys/bus/nd/devices/region{}/badblocks", held.name.region);
    let text = sysfs::read(&path).map_err(errno("badblocks"))?;
    let holds = |line: &str| {
        let (first, count) = line.split_once(' ')?;
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        Some((first..first + count).contains(&(offset / 512)))
    };
    ensure!(text.lines().any(|line| holds(line) == Some(true)), "offset {offset:#x} is not in {text:?}");
    Ok(())
}

/// No touch, store or new mapping brings bad memory back.
fn stays_away() -> Outcome {
    let (held, at) = hold_bad()?;
    for offset in [0, held.device.align / 2, held.device.align - 1] {
        is_poisoned("load", fault::load(at + offset), at + offset, &held.device)?;
        is_poisoned("store", fault::store(at + offset, 1), at + offset, &held.device)?;
    }
    let again = last(&held.device).map_err(errno("mmap"))?;
    is_poisoned("a new mapping", again.load(0), again.addr, &held.device)?;
    ensure!(held.whole.load(0) == Touch::Done(0x5a), "the first unit is lost, too");
    Ok(())
}

/// A child has the unit's entry when the parent poisons it.
fn others() -> Outcome {
    let held = hold()?;
    let unit = held.device.align;
    let at = held.whole.addr + held.device.size - 2 * unit;
    let words = process::shared_words(1).map_err(errno("shared memory"))?;
    let child = process::fork(|| {
        let had = held.whole.load(0).is_done() && fault::load(at).is_done();
        words[0].store(1, SeqCst);
        while words[0].load(SeqCst) == 1 {
            let _ = sys::numbers(libc::SYS_sched_yield, &[]);
        }
        let lost = is_poisoned("load", fault::load(at), at, &held.device).is_ok();
        i32::from(!(had && lost && held.whole.load(0).is_done()))
    });
    let child = child.map_err(errno("fork"))?;
    while words[0].load(SeqCst) == 0 {
        let _ = sys::numbers(libc::SYS_sched_yield, &[]);
    }
    let told = poison(at, PAGE);
    words[0].store(2, SeqCst);
    let ended = child.wait();
    ensure!(told.is_ok(), "MADV_HWPOISON raised nothing: {told:?}");
    ensure!(ended == Ok(Ended::Exited(0)), "the child: {ended:?}");
    Ok(())
}

fn copies() -> Outcome {
    let (_held, at) = hold_bad()?;
    let written = sys::numbers(libc::SYS_write, &[1, at, 16]);
    ensure!(written == Err(Errno(libc::EFAULT)), "the bytes of write: {written:?}");
    let told = sys::numbers(libc::SYS_fstat, &[1, at]);
    ensure!(told == Err(Errno(libc::EFAULT)), "the record of fstat: {told:?}");
    Ok(())
}

fn outlives_disable() -> Outcome {
    let (held, at) = hold_bad()?;
    let rebind = Rebind(held.name);
    unbind(held.name)?;
    ensure!(fault::load(at).to_string() == "SIGBUS/ADRERR", "a dead device: {}", fault::load(at));
    drop(rebind);
    let again = hold()?;
    let mapping = last(&again.device).map_err(errno("mmap"))?;
    is_poisoned("after an enable", mapping.load(0), mapping.addr, &again.device)
}

fn refused() -> Outcome {
    let memory = anonymous(2 * PAGE)?;
    memory.store(0, 7);
    let answer = sys::madvise(memory.addr, PAGE, MADV_HWPOISON);
    ensure!(answer == Err(Errno(libc::EINVAL)), "anonymous memory: {answer:?}");
    ensure!(memory.load(0) == Touch::Done(7), "a refused call took the page");
    sys::munmap(memory.addr + PAGE, PAGE).map_err(errno("munmap"))?;
    let answer = sys::madvise(memory.addr + PAGE, PAGE, MADV_HWPOISON);
    ensure!(answer == Err(Errno(libc::EFAULT)), "a hole: {answer:?}");
    Ok(())
}
