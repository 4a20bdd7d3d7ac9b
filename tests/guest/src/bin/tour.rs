//! The tour: what `make run` shows. One boot has one alignment, so it is run once an alignment.
//!
//! ```text
//! DAX_ALIGN=2M tour [heading]    with `heading`, first what the tour is; COLOR=1 colours it
//! ```

use std::process::ExitCode;

use guest::counter;
use guest::device::Device;
use guest::kernel_view::{Counters, Walk, faults_at};
use guest::sys;

/// Stores that the tour makes, in alignments of the device.
const UNITS: usize = 4;

struct Style {
    bold: &'static str,
    dim: &'static str,
    good: &'static str,
    bad: &'static str,
    end: &'static str,
}

impl Style {
    fn from_environment() -> Style {
        if std::env::var("COLOR").is_ok_and(|value| value == "1") {
            Style { bold: "\x1b[1m", dim: "\x1b[2m", good: "\x1b[32m", bad: "\x1b[31m", end: "\x1b[0m" }
        } else {
            Style { bold: "", dim: "", good: "", bad: "", end: "" }
        }
    }

    fn line(&self, key: &str, text: &str) {
        println!("  {}{key:<10}{}{text}", self.dim, self.end);
    }
}

/// `4 GiB`, `2 MiB`, ... where it is a whole number of them, else bytes.
fn human(bytes: usize) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes >> shift > 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| format!("{bytes} bytes"), |(shift, unit)| format!("{} {unit}", bytes >> shift))
}

fn heading(style: &Style, device: &Device) {
    println!("{}Daxite: an NVDIMM in the hands of a Linux program{}", style.bold, style.end);
    println!("  This program is an ordinary static Linux binary in ring 3. It maps /dev/dax0.0 and stores");
    println!("  to it; each first touch faults, and the kernel answers with one page-table entry of exactly");
    println!(
        "  the device's alignment. The device is {}, booted here once an alignment.",
        human(device.size)
    );
    println!();
}

fn show(style: &Style, device: &Device) -> Result<(), String> {
    let began = Counters::read()?;
    println!("{}{} entries{}", style.bold, device.alignment, style.end);
    let path = device.path.to_string_lossy();
    style.line("found", &format!("{path}, {}, alignment {}", human(device.size), human(device.align)));

    let units = UNITS.min(device.size / device.align);
    let mapping = device.map(units * device.align, 0).map_err(|errno| format!("mmap: {errno}"))?;
    style.line(
        "mapped",
        &format!("{} at {:#x}, shared, nothing present yet", human(mapping.len), mapping.addr),
    );

    let before = Counters::read()?;
    let last = units - 1;
    // The device's first bytes are the boot counter's: the stores go to the end of each alignment.
    for unit in 0..units {
        let touch = mapping.store((unit + 1) * device.align - 1, unit as u8);
        if !touch.is_done() {
            return Err(format!("the store to alignment {unit} ended in {touch}"));
        }
    }
    let taken = Counters::read()?.faults_since(&before);
    let is_exact = taken == faults_at(device.alignment, units as u64);
    let (colour, verdict) = if is_exact { (style.good, "exact") } else { (style.bad, "NOT EXACT") };
    let bytes = human(mapping.len);
    style.line(
        "faults",
        &format!(
            "{} for {bytes} touched = ceil({bytes} / {}): {colour}{verdict}{}",
            taken.iter().sum::<u64>(),
            human(device.align),
            style.end
        ),
    );

    for (name, unit) in [("walk", 0), ("", last)] {
        let addr = mapping.addr + unit * device.align;
        let walk = Walk::to(addr)?;
        let (dim, end) = (style.dim, style.end);
        style.line(name, &format!("{addr:#x} {dim}CR3 > {}{end} = {walk}", walk.path()));
        if walk.size.as_deref() != Some(&device.alignment.to_string()) {
            return Err(format!("the walk found {walk}, not an entry of {}", device.alignment));
        }
    }
    drop(mapping);

    let count = counter::increment(device)?;
    let boots = format!("{}boot number {count} on this memory{}", style.bold, style.end);
    style.line("persists", &boots);
    let after = sys::monotonic_ns();
    style.line(
        "this boot",
        &format!(
            "{:.3} ms from kernel entry to this program, {} frames free, clock at {:.3} ms",
            began.boot_ns as f64 / 1e6,
            began.free_frames,
            after as f64 / 1e6
        ),
    );
    println!();
    if is_exact { Ok(()) } else { Err(format!("{taken:?} faults (4K, 2M, 1G) for {units} alignments")) }
}

fn main() -> ExitCode {
    let style = Style::from_environment();
    let outcome = Device::open().and_then(|device| {
        if std::env::args().any(|argument| argument == "heading") {
            heading(&style, &device);
        }
        show(&style, &device)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tour: {message}");
            ExitCode::FAILURE
        }
    }
}
