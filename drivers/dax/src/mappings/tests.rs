//! The list itself; with real spaces it is tested in `tests/mappings.rs`.

use super::*;
use crate::memory::injection::fail_nth;
use crate::name::DeviceName;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn space() -> Weak<AddressSpace> {
    Weak::new()
}

#[test]
fn what_is_dead_is_not_listed() {
    let mappings = Mappings::new();
    assert_eq!(mappings.register(&space(), || false), Ok(None));
    assert!(mappings.0.lock().is_none(), "nor is there a list");
}

#[test]
fn an_allocation_that_fails_leaves_the_list_as_it_was() {
    let mappings = Mappings::new();
    for nth in 0..2 {
        let (refused, failed) = fail_nth(nth, || mappings.register(&space(), || true));
        assert_eq!((refused, failed), (Err(DaxError::NoMemory), true));
        assert!(mappings.0.lock().is_none());
    }
    let (refused, failed) = fail_nth(0, || mappings.begin_work(|| Ok(())));
    assert_eq!((refused, failed), (Err(DaxError::NoMemory), true));
    assert_eq!(mappings.while_unused(|| ()), Ok(()));
}

#[test]
fn a_space_that_is_being_freed_stays_listed_until_it_is_gone() {
    let mappings = Mappings::new();
    let slot = mappings.register(&space(), || true).expect("memory").expect("alive");
    assert_eq!(mappings.take(|| false).iter().count(), 0);
    assert_eq!((mappings.count(), mappings.while_unused(|| ())), (1, Err(InUse::Mapped(1))));
    mappings.deregister(slot);
    assert_eq!((mappings.count(), mappings.while_unused(|| ())), (0, Ok(())));
    assert!(mappings.0.lock().is_none(), "the memory came back");
}

#[test]
fn work_in_hand_keeps_others_from_changing_the_device() {
    let mappings = Mappings::new();
    let refused = Err(DaxError::NoBytes { name: DeviceName { region: 0, id: 0 } });
    assert_eq!(mappings.begin_work(|| refused), refused);
    assert_eq!(mappings.while_unused(|| ()), Ok(()));
    assert_eq!(mappings.begin_work(|| Ok(())), Ok(()));
    assert_eq!(mappings.while_unused(|| ()), Err(InUse::AtWork));
    mappings.end_work();
    assert!(mappings.0.lock().is_none());
}

proptest! {
    /// Against a set of slots: a slot is one mapping's alone, and memory goes with the last.
    #[test]
    fn slots_agree_with_a_set(calls in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200)) {
        let mappings = Mappings::new();
        let mut slots = BTreeSet::new();
        for (comes, which) in calls {
            if comes {
                let slot = mappings.register(&space(), || true).expect("memory").expect("alive");
                prop_assert!(slots.insert(slot));
            } else if !slots.is_empty() {
                let slot = *slots.iter().nth(which.index(slots.len())).expect("it is that long");
                slots.remove(&slot);
                mappings.deregister(slot);
            }
            prop_assert_eq!(mappings.count() as usize, slots.len());
            prop_assert_eq!(mappings.0.lock().is_none(), slots.is_empty());
        }
    }
}
