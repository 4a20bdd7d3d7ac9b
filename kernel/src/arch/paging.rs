//! The kernel's own page tables: its image W^X, RAM and NVDIMMs in the physmap, holes under its stacks.
//!
//! Every address space shares the upper 256 entries of this root, so all of them are filled at boot and none
//! ever changes: what comes later (kernel stacks) goes below them.
//!
//! | kernel address | what | may be |
//! |---|---|---|
//! | `PHYSMAP_BASE` + p | RAM without the kernel image and the low megabyte | written |
//! | | the initrd, and every persistent range | read: the kernel itself cannot harm a medium |
//! | `KERNEL_BASE` + p | .text | executed |
//! | | .rodata | read |
//! | | .data, .bss less the guard pages | written |
//! | `stack::AREA` | kernel stacks, a page apart | written |

use super::stack;
use core::ops::Range;
use entry::{KERNEL_BASE, PHYSMAP_BASE};
use mm::memory_map::MemoryMap;
use mm::range::{MapSize, PAGE_SIZE, PhysRange};
use spin::Once;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags, PhysFrame};

/// The physmap ends below the kernel image: what lies behind this is out of its reach.
const PHYSMAP_BYTES: u64 = 64 << 40;

/// How many bits of a physical address this CPU's entries and the physmap have: memory behind them is out of reach.
pub fn reachable_bits(features: &super::cpu::Features) -> u32 {
    features.physical_address_bits.min(PHYSMAP_BYTES.ilog2())
}

unsafe extern "C" {
    static text_start: u8;
    static text_end: u8;
    static rodata_end: u8;
    static kernel_end: u8;
    static boot_stack_guard: u8;
}

fn address(symbol: &'static u8) -> u64 {
    &raw const *symbol as u64
}

/// The physical memory that the kernel image occupies, bss included.
pub fn kernel_image() -> PhysRange {
    // SAFETY: link.ld defines the symbols; only their addresses are taken.
    let (start, end) = unsafe { (address(&text_start), address(&kernel_end)) };
    PhysRange::from_bounds(start - KERNEL_BASE, end - KERNEL_BASE).expect("link.ld: the image is not empty")
}

/// The addresses of the kernel's code.
pub fn kernel_text() -> Range<u64> {
    // SAFETY: link.ld defines the symbols; only their addresses are taken.
    unsafe { address(&text_start)..address(&text_end) }
}

/// The pages below the kernel's stacks, which nothing maps.
fn guards() -> impl Iterator<Item = u64> {
    // SAFETY: entry.s defines the symbol; only its address is taken.
    let boot = unsafe { address(&boot_stack_guard) };
    stack::BOOT_EXCEPTION.iter().map(|stack| stack.guard().as_u64()).chain([boot])
}

/// Does this address lie in a page below a stack?
pub fn is_guard(address: u64) -> bool {
    guards().any(|guard| address & !0xfff == guard)
}

/// The physical address behind an address of the kernel image.
pub fn image_phys(address: u64) -> u64 {
    address - KERNEL_BASE
}

/// Where frames for the kernel's tables come from. Each is below 4 GiB or in the loaded physmap, and holds anything; it is
/// given once, and belongs to nobody else: boot carves out what was taken of `home`.
struct TableFrames {
    /// Before there is an allocator: the start of this RAM.
    home: PhysRange,
    allocator: Option<&'static mm::frames::FrameAllocator>,
    taken: u64,
}

impl TableFrames {
    /// An empty table in a frame of its own.
    fn new_table(&mut self) -> Result<PhysAddr, NoTableFrames> {
        let frame = match self.allocator {
            Some(frames) => frames.allocate_for_program().map(|frame| frame.address()),
            None => self.home.part(self.taken * PAGE_SIZE, PAGE_SIZE).map(|range| range.start()),
        };
        let frame = frame.ok_or(NoTableFrames)?;
        self.taken += 1;
        // SAFETY: the frame is ours alone and mapped at PHYSMAP_BASE.
        unsafe { table_at(frame).write(PageTable::new()) };
        Ok(frame)
    }
}

