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
    path: &'static str,
    kind: Kind<T>,
    /// Is it there?
    exists: fn(&T) -> bool,
}

enum Kind<T: 'static> {
    File(Attribute<T>),
    /// A link to this path under /sys.
    Link(fn(&T) -> String),
    /// A directory about the same.
    Group(&'static [Row<T>]),
    /// As many as there are; `*` in the path's last name is a number, or what else tells them apart.
    Each(Each<T>),
}

/// A file: its text without the last newline, and what a text that is written does.
pub struct Attribute<T> {
    /// The permission bits of st_mode.
    mode: u32,
    show: Option<fn(&T) -> String>,
    store: Option<Store<T>>,
}

/// Does what a text says.
type Store<T> = fn(&T, &str) -> Result<(), ControlError>;

struct Each<T> {
    spelling: Spelling,
    /// The first key of those that are there, from this one on.
    next: fn(&T, u64) -> Option<u64>,
    /// What is there, by its key and path.
    node: fn(&T, u64, String) -> Option<Arc<dyn Node>>,
}

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

/// Positions in a directory: a row's number times this, and the key of one of [`Each`].
const ROW_KEYS: u64 = 1 << 56;

/// The most names that a directory tells at once.
const NAMES_AT_ONCE: usize = 64;

impl<T> Row<T> {
    const fn new(path: &'static str, kind: Kind<T>) -> Row<T> {
        Row { path, kind, exists: |_| true }
    }

    const fn file(
        path: &'static str,
        mode: u32,
        show: Option<fn(&T) -> String>,
        store: Option<Store<T>>,
    ) -> Row<T> {
        Row::new(path, Kind::File(Attribute { mode, show, store }))
    }

    const fn shown(path: &'static str, show: fn(&T) -> String) -> Row<T> {
        Row::file(path, 0o444, Some(show), None)
    }

    /// Only root may read it, as it names physical addresses.
    const fn secret(path: &'static str, show: fn(&T) -> String) -> Row<T> {
        Row::file(path, 0o400, Some(show), None)
    }

    const fn stored(path: &'static str, store: Store<T>) -> Row<T> {
        Row::file(path, 0o200, None, Some(store))
    }

    const fn both(path: &'static str, show: fn(&T) -> String, store: Store<T>) -> Row<T> {
        Row::file(path, 0o644, Some(show), Some(store))
    }

    const fn link(path: &'static str, target: fn(&T) -> String) -> Row<T> {
        Row::new(path, Kind::Link(target))
    }

    const fn group(path: &'static str, rows: &'static [Row<T>]) -> Row<T> {
        Row::new(path, Kind::Group(rows))
    }

    const fn each(
        path: &'static str,
        spelling: Spelling,
        next: fn(&T, u64) -> Option<u64>,
        node: fn(&T, u64, String) -> Option<Arc<dyn Node>>,
    ) -> Row<T> {
        Row::new(path, Kind::Each(Each { spelling, next, node }))
    }

    const fn only_if(self, exists: fn(&T) -> bool) -> Row<T> {
        Row { exists, ..self }
    }
}

/// /sys itself.
pub fn root() -> Arc<dyn Node> {
    SysDirectory::at("/sys".into(), tables::System, tables::ROOT)
}

struct SysDirectory<T: 'static> {
    path: String,
    subject: T,
    rows: &'static [Row<T>],
    /// The rows whose paths begin so are here; it is empty or ends in a slash.
    prefix: &'static str,
}

impl<T: Subject> SysDirectory<T> {
    fn at(path: String, subject: T, rows: &'static [Row<T>]) -> Arc<dyn Node> {
        Arc::new(SysDirectory { path, subject, rows, prefix: "" })
    }

    /// The rows that are here or below, with their paths as seen from here.
    fn rows(&self) -> impl Iterator<Item = (&'static Row<T>, &'static str)> {
        self.rows.iter().filter_map(|row| Some((row, row.path.strip_prefix(self.prefix)?)))
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Node>> {
        let subject = self.subject.now().ok()?;
        let path = tree::join(&self.path, name);
        for (row, here) in self.rows() {
            if let Kind::Each(each) = &row.kind
                && !here.contains('/')
            {
                let key = here.split_once('*').and_then(|(before, behind)| {
                    (each.spelling.read)(name.strip_prefix(before)?.strip_suffix(behind)?)
                });
                if let Some(key) =
                    key.filter(|&key| key < ROW_KEYS && (each.next)(&subject, key) == Some(key))
                {
                    return (each.node)(&subject, key, path);
                }
                continue;
            }
            let Some(below) =
                here.strip_prefix(name).filter(|below| below.is_empty() || below.starts_with('/'))
            else {
                continue;
            };
            if (row.exists)(&subject) {
                return Some(match &row.kind {
                    _ if !below.is_empty() => {
                        let prefix = row.path.strip_suffix(&below[1..])?;
                        Arc::new(SysDirectory { path, subject, rows: self.rows, prefix })
                    }
                    Kind::File(attribute) => SysFile::at(path, subject, attribute),
                    Kind::Link(target) => SysLink::at(path, target(&subject)),
                    Kind::Group(rows) => SysDirectory::at(path, subject, rows),
                    Kind::Each(_) => return None,
                });
            }
        }
        None
    }
}

impl<T: Subject> Node for SysDirectory<T> {
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
        let subject = self.subject.now()?;
        let (mut entries, mut before) = (Vec::new(), "");
        for (number, (row, path)) in (0..).zip(self.rows()).filter(|(_, (row, _))| (row.exists)(&subject)) {
            let name = path.split('/').next().unwrap_or(path);
            // Rows of one directory stand together.
            if core::mem::replace(&mut before, name) == name || number < position / ROW_KEYS {
                continue;
            }
            let mut key = if number == position / ROW_KEYS { position % ROW_KEYS } else { 0 };
            let next = |key| match &row.kind {
                Kind::Each(each) if path == name => {
                    let key = (each.next)(&subject, key)?;
                    Some((key, name.replace('*', &(each.spelling.write)(key)?)))
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
struct SysFile<T: 'static> {
    path: String,
    subject: T,
    attribute: &'static Attribute<T>,
}

impl<T: Subject> SysFile<T> {
    fn at(path: String, subject: T, attribute: &'static Attribute<T>) -> Arc<dyn Node> {
        Arc::new(SysFile { path, subject, attribute })
    }
}

impl<T: Subject> Node for SysFile<T> {
    /// As on Linux each is a page long.
    fn metadata(&self) -> Metadata {
        Metadata {
            size_bytes: PAGE_SIZE,
            ..Metadata::of_path(FileSystem::Sys, &self.path, S_IFREG | self.attribute.mode)
        }
    }

    /// Permissions hold for user 0 here, too (fs/kernfs/file.c, kernfs_fop_open).
    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        let needed = match flags & O_ACCMODE {
            O_RDONLY => 0o400,
            O_WRONLY => 0o200,
            _ => 0o600,
        };
        if self.attribute.mode & needed == needed { Ok(None) } else { Err(Errno::EACCES) }
    }

    fn read(&self, _: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let show = self.attribute.show.ok_or(Errno::EIO)?;
        let text = format!("{}\n", show(&self.subject.now()?));
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
        let store = self.attribute.store.ok_or(Errno::EINVAL)?;
        self.subject.now().and_then(|subject| store(&subject, text)).map_err(|why| {
            if LIMIT.admits("/sys") {
                log::warn!("{}: write of {text:?} refused: {why}", self.path);
            }
            Errno::from(why)
        })?;
        Ok(count)
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
        let directory = SysDirectory { path, subject: tables::System, rows: ROWS, prefix: "" };
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
