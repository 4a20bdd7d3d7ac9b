//! A fake machine for host tests: RAM in an arena, devices and files that are made up.
//!
//! Memory of the fake devices is never touched, so it may have any physical address. Arenas are leaked: a
//! test makes one and reuses it.

use crate::frames::{Frame, FrameAllocator};
use crate::lock::{Parking, set_parking};
use crate::memory_map::MemoryMap;
use crate::pager::*;
use crate::physmap::PhysMap;
use crate::range::{MapSize, PAGE_SIZE, PhysRange, VirtRange};
use crate::shootdown::Shootdown;
use crate::space::{AddressSpace, Environment, MapRequest, Placement};
use crate::vma::{Backing, VmaFlags};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;
use x86_64::PhysAddr;

/// One frame of zeros.
pub(crate) fn zeroed(frames: &FrameAllocator) -> Option<Frame> {
    let mut frame = frames.allocate(0)?;
    frames.bytes_mut(&mut frame).fill(0);
    Some(frame)
}

pub(crate) const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Frames over a fresh arena of `bytes`, whose "physical" addresses begin at 0.
pub(crate) fn frames(bytes: u64) -> FrameAllocator {
    frames_of(bytes, &[(0, bytes, 1)])
}

/// Frames over an arena of `bytes` of which `entries` say what is RAM.
pub(crate) fn frames_of(bytes: u64, entries: &[(u64, u64, u32)]) -> FrameAllocator {
    const ALIGN: usize = 2 << 20;
    // Aligned by hand: memory that malloc aligns is cleared, and so touched, at once.
    let layout = std::alloc::Layout::from_size_align(bytes as usize + ALIGN, 16).expect("a sane size");
    // SAFETY: the layout is not empty and has room for the alignment; the arena is never freed, so it is mapped
    // for as long as it is used, and only this allocator uses it.
    unsafe {
        let arena = std::alloc::alloc_zeroed(layout);
        assert!(!arena.is_null(), "no room for an arena of {bytes} bytes");
        let arena = arena.add(arena.align_offset(ALIGN));
        let map = MemoryMap::new(entries.iter().copied());
        FrameAllocator::new(PhysMap::new(arena as u64), &map).expect("the arena holds its metadata")
    }
}

/// Lets the threads of tests sleep, each until somebody wakes its key; a sleep of half a minute is a lost wake-up.
pub(crate) fn park_threads() {
    /// How often each key was woken.
    struct Threads(Mutex<BTreeMap<usize, u64>>, Condvar);
    impl Parking for Threads {
        fn park(&self, key: usize, still: &dyn Fn() -> bool) {
            let woken = self.0.lock().expect("nobody panics with it");
            if still() {
                let before = woken.get(&key).copied();
                let sleeps = |woken: &mut BTreeMap<_, _>| woken.get(&key).copied() == before;
                let result = self.1.wait_timeout_while(woken, Duration::from_secs(30), sleeps);
                assert!(!result.expect("nobody panics with it").1.timed_out(), "a wake-up was lost");
            }
        }

        fn unpark(&self, key: usize) {
            *self.0.lock().expect("nobody panics with it").entry(key).or_default() += 1;
            self.1.notify_all();
        }
    }
    static THREADS: Threads = Threads(Mutex::new(BTreeMap::new()), Condvar::new());
    set_parking(&THREADS);
}

/// Counts the shootdowns.
#[derive(Default)]
pub(crate) struct CountedShootdowns(pub(crate) AtomicU64);

impl Shootdown for CountedShootdowns {
    fn flush(&self, _root: PhysAddr, _range: VirtRange) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A machine with `bytes` of RAM.
pub(crate) struct Machine {
    pub(crate) environment: &'static Environment,
    pub(crate) shootdowns: &'static CountedShootdowns,
}

impl Machine {
    pub(crate) fn new(bytes: u64) -> Machine {
        let shootdowns = Box::leak(Box::<CountedShootdowns>::default());
        Machine { shootdowns, ..Machine::with_shootdown(bytes, shootdowns) }
    }

    /// The same, where somebody else is asked to flush: nothing is counted.
    pub(crate) fn with_shootdown(bytes: u64, shootdown: &'static dyn Shootdown) -> Machine {
        let frames = Box::leak(Box::new(frames(bytes)));
        let environment = Environment { frames, shootdown, no_execute: true, gigabyte_pages: true };
        let shootdowns = Box::leak(Box::<CountedShootdowns>::default());
        Machine { environment: Box::leak(Box::new(environment)), shootdowns }
    }

    pub(crate) fn space(&self) -> Arc<AddressSpace> {
        self.space_at_random(0)
    }

    pub(crate) fn space_at_random(&self, random: u64) -> Arc<AddressSpace> {
        AddressSpace::new(&[0; 256], self.environment, random).expect("there is memory for a root table")
    }

    pub(crate) fn free_frames(&self) -> u64 {
        self.environment.frames.free_frames()
    }
}

/// A device of `size_bytes` at `base`, with the rules of device-dax.
pub(crate) struct FakeDevice {
    pub(crate) granule: MapSize,
    pub(crate) base: u64,
    pub(crate) size_bytes: u64,
    pub(crate) alive: AtomicBool,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) mappings: Mutex<Vec<Weak<AddressSpace>>>,
    this: Weak<FakeDevice>,
}

impl FakeDevice {
    /// A device of 8 entries.
    pub(crate) fn new(granule: MapSize) -> Arc<FakeDevice> {
        FakeDevice::at(1 << 40, granule, 8)
    }

