//! /sys: Linux's paths, modes and texts (reference 5.9). What is there stands in tables of rows: [`tables`] has those
//! of the machine and the links to devices, [`nd`] those of NVDIMMs, [`attributes`] those of dax devices and regions,
//! which also control them.
//!
//! | path | rows |
//! |---|---|
//! | /sys | [`tables::ROOT`] |
//! | /sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0 (B) | [`nd::BUS`], where there is an NFIT |
//! | B/nmemN, B/regionN, B/regionN/namespaceN.0, B/regionN/daxN.0 | `nd::DIMM`, `REGION`, `NAMESPACE`, `CLAIM` |
//! | B/regionN/daxN.0/daxN.M; /sys/devices/platform/hmem.N/daxN.M of a volatile region | `attributes::DEVICE` |
//! | dax_region beside the devices | `attributes::REGION` |
//!
//! A node holds what it is about, and each access asks whether that is still there: ENODEV when it is not, even if
//! another has got its name. As on Linux a write is one command, and a read formats the text anew.

mod attributes;
#[cfg(feature = "dax_pmem")]
mod nd;
mod tables;

use super::errno::{Answer, Errno};
use super::io::copy_out;
use super::memory::check_reserve;
use super::node::{Entry, Node};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::tree;
use crate::control::ControlError;
use crate::log_limit::Limit;
use crate::user_memory;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{O_ACCMODE, O_RDONLY, O_WRONLY, S_IFDIR, S_IFLNK, S_IFREG};
use mm::range::PAGE_SIZE;

/// Longer texts mean nothing in any of the files.
const MAX_TEXT: usize = 64;

/// What rows are about.
pub trait Subject: Send + Sync + Clone + 'static {
    /// As it is now; `NoDevice` when it is gone.
    fn now(&self) -> Result<Self, ControlError>;
}

/// A path in a directory about a `T`, and what is there. The directories on the way need no rows.
pub struct Row<T: 'static> {
    place: Place,
    kind: Kind<T>,
    /// Is it there?
    exists: fn(&T) -> bool,
}

struct Place {
    path: &'static str,
    /// How the keys of [`Kind::Each`] stand at the `*` of the path's last name.
    keys: Option<Spelling>,
}

enum Kind<T: 'static> {
    /// The permission bits of st_mode, the text without its last newline, and what a text that is written does.
    File(u32, Option<fn(&T) -> String>, Option<Store<T>>),
    /// A link to this path under /sys.
    Link(fn(&T) -> String),
    /// A directory about the same.
    Group(&'static [Row<T>]),
    /// As many as there are: the first key of those that are there, from this one on; what is there, by its key and
    /// path.
    Each(NextKey<T>, NodeOf<T>),
}

/// Does what a text says.
type Store<T> = fn(&T, &str) -> Result<(), ControlError>;
type NextKey<T> = fn(&T, u64) -> Option<u64>;
type NodeOf<T> = fn(&T, u64, String) -> Option<Arc<dyn Node>>;

/// How keys, which are below [`ROW_KEYS`], stand in names.
pub struct Spelling {
    write: fn(u64) -> Option<String>,
    read: fn(&str) -> Option<u64>,
}

/// A number has one spelling.
pub const NUMBER: Spelling = Spelling {
    write: |key| Some(key.to_string()),
    read: |text| text.parse().ok().filter(|key: &u64| key.to_string() == text),
};

/// Positions in a directory: a row's number times this, and the key of one of [`Kind::Each`].
const ROW_KEYS: u64 = 1 << 56;

/// The most names that a directory tells at once.
const NAMES_AT_ONCE: usize = 64;

impl<T> Row<T> {
    const fn new(path: &'static str, kind: Kind<T>) -> Row<T> {
        Row { place: Place { path, keys: None }, kind, exists: |_| true }
    }

    const fn shown(path: &'static str, show: fn(&T) -> String) -> Row<T> {
        Row::new(path, Kind::File(0o444, Some(show), None))
    }

