//! From the options to the machine: defaults filled in, every number checked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::accel;
use crate::cli::RunOptions;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::nvdimm::{Nvdimm, NvdimmRequest};
use crate::program;

/// The machine that the options ask for, and one line on the choice of the accelerator.
pub fn machine(options: &RunOptions) -> Result<(Machine, String), Failure> {
    let (accel, accel_reason) = accel::choose(options.accel, options.icount, Path::new("/"))?;
    let machine = Machine {
        qemu: options.qemu.clone(),
        machine_type: options.machine_type,
        firmware: firmware(&options.firmware)?,
        accel,
        icount: options.icount,
        cpus: options.cpus,
        memory: options.memory,
        nvdimms: nvdimms(options)?,
        kernel: kernel(options.kernel.as_deref())?,
        command_line: command_line(options),
        extra: extra(&options.qemu_opts)?,
    };
    Ok((machine, accel_reason))
}

fn nvdimms(options: &RunOptions) -> Result<Vec<Nvdimm>, Failure> {
    if options.no_nvdimm {
        return Ok(Vec::new());
    }
    if options.nvdimm.is_empty() {
        return Ok(vec![Nvdimm::temporary()]);
    }
    let check = |request: &NvdimmRequest| request.check(options.align.size());
    options.nvdimm.iter().map(check).collect()
}

/// `-bios` for a name that we know, or a file that is there.
fn firmware(asked: &Path) -> Result<PathBuf, Failure> {
    match asked.to_str() {
        Some("qboot") => Ok("qboot.rom".into()),
        Some("seabios") => Ok("bios-256k.bin".into()),
        _ if asked.is_file() => Ok(asked.into()),
        _ => Err(Failure::launcher(format!(
            "firmware {} is not there: use qboot, seabios or the path of an image",
            asked.display()
        ))),
    }
}

fn kernel(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = match asked {
        Some(path) => path.into(),
        None => std::env::current_exe()
            .map_err(|error| Failure::launcher(format!("cannot find the kernel: {error}; use --kernel")))?
            .with_file_name("kernel.elf"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::launcher(format!("no kernel at {}: run make, or name it with --kernel", path.display())))
}

/// What the kernel is told; the user's own words come last, so they win.
fn command_line(options: &RunOptions) -> String {
    let program = options.program.command.first().map(Path::new).unwrap_or(Path::new(""));
    let mut line = format!("console=ttyS0 init={}", program::guest_path(program));
    line += &format!(" dax.align={}", options.align.size());
    if !options.verbose {
        // Warnings and worse: lines that nobody will see cost a start several milliseconds.
        line += " loglevel=5";
    }
    if options.strace {
        line += " dax.strace";
    }
    for words in &options.append {
        line.push(' ');
        line += words;
    }
    line
}

fn extra(texts: &[String]) -> Result<Vec<OsString>, Failure> {
    let mut all = Vec::new();
    for text in texts {
        let words = shlex::split(text)
            .ok_or_else(|| Failure::launcher(format!("--qemu-opts '{text}' has a quote without its end")))?;
        all.extend(words.into_iter().map(OsString::from));
    }
    Ok(all)
}
