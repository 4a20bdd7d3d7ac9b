//! The device under test: `/dev/dax0.0` unless `DAX_DEVICE` names another.
//!
//! The runner passes the alignment of this boot as `DAX_ALIGN` (4K, 2M or 1G) and may pass the size in bytes
//! as `DAX_SIZE`; without it the size is what fstat tells.

use std::ffi::CString;
use std::fmt;

use crate::mapping::Mapping;
use crate::sys::{self, Errno, RW};

/// The alignment of a device, which is also the size of each of its page-table entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// 4 KiB: page-table entries.
    Page4K,
    /// 2 MiB: page-directory entries.
    Page2M,
    /// 1 GiB: page-directory-pointer entries.
    Page1G,
}

impl Align {
    /// The alignment in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Align::Page4K => 4 << 10,
            Align::Page2M => 2 << 20,
            Align::Page1G => 1 << 30,
        }
    }

    /// Parses `4K`, `2M` or `1G`.
    pub fn parse(text: &str) -> Option<Align> {
        [Align::Page4K, Align::Page2M, Align::Page1G].into_iter().find(|align| align.to_string() == text)
    }
}

impl fmt::Display for Align {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Align::Page4K => "4K",
            Align::Page2M => "2M",
            Align::Page1G => "1G",
        })
    }
}

/// An open device.
pub struct Device {
    /// Where it was opened.
    pub path: CString,
    /// The descriptor, opened O_RDWR.
    pub fd: i32,
    /// The alignment of this boot.
    pub alignment: Align,
    /// The alignment in bytes.
    pub align: usize,
    /// The size in bytes.
    pub size: usize,
}

impl Device {
    /// Opens the device that the environment names.
    pub fn open() -> Result<Device, String> {
        let path = std::env::var("DAX_DEVICE").unwrap_or_else(|_| "/dev/dax0.0".into());
        let align = std::env::var("DAX_ALIGN").unwrap_or_else(|_| "2M".into());
        let alignment = Align::parse(&align)
            .ok_or_else(|| format!("DAX_ALIGN={align}: the alignment is one of 4K, 2M, 1G"))?;
        let path = CString::new(path).map_err(|error| format!("DAX_DEVICE: {error}"))?;
        let fd = sys::open(&path, libc::O_RDWR).map_err(|errno| format!("open {path:?}: {errno}"))?;
        let stat = sys::fstat(fd).map_err(|errno| format!("fstat {path:?}: {errno}"))?;
        let size = match std::env::var("DAX_SIZE") {
            Ok(text) => text.parse().map_err(|_| format!("DAX_SIZE={text}: a number of bytes is wanted"))?,
            Err(_) => stat.st_size as usize,
        };
        Ok(Device { path, fd, alignment, align: alignment.bytes(), size })
    }

    /// Maps `[off, off + len)` of the device, shared, readable and writable, wherever the kernel likes.
    pub fn map(&self, len: usize, off: usize) -> Result<Mapping, Errno> {
        self.map_as(0, len, RW, libc::MAP_SHARED, off as u64)
    }

    /// Maps the device with every argument of mmap(2) but the descriptor.
    pub fn map_as(&self, hint: usize, len: usize, prot: i32, flags: i32, off: u64) -> Result<Mapping, Errno> {
        Mapping::new(hint, len, prot, flags, self.fd, off)
    }
}
