//! The ten faults of Linux 6.1 that its measurements name: none comes back. The sixth, about bad memory, is in
//! `poison`; the ninth, about the order of regions, is a guest run of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

use guest::clock::ticks;
use guest::device::{Align, Device};
use guest::ensure;
use guest::fault::{self, Touch};
use guest::kernel_view::{Counters, Walk};
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};
use libc::{MAP_FIXED, MAP_POPULATE, MAP_SHARED, PROT_READ};

use crate::removal::{Held, Rebind, errno, hold, is_sigbus, open_node, refused_mmap, unbind};
use crate::{Context, Named};

const CASES: &[Named] = &[
    ("linux fault 1: bind and mmap with an old descriptor open", |_| linux_1()),
    ("linux fault 2: mprotect is enforced when it returns, on every CPU", |_| linux_2()),
    ("linux fault 3: COLD and PAGEOUT keep the entries", |_| linux_3()),
    ("linux fault 4: no mapping moves off the alignment", |_| linux_4()),
    ("linux fault 5: a hint off the alignment is rounded", |_| linux_5()),
    ("linux fault 7: MAP_POPULATE past the end takes what there is", |_| linux_7()),
    ("linux fault 8: MAP_POPULATE takes one step an entry", |_| linux_8()),
    ("linux fault 10: size, SEEK_END, fsync and msync answer", |_| linux_10()),
];

/// All of the family.
pub fn cases() -> Vec<Case<Context>> {
    crate::family("removal", CASES)
}

fn linux_1() -> Outcome {
    let held = hold()?;
    let _rebind = Rebind(held.name);
    unbind(held.name)?;
    let opened = open_node(held.name);
    ensure!(opened == Err(Errno(libc::ENXIO)), "open: {opened:?}");
    refused_mmap(&held.device, libc::ENXIO)?;
    held.name.bind().map_err(errno("bind"))?;
    let again = Device::open()?;
    refused_mmap(&held.device, libc::ENXIO)?;
    let mapping = again.map(again.align, 0).map_err(errno("mmap on the new descriptor"));
    sys::close(again.fd).map_err(errno("close"))?;
    ensure!(mapping?.load(0) == Touch::Done(0x5a), "the new mapping shows other bytes");
    Ok(())
}

/// A thread stores while another takes the permission away: no store may pass once mprotect has returned.
fn linux_2() -> Outcome {
    let held = hold()?;
    let (addr, align) = (held.whole.addr, held.device.align);
    for (what, prot) in [("PROT_READ", PROT_READ), ("PROT_NONE", libc::PROT_NONE)] {
        let (stores, is_taken) = (AtomicU64::new(0), AtomicBool::new(false));
        let storer = || loop {
            let was_taken = is_taken.load(SeqCst);
            match fault::store(addr, 1) {
                Touch::Done(_) if was_taken => return Err(format!("a store after {what}")),
                Touch::Done(_) => _ = stores.fetch_add(1, Relaxed),
                touch if touch.to_string() == "SIGSEGV/ACCERR" => return Ok(()),
                touch => return Err(format!("the store: {touch}")),
            }
        };
        let outcome = thread::scope(|scope| {
            let storer = scope.spawn(storer);
            while stores.load(Relaxed) < 100 && !storer.is_finished() {
                thread::yield_now();
            }
            let changed = sys::mprotect(addr, align, prot);
            is_taken.store(true, SeqCst);
            let stored = storer.join().unwrap_or_else(|_| Err("the storer panicked".into()));
            changed.map_err(errno("mprotect")).and(stored)
        });
        outcome?;
        sys::mprotect(addr, align, RW).map_err(errno("mprotect back"))?;
        ensure!(fault::store(addr, 1).is_done(), "no store after the permission was given back");
    }
    Ok(())
}

fn linux_3() -> Outcome {
    let held = hold()?;
    for (what, advice) in [("COLD", 20), ("PAGEOUT", 21)] {
        let before = Counters::read()?;
        sys::madvise(held.whole.addr, held.device.align, advice).map_err(errno(what))?;
        ensure!(Walk::to(held.whole.addr)?.size.is_some(), "{what} dropped the entry");
        ensure!(held.whole.load(0) == Touch::Done(0x5a), "{what} lost a byte");
        let taken = Counters::read()?.faults_since(&before);
        ensure!(taken == [0; 3], "{what}: the next touch took faults {taken:?}");
    }
    Ok(())
}

