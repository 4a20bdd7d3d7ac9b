//! The command line: what can be asked for, in the words of virtme-ng's users.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::accel::AccelChoice;
use crate::machine::MachineType;
use crate::nvdimm::NvdimmRequest;
use crate::place::Place;
use crate::size::Size;

const RUN_HELP: &str = "\
PROG is an ELF64 x86-64 program of this host, static or dynamic, or a script. It runs as /bin/NAME with
argv[0] as typed, its interpreter and libraries where they are here, and finds the NVDIMMs as /dev/dax0.0,
/dev/dax1.0 and so on. Its stdin is empty. What follows PROG is its own; a -- right after PROG is dropped.

Exit status: the program's own; 128+N when signal N killed it; 124 time-out; 125 failure of daxite, QEMU
or the kernel; 126 PROG cannot run; 127 PROG not found; 141 nobody reads our output.

Examples:
  daxite run ./hello                                      on a temporary 1 GiB NVDIMM
  daxite run --nvdimm pmem.img,size=4G --align 1G ./prog  on a file, made if missing; bytes stay
  daxite run --nvdimm a.img --nvdimm b.img,size=2G,label-size=128K ./prog -x y
  daxite run --file data.bin:/data.bin --env LEVEL=3 --timeout 10 ./prog
  daxite run --dry-run ./prog                             show the QEMU line and do nothing";

/// Boots Daxite, a kernel for device-dax, in QEMU and runs a program in it
#[derive(Debug, Parser)]
#[command(name = "daxite", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest and run PROG in it; its output and exit status become ours
    #[command(override_usage = "daxite run [OPTIONS] PROG [ARGS]...", after_help = RUN_HELP)]
    Run(Box<RunOptions>),
    /// Write the initrd that `run` would boot with to a file
    #[command(override_usage = "daxite initrd [OPTIONS] --output FILE PROG [ARGS]...")]
    Initrd(InitrdOptions),
}

/// The program and what it finds in the guest.
#[derive(Debug, Args)]
pub struct ProgramOptions {
    /// A file or a folder for the guest (GUEST: an absolute path, by default /NAME); repeatable
    ///
    /// A folder comes with all that is in it; one that is named by an absolute path goes to the same path.
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    pub files: Vec<Place>,
    /// Bring no interpreter and no libraries
    ///
    /// Else what PROG and each --file need is found as this host's ld.so does it (rpath, LD_LIBRARY_PATH,
    /// /etc/ld.so.cache) and brought to the same paths. What a program opens by dlopen comes by --file.
    #[arg(long)]
    pub no_libs: bool,
    /// A variable for the program, beside PATH=/bin; repeatable. COLOR=1 is set when stdout is a terminal
    #[arg(long, value_name = "K=V", value_parser = parse_variable)]
    pub env: Vec<String>,
    /// The program (a path on this host) and its arguments
    #[arg(value_name = "PROG", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// `daxite initrd`.
#[derive(Debug, Args)]
pub struct InitrdOptions {
    /// The cpio archive to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub program: ProgramOptions,
}

/// `daxite run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// An NVDIMM kept in FILE; repeatable (none: a temporary one of 1G)
    ///
    /// size= is what the guest can use; FILE holds it and the label area behind it. A missing FILE is made
    /// sparse (1G without size=), an existing one is used whole. align= is the alignment of its address.
    /// unarmed=on tells the guest that it does not keep data. Write a comma in FILE twice.
    #[arg(
        long,
        value_name = "FILE[,size=S][,align=S][,label-size=S][,unarmed=on]",
        conflicts_with = "no_nvdimm"
    )]
    pub nvdimm: Vec<NvdimmRequest>,
    /// Boot without any NVDIMM
    #[arg(long)]
    pub no_nvdimm: bool,
    /// The size of each page-table entry of a device mapping
    #[arg(long, value_enum, ignore_case = true, default_value = "2M")]
    pub align: MapAlign,
    /// Number of vCPUs, 1 to 16
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=16)
    )]
    pub cpus: u32,
    /// RAM of the guest, at least 16M
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_memory)]
    pub memory: Size,
    /// KVM or TCG; -v tells what auto chose and why
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelChoice,
    /// QEMU's machine type
    #[arg(long = "machine", value_enum, default_value = "q35")]
    pub machine_type: MachineType,
    /// qboot, seabios or the path of a firmware image
    #[arg(long, value_name = "NAME|PATH", default_value = "qboot")]
    pub firmware: PathBuf,
    /// One nanosecond of guest time per instruction: timings that repeat exactly (TCG)
    #[arg(long)]
    pub icount: bool,
    /// More for the kernel's command line; repeatable
    #[arg(long, value_name = "TEXT")]
    pub append: Vec<String>,
    /// More arguments for QEMU, quoted as for a shell; repeatable
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub qemu_opts: Vec<String>,
    /// End the guest after this many seconds (0: never)
    #[arg(
        long,
        value_name = "SECS",
        default_value = "0",
        value_parser = parse_timeout,
        allow_negative_numbers = true
    )]
    pub timeout: Timeout,
    /// Print each system call of each program on stderr, as strace -f does
    #[arg(long)]
    pub strace: bool,
    /// Print the QEMU command line, ready to be pasted, and do nothing else
    #[arg(long)]
    pub dry_run: bool,
    /// Show the whole kernel log, the QEMU line and the choice of --accel on stderr
    #[arg(long, short)]
    pub verbose: bool,
    /// The kernel (default: kernel.elf beside this program); its symbols are PATH with .sym
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// The QEMU to start
    #[arg(long, value_name = "PATH", env = "DAXITE_QEMU", default_value = "qemu-system-x86_64")]
    pub qemu: PathBuf,
    #[command(flatten)]
    pub program: ProgramOptions,
}

