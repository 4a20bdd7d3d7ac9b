//! The figures, beside those of Linux 6.1 in the same QEMU and the limits that we set ourselves.
//!
//! The program `bench` counts guest instructions under `--icount`, which repeat exactly, and brings Linux's
//! figures and the limits with it. What the epoch costs is the difference between this kernel and one that
//! never pins (`kernel-noepoch.elf`). Starts are timed on this host: against a guest whose first instruction
//! ends QEMU, in turns, by the median, so what is left is ours. So are two threads against one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::case::{Boot, Paths, execute};

const ALIGNS: [&str; 3] = ["4K", "2M", "1G"];
/// From kernel entry to the first instruction of a program, in guest instructions.
const BOOT_LIMIT: u64 = 3_000_000;
const START_LIMIT_US: u64 = 10_000;
const KERNEL_LIMIT_BYTES: u64 = 600 << 10;
const MEMORY_LIMIT_MIB: u64 = 16;
/// What a fault may cost more with the epoch than without.
const EPOCH_LIMIT: u64 = 80;
/// The least rate of two threads, in percent of the rate of one.
const PARALLEL_PERCENT: u64 = 160;
/// Starts of each of the two guests.
const STARTS: usize = 10;
/// Rows of the program `bench` that have a limit: fewer would be a table that cannot fail.
const LIMITED_ROWS: usize = 8;

/// A quantity at each alignment, or one that knows no alignment.
struct Row {
    name: String,
    ours: Vec<u64>,
    linux: Vec<String>,
    /// The most at each alignment, where there is one.
    limits: Vec<Option<u64>>,
}

/// Measures and prints everything; `false` when a figure is over its limit.
pub fn run(build: PathBuf) -> io::Result<bool> {
    let paths = Paths::new(build)?;
    let dir = paths.scratch("bench")?;
    let mut rows = instructions(&paths, &dir)?;
    let single = |name: &str, ours, linux: &str, limit| Row {
        name: name.into(),
        ours: vec![ours],
        linux: vec![linux.into()],
        limits: vec![Some(limit)],
    };
    rows.push(epoch(&paths, &dir, &rows)?);
    let (ours, null) = starts(&paths, &dir)?;
    let over_null = ours.saturating_sub(null).as_micros() as u64;
    rows.push(single("start to exit, over a null guest (us)", over_null, "1.4-4 s", START_LIMIT_US));
    let kernel_bytes = fs::metadata(paths.build().join("kernel.elf"))?.len();
    rows.push(single("kernel.elf (bytes)", kernel_bytes, "", KERNEL_LIMIT_BYTES));
    rows.push(single("smallest -m that boots (MiB)", smallest_memory(&paths, &dir)?, "96", MEMORY_LIMIT_MIB));
    print(&rows);
    let percent = parallel(&paths, &dir)?;
    println!("two threads on two CPUs fault {percent} % as fast as one, at least {PARALLEL_PERCENT}");
    println!("start to exit: null guest {null:.1?}, exit-only program {ours:.1?}, medians of {STARTS}");
    fs::remove_dir_all(dir)?;
    Ok(percent >= PARALLEL_PERCENT && rows.iter().all(|row| row.over() == 0))
}

/// What the program `bench` counts.
fn instructions(paths: &Paths, dir: &Path) -> io::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut entry = Row {
        name: "kernel entry to program".into(),
        ours: Vec::new(),
        linux: Vec::new(),
        limits: vec![Some(BOOT_LIMIT); ALIGNS.len()],
    };
    for align in ALIGNS {
        let options = ["--icount", "--nvdimm", "{dir}/n.img,size=4G", "--timeout", "180"];
        let boot = Boot::of("bench").at(align).args(&["--table"]).with(&options);
        let text = output(boot.command(paths, dir), dir)?;
        if !text.starts_with("instructions at ") {
            return Err(io::Error::other(format!("bench at {align} counts no instructions:\n{text}")));
        }
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["kernel_entry_to_program_ns", ns] => entry.ours.extend(ns.parse::<u64>()),
                [name, ours, linux, _times, ref limit @ ..] => {
                    let Ok(ours) = ours.parse() else { continue };
                    let limit = limit.first().and_then(|limit| limit.parse().ok());
                    if !rows.iter().any(|row| row.name == name) {
                        let (name, ours, linux, limits) = (name.into(), vec![], vec![], vec![]);
                        rows.push(Row { name, ours, linux, limits });
                    }
                    let row = rows.iter_mut().find(|row| row.name == name).expect("it was just added");
                    row.ours.push(ours);
                    row.limits.push(limit);
                    row.linux.push(linux.into());
                }
                _ => {}
            }
        }
    }
    rows.push(entry);
    let is_complete = rows.iter().all(|row| row.ours.len() == ALIGNS.len());
    if !is_complete
        || rows.iter().filter(|row| row.limits.iter().any(Option::is_some)).count() <= LIMITED_ROWS
    {
        return Err(io::Error::other("bench left rows or limits out"));
    }
    Ok(rows)
}