fn mremap(held: &Held, to: usize) -> Result<usize, Errno> {
    let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as usize;
    let align = held.device.align;
    sys::numbers(libc::SYS_mremap, &[held.whole.addr, align, align, flags, to])
}

/// What is no multiple of the alignment is refused and leaves the mapping where it is.
fn linux_4() -> Outcome {
    let held = hold()?;
    let room = Mapping::anonymous(3 * held.device.align).map_err(errno("mmap of room"))?;
    let aligned = room.addr.next_multiple_of(held.device.align);
    let off = if held.device.alignment == Align::Page4K { 1 } else { PAGE };
    let moved = mremap(&held, aligned + off);
    ensure!(moved.is_err(), "mremap to {:#x} worked", aligned + off);
    ensure!(held.whole.load(0) == Touch::Done(0x5a), "the mapping is gone");
    Ok(())
}

fn linux_5() -> Outcome {
    let held = hold()?;
    let hint = Mapping::anonymous(4 * held.device.align).map_err(errno("mmap of room"))?.addr + PAGE;
    let mapping =
        held.device.map_as(hint, held.device.align, RW, MAP_SHARED, 0).map_err(errno("hint + 4K"))?;
    ensure!(mapping.addr.is_multiple_of(held.device.align), "it came to {:#x}", mapping.addr);
    if held.device.alignment != Align::Page4K {
        let anonymous = sys::ANON | MAP_FIXED;
        let over = Mapping::new(held.whole.addr, PAGE, RW, anonymous, -1, 0);
        ensure!(over.is_err(), "MAP_FIXED over a part of an entry worked");
        ensure!(held.whole.load(0) == Touch::Done(0x5a), "the mapping is gone");
    }
    Ok(())
}

fn linux_7() -> Outcome {
    let held = hold()?;
    let (align, size) = (held.device.align, held.device.size);
    let flags = MAP_SHARED | MAP_POPULATE;
    let mapping =
        held.device.map_as(0, 2 * align, RW, flags, (size - align) as u64).map_err(errno("mmap"))?;
    ensure!(Walk::to(mapping.addr)?.size.is_some(), "the part that there is was not populated");
    ensure!(Walk::to(mapping.addr + align)?.size.is_none(), "an entry past the end");
    is_sigbus("load past the end", mapping.load(align), mapping.addr + align)?;
    let populated = sys::madvise(mapping.addr, 2 * align, libc::MADV_POPULATE_READ);
    ensure!(populated == Err(Errno(libc::EFAULT)), "POPULATE_READ past the end: {populated:?}");
    Ok(())
}

/// Populating costs at most a few times what touching by hand does; it was 35 times at 2M.
fn linux_8() -> Outcome {
    let held = hold()?;
    let align = held.device.align;
    let units = (held.device.size / align).min(1024);
    let mut least = [u64::MAX; 2];
    for _ in 0..5 {
        let by_hand = held.device.map(units * align, 0).map_err(errno("mmap"))?;
        let start = ticks();
        (0..units).for_each(|unit| _ = by_hand.load(unit * align));
        least[0] = least[0].min(ticks() - start);
        drop(by_hand);
        let start = ticks();
        let flags = MAP_SHARED | MAP_POPULATE;
        let populated = held.device.map_as(0, units * align, RW, flags, 0).map_err(errno("mmap"))?;
        least[1] = least[1].min(ticks() - start);
        drop(populated);
    }
    // The call itself is a good part of it where there are four entries.
    let [by_hand, populated] = least;
    ensure!(populated < 4 * by_hand + 200_000, "{units} units: {populated} ticks, {by_hand} by hand");
    Ok(())
}

fn linux_10() -> Outcome {
    let held = hold()?;
    let fd = held.device.fd as usize;
    let end = sys::lseek(held.device.fd, 0, libc::SEEK_END).map_err(errno("SEEK_END"))?;
    ensure!(end == held.device.size && end > 0, "SEEK_END is {end}");
    sys::numbers(libc::SYS_fsync, &[fd]).map_err(errno("fsync"))?;
    sys::numbers(libc::SYS_fdatasync, &[fd]).map_err(errno("fdatasync"))?;
    sys::msync(held.whole.addr, held.device.align, libc::MS_SYNC).map_err(errno("msync"))
}
