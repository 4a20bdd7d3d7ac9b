//! libFuzzer on `daxite_fuzz::check_elf`.
#![no_main]

use daxite_fuzz::check_elf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check_elf(input);
});
