//! The steps of boot between the hypervisor's letter and the first program. `main.rs` gives the order.

use crate::arch::cpu::Features;
use crate::arch::paging::{KernelTables, kernel_image, reachable_bits};
use crate::arch::smp;
use crate::clock;
use crate::command_line::CommandLine;
use crate::initrd::Initrd;
use crate::panic::{fail, set_power};
use alloc::string::String;
use entry::{BootInfo, EARLY_MAPPED_BYTES, MemoryMapEntry, PHYSMAP_BASE, PhysicalMemory};
use mm::frames::FrameAllocator;
use mm::memory_map::MemoryMap;
use mm::physmap::PhysMap;
use mm::range::{PAGE_SIZE, PhysRange};
use platform::acpi::{Acpi, Cpus, TableError, Window};
use platform::apic;
use platform::power::QEMU_DEFAULT;
use spin::Once;
use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags;

/// Physical memory as `entry.s` mapped it: the first 4 GiB.
pub const EARLY: Window = Window { base: PHYSMAP_BASE, len_bytes: EARLY_MAPPED_BYTES };

struct EarlyMemory;

impl PhysicalMemory for EarlyMemory {
    fn bytes(&self, start: u64, len: u64) -> Option<&[u8]> {
        EARLY.bytes(start, len)
    }
}

/// Pages below 640 KiB, where the BIOS and its like begin.
const LOW_PAGES: usize = 0xa0;

/// What the hypervisor told, copied out of memory that is about to be given away.
pub struct Letter {
    /// The command line, as text.
    pub command_line: String,
    /// Where the initrd lies.
    pub initrd: Option<PhysRange>,
    /// Where the NFIT lies.
    nfit: Option<PhysRange>,
    /// The RSDP's address.
    pub rsdp: Option<u64>,
    /// RAM, less what must not be given away.
    pub map: MemoryMap,
    /// Pages of the first MiB that are RAM; some hold what firmware left.
    low_pages: [bool; LOW_PAGES],
}

/// Reads the hypervisor's letter and builds the memory map.
pub fn read_letter(start_info: u64, features: &Features) -> Letter {
    let info = match BootInfo::parse(&EarlyMemory, start_info) {
        Ok(info) => info,
        Err(error) => fail(format_args!("boot: {error}")),
    };
    // RAM out of reach is as good as none.
    let reach = 1u64 << reachable_bits(features);
    let entries = info.memory_map().map(|entry| {
        let room = reach.saturating_sub(entry.start);
        (entry.start, if entry.kind == 1 { entry.len_bytes.min(room) } else { entry.len_bytes }, entry.kind)
    });
    let mut map = MemoryMap::new(entries);
    if info.dropped_map_entries > 0 {
        log::warn!("boot: {} memory map entries are too many and were left out", info.dropped_map_entries);
    }
    if let (ranges @ 1.., bytes) = map.dropped() {
        log::warn!("boot: {ranges} RAM range(s) of {bytes:#x} bytes in all do not fit and are not used");
    }
    // The first megabyte is firmware's and the letter's: not worth the care.
    carve(&mut map, PhysRange::new(0, 1 << 20), "firmware");
    carve(&mut map, Some(kernel_image()), "the kernel");
    if let Some(initrd) = info.initrd {
        let in_ram = map.ram().any(|ram| ram.contains(initrd)) && initrd.end() <= EARLY_MAPPED_BYTES;
        if !in_ram {
            fail(format_args!("boot: the initrd {initrd} does not lie in free RAM below 4 GiB"));
        }
        carve(&mut map, Some(initrd), "the initrd");
    }
    if info.extra_modules > 0 {
        log::warn!("boot: {} module(s) behind the initrd are not used", info.extra_modules);
    }
    let command_line = String::from_utf8_lossy(info.command_line).into_owned();
    let low_pages = free_low_pages(&info);
    let mut letter =
        Letter { command_line, initrd: info.initrd, nfit: None, rsdp: info.rsdp, map, low_pages };
    // Whatever a firmware's NFIT says, these are not memory. Types 7 and 12 are: persistent.
    letter.claim(0xfec0_0000, 0x140_0000, "the APICs and the firmware's flash");
    for entry in info.memory_map().filter(|entry| !matches!(entry.kind, 0 | 1 | 7 | 12)).take(32) {
        letter.claim(entry.start, entry.len_bytes, "a reserved range of the memory map");
    }
    letter
}

