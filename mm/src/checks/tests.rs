use super::*;
use crate::lock::{SpaceLock, SpinLock};
use core::cell::Cell;
use core::sync::atomic::AtomicUsize;

std::thread_local!(static THIS_CPU: Cell<usize> = const { Cell::new(usize::MAX) });

/// This test's thread is a CPU from now on; other threads of the process are none.
fn become_cpu() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    set_cpu(|| THIS_CPU.get());
    THIS_CPU.set(NEXT.fetch_add(1, Relaxed));
}

#[test]
fn locks_in_order_and_sleeps_with_nothing_held_are_fine() {
    become_cpu();
    let (outer, inner) = (SpinLock::new(Rank::Region, 1), SpinLock::new(Rank::Heap, 2));
    for _ in 0..3 {
        let first = outer.lock();
        let second = inner.lock();
        assert_eq!(*first + *second, 3);
        // Not the reverse order of taking them.
        drop(first);
        drop(second);
        might_sleep("the test");
        pinned();
        pinned();
        unpinned();
        unpinned();
        drop(SpaceLock::<()>::new(()).write());
    }
}

#[test]
#[should_panic(expected = "the spin lock Region is taken under Heap")]
fn locks_in_the_wrong_order_are_named() {
    become_cpu();
    let (outer, inner) = (SpinLock::new(Rank::Region, ()), SpinLock::new(Rank::Heap, ()));
    let _second = inner.lock();
    let _first = outer.lock();
}

#[test]
#[should_panic(expected = "taking an address space's lock may sleep, but CPU")]
fn a_space_lock_under_a_spin_lock_is_named() {
    become_cpu();
    let lock = SpinLock::new(Rank::Process, ());
    let _held = lock.lock();
    drop(SpaceLock::<()>::new(()).read());
}

#[test]
#[should_panic(expected = "the spin lock Process is taken twice")]
fn a_lock_that_is_taken_twice_is_named() {
    become_cpu();
    let [outer, inner] = [const { SpinLock::new(Rank::Process, ()) }; 2];
    let _outer = outer.lock();
    drop(inner.lock());
    let _inner = inner.lock();
    drop(inner.lock());
}

#[test]
#[should_panic(expected = "has the epoch pinned since mm/src/checks/tests.rs")]
fn a_sleep_while_pinned_is_named() {
    become_cpu();
    pinned();
    might_sleep("the test");
}

#[test]
#[should_panic(expected = "the spin lock Heap is taken while CPU")]
fn an_allocation_while_pinned_is_named() {
    become_cpu();
    pinned();
    drop(SpinLock::new(Rank::Heap, ()).lock());
}

#[test]
#[should_panic(expected = "that it never began")]
fn an_unpin_too_many_is_named() {
    become_cpu();
    unpinned();
}

#[test]
fn after_stop_nothing_is_checked() {
    become_cpu();
    pinned();
    stop();
    might_sleep("the message of a panic");
}
