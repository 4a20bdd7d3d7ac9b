use super::*;
use crate::fake::frames;
use proptest::prelude::*;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

fn heap_over_frames() -> (KernelHeap, &'static FrameAllocator) {
    let heap = KernelHeap::empty();
    let frames = Box::leak(Box::new(frames(4 << 20)));
    heap.frames_ready(frames);
    (heap, frames)
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout of the test")
}

#[test]
fn boot_heap_blocks_are_freed_into_the_boot_heap_after_frames_came() {
    let heap = KernelHeap::empty();
    let boot = Box::leak(vec![0u64; 512].into_boxed_slice());
    let range = boot.as_mut_ptr_range();
    let inside = |pointer: *mut u8| range.contains(&pointer.cast());
    // SAFETY: the array is leaked; blocks are freed once, with their layout.
    unsafe {
        heap.init(boot.as_mut_ptr().cast(), 4096);
        let early = heap.alloc(layout(2000, 8));
        assert!(inside(early));
        assert!(heap.alloc(layout(3000, 8)).is_null(), "the boot heap is full and there are no frames");
        let frames: &'static FrameAllocator = Box::leak(Box::new(frames(1 << 20)));
        heap.frames_ready(frames);
        let free = frames.free_frames();
        let late = heap.alloc(layout(2000, 8));
        assert!(!late.is_null() && !inside(late));
        heap.dealloc(early, layout(2000, 8));
        heap.dealloc(late, layout(2000, 8));
        assert_eq!(frames.free_frames(), free);
        assert_eq!(heap.inner.lock().boot.used(), 0);
    }
}

#[test]
fn a_heap_without_memory_refuses() {
    // SAFETY: nothing is allocated.
    assert!(unsafe { KernelHeap::empty().alloc(layout(16, 8)) }.is_null());
}

#[test]
fn small_objects_share_a_frame_and_the_last_one_gives_it_back() {
    let (heap, frames) = heap_over_frames();
    let before = frames.free_frames();
    let one = layout(64, 64);
    // SAFETY: each object is freed once, with its layout.
    unsafe {
        let objects: Vec<*mut u8> = (0..63).map(|_| heap.alloc(one)).collect();
        assert_eq!(frames.free_frames(), before - 1, "63 objects of 64 bytes fit beside the header");
        let next = heap.alloc(one);
        assert_eq!(frames.free_frames(), before - 2);
        objects.into_iter().for_each(|object| heap.dealloc(object, one));
        assert_eq!(frames.free_frames(), before - 1);
        heap.dealloc(next, one);
        assert_eq!(frames.free_frames(), before);
    }
}

#[test]
fn requests_beyond_all_memory_are_refused() {
    let (heap, _) = heap_over_frames();
    // SAFETY: nothing is allocated.
    unsafe {
        assert!(heap.alloc(layout(8 << 20, 8)).is_null());
        assert!(heap.alloc(layout(isize::MAX as usize - 4096, 8)).is_null());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Random sizes and alignments: aligned, content kept, every frame back at the end.
    #[test]
    fn objects_keep_their_bytes_and_all_frames_come_back(
        steps in proptest::collection::vec((1usize..6000, 0u32..11, any::<u16>()), 1..200),
    ) {
        std::thread_local!(static HEAP: (KernelHeap, &'static FrameAllocator) = heap_over_frames());
        HEAP.with(|(heap, frames)| {
            let before = frames.free_frames();
            let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
            // SAFETY: each object is as large as its layout, used until it is freed, and freed once with it.
            let free = |(pointer, layout, stamp): (*mut u8, Layout, u8)| unsafe {
                let bytes = core::slice::from_raw_parts(pointer, layout.size());
                assert!(bytes.iter().all(|&byte| byte == stamp));
                heap.dealloc(pointer, layout);
            };
            for (size, align_shift, pick) in steps {
                if pick % 3 == 0 && !held.is_empty() {
                    free(held.swap_remove(pick as usize % held.len()));
                    continue;
                }
                let layout = layout(if pick % 2 == 0 { size / 20 + 1 } else { size }, 1 << align_shift);
                // SAFETY: the layout is not empty, and the object is as large as it says.
                unsafe {
                    let pointer = heap.alloc(layout);
                    assert!(!pointer.is_null() && pointer.addr().is_multiple_of(layout.align()));
                    pointer.write_bytes(pick as u8, layout.size());
                    held.push((pointer, layout, pick as u8));
                }
            }
            held.into_iter().for_each(free);
            assert_eq!(frames.free_frames(), before);
        });
    }
}
