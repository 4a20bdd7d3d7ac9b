//! epoll: a file that knows which other files its program waits for.
//!
//! Nothing is queued when a file changes: who waits looks at all files of interest, as in poll(2). An edge-triggered one
//! has told what it had to tell until the `edge` of its changes moves. Looking takes the locks of those files, and an
//! epoll may be one of them; but one that is in another takes none itself, so there are no circles.

use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::memory::check_reserve;
use super::node::{Node, Seek};
use super::open::open_anonymous;
use super::poll::{self, Changes, Source};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::time;
use crate::clock;
use crate::user_memory;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general::*;
use mm::lock::SpaceLock;

/// struct epoll_event, which is packed: the events, and the program's word in two halves.
type Event = [u32; 3];

/// Flags beside the events that poll(2) knows (fs/eventpoll.c, EP_PRIVATE_BITS). Who waits for a file is always woken, so
/// EPOLLEXCLUSIVE, which spares some, changes nothing.
const FLAGS: u32 = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;

/// A file that the program waits for, by the descriptor that it had.
struct Interest {
    fd: i32,
    /// Gone when its last descriptor is: then nobody is interested any more.
    file: Weak<OpenFile>,
    /// Events and flags; no events are left when it was told once (EPOLLONESHOT).
    events: u32,
    data: [u32; 2],
    /// The edge that was told last.
    told: Option<u64>,
}

impl Interest {
    /// Events to be told, and the edge that they belong to; adds how that may change.
    fn look(&self, changes: &mut Changes) -> (u32, u64) {
        let Some(file) = self.file.upgrade() else { return (0, 0) };
        let mut own = Changes::default();
        let events = poll::events(&file, self.events & !FLAGS, &mut own) & self.events;
        *changes = changes.and(own);
        let is_told = self.events & EPOLLET != 0 && self.told == Some(own.edge);
        (if is_told { 0 } else { events }, own.edge)
    }
}

/// The file behind an epoll descriptor.
struct Epoll {
    interests: SpaceLock<Vec<Interest>>,
    /// There are others than before.
    changed: Source,
    /// [`OUTER`] or [`INNER`], for good, once it has to do with another.
    place: AtomicU32,
}

/// It has others in it.
const OUTER: u32 = 1;
/// It is in another.
const INNER: u32 = 2;

impl Epoll {
    /// ELOOP when it is the other already.
    fn become_one(&self, place: u32) -> Result<(), Errno> {
        match self.place.compare_exchange(0, place, Ordering::SeqCst, Ordering::SeqCst) {
            Err(other) if other != place => Err(Errno::ELOOP),
            _ => Ok(()),
        }
    }

    /// Tells up to `count` of the files that have something to tell; how many, or EAGAIN.
    fn tell(&self, out: u64, count: usize, changes: &mut Changes) -> Answer {
        let mut interests = self.interests.write();
        *changes = changes.and(self.changed.changes());
        interests.retain(|interest| interest.file.strong_count() > 0);
        let (mut told, mut looked) = (0, 0);
        for interest in interests.iter_mut() {
            if told == count {
                break;
            }
            looked += 1;
            let (events, edge) = interest.look(changes);
            if events == 0 {
                continue;
            }
            let [low, high] = interest.data;
            let address = out.wrapping_add((told * size_of::<Event>()) as u64);
            match user_memory::write_value(address, &[events, low, high]) {
                Err(bad) if told == 0 => return Err(bad.into()),
                Err(_) => break,
                Ok(()) => told += 1,
            }
            interest.told = Some(edge);
            if interest.events & EPOLLONESHOT != 0 {
                interest.events &= FLAGS;
            }
        }
        if told == 0 {
            return Err(Errno::EAGAIN);
        }
        // The next time the others come first.
        interests.rotate_left(looked);
        Ok(told as u64)
    }

