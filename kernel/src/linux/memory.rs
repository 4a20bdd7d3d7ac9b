//! mmap and its kin: Linux's flags and order of checks; the address space decides the rest.
//!
//! Orders are those of Linux 6.1 mm/mmap.c (`do_mmap`), mm/mprotect.c and mm/msync.c, so that a call with
//! two faults answers the same errno. Where a device is refused, the log says why (Linux says EINVAL).

use super::dev::DAX_MAJOR;
use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::thread::Thread;
use crate::machine::machine;
use crate::task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use linux_raw_sys::general::*;
use mm::pager::{Access, Prot, Refusal, Sharing};
use mm::range::{PAGE_SIZE, USER_END, VirtRange};
use mm::shared::SharedPages;
use mm::space::{AddressSpace, MapRequest, Placement};
use mm::vma::{Backing, VmaFlags};

/// Flags that MAP_SHARED_VALIDATE knows for every file (include/linux/mman.h, LEGACY_MAP_MASK; the zero ones
/// left out). MAP_FIXED_NOREPLACE is not among them, as on Linux.
const LEGACY_FLAGS: u32 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_HUGE_2MB
    | MAP_HUGE_1GB;

/// What the kernel keeps for itself: calls that allocate for good on a program's behalf (descriptors, file
/// mappings) answer ENOMEM when fewer frames are free.
const RESERVED_FRAMES: u64 = 32;

/// For long work on a program's memory: lets others run, and says whether this thread is to go on.
pub fn lets_others_in() -> bool {
    task::preempt_point();
    task::with_current(|task| task.attention() & task::ATTEND_EXIT == 0)
}

