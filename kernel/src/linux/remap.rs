//! mremap: the checks of Linux 6.1 mm/mremap.c in their order; the address space moves what is to be moved.

use super::errno::{Answer, Errno};
use super::memory::{pages, refused};
use super::thread::Thread;
use linux_raw_sys::general::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use mm::pager::Refusal;
use mm::range::{PAGE_SIZE, USER_END};
use mm::space::{Left, Placement, RemapRequest};
use x86_64::VirtAddr;

/// mremap(2).
pub fn mremap(
    thread: &mut Thread,
    address: u64,
    old_len_bytes: u64,
    new_len_bytes: u64,
    flags: u32,
    new_address: u64,
) -> Answer {
    let has = |flag: u32| flags & flag != 0;
    let does_move = has(MREMAP_FIXED | MREMAP_DONTUNMAP);
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0
        || (does_move && !has(MREMAP_MAYMOVE))
        || (has(MREMAP_DONTUNMAP) && old_len_bytes != new_len_bytes)
        || !address.is_multiple_of(PAGE_SIZE)
    {
        return Err(Errno::EINVAL);
    }
    // What cannot be rounded up is 0 on Linux.
    let [old, new] =
        [old_len_bytes, new_len_bytes].map(|len| len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0));
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let space = thread.space.clone();
    if address >= USER_END || space.find(VirtAddr::new_truncate(address)).is_none() {
        return Err(Errno::EFAULT);
    }
    if does_move {
        let overlaps = address.saturating_add(old) > new_address && new_address.saturating_add(new) > address;
        if !new_address.is_multiple_of(PAGE_SIZE) || new_address > USER_END.saturating_sub(new) || overlaps {
            return Err(Errno::EINVAL);
        }
    }
    let mut refused = |refusal: Refusal| match refusal {
        Refusal::NotMapped { .. } => Errno::EFAULT,
        Refusal::OffsetOverflow { .. } => Errno::EINVAL,
        refusal => refused(thread, "mremap", address, new, refusal),
    };
    // As on Linux, what is too long goes first, whatever becomes of the rest.
    if old > new {
        let cut = address.checked_add(new).and_then(|end| pages(end, old - new)).ok_or(Errno::EINVAL)?;
        space.munmap(cut).map_err(&mut refused)?;
    }
    if old >= new && !does_move {
        return Ok(address);
    }
    let placement = match flags {
        _ if has(MREMAP_FIXED) => Some(Placement::Fixed(new_address)),
        _ if has(MREMAP_DONTUNMAP) => Some(Placement::Hint(new_address)),
        _ => has(MREMAP_MAYMOVE).then_some(Placement::Anywhere),
    };
    let left = if has(MREMAP_DONTUNMAP) { Left::Mapped } else { Left::Unmapped };
    let request = RemapRequest { address, old_len_bytes: old.min(new), new_len_bytes: new, placement, left };
    Ok(space.remap(&request).map_err(refused)?.as_u64())
}