/// Where the kernel sees the table in this frame.
fn table_at(frame: PhysAddr) -> *mut PageTable {
    (PHYSMAP_BASE + frame.as_u64()) as *mut PageTable
}

/// The kernel's tables while boot fills them.
pub struct KernelTables {
    root: PhysAddr,
    gigabyte_pages: bool,
    no_execute: PageTableFlags,
    frames: TableFrames,
}

/// There is not enough RAM for the kernel's own page tables.
#[derive(Clone, Copy, Debug)]
pub struct NoTableFrames;

impl KernelTables {
    /// Maps the kernel image and all of `map`'s free RAM; `read_only` are the initrd and the NFIT. The tables take
    /// frames from the start of `home`.
    pub fn build(
        map: &MemoryMap,
        read_only: impl Iterator<Item = PhysRange>,
        features: &super::cpu::Features,
        home: PhysRange,
    ) -> Result<KernelTables, NoTableFrames> {
        let mut frames = TableFrames { home, allocator: None, taken: 0 };
        let root = frames.new_table()?;
        let no_execute =
            if features.no_execute { PageTableFlags::NO_EXECUTE } else { PageTableFlags::empty() };
        let gigabyte_pages = features.gigabyte_pages;
        let mut tables = KernelTables { root, gigabyte_pages, no_execute, frames };
        tables.map_image()?;
        // The root's entry for kernel stacks, before any space copies it.
        tables.entry(stack::AREA, MapSize::Size1G)?;
        for ram in map.ram() {
            tables.map_physical(ram, PageTableFlags::WRITABLE)?;
        }
        for range in read_only {
            tables.map_physical(whole_pages(range), PageTableFlags::empty())?;
        }
        Ok(tables)
    }

    /// From now on the tables take frames from the allocator.
    pub fn take_frames_from(&mut self, allocator: &'static mm::frames::FrameAllocator) {
        self.frames.allocator = Some(allocator);
    }

    /// How many frames they have taken.
    pub fn frames_taken(&self) -> u64 {
        self.frames.taken
    }

    /// Maps a physical range into the physmap, never executable, with the largest pages that fit.
    pub fn map_physical(&mut self, range: PhysRange, flags: PageTableFlags) -> Result<(), NoTableFrames> {
        self.map(PHYSMAP_BASE, range, flags | self.no_execute)
    }

    /// Maps a frame, which is the caller's for good, at an address of [`stack::AREA`].
    pub fn map_stack_page(&mut self, at: u64, frame: PhysAddr) -> Result<(), NoTableFrames> {
        let page = PhysRange::new(frame.as_u64(), PAGE_SIZE).expect("a frame is below the end of memory");
        self.map(at.wrapping_sub(frame.as_u64()), page, PageTableFlags::WRITABLE | self.no_execute)
    }

    /// Loads the tables; from here on the early ones and the identity map are gone.
    pub fn load(&self) {
        // SAFETY: the tables map this code, its stack and its data where they are now.
        unsafe { Cr3::write(PhysFrame::containing_address(self.root), Cr3Flags::empty()) };
        KERNEL_ROOT.call_once(|| self.root);
    }

    /// The upper half of the root, which every address space copies.
    pub fn kernel_half(&self) -> [u64; 256] {
        // SAFETY: the root is ours, mapped at PHYSMAP_BASE by both sets of tables, and `&self` keeps it as it is.
        let table = unsafe { &*table_at(self.root) };
        core::array::from_fn(|i| {
            let entry = &table[256 + i];
            entry.addr().as_u64() | entry.flags().bits()
        })
    }

    fn map_image(&mut self) -> Result<(), NoTableFrames> {
        let text = kernel_text();
        // SAFETY: link.ld defines the symbols; only their addresses are taken.
        let [rodata_stop, end] = unsafe { [&rodata_end, &kernel_end].map(address) };
        let sections = [
            (text.start, text.end, PageTableFlags::empty()),
            (text.end, rodata_stop, self.no_execute),
            (rodata_stop, end, PageTableFlags::WRITABLE | self.no_execute),
        ];
        for (from, to, flags) in sections {
            if let Some(range) = PhysRange::from_bounds(from - KERNEL_BASE, to - KERNEL_BASE) {
                self.map(KERNEL_BASE, range, flags)?;
            }
        }
        for guard in guards() {
            // The tables are not loaded yet: there is nothing to flush.
            self.entry(guard, MapSize::Size4K)?.expect("the guard page was mapped above").set_unused();
        }
        Ok(())
    }

