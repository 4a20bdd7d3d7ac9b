//! Physical memory in blocks of 2^order frames of 4 KiB: a buddy allocator.
//!
//! A free block is a node of its order's list; the links lie in the block itself. One metadata byte a frame
//! says whether a free or an allocated block of which order starts there: that finds a free buddy in O(1)
//! and catches a block that is freed twice. The byte of a frame that starts no block is 0. Frames of programs
//! also have a count of who shares them (`shares`), frames of page tables a mark (`tags`).
//!
//! RAM that was never given out is in no list: only the bounds of such ranges are known, and blocks are cut from
//! them 2 MiB at a time. So taking over RAM touches none of it but the metadata, which a hypervisor that hands
//! out memory at the first touch pays back in milliseconds.

mod returning;
mod shares;
#[cfg(feature = "checks")]
mod tags;

use crate::lock::{Rank, SpinLock};
use crate::memory_map::MemoryMap;
use crate::physmap::PhysMap;
use crate::range::{PAGE_SIZE, PhysRange};
use arrayvec::ArrayVec;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU8, Ordering};
use intrusive_collections::{LinkedList, LinkedListLink, UnsafeRef, intrusive_adapter};
use x86_64::PhysAddr;

use returning::Returns;
pub use returning::{Moment, Returning};
#[cfg(feature = "checks")]
pub use tags::LiveEntry;

/// The largest order: 2^18 frames, 1 GiB.
pub const MAX_ORDER: u32 = 18;

/// Frames that programs cannot have: 256 KiB for the kernel's own small needs.
pub const KERNEL_RESERVE: u64 = 64;

/// More ranges of RAM than any firmware's map has left; further ones are not used.
const MAX_RANGES: usize = 160;

/// Untouched RAM is taken into the lists up to a multiple of this.
const CUT_BYTES: u64 = 2 << 20;

/// Single frames that were freed last and wait to be used again, unjoined: what a program frees, the next one
/// takes. They join their buddies when a larger block is wanted and there is none.
const RECENT: usize = 64;

const ORDERS: usize = MAX_ORDER as usize + 1;

/// Metadata of the first frame of a free block; the order is in the low bits.
const FREE: u8 = 0x80;
/// Metadata of the first frame of an allocated block.
const ALLOCATED: u8 = 0x40;
/// Added to that where the block is one page table.
const TABLE: u8 = 0x20;

/// An owned block of `2^order` frames of 4 KiB, aligned to its length.
///
/// A token without `Drop`: one that is forgotten is a leak, so give it back with [`FrameAllocator::free`].
#[must_use = "a frame that is dropped is lost"]
#[derive(PartialEq, Eq, Debug)]
pub struct Frame(NonZeroU64);

impl Frame {
    /// The block of `2^order` frames at `address`.
    ///
    /// # Safety
    /// The block came from this allocator with this order, its token was given up (its address was kept in a
    /// page table, say), and no other token for it is made.
    pub(crate) unsafe fn from_address(address: PhysAddr, order: u32) -> Frame {
        Frame(NonZeroU64::new(address.as_u64() | u64::from(order)).expect("frame 0 is never given out"))
    }

    /// The physical address of its first byte.
    #[inline]
    pub fn address(&self) -> PhysAddr {
        PhysAddr::new_truncate(self.0.get() & !(PAGE_SIZE - 1))
    }

    /// The binary logarithm of its length in frames of 4 KiB: 0 is one frame.
    #[inline]
    pub fn order(&self) -> u32 {
        (self.0.get() & (PAGE_SIZE - 1)) as u32
    }
}

/// The machine's frames. Not for interrupt handlers: its lock is a spin lock.
pub struct FrameAllocator {
    physmap: PhysMap,
    /// From the first frame with metadata to behind the last.
    covered: PhysRange,
    /// Physical address of the marks, one byte for each frame of `covered`.
    marks: PhysAddr,
    /// Physical address of the share counts, a `u32` for each of them.
    counts: PhysAddr,
    total: u64,
    lists: SpinLock<Lists>,
    returns: Returns,
}

