//! The kernel's heap: a boot heap over a static array, then slabs over frames.
//!
//! What boot allocates before there are frames, and mostly keeps, lives in the boot heap. Later requests up
//! to 1024 bytes come from slabs: a 4 KiB frame holds objects of one power of two, its header (at the start
//! of the frame, so that an object finds it by masking its address) counts them. A frame whose last object
//! is freed goes back to the frame allocator at once: so the number of free frames after a program is the
//! number before it. Larger requests are blocks of frames. All but the boot heap is O(1).

use crate::frames::{Frame, FrameAllocator};
use crate::lock::{Rank, SpinLock};
use crate::range::PAGE_SIZE;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use intrusive_collections::{LinkedList, LinkedListLink, UnsafeRef, intrusive_adapter};

/// Object sizes are 16, 32, ... 1024 bytes. (One object of 2048 bytes and a header fill a frame: those
/// come as whole frames.)
const SMALLEST_SHIFT: u32 = 4;
const LARGEST_SHIFT: u32 = 10;
const CLASSES: usize = (LARGEST_SHIFT - SMALLEST_SHIFT + 1) as usize;

/// The kernel's `#[global_allocator]`.
pub struct KernelHeap {
    inner: SpinLock<Inner>,
}

struct Inner {
    boot: linked_list_allocator::Heap,
    frames: Option<&'static FrameAllocator>,
    /// For each class the slabs that have a free object.
    partial: [LinkedList<SlabAdapter>; CLASSES],
    usage: HeapUsage,
}

/// What of the machine's frames the heap uses; the boot heap's own memory does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapUsage {
    /// Frames of 4 KiB that it holds.
    pub frames: u64,
    /// Bytes that are given out of them, each request rounded up as it is served.
    pub live_bytes: u64,
}

// SAFETY: the pointers in it lead to memory that belongs to the heap alone and move with it.
unsafe impl Send for Inner {}

/// The header of a frame of objects.
#[repr(C)]
struct Slab {
    link: LinkedListLink,
    /// Freed objects, each holding the address of the next.
    freed: *mut u8,
    /// Offset in the frame of the first object that was never given out; 4096 when there is none.
    fresh: u16,
    /// Objects given out.
    used: u16,
}

intrusive_adapter!(SlabAdapter = UnsafeRef<Slab>: Slab { link => LinkedListLink });

impl Slab {
    fn is_full(&self) -> bool {
        self.freed.is_null() && u64::from(self.fresh) >= PAGE_SIZE
    }
}

impl KernelHeap {
    /// A heap without memory: every allocation fails.
    pub const fn empty() -> KernelHeap {
        let boot = linked_list_allocator::Heap::empty();
        let inner = Inner {
            boot,
            frames: None,
            partial: [const { LinkedList::new(SlabAdapter::NEW) }; CLASSES],
            usage: HeapUsage { frames: 0, live_bytes: 0 },
        };
        KernelHeap { inner: SpinLock::new(Rank::Heap, inner) }
    }

    /// Gives the boot heap its memory; once, before the first allocation.
    ///
    /// # Safety
    /// `[start, start + len_bytes)` is writable memory that nobody else ever uses.
    pub unsafe fn init(&self, start: *mut u8, len_bytes: usize) {
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { self.inner.lock().boot.init(start, len_bytes) };
    }

    /// From now on allocations come from frames; what lives in the boot heap stays there.
    pub fn frames_ready(&self, frames: &'static FrameAllocator) {
        self.inner.lock().frames = Some(frames);
    }

    /// What it uses now.
    pub fn usage(&self) -> HeapUsage {
        self.inner.lock().usage
    }
}

