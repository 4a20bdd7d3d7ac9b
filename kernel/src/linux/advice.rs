//! madvise: what each piece of advice means here, and what it may be given for.
//!
//! Order of checks: mm/madvise.c, `do_madvise`. Advice that changes a vma's attributes needs a vma of its
//! own, so it cannot reach below a device's entries (EINVAL); advice that only reads or drops pages can.

use super::errno::{Answer, Errno};
use super::memory::{check_reserve, lets_others_in, refused};
use super::thread::Thread;
use linux_raw_sys::general::*;
use mm::pager::{Access, FaultError, Refusal};
use mm::range::{PAGE_SIZE, VirtRange};
use mm::vma::{Backing, VmaFlags};

/// madvise(2).
#[inline(never)]
pub fn madvise(thread: &mut Thread, address: u64, len_bytes: u64, advice: u32) -> Answer {
    if !is_known(advice) || !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len_bytes = len_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    address.checked_add(len_bytes).ok_or(Errno::EINVAL)?;
    if len_bytes == 0 {
        return Ok(0);
    }
    take(thread, VirtRange::new(address, len_bytes).ok_or(Errno::ENOMEM)?, advice)
}

/// Does Linux 6.1 know it (`madvise_behavior_valid`)?
fn is_known(advice: u32) -> bool {
    matches!(advice, MADV_NORMAL..=MADV_DONTNEED | MADV_FREE..=MADV_COLLAPSE | MADV_HWPOISON | MADV_SOFT_OFFLINE)
}

fn take(thread: &mut Thread, range: VirtRange, advice: u32) -> Answer {
    let (space, (address, len_bytes)) = (thread.space.clone(), (range.start().as_u64(), range.len_bytes()));
    let populate = |access| Ok(space.populate(range, access, &mut lets_others_in).map(|()| 0)?);
    let none = VmaFlags::empty();
    let taken = match advice {
        MADV_FREE | MADV_WIPEONFORK if !is_anonymous(thread, range) => return Err(Errno::EINVAL),
        // Dropped at once, with FREE too; anonymous pages are zero afterwards.
        MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_FREE => space.dont_need(range),
        MADV_DONTFORK => space.set_flags(range, VmaFlags::DONT_FORK, none),
        MADV_DOFORK => space.set_flags(range, none, VmaFlags::DONT_FORK),
        MADV_WIPEONFORK => space.set_flags(range, VmaFlags::WIPE_ON_FORK, none),
        MADV_KEEPONFORK => space.set_flags(range, none, VmaFlags::WIPE_ON_FORK),
        MADV_POPULATE_READ => return populate(Access::Read),
        MADV_POPULATE_WRITE => return populate(Access::Write),
        // Nothing to do, but Linux would note it in the vma.
        MADV_RANDOM | MADV_SEQUENTIAL | MADV_DONTDUMP | MADV_MERGEABLE | MADV_HUGEPAGE | MADV_NOHUGEPAGE => {
            space.check_split(range)
        }
        // A hole in a file: no file of ours has any.
        MADV_REMOVE => {
            space.check_mapped(range)?;
            return Err(if is_anonymous(thread, range) { Errno::EINVAL } else { Errno::ENODEV });
        }
        // Huge pages: a device's are as huge as they get, and anonymous memory has none.
        MADV_COLLAPSE => {
            space.check_mapped(range)?;
            return Err(Errno::EINVAL);
        }
        // Nothing can be moved away from a device.
        MADV_SOFT_OFFLINE => return Err(Errno::EIO),
        MADV_HWPOISON => return poison(thread, range),
        // Nothing to do, whatever is mapped there.
        _ => space.check_mapped(range),
    };
    taken.map(|()| 0).map_err(|refusal| refused(thread, "madvise", address, len_bytes, refusal))
}

/// The caller is told by a signal, as Linux tells it (mm/memory-failure.c, kill_proc): as if it had touched the memory
/// when the call returned. All others are, when they touch it.
fn poison(thread: &mut Thread, range: VirtRange) -> Answer {
    check_reserve()?;
    thread.space.poison(range, &mut lets_others_in).map_err(|refusal| match refusal {
        Refusal::NotMapped { .. } => Errno::EFAULT,
        refusal => Errno::from(refusal),
    })?;
    thread.context.rax = 0;
    thread.page_fault_signal(FaultError::Poisoned, range.start().as_u64(), Access::Read);
    Ok(thread.context.rax)
}

/// Is everything mapped in `range` anonymous memory?
fn is_anonymous(thread: &Thread, range: VirtRange) -> bool {
    let mut anonymous = true;
    thread.space.for_each_vma(&mut |vma| {
        if vma.range.intersection(range).is_some() {
            anonymous &= matches!(vma.backing, Backing::Anonymous);
        }
    });
    anonymous
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_advice_is_taken() {
        assert!([0, 4, 8, 25, 100, 101].into_iter().all(is_known));
        for unknown in [5, 6, 7, 26, 99, 102, 104, u32::MAX] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
