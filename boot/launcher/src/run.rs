//! One run: QEMU from its start to the exit status that the user sees.
//!
//! The main thread waits for events and deadlines, threads read the channels. Whatever happens, QEMU is
//! ended:
//! 1. The guest powers off: the pipes end, the last status line decides.
//! 2. A status line came, but QEMU stays: it is ended after `GRACE`; the line still decides.
//! 3. Time-out, signal, or nobody reads our output: SIGTERM, after `PATIENCE` SIGKILL, and after
//!    `LEAVE` we go, even if a pipe has not ended (its reader may be stuck).
//!
//! A write to our stderr waits for its reader and holds stderr's lock meanwhile. So the main thread never
//! writes there while it listens, and afterwards either with a limit (`say_within`) or when signals have
//! their usual effect again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::channels::{self, Event};
use crate::failure::{self, Failure};
use crate::kernel_log::{KernelLog, printable};
use crate::machine::Machine;
use crate::panic_names::PanicNames;
use crate::qemu::{Qemu, ReservedNumbers};
use crate::status::Status;

/// For QEMU to end after the kernel's status line, which is the last thing that the kernel does.
const GRACE: Duration = Duration::from_secs(5);
/// For QEMU to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);
/// For the last bytes to reach our readers after SIGKILL, and for a last word after that.
pub const LEAVE: Duration = Duration::from_millis(500);
/// The guest's channels and QEMU's own output.
const PIPES: usize = channels::GUEST_CHANNELS.len() + 1;
/// What a shell adds to a signal's number.
const SIGNALLED: u8 = 128;
/// Lines of QEMU's own output that are kept.
const QEMU_LINES: usize = 40;

/// What a run needs besides the machine.
pub struct Session {
    /// The initrd that the guest gets.
    pub initrd: File,
    /// The temporary NVDIMM, if the machine has one.
    pub temporary_nvdimm: Option<File>,
    /// The limit for the whole run.
    pub timeout: Option<Duration>,
    /// All of the kernel's and QEMU's lines (`-v`).
    pub is_verbose: bool,
    /// The kernel's symbols.
    pub symbols: Option<PathBuf>,
}

impl Session {
    /// Runs the machine to its end and answers the exit status of `daxite`. Call it on the main thread.
    pub fn run(self, machine: &Machine, reserved: &ReservedNumbers) -> Result<u8, Failure> {
        let failed = |error: io::Error| Failure::launcher(format!("cannot set up the channels: {error}"));
        let (events, heard) = mpsc::channel();
        forward_signals(events.clone()).map_err(failed)?;

        let (stdout, stdout_end) = channels::pipe().map_err(failed)?;
        let (stderr, stderr_end) = channels::pipe().map_err(failed)?;
        let (status, status_end) = channels::pipe().map_err(failed)?;
        let (log, log_end) = channels::pipe().map_err(failed)?;
        let (own, own_end) = channels::pipe().map_err(failed)?;
        let mut inherited: Vec<(OwnedFd, _)> = vec![
            (stdout_end.into(), channels::STDOUT_FD),
            (stderr_end.into(), channels::STDERR_FD),
            (status_end.into(), channels::STATUS_FD),
            (log_end.into(), channels::LOG_FD),
            (self.initrd.into(), channels::INITRD_FD),
        ];
        inherited.extend(self.temporary_nvdimm.map(|file| (file.into(), channels::NVDIMM_FD)));

        let our_stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        let our_stderr = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let arguments = machine.arguments()?;
        let qemu = Qemu::start(&machine.qemu, &arguments, inherited, own_end, reserved)?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));

        channels::copy(stdout, our_stdout, events.clone());
        channels::copy(stderr, our_stderr, events.clone());
        let (is_verbose, symbols) = (self.is_verbose, self.symbols);
        channels::lines(
            log,
            events.clone(),
            move || KernelLog::new(is_verbose, PanicNames::new(symbols)),
            |log, line| {
                if let Some(shown) = log.line(line) {
                    say(&shown);
                }
                None
            },
            |log| Some(Event::LogTail(log.unseen_tail())),
        );
        let status_line = |(): &mut (), line: &[u8]| Some(Event::Status(Status::parse(line)));
        channels::lines(status, events.clone(), || (), status_line, |()| None);
        let own_line = move |(): &mut (), line: &[u8]| {
            let line = printable(line);
            if is_verbose {
                say(&format!("qemu: {line}"));
            }
            Some(Event::QemuSaid(line))
        };
        channels::lines(own, events, || (), own_line, |()| None);

        let mut watch = Watch {
            qemu,
            next: deadline.map(|at| (at, Step::TimeOut)),
            cause: None,
            status: None,
            log_tail: Vec::new(),
            qemu_said: Vec::new(),
            is_verbose,
            timeout: self.timeout,
        };
        let all_ended = watch.listen(&heard);
        // From here on a signal ends us at once: see `forward_signals`.
        drop(heard);
        watch.verdict(all_ended)
    }
}

/// Why we end QEMU.
enum Cause {
    TimedOut,
    Signal(i32),
    Output(io::Error),
    /// The status is known, but QEMU stays.
    Lingers,
    /// QEMU has stopped the guest for good.
    Stuck,
}

/// What happens when the next deadline passes.
enum Step {
    TimeOut,
    Linger,
    Kill,
    Leave,
}

