//! libFuzzer on `daxite_fuzz::check_nfit`, with lengths and checksums made right after most mutations.
#![no_main]

use daxite_fuzz::{NFIT, check_nfit};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| {
    check_nfit(input);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) {
        (NFIT.seal)(&mut data[..size]);
    }
    size
});