/// Is there memory for one more small object of a program?
pub fn check_reserve() -> Result<(), Errno> {
    if machine().memory.frames.free_frames() < RESERVED_FRAMES { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// An empty vector with room for `count` elements, or ENOMEM: for what a program decides the size of.
pub fn vec_for<T>(count: usize) -> Result<Vec<T>, Errno> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    Ok(vec)
}

/// Runs `copy` with another address space loaded; the caller's own is loaded again when this returns.
pub fn within<T>(space: &Arc<AddressSpace>, copy: impl FnOnce() -> T) -> T {
    let own = task::current_space();
    task::use_space(Some(Arc::clone(space)));
    let result = copy();
    task::use_space(own);
    result
}

/// Private anonymous memory at a place where nothing else is.
pub fn private(address: u64, len_bytes: u64, prot: Prot) -> MapRequest {
    MapRequest {
        placement: Placement::FixedNoReplace(address),
        len_bytes,
        prot,
        max_prot: Prot::all(),
        sharing: Sharing::Private,
        backing: Backing::Anonymous,
        offset_bytes: 0,
        flags: VmaFlags::empty(),
        name: "",
    }
}

/// mmap(2).
#[inline(never)]
pub fn mmap(
    thread: &mut Thread,
    address: u64,
    len_bytes: u64,
    prot: u32,
    flags: u32,
    fd: i32,
    offset_bytes: u64,
) -> Answer {
    if !offset_bytes.is_multiple_of(PAGE_SIZE) {
        return Err(refused_offset(thread, fd, flags, offset_bytes));
    }
    let file = match flags & MAP_ANONYMOUS {
        0 => Some(thread.file(fd)?),
        _ => None,
    };
    // There is no hugetlbfs file, and no huge page was reserved (Linux: mm/hugetlb.c, hugetlb_reserve_pages).
    if flags & MAP_HUGETLB != 0 {
        return Err(if file.is_some() { Errno::EINVAL } else { Errno::ENOMEM });
    }
    check_geometry(address, len_bytes, flags)?;
    let target = match &file {
        // Anonymous memory has no offset that could overflow.
        Some(_) if offset_bytes.checked_add(len_bytes.next_multiple_of(PAGE_SIZE)).is_none() => {
            return Err(Errno::EOVERFLOW);
        }
        Some(file) => file_target(file, prot, flags)?,
        None => anonymous_target(flags)?,
    };
    let (backing, offset_bytes) = match target.backing {
        Backing::Anonymous if target.sharing == Sharing::Shared => (shared_zeros(len_bytes)?, 0),
        backing => (backing, offset_bytes),
    };
    let request = MapRequest {
        placement: placement(address, flags),
        len_bytes,
        prot: to_prot(prot),
        max_prot: target.max_prot,
        sharing: target.sharing,
        backing,
        offset_bytes,
        flags: target.flags,
        name: "",
    };
    let start = thread.space.mmap(&request).map_err(|refusal| {
        log_refusal(thread, &request.backing, refusal);
        Errno::from(refusal)
    })?;
    if flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE || flags & MAP_LOCKED != 0 {
        let access = if request.prot.contains(Prot::WRITE) { Access::Write } else { Access::Read };
        // As far as it goes: the call has succeeded already.
        if let Some(range) = pages(start.as_u64(), len_bytes) {
            let _ = thread.space.populate(range, access, &mut lets_others_in);
        }
    }
    Ok(start.as_u64())
}

/// Memory without a file that children share.
fn shared_zeros(len_bytes: u64) -> Result<Backing, Errno> {
    check_reserve()?;
    SharedPages::new(len_bytes, machine().memory.frames).map(Backing::Shared).ok_or(Errno::ENOMEM)
}

/// What a mapping shows, and the most it may ever be allowed to do.
struct Target {
    backing: Backing,
    sharing: Sharing,
    max_prot: Prot,
    flags: VmaFlags,
}

/// The checks of do_mmap and get_unmapped_area that need no object.
fn check_geometry(address: u64, len_bytes: u64, flags: u32) -> Result<(), Errno> {
    if len_bytes == 0 {
        return Err(Errno::EINVAL);
    }
    let len_bytes = len_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    if len_bytes > USER_END {
        return Err(Errno::ENOMEM);
    }
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if address > USER_END - len_bytes {
            return Err(Errno::ENOMEM);
        }
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn anonymous_target(flags: u32) -> Result<Target, Errno> {
    let grows_down = flags & MAP_GROWSDOWN != 0;
    let sharing = match flags & MAP_TYPE {
        MAP_PRIVATE => Sharing::Private,
        MAP_SHARED if !grows_down => Sharing::Shared,
        _ => return Err(Errno::EINVAL),
    };
    let flags = if grows_down { VmaFlags::GROWS_DOWN } else { VmaFlags::empty() };
    Ok(Target { backing: Backing::Anonymous, sharing, max_prot: Prot::all(), flags })
}

fn file_target(file: &OpenFile, prot: u32, flags: u32) -> Result<Target, Errno> {
    let sharing = match flags & MAP_TYPE {
        MAP_SHARED => Sharing::Shared,
        MAP_SHARED_VALIDATE => {
            // Only dax devices know MAP_SYNC (drivers/dax/device.c, mmap_supported_flags).
            let is_device = file.node.metadata().device.0 == DAX_MAJOR;
            let known = LEGACY_FLAGS | if is_device { MAP_SYNC } else { 0 };
            if flags & !known & !MAP_TYPE != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            Sharing::Shared
        }
        MAP_PRIVATE => Sharing::Private,
        _ => return Err(Errno::EINVAL),
    };
    let mut allowed = Prot::all();
    if sharing == Sharing::Shared && !file.is_writable() {
        if prot & PROT_WRITE != 0 {
            return Err(Errno::EACCES);
        }
        allowed = allowed.difference(Prot::WRITE);
    }
    if !file.is_readable() {
        return Err(Errno::EACCES);
    }
    let (backing, max_prot) = file.node.map(sharing)?;
    if flags & MAP_GROWSDOWN != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Target { backing, sharing, max_prot: max_prot.intersection(allowed), flags: VmaFlags::empty() })
}

fn placement(address: u64, flags: u32) -> Placement {
    if flags & MAP_FIXED_NOREPLACE != 0 {
        return Placement::FixedNoReplace(address);
    }
    if flags & MAP_FIXED != 0 {
        return Placement::Fixed(address);
    }
    match address {
        _ if flags & MAP_32BIT != 0 => Placement::Below2G,
        0 => Placement::Anywhere,
        hint => Placement::Hint(hint),
    }
}

/// PROT_* as what the program may do: the same bits; others that Linux ignores are ignored.
fn to_prot(prot: u32) -> Prot {
    Prot::from_bits_truncate(prot as u8)
}

const _: () = assert!(PROT_READ as u8 == Prot::READ.bits() && PROT_WRITE as u8 == Prot::WRITE.bits());
const _: () = assert!(PROT_EXEC as u8 == Prot::EXEC.bits());

fn refused_offset(thread: &mut Thread, fd: i32, flags: u32, offset_bytes: u64) -> Errno {
    let file = thread.file(fd).ok().filter(|_| flags & MAP_ANONYMOUS == 0);
    let backing = file
        .and_then(|file| file.node.map(Sharing::Shared).ok())
        .map_or(Backing::Anonymous, |mapped| mapped.0);
    let refusal = Refusal::Misaligned { what: "offset", value: offset_bytes, align: backing.granule() };
    log_refusal(thread, &backing, refusal);
    Errno::from(refusal)
}

/// Says in the log why a device was not mapped: EINVAL alone has cost people days.
fn log_refusal(thread: &mut Thread, backing: &Backing, refusal: Refusal) {
    let Backing::Device(pager) = backing else { return };
    if thread.may_log() {
        let path = fmt::from_fn(|f| pager.write_path(f));
        log::warn!("mmap of {path} refused: {refusal}");
    }
}

/// munmap(2).
pub fn munmap(thread: &mut Thread, address: u64, len_bytes: u64) -> Answer {
    let range =
        pages(address, len_bytes).filter(|_| address.is_multiple_of(PAGE_SIZE)).ok_or(Errno::EINVAL)?;
    thread.space.munmap(range).map_err(|refusal| refused(thread, "munmap", address, len_bytes, refusal))?;
    Ok(0)
}

/// mprotect(2).
pub fn mprotect(thread: &mut Thread, address: u64, len_bytes: u64, prot: u32) -> Answer {
    if prot & (PROT_GROWSDOWN | PROT_GROWSUP) != 0 || !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if len_bytes == 0 {
        return Ok(0);
    }
    let range = pages(address, len_bytes).ok_or(Errno::ENOMEM)?;
    if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    let changed = thread.space.mprotect(range, to_prot(prot));
    changed.map_err(|refusal| refused(thread, "mprotect", address, len_bytes, refusal))?;
    Ok(0)
}

/// What a refused call answers; the log says that it would have split an entry: others speak for themselves.
pub fn refused(thread: &mut Thread, call: &str, address: u64, len_bytes: u64, refusal: Refusal) -> Errno {
    if matches!(refusal, Refusal::Misaligned { .. }) && thread.may_log() {
        log::warn!("{call} of {len_bytes:#x} bytes at {address:#x} refused: {refusal}");
    }
    refusal.into()
}

/// The pages from `address`, where one begins, to the end of `len_bytes` bytes; `None` when there are none, or when
/// they leave the program's half.
pub fn pages(address: u64, len_bytes: u64) -> Option<VirtRange> {
    VirtRange::new(address, len_bytes.checked_next_multiple_of(PAGE_SIZE)?)
}

/// msync(2): MS_SYNC on a device flushes what its medium needs (Linux answers EINVAL; error matrix).
pub fn msync(thread: &mut Thread, address: u64, len_bytes: u64, flags: u32) -> Answer {
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0
        || !address.is_multiple_of(PAGE_SIZE)
        || flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC
    {
        return Err(Errno::EINVAL);
    }
    if len_bytes == 0 {
        return Ok(0);
    }
    let range = pages(address, len_bytes).ok_or(Errno::ENOMEM)?;
    match flags & MS_SYNC {
        0 => thread.space.check_mapped(range)?,
        _ => thread.space.flush_device(range)?,
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
