//! /proc: what the machine has and what the reader is. A text is written anew at each read from its start; its first
//! page is kept for those that go on, or numbers that grow would shift it.
//!
//! [`TABLE`] has every path of the machine, whose texts are in [`machine`], and [`PROCESS`] those of `PID/`, in
//! [`of_process`] and [`maps`]. Of other processes than the caller's there is only what `ps` asks for
//! ([`Show::Process`]): their memory and files are theirs. Ours beside Linux's:
//!
//! - `PID/daxite`: this kernel's counters for this program, one `key value` a line.
//! - `PID/pagewalk`: `pread` at offset A tells what the CPU finds on its way to address A, from the root on.
//! - `daxite/removals`: the last devices that were taken from their users, one a line ([`crate::removal`]).
//! - `daxite/lifetime`: how many there were, one `key value` a line.

mod machine;
mod maps;
mod of_process;
mod window;

use super::errno::{Answer, Errno};
use super::files::MAX_DESCRIPTORS;
use super::io::copy_out;
use super::memory::{check_reserve, vec_for};
use super::node::{self, Entry, Node};
use super::process::{self, Process};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::tree::{self, Place};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};
use linux_raw_sys::general::{O_ACCMODE, O_RDONLY, S_IFDIR, S_IFLNK, S_IFREG};
use mm::lock::{Rank, SpinLock};
use mm::range::PAGE_SIZE;
use window::Window;

/// Most bytes that one read gives, as for Linux's seq files.
const MAX_READ: u64 = PAGE_SIZE;

/// The most names that a directory tells at once.
const ENTRIES_AT_ONCE: usize = 64;

