//! libFuzzer on `daxite_fuzz::check_cpio`.
#![no_main]

use daxite_fuzz::check_cpio;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check_cpio(input);
});