/// What is free.
struct Lists {
    /// The free blocks of each order.
    blocks: [LinkedList<BlockAdapter>; ORDERS],
    free_frames: u64,
    recent: ArrayVec<u64, RECENT>,
    /// Start and end of RAM that was never touched; an empty one has been used up.
    untouched: ArrayVec<(u64, u64), MAX_RANGES>,
}

// SAFETY: the lists lead to free blocks only, which nobody but their owner, the allocator, looks at.
unsafe impl Send for Lists {}

impl Lists {
    /// The smallest order, from `order` on, of which a block is free.
    fn order_for(&self, order: u32) -> Option<u32> {
        (order..=MAX_ORDER).find(|&order| !self.blocks[order as usize].is_empty())
    }
}

/// What the first bytes of a free block hold.
#[derive(Default)]
struct Block {
    link: LinkedListLink,
}

intrusive_adapter!(BlockAdapter = UnsafeRef<Block>: Block { link => LinkedListLink });

impl FrameAllocator {
    /// Takes over the unclaimed RAM of `map`; `None` when no range of it can hold the metadata.
    ///
    /// # Safety
    /// `physmap` maps that RAM, and nobody else uses it from now on.
    pub unsafe fn new(physmap: PhysMap, map: &MemoryMap) -> Option<FrameAllocator> {
        // Frame 0 stays out: no token can name it.
        let mut untouched: ArrayVec<(u64, u64), MAX_RANGES> = map
            .ram()
            .filter_map(|ram| PhysRange::from_bounds(ram.start().as_u64().max(PAGE_SIZE), ram.end()))
            .map(PhysRange::bounds)
            .take(MAX_RANGES)
            .collect();
        let covered = PhysRange::from_bounds(untouched.first()?.0, untouched.last()?.1)?;
        let marks_bytes = (covered.len_bytes() / PAGE_SIZE).next_multiple_of(size_of::<u32>() as u64);
        let metadata_bytes = (marks_bytes * (1 + size_of::<u32>() as u64)).next_multiple_of(PAGE_SIZE);
        let home = untouched.iter_mut().find(|(start, end)| end - start >= metadata_bytes)?;
        let marks = PhysAddr::new_truncate(home.0);
        home.0 += metadata_bytes;

        // SAFETY:
        // 1. `home` is RAM that the caller handed over and `physmap` maps, and it is long enough.
        // 2. These pages were just taken out of it, so nobody else gets them.
        // The share counts are not touched: whoever allocates a frame that can be shared sets its count.
        unsafe { physmap.pointer(marks).write_bytes(0, marks_bytes as usize) };
        let total = untouched.iter().map(|(start, end)| (end - start) / PAGE_SIZE).sum();
        let lists = Lists {
            blocks: [const { LinkedList::new(BlockAdapter::NEW) }; ORDERS],
            free_frames: total,
            recent: ArrayVec::new(),
            untouched,
        };
        let (counts, lists) = (marks + marks_bytes, SpinLock::new(Rank::Frames, lists));
        Some(FrameAllocator { physmap, covered, marks, counts, total, lists, returns: Returns::default() })
    }

    /// A block of `2^order` frames; it holds whatever was there. `None` when no block is large enough.
    pub fn allocate(&self, order: u32) -> Option<Frame> {
        let mut lists = self.lists.lock();
        let recent = if order == 0 { lists.recent.pop() } else { None };
        let address = recent.or_else(|| self.take_block(&mut lists, order))?;
        lists.free_frames -= 1 << order;
        self.set_mark(address, ALLOCATED | order as u8);
        NonZeroU64::new(address | u64::from(order)).map(Frame)
    }

