//! `stress`: threads of several processes fault, unmap, fork and map devices while a manager disables,
//! resizes, destroys and recreates them.
//!
//! ```text
//! stress [--region N] [--devices N] [--units N] [--align 4K|2M|1G] [--processes N] [--threads N] [--seed N]
//!        [--seconds N] [--faults N] [--live N] [--waited N] [--scrub]
//! ```
//!
//! It ends when there were `--faults` faults, `--live` kills that found a live entry and `--waited` kills that
//! waited for an install in flight, and fails when `--seconds` were not enough for them. The region must
//! have its first device bound. On the way every answer is checked (`worker`): a touch works while the device
//! lives and is SIGBUS once it is dead, a worker finds what it stored, and nothing of a later owner
//! (`pattern`); with `--scrub` nothing of an earlier owner either.
//!
//! The last lines are the counters, `name value`.

mod board;
mod manager;
mod pattern;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use guest::device::Align;
use guest::fault;
use guest::process::{self, Ended};

use crate::board::{Board, COUNTS, Count, MAX_DEVICES};
use crate::manager::{Kills, Manager};
use crate::pattern::MAX_WORKERS;

/// Whether old bytes may be seen by the next owner of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scrub {
    /// They may.
    Waived,
    /// They may not.
    Required,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The region whose devices these are.
    pub region: u32,
    /// How many devices.
    pub devices: usize,
    /// The units of their alignment that each may have at most, where the region has enough.
    pub units: usize,
    /// Their alignment.
    pub align: Align,
    /// Worker processes.
    pub processes: usize,
    /// Threads of every other process; the rest have one.
    pub threads: usize,
    /// What the order of things depends on, but for the scheduler's part in it.
    pub seed: u64,
    /// The longest time until the targets are met.
    pub time: Duration,
    /// Faults that are to happen.
    pub faults: u64,
    /// Kills that are to find a live entry.
    pub live: u64,
    /// Kills that are to wait for an install in flight.
    pub waited: u64,
    /// Whether ranges are scrubbed between owners.
    pub scrub: Scrub,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            region: 0,
            devices: 2,
            units: 64,
            align: Align::Page2M,
            processes: 4,
            threads: 2,
            seed: 1,
            time: Duration::from_secs(60),
            faults: 0,
            live: 0,
            waited: 0,
            scrub: Scrub::Waived,
        };
        while let Some(option) = args.next() {
            if option == "--scrub" {
                options.scrub = Scrub::Required;
                continue;
            }
            let value = args.next().ok_or(format!("{option}: a value is wanted"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{option} {value}: a number is wanted"));
            match option.as_str() {
                "--align" => {
                    options.align = Align::parse(&value).ok_or(format!("--align {value}: 4K, 2M or 1G"))?
                }
                "--region" => options.region = number()? as u32,
                "--devices" => options.devices = number()? as usize,
                "--units" => options.units = (number()? as usize).max(1),
                "--processes" => options.processes = number()? as usize,
                "--threads" => options.threads = number()? as usize,
                "--seed" => options.seed = number()?,
                "--seconds" => options.time = Duration::from_secs(number()?),
                "--faults" => options.faults = number()?,
                "--live" => options.live = number()?,
                "--waited" => options.waited = number()?,
                _ => return Err(format!("{option}: no such option")),
            }
        }
        let workers = options.processes.saturating_mul(options.threads);
        if !(1..=MAX_WORKERS).contains(&workers) || !(1..=MAX_DEVICES).contains(&options.devices) {
            return Err(format!("1 to {MAX_WORKERS} threads in all, and 1 to {MAX_DEVICES} devices"));
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<(), String> {
    fault::install();
    let board = Board::new(options.region)?;
    let mut manager = Manager::new(board, options)?;
    let mut workers = Vec::new();
    for number in 0..options.processes {
        let worker = process::fork(|| worker::run(board, options, number));
        workers.push(worker.map_err(|errno| format!("fork of worker {number}: {errno}"))?);
    }
    // A kill is to meet faults, not to wait for its turn among the faulters: the first CPU is the manager's.
    process::run_on(1);
    let kills = manager.run();
    board.stop();
    for worker in workers {
        match worker.wait().map_err(|errno| format!("wait4: {errno}"))? {
            Ended::Exited(0) => {}
            other => board.fail(&format!("a worker ended with {other:?}")),
        }
    }
    report(&board, options, kills?)?;
    manager.clean_up()
}

/// Prints the counters, and fails when one is too small to show anything.
fn report(board: &Board, options: &Options, kills: Kills) -> Result<(), String> {
    COUNTS.iter().zip(board.counts()).for_each(|(name, value)| println!("{name} {value}"));
    println!("kills {}", kills.all);
    println!("kills that found a live entry {}", kills.live);
    println!("kills that waited for an install in flight {}", kills.waited);
    if board.is_failed() {
        return Err("see above".into());
    }
    let count = |count| board.count(count);
    let rows = [
        ("faults", count(Count::Faults), options.faults),
        ("kills that found a live entry", kills.live, options.live),
        ("kills that waited", kills.waited, options.waited),
        ("kills seen as SIGBUS", count(Count::Sigbus), 1),
        ("forks", count(Count::Forks), 1),
        ("parts unmapped", count(Count::Unmaps), 1),
    ];
    match rows.into_iter().find(|(_, found, least)| found < least) {
        Some((what, found, least)) => {
            Err(format!("{what}: {found} in {:?}, at least {least} wanted", options.time))
        }
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("stress: {what}");
            ExitCode::FAILURE
        }
    }
}
