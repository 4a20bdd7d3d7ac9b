//! The protocol as it is: no interleaving of any model fails.

use lifetime_models::scenario;

#[test]
fn s3_2_s3_3_a_fault_against_a_removal() {
    scenario::fault_and_removal(None);
}

#[test]
fn s3_2_s3_3_two_faults_against_a_removal() {
    scenario::two_faults_and_removal(None);
}

#[test]
fn s3_1_a_fault_that_waits_for_memory_delays_no_removal_and_is_sigbus() {
    scenario::starved_fault_and_removal(None);
}

#[test]
fn s6_6_a_mapping_of_the_last_generation_against_an_enable() {
    scenario::fault_and_renewal(None);
}

#[test]
fn s3_3_an_mmap_against_a_removal() {
    scenario::mmap_and_removal(None);
}

#[test]
fn s2_3_direct_access_against_a_removal() {
    scenario::direct_access_and_removal(None);
}

#[test]
fn s3_2_of_two_removals_one_removes() {
    scenario::two_removals_and_a_fault(None);
}

#[test]
fn s3_4_kills_of_two_devices_end() {
    scenario::two_kills_of_two_devices(None);
}
