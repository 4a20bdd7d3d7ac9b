//! libFuzzer on `daxite_fuzz::check_info_block`, with lengths and checksums made right after most mutations.
#![no_main]

use daxite_fuzz::{INFO_BLOCK, check_info_block};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| {
    check_info_block(input);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) {
        (INFO_BLOCK.seal)(&mut data[..size]);
    }
    size
});
