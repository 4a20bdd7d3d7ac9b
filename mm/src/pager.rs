//! The seam between memory and what is mapped: `mm` asks, a pager answers.
//!
//! `mm` never knows dax. A pager decides whether a vma may exist and what backs a fault, and it calls
//! `install` itself: that way it can hold whatever keeps its memory alive (dax: an epoch pin) while, and
//! only while, the entry is written. The protocol of a fault:
//!
//! 1. the space's lock is held shared, the vma was found, allows the access, and holds the whole entry;
//! 2. `Pager::fault` pins, checks that its object is alive, finds the physical range, calls `install`
//!    once, unpins. Between pin and unpin nothing allocates, waits, locks, prints or touches user memory;
//! 3. `install` answers [`Installed::NeedsTables`] when page-table frames are missing: the pager unpins and
//!    passes that on; the space reserves frames and starts the fault over.

use crate::range::{MapSize, PhysRange, VirtRange};
use crate::space::AddressSpace;
use alloc::sync::{Arc, Weak};
use bitflags::bitflags;
use core::any::Any;
use core::fmt;
use thiserror::Error;
use x86_64::VirtAddr;

bitflags! {
    /// What a program may do with a mapping (mmap's PROT_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u8 {
        /// Load from it.
        const READ = 1;
        /// Store to it.
        const WRITE = 2;
        /// Fetch instructions from it.
        const EXEC = 4;
    }
}

/// MAP_SHARED or MAP_PRIVATE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Stores reach the object.
    Shared,
    /// Stores stay with the program.
    Private,
}

/// What the program tried when it faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// A vma that somebody wants to exist.
#[derive(Clone, Copy, Debug)]
pub struct VmaRequest {
    /// Its addresses, in whole 4 KiB pages.
    pub range: VirtRange,
    /// The object's byte that `range.start()` shows.
    pub offset_bytes: u64,
    /// Shared or private.
    pub sharing: Sharing,
}

impl VmaRequest {
    /// The object's offset that the entry of `size` around `address`, which is inside, begins with.
    ///
    /// `None` when the entry is not wholly inside the vma, or the offset passes 2^64: the answer is SIGBUS.
    #[inline]
    pub fn entry_offset(&self, address: VirtAddr, size: MapSize) -> Option<u64> {
        let ((start, end), unit) = (self.range.bounds(), size.bytes());
        let entry = address.as_u64() & !(unit - 1);
        // No overflow: addresses of programs end far below 2^63.
        if entry < start || entry + unit > end {
            return None;
        }
        self.offset_bytes.checked_add(entry - start)
    }
}

/// Why a mapping or an operation on one was refused, with the offending value.
///
/// `kernel/linux/errno` turns each into an errno, and the kernel's log prints it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The object is gone or disabled (ENXIO).
    #[error("the device is disabled or was removed")]
    Dead,
    /// A device cannot be mapped MAP_PRIVATE (EINVAL).
    #[error("a dax device cannot be mapped MAP_PRIVATE: use MAP_SHARED")]
    PrivateDevice,
    /// This value (what, how much) is not a multiple of the alignment (EINVAL).
    #[error("{what} {value:#x} is not a multiple of the alignment {align}")]
    Misaligned {
        /// Which value: "address", "length", "offset", or "end" for a cut.
        what: &'static str,
        /// The value, in bytes.
        value: u64,
        /// What it must be a multiple of.
        align: MapSize,
    },
    /// A new mapping at a fixed address would leave a part of an old one that is not a multiple of its alignment
    /// (ENOMEM, as Linux answers when it cannot unmap what is to be replaced).
    #[error("a mapping with entries of {align} would be cut at {address:#x}")]
    CutsMapping {
        /// Where it would be cut.
        address: u64,
        /// The alignment of the old mapping.
        align: MapSize,
    },
    /// The length is zero (EINVAL).
    #[error("length 0")]
    ZeroLength,
    /// Offset plus length passes 2^64, or the offset's page number is out of range (EOVERFLOW).
    #[error("offset {offset_bytes:#x} plus length {len_bytes:#x} overflows")]
    OffsetOverflow {
        /// The offset, in bytes.
        offset_bytes: u64,
        /// The length, in bytes.
        len_bytes: u64,
    },
    /// No free range of addresses of this length and alignment is left, or `[addr, addr+len)` is not a
    /// program's to use (ENOMEM).
    #[error("no free addresses for {len_bytes:#x} bytes")]
    NoAddresses {
        /// The length, in bytes.
        len_bytes: u64,
    },
    /// MAP_FIXED_NOREPLACE, and something is mapped there (EEXIST).
    #[error("{address:#x} is mapped already")]
    Occupied {
        /// The first page of the request that is taken.
        address: VirtAddr,
    },
    /// Part of the range is not mapped (ENOMEM).
    #[error("{address:#x} is not mapped")]
    NotMapped {
        /// The first page that is not.
        address: VirtAddr,
    },
    /// The vma may never get this protection: its descriptor was opened without (EACCES).
    #[error("protection {asked:?} asked for, {allowed:?} is all that the descriptor allows")]
    Protection {
        /// What was asked for.
        asked: Prot,
        /// What the vma may have at most.
        allowed: Prot,
    },
    /// Only a dax device keeps bad memory away (EINVAL).
    #[error("only the memory of a dax device can be poisoned")]
    NotPoisoned,
    /// No memory left for the bookkeeping (ENOMEM).
    #[error("out of memory")]
    NoMemory,
}