    /// Only root may read it, as it names physical addresses.
    const fn secret(path: &'static str, show: fn(&T) -> String) -> Row<T> {
        Row::new(path, Kind::File(0o400, Some(show), None))
    }

    const fn stored(path: &'static str, store: Store<T>) -> Row<T> {
        Row::new(path, Kind::File(0o200, None, Some(store)))
    }

    const fn both(path: &'static str, show: fn(&T) -> String, store: Store<T>) -> Row<T> {
        Row::new(path, Kind::File(0o644, Some(show), Some(store)))
    }

    const fn link(path: &'static str, target: fn(&T) -> String) -> Row<T> {
        Row::new(path, Kind::Link(target))
    }

    const fn group(path: &'static str, rows: &'static [Row<T>]) -> Row<T> {
        Row::new(path, Kind::Group(rows))
    }

    const fn each(path: &'static str, keys: Spelling, next: NextKey<T>, node: NodeOf<T>) -> Row<T> {
        Row { place: Place { path, keys: Some(keys) }, ..Row::new(path, Kind::Each(next, node)) }
    }

    const fn only_if(self, exists: fn(&T) -> bool) -> Row<T> {
        Row { exists, ..self }
    }
}

/// /sys itself.
pub fn root() -> Arc<dyn Node> {
    SysDirectory::at("/sys".into(), tables::System, tables::ROOT)
}

/// A subject and its rows, whatever it is: rows go by their numbers.
trait Table: Send + Sync {
    /// As it is now; `NoDevice` when it is gone.
    fn now(&self) -> Result<Arc<dyn Table>, ControlError>;

    /// `None` behind the last row.
    fn place(&self, row: usize) -> Option<&'static Place>;

    fn exists(&self, row: usize) -> bool;

    /// The first key of those that are there, from this one on; what is alone has key 0.
    fn next(&self, row: usize, from: u64) -> Option<u64>;

    fn node(self: Arc<Self>, row: usize, key: u64, path: String) -> Option<Arc<dyn Node>>;

    /// The text of a file that has one to read.
    fn show(&self, row: usize) -> Option<String>;

    /// Does what a text says, when the file takes any.
    fn store(&self, row: usize, text: &str) -> Result<Option<()>, ControlError>;
}

struct About<T: 'static>(T, &'static [Row<T>]);

impl<T: Subject> Table for About<T> {
    fn now(&self) -> Result<Arc<dyn Table>, ControlError> {
        Ok(Arc::new(About(self.0.now()?, self.1)))
    }

    fn place(&self, row: usize) -> Option<&'static Place> {
        Some(&self.1.get(row)?.place)
    }

    fn exists(&self, row: usize) -> bool {
        (self.1[row].exists)(&self.0)
    }

    fn next(&self, row: usize, from: u64) -> Option<u64> {
        match &self.1[row].kind {
            Kind::Each(next, _) => next(&self.0, from),
            _ => (from == 0).then_some(0),
        }
    }

    fn node(self: Arc<Self>, row: usize, key: u64, path: String) -> Option<Arc<dyn Node>> {
        match &self.1[row].kind {
            Kind::File(mode, ..) => Some(Arc::new(SysFile { path, mode: *mode, table: self, row })),
            Kind::Link(target) => Some(SysLink::at(path, target(&self.0))),
            Kind::Group(rows) => Some(SysDirectory::at(path, self.0.clone(), rows)),
            Kind::Each(_, node) => node(&self.0, key, path),
        }
    }

    fn show(&self, row: usize) -> Option<String> {
        match &self.1[row].kind {
            Kind::File(_, show, _) => Some(show.as_ref()?(&self.0)),
            _ => None,
        }
    }

    fn store(&self, row: usize, text: &str) -> Result<Option<()>, ControlError> {
        match &self.1[row].kind {
            Kind::File(_, _, Some(store)) => store(&self.0, text).map(Some),
            _ => Ok(None),
        }
    }
}