    /// A device of `entries` entries at physical address `base`, which also names it.
    pub(crate) fn at(base: u64, granule: MapSize, entries: u64) -> Arc<FakeDevice> {
        Arc::new_cyclic(|this| FakeDevice {
            granule,
            base,
            size_bytes: granule.bytes() * entries,
            alive: AtomicBool::new(true),
            flushed_bytes: AtomicU64::new(0),
            mappings: Mutex::default(),
            this: this.clone(),
        })
    }
}

impl Pager for FakeDevice {
    fn granule(&self) -> MapSize {
        self.granule
    }

    fn check_vma(&self, vma: &VmaRequest) -> Result<(), Refusal> {
        if !self.alive.load(Ordering::Relaxed) {
            return Err(Refusal::Dead);
        }
        if vma.sharing == Sharing::Private {
            return Err(Refusal::PrivateDevice);
        }
        let start = vma.range.start().as_u64();
        for (what, value) in
            [("address", start), ("length", vma.range.len_bytes()), ("offset", vma.offset_bytes)]
        {
            if !self.granule.divides(value) {
                return Err(Refusal::Misaligned { what, value, align: self.granule });
            }
        }
        Ok(())
    }

    fn fault(&self, offset: u64, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        if !self.alive.load(Ordering::Relaxed) || offset >= self.size_bytes {
            return Err(FaultError::Bus);
        }
        let memory = PhysRange::new(self.base + offset, self.granule.bytes()).ok_or(FaultError::Bus)?;
        Ok(install(memory, self.granule))
    }

    fn attach(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        if self.alive.load(Ordering::Relaxed) { self.inherit(space) } else { Err(Refusal::Dead) }
    }

    fn inherit(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        let device = self.this.upgrade().expect("a vma holds it");
        self.mappings.lock().expect("no test thread panicked").push(space.clone());
        Ok(Arc::new(FakeMapping { device, space: space.clone() }))
    }

    fn key(&self) -> u64 {
        self.base
    }

    fn futex_object(&self) -> (u64, u64) {
        (self.base, 0)
    }

    fn flush(&self, _offset_bytes: u64, len_bytes: u64) -> Result<(), Refusal> {
        self.flushed_bytes.fetch_add(len_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/dev/dax0.0")
    }
}

/// One mapping of a device, which forgets it when the vma goes.
struct FakeMapping {
    device: Arc<FakeDevice>,
    space: Weak<AddressSpace>,
}

impl Drop for FakeMapping {
    fn drop(&mut self) {
        let mut mappings = self.device.mappings.lock().expect("no test thread panicked");
        if let Some(index) = mappings.iter().position(|space| space.ptr_eq(&self.space)) {
            mappings.swap_remove(index);
        }
    }
}

impl Pager for FakeMapping {
    fn granule(&self) -> MapSize {
        self.device.granule()
    }

    fn check_vma(&self, vma: &VmaRequest) -> Result<(), Refusal> {
        self.device.check_vma(vma)
    }

    fn fault(&self, offset_bytes: u64, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        self.device.fault(offset_bytes, install)
    }

    fn attach(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        self.device.attach(space)
    }

    fn inherit(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        self.device.inherit(space)
    }

    fn key(&self) -> u64 {
        self.device.key()
    }

    fn futex_object(&self) -> (u64, u64) {
        self.device.futex_object()
    }

    fn flush(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), Refusal> {
        self.device.flush(offset_bytes, len_bytes)
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.device.write_path(out)
    }
}

/// A file; where `in_place` is set its whole pages "lie" there.
pub(crate) struct FakeFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) in_place: Option<u64>,
}

impl PageSource for FakeFile {
    fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn page_in_place(&self, offset_bytes: u64) -> Option<PhysRange> {
        let whole = offset_bytes + PAGE_SIZE <= self.len_bytes();
        self.in_place.filter(|_| whole).and_then(|base| PhysRange::new(base + offset_bytes, PAGE_SIZE))
    }

    fn fill(&self, offset_bytes: u64, page: &mut [u8]) {
        let bytes = &self.bytes[(offset_bytes as usize).min(self.bytes.len())..];
        let count = bytes.len().min(page.len());
        page[..count].copy_from_slice(&bytes[..count]);
        page[count..].fill(0);
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/bin/program")
    }
}

/// A request for readable and writable anonymous memory anywhere.
pub(crate) fn anonymous(len_bytes: u64) -> MapRequest {
    MapRequest {
        placement: Placement::Anywhere,
        len_bytes,
        prot: RW,
        max_prot: Prot::all(),
        sharing: Sharing::Private,
        backing: Backing::Anonymous,
        offset_bytes: 0,
        flags: VmaFlags::empty(),
        name: "",
    }
}

/// A request for a shared, writable mapping of a device.
pub(crate) fn device(pager: &Arc<FakeDevice>, offset_bytes: u64, len_bytes: u64) -> MapRequest {
    let backing = Backing::Device(pager.clone());
    MapRequest { backing, offset_bytes, sharing: Sharing::Shared, ..anonymous(len_bytes) }
}

/// A request for a private mapping of a file.
pub(crate) fn file(source: &Arc<FakeFile>, len_bytes: u64, prot: Prot) -> MapRequest {
    MapRequest { backing: Backing::Private(source.clone()), prot, ..anonymous(len_bytes) }
}

/// The request, placed.
pub(crate) fn at(placement: Placement, request: MapRequest) -> MapRequest {
    MapRequest { placement, ..request }
}
