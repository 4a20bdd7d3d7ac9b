//! madvise: what each piece of advice means here, and what it may be given for.
//!
//! Order of checks: mm/madvise.c, `do_madvise`. Advice that changes a vma's attributes needs a vma of its
//! own, so it cannot reach below a device's entries (EINVAL); advice that only reads or drops pages can.

use super::errno::{Answer, Errno};
use super::memory::{check_range, lets_others_in, log_range_refusal};
use super::thread::Thread;
use linux_raw_sys::general::*;
use mm::pager::{Access, Refusal};
use mm::range::{PAGE_SIZE, VirtRange};
use mm::vma::{Backing, VmaFlags};

/// madvise(2).
#[inline(never)]
pub fn madvise(thread: &mut Thread, address: u64, len_bytes: u64, advice: u32) -> Answer {
    let advice = Advice::parse(advice).ok_or(Errno::EINVAL)?;
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len_bytes = len_bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let end = address.checked_add(len_bytes).ok_or(Errno::EINVAL)?;
    if len_bytes == 0 {
        return Ok(0);
    }
    check_range(address, len_bytes).ok_or(Errno::ENOMEM)?;
    let range = VirtRange::from_bounds(address, end).ok_or(Errno::ENOMEM)?;
    take(thread, range, advice).map(|()| 0)
}

/// Advice by what has to be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Advice {
    /// Nothing to do, whatever is mapped there (NORMAL, WILLNEED, COLD, PAGEOUT ...).
    Ignore,
    /// Nothing to do, but Linux would note it in the vma (RANDOM, DONTDUMP, HUGEPAGE ...).
    Note,
    /// Drop the pages; anonymous ones are zero afterwards.
    Drop,
    /// Drop the pages some time; anonymous memory only.
    Free,
    /// Set or clear marks.
    Mark { set: VmaFlags, clear: VmaFlags },
    /// Give a child zeros; private anonymous memory only.
    WipeOnFork,
    /// Fault in.
    Populate(Access),
    /// Punch a hole into a file: no file of ours has any.
    Remove,
    /// Make huge pages: a device's are as huge as they get, and anonymous memory has none.
    Collapse,
    /// Take a page out of use because it may go bad: nothing can be moved away from a device.
    SoftOffline,
}

impl Advice {
    fn parse(advice: u32) -> Option<Advice> {
        Some(match advice {
            MADV_NORMAL | MADV_WILLNEED | MADV_COLD | MADV_PAGEOUT | MADV_UNMERGEABLE | MADV_DODUMP => {
                Advice::Ignore
            }
            MADV_RANDOM | MADV_SEQUENTIAL | MADV_DONTDUMP | MADV_MERGEABLE | MADV_HUGEPAGE
            | MADV_NOHUGEPAGE => Advice::Note,
            MADV_DONTNEED | MADV_DONTNEED_LOCKED => Advice::Drop,
            MADV_FREE => Advice::Free,
            MADV_DONTFORK => Advice::Mark { set: VmaFlags::DONT_FORK, clear: VmaFlags::empty() },
            MADV_DOFORK => Advice::Mark { set: VmaFlags::empty(), clear: VmaFlags::DONT_FORK },
            MADV_WIPEONFORK => Advice::WipeOnFork,
            MADV_KEEPONFORK => Advice::Mark { set: VmaFlags::empty(), clear: VmaFlags::WIPE_ON_FORK },
            MADV_POPULATE_READ => Advice::Populate(Access::Read),
            MADV_POPULATE_WRITE => Advice::Populate(Access::Write),
            MADV_REMOVE => Advice::Remove,
            MADV_COLLAPSE => Advice::Collapse,
            MADV_SOFT_OFFLINE => Advice::SoftOffline,
            // MADV_HWPOISON too: as on a Linux without CONFIG_MEMORY_FAILURE.
            _ => return None,
        })
    }
}

fn take(thread: &mut Thread, range: VirtRange, advice: Advice) -> Result<(), Errno> {
    let (address, len_bytes) = (range.start().as_u64(), range.len_bytes());
    let space = thread.space.clone();
    let result = match advice {
        Advice::Ignore => space.check_mapped(address, len_bytes),
        Advice::Note => space.check_split(address, len_bytes),
        Advice::Drop => space.dont_need(address, len_bytes),
        Advice::Mark { set, clear } => space.set_flags(address, len_bytes, set, clear),
        Advice::Free | Advice::WipeOnFork if !is_anonymous(thread, range) => return Err(Errno::EINVAL),
        Advice::Free => space.dont_need(address, len_bytes),
        Advice::WipeOnFork => space.set_flags(address, len_bytes, VmaFlags::WIPE_ON_FORK, VmaFlags::empty()),
        Advice::Populate(access) => {
            return space.populate(range, access, &mut lets_others_in).1.map_err(Errno::from);
        }
        Advice::Remove => {
            space.check_mapped(address, len_bytes)?;
            return Err(if is_anonymous(thread, range) { Errno::EINVAL } else { Errno::ENODEV });
        }
        Advice::Collapse => {
            space.check_mapped(address, len_bytes)?;
            return Err(Errno::EINVAL);
        }
        Advice::SoftOffline => return Err(Errno::EIO),
    };
    result.map_err(|refusal: Refusal| {
        log_range_refusal(thread, "madvise", address, len_bytes, refusal);
        Errno::from(refusal)
    })
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
        assert_eq!(Advice::parse(MADV_DONTNEED), Some(Advice::Drop));
        assert_eq!(Advice::parse(MADV_COLLAPSE), Some(Advice::Collapse));
        for unknown in [5, 6, 7, 26, 99, 100, 104, u32::MAX] {
            assert_eq!(Advice::parse(unknown), None, "{unknown}");
        }
    }
}
