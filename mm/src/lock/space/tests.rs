use super::*;
use crate::fake::park_threads;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::vec::Vec;

type Lock<T> = SpaceLock<T, (), 4>;

#[test]
fn a_writer_is_alone_and_readers_see_whole_writes() {
    park_threads();
    const TURNS: u64 = 3000;
    let lock = Lock::new((0u64, 0u64));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..TURNS {
                    let mut pair = lock.write();
                    pair.0 += 1;
                    thread::yield_now();
                    pair.1 += 1;
                }
            });
            scope.spawn(|| {
                for _ in 0..TURNS {
                    let pair = lock.read();
                    assert_eq!(pair.0, pair.1);
                    thread::yield_now();
                }
            });
        }
    });
    assert_eq!(*lock.read(), (2 * TURNS, 2 * TURNS));
    assert_eq!(lock.state.load(Ordering::Relaxed), 0);
}

#[test]
fn readers_that_never_leave_a_gap_do_not_starve_a_writer() {
    park_threads();
    let (lock, done) = (Lock::new(()), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut guard = lock.read();
                while !done.load(Ordering::Relaxed) {
                    drop(guard);
                    guard = lock.read();
                    thread::yield_now();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..100 {
                drop(lock.write());
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_waiting_writer_goes_before_readers_that_come_later() {
    park_threads();
    let lock = Arc::new(Lock::new(()));
    let order = Mutex::new(Vec::new());
    let first = lock.read();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _guard = lock.write();
            order.lock().expect("fine").push("writer");
        });
        while lock.state.load(Ordering::Relaxed) & WRITER == 0 {
            thread::yield_now();
        }
        scope.spawn(|| {
            let _guard = lock.read();
            order.lock().expect("fine").push("reader");
        });
        thread::sleep(std::time::Duration::from_millis(30));
        assert!(order.lock().expect("fine").is_empty(), "both wait for the first reader");
        drop(first);
    });
    assert_eq!(*order.lock().expect("fine"), ["writer", "reader"]);
}
