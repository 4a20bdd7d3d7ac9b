//! The parking lot: where tasks sleep, whatever they wait for. One table of buckets, found by the key's hash.
//!
//! 1. A task that parks takes its bucket's lock, asks `still`, looks at its attention word and its deadline, and
//!    queues itself.
//! 2. Who wakes takes the same lock, takes the task out, and says why. So what `still` looks at, changed before
//!    [`unpark`], is never missed.
//! 3. Then the task is queued to run, with no bucket locked.

use super::queue::{self, ByLink};
use super::{ATTEND_EXIT, ATTEND_SIGNAL, DEADLOCK_HOOK, Task, timer};
use crate::arch::percpu::Cpu;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use intrusive_collections::LinkedList;
use mm::checks::might_sleep;
use mm::lock::{Parking, Rank, SpinLock};

/// What a task waits for. `object` 0 is the kernel's own locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Names the object.
    pub object: u64,
    /// A place in it.
    pub offset: u64,
}

/// Why a park ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Somebody called [`unpark`], or `still` was false.
    Woken,
    /// The deadline has passed.
    TimedOut,
    /// A signal or the task's end (`ATTEND_SIGNAL`, `ATTEND_EXIT`) came first.
    Interrupted,
}

/// Do `ATTEND_SIGNAL` and `ATTEND_EXIT` end a park? As the bits of the attention word that do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Interruptible {
    /// They do.
    Yes = ATTEND_SIGNAL | ATTEND_EXIT,
    /// `ATTEND_EXIT` does.
    ByEnd = ATTEND_EXIT,
    /// They have to wait.
    No = 0,
}

/// A wish to sleep.
#[derive(Clone, Copy, Debug)]
pub struct Park {
    /// What it waits for.
    pub key: Key,
    /// [`unpark`] wakes it when its mask has a bit of this one (a futex bitset); `!0` elsewhere.
    pub mask: u32,
    /// When it ends at the latest, on the monotonic clock.
    pub deadline_ns: Option<u64>,
    /// Do signals end it?
    pub interruptible: Interruptible,
    /// The call that waits, such as `futex`: for the log.
    pub what: &'static str,
}

/// Where a task is parked.
#[derive(Default)]
pub(super) struct Parked {
    /// The bucket's number plus 1, 0 while it is not parked.
    bucket: AtomicUsize,
    /// On the task's own stack; valid while it is in a bucket, under the bucket's lock.
    sleep: AtomicPtr<Sleep>,
}

/// A park that has begun.
struct Sleep {
    request: Park,
    key: Cell<Key>,
    wake: Cell<Wake>,
}

type Bucket = LinkedList<ByLink>;

const BUCKETS: usize = 256;
static LOT: [SpinLock<Bucket>; BUCKETS] =
    [const { SpinLock::new(Rank::ParkBucket, LinkedList::new(ByLink::NEW)) }; BUCKETS];

impl Key {
    fn bucket(self) -> usize {
        // Fibonacci hashing: the upper bits of a product are well mixed.
        let mixed = (self.object.rotate_left(32) ^ self.offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize
    }
}

impl Task {
    /// The park of a task that is in a bucket.
    ///
    /// # Safety
    /// The bucket is locked, and the answer is not used behind its unlocking.
    unsafe fn sleep(&self) -> &Sleep {
        // SAFETY: `park` set the pointer when it queued the task, and its frame stays until somebody has taken the task
        // out of the bucket under the lock that the caller holds.
        unsafe { &*self.parked.sleep.load(Ordering::Relaxed) }
    }

