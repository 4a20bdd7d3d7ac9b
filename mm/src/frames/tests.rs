use super::*;
use crate::fake::{frames, frames_of};
use proptest::prelude::*;
use std::vec::Vec;

#[test]
fn all_frames_but_frame_0_and_the_metadata_can_be_given_out_once() {
    let frames = frames(1 << 20);
    assert_eq!(frames.total_frames(), 256 - 1 - 1);
    let mut all: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0)).collect();
    assert_eq!(all.len() as u64, frames.total_frames());
    assert_eq!(frames.free_frames(), 0);
    all.sort_by_key(Frame::address);
    assert!(all.windows(2).all(|pair| pair[0].address() < pair[1].address()));
    assert!(all.iter().all(|frame| frame.order() == 0 && frame.address().is_aligned(PAGE_SIZE)));
    all.into_iter().for_each(|frame| frames.free(frame));
    assert_eq!(frames.free_frames(), frames.total_frames());
}

#[test]
fn freed_buddies_join_to_the_largest_block_again() {
    let frames = frames(8 << 20);
    let large = frames.allocate(10).expect("4 MiB are free");
    frames.free(large);
    let all: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0)).collect();
    assert!(frames.allocate(10).is_none());
    all.into_iter().rev().for_each(|frame| frames.free(frame));
    let large = frames.allocate(10).expect("everything is joined again");
    assert!(large.address().is_aligned(4u64 << 20));
    frames.free(large);
}

#[test]
fn ram_in_pieces_is_never_joined_over_a_hole() {
    let frames = frames_of(4 << 20, &[(0x1000, 0xff000, 1), (0x20_0000, 0x10_0000, 1)]);
    let all: Vec<Frame> = core::iter::from_fn(|| frames.allocate(0)).collect();
    let in_ram = |a: u64| (0x1000..0x10_0000).contains(&a) || (0x20_0000..0x30_0000).contains(&a);
    assert!(all.iter().all(|frame| in_ram(frame.address().as_u64())));
    assert_eq!(all.len() as u64, frames.total_frames());
    all.into_iter().for_each(|frame| frames.free(frame));
    assert!(frames.allocate(9).is_none(), "no 2 MiB block exists");
}

#[test]
fn a_zeroed_frame_is_zero_after_use() {
    let frames = frames(1 << 20);
    for mut frame in core::iter::from_fn(|| frames.allocate(0)).collect::<Vec<_>>() {
        frames.bytes_mut(&mut frame).fill(0xaa);
        frames.free(frame);
    }
    let mut frame = crate::fake::zeroed(&frames).expect("all is free");
    assert!(frames.bytes_mut(&mut frame).iter().all(|&byte| byte == 0));
    frames.free(frame);
}

#[test]
fn too_large_an_order_is_refused() {
    let frames = frames(1 << 20);
    for order in [8, MAX_ORDER, MAX_ORDER + 1, 31, 32, u32::MAX] {
        assert!(frames.allocate(order).is_none(), "order {order}");
    }
}

#[test]
fn an_order_above_the_largest_is_refused_where_the_ram_could_hold_it() {
    let frames = frames(4 << 30);
    for order in MAX_ORDER + 1..=32 {
        assert!(frames.allocate(order).is_none(), "order {order}");
    }
    let largest = frames.allocate(MAX_ORDER).expect("3 GiB are untouched");
    assert!(largest.address().is_aligned(1u64 << 30));
}

#[test]
fn ram_that_is_taken_into_the_lists_joins_the_free_block_below_it() {
    let frames = frames(12 << 20);
    let [_first, second] = [(); 2].map(|_| frames.allocate(9).expect("untouched"));
    assert_eq!(second.address().as_u64(), 4 << 20);
    frames.free(second);
    let upper = frames.allocate(10).expect("[6 MiB, 12 MiB) is taken");
    assert_eq!(upper.address().as_u64(), 8 << 20);
    let lower = frames.allocate(10).expect("[6 MiB, 8 MiB) has joined the freed block");
    assert_eq!(lower.address().as_u64(), 4 << 20);
}

#[test]
fn no_ram_is_no_allocator() {
    // SAFETY: there is no RAM that could be used wrongly.
    let frames = unsafe { FrameAllocator::new(PhysMap::new(0), &MemoryMap::new(core::iter::empty())) };
    assert!(frames.is_none());
}

#[test]
#[should_panic(expected = "was freed twice")]
fn a_frame_that_is_freed_twice_is_caught() {
    let frames = frames(1 << 20);
    let frame = frames.allocate(0).expect("all is free");
    // SAFETY: none: a second token for one frame is the bug that is to be caught.
    let again = unsafe { Frame::from_address(frame.address(), 0) };
    frames.free(frame);
    frames.free(again);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Random orders, freed in random order: blocks never overlap, content is kept, all comes back.
    #[test]
    fn blocks_are_disjoint_and_all_come_back(
        steps in proptest::collection::vec((0u32..7, any::<u16>()), 1..120),
    ) {
        std::thread_local!(static FRAMES: FrameAllocator = frames(2 << 20));
        FRAMES.with(|frames| {
            let before = frames.free_frames();
            let mut held: Vec<(Frame, u8)> = Vec::new();
            let mut in_use = 0;
            for (order, pick) in steps {
                if order == 6 && !held.is_empty() {
                    let (mut frame, stamp) = held.swap_remove(pick as usize % held.len());
                    assert!(frames.bytes_mut(&mut frame).iter().all(|&byte| byte == stamp));
                    in_use -= 1 << frame.order();
                    frames.free(frame);
                } else if let Some(mut frame) = frames.allocate(order) {
                    assert!(frame.address().is_aligned(PAGE_SIZE << order));
                    frames.bytes_mut(&mut frame).fill(pick as u8);
                    in_use += 1 << order;
                    held.push((frame, pick as u8));
                }
                assert_eq!(frames.free_frames(), before - in_use);
            }
            held.into_iter().for_each(|(frame, _)| frames.free(frame));
            assert_eq!(frames.free_frames(), before);
        });
    }
}
