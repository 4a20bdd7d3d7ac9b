//! `bench`: what device-dax costs, in guest instructions; `name value` lines, or `--table` beside Linux 6.1.
//!
//! Under QEMU's `-icount shift=0,sleep=off` the time-stamp counter advances by one with each instruction, so
//! a difference of two readings is an exact count. Whether that is so is measured first with a loop of known
//! length; otherwise the values are ticks of the counter, and the `unit` line says so.
//!
//! As in the figures for Linux: a value includes its pair of readings (`rdtsc_pair`); touched rows are
//! 65,536 pages at 4K, 2,047 at 2M, 3 at 1G, or what the device has; single faults are medians.

use std::arch::asm;
use std::process::ExitCode;

use guest::device::{Align, Device};
use guest::kernel_view::Counters;
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};

/// One row: its name, Linux 6.1's instructions at 4K, 2M and 1G, and the most that we allow ourselves.
type Row = (&'static str, [u64; 3], Option<u64>);

const ROWS: &[Row] = &[
    ("rdtsc_pair", [5, 5, 5], None),
    ("getppid", [359, 359, 359], Some(120)),
    ("anon4k_write_fault", [6364, 6364, 6364], None),
    ("dax_write_fault_firstpass", [2179, 1907, 1825], None),
    ("dax_write_fault", [2176, 1904, 1822], Some(400)),
    ("dax_read_fault", [2170, 1891, 1809], None),
    ("dax_write_after_read", [6, 6, 6], None),
    ("dax_warm_write", [6, 6, 6], None),
    ("touch_256M_by_4K_total", [144_115_350, 711_356, 465_226], None),
    ("mmap_whole", [6262, 6298, 6298], None),
    ("munmap_whole_untouched", [7012, 6717, 6717], None),
    ("touch_all", [144_180_528, 3_935_555, 5482], None),
    ("munmap_touched", [5_830_687, 397_736, 8353], None),
    ("mprotect_ro_touched", [8_684_978, 754_185, 2299], None),
    ("mprotect_rw_touched", [8_685_105, 754_312, 2426], None),
    ("write_after_mprotect_per_page", [6, 6, 9], None),
    ("madvise_dontneed_touched", [5_937_577, 358_111, 1444], None),
    ("mmap_populate_total", [153_270_405, 407_826_377, 233_753_265], None),
];

/// The time-stamp counter.
#[inline(always)]
fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: rdtsc changes rax and rdx only.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nostack)) };
    high << 32 | low
}

fn timed(f: impl FnOnce()) -> u64 {
    let start = ticks();
    f();
    ticks() - start
}

/// As [`timed`], for a call whose answer is not looked at.
fn timed_call<T>(f: impl FnOnce() -> T) -> u64 {
    timed(|| {
        let _ = f();
    })
}

#[inline(always)]
fn timed_store(addr: usize) -> u64 {
    let start = ticks();
    // SAFETY: the callers pass an address inside a live writable mapping.
    unsafe { (addr as *mut u8).write_volatile(1) };
    ticks() - start
}

#[inline(always)]
fn timed_load(addr: usize) -> u64 {
    let start = ticks();
    // SAFETY: the callers pass an address inside a live readable mapping.
    unsafe { (addr as *const u8).read_volatile() };
    ticks() - start
}

/// Ticks of a loop of two million instructions: 2,000,000 where the counter counts instructions.
fn ticks_of_two_million() -> u64 {
    // SAFETY: a loop on one register.
    timed(|| unsafe { asm!("2: dec {0}", "jnz 2b", inout(reg) 1_000_000_u64 => _, options(nostack)) })
}

/// The cheapest system call, with nothing around the instruction.
#[inline(always)]
fn timed_getppid() -> u64 {
    let start = ticks();
    // SAFETY: getppid takes no argument; the kernel changes rax, rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_getppid => _, lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    ticks() - start
}

fn median(samples: &mut [u64]) -> u64 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

/// The measurements, and the pages at hand for samples so that no sample faults.
struct Bench<'a> {
    device: &'a Device,
    units: usize,
    samples: Vec<u64>,
    values: Vec<(&'static str, u64)>,
}

