//! What grace periods leave in memory: crossbeam's nodes come and go on any CPU, and `settle` makes them countable.
//!
//! A test of its own program, for it counts what the whole program has allocated.

use crossbeam_epoch::Guard;
use dax::lifetime::{Collector, Epoch, GracePeriods, LocalHandle, settle, synchronize};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::OnceCell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
use std::thread;

/// Counts the live blocks of more than 2,000 bytes: crossbeam's nodes are of 2,072.
struct Counting;

static NODES: AtomicIsize = AtomicIsize::new(0);

fn node(layout: Layout) -> isize {
    isize::from((2_000..2_200).contains(&layout.size()))
}

// SAFETY: both calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NODES.fetch_add(node(layout), SeqCst);
        // SAFETY: the caller's promises are those that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NODES.fetch_sub(node(layout), SeqCst);
        // SAFETY: `block` came from `System` above, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static PERIODS: GracePeriods = GracePeriods::new();

thread_local! {
    static HANDLE: OnceCell<LocalHandle> = const { OnceCell::new() };
}

/// A thread plays a CPU.
struct Threads(Collector);

impl Threads {
    fn with<R>(&self, body: impl FnOnce(&LocalHandle) -> R) -> R {
        HANDLE.with(|cell| body(cell.get_or_init(|| self.0.register())))
    }
}

impl Epoch for Threads {
    fn pin(&self) -> Guard {
        self.with(LocalHandle::pin)
    }

    fn is_pinned(&self) -> bool {
        self.with(LocalHandle::is_pinned)
    }

    fn relax(&self) {
        thread::yield_now();
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        &PERIODS
    }
}

/// CPUs that fault and kill at will, and then settle in turn, leave the same number of nodes each time.
#[test]
fn settled_cpus_hold_the_same_memory_after_any_work() {
    const CPUS: usize = 5;
    const ROUNDS: usize = 130;
    let (epoch, barrier) = (&Threads(Collector::new()), &Barrier::new(CPUS));
    let settled: Vec<Vec<isize>> = thread::scope(|scope| {
        let cpus: Vec<_> = (0..CPUS)
            .map(|cpu| {
                scope.spawn(move || {
                    let mut settled = Vec::with_capacity(ROUNDS);
                    for round in 0..ROUNDS {
                        for _ in 0..(round * 40 + cpu * 7) % 100 {
                            // CPUs 0 and 1 kill, the others fault.
                            if cpu < 2 {
                                synchronize(epoch).expect("no pin is held");
                            }
                            (0..150 + round).for_each(|_| drop(epoch.pin()));
                        }
                        barrier.wait();
                        for turn in 0..CPUS {
                            if turn == cpu {
                                settle(epoch).expect("no pin is held");
                            }
                            barrier.wait();
                        }
                        settled.push(NODES.load(SeqCst));
                        barrier.wait();
                    }
                    settled
                })
            })
            .collect();
        cpus.into_iter().map(|cpu| cpu.join().expect("no panic")).collect()
    });
    for counts in settled {
        // One each, and the empty one that the queue begins with.
        assert!(counts.iter().all(|&count| count == CPUS as isize + 1), "nodes after each round: {counts:?}");
    }
}
