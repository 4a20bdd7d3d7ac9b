//! The files of /dev, and the three streams of a program.

use super::directory::{self, RamLink};
use super::errno::{Answer, Errno};
use super::inode::Inode;
use super::io::{fill, write_pages};
use super::memory::check_reserve;
use super::node::{Entry, Node, Seek, numbered};
use super::poll::Changes;
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use crate::dax::{DevDax, OpenDax};
use crate::machine::machine;
use crate::random;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{
    O_ACCMODE, O_RDONLY, POLLHUP, POLLOUT, POLLWRNORM, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK,
};
use mm::pager::{Pager, Prot, Sharing};
use mm::vma::Backing;
#[cfg(feature = "dax")]
use {alloc::string::ToString, core::iter::successors, dax::DeviceName};

/// The major number of /dev/daxX.Y: the first that Linux gives away dynamically
/// (Documentation/admin-guide/devices.txt, 234-254). Later drivers get 253 and so on.
pub const DAX_MAJOR: u32 = 254;

/// The directory /dev.
pub fn root() -> Arc<dyn Node> {
    let device = |name, device: Device| (name, Arc::new(device) as Arc<dyn Node>);
    let link = |name, target: &str| {
        let inode = Inode::new(S_IFLNK | 0o777, 0);
        (name, Arc::new(RamLink { inode, target: target.into() }) as Arc<dyn Node>)
    };
    let fixed = Vec::from([
        device("null", Device::Null),
        device("zero", Device::Zero),
        device("full", Device::Full),
        device("random", Device::Random),
        device("urandom", Device::Urandom),
        device("tty", Device::Tty),
        device("console", Device::Console),
        link("fd", "/proc/self/fd"),
        link("stdin", "/proc/self/fd/0"),
        link("stdout", "/proc/self/fd/1"),
        link("stderr", "/proc/self/fd/2"),
        ("shm", directory::top(0o1777)),
    ]);
    Arc::new(DevDirectory { fixed })
}

/// The directory /dev: what stands beside the dax devices, by name.
struct DevDirectory {
    fixed: Vec<(&'static str, Arc<dyn Node>)>,
}

impl Node for DevDirectory {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Dev, 1, S_IFDIR | 0o755)
    }

    fn lookup(&self, _: &Thread, name: &str) -> Result<Arc<dyn Node>, Errno> {
        match self.fixed.iter().find(|(known, _)| *known == name) {
            Some((_, node)) => Ok(Arc::clone(node)),
            None => Ok(Arc::new(machine().registry.by_name(name).ok_or(Errno::ENOENT)?)),
        }
    }

    fn entries(&self, _: &Thread, position: u64) -> Result<Vec<Entry>, Errno> {
        let fixed = numbered(self.fixed.iter().map(|(name, _)| *name), position);
        Ok(if fixed.is_empty() { dax_entries(self.fixed.len() as u64, position) } else { fixed })
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// The dax devices, in positions from `first` on: by region, then by number.
#[cfg(feature = "dax")]
fn dax_entries(first: u64, position: u64) -> Vec<Entry> {
    /// How many are told at once.
    const BATCH: usize = 256;
    let key = position.saturating_sub(first).checked_sub(1);
    let behind = key.map(|key| DeviceName { region: (key >> 32) as u32, id: key as u32 });
    let registry = &machine().registry;
    let devices =
        successors(registry.next_device(behind), |device| registry.next_device(Some(device.name())));
    let entry = |device: Arc<DevDax>| {
        let DeviceName { region, id } = device.name();
        Entry { position: first + (u64::from(region) << 32 | u64::from(id)), name: device.name().to_string() }
    };
    devices.take(BATCH).map(entry).collect()
}

/// There are none.
#[cfg(not(feature = "dax"))]
fn dax_entries(_: u64, _: u64) -> Vec<Entry> {
    Vec::new()
}

/// A device that needs no driver, by its minor number (Documentation/admin-guide/devices.txt).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// Reads nothing, takes everything.
    Null = 3,
    /// Reads zeros, takes everything; mapped, it is anonymous memory.
    Zero = 5,
    /// Reads zeros, takes nothing: ENOSPC.
    Full = 7,
    /// Reads random bytes, takes everything.
    Random = 8,
    /// The same.
    Urandom = 9,
    /// The terminal of a session: there is none (ENXIO).
    Tty = 0x100,
    /// What is written arrives on the host's stdout.
    Console = 0x101,
}

