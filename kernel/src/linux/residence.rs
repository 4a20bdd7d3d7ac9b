//! What is in memory: mincore, mlock and its kin, move_pages.
//!
//! Nothing is ever swapped out, so a page that was touched stays, and to lock memory is to touch it once. All
//! memory is of one node, number 0.

use super::errno::{Answer, Errno};
use super::memory::{lets_others_in, pages};
use super::process;
use super::thread::Thread;
use crate::user_memory;
use linux_raw_sys::general::{MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT};
use mm::pager::{Access, FaultError};
use mm::range::{PAGE_SIZE, VirtRange};
use mm::vma::{Backing, Vma};
use x86_64::VirtAddr;

/// move_pages(2) may move what others map, too (include/uapi/linux/mempolicy.h).
const MPOL_MF_MOVE: u32 = 2;
const MPOL_MF_MOVE_ALL: u32 = 4;

/// The vma that holds a program's address.
fn find(thread: &Thread, address: u64) -> Option<Vma> {
    thread.space.find(VirtAddr::try_new(address).ok()?)
}

/// Has the program's page table an entry there?
fn is_present(thread: &Thread, address: u64) -> bool {
    thread.space.walk(VirtAddr::new_truncate(address)).leaf.is_some()
}

/// mincore(2): 1 for each page that a touch would not have to make or to find. Files lie in memory.
#[inline(never)]
pub fn mincore(thread: &mut Thread, address: u64, len_bytes: u64, vector: u64) -> Answer {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if len_bytes == 0 {
        return Ok(0);
    }
    let (mut page, end) = pages(address, len_bytes).ok_or(Errno::ENOMEM)?.bounds();
    let mut out = vector;
    let mut bytes = [0; 512];
    while page < end && lets_others_in() {
        let count = ((end - page) / PAGE_SIZE).min(bytes.len() as u64);
        let bytes = &mut bytes[..count as usize];
        for byte in &mut *bytes {
            let vma = find(thread, page).ok_or(Errno::ENOMEM)?;
            *byte = u8::from(matches!(vma.backing, Backing::Private(_)) || is_present(thread, page));
            page += PAGE_SIZE;
        }
        user_memory::write(out, bytes)?;
        out += count;
    }
    Ok(0)
}

/// mlock(2), mlock2(2).
pub fn mlock(thread: &mut Thread, address: u64, len_bytes: u64, flags: u32) -> Answer {
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    let Some(range) = mapped(thread, address, len_bytes)? else { return Ok(0) };
    if flags & MLOCK_ONFAULT == 0 {
        // mm/mlock.c, __mlock_posix_error_return.
        thread.space.populate(range, Access::Read, &mut lets_others_in).map_err(|error| match error {
            FaultError::NoMemory => Errno::EAGAIN,
            FaultError::NotMapped | FaultError::Protection | FaultError::Bus => Errno::ENOMEM,
            FaultError::Poisoned => Errno::EHWPOISON,
        })?;
    }
    Ok(0)
}

/// munlock(2): there is nothing to undo.
pub fn munlock(thread: &mut Thread, address: u64, len_bytes: u64) -> Answer {
    mapped(thread, address, len_bytes)?;
    Ok(0)
}

/// The pages of a range that is mapped as a whole; `None` when it is empty.
fn mapped(thread: &Thread, address: u64, len_bytes: u64) -> Result<Option<VirtRange>, Errno> {
    let start = address - address % PAGE_SIZE;
    let len_bytes = len_bytes.checked_add(address - start).ok_or(Errno::EINVAL)?;
    if len_bytes == 0 {
        return Ok(None);
    }
    let range = pages(start, len_bytes).ok_or(Errno::ENOMEM)?;
    thread.space.check_mapped(range)?;
    Ok(Some(range))
}

/// mlockall(2): only the flags are looked at.
pub fn mlockall(flags: u32) -> Answer {
    let asks_for_any = flags & (MCL_CURRENT | MCL_FUTURE) != 0;
    let knows_all = flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
    if asks_for_any && knows_all { Ok(0) } else { Err(Errno::EINVAL) }
}

/// move_pages(2) without nodes to move to: where each page is. With one node there is nowhere to move.
pub fn move_pages(
    thread: &mut Thread,
    pid: i32,
    count: u64,
    pages: u64,
    nodes: u64,
    status: u64,
    flags: u32,
) -> Answer {
    if flags & !(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL);
    }
    if pid != 0 && pid != thread.process.pid {
        return Err(if process::find(pid).is_some() { Errno::EPERM } else { Errno::ESRCH });
    }
    if nodes != 0 {
        return Err(Errno::ENODEV);
    }
    for index in 0..count {
        // Long before this wraps it leaves the program's half, which is EFAULT.
        let page = user_memory::read_value(pages.wrapping_add(index.wrapping_mul(8)))?;
        let errno = match find(thread, page).map(|vma| vma.backing) {
            None => Some(Errno::EFAULT),
            // Memory of a device is of no node (mm/migrate.c, do_pages_stat_array).
            Some(Backing::Device(_)) => Some(Errno::ENOENT),
            Some(_) => (!is_present(thread, page)).then_some(Errno::ENOENT),
        };
        let answer = errno.map_or(0, |errno| errno.to_rax() as i32);
        user_memory::write_value(status.wrapping_add(index.wrapping_mul(4)), &answer)?;
        if index % 512 == 511 && !lets_others_in() {
            break;
        }
    }
    Ok(0)
}
