//! `counter`: adds one to the number on the device and prints it, and nothing else.

use std::process::ExitCode;

use guest::counter;
use guest::device::Device;

fn main() -> ExitCode {
    match Device::open().and_then(|device| counter::increment(&device)) {
        Ok(count) => {
            println!("{count}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("counter: {message}");
            ExitCode::FAILURE
        }
    }
}
