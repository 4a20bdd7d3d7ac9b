//! `suite`: every test of the project, and its figures.
//!
//! - `suite test`: host tests (`host`), then the guest table (`guest_table`): each `case` boots QEMU through
//!   `build/daxite`, as a user would. Results are KTAP lines (`report`); the last line counts them.
//! - `suite properties`: which tests show which property of the device-dax reference (`properties`).
//! - `suite bench`: the figures beside Linux's and the limits (`bench`).
//!
//! A check that cannot fail is a defect: an empty list, a missing program, a plan that the cases do not meet
//! and a host workspace without tests all fail the run.

mod bench;
mod case;
mod guest_table;
mod host;
mod properties;
mod report;
#[path = "../../../drivers/nfit/tests/table/mod.rs"]
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::case::{Paths, run_all};
use crate::report::Report;

/// Runs Daxite's tests and benchmarks
#[derive(Parser)]
#[command(name = "suite")]
struct Cli {
    /// Where kernel.elf, daxite and guest/ are
    #[arg(long, global = true, default_value_os_t = root().join("build"))]
    build: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Host tests, then the guest table
    Test {
        /// Only tests and guest runs with this in their names
        filter: Option<String>,
        /// Leave out the host tests
        #[arg(long)]
        no_host: bool,
        /// Guests that run at the same time
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
        jobs: u8,
    },
    /// The 39 properties of the device-dax reference and the tests that show them
    Properties,
    /// The figures, beside Linux's and the limits
    Bench,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Test { filter, no_host, jobs } => test(cli.build, filter.as_deref(), no_host, jobs),
        Command::Properties => properties::print(cli.build),
        Command::Bench => bench::run(cli.build),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("suite: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test(build: PathBuf, filter: Option<&str>, no_host: bool, jobs: u8) -> io::Result<bool> {
    let mut report = Report::new();
    if !no_host {
        host::run(filter, &mut report)?;
    }
    let cases: Vec<_> = guest_table::table()
        .into_iter()
        .filter(|case| filter.is_none_or(|filter| case.name.contains(filter)))
        .collect();
    if cases.is_empty() && (filter.is_none() || report.is_empty()) {
        return Err(io::Error::other("no guest run and no host test has that in its name"));
    }
    if !cases.is_empty() {
        run_all(&cases, &Paths::new(build)?, jobs.into(), &mut report)?;
    }
    Ok(report.finish())
}

/// The project's top directory.
fn root() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(&path).unwrap_or(path)
}
