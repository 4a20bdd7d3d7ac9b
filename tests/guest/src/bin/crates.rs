//! `crates`: what Rust programs on /dev/dax are made of, unchanged: std's threads, memmap2, rustix, crossbeam and rayon,
//! all of them at work on one device.
//!
//! A KTAP report. With `DAX_DEVICE` naming a file of some MiB it runs on any Linux.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, select};
use crossbeam::deque::{Injector, Steal, Worker};
use crossbeam::epoch::{self, Atomic, Owned};
use guest::ensure;
use guest::fault;
use guest::ktap::{self, Case, Outcome};
use memmap2::{Advice, MmapMut};
use rayon::prelude::*;
use rustix::mm::{self, MapFlags, MsyncFlags, ProtFlags};

const THREADS: u64 = 4;
/// Words of the device that a case uses: 2 MiB.
const WORDS: usize = 1 << 18;

/// Words that a worker fills at a time.
const PART: usize = 1 << 12;

/// The device.
struct Device(File);

impl Device {
    /// A mapping of all of it.
    fn map(&self) -> Result<MmapMut, String> {
        // SAFETY: nobody else maps the device while this program runs, and its cases run one after another, each with
        // one mapping at a time.
        unsafe { MmapMut::map_mut(&self.0) }.map_err(|error| format!("memmap2: {error}"))
    }
}

/// The first words of a mapping.
fn words(map: &mut MmapMut) -> Result<&mut [u64], String> {
    // SAFETY: every pattern of bits is a number.
    let (before, words, _) = unsafe { map[..WORDS * 8].align_to_mut() };
    if before.is_empty() { Ok(words) } else { Err("a mapping begins with a page".into()) }
}

/// A number that looks like chance.
fn mixed(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ number
}

fn main() -> ExitCode {
    fault::install();
    let path = std::env::var("DAX_DEVICE").unwrap_or_else(|_| "/dev/dax0.0".into());
    let device = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => Device(file),
        Err(error) => {
            eprintln!("crates: {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let cases = [
        Case::new("crates", "std: threads that wait for each other in every way", |_| std_threads()),
        Case::new("crates", "std: a thread has a name, a small stack, memory of its own", |_| {
            named_threads()
        }),
        Case::new("crates", "memmap2: flush, advise, and what was stored is there again", through_memmap2),
        Case::new("crates", "rustix: a synchronous mapping by raw calls", through_rustix),
        Case::new("crates", "crossbeam: channels and select from scoped threads", crossbeam_channels),
        Case::new("crates", "crossbeam: work that is stolen", crossbeam_deque),
        Case::new("crates", "crossbeam: a stack whose nodes are freed by epochs", |_| crossbeam_epoch()),
        Case::new("crates", "rayon: fill, sum, sort and join over a device", through_rayon),
    ];
    ExitCode::from(u8::from(ktap::run(&cases, &[], &device) != 0))
}

fn std_threads() -> Outcome {
    let (barrier, turn) = (Barrier::new(THREADS as usize), (Mutex::new(0), Condvar::new()));
    let (leaders, sender_receiver) = (AtomicU64::new(0), mpsc::channel());
    let (sender, receiver) = sender_receiver;
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (barrier, turn, leaders, sender) = (&barrier, &turn, &leaders, sender.clone());
            scope.spawn(move || {
                leaders.fetch_add(u64::from(barrier.wait().is_leader()), SeqCst);
                // One after another, by their numbers.
                let mut now = turn
                    .1
                    .wait_while(turn.0.lock().expect("no panic"), |now| *now != number)
                    .expect("no panic");
                *now += 1;
                turn.1.notify_all();
                sender.send(number).expect("the receiver is there");
            });
        }
    });
    drop(sender);
    let order: Vec<u64> = receiver.iter().collect();
    ensure!(order == (0..THREADS).collect::<Vec<_>>(), "they came as {order:?}");
    ensure!(leaders.load(SeqCst) == 1, "{} leaders", leaders.load(SeqCst));
    let parked = thread::spawn(|| {
        thread::park();
        thread::park_timeout(Duration::from_millis(5));
    });
    parked.thread().unpark();
    parked.join().map_err(|_| "the parked thread panicked".to_string())
}