/// The alignment of a device, and so the size of its page-table entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MapAlign {
    /// 4 KiB
    #[value(name = "4K")]
    Page,
    /// 2 MiB
    #[value(name = "2M")]
    Large,
    /// 1 GiB
    #[value(name = "1G")]
    Giant,
}

impl MapAlign {
    /// The alignment in bytes.
    pub fn size(self) -> Size {
        match self {
            Self::Page => crate::size::PAGE,
            Self::Large => crate::size::MIB_2,
            Self::Giant => crate::size::GIB,
        }
    }
}

/// A time limit, `None` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl ProgramOptions {
    /// PROG and its arguments, without a `--` right after PROG.
    pub fn argv(&self) -> Vec<OsString> {
        let is_divider = |(at, word): &(usize, &OsString)| *at == 1 && *word == "--";
        self.command
            .iter()
            .enumerate()
            .filter(|word| !is_divider(word))
            .map(|(_, word)| word.clone())
            .collect()
    }

    /// The program's environment; a later variable replaces an earlier one of the same name.
    pub fn environment(&self, has_colour: bool) -> Vec<String> {
        let key = |variable: &str| variable.split('=').next().map(str::to_owned);
        let mut all: Vec<String> = vec!["PATH=/bin".into()];
        all.extend(has_colour.then(|| "COLOR=1".into()));
        for variable in &self.env {
            all.retain(|earlier| key(earlier) != key(variable));
            all.push(variable.clone());
        }
        all
    }
}

fn parse_variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.into()),
        _ => Err("write NAME=VALUE".into()),
    }
}

fn parse_memory(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    let least = Size(16 << 20);
    if size < least {
        return Err(format!("{size} is too little: the guest needs at least {least}"));
    }
    if !size.is_multiple_of(crate::size::PAGE) {
        return Err(format!("{size} is not a multiple of 4K"));
    }
    Ok(size)
}

fn parse_timeout(text: &str) -> Result<Timeout, String> {
    let refuse = || format!("'{text}' is not a number of seconds (such as 10 or 0.5; 0 for no limit)");
    let seconds: f64 = text.parse().map_err(|_| refuse())?;
    let limit = Duration::try_from_secs_f64(seconds).map_err(|_| refuse())?;
    Ok(Timeout((!limit.is_zero()).then_some(limit)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(line: &str) -> Result<RunOptions, String> {
        let words = ["daxite", "run"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Run(options) => Ok(*options),
            Command::Initrd(_) => Err("not run".into()),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_program_is_its_own() {
        let argv = |line| run(line).expect(line).program.argv();
        assert_eq!(argv("-v prog -v --timeout 3"), ["prog", "-v", "--timeout", "3"]);
        assert_eq!(argv("prog -- -x --"), ["prog", "-x", "--"]);
        assert_eq!(argv("-- prog -- -- y"), ["prog", "--", "y"]);
        assert_eq!(argv("prog a -- b"), ["prog", "a", "--", "b"]);
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let options = run("prog").expect("fine");
        assert_eq!((options.align, options.memory), (MapAlign::Large, Size(256 << 20)));
        assert_eq!((options.cpus, options.timeout), (1, Timeout(None)));
        assert_eq!((options.accel, options.machine_type), (AccelChoice::Auto, MachineType::Q35));
    }

    #[test]
    fn bad_values_are_refused_with_what_would_be_accepted() {
        for (line, words) in [
            ("--memory 8M p", "at least 16M"),
            ("--memory 16777217 p", "not a multiple of 4K"),
            ("--cpus 0 p", "1..=16"),
            ("--cpus 17 p", "1..=16"),
            ("--timeout x p", "'x' is not a number of seconds"),
            ("--timeout -1 p", "'-1' is not a number of seconds"),
            ("--timeout nan p", "'nan' is not"),
            ("--align 3M p", "4K, 2M, 1G"),
            ("--env =x p", "NAME=VALUE"),
            ("--nvdimm f --no-nvdimm p", "cannot be used with"),
            ("--nvdim f p", "--nvdimm"),
            ("", "<PROG>"),
        ] {
            let why = run(line).map(|_| ()).expect_err(line);
            assert!(why.contains(words), "{line}: {why}");
        }
        assert_eq!(
            run("--align 1g --timeout 0.5 p").expect("fine").timeout.0,
            Some(Duration::from_millis(500))
        );
    }

    #[test]
    fn a_later_variable_replaces_an_earlier_one() {
        let options = run("--env A=1 --env A=2=3 --env COLOR=0 p").expect("fine");
        assert_eq!(options.program.environment(true), ["PATH=/bin", "A=2=3", "COLOR=0"]);
        assert_eq!(run("p").expect("fine").program.environment(true), ["PATH=/bin", "COLOR=1"]);
    }
}
