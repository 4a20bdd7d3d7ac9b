//! `million [MOST]`: creates devices of one page until the kernel has no minor left, opens some at random on
//! the way, destroys all in random order; 2^20 unless told that there will be fewer.
//!
//! It prints what each step costs when there are a thousand, ten thousand, ... devices, and the memory that a
//! device takes, and fails when a cost grows by more than half, when a device takes more than 256 bytes, when
//! the request past the last minor is not refused cleanly, or when memory is missing in the end.
//!
//! Costs are guest instructions under `-icount`; without it they are ticks, and only printed. The region
//! (`--region`, 0) must have more than 4 GiB and its first device bound.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use guest::clock::{counts_instructions, ticks};
use guest::ensure;
use guest::random::Random;
use guest::sys::{self, Errno, PAGE};
use guest::sysfs::{self, Name, Region};

/// Minors that there are.
const MINORS: usize = 1 << 20;
/// Devices over which a cost is averaged.
const WINDOW: usize = 500;
/// Opens in all.
const OPENS: usize = 100_000;
/// How much more a step may cost with a million devices than with a thousand, in percent.
const FLAT_PERCENT: u64 = 150;
/// Memory of a device, everything included.
const MOST_BYTES: u64 = 256;

/// The attributes that are written again and again stay open.
struct Attributes {
    create: i32,
    delete: i32,
    bind: i32,
    unbind: i32,
}

/// Ticks of each step at each number of devices.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, Vec<(usize, u64)>>);

impl Attributes {
    fn open(region: Region) -> Result<Attributes, String> {
        let open =
            |path: &str, flags| sysfs::open(path, flags).map_err(|errno| format!("open {path}: {errno}"));
        let home = Name { region: region.0, id: 0 }.attribute("..");
        std::env::set_current_dir(&home).map_err(|error| format!("chdir to {home}: {error}"))?;
        Ok(Attributes {
            create: open(&region.attribute("create"), libc::O_RDWR)?,
            delete: open(&region.attribute("delete"), libc::O_WRONLY)?,
            bind: open(sysfs::BIND, libc::O_WRONLY)?,
            unbind: open(sysfs::UNBIND, libc::O_WRONLY)?,
        })
    }

    /// Makes and enables a device of one page.
    fn create(&self, text: &mut String) -> Result<Name, Step> {
        sys::pwrite(self.create, b"1", 0).map_err(|errno| ("create", errno))?;
        let mut buffer = [0; 64];
        let len = sys::pread(self.create, &mut buffer, 0).map_err(|errno| ("read of create", errno))?;
        let name = std::str::from_utf8(&buffer[..len]).ok().and_then(|text| Name::parse(text.trim_end()));
        let name = name.ok_or(("read of create", Errno(libc::EIO)))?;
        set_size(name, "4096", text)?;
        text.clear();
        let _ = write!(text, "{name}");
        sys::pwrite(self.bind, text.as_bytes(), 0).map_err(|errno| ("bind", errno))?;
        Ok(name)
    }

    /// Disables a device, takes its page, deletes it.
    fn destroy(&self, name: Name, text: &mut String) -> Result<(), Step> {
        text.clear();
        let _ = write!(text, "{name}");
        sys::pwrite(self.unbind, text.as_bytes(), 0).map_err(|errno| ("unbind", errno))?;
        set_size(name, "0", text)?;
        text.clear();
        let _ = write!(text, "{name}");
        sys::pwrite(self.delete, text.as_bytes(), 0).map_err(|errno| ("delete", errno)).map(drop)
    }
}

