//! `--dry-run`: what a run would do, as lines for a shell.
//!
//! The last line is QEMU's, exactly as `run` starts it. Where `run` gives QEMU files without a name, the
//! shell's redirections give it files in TMPDIR, which the lines before make.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::channels::{self, GUEST_CHANNELS};
use crate::cli::RunOptions;
use crate::failure::Failure;
use crate::machine::{Machine, shell_line};
use crate::nvdimm::{Backing, Nvdimm};

/// QEMU and its arguments, quoted for a shell.
pub fn qemu_line(machine: &Machine) -> Result<OsString, Failure> {
    let arguments = machine.arguments()?;
    Ok(shell_line([machine.qemu.as_os_str()].into_iter().chain(arguments.iter().map(OsString::as_os_str))))
}

/// The whole script: the files that a run makes, then QEMU.
pub fn script(options: &RunOptions, machine: &Machine) -> Result<OsString, Failure> {
    let folder = std::env::temp_dir();
    let initrd = folder.join("daxite-initrd.cpio");
    let nvdimm = folder.join("daxite-nvdimm.img");
    let mut script = OsString::new();
    for missing in &machine.nvdimms {
        let path = match &missing.backing {
            Backing::File(path) if path.exists() => continue,
            Backing::File(path) => path,
            Backing::Temporary => &nvdimm,
        };
        push(&mut script, make_file(missing, path));
    }
    push(&mut script, make_initrd(options, &initrd));
    let mut line = qemu_line(machine)?;
    for (name, fd, _) in GUEST_CHANNELS {
        line.push(format!(" {fd}>>/dev/{}", if name == "stdout" { "stdout" } else { "stderr" }));
    }
    line.push(format!(" {}<", channels::INITRD_FD));
    line.push(shell_line([initrd.as_os_str()]));
    if machine.nvdimms.iter().any(|nvdimm| nvdimm.backing == Backing::Temporary) {
        line.push(format!(" {}<>", channels::NVDIMM_FD));
        line.push(shell_line([nvdimm.as_os_str()]));
    }
    push(&mut script, line);
    Ok(script)
}

fn push(script: &mut OsString, line: OsString) {
    script.push(line);
    script.push("\n");
}

fn make_file(nvdimm: &Nvdimm, path: &Path) -> OsString {
    let size = nvdimm.file_size().bytes().to_string();
    shell_line(["truncate".as_ref(), "-s".as_ref(), OsStr::new(&size), path.as_os_str()])
}

fn make_initrd(options: &RunOptions, output: &Path) -> OsString {
    let own = std::env::current_exe().unwrap_or_else(|_| "daxite".into());
    let mut words: Vec<OsString> = vec![own.into(), "initrd".into(), "--output".into(), output.into()];
    for file in &options.program.files {
        words.extend(["--file".into(), file.as_typed()]);
    }
    words.extend(options.program.no_libs.then(|| "--no-libs".into()));
    for variable in &options.program.env {
        words.extend(["--env".into(), variable.into()]);
    }
    words.push("--".into());
    words.extend(options.program.argv());
    shell_line(words.iter().map(OsString::as_os_str))
}
