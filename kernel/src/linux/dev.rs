//! The files of /dev, and the three streams of a program.

use super::errno::{Answer, Errno};
use super::io::{fill, write_pages};
use super::memory::check_reserve;
use super::node::{Node, Seek};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use crate::dax::{DevDax, OpenDax};
use crate::machine::machine;
use crate::random;
use alloc::sync::Arc;
use linux_raw_sys::general::{O_ACCMODE, O_RDONLY, POLLHUP, POLLOUT, POLLWRNORM, S_IFCHR, S_IFIFO};
use mm::pager::{Pager, Prot};
use mm::vma::Backing;

/// The major number of /dev/daxX.Y: the first that Linux gives away dynamically
/// (Documentation/admin-guide/devices.txt, 234-254). Later drivers get 253 and so on.
pub const DAX_MAJOR: u32 = 254;

/// What a name under /dev names.
pub fn find(name: &str) -> Option<Arc<dyn Node>> {
    Some(match name {
        "null" => Arc::new(Device::Null),
        "zero" => Arc::new(Device::Zero),
        "random" | "urandom" => Arc::new(Device::Random),
        name => Arc::new(machine().registry.by_name(name)?),
    })
}

/// A device that needs no driver, by its minor number (Documentation/admin-guide/devices.txt).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// Reads nothing, takes everything.
    Null = 3,
    /// Reads zeros, takes everything; mapped, it is anonymous memory.
    Zero = 5,
    /// Reads random bytes, takes everything.
    Random = 9,
}

impl Node for Device {
    fn metadata(&self) -> Metadata {
        let minor = *self as u32;
        let metadata = Metadata::new(FileSystem::Dev, u64::from(minor) + 1, S_IFCHR | 0o666);
        Metadata { device: (1, minor), ..metadata }
    }

    fn read(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        match self {
            Device::Null => Ok(0),
            Device::Zero => fill(buffer, count, |_| {}),
            Device::Random => fill(buffer, count, random::fill),
        }
    }

    fn write(&self, _: u64, count: u64) -> Answer {
        Ok(count)
    }

    fn seek(&self) -> Seek {
        Seek::Start
    }

    fn map(&self) -> Result<(Backing, Prot), Errno> {
        match self {
            Device::Zero => Ok((Backing::Anonymous, Prot::all())),
            Device::Null | Device::Random => Err(Errno::ENODEV),
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

    fn map(&self) -> Result<(Backing, Prot), Errno> {
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

    fn write(&self, buffer: u64, count: u64) -> Answer {
        write_pages(buffer, count, |piece| match self {
            Stream::Stdout => platform::channel::stdout(piece),
            Stream::Stderr => platform::channel::stderr(piece),
            Stream::Stdin => {}
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
}