// SAFETY:
// 1. A boot-heap block comes from `linked_list_allocator`, which upholds the contract.
// 2. A slab object is `1 << shift >= max(size, align)` bytes at a multiple of that, behind the header, and is
//    in no list while it is given out: it overlaps nothing.
// 3. A block of frames is at least `max(size, align)` bytes, aligned to its length by the frame allocator.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.inner.lock();
        let Some(frames) = heap.frames else {
            return heap.boot.allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr);
        };
        match class_shift(layout) {
            Some(shift) => heap.allocate_object(frames, shift),
            None => match frames.allocate(block_order(layout)) {
                Some(block) => {
                    heap.usage.frames += 1 << block.order();
                    heap.usage.live_bytes += PAGE_SIZE << block.order();
                    frames.physmap().pointer(block.address())
                }
                None => null_mut(),
            },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let mut heap = self.inner.lock();
        let frames = match heap.frames {
            Some(frames) if !(heap.boot.bottom()..heap.boot.top()).contains(&pointer) => frames,
            _ => {
                let block = NonNull::new(pointer).expect("what was allocated is not null");
                // SAFETY: the address says that the block came from the boot heap, with this layout.
                return unsafe { heap.boot.deallocate(block, layout) };
            }
        };
        if let Some(shift) = class_shift(layout) {
            // SAFETY: by the caller's promise and the layout, this is an object of a slab of this class.
            return unsafe { heap.free_object(frames, pointer, shift) };
        }
        // SAFETY: by the caller's promise this is the block that `alloc` made, whose token it gave up.
        let block = unsafe { Frame::from_address(frames.physmap().address(pointer), block_order(layout)) };
        heap.usage.frames -= 1 << block.order();
        heap.usage.live_bytes -= PAGE_SIZE << block.order();
        frames.free(block);
    }
}

impl Inner {
    fn allocate_object(&mut self, frames: &FrameAllocator, shift: u32) -> *mut u8 {
        let partial = &mut self.partial[(shift - SMALLEST_SHIFT) as usize];
        if partial.is_empty() {
            let Some(frame) = frames.allocate(0) else { return null_mut() };
            self.usage.frames += 1;
            let slab = frames.physmap().pointer(frame.address()).cast::<Slab>();
            let fresh = size_of::<Slab>().next_multiple_of(1 << shift) as u16;
            // SAFETY: the frame is ours, mapped and larger than the header; its token is given up here and made
            // again when the last object is freed.
            unsafe {
                slab.write(Slab { link: LinkedListLink::new(), freed: null_mut(), fresh, used: 0 });
                partial.push_front(UnsafeRef::from_raw(slab));
            }
        }
        let slab = partial.front().clone_pointer().map_or(null_mut(), UnsafeRef::into_raw);
        self.usage.live_bytes += 1 << shift;
        // SAFETY:
        // 1. `slab` is a header that was written above; the heap's lock is held.
        // 2. It is not full, so either `freed` is an object that `free_object` linked, or `fresh` is the
        //    offset of one inside the frame.
        unsafe {
            let object = if (*slab).freed.is_null() {
                let object = slab.cast::<u8>().add((*slab).fresh.into());
                (*slab).fresh += 1 << shift;
                object
            } else {
                let object = (*slab).freed;
                (*slab).freed = object.cast::<*mut u8>().read();
                object
            };
            (*slab).used += 1;
            if (*slab).is_full() {
                partial.pop_front();
            }
            object
        }
    }

    /// # Safety
    /// `object` was given out by `allocate_object` with this `shift` and is not used any more.
    unsafe fn free_object(&mut self, frames: &FrameAllocator, object: *mut u8, shift: u32) {
        let partial = &mut self.partial[(shift - SMALLEST_SHIFT) as usize];
        self.usage.live_bytes -= 1 << shift;
        let slab = object.map_addr(|address| address & !(PAGE_SIZE as usize - 1)).cast::<Slab>();
        // SAFETY: an object lies in the frame of its slab, whose header is at the frame's start (frames are
        // 4 KiB-aligned in the window too); the heap's lock is held, and the object is ours again.
        unsafe {
            let was_full = (*slab).is_full();
            object.cast::<*mut u8>().write((*slab).freed);
            (*slab).freed = object;
            (*slab).used -= 1;
            if was_full {
                partial.push_front(UnsafeRef::from_raw(slab));
            }
            if (*slab).used == 0 {
                partial.cursor_mut_from_ptr(slab).remove();
                self.usage.frames -= 1;
                frames.free(Frame::from_address(frames.physmap().address(slab.cast()), 0));
            }
        }
    }
}

/// The binary logarithm of the object size for `layout`; `None` when it takes whole frames.
fn class_shift(layout: Layout) -> Option<u32> {
    let bytes = layout.size().max(layout.align()).max(1 << SMALLEST_SHIFT);
    (bytes <= 1 << LARGEST_SHIFT).then(|| bytes.next_power_of_two().ilog2())
}

/// The order of the block of frames for `layout`; too large an order finds no block.
fn block_order(layout: Layout) -> u32 {
    let frames = layout.size().max(layout.align()).div_ceil(PAGE_SIZE as usize);
    usize::BITS - (frames - 1).leading_zeros()
}

#[cfg(test)]
mod tests;
