//! What the nodes of the tree in RAM have beside what is in them.

use super::stat::{FileSystem, Metadata};
use crate::clock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general::S_IFMT;

/// A number, a mode, a time, and how many names there are.
pub struct Inode {
    /// Which one it is; no other one has ever had it.
    pub number: u64,
    mode: AtomicU32,
    /// How many names it has.
    pub links: AtomicU32,
    /// When it was changed, in nanoseconds since 1970.
    pub mtime_ns: AtomicU64,
}

impl Inode {
    /// One with an st_mode, last changed `mtime` seconds after 1970.
    pub fn new(mode: u32, mtime: u64) -> Inode {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Inode {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            mode: AtomicU32::new(mode),
            links: AtomicU32::new(0),
            mtime_ns: AtomicU64::new(mtime.saturating_mul(1_000_000_000)),
        }
    }

    /// One that is made now.
    pub fn new_now(mode: u32) -> Inode {
        let inode = Inode::new(mode, 0);
        inode.touch();
        inode
    }

    /// What stat(2) tells, but for the size.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            // A directory's 1 says that its own are not counted.
            links: self.links.load(Ordering::Relaxed),
            mtime_ns: self.mtime_ns.load(Ordering::Relaxed),
            ..Metadata::new(FileSystem::Ram, self.number, self.mode.load(Ordering::Relaxed))
        }
    }

    /// It is changed now.
    pub fn touch(&self) {
        self.mtime_ns.store(clock::realtime_ns(), Ordering::Relaxed);
    }

    /// Sets the permission bits of its mode.
    pub fn set_permissions(&self, bits: u32) {
        let kind = self.mode.load(Ordering::Relaxed) & S_IFMT;
        self.mode.store(kind | bits & 0o7777, Ordering::Relaxed);
    }
}