    /// One frame for a program's page or page table: none when only [`KERNEL_RESERVE`] is left, so that a program
    /// that eats memory cannot starve the kernel that has to end it.
    pub fn allocate_for_program(&self) -> Option<Frame> {
        if self.free_frames() <= KERNEL_RESERVE || self.returns.inject_failure() {
            return None;
        }
        let frame = self.allocate(0)?;
        self.count(frame.address()).store(0, Ordering::Relaxed);
        Some(frame)
    }

    /// One frame of zeros for a page table, as [`FrameAllocator::allocate_for_program`].
    pub fn allocate_table(&self) -> Option<Frame> {
        let mut frame = self.allocate_for_program()?;
        self.bytes_mut(&mut frame).fill(0);
        // Not before it is zero: what is marked is searched for entries.
        self.set_mark(frame.address().as_u64(), ALLOCATED | TABLE);
        Some(frame)
    }

    /// A frame with a copy of the page at `address`, as [`FrameAllocator::allocate_for_program`].
    ///
    /// # Panics
    /// When `address` is no page of RAM that is in use.
    pub(crate) fn allocate_copy(&self, address: PhysAddr) -> Option<Frame> {
        let mut frame = self.allocate_for_program()?;
        let mark = self.mark(address.as_u64());
        assert!(mark == Some(ALLOCATED), "{address:#x} is no page of a program");
        let page = self.bytes_mut(&mut frame);
        // SAFETY:
        // 1. The page is one allocated frame, which the window maps; the new frame is another one.
        // 2. Programs may write to it meanwhile: it is only read as raw words, and what they race for is theirs.
        unsafe {
            let from = self.physmap.pointer(address).cast::<u64>();
            page.as_mut_ptr().cast::<u64>().copy_from_nonoverlapping(from, page.len() / 8);
        }
        Some(frame)
    }

    /// Takes a block back and joins it with its free buddies.
    ///
    /// # Panics
    /// When the block is not allocated: it was freed twice, which can only be a bug of the kernel.
    pub fn free(&self, frame: Frame) {
        let (address, order) = (frame.address().as_u64(), frame.order());
        let mut lists = self.lists.lock();
        let mark = self.mark(address).map(|mark| mark & !TABLE);
        assert!(mark == Some(ALLOCATED | order as u8), "frame {address:#x} was freed twice");
        lists.free_frames += 1 << order;
        self.set_mark(address, 0);
        if order > 0 || lists.recent.try_push(address).is_err() {
            self.join(&mut lists, address, order);
        }
    }