impl Node for Device {
    fn metadata(&self) -> Metadata {
        let number = *self as u32;
        let permissions = if *self == Device::Console { 0o600 } else { 0o666 };
        let metadata = Metadata::new(FileSystem::Dev, u64::from(number) + 3, S_IFCHR | permissions);
        // 1 is the major number of the devices of memory, 5 of terminals.
        Metadata { device: (if number < 0x100 { 1 } else { 5 }, number & 0xff), ..metadata }
    }

    fn open(&self, _: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        if *self == Device::Tty { Err(Errno::ENXIO) } else { Ok(None) }
    }

    fn read(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        match self {
            Device::Null | Device::Tty | Device::Console => Ok(0),
            Device::Zero | Device::Full => fill(buffer, count, |_| {}),
            Device::Random | Device::Urandom => fill(buffer, count, random::fill),
        }
    }

    fn write(&self, thread: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        match self {
            Device::Full => Err(Errno::ENOSPC),
            Device::Console => Stream::Stdout.write(thread, position, buffer, count),
            _ => Ok(count),
        }
    }

    fn seek(&self) -> Seek {
        Seek::Start
    }

    fn changes(&self, _: u32) -> Option<Changes> {
        // The others of these have no poll function (drivers/char/mem.c, random.c).
        matches!(self, Device::Random | Device::Console).then(Changes::default)
    }

    fn map(&self, _: Sharing) -> Result<(Backing, Prot), Errno> {
        match self {
            Device::Zero => Ok((Backing::Anonymous, Prot::all())),
            _ => Err(Errno::ENODEV),
        }
    }
}

/// Unlike Linux, the size is told: memmap2 and friends ask for it (error matrix, `fstat`).
fn dax_metadata(device: &DevDax) -> Metadata {
    let minor = device.number();
    Metadata {
        size_bytes: device.size_bytes(),
        device: (DAX_MAJOR, minor),
        ..Metadata::new(FileSystem::Dev, 1000 + u64::from(minor), S_IFCHR | 0o600)
    }
}

impl Node for Arc<DevDax> {
    fn metadata(&self) -> Metadata {
        dax_metadata(self)
    }

    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        // An unarmed NVDIMM loses what is written to it: its device opens for reading only.
        if flags & O_ACCMODE != O_RDONLY && !self.max_prot().contains(Prot::WRITE) {
            return Err(Errno::EROFS);
        }
        Ok(Some(Arc::new(DevDax::open(self)?)))
    }
}

/// A dax device, in the generation in which it was opened.
impl Node for Arc<OpenDax> {
    fn metadata(&self) -> Metadata {
        dax_metadata(self.device())
    }

    fn transfers(&self) -> bool {
        false
    }

    fn seek(&self) -> Seek {
        Seek::Sized
    }

    /// Linux answers EINVAL (error matrix).
    fn flush(&self) -> Result<(), Errno> {
        Ok(OpenDax::flush(self, 0, self.device().size_bytes())?)
    }

    fn map(&self, _: Sharing) -> Result<(Backing, Prot), Errno> {
        check_reserve()?;
        Ok((Backing::Device(self.clone()), self.max_prot()))
    }
}

/// The three ways out of and into the machine. They look like pipes: no position, no mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Always at its end.
    Stdin,
    /// Arrives on the host's stdout.
    Stdout,
    /// Arrives on the host's stderr.
    Stderr,
}

impl Node for Stream {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Streams, *self as u64 + 1, S_IFIFO | 0o600)
    }

    fn read(&self, _: &mut Thread, _: u64, _: u64, _: u64) -> Answer {
        Ok(0)
    }

    fn write(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        write_pages(buffer, count, |piece| {
            match self {
                Stream::Stdout => platform::channel::stdout(piece),
                Stream::Stderr => platform::channel::stderr(piece),
                Stream::Stdin => {}
            }
            Ok(())
        })
    }

    fn seek(&self) -> Seek {
        Seek::Pipe
    }

    fn events(&self) -> u32 {
        match self {
            // A pipe that everybody has closed.
            Stream::Stdin => POLLHUP,
            Stream::Stdout | Stream::Stderr => POLLOUT | POLLWRNORM,
        }
    }

    fn changes(&self, _: u32) -> Option<Changes> {
        Some(Changes::default())
    }
}
