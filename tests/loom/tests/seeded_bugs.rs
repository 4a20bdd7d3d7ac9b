//! Each step of the protocol is needed: without it a model fails, and says what went wrong.

use lifetime_models::machine::{ENTRY_LEFT, FOREIGN, MAPPING_LEFT};
use lifetime_models::{Bug, scenario};
use std::panic;

/// What loom says when an execution does not end.
const HANG: &str = "exceeded maximum number of branches";

/// Asserts that `model` fails with `bug`, with a message that contains one of `signs`.
fn finds(bug: Bug, model: fn(Option<Bug>), signs: &[&str]) {
    let panic = panic::catch_unwind(|| model(Some(bug))).expect_err("the model finds no fault");
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).expect("panics carry text");
    assert!(signs.iter().any(|sign| text.contains(sign)), "{bug:?} was found by: {text}");
}

#[test]
fn alive_checked_before_the_pin() {
    finds(Bug::AliveBeforePin, scenario::fault_and_removal, &[ENTRY_LEFT, FOREIGN]);
}

#[test]
fn unpinned_before_the_install() {
    finds(Bug::UnpinBeforeInstall, scenario::fault_and_removal, &[ENTRY_LEFT, FOREIGN]);
}

#[test]
fn generation_not_checked() {
    finds(Bug::GenerationNotChecked, scenario::fault_and_renewal, &[ENTRY_LEFT, FOREIGN]);
}

#[test]
fn alive_not_checked_again_after_a_wait_for_memory() {
    finds(Bug::StartsOverUnchecked, scenario::starved_fault_and_removal, &[ENTRY_LEFT, FOREIGN]);
}

#[test]
fn memory_waited_for_inside_a_section() {
    finds(Bug::WaitsInSection, scenario::starved_fault_and_removal, &[HANG]);
}

#[test]
fn alive_checked_before_the_list_is_locked() {
    finds(Bug::AliveBeforeListLock, scenario::mmap_and_removal, &[MAPPING_LEFT]);
}

#[test]
fn touched_before_it_is_in_the_list() {
    finds(Bug::TouchedBeforeListed, scenario::mmap_and_removal, &[ENTRY_LEFT, FOREIGN]);
}

#[test]
fn unmapped_before_the_grace_period() {
    finds(Bug::UnmapBeforeGrace, scenario::fault_and_removal, &[ENTRY_LEFT, FOREIGN]);
}

#[test]
fn range_given_back_before_the_acknowledgement() {
    finds(Bug::BackBeforeAcknowledged, scenario::fault_and_removal, &[FOREIGN]);
}