fn named_threads() -> Outcome {
    thread_local!(static OWN: Cell<u64> = const { Cell::new(7) });
    let builder = thread::Builder::new().name("own name".into()).stack_size(64 << 10);
    let thread = builder.spawn(|| {
        OWN.set(8);
        (thread::current().name().map(str::to_owned), OWN.get())
    });
    let found = thread.map_err(|error| error.to_string())?.join().map_err(|_| "it panicked".to_string())?;
    ensure!(found == (Some("own name".into()), 8) && OWN.get() == 7, "{found:?}, here {}", OWN.get());
    ensure!(thread::available_parallelism().is_ok_and(|count| count.get() <= 64), "no number of CPUs");
    Ok(())
}

fn through_memmap2(device: &Device) -> Outcome {
    let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut map = device.map()?;
    words(&mut map)?.iter_mut().zip(0..).for_each(|(word, number)| *word = mixed(number));
    map.flush_range(4096, 100).map_err(said("flush_range"))?;
    map.flush_async().map_err(said("flush_async"))?;
    map.advise(Advice::WillNeed).map_err(said("advise"))?;
    drop(map);
    let mut again = device.map()?;
    let wrong = words(&mut again)?.iter().zip(0..).find(|&(&word, number)| word != mixed(number));
    ensure!(wrong.is_none(), "word and number {wrong:?}");
    again.make_read_only().map(drop).map_err(said("make_read_only"))
}

fn through_rustix(device: &Device) -> Outcome {
    let len = rustix::fs::fstat(&device.0).map_err(|errno| format!("fstat: {errno}"))?.st_size as usize;
    let is_dax = std::env::var("DAX_DEVICE").is_err();
    // Only memory that keeps data by itself can be mapped like that.
    let flags = if is_dax { MapFlags::SHARED_VALIDATE | MapFlags::SYNC } else { MapFlags::SHARED };
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let map =
        unsafe { mm::mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags, &device.0, 0) };
    let map = map.map_err(|errno| format!("mmap: {errno}"))?;
    // SAFETY: the mapping is that long, page-aligned and not shared; it goes in the end, when nobody refers to it.
    let done = unsafe {
        map.cast::<u64>().write_volatile(42);
        let synced = mm::msync(map, len, MsyncFlags::SYNC);
        let advised = mm::madvise(map, len, mm::Advice::Random);
        synced.and(advised).and(mm::munmap(map, len))
    };
    done.map_err(|errno| errno.to_string())?;
    let mut again = device.map()?;
    ensure!(words(&mut again)?[0] == 42, "the store is not there");
    ensure!(rustix::param::page_size() == 4096, "pages of {}", rustix::param::page_size());
    let (reader, writer) = rustix::pipe::pipe().map_err(|errno| format!("pipe: {errno}"))?;
    let mut byte = [0];
    ensure!(rustix::io::write(&writer, &again[..1]) == Ok(1), "write from the device to a pipe");
    ensure!(rustix::io::read(&reader, &mut byte) == Ok(1) && byte == [42], "the pipe has {byte:?}");
    Ok(())
}

fn crossbeam_channels(device: &Device) -> Outcome {
    let mut map = device.map()?;
    let words = words(&mut map)?;
    let (parts, sum) = fill_parts(words)?;
    let expected = (0..parts).sum::<u64>() * PART as u64;
    ensure!(sum == expected, "the sum is {sum}, not {expected}");
    let in_order = words.chunks(PART).zip(0..).all(|(part, number)| part.iter().all(|&word| word == number));
    ensure!(in_order, "a part has another number");
    ensure!(channel::after(Duration::from_millis(2)).recv().is_ok(), "a timer");
    Ok(())
}

/// Fills each part with its number; returns how many there are, and the sum of all words.
fn fill_parts(words: &mut [u64]) -> Result<(u64, u64), String> {
    let ((to_workers, jobs), (done, results)) = (channel::bounded(8), channel::unbounded());
    let (stop, stopped) = channel::bounded::<()>(0);
    let parts = words.chunks_mut(PART);
    let count = parts.len();
    let scope = crossbeam::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (jobs, done, stopped) = (jobs.clone(), done.clone(), stopped.clone());
            scope.spawn(move |_| {
                loop {
                    select! {
                        recv(jobs) -> job => {
                            let Ok((number, part)): Result<(u64, &mut [u64]), _> = job else { return };
                            part.fill(number);
                            done.send(part.iter().sum::<u64>()).expect("the receiver is there");
                        }
                        recv(stopped) -> _ => return,
                    }
                }
            });
        }
        (0..).zip(parts).for_each(|job| to_workers.send(job).expect("the workers are there"));
        let sum: u64 = results.iter().take(count).sum();
        drop(stop);
        sum
    });
    scope.map(|sum| (count as u64, sum)).map_err(|_| "a worker panicked".to_string())
}

