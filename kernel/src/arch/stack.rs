//! Kernel stacks with an unmapped page below each: an overflow is a double fault, never silent damage.
//!
//! All but the boot CPU's first ones come from a pool in an area of their own. A page of it that was mapped once
//! stays mapped, for to unmap it would take a flush on every CPU; a stack that is given back waits for the next
//! task.

use super::fpu::FpuArea;
use super::paging::KernelTables;
use core::cell::UnsafeCell;
use mm::frames::FrameAllocator;
use mm::lock::{Rank, SpinLock};
use mm::range::PAGE_SIZE;
use x86_64::VirtAddr;

/// Stacks for the exceptions that must not rely on the current one: double fault, NMI, machine check.
pub const EXCEPTION_STACKS: usize = 3;

/// Pages of a stack.
const STACK_PAGES: u64 = 4;

/// With the page below it that is never mapped.
const SLOT_PAGES: u64 = STACK_PAGES + 1;

/// Where the pool's stacks lie: one entry of the root table, which boot fills.
pub const AREA: u64 = 0xffff_fe00_0000_0000;

/// A stack in the kernel's image, for the boot CPU.
#[repr(C, align(4096))]
pub struct ImageStack(UnsafeCell<[u8; (SLOT_PAGES * PAGE_SIZE) as usize]>);

// SAFETY: Rust code never touches the bytes: the CPU and the code that runs on the stack do, one CPU a stack.
unsafe impl Sync for ImageStack {}

impl ImageStack {
    /// The page that must not be mapped.
    pub fn guard(&self) -> VirtAddr {
        VirtAddr::from_ptr(self.0.get())
    }
}

/// The boot CPU's exception stacks.
pub static BOOT_EXCEPTION: [ImageStack; EXCEPTION_STACKS] =
    [const { ImageStack(UnsafeCell::new([0; (SLOT_PAGES * PAGE_SIZE) as usize])) }; EXCEPTION_STACKS];

/// The tops of the boot CPU's exception stacks.
pub fn boot_exception_tops() -> [VirtAddr; EXCEPTION_STACKS] {
    BOOT_EXCEPTION.each_ref().map(|stack| stack.guard() + SLOT_PAGES * PAGE_SIZE)
}

/// An owned stack; dropping it gives it back to the pool.
pub struct Stack {
    top: u64,
}

struct Pool {
    tables: KernelTables,
    frames: &'static FrameAllocator,
    /// The top of the first free stack, 0 for none; each holds the next one's in its last word.
    free: u64,
    free_count: u64,
    /// Pages of the area that were mapped or passed over.
    pages: u64,
    /// Frames that the tables had taken for other things.
    before: u64,
}

static POOL: SpinLock<Option<Pool>> = SpinLock::new(Rank::Tasks, None);

/// Opens the pool. `tables` are the kernel's, which are loaded.
pub fn init(tables: KernelTables, frames: &'static FrameAllocator) {
    let before = tables.frames_taken();
    *POOL.lock() = Some(Pool { tables, frames, free: 0, free_count: 0, pages: 0, before });
}

/// Frames that the pool holds and no stack in use needs: they wait for later tasks.
pub fn pooled_frames() -> u64 {
    POOL.lock().as_ref().map_or(0, |pool| {
        let passed_over = pool.pages.div_ceil(SLOT_PAGES);
        let in_use = (pool.pages / SLOT_PAGES - pool.free_count) * STACK_PAGES;
        pool.pages - passed_over + pool.tables.frames_taken() - pool.before - in_use
    })
}

impl Stack {
    /// A stack from the pool; `None` when memory is out.
    pub fn take() -> Option<Stack> {
        let mut pool = POOL.lock();
        let pool = pool.as_mut()?;
        let top = pool.free;
        if top == 0 {
            return pool.add().map(|top| Stack { top });
        }
        // SAFETY: `drop` wrote the word, in a stack that nobody has used since.
        pool.free = unsafe { *((top - 8) as *const u64) };
        pool.free_count -= 1;
        Some(Stack { top })
    }

    /// The address just behind the stack.
    pub fn top(&self) -> VirtAddr {
        VirtAddr::new(self.top)
    }

    /// Room for the FPU registers of whoever runs on the stack, which begins below it.
    pub fn fpu_area(&self) -> *mut FpuArea {
        const { assert!((size_of::<FpuArea>() as u64).is_multiple_of(align_of::<FpuArea>() as u64)) };
        (self.top - size_of::<FpuArea>() as u64) as *mut FpuArea
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut pool = POOL.lock();
        let pool = pool.as_mut().expect("a stack comes from the pool");
        // SAFETY: the stack was ours and is mapped for good; whoever drops it runs on another one.
        unsafe { *((self.top - 8) as *mut u64) = pool.free };
        pool.free = self.top;
        pool.free_count += 1;
    }
}

impl Pool {
    /// Maps one stack more. What is there when memory runs out half way is used the next time.
    fn add(&mut self) -> Option<u64> {
        if self.pages.is_multiple_of(SLOT_PAGES) {
            self.pages += 1;
        }
        loop {
            let page = self.frames.allocate_for_program()?;
            let at = AREA + self.pages * PAGE_SIZE;
            if self.tables.map_stack_page(at, page.address()).is_err() {
                self.frames.free(page);
                return None;
            }
            self.pages += 1;
            if self.pages.is_multiple_of(SLOT_PAGES) {
                return Some(at + PAGE_SIZE);
            }
        }
    }
}

/// The end of the stack that holds `address`: where a walk from there upwards must stop.
pub fn end_of(address: u64) -> Option<u64> {
    // No lock: a panic may have it. Whoever runs on a slot has all of it mapped.
    let slot = SLOT_PAGES * PAGE_SIZE;
    (AREA..AREA + (1 << 39)).contains(&address).then(|| (address - AREA).next_multiple_of(slot) + AREA)
}