/// What became of an entry that a pager asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Installed {
    /// This call wrote the entry.
    New,
    /// Somebody was faster, or only the permissions were raised: the same memory is mapped now.
    Already,
    /// This many page-table frames are missing, at most three; nothing was changed. 0: the object itself needs a
    /// frame, and there is none.
    ///
    /// A `u8`, so that the answer of a fault travels in a register.
    NeedsTables(u8),
}

/// Why a fault could not be served. Every one ends in a signal, never in an errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// Nothing is mapped there (SIGSEGV, SEGV_MAPERR).
    NotMapped,
    /// The vma does not allow this access (SIGSEGV, SEGV_ACCERR).
    Protection,
    /// The object has no such byte, is dead, or cannot be mapped in entries of its size (SIGBUS, BUS_ADRERR).
    Bus,
    /// Some of the memory that the entry would show is bad (SIGBUS, BUS_MCEERR_AR).
    Poisoned,
    /// No frame left (the task is killed).
    NoMemory,
}

/// Writes one entry: maps exactly `size.bytes()` from `PhysRange`'s start at the aligned address of the
/// fault.
pub type Install<'a> = dyn FnMut(PhysRange, MapSize) -> Installed + 'a;

/// Something that can be mapped in entries of one fixed size: a dax device as one descriptor sees it.
pub trait Pager: Any + Send + Sync {
    /// The size of every entry; no operation may split a mapping below it.
    fn granule(&self) -> MapSize;

    /// May this vma exist? Asked at mmap, before anything changes.
    fn check_vma(&self, vma: &VmaRequest) -> Result<(), Refusal>;

    /// Finds what backs the entry that begins with the byte `offset_bytes` and passes it to `install`, once (module
    /// head, step 2).
    fn fault(&self, offset_bytes: u64, install: &mut Install<'_>) -> Result<Installed, FaultError>;

    /// A mapping of `space` that comes into being: what the vma keeps, and asks from now on.
    ///
    /// The object learns who maps it (`AddressSpace::revoke` follows that up) until the result is dropped. Called
    /// with the space's lock held exclusively. `Dead`, or `NoMemory`.
    fn attach(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal>;

    /// The same for the copy that fork makes of a vma. A dead object stays dead, which is no error.
    fn inherit(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal>;

    /// Names the object: `AddressSpace::revoke` takes it.
    fn key(&self) -> u64;

    /// The object and its generation, for the futexes in its memory.
    fn futex_object(&self) -> (u64, u64);

    /// Takes `len_bytes` bytes from `offset_bytes` out of use, as they went bad: nobody has an entry of them when this
    /// returns, and faults say `Poisoned`. The caller holds no lock. `NotPoisoned`: the object cannot do that.
    fn poison(&self, _offset_bytes: u64, _len_bytes: u64) -> Result<(), Refusal> {
        Err(Refusal::NotPoisoned)
    }

    /// Makes stores to `len_bytes` bytes from `offset_bytes` durable (msync, fsync).
    ///
    /// Bytes past the object's end are ignored.
    fn flush(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), Refusal>;

    /// The path that /proc/self/maps shows, such as `/dev/dax0.0`.
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}

/// A file whose pages a private mapping copies, or shows in place while it only reads.
pub trait PageSource: Any + Send + Sync {
    /// Length of the file in bytes; a fault on a page wholly behind it is SIGBUS.
    fn len_bytes(&self) -> u64;

    /// The whole page at `offset_bytes` (a multiple of 4 KiB), where it lies in memory for good and may be
    /// mapped read-only in place; `None`: it must be copied.
    fn page_in_place(&self, offset_bytes: u64) -> Option<PhysRange>;

    /// Copies the bytes from `offset_bytes` on into `page` and zeroes what lies behind the file's end.
    fn fill(&self, offset_bytes: u64, page: &mut [u8]);

    /// The path that /proc/self/maps shows.
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}