    /// Maps `range` at `base` plus its physical address. Where it shares a page with another range (a firmware's odd
    /// edges) the first mapping stays.
    fn map(&mut self, base: u64, range: PhysRange, flags: PageTableFlags) -> Result<(), NoTableFrames> {
        let flags = flags | PageTableFlags::PRESENT | PageTableFlags::GLOBAL;
        let larger = [(MapSize::Size1G, self.gigabyte_pages), (MapSize::Size2M, base == PHYSMAP_BASE)];
        let (mut at, end) = (range.start().as_u64(), range.end());
        while at < end {
            let fits = |&(size, may): &(MapSize, bool)| may && size.divides(at) && end - at >= size.bytes();
            let size = larger.into_iter().find(fits).map_or(MapSize::Size4K, |(size, _)| size);
            let huge =
                if size == MapSize::Size4K { PageTableFlags::empty() } else { PageTableFlags::HUGE_PAGE };
            // The kernel half maps physical memory at fixed offsets; Rust objects live only in the image and in frames
            // of the allocator, and no executable page is writable through the physmap, for the image is not in it.
            // CPUs do not cache absent entries: there is nothing to flush.
            if let Some(entry) = self.entry(base.wrapping_add(at), size)?.filter(|entry| entry.is_unused()) {
                entry.set_addr(PhysAddr::new(at), flags | huge);
            }
            at += size.bytes();
        }
        Ok(())
    }

    /// The entry that maps a page of this size at `address`, with the tables above it, which are made where they are
    /// missing. `None`: a larger page is mapped there.
    fn entry(&mut self, address: u64, size: MapSize) -> Result<Option<&mut PageTableEntry>, NoTableFrames> {
        let (mut table, mut bits) = (self.root, ROOT_ENTRY_BITS);
        loop {
            // SAFETY: 1. all tables come from `frames`, which lie in memory mapped at PHYSMAP_BASE by both sets of tables;
            // 2. they are ours alone, and the reference borrows `self`: there is no other.
            let table_here = unsafe { &mut *table_at(table) };
            let entry = &mut table_here[(address >> bits) as usize % 512];
            if bits == size.shift() {
                return Ok(Some(entry));
            }
            if entry.is_unused() {
                let below = self.frames.new_table()?;
                entry.set_addr(below, PageTableFlags::PRESENT | PageTableFlags::WRITABLE);
            } else if entry.flags().contains(PageTableFlags::HUGE_PAGE) {
                return Ok(None);
            }
            (table, bits) = (entry.addr(), bits - 9);
        }
    }
}

/// Address bits below those that choose an entry of the root.
const ROOT_ENTRY_BITS: u32 = 39;

/// `range` with its edges moved out to whole pages.
fn whole_pages(range: PhysRange) -> PhysRange {
    let start = range.start().align_down(4096u64).as_u64();
    PhysRange::from_bounds(start, range.end().next_multiple_of(4096)).unwrap_or(range)
}

/// The kernel's own root, for the time between programs.
static KERNEL_ROOT: Once<PhysAddr> = Once::new();

/// The kernel's own root table.
pub fn kernel_root() -> PhysAddr {
    *KERNEL_ROOT.get().expect("boot loads the kernel's tables first")
}

/// Loads the root table at this physical address; 0 stands for the kernel's own.
///
/// # Safety
/// `root` is 0 or the root of a space, which lives until another is loaded.
#[inline]
pub unsafe fn load_root(root: u64) {
    let root = match root {
        0 => kernel_root(),
        root => PhysAddr::new(root),
    };
    // SAFETY: every root has the kernel half, so the running code stays mapped; the rest is the caller's promise.
    unsafe { Cr3::write(PhysFrame::containing_address(root), Cr3Flags::empty()) };
}
