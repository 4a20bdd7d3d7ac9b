//! System V shared memory (ipc/shm.c): segments with a number, which outlive who made them.
//!
//! The table holds a segment's pages until IPC_RMID; from then on only its mappings do, and it is gone with the last
//! of them. A run of `init=` takes its segments along. Not here: permissions, for everybody is root; times;
//! locking, IPC_SET and the commands that count segments, which answer EINVAL.

use super::errno::{Answer, Errno};
use super::io::tell;
use super::memory::{check_reserve, private};
use super::thread::Thread;
use crate::machine::machine;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use mm::lock::{Rank, SpinLock};
use mm::pager::{Prot, Refusal, Sharing};
use mm::range::{PAGE_SIZE, USER_END};
use mm::shared::SharedPages;
use mm::space::{MapRequest, Placement};
use mm::vma::{Backing, Vma};
use x86_64::VirtAddr;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// include/uapi/linux/ipc.h and shm.h, which linux-raw-sys lacks.
const IPC_PRIVATE: i32 = 0;
const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
const IPC_RMID: u32 = 0;
const IPC_STAT: u32 = 2;
const SHM_DEST: u32 = 0o1000;
const SHM_HUGETLB: u32 = 0o4000;
const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100000;
/// The most segments (SHMMNI).
const MAX_SEGMENTS: usize = 4096;

/// struct shmid64_ds (asm-generic/shmbuf.h), with its struct ipc64_perm spelled out.
#[repr(C)]
#[derive(FromZeros, IntoBytes, Immutable)]
struct Status {
    key: i32,
    owners: [u32; 4],
    mode: u32,
    sequence: [u64; 3],
    size_bytes: u64,
    times: [u64; 3],
    creator: i32,
    last_user: i32,
    attached: u64,
    unused: [u64; 2],
}

const _: () = assert!(size_of::<Status>() == 112);

struct Segment {
    id: i32,
    key: i32,
    mode: u32,
    size_bytes: u64,
    creator: i32,
    pages: Weak<SharedPages>,
    /// The same until IPC_RMID.
    kept: Option<Arc<SharedPages>>,
}

/// All segments, and some that are gone already.
static TABLE: SpinLock<Vec<Segment>> = SpinLock::new(Rank::File, Vec::new());
/// The number of the next segment: 31 bits of it.
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// The segment of this number, and its pages: the caller drops them when the table is unlocked.
fn find(table: &mut [Segment], id: i32) -> Result<(&mut Segment, Arc<SharedPages>), Errno> {
    let segment = table.iter_mut().find(|segment| segment.id == id).ok_or(Errno::EINVAL)?;
    let pages = segment.pages.upgrade().ok_or(Errno::EINVAL)?;
    Ok((segment, pages))
}

/// Forgets all segments: the run is over.
pub fn forget_all() {
    // Taken out first: their pages are freed with the table unlocked.
    let _segments = core::mem::take(&mut *TABLE.lock());
}

/// shmget(2).
pub fn shmget(thread: &mut Thread, key: i32, size_bytes: u64, flags: u32) -> Answer {
    check_reserve()?;
    // Before the table is locked, and dropped after that when it is not needed.
    let mut new = SharedPages::new(size_bytes, machine().memory.frames);
    let mut table = TABLE.lock();
    table.retain(|segment| segment.pages.strong_count() > 0);
    let mut named = table.iter().filter(|segment| key != IPC_PRIVATE && segment.key == key);
    if let Some(segment) = named.find(|segment| segment.kept.is_some()) {
        return match flags & (IPC_CREAT | IPC_EXCL) {
            flags if flags == IPC_CREAT | IPC_EXCL => Err(Errno::EEXIST),
            _ if size_bytes > segment.size_bytes => Err(Errno::EINVAL),
            _ => Ok(segment.id as u64),
        };
    }
    if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
        return Err(Errno::ENOENT);
    }
    if size_bytes == 0 {
        return Err(Errno::EINVAL);
    }
    if table.len() >= MAX_SEGMENTS {
        return Err(Errno::ENOSPC);
    }
    table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    // No huge page was reserved, as for MAP_HUGETLB.
    let kept = new.take_if(|_| flags & SHM_HUGETLB == 0).ok_or(Errno::ENOMEM)?;
    let id = (NEXT_ID.fetch_add(1, Ordering::Relaxed) & i32::MAX as u32) as i32;
    table.push(Segment {
        id,
        key,
        mode: flags & 0o777,
        size_bytes,
        creator: thread.process.pid,
        pages: Arc::downgrade(&kept),
        kept: Some(kept),
    });
    Ok(id as u64)
}

