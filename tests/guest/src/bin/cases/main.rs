//! Every guest case in one table; the report is KTAP version 1 and the status is 0 when all passed.
//!
//! ```text
//! DAX_ALIGN=2M cases [NAME | FAMILY]...   the cases with that family or beginning of the name; all without
//! cases --list                            the names
//! cases --results                         `case | result` lines of the error matrix
//! cases --linux [...]                     expect Linux's answers, and leave out what only Daxite has
//! ```
//!
//! | family | file | what |
//! |---|---|---|
//! | matrix | `matrix.rs`, `rows_*.rs` | each row of `error-matrix.csv` at this alignment |
//! | dax | `properties.rs`, `sharing.rs`, `ndctl.rs` | device-dax reference section 7, S6 and S7; what ndctl's tests ask |
//! | memory | `memory.rs`, `remap.rs`, `peer.rs`, `stack.rs` | anonymous, file and shared memory, brk, foreign addresses; the stack |
//! | files | `files.rs`, `locks.rs` | files, /proc, clocks; locks of bytes |
//! | tree | `tree.rs`, `tree/*.rs` | files, directories and links that programs make; mappings of files |
//! | signals | `signals.rs`, `registers.rs`, `frames.rs` | siginfo, handlers, registers, signal frames |
//! | pointers | `pointers.rs` | bad pointers to every call |
//! | calls | `calls.rs` | unknown calls, garbage arguments |
//! | sys | `sys_attributes.rs`, `sys_tree.rs` | the attributes that control devices; what programs look for in /sys and /proc |
//! | removal | `removal.rs`, `linux_faults.rs` | a device that goes while it is mapped; the faults of Linux |
//! | poison | `poison.rs` | memory that went bad |
//!
//! Without a device the families matrix and dax are left out, which is how the rest runs on any Linux.

mod calls;
mod files;
mod frames;
mod linux_faults;
mod locks;
mod matrix;
mod memory;
mod ndctl;
mod peer;
mod pointers;
mod poison;
mod properties;
mod registers;
mod remap;
mod removal;
mod rows_change;
mod rows_file;
mod rows_map;
mod rows_move;
mod rows_pipe;
mod sharing;
mod signals;
mod stack;
mod sys_attributes;
mod sys_tree;
mod tree;

use std::process::ExitCode;

use guest::device::Device;
use guest::ktap::{self, Case, Outcome};
use guest::{fault, kernel_view};

/// What every case gets.
struct Context {
    /// The device, where there is one.
    device: Result<Device, String>,
    /// Whether Linux's answers are expected instead of ours.
    is_linux: bool,
}

impl Context {
    /// The device, or why there is none.
    fn device(&self) -> Result<&Device, String> {
        self.device.as_ref().map_err(Clone::clone)
    }
}

/// A row of a family's table: the name of the case, and the case.
type Named = (&'static str, fn(&Context) -> Outcome);

/// Cases that `--linux` leaves out: there Daxite answers otherwise on purpose, in more than a row's text.
const LINUX_DIFFERS: &[&str] = &[
    "mmap SHARED|ANONYMOUS with fd",
    "s6_1_misaligned_start_end_and_offset_are_einval",
    "s7_4_fstat_seek_and_last_byte_agree",
];

/// The cases of one table, as members of `family`.
fn family(family: &'static str, table: &[Named]) -> Vec<Case<Context>> {
    table.iter().map(|&(name, run)| Case::new(family, name, run)).collect()
}

fn table(context: &Context) -> Vec<Case<Context>> {
    let mut cases = Vec::new();
    if context.device.is_ok() || kernel_view::present() {
        cases.extend(matrix::cases());
        cases.extend(properties::cases());
        cases.extend(sharing::cases());
        cases.extend(ndctl::cases());
    }
    cases.extend(memory::cases());
    cases.extend(remap::cases());
    cases.extend(peer::cases());
    cases.extend(stack::cases());
    cases.extend(files::cases());
    cases.extend(locks::cases());
    cases.extend(tree::cases());
    cases.extend(signals::cases());
    cases.extend(registers::cases());
    cases.extend(frames::cases());
    cases.extend(pointers::cases());
    if kernel_view::present() {
        cases.extend(properties::counted_cases());
        cases.extend(sharing::counted_cases());
        cases.extend(memory::counted_cases());
        cases.extend(tree::counted_cases());
        cases.extend(calls::cases());
        cases.extend(linux_faults::cases());
        cases.extend(removal::cases());
        cases.extend(sys_attributes::cases());
        cases.extend(sys_tree::cases());
        cases.extend(poison::cases());
    }
    cases.retain(|case| !context.is_linux || !LINUX_DIFFERS.contains(&case.name.as_str()));
    cases
}

fn main() -> ExitCode {
    fault::install();
    let (options, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has = |name: &str| options.iter().any(|option| option == name);
    let context = Context { device: Device::open(), is_linux: has("--linux") };
    let cases = table(&context);
    if has("--list") {
        for case in &cases {
            println!("{} {}", case.family, case.name);
        }
        return ExitCode::SUCCESS;
    }
    if has("--results") {
        return match &context.device {
            Ok(device) => {
                matrix::print_results(device);
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("cases: {message}");
                ExitCode::FAILURE
            }
        };
    }
    if ktap::run(&cases, &wanted, &context) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
