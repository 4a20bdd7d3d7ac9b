//! One mapping, unmapped when dropped.

use crate::fault::{self, Touch};
use crate::sys::{self, Errno};

/// `[addr, addr + len)` as mmap(2) gave it.
pub struct Mapping {
    /// First byte.
    pub addr: usize,
    /// Length in bytes, as it was asked for.
    pub len: usize,
}

impl Mapping {
    /// mmap(2).
    pub fn new(hint: usize, len: usize, prot: i32, flags: i32, fd: i32, off: u64) -> Result<Mapping, Errno> {
        sys::mmap(hint, len, prot, flags, fd, off).map(|addr| Mapping { addr, len })
    }

    /// Private anonymous memory, readable and writable, not reserved.
    pub fn anonymous(len: usize) -> Result<Mapping, Errno> {
        Mapping::new(0, len, sys::RW, sys::ANON | libc::MAP_NORESERVE, -1, 0)
    }

    /// Loads the byte at `offset`.
    pub fn load(&self, offset: usize) -> Touch {
        fault::load(self.addr + offset)
    }

    /// Stores `byte` at `offset`.
    pub fn store(&self, offset: usize, byte: u8) -> Touch {
        fault::store(self.addr + offset, byte)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A case may have unmapped it already or moved part of it: there is nothing to say then.
        let _ = sys::munmap(self.addr, self.len);
    }
}