/// shmat(2): the address.
pub fn shmat(thread: &mut Thread, id: i32, address: u64, flags: u32) -> Answer {
    let place = if flags & SHM_RND != 0 { address & !(PAGE_SIZE - 1) } else { address };
    let placement = match place {
        0 if flags & SHM_REMAP != 0 => return Err(Errno::EINVAL),
        0 => Placement::Anywhere,
        place if !place.is_multiple_of(PAGE_SIZE) => return Err(Errno::EINVAL),
        place if flags & SHM_REMAP != 0 => Placement::Fixed(place),
        place => Placement::FixedNoReplace(place),
    };
    let (pages, size_bytes) = {
        let mut table = TABLE.lock();
        let (segment, pages) = find(&mut table, id)?;
        (pages, segment.size_bytes)
    };
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, flags & SHM_RDONLY == 0);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let request = MapRequest {
        placement,
        max_prot: prot | Prot::EXEC,
        sharing: Sharing::Shared,
        backing: Backing::Shared(pages),
        ..private(0, size_bytes, prot)
    };
    check_reserve()?;
    let start = thread.space.mmap(&request).map_err(|refusal| match refusal {
        Refusal::Occupied { .. } | Refusal::NoAddresses { .. } if place != 0 => Errno::EINVAL,
        refusal => refusal.into(),
    })?;
    Ok(start.as_u64())
}

/// shmdt(2): unmaps the segment that was attached there, up to where the program has put something else.
pub fn shmdt(thread: &mut Thread, address: u64) -> Answer {
    let shows_segment = |vma: &Vma, at: u64| {
        let Backing::Shared(pages) = &vma.backing else { return false };
        let is_its = |segment: &Segment| core::ptr::eq(segment.pages.as_ptr(), Arc::as_ptr(pages));
        let is_there = vma.range.start().as_u64() == at && vma.offset_bytes == at - address;
        is_there && TABLE.lock().iter().any(is_its)
    };
    let mut at = address;
    while at < USER_END
        && let Some(vma) = thread.space.find(VirtAddr::new_truncate(at))
        && shows_segment(&vma, at)
    {
        thread.space.munmap(vma.range)?;
        at = vma.range.end().as_u64();
    }
    if at == address { Err(Errno::EINVAL) } else { Ok(0) }
}

/// shmctl(2): IPC_STAT and IPC_RMID.
pub fn shmctl(id: i32, command: u32, buffer: u64) -> Answer {
    if !matches!(command, IPC_RMID | IPC_STAT) {
        return Err(Errno::EINVAL);
    }
    let mut table = TABLE.lock();
    let (segment, pages) = find(&mut table, id)?;
    match command {
        IPC_RMID => {
            let kept = segment.kept.take();
            drop(table);
            drop((kept, pages));
            Ok(0)
        }
        _ => {
            let is_kept = segment.kept.is_some();
            let status = Status {
                key: if is_kept { segment.key } else { IPC_PRIVATE },
                mode: segment.mode | if is_kept { 0 } else { SHM_DEST },
                size_bytes: segment.size_bytes,
                creator: segment.creator,
                // Not the table's, nor this call's.
                attached: (Arc::strong_count(&pages) - 1 - usize::from(is_kept)) as u64,
                ..Status::new_zeroed()
            };
            drop(table);
            drop(pages);
            tell(buffer, &status)
        }
    }
}