fn crossbeam_deque(device: &Device) -> Outcome {
    let mut map = device.map()?;
    let cells: &[AtomicU64] = {
        let words = words(&mut map)?;
        words.fill(0);
        // SAFETY: an atomic number has the size and alignment of a number, and the borrow stays exclusive.
        unsafe { &*(ptr::from_mut(words) as *const [AtomicU64]) }
    };
    let queue = Injector::new();
    (0..WORDS).step_by(64).for_each(|first| queue.push(first));
    let own: Vec<Worker<usize>> = (0..THREADS).map(|_| Worker::new_lifo()).collect();
    let others: Vec<_> = own.iter().map(Worker::stealer).collect();
    thread::scope(|scope| {
        for worker in own {
            let (queue, others) = (&queue, &others);
            scope.spawn(move || {
                loop {
                    let stolen = || {
                        queue
                            .steal_batch_and_pop(&worker)
                            .or_else(|| others.iter().map(|o| o.steal()).collect())
                    };
                    let next = worker.pop().map_or_else(stolen, Steal::Success);
                    match next {
                        Steal::Success(first) => {
                            cells[first..first + 64].iter().for_each(|cell| _ = cell.fetch_add(1, Relaxed))
                        }
                        Steal::Retry => {}
                        Steal::Empty => return,
                    }
                }
            });
        }
    });
    let wrong = cells.iter().position(|cell| cell.load(Relaxed) != 1);
    ensure!(wrong.is_none(), "word {wrong:?} was not done once");
    Ok(())
}

/// A node of Treiber's stack.
struct Node {
    value: u64,
    next: Atomic<Node>,
}

#[derive(Default)]
struct Stack(Atomic<Node>);

impl Stack {
    fn push(&self, value: u64) {
        let guard = epoch::pin();
        let mut node = Owned::new(Node { value, next: Atomic::null() });
        loop {
            let head = self.0.load(Acquire, &guard);
            node.next.store(head, Relaxed);
            match self.0.compare_exchange(head, node, Release, Relaxed, &guard) {
                Ok(_) => return,
                Err(lost) => node = lost.new,
            }
        }
    }

    fn pop(&self) -> Option<u64> {
        let guard = epoch::pin();
        loop {
            let head = self.0.load(Acquire, &guard);
            // SAFETY: a node is freed when nobody is pinned who can have seen it, and this thread is.
            let node = unsafe { head.as_ref() }?;
            let next = node.next.load(Relaxed, &guard);
            if self.0.compare_exchange(head, next, AcqRel, Relaxed, &guard).is_ok() {
                // SAFETY: this thread alone took it out, and nobody finds it any more.
                unsafe { guard.defer_destroy(head) };
                return Some(node.value);
            }
        }
    }
}

fn crossbeam_epoch() -> Outcome {
    const EACH: u64 = 2000;
    let (stack, popped) = (Arc::new(Stack::default()), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (stack, popped) = (stack.clone(), &popped);
            scope.spawn(move || {
                for value in number * EACH..(number + 1) * EACH {
                    stack.push(value);
                    if let Some(value) = stack.pop() {
                        popped.fetch_add(value, Relaxed);
                    }
                }
            });
        }
    });
    let left: u64 = std::iter::from_fn(|| stack.pop()).sum();
    let (sum, expected) = (popped.load(Relaxed) + left, (0..THREADS * EACH).sum());
    ensure!(sum == expected, "the sum is {sum}, not {expected}");
    Ok(())
}

fn through_rayon(device: &Device) -> Outcome {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS as usize).build();
    let pool = pool.map_err(|error| error.to_string())?;
    let mut map = device.map()?;
    let words = words(&mut map)?;
    pool.install(|| {
        words.par_iter_mut().enumerate().for_each(|(number, word)| *word = mixed(number as u64));
        let expected = (0..WORDS as u64).map(mixed).fold(0, u64::wrapping_add);
        let sum = words.par_iter().copied().reduce(|| 0, u64::wrapping_add);
        ensure!(sum == expected, "the sum is {sum}, not {expected}");
        words.par_sort_unstable();
        ensure!(words.par_windows(2).all(|pair| pair[0] <= pair[1]), "it is not sorted");
        let (low, high) = words.split_at(WORDS / 2);
        let (low, high) = rayon::join(|| low.par_iter().max(), || high.par_iter().min());
        ensure!(low <= high, "{low:?} below {high:?}");
        Ok(())
    })
}