impl Bench<'_> {
    fn put(&mut self, name: &'static str, value: u64) {
        self.values.push((name, value));
    }

    /// The median of `count` measurements of `f(index)`.
    fn put_median(&mut self, name: &'static str, count: usize, mut f: impl FnMut(usize) -> u64) {
        for (index, sample) in self.samples.iter_mut().take(count).enumerate() {
            *sample = f(index);
        }
        let value = median(&mut self.samples[..count]);
        self.put(name, value);
    }

    fn whole(&self) -> Result<Mapping, Errno> {
        self.device.map(self.device.size, 0)
    }

    /// The median of one touch in each alignment of a mapping.
    fn put_touches(&mut self, name: &'static str, mapping: &Mapping, touch: fn(usize) -> u64) {
        let (addr, align) = (mapping.addr, self.device.align);
        self.put_median(name, self.units, |unit| touch(addr + unit * align));
    }

    fn calls(&mut self) -> Result<(), Errno> {
        self.put_median("rdtsc_pair", 1001, |_| timed(|| ()));
        self.put_median("getppid", 1001, |_| timed_getppid());
        let anonymous = Mapping::anonymous(2048 * PAGE)?;
        // Linux would back it with huge pages; a kernel without them may refuse the advice.
        let _ = sys::madvise(anonymous.addr, anonymous.len, libc::MADV_NOHUGEPAGE);
        self.put_median("anon4k_write_fault", 2048, |page| timed_store(anonymous.addr + page * PAGE));
        Ok(())
    }

    fn faults(&mut self) -> Result<(), Errno> {
        for name in ["dax_write_fault_firstpass", "dax_write_fault"] {
            let mapping = self.whole()?;
            self.put_touches(name, &mapping, timed_store);
        }
        let mapping = self.whole()?;
        self.put_touches("dax_read_fault", &mapping, timed_load);
        self.put_touches("dax_write_after_read", &mapping, timed_store);
        self.put_touches("dax_warm_write", &mapping, timed_store);
        drop(mapping);
        let mapping = self.whole()?;
        let (addr, len) = (mapping.addr, self.device.size.min(256 << 20));
        self.put("touch_256M_by_4K_total", timed(|| touch_every(addr, len, PAGE)));
        Ok(())
    }

    fn ranges(&mut self) -> Result<(), Errno> {
        let (size, align, units) = (self.device.size, self.device.align, self.units);
        let mut addr = 0;
        let fd = self.device.fd;
        let map = || sys::mmap(0, size, RW, libc::MAP_SHARED, fd, 0);
        self.put_median("mmap_whole", 101, |_| {
            let ticks = timed(|| addr = map().unwrap_or(0));
            let _ = sys::munmap(addr, size);
            ticks
        });
        self.put_median("munmap_whole_untouched", 101, |_| {
            addr = map().unwrap_or(0);
            timed_call(|| sys::munmap(addr, size))
        });

        let addr = map()?;
        self.put("touch_all", timed(|| touch_every(addr, units * align, align)));
        self.put("mprotect_ro_touched", timed_call(|| sys::mprotect(addr, size, libc::PROT_READ)));
        self.put("mprotect_rw_touched", timed_call(|| sys::mprotect(addr, size, RW)));
        self.put_median("write_after_mprotect_per_page", units, |unit| timed_store(addr + unit * align));
        self.put("madvise_dontneed_touched", timed_call(|| sys::madvise(addr, size, libc::MADV_DONTNEED)));
        touch_every(addr, units * align, align);
        self.put("munmap_touched", timed_call(|| sys::munmap(addr, size)));

        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let mut populated = Err(Errno(0));
        let value = timed(|| populated = sys::mmap(0, units * align, RW, flags, fd, 0));
        self.put("mmap_populate_total", value);
        sys::munmap(populated?, units * align)
    }
}

fn touch_every(addr: usize, len: usize, step: usize) {
    for at in (0..len).step_by(step) {
        // SAFETY: the callers pass a live writable mapping of at least `len` bytes.
        unsafe { ((addr + at) as *mut u8).write_volatile(1) };
    }
}

fn run(device: &Device) -> Result<Vec<(&'static str, u64)>, Errno> {
    let most = match device.alignment {
        Align::Page4K => 65_536,
        Align::Page2M => 2047,
        Align::Page1G => 3,
    };
    let units = most.min(device.size / device.align);
    let mut bench = Bench { device, units, samples: vec![1; units.max(2048)], values: Vec::new() };
    bench.calls()?;
    bench.faults()?;
    bench.ranges()?;
    Ok(bench.values)
}

fn print_table(device: &Device, unit: &str, values: &[(&'static str, u64)]) {
    let column = device.alignment as usize;
    println!("{unit} at {}, {} bytes", device.alignment, device.size);
    println!("{:<30} {:>12} {:>12} {:>8}  limit", "", "Daxite", "Linux 6.1", "times");
    for (name, linux, limit) in ROWS {
        let Some((_, value)) = values.iter().find(|(measured, _)| measured == name) else { continue };
        let times = linux[column] as f64 / (*value).max(1) as f64;
        let limit = match limit {
            Some(limit) if value > limit => format!("{limit} OVER"),
            Some(limit) => limit.to_string(),
            None => String::new(),
        };
        let line = format!("{name:<30} {value:>12} {:>12} {times:>8.1}  {limit}", linux[column]);
        println!("{}", line.trim_end());
    }
}

fn main() -> ExitCode {
    let device = match Device::open() {
        Ok(device) => device,
        Err(message) => {
            eprintln!("bench: {message}");
            return ExitCode::FAILURE;
        }
    };
    let of_two_million = ticks_of_two_million();
    let is_exact = (1_999_000..2_010_000).contains(&of_two_million);
    let unit = if is_exact { "instructions" } else { "ticks" };
    let values = match run(&device) {
        Ok(values) => values,
        Err(errno) => {
            eprintln!("bench: {errno}");
            return ExitCode::FAILURE;
        }
    };
    if std::env::args().any(|argument| argument == "--table") {
        print_table(&device, unit, &values);
    } else {
        println!("unit {unit}");
        values.iter().for_each(|(name, value)| println!("{name} {value}"));
    }
    if let Ok(counters) = Counters::read() {
        println!("kernel_entry_to_program_ns {}", counters.boot_ns);
    }
    ExitCode::SUCCESS
}