impl Letter {
    /// Claims what no NVDIMM may be. Where somebody has a part already, that claim does.
    fn claim(&mut self, start: u64, len_bytes: u64, owner: &'static str) {
        if let Some(range) = PhysRange::new(start, len_bytes) {
            let _ = self.map.carve(range, owner);
        }
    }

    /// Keeps a table that firmware left: it may lie in RAM or beside it. False when a part of it is in use.
    fn keep(&mut self, table: &[u8]) -> bool {
        self.nfit = PhysRange::new(table.as_ptr() as u64 - PHYSMAP_BASE, table.len() as u64);
        let Some(range) = self.nfit.filter(|&nfit| self.map.ram().any(|ram| ram.overlaps(nfit))) else {
            return true;
        };
        let kept = self.map.carve(range, "the NFIT");
        if let Err(error) = kept {
            log::error!("nfit: not read, for it lies in memory that is in use: {error}");
            self.nfit = None;
        }
        kept.is_ok()
    }
}

/// Which pages below 640 KiB are RAM, whole, and nothing else by any entry of the memory map. Not page 0, the BIOS's.
fn free_low_pages(info: &BootInfo<'_>) -> [bool; LOW_PAGES] {
    let mut free = [false; LOW_PAGES];
    let mut mark = |first: u64, end: u64, is_free| {
        let [first, end] = [first, end].map(|page| page.min(LOW_PAGES as u64) as usize);
        free.get_mut(first..end).into_iter().for_each(|pages| pages.fill(is_free));
    };
    let ends = |entry: MemoryMapEntry| (entry.start, entry.start.saturating_add(entry.len_bytes));
    for (start, end) in info.memory_map().filter(|entry| entry.kind == 1).map(ends) {
        mark(start.div_ceil(PAGE_SIZE), end / PAGE_SIZE, true);
    }
    // Entries of kind 0 are no entries: some firmware ends its list with one.
    for (start, end) in info.memory_map().filter(|entry| entry.kind > 1).map(ends) {
        mark(start / PAGE_SIZE, end.div_ceil(PAGE_SIZE), false);
    }
    mark(0, 1, false);
    free
}

/// Copies the first code of the other CPUs to a free page of the first MiB, while the early tables show it. What the
/// hypervisor left there has been read by now, but for the NFIT.
pub fn prepare_cpus(letter: &Letter, firmware: &Firmware) -> Option<PhysAddr> {
    let others = firmware.cpus.as_ref().is_some_and(|cpus| cpus.apic_ids.len() > 1);
    let is_free = |&page: &usize| {
        let range = PhysRange::new(page as u64 * PAGE_SIZE, PAGE_SIZE);
        letter.low_pages[page] && range.zip(letter.nfit).is_none_or(|(page, nfit)| !page.overlaps(nfit))
    };
    let page = (0..letter.low_pages.len()).filter(|_| others).find(is_free)?;
    let page = PhysAddr::new(page as u64 * PAGE_SIZE);
    // SAFETY: the page is RAM by the memory map, holds nothing that is still needed, and is given to nobody, for the
    // first MiB has been carved out.
    unsafe { smp::prepare(page) };
    Some(page)
}

fn carve(map: &mut MemoryMap, range: Option<PhysRange>, owner: &'static str) {
    if let Some(Err(error)) = range.map(|range| map.carve(range, owner)) {
        fail(format_args!("boot: {owner}: {error}"));
    }
}

/// Reads the command line; a value that means nothing ends the boot, for a guess is not what was asked for.
pub fn options(command_line: &str) -> CommandLine {
    match CommandLine::parse(command_line) {
        Ok(options) => {
            for word in &options.unknown {
                log::warn!("command line: {word}: unknown option, ignored");
            }
            if options.more_unknown > 0 {
                log::warn!("command line: {} more unknown options, ignored", options.more_unknown);
            }
            options
        }
        Err(error) => fail(format_args!("{error}")),
    }
}