    fn is_asked(&self, interruptible: Interruptible) -> bool {
        self.attention.load(Ordering::SeqCst) & interruptible as u32 != 0
    }
}

/// Sleeps. `still` is asked under the lock that wakers take, before it sleeps: false means not to, and counts as woken.
/// It must not fault, sleep, allocate, or take a lock that is held around [`unpark`]. The caller holds no spin lock and
/// no pin.
#[optimize(speed)]
pub fn park(request: &Park, still: &dyn Fn() -> bool) -> Wake {
    might_sleep(request.what);
    let task = Cpu::this().tasks.current();
    if let Some(deadline) = request.deadline_ns {
        timer::set(&super::current(), deadline);
    }
    let sleep = Sleep { request: *request, key: Cell::new(request.key), wake: Cell::new(Wake::Woken) };
    let number = request.key.bucket();
    let mut bucket = LOT[number].lock();
    task.parked.sleep.store((&raw const sleep).cast_mut(), Ordering::Relaxed);
    // With a full fence, before the reasons not to sleep are read: who has one to offer writes it, and reads this then.
    task.parked.bucket.store(number + 1, Ordering::SeqCst);
    let refusal = if !still() {
        Some(Wake::Woken)
    } else if task.is_asked(request.interruptible) {
        Some(Wake::Interrupted)
    } else if request.deadline_ns.is_some() && task.deadline.passed.load(Ordering::Relaxed) {
        Some(Wake::TimedOut)
    } else {
        None
    };
    match refusal {
        Some(_) => task.parked.bucket.store(0, Ordering::Relaxed),
        // SAFETY: the scheduler's reference, which was with this CPU: it goes where the task goes.
        None => bucket.push_back(unsafe { Arc::from_raw(task) }),
    }
    drop(bucket);
    if refusal.is_none() {
        queue::give_way();
    }
    if request.deadline_ns.is_some() {
        timer::clear(task);
    }
    refusal.unwrap_or_else(|| sleep.wake.get())
}

/// Marks a task that was just taken out of its bucket, which is still locked.
fn note_wake(task: &Task, sleep: &Sleep, wake: Wake) {
    sleep.wake.set(wake);
    task.parked.bucket.store(0, Ordering::Relaxed);
}

/// Takes up to `count` of those that wait for `key` with a bit of `mask` out of their bucket, notes why, and appends
/// them to `taken`; says how many.
fn take(
    bucket: &mut Bucket,
    (key, mask): (Key, u32),
    count: usize,
    note: impl Fn(&Task, &Sleep),
    taken: &mut Bucket,
) -> usize {
    let mut found = 0;
    let mut cursor = bucket.front_mut();
    while found < count
        && let Some(task) = cursor.get()
    {
        // SAFETY: the bucket is locked.
        let sleep = unsafe { task.sleep() };
        if sleep.key.get() == key && sleep.request.mask & mask != 0 {
            note(task, sleep);
            taken.push_back(cursor.remove().expect("the cursor is at a task"));
            found += 1;
        } else {
            cursor.move_next();
        }
    }
    found
}

#[inline]
fn wake_all(mut woken: Bucket) {
    while let Some(task) = woken.pop_front() {
        queue::wake(task);
    }
}

/// Wakes up to `count` of those that wait for `key` with a bit of `mask`, first come first served; says how many.
#[optimize(speed)]
pub fn unpark(key: Key, mask: u32, count: usize) -> usize {
    let mut woken = Bucket::new(ByLink::NEW);
    let note = |task: &Task, sleep: &Sleep| note_wake(task, sleep, Wake::Woken);
    let taken = take(&mut LOT[key.bucket()].lock(), (key, mask), count, note, &mut woken);
    wake_all(woken);
    taken
}

/// Wakes `wake` of those that wait for `from`, and lets `move_` more wait for `to` from now on; says how many of each.
/// `still` is asked under the locks first, as in [`park`]: `None` when it was false.
pub fn requeue(
    from: Key,
    to: Key,
    wake: usize,
    move_: usize,
    still: &dyn Fn() -> bool,
) -> Option<(usize, usize)> {
    let (source, target) = (from.bucket(), to.bucket());
    let (mut woken, mut moving) = (Bucket::new(ByLink::NEW), Bucket::new(ByLink::NEW));
    // Two buckets are locked in the order of their numbers.
    let (mut first, mut second) =
        (LOT[source.min(target)].lock(), (source != target).then(|| LOT[source.max(target)].lock()));
    if !still() {
        return None;
    }
    let (source_list, target_list) = match &mut second {
        None => (&mut *first, None),
        Some(second) if source < target => (&mut *first, Some(&mut **second)),
        Some(second) => (&mut **second, Some(&mut *first)),
    };
    let note = |task: &Task, sleep: &Sleep| note_wake(task, sleep, Wake::Woken);
    let taken = take(source_list, (from, !0), wake, note, &mut woken);
    let note = |task: &Task, sleep: &Sleep| {
        sleep.key.set(to);
        task.parked.bucket.store(target + 1, Ordering::Relaxed);
    };
    let moved = take(source_list, (from, !0), move_, note, &mut moving);
    target_list.unwrap_or(source_list).back_mut().splice_after(moving);
    drop((first, second));
    wake_all(woken);
    Some((taken, moved))
}

/// Ends a task's park because of a signal or a deadline, if it is parked so that this may be. The caller has left a mark
/// that [`park`] sees, and a full fence behind it.
pub(super) fn interrupt(task: &Task, wake: Wake) {
    loop {
        let number = task.parked.bucket.load(Ordering::Relaxed);
        let Some(index) = number.checked_sub(1) else { return };
        let mut bucket = LOT[index].lock();
        if task.parked.bucket.load(Ordering::Relaxed) != number {
            // It was woken, or moved to another bucket.
            continue;
        }
        // SAFETY: the bucket is locked.
        let sleep = unsafe { task.sleep() };
        let may_end = match wake {
            Wake::TimedOut => sleep.request.deadline_ns.is_some(),
            _ => task.is_asked(sleep.request.interruptible),
        };
        if !may_end {
            return;
        }
        note_wake(task, sleep, wake);
        // SAFETY: the task is in this bucket, which is locked.
        let task = unsafe { bucket.cursor_mut_from_ptr(task) }.remove();
        drop(bucket);
        return queue::wake(task.expect("the cursor is at the task"));
    }
}

/// Sleeps until this time on the monotonic clock, or until a signal.
pub fn sleep_until(deadline_ns: u64, what: &'static str) -> Wake {
    // Nobody wakes it: there is no bit in its mask.
    let key = Key { object: 0, offset: super::with_current(Task::tid) as u64 };
    let interruptible = Interruptible::Yes;
    park(&Park { key, mask: 0, deadline_ns: Some(deadline_ns), interruptible, what }, &|| true)
}

/// The parking lot for the locks of `mm`, whose keys are addresses in the kernel's half.
pub struct Lot;

impl Parking for Lot {
    fn park(&self, key: usize, still: &dyn Fn() -> bool) {
        let key = Key { object: 0, offset: key as u64 };
        let what = "an address space's lock";
        park(&Park { key, mask: !0, deadline_ns: None, interruptible: Interruptible::No, what }, still);
    }

    fn unpark(&self, key: usize) {
        unpark(Key { object: 0, offset: key as u64 }, !0, usize::MAX);
    }
}

/// Every task waits, for nothing that could come: tells the hook of the youngest that may be interrupted.
pub(super) fn end_deadlock() {
    let mut youngest: Option<(Arc<Task>, &'static str)> = None;
    let mut stuck = "nothing";
    for bucket in &LOT {
        let bucket = bucket.lock();
        let mut cursor = bucket.front();
        while let Some(task) = cursor.get() {
            // SAFETY: the bucket is locked.
            let request = unsafe { task.sleep() }.request;
            stuck = request.what;
            if request.interruptible != Interruptible::No
                && youngest.as_ref().is_none_or(|(other, _)| other.tid() < task.tid())
            {
                youngest = cursor.clone_pointer().map(|task| (task, request.what));
            }
            cursor.move_next();
        }
    }
    let (Some((task, what)), Some(hook)) = (youngest, DEADLOCK_HOOK.get()) else {
        panic!("every task waits for ever, one of them in {stuck}");
    };
    hook(&task, what);
    assert!(task.parked.bucket.load(Ordering::Relaxed) == 0, "task {} waits in {what} for ever", task.tid());
}
