//! A guest case: files, one or more boots by `daxite run`, and what each must come to.
//!
//! Each case has a scratch directory, `build/suite/NUMBER`, which goes when it has passed. In arguments and
//! options `{dir}` stands for it, `{guest}` for the directory of the guest programs and `{build}` for that of
//! the kernels.

mod check;
mod ktap;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use host_tests::media::Media;
use serde_json::Value;

use crate::report::{Outcome, Report, Verdict};

/// The limit of a boot, unless it brings its own `--timeout`.
const TIMEOUT_SECONDS: u64 = 60;
/// Kernels of other features, beside `kernel.elf`.
const VARIANTS: [&str; 4] = ["checks", "nodax", "nopmem", "noepoch"];
/// After this much more `daxite` itself is stuck, and is killed.
const GRACE: Duration = Duration::from_secs(15);

/// Makes a file of a case in its scratch directory.
type Prepare = Box<dyn Fn(&Paths, &Path) -> io::Result<()> + Send + Sync>;

/// Changes what an earlier boot left in the scratch directory.
type Change = fn(&Path) -> io::Result<()>;

/// A named case.
pub struct Case {
    /// `q35 2M counter ...`.
    pub name: String,
    prepare: Vec<Prepare>,
    boots: Vec<Boot>,
    media: Option<(Media, u64)>,
}

/// One run of `daxite run`, and what must come out.
#[derive(Clone, Default)]
pub struct Boot {
    program: String,
    arguments: Vec<String>,
    options: Vec<String>,
    is_quiet: bool,
    change: Option<Change>,
    expected: check::Expected,
}

impl Case {
    /// A case without files and boots.
    pub fn new(name: impl Into<String>) -> Case {
        Case { name: name.into(), prepare: Vec::new(), boots: Vec::new(), media: None }
    }

    /// Makes a file first.
    pub fn prepare(mut self, make: impl Fn(&Paths, &Path) -> io::Result<()> + Send + Sync + 'static) -> Case {
        self.prepare.push(Box::new(make));
        self
    }

    /// Writes `{dir}/name` first.
    pub fn file(self, name: &'static str, bytes: Vec<u8>) -> Case {
        self.prepare(move |_, dir| fs::write(dir.join(name), &bytes))
    }

    /// Expands media to `{dir}/nvdimm.img` first; after the last boot the first `len_bytes` are unchanged.
    pub fn media(mut self, media: Media, len_bytes: u64) -> Case {
        self.media = Some((media, len_bytes));
        self
    }

    /// The jobs that it counts as: two when a guest has several CPUs.
    fn weight(&self) -> usize {
        let is_parallel =
            |boot: &Boot| boot.options.windows(2).any(|pair| pair[0] == "--cpus" && pair[1] != "1");
        if self.boots.iter().any(is_parallel) { 2 } else { 1 }
    }

    /// Adds a boot.
    pub fn boot(mut self, boot: Boot) -> Case {
        self.boots.push(boot);
        self
    }
}

impl Boot {
    /// Runs a guest program (a name in `build/guest`, or a path); it must end with status 0.
    pub fn of(program: &str) -> Boot {
        let program = if program.contains('/') { program.into() } else { format!("{{guest}}/{program}") };
        Boot { program, ..Boot::default() }
    }