/// What a path leads to. A text that does not fit the window ends with an error, and then the window is full.
#[derive(Clone, Copy)]
enum Show {
    Text(fn(&Thread, &mut Window<'_>) -> fmt::Result),
    /// It depends on where it is read.
    At(fn(&Thread, u64, &mut Window<'_>) -> fmt::Result),
    Link(fn(&Thread) -> String),
    /// A text about the process whose directory it is in.
    Process(fn(&Thread, &Process, &mut Window<'_>) -> fmt::Result),
    /// The directory of each process, by its number.
    Processes,
    /// A link to each file that is open, by descriptor.
    Files,
}

/// Paths and what is there. Those of one directory stand together.
type Table = [(&'static str, Show)];

static TABLE: &Table = &[
    ("cpuinfo", Show::Text(machine::cpuinfo)),
    ("filesystems", Show::Text(machine::filesystems)),
    ("loadavg", Show::Text(machine::loadavg)),
    ("meminfo", Show::Text(machine::meminfo)),
    ("mounts", Show::Text(machine::mounts)),
    ("self", Show::Link(|thread| thread.process.pid.to_string())),
    ("stat", Show::Text(machine::stat)),
    ("sys/kernel/random/uuid", Show::Text(machine::uuid)),
    ("sys/vm/overcommit_memory", Show::Text(|_, out| out.put(b"1\n"))),
    #[cfg(feature = "dax")]
    ("daxite/removals", Show::Text(machine::removals)),
    #[cfg(feature = "dax")]
    ("daxite/lifetime", Show::Text(machine::lifetime)),
    ("uptime", Show::Text(machine::uptime)),
    ("*", Show::Processes),
];

static PROCESS: &Table = &[
    ("auxv", Show::Text(|thread, out| out.put(&thread.program.auxv))),
    ("cmdline", Show::Process(of_process::command_line)),
    ("comm", Show::Process(of_process::comm)),
    ("daxite", Show::Text(of_process::counters)),
    ("environ", Show::Process(of_process::environment)),
    ("exe", Show::Link(|thread| format!("/{}", thread.name()))),
    ("fd", Show::Files),
    ("maps", Show::Text(|thread, out| maps::write(thread, maps::Detail::Line, out))),
    ("mountinfo", Show::Text(machine::mount_info)),
    ("mounts", Show::Text(machine::mounts)),
    ("pagewalk", Show::At(of_process::walk)),
    ("smaps", Show::Text(|thread, out| maps::write(thread, maps::Detail::All, out))),
    ("stat", Show::Process(of_process::stat)),
    ("status", Show::Process(of_process::status)),
];

/// /proc itself.
pub fn root() -> Arc<dyn Node> {
    Arc::new(ProcDirectory { path: "/proc".into(), table: TABLE, prefix: "", pid: None })
}

struct ProcDirectory {
    path: String,
    table: &'static Table,
    /// The rows whose paths begin so are here; it is empty or ends in a slash.
    prefix: &'static str,
    /// Whose it is, if it is a process's.
    pid: Option<i32>,
}

impl ProcDirectory {
    /// The rows that are here or below, each with the name that leads to it from here.
    fn rows(&self, thread: &Thread) -> impl Iterator<Item = (&'static str, &'static str, Show)> {
        let is_others = self.pid.is_some_and(|pid| pid != thread.process.pid);
        self.table.iter().filter_map(move |&(path, show)| {
            let is_shown = !is_others || matches!(show, Show::Process(_));
            let name = path.strip_prefix(self.prefix)?.split('/').next()?;
            is_shown.then_some((path, name, show))
        })
    }
}

impl Node for ProcDirectory {
    fn metadata(&self) -> Metadata {
        Metadata::of_path(FileSystem::Proc, &self.path, S_IFDIR | 0o555)
    }

    fn lookup(&self, thread: &Thread, name: &str) -> Result<Arc<dyn Node>, Errno> {
        let pid =
            name.parse().ok().filter(|pid: &i32| pid.to_string() == name && process::find(*pid).is_some());
        let is_named = |row: &str| row == name || row == "*" && pid.is_some();
        let (row, _, show) = self.rows(thread).find(|(_, row, _)| is_named(row)).ok_or(Errno::ENOENT)?;
        let path = tree::join(&self.path, name);
        let below = row.get(..=self.prefix.len() + name.len()).filter(|path| path.ends_with('/'));
        Ok(match (below, show) {
            (Some(prefix), _) => Arc::new(ProcDirectory { path, prefix, ..*self }),
            (None, Show::Processes) => Arc::new(ProcDirectory { path, table: PROCESS, prefix: "", pid }),
            (None, Show::Files) => Arc::new(OpenFiles { path }),
            (None, Show::Link(target)) => Arc::new(ProcLink { path, target: target(thread), fd: None }),
            (None, Show::Text(_) | Show::At(_) | Show::Process(_)) => {
                Arc::new(ProcFile { path, show, pid: self.pid, start: SpinLock::new(Rank::File, None) })
            }
        })
    }

    fn entries(&self, thread: &Thread, position: u64) -> Result<Vec<Entry>, Errno> {
        let mut names: Vec<_> =
            self.rows(thread).map(|(_, name, _)| name).filter(|name| *name != "*").collect();
        names.dedup();
        // Processes come behind them, each in the position of its number.
        let behind = names.len() as u64;
        let mut entries = node::numbered(names, position);
        let mut next = position.saturating_sub(behind);
        while self.pid.is_none() && self.prefix.is_empty() && entries.len() < ENTRIES_AT_ONCE {
            let Some(found) = process::find_by(|process| process.pid as u64 >= next) else { break };
            entries.push(Entry { position: behind + found.pid as u64, name: found.pid.to_string() });
            next = found.pid as u64 + 1;
        }
        Ok(entries)
    }
}

/// PID/fd.
struct OpenFiles {
    path: String,
}

impl Node for OpenFiles {
    fn metadata(&self) -> Metadata {
        Metadata::of_path(FileSystem::Proc, &self.path, S_IFDIR | 0o500)
    }

    fn lookup(&self, thread: &Thread, name: &str) -> Result<Arc<dyn Node>, Errno> {
        let fd = name.parse().ok().filter(|fd: &i32| fd.to_string() == name).ok_or(Errno::ENOENT)?;
        let file = thread.file_any(fd).map_err(|_| Errno::ENOENT)?;
        let (path, target) = (tree::join(&self.path, name), file.place.path().into());
        Ok(Arc::new(ProcLink { path, target, fd: Some(fd) }))
    }

    /// A descriptor is its own position.
    fn entries(&self, thread: &Thread, position: u64) -> Result<Vec<Entry>, Errno> {
        let files = thread.files.lock();
        let open = (position..MAX_DESCRIPTORS as u64).filter(|&fd| files.get_any(fd as i32).is_ok());
        // Few at once: the lock is held.
        Ok(open
            .take(ENTRIES_AT_ONCE)
            .map(|position| Entry { position, name: position.to_string() })
            .collect())
    }
}

struct ProcLink {
    path: String,
    target: String,
    /// What it leads to, where the text need not. The number and not the file: a link to a link to a link would hold
    /// them all.
    fd: Option<i32>,
}

impl Node for ProcLink {
    fn metadata(&self) -> Metadata {
        Metadata::of_path(FileSystem::Proc, &self.path, S_IFLNK | 0o777)
    }

    fn link(&self) -> Option<String> {
        Some(self.target.clone())
    }

    fn jump(&self, thread: &Thread) -> Option<Arc<Place>> {
        Some(Arc::clone(&thread.file_any(self.fd?).ok()?.place))
    }
}

struct ProcFile {
    path: String,
    show: Show,
    pid: Option<i32>,
    /// The first page of the text as it was last read from the start.
    start: SpinLock<Option<Arc<Vec<u8>>>>,
}

impl Node for ProcFile {
    fn metadata(&self) -> Metadata {
        Metadata::of_path(FileSystem::Proc, &self.path, S_IFREG | 0o444)
    }

    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        if flags & O_ACCMODE == O_RDONLY { Ok(None) } else { Err(Errno::EACCES) }
    }

    /// A descriptor that was inherited shows who reads it from its start.
    fn read(&self, thread: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        // A statement of its own: in the condition the lock would last as long as the copy, which may fault.
        let start = self.start.lock().clone();
        // Short of a page it is all of the text.
        if position > 0
            && let Some(start) = start
            && (position < start.len() as u64 || (start.len() as u64) < MAX_READ)
        {
            let rest = start.get(position as usize..).unwrap_or(&[]);
            return copy_out(buffer, rest.get(..count as usize).unwrap_or(rest));
        }
        let mut text = vec_for(if position == 0 { MAX_READ } else { count.min(MAX_READ) } as usize)?;
        text.resize(text.capacity(), 0);
        let mut window = Window::new(position, &mut text);
        let written = match self.show {
            Show::Text(show) => show(thread, &mut window),
            Show::At(show) => {
                window = Window::new(0, &mut text);
                show(thread, position, &mut window)
            }
            Show::Process(show) => {
                let process = self.pid.and_then(process::find).ok_or(Errno::ESRCH)?;
                show(thread, &process, &mut window)
            }
            Show::Link(_) | Show::Processes | Show::Files => Ok(()),
        };
        let filled = window.filled();
        // The other way to fail is that memory is out.
        if written.is_err() && filled < text.len() {
            return Err(Errno::ENOMEM);
        }
        text.truncate(filled);
        let answer = copy_out(buffer, text.get(..count as usize).unwrap_or(&text));
        if position == 0 && !matches!(self.show, Show::At(_)) {
            // When memory is out nothing is kept, and a read that goes on writes it anew.
            let kept = check_reserve().is_ok().then(|| Arc::new(text));
            let _before = mem::replace(&mut *self.start.lock(), kept);
        }
        answer
    }

    /// What depends on the place answers one page address and then ends: a `cat` of it must.
    fn is_at_end(&self, position: u64) -> bool {
        matches!(self.show, Show::At(_)) && !position.is_multiple_of(PAGE_SIZE)
    }
}