/// The step that failed.
type Step = (&'static str, Errno);

fn set_size(name: Name, bytes: &str, path: &mut String) -> Result<(), Step> {
    path.clear();
    // Seen from beside the devices: the way from the root is a matter of the tree, not of devices.
    let _ = write!(path, "{name}/size\0");
    let fd = open(path, libc::O_WRONLY).map_err(|errno| ("open of size", errno))?;
    let written = sys::write(fd, bytes.as_bytes());
    let _ = sys::close(fd);
    written.map_err(|errno| ("size", errno)).map(drop)
}

/// Opens a path that ends in NUL.
fn open(path: &str, flags: i32) -> Result<i32, Errno> {
    let path = std::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    sys::open(path, flags)
}

impl Costs {
    /// Notes the mean cost of `count` steps.
    fn add(&mut self, step: &'static str, devices: usize, ticks: u64, count: usize) {
        self.0.entry(step).or_default().push((devices, ticks / count.max(1) as u64));
    }

    /// Prints a line a step, and tells which is not flat.
    fn print(&self) -> Vec<String> {
        let mut steep = Vec::new();
        for (step, costs) in &self.0 {
            let list: Vec<String> =
                costs.iter().map(|(devices, ticks)| format!("{ticks} at {devices}")).collect();
            println!("{step}: {}", list.join(", "));
            let least = costs.iter().map(|cost| cost.1).min().unwrap_or(0);
            let most = costs.iter().map(|cost| cost.1).max().unwrap_or(0);
            if most * 100 > least * FLAT_PERCENT {
                steep.push(format!("{step} costs {least} to {most}"));
            }
        }
        steep
    }
}

/// The numbers of devices at which costs are taken: powers of ten from 1,000, and the most.
fn is_mark(devices: usize, most: usize) -> bool {
    devices == most || (3..7).any(|power| devices == 10_usize.pow(power))
}

struct Run {
    attributes: Attributes,
    names: Vec<Name>,
    random: Random,
    costs: Costs,
    text: String,
}

impl Run {
    fn create_all(&mut self, most: usize) -> Result<(), String> {
        let mut ticks_of_window = 0;
        while self.names.len() < most {
            let start = ticks();
            let created = self.attributes.create(&mut self.text);
            ticks_of_window += ticks() - start;
            let name =
                created.map_err(|(step, errno)| format!("device {}: {step}: {errno}", self.names.len()))?;
            self.names.push(name);
            let count = self.names.len();
            if count.is_multiple_of(WINDOW) {
                if is_mark(count, most) {
                    self.costs.add("create", count, ticks_of_window, WINDOW);
                    self.open_some(OPENS / 5)?;
                }
                ticks_of_window = 0;
            }
        }
        self.open_some(OPENS / 5)
    }

    fn open_some(&mut self, count: usize) -> Result<(), String> {
        let mut ticks_of_all = 0;
        for _ in 0..count {
            let name = self.names[self.random.below(self.names.len())];
            self.text.clear();
            let _ = write!(self.text, "/dev/{name}\0");
            let start = ticks();
            let fd = open(&self.text, libc::O_RDWR);
            ticks_of_all += ticks() - start;
            let fd = fd.map_err(|errno| format!("open of {}: {errno}", self.text))?;
            sys::close(fd).map_err(|errno| format!("close: {errno}"))?;
        }
        self.costs.add("open", self.names.len(), ticks_of_all, count);
        Ok(())
    }

    fn destroy_all(&mut self) -> Result<(), String> {
        self.random.shuffle(&mut self.names);
        let (most, mut ticks_of_window) = (self.names.len(), 0);
        while let Some(name) = self.names.pop() {
            let start = ticks();
            let destroyed = self.attributes.destroy(name, &mut self.text);
            ticks_of_window += ticks() - start;
            destroyed.map_err(|(step, errno)| format!("{name}: {step}: {errno}"))?;
            let gone = most - self.names.len();
            if gone.is_multiple_of(WINDOW) {
                // The window that began with this many devices.
                let count = self.names.len() + WINDOW;
                if count == most || is_mark(count - count % WINDOW, most) {
                    self.costs.add("destroy", count, ticks_of_window, WINDOW);
                }
                ticks_of_window = 0;
            }
        }
        Ok(())
    }
}

fn free_bytes() -> Result<u64, String> {
    sys::free_bytes().map_err(|errno| format!("sysinfo: {errno}"))
}

fn run(region: Region, most: usize) -> Result<(), String> {
    // The device of the whole region gives its memory and keeps its name and minor.
    let first = Name { region: region.0, id: 0 };
    first.unbind().map_err(|errno| format!("unbind of {first}: {errno}"))?;
    first.set("size", "0")?;
    first.set("align", &PAGE.to_string())?;
    sysfs::write(&region.attribute("scrub"), "0").map_err(|errno| format!("scrub: {errno}"))?;
    // Every page that the program itself needs is there before the first measure.
    let mut names = vec![first; most];
    names.clear();
    let (random, text) = (Random::new(1), String::with_capacity(256));
    let mut run = Run { attributes: Attributes::open(region)?, names, random, costs: Costs::default(), text };
    let before = free_bytes()?;
    run.create_all(most)?;
    let peak = free_bytes()?;
    let bytes_each = before.saturating_sub(peak).div_ceil(most as u64);
    println!("devices: {most}, {bytes_each} bytes each");
    if most == MINORS - 1 {
        match run.attributes.create(&mut run.text) {
            Err(("create", Errno(libc::ENOSPC))) => println!("the request past the last minor: ENOSPC"),
            Err((step, errno)) => {
                return Err(format!("past the last minor: {step}: {errno}, not ENOSPC of create"));
            }
            Ok(name) => return Err(format!("past the last minor there is {name}")),
        }
    }
    run.destroy_all()?;
    let after = free_bytes()?;
    println!("free bytes: {before} before, {peak} with all devices, {after} after");
    let steep = run.costs.print();
    if counts_instructions() {
        ensure!(steep.is_empty(), "not flat: {}", steep.join("; "));
    }
    ensure!(bytes_each <= MOST_BYTES, "{bytes_each} bytes a device, at most {MOST_BYTES} allowed");
    ensure!(after + (64 << 10) >= before, "{} bytes did not come back", before - after);
    Ok(())
}

fn main() -> ExitCode {
    let most = std::env::args().nth(1).map_or(Ok(MINORS - 1), |text| text.parse());
    let outcome = match most {
        // A window is the least that is averaged.
        Ok(most) if (2 * WINDOW..MINORS).contains(&most) => run(Region(0), most),
        _ => Err(format!("usage: million [MOST], {} to {}", 2 * WINDOW, MINORS - 1)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("million: {what}");
            ExitCode::FAILURE
        }
    }
}
