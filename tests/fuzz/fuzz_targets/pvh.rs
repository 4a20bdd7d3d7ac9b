//! libFuzzer on `daxite_fuzz::check_pvh`.
#![no_main]

use daxite_fuzz::check_pvh;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check_pvh(input);
});