/// What ACPI told, read while the early tables still show all of the first 4 GiB.
#[derive(Default)]
pub struct Firmware {
    /// The NFIT, which stays mapped; the reason when there is one that cannot be used.
    pub nfit: Option<Result<&'static [u8], TableError>>,
    /// QEMU's NVDIMM mailbox is there.
    pub has_mailbox: bool,
    /// What the MADT says about CPUs.
    pub cpus: Option<Cpus>,
}

/// Finds ACPI, sets clock and power, reserves the NFIT, and reads which CPUs there are.
pub fn firmware(letter: &mut Letter) -> Firmware {
    let Some(rsdp) = letter.rsdp else {
        log::warn!("acpi: the hypervisor names no RSDP: no NVDIMM can be found");
        clock::init(None);
        return Firmware::default();
    };
    let acpi = match Acpi::find(EARLY, rsdp) {
        Ok(acpi) => acpi,
        Err(error) => {
            clock::init(None);
            log::error!("acpi: {error}");
            return Firmware::default();
        }
    };
    clock::init(acpi.pm_timer());
    set_power(acpi.soft_off().unwrap_or(QEMU_DEFAULT));
    let cpus = acpi.cpus().unwrap_or_else(|error| {
        log::warn!("acpi: {error}");
        None
    });
    for (start, len_bytes) in acpi.pci_config_space() {
        letter.claim(start, len_bytes, "PCI configuration space");
    }
    let nfit = acpi.table("NFIT").transpose();
    let nfit = nfit.filter(|table| table.is_err() || table.is_ok_and(|table| letter.keep(table)));
    Firmware { nfit, has_mailbox: acpi.has_ssdt(b"NVDIMM"), cpus }
}

/// Builds and loads the kernel's own page tables, from frames at the start of RAM, which are carved out then.
pub fn page_tables(letter: &mut Letter, features: &Features) -> KernelTables {
    let no_room = || -> ! { fail(format_args!("boot: no RAM below 4 GiB for the kernel's page tables")) };
    // The largest piece of low RAM: the tables of terabytes of RAM still leave it nearly whole.
    let low = letter.map.ram().filter(|ram| ram.end() <= EARLY_MAPPED_BYTES);
    let Some(home) = low.max_by_key(|ram| ram.len_bytes()) else { no_room() };
    let read_only = letter.initrd.into_iter().chain(letter.nfit);
    let Ok(mut tables) = KernelTables::build(&letter.map, read_only, features, home) else { no_room() };
    if let Some(registers) = apic::physical_base().and_then(|base| PhysRange::new(base, PAGE_SIZE)) {
        let uncached = PageTableFlags::WRITABLE | PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH;
        let Ok(()) = tables.map_physical(registers, uncached) else { no_room() };
    }
    let taken = PhysRange::new(home.start().as_u64(), tables.frames_taken() * PAGE_SIZE);
    carve(&mut letter.map, taken, "the kernel's page tables");
    tables.load();
    tables
}

/// Hands the free RAM to the frame allocator.
pub fn frames(map: &MemoryMap) -> &'static FrameAllocator {
    static FRAMES: Once<FrameAllocator> = Once::new();
    FRAMES.call_once(|| {
        // SAFETY: the tables that were just loaded map all of `map.ram()` at PHYSMAP_BASE for good, and whatever is
        // in use there has been carved out.
        match unsafe { FrameAllocator::new(PhysMap::new(PHYSMAP_BASE), map) } {
            Some(frames) => frames,
            None => fail(format_args!("boot: no RAM for the frame allocator")),
        }
    })
}

/// Reads the initrd where the hypervisor put it.
pub fn initrd(range: Option<PhysRange>) -> Initrd {
    let Some(range) = range else { return Initrd::default() };
    // SAFETY: the range was carved out of RAM, is mapped read-only in the physmap, and is never written.
    let archive = unsafe {
        let start = (PHYSMAP_BASE + range.start().as_u64()) as *const u8;
        core::slice::from_raw_parts(start, range.len_bytes() as usize)
    };
    let (initrd, result) = Initrd::parse(archive, Some(range));
    if let Err(error) = result {
        log::error!("initrd: {error}; files before it are used");
    }
    initrd
}