    /// The program's arguments.
    pub fn args(mut self, arguments: &[&str]) -> Boot {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Options for `daxite run`.
    pub fn with(mut self, options: &[&str]) -> Boot {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// `--align`, and the same for the program.
    pub fn at(self, align: &str) -> Boot {
        self.with(&["--align", align, "--env", &format!("DAX_ALIGN={align}")])
    }

    /// On the kernel of this variant, `build/kernel-VARIANT.elf`.
    pub fn kernel(self, variant: &str) -> Boot {
        self.with(&["--kernel", &format!("{{build}}/kernel-{variant}.elf")])
    }

    /// Without the kernel's log: stderr is the program's alone.
    pub fn quiet(mut self) -> Boot {
        self.is_quiet = true;
        self
    }

    /// The exit status.
    pub fn status(mut self, status: i32) -> Boot {
        self.expected.status = status;
        self
    }

    /// A pattern that a line of stdout matches; `*` stands for anything. An empty one asks for nothing.
    pub fn out(mut self, pattern: impl Into<String>) -> Boot {
        self.expected.stdout.extend(Some(pattern.into()).filter(|pattern| !pattern.is_empty()));
        self
    }

    /// A pattern that a line of stderr or of the kernel's log matches.
    pub fn log(mut self, pattern: impl Into<String>) -> Boot {
        self.expected.stderr.push(pattern.into());
        self
    }

    /// Stdout is JSON, behind lines of other kinds if need be, and has this value there (an RFC 6901 pointer).
    pub fn json(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Boot {
        self.expected.json.push((pointer.into(), value.into()));
        self
    }

    /// What the host changes in the scratch directory before this boot.
    pub fn after(mut self, change: Change) -> Boot {
        self.change = Some(change);
        self
    }

    /// Exactly these bytes on stdout and on stderr.
    pub fn bytes(mut self, stdout: Vec<u8>, stderr: Vec<u8>) -> Boot {
        self.expected.bytes = Some((stdout, stderr));
        self
    }

    /// The program's stdout is a KTAP report, whose cases count one by one.
    pub fn ktap(mut self) -> Boot {
        self.expected.is_ktap = true;
        self
    }

    /// The `daxite` command line.
    pub fn command(&self, paths: &Paths, dir: &Path) -> Command {
        let fill = |text: &String| {
            text.replace("{dir}", &dir.to_string_lossy())
                .replace("{guest}", &paths.guest().to_string_lossy())
                .replace("{build}", &paths.build().to_string_lossy())
        };
        let mut command = Command::new(paths.daxite());
        command.args(["run", "--accel", "tcg"]);
        if !self.options.iter().any(|option| option == "--timeout") {
            command.args(["--timeout", &TIMEOUT_SECONDS.to_string()]);
        }
        command.args((!self.is_quiet).then_some("-v")).args(self.options.iter().map(fill));
        command.arg(fill(&self.program)).args(self.arguments.iter().map(fill)).env("TMPDIR", dir);
        command
    }
}

/// Where things are.
pub struct Paths {
    build: PathBuf,
}

impl Paths {
    /// Fails, naming what is missing, unless kernel, launcher and guest programs are there.
    pub fn new(build: PathBuf) -> io::Result<Paths> {
        let build = fs::canonicalize(&build).unwrap_or(build);
        let variants = VARIANTS.map(|variant| format!("kernel-{variant}.elf"));
        let others = ["kernel.elf", "kernel.sym", "daxite", "guest/cases", "guest/hello"].map(str::to_owned);
        let missing: Vec<_> =
            variants.into_iter().chain(others).filter(|name| !build.join(name).is_file()).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(io::Error::other(format!(
                "{} lacks {missing}: make all variants guest",
                build.display()
            )));
        }
        Ok(Paths { build })
    }

    /// The directory of everything that is built.
    pub fn build(&self) -> &Path {
        &self.build
    }

    /// The host command.
    pub fn daxite(&self) -> PathBuf {
        self.build.join("daxite")
    }

    /// The directory of the guest programs.
    pub fn guest(&self) -> PathBuf {
        self.build.join("guest")
    }

    /// An empty scratch directory.
    pub fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.build.join("suite").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Runs the cases, `jobs` guests of one CPU at a time, and reports them in the order of the table.
pub fn run_all(cases: &[Case], paths: &Paths, jobs: usize, report: &mut Report) -> io::Result<()> {
    let (next, free, freed) = (Mutex::new(0), Mutex::new(jobs), Condvar::new());
    let (done, results) = mpsc::channel();
    // The next case, when there is room for it; until then nobody overtakes it.
    let take = || {
        let mut next = next.lock().expect("nobody panics with it");
        let number = *next;
        let case = cases.get(number)?;
        *next += 1;
        let weight = case.weight().min(jobs);
        let free = free.lock().expect("nobody panics with it");
        *freed.wait_while(free, |free| *free < weight).expect("nobody panics with it") -= weight;
        Some((number, case, weight))
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (done, take, free, freed) = (done.clone(), &take, &free, &freed);
            scope.spawn(move || {
                while let Some((number, case, weight)) = take() {
                    let outcomes = run(case, number, paths);
                    *free.lock().expect("nobody panics with it") += weight;
                    freed.notify_all();
                    if done.send((number, outcomes)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let (mut waiting, mut reported) = (BTreeMap::new(), 0);
        for (number, outcomes) in results {
            waiting.insert(number, outcomes);
            while let Some(outcomes) = waiting.remove(&reported) {
                outcomes.iter().for_each(|outcome| report.add(outcome));
                reported += 1;
            }
        }
        if reported == cases.len() { Ok(()) } else { Err(io::Error::other("a case came to no result")) }
    })
}

/// All results of a case: one, or one for each case of its KTAP reports and one for what is wrong beside.
fn run(case: &Case, number: usize, paths: &Paths) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let complaint = match boots(case, number, paths, &mut outcomes) {
        Ok(complaint) => complaint,
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = complaint {
        outcomes.push(Outcome { name: case.name.clone(), verdict: Verdict::Failed(why) });
    } else if outcomes.is_empty() {
        outcomes.push(Outcome { name: case.name.clone(), verdict: Verdict::Passed });
    }
    outcomes
}

fn boots(
    case: &Case,
    number: usize,
    paths: &Paths,
    outcomes: &mut Vec<Outcome>,
) -> io::Result<Option<String>> {
    let dir = paths.scratch(&number.to_string())?;
    let image = dir.join("nvdimm.img");
    case.prepare.iter().try_for_each(|make| make(paths, &dir))?;
    if let Some((media, _)) = &case.media {
        media.expand(&image)?;
    }
    for boot in &case.boots {
        boot.change.map_or(Ok(()), |change| change(&dir))?;
        let ran = execute(boot.command(paths, &dir), &dir)?;
        let mut complaints = boot.expected.complaints(&ran);
        if boot.expected.is_ktap {
            let (mut inner, wrong) = ktap::parse(&String::from_utf8_lossy(&ran.stdout));
            let failed = inner.iter_mut().filter_map(|one| match &mut one.verdict {
                Verdict::Failed(why) => Some(why),
                _ => None,
            });
            // Status 1 says no more than the cases that failed; the log is shown once, behind the last.
            if let Some(why) = failed.last()
                && ran.status.is_some_and(|status| status.code() == Some(1))
            {
                complaints.clear();
                why.push_str(&ran.stderr_text());
            }
            complaints.extend(wrong);
            let named = |one: Outcome| Outcome { name: format!("{} {}", case.name, one.name), ..one };
            outcomes.extend(inner.into_iter().map(named));
        }
        if !complaints.is_empty() {
            return Ok(Some(format!("{}\n{}", complaints.join("\n"), ran.text())));
        }
    }
    if let Some((media, len_bytes)) = &case.media
        && let Some(difference) = media.difference(&image, *len_bytes)?
    {
        return Ok(Some(format!("the media changed: {difference}")));
    }
    fs::remove_dir_all(dir)?;
    Ok(None)
}

/// What came out of a run.
pub struct Ran {
    command: String,
    /// `None`: it had to be killed.
    pub status: Option<ExitStatus>,
    /// Bytes of stdout.
    pub stdout: Vec<u8>,
    /// Bytes of stderr.
    pub stderr: Vec<u8>,
}

impl Ran {
    fn stderr_text(&self) -> String {
        format!("{}\n{}", self.command, String::from_utf8_lossy(&self.stderr))
    }

    /// Everything, for a failure.
    pub fn text(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        format!("--- stdout\n{stdout}--- stderr and log\n{}", self.stderr_text())
    }
}

/// Runs a command to its end; it is killed when it outlives every limit.
pub fn execute(mut command: Command, dir: &Path) -> io::Result<Ran> {
    // Files, not pipes: nothing can be stuck, and they stay for whoever looks into a failure.
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let mut child = command.spawn()?;
    let status = wait(&mut child)?;
    Ok(Ran { command: format!("{command:?}"), status, stdout: fs::read(out)?, stderr: fs::read(err)? })
}

fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + Duration::from_secs(TIMEOUT_SECONDS) * 10 + GRACE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