    /// Adds, replaces or takes out, by epoll_ctl's `operation`, what is known of the interest's file.
    fn set(&self, operation: u32, interest: Interest) -> Answer {
        let mut interests = self.interests.write();
        let is_same = |known: &Interest| known.fd == interest.fd && known.file.ptr_eq(&interest.file);
        match (operation, interests.iter().position(is_same)) {
            (EPOLL_CTL_ADD, None) => {
                check_reserve()?;
                // Who adds and never waits has no more of them than files.
                interests.retain(|interest| interest.file.strong_count() > 0);
                interests.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                interests.push(interest);
            }
            (EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EEXIST),
            (_, None) => return Err(Errno::ENOENT),
            (EPOLL_CTL_DEL, Some(index)) => drop(interests.remove(index)),
            (_, Some(index)) => interests[index] = interest,
        }
        drop(interests);
        self.changed.announce();
        Ok(0)
    }
}

impl Node for Epoll {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Anonymous, 1, 0o600)
    }

    fn seek(&self) -> Seek {
        Seek::Nowhere
    }

    fn events(&self) -> u32 {
        let shows = |interest: &Interest| interest.look(&mut Changes::default()).0 != 0;
        if self.interests.read().iter().any(shows) { POLLIN | POLLRDNORM } else { 0 }
    }

    fn changes(&self, _: u32) -> Option<Changes> {
        let mut changes = self.changed.changes();
        self.interests.read().iter().for_each(|interest| _ = interest.look(&mut changes));
        Some(changes)
    }
}

/// epoll_create1(2).
pub fn epoll_create1(thread: &mut Thread, flags: u32) -> Answer {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let interests = SpaceLock::new(Vec::new());
    let epoll = Epoll { interests, changed: Source::new(), place: AtomicU32::new(0) };
    open_anonymous(thread, Arc::new(epoll), "eventpoll", flags)
}

/// epoll_create(2): the size is a hint of old.
pub fn epoll_create(thread: &mut Thread, size: i32) -> Answer {
    if size > 0 { epoll_create1(thread, 0) } else { Err(Errno::EINVAL) }
}

/// epoll_ctl(2).
pub fn epoll_ctl(thread: &mut Thread, epoll: i32, operation: u32, fd: i32, event: u64) -> Answer {
    let [events, data @ ..] = match operation {
        EPOLL_CTL_DEL => Event::default(),
        _ => user_memory::read_value(event)?,
    };
    let (outer, file) = (thread.file(epoll)?, thread.file(fd)?);
    file.node.changes(0).ok_or(Errno::EPERM)?;
    let epoll: &Epoll = outer.node_as().filter(|_| !Arc::ptr_eq(&outer, &file)).ok_or(Errno::EINVAL)?;
    if !matches!(operation, EPOLL_CTL_ADD | EPOLL_CTL_DEL | EPOLL_CTL_MOD) {
        return Err(Errno::EINVAL);
    }
    if let (EPOLL_CTL_ADD, Some(inner)) = (operation, file.node_as::<Epoll>()) {
        epoll.become_one(OUTER)?;
        inner.become_one(INNER)?;
    }
    let events = events | POLLERR | POLLHUP;
    epoll.set(operation, Interest { fd, file: Arc::downgrade(&file), events, data, told: None })
}

/// epoll_wait(2), epoll_pwait(2): up to `count` events go to `out`; `mask` is the address and the size of a signal mask.
pub fn epoll_wait(
    thread: &mut Thread,
    epoll: i32,
    (out, count): (u64, i32),
    deadline_ns: Option<u64>,
    mask: [u64; 2],
) -> Answer {
    let count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(Errno::EINVAL)?;
    let file = thread.file(epoll)?;
    let epoll: &Epoll = file.node_as().ok_or(Errno::EINVAL)?;
    let look = &mut |_: &mut Thread, changes: &mut Changes| epoll.tell(out, count, changes);
    poll::wait_masked(thread, deadline_ns, mask, "epoll_wait", look)
}

/// epoll_pwait2(2): with a time limit in memory.
pub fn epoll_pwait2(thread: &mut Thread, epoll: i32, out: (u64, i32), limit: u64, mask: [u64; 2]) -> Answer {
    let limit_ns = if limit == 0 { None } else { Some(time::read_timespec(limit)?) };
    let deadline_ns = limit_ns.map(|ns| clock::monotonic_ns().saturating_add(ns));
    epoll_wait(thread, epoll, out, deadline_ns, mask)
}
