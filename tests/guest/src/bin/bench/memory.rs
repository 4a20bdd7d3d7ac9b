//! System calls, faults and ranges, by one thread.

use std::arch::asm;

use guest::clock::{percentile, ticks, timed};
use guest::device::{Align, Device};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};

use crate::Values;

/// As [`timed`], for a call whose answer is not looked at.
pub fn timed_call<T>(f: impl FnOnce() -> T) -> u64 {
    timed(|| {
        let _ = f();
    })
}

/// Ticks of a store.
#[inline(always)]
pub fn timed_store(addr: usize) -> u64 {
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

/// The measurements, and the pages at hand for samples so that no sample faults.
struct Bench<'a> {
    device: &'a Device,
    units: usize,
    samples: Vec<u64>,
    values: &'a mut Values,
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
        let value = percentile(&mut self.samples[..count], 50);
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

/// Stores once in every `step` bytes.
pub fn touch_every(addr: usize, len: usize, step: usize) {
    for at in (0..len).step_by(step) {
        // SAFETY: the callers pass a live writable mapping of at least `len` bytes.
        unsafe { ((addr + at) as *mut u8).write_volatile(1) };
    }
}

/// Alignments that a row touches.
pub fn units(device: &Device) -> usize {
    let most = match device.alignment {
        Align::Page4K => 65_536,
        Align::Page2M => 2047,
        Align::Page1G => 3,
    };
    most.min(device.size / device.align)
}

fn bench<'a>(device: &'a Device, values: &'a mut Values) -> Bench<'a> {
    let units = units(device);
    Bench { device, units, samples: vec![1; units.max(2048)], values }
}

/// All rows of one thread.
pub fn run(device: &Device, values: &mut Values) -> Result<(), Errno> {
    let mut bench = bench(device, values);
    bench.calls()?;
    bench.faults()?;
    bench.ranges()
}

/// The median of a fault on memory that was touched before.
pub fn warm_fault(device: &Device, values: &mut Values) -> Result<(), Errno> {
    let mut bench = bench(device, values);
    for _ in 0..2 {
        let mapping = bench.whole()?;
        bench.put_touches("dax_write_fault", &mapping, timed_store);
    }
    bench.values.remove(0);
    Ok(())
}