struct SysDirectory {
    path: String,
    table: Arc<dyn Table>,
    /// The rows whose paths begin so are here; it is empty or ends in a slash.
    prefix: &'static str,
}

impl SysDirectory {
    fn at<T: Subject>(path: String, subject: T, rows: &'static [Row<T>]) -> Arc<dyn Node> {
        Arc::new(SysDirectory { path, table: Arc::new(About(subject, rows)), prefix: "" })
    }

    /// The rows that are here or below, with their paths as seen from here.
    fn rows(&self) -> impl Iterator<Item = (usize, &'static Place, &'static str)> {
        let places = (0..).map_while(|row| Some((row, self.table.place(row)?)));
        places.filter_map(|(row, place)| Some((row, place, place.path.strip_prefix(self.prefix)?)))
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Node>> {
        let table = self.table.now().ok()?;
        let path = tree::join(&self.path, name);
        for (row, place, here) in self.rows() {
            if let Some(keys) = &place.keys
                && !here.contains('/')
            {
                let key = here.split_once('*').and_then(|(before, behind)| {
                    (keys.read)(name.strip_prefix(before)?.strip_suffix(behind)?)
                });
                if let Some(key) = key.filter(|&key| key < ROW_KEYS && table.next(row, key) == Some(key)) {
                    return table.node(row, key, path);
                }
                continue;
            }
            match here.strip_prefix(name) {
                Some("") if table.exists(row) => return table.node(row, 0, path),
                Some(below) if below.starts_with('/') && table.exists(row) => {
                    let prefix = place.path.strip_suffix(&below[1..])?;
                    return Some(Arc::new(SysDirectory { path, table, prefix }));
                }
                _ => {}
            }
        }
        None
    }
}

impl Node for SysDirectory {
    fn metadata(&self) -> Metadata {
        Metadata::of_path(FileSystem::Sys, &self.path, S_IFDIR | 0o755)
    }

    fn kind(&self) -> u32 {
        S_IFDIR
    }

    fn lookup(&self, _: &Thread, name: &str) -> Result<Arc<dyn Node>, Errno> {
        self.find(name).ok_or(Errno::ENOENT)
    }

    fn entries(&self, _: &Thread, position: u64) -> Result<Vec<Entry>, Errno> {
        let table = self.table.now()?;
        let (mut entries, mut before) = (Vec::new(), "");
        for (row, place, path) in self.rows().filter(|&(row, ..)| table.exists(row)) {
            let name = path.split('/').next().unwrap_or(path);
            let number = row as u64;
            // Rows of one directory stand together.
            if core::mem::replace(&mut before, name) == name || number < position / ROW_KEYS {
                continue;
            }
            let mut key = if number == position / ROW_KEYS { position % ROW_KEYS } else { 0 };
            let next = |key| match &place.keys {
                Some(keys) if path == name => {
                    let key = table.next(row, key)?;
                    Some((key, name.replace('*', &(keys.write)(key)?)))
                }
                _ => (key == 0).then(|| (0, name.into())),
            };
            while let Some((found, name)) = next(key).filter(|_| entries.len() < NAMES_AT_ONCE) {
                entries.push(Entry { position: number * ROW_KEYS + found, name });
                key = found + 1;
            }
        }
        Ok(entries)
    }
}

struct SysLink {
    path: String,
    target: String,
}

impl SysLink {
    /// A link to `target` under /sys.
    fn at(path: String, target: String) -> Arc<dyn Node> {
        Arc::new(SysLink { path, target })
    }
}

impl Node for SysLink {
    fn metadata(&self) -> Metadata {
        Metadata::of_path(FileSystem::Sys, &self.path, S_IFLNK | 0o777)
    }

