//! `daxite`: boots the kernel in QEMU, runs one program in it, and ends with that program's status.
//!
//! The order of a run, and where each step lives:
//! 1. `cli`: what is asked for.
//! 2. `program`, `image`, `libraries` with `ld_cache`, `place`, `initrd`: can PROG run, what does it need, and what does
//!    the guest find where?
//! 3. `nvdimm`, `accel`, `size`: every number is checked before QEMU starts.
//! 4. `machine`: the QEMU line, which `dry_run` prints.
//! 5. `run`: `qemu` is started with its `channels`; `status`, `kernel_log` and `panic_names` read them.
//!
//! A `Failure` is a message and an exit status; it is printed here and nowhere else.

#![deny(unsafe_code)]

mod accel;
mod channels;
mod cli;
mod dry_run;
mod failure;
mod folder;
mod image;
mod initrd;
mod kernel_log;
mod ld_cache;
mod libraries;
mod machine;
mod nvdimm;
mod panic_names;
mod place;
mod program;
#[expect(unsafe_code, reason = "what a child does between fork and exec")]
mod qemu;
mod request;
mod run;
mod size;
mod status;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, InitrdOptions, RunOptions};
use crate::failure::{Failure, LAUNCHER, TIMED_OUT};
use crate::initrd::Initrd;
use crate::nvdimm::{Backing, Nvdimm};
use crate::qemu::ReservedNumbers;
use crate::run::{LEAVE, Session, say, say_within};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are no errors; a wrong use is ours, not the program's: 125, not clap's 2.
            let is_refusal = message.use_stderr();
            let _ = message.print();
            return if is_refusal { LAUNCHER.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Run(options) => run_program(&options),
        Command::Initrd(options) => write_initrd(&options).map(|()| 0),
    };
    match result {
        Ok(status) => status.into(),
        Err(failure) => {
            let line = format!("daxite: {failure}");
            // The time limit holds against a reader that is stuck; other messages wait for a slow one.
            if failure.status == TIMED_OUT {
                say_within(LEAVE, line)
            } else {
                say(&line)
            }
            failure.status.into()
        }
    }
}

fn run_program(options: &RunOptions) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::launcher(error.to_string());
    let reserved = ReservedNumbers::new().map_err(failed)?;
    let initrd = Initrd::new(&options.program, io::stdout().is_terminal())?;
    let (machine, accel_reason) = request::machine(options)?;
    initrd.check_fits(machine.memory)?;
    if options.dry_run {
        let script = dry_run::script(options, &machine)?;
        return io::stdout().write_all(script.as_encoded_bytes()).map(|()| 0).map_err(failed);
    }
    if options.verbose {
        say(&format!("daxite: {accel_reason}"));
        say(&format!("daxite: {}", dry_run::qemu_line(&machine)?.to_string_lossy()));
    }
    let (temporary, kept): (Vec<_>, Vec<_>) =
        machine.nvdimms.iter().partition(|nvdimm| nvdimm.backing == Backing::Temporary);
    // Held, and so locked, until QEMU has gone.
    let _locked = kept.into_iter().map(Nvdimm::open).collect::<Result<Vec<File>, _>>()?;
    let session = Session {
        initrd: initrd.to_temporary()?,
        temporary_nvdimm: temporary.first().map(|nvdimm| nvdimm.open()).transpose()?,
        timeout: options.timeout.0,
        is_verbose: options.verbose,
        symbols: Some(machine.kernel.with_extension("sym")),
    };
    session.run(&machine, &reserved)
}

fn write_initrd(options: &InitrdOptions) -> Result<(), Failure> {
    let initrd = Initrd::new(&options.program, false)?;
    let written = File::create(&options.output).and_then(|file| {
        let mut out = BufWriter::new(file);
        initrd.write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| Failure::launcher(format!("{}: {error}", options.output.display())))
}