    /// The bytes of a block, through the physical window.
    pub fn bytes_mut<'a>(&self, frame: &'a mut Frame) -> &'a mut [u8] {
        // SAFETY:
        // 1. The token says that this block is allocated and whose it is; the borrow keeps it so.
        // 2. It is RAM, which the window maps (`PhysMap::new`).
        unsafe {
            core::slice::from_raw_parts_mut(
                self.physmap.pointer(frame.address()),
                (PAGE_SIZE as usize) << frame.order(),
            )
        }
    }

    /// Frames of 4 KiB that are free now.
    pub fn free_frames(&self) -> u64 {
        self.lists.lock().free_frames
    }

    /// Frames of 4 KiB that can be given out when all are free.
    pub fn total_frames(&self) -> u64 {
        self.total
    }

    /// Where it sees physical memory.
    pub fn physmap(&self) -> PhysMap {
        self.physmap
    }

    /// Takes a block of this order out of the lists; the rest of a larger one stays in them.
    fn take_block(&self, lists: &mut Lists, order: u32) -> Option<u64> {
        if lists.order_for(order).is_none() {
            self.find_more(lists, order);
        }
        let mut found = lists.order_for(order)?;
        let block = UnsafeRef::into_raw(lists.blocks[found as usize].pop_front()?);
        let address = self.physmap.address(block.cast()).as_u64();
        while found > order {
            found -= 1;
            self.link(lists, address + (PAGE_SIZE << found), found);
        }
        Some(address)
    }

    /// Brings a block of this order into the lists, if there is one.
    #[cold]
    fn find_more(&self, lists: &mut Lists, order: u32) {
        if order <= MAX_ORDER && !self.cut_untouched(lists, order) {
            while let Some(address) = lists.recent.pop() {
                self.join(lists, address, 0);
            }
        }
    }

    /// Takes enough untouched RAM into the lists for a block of this order; false when there is none.
    fn cut_untouched(&self, lists: &mut Lists, order: u32) -> bool {
        let block_bytes = PAGE_SIZE << order;
        for index in 0..lists.untouched.len() {
            let (start, end) = lists.untouched[index];
            let block_end = start.next_multiple_of(block_bytes) + block_bytes;
            if start < end && block_end <= end {
                let cut = block_end.next_multiple_of(CUT_BYTES).min(end);
                lists.untouched[index].0 = cut;
                self.link_all(lists, start, cut);
                return true;
            }
        }
        false
    }

    /// Puts `[start, end)` into the lists, in the largest blocks that fit; they join what is free below it.
    fn link_all(&self, lists: &mut Lists, mut start: u64, end: u64) {
        while start < end {
            let aligned = (start / PAGE_SIZE).trailing_zeros();
            let fitting = ((end - start) / PAGE_SIZE).ilog2();
            let order = aligned.min(fitting).min(MAX_ORDER);
            self.join(lists, start, order);
            start += PAGE_SIZE << order;
        }
    }

    /// Puts a block into the lists, joined with its free buddies.
    fn join(&self, lists: &mut Lists, mut address: u64, mut order: u32) {
        while order < MAX_ORDER {
            let buddy = address ^ (PAGE_SIZE << order);
            if self.mark(buddy) != Some(FREE | order as u8) {
                break;
            }
            self.unlink(lists, buddy, order);
            address = address.min(buddy);
            order += 1;
        }
        self.link(lists, address, order);
    }

    fn link(&self, lists: &mut Lists, address: u64, order: u32) {
        let block = self.block(address);
        // SAFETY: the block is free: mapped RAM, which nobody else uses until it is unlinked.
        let block = unsafe {
            block.write(Block::default());
            UnsafeRef::from_raw(block)
        };
        lists.blocks[order as usize].push_front(block);
        self.set_mark(address, FREE | order as u8);
    }

    /// Takes a block out of the list that its mark names.
    fn unlink(&self, lists: &mut Lists, address: u64, order: u32) {
        // SAFETY: `link` put the block into this list and marked it so; nothing else sets that mark.
        unsafe { lists.blocks[order as usize].cursor_mut_from_ptr(self.block(address)) }.remove();
        self.set_mark(address, 0);
    }

    fn block(&self, address: u64) -> *mut Block {
        self.physmap.pointer(PhysAddr::new_truncate(address)).cast()
    }

    /// The metadata byte of a frame; `None` outside the covered range.
    fn mark(&self, address: u64) -> Option<u8> {
        self.mark_byte(address).map(|byte| byte.load(Ordering::Relaxed))
    }

    #[inline]
    fn set_mark(&self, address: u64, mark: u8) {
        let byte = self.mark_byte(address).expect("blocks lie in the covered range");
        byte.store(mark, Ordering::Relaxed);
    }

    #[inline]
    fn mark_byte(&self, address: u64) -> Option<&AtomicU8> {
        let mark = self.physmap.pointer(self.marks + self.index(address)?).cast::<AtomicU8>();
        // SAFETY: `new` set this RAM aside and zeroed it: a byte for each index. All access is atomic.
        Some(unsafe { &*mark })
    }

    /// Which frame of the covered range `address` is in.
    fn index(&self, address: u64) -> Option<u64> {
        if address >= self.covered.end() {
            return None;
        }
        Some(address.checked_sub(self.covered.start().as_u64())? / PAGE_SIZE)
    }
}

#[cfg(test)]
mod tests;
