//! Locks of files: flock(2)'s of a whole file, which an open file holds, and fcntl(2)'s of bytes, which a table of
//! descriptors holds. The two kinds do not see each other.
//!
//! A lock goes with its holder. On Linux a mapping is as good as a descriptor, and libpmemobj, which closes the device
//! when it has mapped it, counts on that: so a lock of a device lives on without its open file until the last mapping
//! made through that is gone.

use super::abi::Flock;
use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::io::tell;
use super::poll::{self, Source};
use super::thread::Thread;
use crate::clock;
use crate::dax::OpenDax;
use crate::user_memory;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general::{
    F_GETLK, F_RDLCK, F_SETLKW, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, SEEK_CUR, SEEK_END,
    SEEK_SET,
};
use mm::lock::{Rank, SpinLock};

#[derive(Clone)]
struct Held {
    holder: Weak<dyn Any + Send + Sync>,
    /// The process that has it, if it is fcntl's.
    pid: Option<i32>,
    /// The file, by its file system and inode.
    file: (u32, u32, u64),
    bytes: Range<u64>,
    is_exclusive: bool,
    /// What the open file and its mappings hold, if it is a device.
    mapped: Weak<()>,
}

/// Up to any end that the file will ever have.
const END: u64 = u64::MAX;

impl Held {
    fn of_bytes(thread: &Thread, open: &OpenFile, bytes: Range<u64>, is_exclusive: bool) -> Held {
        let holder = Arc::downgrade(&thread.files);
        let (pid, file) = (Some(thread.process.pid), open.node.metadata().identity());
        Held { holder, pid, file, bytes, is_exclusive, mapped: Weak::new() }
    }

    fn is_open(&self) -> bool {
        self.holder.strong_count() > 0
    }

    /// Are they about the same bytes?
    fn meets(&self, other: &Held) -> bool {
        let is_same_kind = self.pid.is_some() == other.pid.is_some();
        let overlap = self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end;
        self.file == other.file && is_same_kind && overlap
    }

    fn forbids(&self, wish: &Held) -> bool {
        self.meets(wish) && !self.holder.ptr_eq(&wish.holder) && (self.is_exclusive || wish.is_exclusive)
    }
}

/// How often a waiter looks for the end of mappings, which nobody announces.
const MAPPED_NS: u64 = 10_000_000;

/// Locks that there may be: each call looks at all of them, and a program may have one for each byte.
const MAX_HELD: usize = 1 << 16;

static HELD: SpinLock<Vec<Held>> = SpinLock::new(Rank::File, Vec::new());
/// A lock was given up.
static RELEASED: Source = Source::new();
/// Is there any? Each close asks; it changes under the lock.
static ANY_HELD: AtomicBool = AtomicBool::new(false);

/// Takes a lock, or says that another one forbids it: EAGAIN, with the time to look again if that is a mapping's. What
/// the holder had of these bytes becomes what it wishes now.
fn take(wish: &Held, again_ns: &mut Option<u64>) -> Answer {
    forget_unmapped();
    let mut held = HELD.lock();
    // As on Linux, who changes the lock of a whole file gives it up first.
    let changes = |own: &Held| own.holder.ptr_eq(&wish.holder) && own.is_exclusive != wish.is_exclusive;
    let given_up = held.extract_if(.., |own| wish.pid.is_none() && own.meets(wish) && changes(own)).count();
    let mut is_announced = given_up > 0;
    let answer = match held.iter().find(|other| other.forbids(wish)).map(Held::is_open) {
        Some(is_open) => {
            *again_ns = (!is_open).then(|| clock::monotonic_ns() + MAPPED_NS);
            Err(Errno::EAGAIN)
        }
        // What is cut leaves two pieces at most.
        None if held.len() >= MAX_HELD || held.try_reserve(2).is_err() => Err(Errno::ENOLCK),
        None => {
            // Who had it for himself may let others read now.
            is_announced |= cut(&mut held, wish);
            held.push(wish.clone());
            ANY_HELD.store(true, Ordering::SeqCst);
            Ok(0)
        }
    };
    drop(held);
    if is_announced {
        RELEASED.announce();
    }
    answer
}

/// Takes these bytes out of the locks of their holder; were there any? The list grows by one at most, by none when
/// the bytes reach to the [`END`].
fn cut(held: &mut Vec<Held>, bytes: &Held) -> bool {
    let (mut at, mut is_cut) = (0, false);
    while let Some(own) = held.get(at) {
        if !own.meets(bytes) || !own.holder.ptr_eq(&bytes.holder) {
            at += 1;
            continue;
        }
        let own = held.swap_remove(at);
        for rest in [own.bytes.start..bytes.bytes.start, bytes.bytes.end..own.bytes.end] {
            if !rest.is_empty() {
                held.push(Held { bytes: rest, ..own.clone() });
            }
        }
        is_cut = true;
    }
    is_cut
}

/// ENOLCK when a lock would become two and there is no room.
fn release(bytes: &Held) -> Answer {
    let mut held = HELD.lock();
    if bytes.bytes.end < END && held.try_reserve(1).is_err() {
        return Err(Errno::ENOLCK);
    }
    let is_cut = cut(&mut held, bytes);
    drop(held);
    if is_cut {
        RELEASED.announce();
    }
    Ok(0)
}

