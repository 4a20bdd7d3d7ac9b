//! What ndctl's tests device-dax.c and dax-pmd.c ask of a device, written anew without libndctl.
//!
//! Of device-dax.c the rest is elsewhere: data that somebody else wrote (the program `pattern`), a touch after the
//! device has gone (`removal.rs`), poison (`poison.rs`).

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use guest::device::{Align, Device};
use guest::ensure;
use guest::fault::Touch;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::process::{self, Ended};
use guest::sys::{self, Errno, PAGE};
use libc::{EINVAL, MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ};

use crate::Context;
use crate::properties::{Property, case, need};

const CASES: &[Property] = &[
    ("ndctl device-dax: a read-only mapping is shared, cached, and stays", read_only),
    ("ndctl dax-pmd: direct I/O from and to entries in every state", direct_io),
    ("ndctl dax-pmd: a page that is moved over others", remap),
];

/// ndctl's limit for reading 4 KiB: memory that is not cached is slower.
const READ_LIMIT_NS: u64 = 60_000;
const MADV_SOFT_OFFLINE: i32 = 101;

/// All of them.
pub fn cases() -> Vec<Case<Context>> {
    CASES.iter().map(case).collect()
}

/// A mapping of the first entry that nobody has touched.
fn fresh(device: &Device) -> Result<Mapping, String> {
    need(device.map(device.align, 0))
}

fn read_only(device: &Device) -> Outcome {
    ensure!(fresh(device)?.store(100, 0x5a).is_done(), "a store");
    let private = device.map_as(0, device.align, PROT_READ, MAP_PRIVATE, 0).map(drop);
    ensure!(private == Err(Errno(EINVAL)), "MAP_PRIVATE: {private:?}");
    let map = need(device.map_as(0, device.align, PROT_READ, MAP_SHARED, 0))?;
    ensure!(map.load(100) == Touch::Done(0x5a), "it shows {}", map.load(100));
    ensure!(map.store(100, 0).to_string() == "SIGSEGV/ACCERR", "a store to it: {}", map.store(100, 0));

    let fastest = (0..100).map(|_| read_page_ns(&map)).min();
    ensure!(fastest.is_some_and(|ns| ns <= READ_LIMIT_NS), "reading 4 KiB takes {fastest:?} ns");

    let smaps = fs::read_to_string("/proc/self/smaps").map_err(|error| format!("smaps: {error}"))?;
    ensure!(smaps.contains(&format!("\n{:08x}-", map.addr)), "smaps lacks {:#x}", map.addr);
    let offline = sys::madvise(map.addr, device.align, MADV_SOFT_OFFLINE);
    ensure!(offline.is_err(), "MADV_SOFT_OFFLINE worked");
    ensure!(map.load(100) == Touch::Done(0x5a), "MADV_SOFT_OFFLINE took the memory");
    Ok(())
}

/// How long it takes to read a page, word by word.
fn read_page_ns(map: &Mapping) -> u64 {
    let start = sys::monotonic_ns();
    for word in 0..PAGE / 8 {
        // SAFETY: the first page of a mapping that was read before; nobody refers to it.
        unsafe { std::ptr::read_volatile((map.addr as *const u64).add(word)) };
    }
    sys::monotonic_ns() - start
}

/// A file that is read and written past every cache, from and to the first page of the device.
struct Direct<'a> {
    device: &'a Device,
    file: File,
}