    /// Relative to its directory, as Linux's are.
    fn link(&self) -> Option<String> {
        // Of /sys/bus/dax/devices/dax0.0 three: up to /sys.
        let up = self.path.matches('/').count().saturating_sub(2);
        Some(format!("{}{}", "../".repeat(up), self.target))
    }
}

/// A file.
struct SysFile {
    path: String,
    /// The permission bits of st_mode.
    mode: u32,
    table: Arc<dyn Table>,
    row: usize,
}

impl Node for SysFile {
    /// As on Linux each is a page long.
    fn metadata(&self) -> Metadata {
        Metadata {
            size_bytes: PAGE_SIZE,
            ..Metadata::of_path(FileSystem::Sys, &self.path, S_IFREG | self.mode)
        }
    }

    /// Permissions hold for user 0 here, too (fs/kernfs/file.c, kernfs_fop_open).
    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        let needed = match flags & O_ACCMODE {
            O_RDONLY => 0o400,
            O_WRONLY => 0o200,
            _ => 0o600,
        };
        if self.mode & needed == needed { Ok(None) } else { Err(Errno::EACCES) }
    }

    fn read(&self, _: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let text = self.table.now()?.show(self.row).ok_or(Errno::EIO)? + "\n";
        let rest = usize::try_from(position).ok().and_then(|start| text.as_bytes().get(start..));
        let rest = rest.unwrap_or(&[]);
        copy_out(buffer, rest.get(..count as usize).unwrap_or(rest))
    }

    /// Does what the program's text says; all of it counts as written. A refusal is a line in the log.
    fn write(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        static LIMIT: Limit = Limit::new();
        // As on Linux a longer text is cut to a page, and an empty one does nothing.
        let count = count.min(PAGE_SIZE);
        if count == 0 {
            return Ok(0);
        }
        let mut bytes = [0; MAX_TEXT + 1];
        let len = (count as usize).min(bytes.len());
        let bytes = &mut bytes[..len];
        user_memory::read(buffer, bytes)?;
        // As on Linux a text is a C string: libdaxctl writes the NUL, too.
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or(&[]);
        let text = core::str::from_utf8(bytes).map(|text| text.strip_suffix('\n').unwrap_or(text));
        let text = text.ok().filter(|_| len <= MAX_TEXT).unwrap_or("?");
        // What gives memory back must work when there is none.
        if !self.path.ends_with("/unbind") && !self.path.ends_with("/delete") {
            check_reserve()?;
        }
        let stored = self.table.now().and_then(|table| table.store(self.row, text)).map_err(|why| {
            if LIMIT.admits("/sys") {
                log::warn!("{}: write of {text:?} refused: {why}", self.path);
            }
            Errno::from(why)
        })?;
        stored.map(|()| count).ok_or(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_the_files_of_its_rows() {
        static ROWS: &[Row<tables::System>] = &[
            Row::stored("bind", |_, _| Ok(())),
            Row::shown("below/here/file", |_| "1".into()),
            Row::link("driver", |_| "bus/dax/drivers/device_dax".into()),
            Row::link("nothing", |_| String::new()).only_if(|_| false),
            Row::each(
                "cpu*",
                NUMBER,
                |_, from| (from < 2).then_some(from),
                |_, key, path| Some(SysLink::at(path, key.to_string())),
            ),
        ];
        let path = "/sys/devices/x".into();
        let directory = SysDirectory { path, table: Arc::new(About(tables::System, ROWS)), prefix: "" };
        let bind = directory.find("bind").unwrap();
        assert_eq!(bind.metadata().mode, S_IFREG | 0o200);
        assert_eq!(bind.open(O_RDONLY).err(), Some(Errno::EACCES));
        assert!(directory.find("below").unwrap().is_directory());
        let link = directory.find("driver").unwrap();
        assert_eq!(link.link().as_deref(), Some("../../bus/dax/drivers/device_dax"));
        assert!(
            ["nothing", "", "cpu2", "cpu01", "cpu+1", "*"].iter().all(|name| directory.find(name).is_none())
        );
        assert_eq!(directory.find("cpu1").unwrap().link().as_deref(), Some("../../1"));
        assert_ne!(bind.metadata().inode, link.metadata().inode);
    }
}