/// A descriptor of a file is closed: as POSIX has it, its table loses all locks of bytes of that file.
pub fn descriptor_closed(thread: &Thread, file: &OpenFile) {
    if ANY_HELD.load(Ordering::SeqCst) {
        // All bytes: that needs no room.
        let _ = release(&Held::of_bytes(thread, file, 0..END, false));
    }
}

/// Says that an open file or a table of descriptors is gone, for those who wait for its lock. If only mappings have the
/// lock now, which nobody announces, they look at the clock from now on.
pub fn announce_close() {
    if ANY_HELD.load(Ordering::SeqCst) && HELD.lock().iter().any(|held| !held.is_open()) {
        RELEASED.announce();
    }
}

/// Forgets the locks that neither a holder nor a mapping has any more; all of them, at the end of a run.
pub fn forget_unmapped() {
    let mut held = HELD.lock();
    let before = held.len();
    held.retain(|held| held.is_open() || held.mapped.strong_count() > 0);
    let is_shorter = held.len() < before;
    if held.is_empty() {
        // A run gives everything back.
        *held = Vec::new();
        ANY_HELD.store(false, Ordering::SeqCst);
    }
    drop(held);
    if is_shorter {
        // Whose holder is just going finds nothing left to tell of.
        RELEASED.announce();
    }
}

fn wait(thread: &mut Thread, wish: &Held, what: &'static str) -> Answer {
    let answer = poll::wait(thread, None, what, &mut |_, changes| {
        *changes = RELEASED.changes();
        take(wish, &mut changes.at_ns)
    });
    if answer == Err(Errno::EINTR) { Err(thread.restartable()) } else { answer }
}

/// flock(2).
pub fn flock(thread: &mut Thread, fd: i32, operation: u32) -> Answer {
    let file = thread.file(fd)?;
    let wish = Held {
        holder: Arc::<OpenFile>::downgrade(&file),
        pid: None,
        mapped: file.node_as::<Arc<OpenDax>>().map(|open| open.opening()).unwrap_or_default(),
        ..Held::of_bytes(thread, &file, 0..END, operation & LOCK_EX != 0)
    };
    match operation & !LOCK_NB {
        LOCK_UN => release(&wish),
        LOCK_SH | LOCK_EX if operation & LOCK_NB != 0 => take(&wish, &mut None),
        LOCK_SH | LOCK_EX => wait(thread, &wish, "flock"),
        _ => Err(Errno::EINVAL),
    }
}

/// fcntl(2)'s F_GETLK, F_SETLK, F_SETLKW. Who waits in a circle waits until a signal comes: no EDEADLK.
pub fn lock_bytes(thread: &mut Thread, file: &OpenFile, command: u32, address: u64) -> Answer {
    let lock: Flock = user_memory::read_value(address)?;
    let kind = u32::from(lock.l_type as u16);
    let wish = Held::of_bytes(thread, file, range(file, &lock)?, kind == F_WRLCK);
    match (kind, command) {
        (F_RDLCK | F_WRLCK, F_GETLK) => {
            forget_unmapped();
            let found = HELD.lock().iter().find(|other| other.forbids(&wish)).cloned();
            let Some(Held { bytes, pid, is_exclusive, .. }) = found else {
                return tell(address, &Flock { l_type: F_UNLCK as i16, ..lock });
            };
            let l_type = if is_exclusive { F_WRLCK } else { F_RDLCK } as i16;
            let l_len = if bytes.end == END { 0 } else { bytes.end - bytes.start } as i64;
            let (l_start, l_whence, l_pid) = (bytes.start as i64, SEEK_SET as i16, pid.unwrap_or_default());
            tell(address, &Flock { l_type, l_whence, l_start, l_len, l_pid, ..lock })
        }
        (F_RDLCK, _) if !file.is_readable() => Err(Errno::EBADF),
        (F_WRLCK, _) if !file.is_writable() => Err(Errno::EBADF),
        (F_RDLCK | F_WRLCK, F_SETLKW) => wait(thread, &wish, "fcntl"),
        (F_RDLCK | F_WRLCK, _) => take(&wish, &mut None),
        (F_UNLCK, command) if command != F_GETLK => release(&wish),
        _ => Err(Errno::EINVAL),
    }
}

/// The bytes that a `struct flock` is about (fs/locks.c, flock64_to_posix_lock).
fn range(file: &OpenFile, lock: &Flock) -> Result<Range<u64>, Errno> {
    let base = match lock.l_whence as u32 {
        SEEK_SET => 0,
        SEEK_CUR => file.position(),
        SEEK_END => file.node.metadata().size_bytes,
        _ => return Err(Errno::EINVAL),
    };
    let at = i64::try_from(base).ok().and_then(|base| base.checked_add(lock.l_start));
    let at = at.ok_or(Errno::EOVERFLOW)?;
    let start = u64::try_from(at.saturating_add(lock.l_len.min(0))).map_err(|_| Errno::EINVAL)?;
    Ok(match lock.l_len {
        ..0 => start..at as u64,
        0 => start..END,
        len if len - 1 > i64::MAX - at => return Err(Errno::EOVERFLOW),
        len => start..start + len as u64,
    })
}