impl Direct<'_> {
    /// A fresh mapping, with this in the device and that in the file.
    fn start(&self, device: u8, file: u8) -> Result<Mapping, String> {
        let seed = fresh(self.device)?;
        ensure!((0..PAGE).all(|at| seed.store(at, device).is_done()), "the first stores");
        self.file.write_all_at(&[file; PAGE], 0).map_err(|error| error.to_string())?;
        fresh(self.device)
    }

    fn transfer(&self, number: i64, map: &Mapping) -> Result<usize, Errno> {
        sys::numbers(number, &[self.file.as_raw_fd() as usize, map.addr, PAGE, 0])
    }

    /// Writes the page to the file, which then holds `byte` all over.
    fn write(&self, map: &Mapping, byte: u8) -> Outcome {
        let written = self.transfer(libc::SYS_pwrite64, map);
        ensure!(written == Ok(PAGE), "write: {written:?}");
        let mut found = [0; PAGE];
        self.file.read_exact_at(&mut found, 0).map_err(|error| error.to_string())?;
        ensure!(found.iter().all(|&one| one == byte), "the file has {:#x} for {byte:#x}", found[0]);
        Ok(())
    }

    /// Reads the file into the page, which then holds `byte` all over.
    fn read(&self, map: &Mapping, byte: u8) -> Outcome {
        let read = self.transfer(libc::SYS_pread64, map);
        ensure!(read == Ok(PAGE), "read: {read:?}");
        ensure!((0..PAGE).all(|at| map.load(at) == Touch::Done(byte)), "the page has {}", map.load(0));
        Ok(())
    }

    /// Every state that an entry can be in when a file is read into it or written from it.
    fn steps(&self) -> Outcome {
        let told = |step: &'static str| move |error: String| format!("{step}: {error}");
        let map = self.start(1, 2)?;
        self.write(&map, 1).map_err(told("not there"))?;
        let map = self.start(3, 4)?;
        self.read(&map, 4).map_err(told("not there"))?;
        let map = self.start(5, 6)?;
        ensure!(map.load(0) == Touch::Done(5), "the load");
        self.read(&map, 6).map_err(told("there for reading"))?;
        let map = self.start(7, 8)?;
        ensure!(map.store(0, 7).is_done(), "the store");
        self.read(&map, 8).and_then(|()| self.write(&map, 8)).map_err(told("there for writing"))?;

        let map = self.start(9, 10)?;
        ensure!(map.store(0, 9).is_done(), "the store before fork");
        let child = process::fork(|| {
            let seen = map.load(0) == Touch::Done(9) && self.write(&map, 9).is_ok();
            let file = self.file.write_all_at(&[11; PAGE], 0);
            i32::from(!seen || file.is_err() || self.read(&map, 11).is_err())
        });
        let ended = child.and_then(process::Child::wait);
        ensure!(ended == Ok(Ended::Exited(0)), "a child of a process that had it there: {ended:?}");
        ensure!(map.load(PAGE - 1) == Touch::Done(11), "its parent sees {}", map.load(PAGE - 1));
        self.write(&map, 11).map_err(told("of the parent"))
    }
}

fn direct_io(device: &Device) -> Outcome {
    let path = format!("/tmp/direct-{}", std::process::id());
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT);
    let file = options.open(&path).map_err(|error| format!("{path}: {error}"))?;
    let outcome = Direct { device, file }.steps();
    fs::remove_file(&path).map_err(|error| format!("{path}: {error}"))?;
    outcome
}

/// Moving it may fail, and then nothing has changed; what was moved is there at 4K, and is no entry otherwise.
fn remap(device: &Device) -> Outcome {
    let (map, room) = (fresh(device)?, need(Mapping::anonymous(3 * PAGE))?);
    ensure!(map.store(0, 0x5a).is_done() && room.store(PAGE, 0x11).is_done(), "the first stores");
    let moved = sys::mremap(map.addr, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room.addr + PAGE);
    let (old, new) = (map.load(0), room.load(PAGE));
    match (moved, device.alignment) {
        (Err(_), _) => {
            ensure!([old, new] == [0x5a, 0x11].map(Touch::Done), "it failed, and left {old}, {new}")
        }
        (Ok(_), Align::Page4K) => ensure!(new == Touch::Done(0x5a) && !old.is_done(), "moved: {old}, {new}"),
        (Ok(_), _) => ensure!(new.to_string().starts_with("SIGBUS"), "moved a part of an entry: {new}"),
    }
    Ok(())
}
