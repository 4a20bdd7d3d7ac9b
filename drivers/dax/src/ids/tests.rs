//! The bitmap against a plain set, and its limits.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

#[test]
fn s1_3_the_last_minor_can_be_had_and_the_next_request_fails_cleanly() {
    let mut ids = IdSet::new(MINORS);
    for expected in 0..MINORS {
        assert_eq!(ids.allocate(), Ok(expected));
    }
    assert_eq!(ids.allocate(), Err(DaxError::NoNumber { limit: MINORS }));
    for id in [MINORS - 1, 0, 12_345] {
        assert!(ids.release(id));
        assert_eq!(ids.allocate(), Ok(id));
    }
    assert_eq!(ids.allocate(), Err(DaxError::NoNumber { limit: MINORS }));
}

#[test]
fn a_number_that_is_not_in_use_cannot_be_given_back() {
    let mut ids = IdSet::new(10);
    assert!(!ids.release(0));
    assert_eq!(ids.allocate(), Ok(0));
    assert!(!ids.release(u32::MAX));
    assert!(ids.release(0));
    assert!(!ids.release(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Random requests and returns around the borders of words and levels: always the lowest free one.
    #[test]
    fn s1_2_numbers_agree_with_a_set(
        limit in prop_oneof![1u32..70, 4090u32..4100],
        fill in 0u32..4100,
        calls in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..400),
    ) {
        let mut ids = IdSet::new(limit);
        let mut free: BTreeSet<u32> = (0..limit).collect();
        for _ in 0..fill.min(limit) {
            prop_assert_eq!(ids.allocate().ok(), free.pop_first());
        }
        for (request, which) in calls {
            if request {
                prop_assert_eq!(ids.allocate().ok(), free.pop_first());
            } else {
                let id = which.index(limit as usize) as u32;
                prop_assert_eq!(ids.release(id), free.insert(id));
            }
        }
        let used = (0..limit + 10).filter(|&id| ids.release(id)).collect::<Vec<_>>();
        prop_assert!((0..limit).filter(|id| !free.contains(id)).eq(used));
        prop_assert!(ids.blocks.iter().all(|block| block.words.is_empty()), "memory came back");
    }
}