/// A fault of this kernel less one of the kernel that never pins.
fn epoch(paths: &Paths, dir: &Path, rows: &[Row]) -> io::Result<Row> {
    let with = rows.iter().find(|row| row.name == "dax_write_fault");
    let with = with.ok_or_else(|| io::Error::other("bench has no row dax_write_fault"))?;
    let mut ours = Vec::new();
    for (align, with) in ALIGNS.iter().zip(&with.ours) {
        let options = ["--icount", "--nvdimm", "{dir}/n.img,size=4G", "--timeout", "180"];
        let boot = Boot::of("bench").at(align).args(&["--faults"]).with(&options).kernel("noepoch");
        let text = output(boot.command(paths, dir), dir)?;
        let without = text.lines().find_map(|line| line.strip_prefix("dax_write_fault ")?.parse().ok());
        let without: u64 = without.ok_or_else(|| io::Error::other(format!("no fault in:\n{text}")))?;
        ours.push(with.saturating_sub(without));
    }
    let limits = vec![Some(EPOCH_LIMIT); ours.len()];
    Ok(Row { name: "dax_write_fault, the epoch's part".into(), ours, linux: Vec::new(), limits })
}

/// The rate of two threads in percent of one's. The program fails below its own limit and says the same.
fn parallel(paths: &Paths, dir: &Path) -> io::Result<u64> {
    let options = ["--cpus", "2", "--nvdimm", "{dir}/n.img,size=4G", "--timeout", "180"];
    let boot = Boot::of("bench").at("4K").args(&["--parallel"]).with(&options);
    let ran = execute(boot.command(paths, dir), dir)?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let percent = text.lines().find_map(|line| line.strip_prefix("two_threads_fault_percent ")?.parse().ok());
    percent.ok_or_else(|| io::Error::other(ran.text()))
}

/// The median times from start to exit of a program that just exits, and of the null guest.
fn starts(paths: &Paths, dir: &Path) -> io::Result<(Duration, Duration)> {
    let null = paths.build().join("null.elf");
    let lines = [qemu_line(paths, dir, &[])?, qemu_line(paths, dir, &["--kernel", &null.to_string_lossy()])?];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..STARTS {
        for (line, times) in lines.iter().zip(&mut times) {
            let start = Instant::now();
            let status =
                shell(&format!("exec {line}")).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            times.push(start.elapsed());
            if !status.success() {
                return Err(io::Error::other(format!("{status}: {line}")));
            }
        }
    }
    let [ours, null] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    Ok((ours, null))
}

/// QEMU's own line from a dry run; the files that the lines before it make are made.
fn qemu_line(paths: &Paths, dir: &Path, options: &[&str]) -> io::Result<String> {
    let boot =
        Boot::of("ok").quiet().with(&["--dry-run", "--nvdimm", "{dir}/start.img,size=4G"]).with(options);
    let script = output(boot.command(paths, dir), dir)?;
    let (files, line) = script.trim_end().rsplit_once('\n').unwrap_or(("", &script));
    output(shell(files), dir)?;
    Ok(format!("timeout 60 {line}"))
}

/// The smallest `-m` in MiB at which a program still runs, found downwards from the limit.
fn smallest_memory(paths: &Paths, dir: &Path) -> io::Result<u64> {
    let mut smallest = u64::MAX;
    for mib in (1..=MEMORY_LIMIT_MIB).rev() {
        // The launcher refuses less than the limit; QEMU takes the last -m.
        let memory = format!("-m {mib}M,slots=1,maxmem=8G");
        let boot = Boot::of("ok").with(&["--memory", "16M", "--qemu-opts", &memory, "--timeout", "10"]);
        let ran = execute(boot.command(paths, dir), dir)?;
        if !ran.status.is_some_and(|status| status.success()) {
            break;
        }
        smallest = mib;
    }
    Ok(smallest)
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).stdin(Stdio::null());
    command
}

/// The stdout of a command that must succeed.
fn output(command: Command, dir: &Path) -> io::Result<String> {
    let ran = execute(command, dir)?;
    if !ran.status.is_some_and(|status| status.success()) {
        return Err(io::Error::other(ran.text()));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

impl Row {
    /// By how much the worst figure is over its limit.
    fn over(&self) -> u64 {
        let over = |(ours, limit): (&u64, &Option<u64>)| limit.map_or(0, |limit| ours.saturating_sub(limit));
        self.ours.iter().zip(&self.limits).map(over).max().unwrap_or(u64::MAX)
    }
}

fn print(rows: &[Row]) {
    println!("guest instructions by --icount unless another unit is named; Linux: 6.1 in the same QEMU");
    let (ours, linux) =
        (ALIGNS.map(|align| format!("Daxite {align}")), ALIGNS.map(|align| format!("Linux {align}")));
    line("", &ours, &linux, "at most", "");
    for row in rows {
        let ours: Vec<_> = row.ours.iter().map(u64::to_string).collect();
        let (limit, verdict) = match (row.limits.iter().flatten().max(), row.over()) {
            (None, _) => (String::new(), String::new()),
            (Some(limit), 0) => (limit.to_string(), "ok".into()),
            (Some(limit), over) => (limit.to_string(), format!("over by {over}")),
        };
        line(&row.name, &ours, &row.linux, &limit, &verdict);
    }
}

fn line(name: &str, ours: &[String], linux: &[String], limit: &str, verdict: &str) {
    let cell = |cells: &[String], at: usize| format!("{:>13}", cells.get(at).map_or("", |cell| cell));
    let cells: String = [ours, linux].iter().flat_map(|cells| (0..3).map(|at| cell(cells, at))).collect();
    println!("{}", format!("{name:<38}{cells}{limit:>10}  {verdict}").trim_end());
}
