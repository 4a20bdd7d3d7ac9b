//! How much faster two threads fault than one, by the clock: each touches units of its own, of one mapping.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use guest::clock::percentile;
use guest::device::Device;
use guest::sys;

use crate::memory::{touch_every, units};

const ROUNDS: usize = 9;
/// The least, in percent of one thread's rate.
const LEAST_PERCENT: u64 = 160;

/// Nanoseconds in which `threads` threads fault `units` times each.
fn timed_team(device: &Device, threads: usize, units: usize) -> Result<u64, String> {
    let mapping = device.map(device.size, 0).map_err(|errno| format!("mmap: {errno}"))?;
    let at_start = AtomicUsize::new(0);
    let work = |number: usize| {
        at_start.fetch_add(1, SeqCst);
        while at_start.load(SeqCst) < threads {
            std::hint::spin_loop();
        }
        let start = sys::monotonic_ns();
        let len = units * device.align;
        touch_every(mapping.addr + number * len, len, device.align);
        (start, sys::monotonic_ns())
    };
    let times: Vec<(u64, u64)> = thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..threads).map(|number| scope.spawn(move || work(number))).collect();
        let own = work(0);
        others.into_iter().filter_map(|other| other.join().ok()).chain([own]).collect()
    });
    let start = times.iter().map(|time| time.0).min().unwrap_or(0);
    let end = times.iter().map(|time| time.1).max().unwrap_or(0);
    if times.len() == threads { Ok(end - start) } else { Err("a thread panicked".into()) }
}

/// Prints the medians and the ratio; fails below the least.
pub fn run() -> Result<(), String> {
    let device = Device::open()?;
    let units = units(&device).min(device.size / device.align / 2);
    let (mut one, mut two) = ([0; ROUNDS], [0; ROUNDS]);
    for (one, two) in one.iter_mut().zip(&mut two) {
        *one = timed_team(&device, 1, units)?;
        *two = timed_team(&device, 2, units)?;
    }
    let [one, two] = [one, two].map(|mut times| percentile(&mut times, 50).max(1));
    let percent = 2 * one * 100 / two;
    println!("{units} faults by one thread in {} us, by each of two in {} us", one / 1000, two / 1000);
    println!("two_threads_fault_percent {percent}");
    if percent >= LEAST_PERCENT {
        Ok(())
    } else {
        Err(format!("two threads: {percent} %, at least {LEAST_PERCENT}"))
    }
}