/// The main thread's view of the run.
struct Watch {
    qemu: Qemu,
    next: Option<(Instant, Step)>,
    cause: Option<Cause>,
    status: Option<Status>,
    log_tail: Vec<String>,
    qemu_said: Vec<String>,
    is_verbose: bool,
    timeout: Option<Duration>,
}

impl Watch {
    /// Listens until every pipe has ended (`true`), or until waiting longer is no use.
    fn listen(&mut self, heard: &Receiver<Event>) -> bool {
        let mut open = PIPES;
        while open > 0 {
            let event = match &self.next {
                // The signal thread never drops its sender, so an error is a deadline that has passed.
                Some((at, _)) => heard.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
                None => heard.recv().ok(),
            };
            match event {
                Some(Event::Ended) => open -= 1,
                Some(event) => self.hear(event),
                None => match self.next.take() {
                    // Only the reader of our output is slow: it gets all the time it wants.
                    Some((_, Step::TimeOut | Step::Linger)) if self.qemu.has_ended() => {}
                    Some((_, Step::TimeOut)) => self.end(Cause::TimedOut),
                    Some((_, Step::Linger)) => self.end(Cause::Lingers),
                    Some((_, Step::Kill)) => self.kill(),
                    Some((_, Step::Leave)) | None => return false,
                },
            }
        }
        true
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ended => {}
            Event::Status(status) => {
                self.status = Some(status);
                if self.cause.is_none() {
                    self.next = Some((Instant::now() + GRACE, Step::Linger));
                }
            }
            Event::OutputFailed(error) => self.end(Cause::Output(error)),
            Event::LogTail(lines) => self.log_tail = lines,
            Event::QemuSaid(line) => {
                // QEMU stops such a guest and waits for a debugger that never comes.
                if line.starts_with("KVM internal error") {
                    self.end(Cause::Stuck);
                }
                // What was shown is not told again at the end.
                if !self.is_verbose && self.qemu_said.len() < QEMU_LINES {
                    self.qemu_said.push(line);
                }
            }
            Event::Signal(_) if matches!(self.cause, Some(Cause::Signal(_))) => self.kill(),
            Event::Signal(number) => self.end(Cause::Signal(number)),
        }
    }

    /// Asks QEMU to end. The first cause counts.
    fn end(&mut self, cause: Cause) {
        if self.cause.is_none() {
            self.cause = Some(cause);
            self.qemu.terminate();
            self.next = Some((Instant::now() + PATIENCE, Step::Kill));
        }
    }

    fn kill(&mut self) {
        self.qemu.kill();
        self.next = Some((Instant::now() + LEAVE, Step::Leave));
    }

    fn verdict(self, all_ended: bool) -> Result<u8, Failure> {
        let launcher = |why: String| Err(Failure::launcher(why));
        let ended_itself = self.cause.is_none();
        match self.cause {
            Some(Cause::TimedOut) => {
                let limit = self.timeout.unwrap_or_default();
                let message = format!("the guest ran longer than --timeout {}", limit.as_secs_f64());
                return Err(Failure { status: failure::TIMED_OUT, message });
            }
            Some(Cause::Signal(number)) => return Ok(SIGNALLED + u8::try_from(number).unwrap_or(0)),
            Some(Cause::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
                return Ok(SIGNALLED + Signal::PIPE.as_raw() as u8);
            }
            Some(Cause::Output(error)) => return launcher(format!("cannot pass the output on: {error}")),
            Some(Cause::Lingers) => {
                say_within(LEAVE, "daxite: QEMU did not end after the guest's end and was stopped".into());
            }
            Some(Cause::Stuck) | None => {}
        }
        let ended = if all_ended { self.qemu.wait().ok() } else { None };
        match self.status {
            Some(Status::Exit(status)) => Ok(status),
            Some(Status::Signal(number)) => Ok(SIGNALLED + number),
            Some(Status::Fail(reason)) => launcher(format!("the kernel failed: {reason}")),
            Some(Status::Unknown(line)) => launcher(format!("the kernel told no status but '{line}'")),
            None => {
                let mut why = String::from("the guest ended without a status");
                if let Some(ended) = ended.filter(|_| ended_itself) {
                    why += &format!(" (QEMU: {ended}{})", hint(ended));
                }
                let said = self.qemu_said.iter().map(|line| format!("\n  qemu: {line}"));
                let logged = self.log_tail.iter().map(|line| format!("\n  log: {line}"));
                why.extend(said.chain(logged));
                launcher(why)
            }
        }
    }
}

/// What a way to end usually means.
fn hint(ended: ExitStatus) -> &'static str {
    if ended.success() {
        return "; it ends so when the guest resets, as by a triple fault";
    }
    match ended.signal().and_then(Signal::from_named_raw) {
        Some(Signal::BUS) => "; the file system of an NVDIMM file is full?",
        Some(Signal::KILL) => "; this host is out of memory?",
        _ => "",
    }
}

/// A line on our stderr, however long its reader takes. Nobody there to read it is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on our stderr for which a reader that is stuck holds us up for `patience` only.
pub fn say_within(patience: Duration, line: String) {
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        say(&line);
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(patience);
}

/// Sends signals to the listener; when it has gone, they have their usual effect.
fn forward_signals(events: Sender<Event>) -> io::Result<()> {
    // Without /proc none counts as ignored, which is the usual state.
    let ignored = fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_signals(&status));
    let is_wanted = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(is_wanted))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    Ok(())
}

/// The signals that our parent told us to ignore (`nohup`, a shell's background job), bit 0 for signal 1:
/// `SigIgn` of proc(5)'s status.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
