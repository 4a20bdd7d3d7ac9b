//! The files of /sys that control dax devices: Linux's paths and modes (reference 5.9). What they show and take is
//! in [`attributes`].
//!
//! | path | files |
//! |---|---|
//! | /sys/bus/dax/devices/daxX.Y, /sys/dev/char/M:m | [`DEVICE`], `mappingN/` [`RANGE`], `dax_region/` [`REGION`] |
//! | /sys/bus/nd/devices/regionN/dax_region | [`REGION`]; also of a region without a device |
//! | /sys/bus/dax/drivers/device_dax | [`DRIVER`] |
//!
//! An open file holds its device or region, and each access asks whether it is still there: ENODEV when it is not,
//! even if another has got its name. As on Linux a write is one command, and a read formats the text anew.

mod attributes;

use super::dev::DAX_MAJOR;
use super::errno::{Answer, Errno};
use super::io::copy_out;
use super::memory::check_reserve;
use super::node::Node;
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::tree;
use crate::control;
use crate::log_limit::Limit;
use crate::machine::machine;
use crate::user_memory;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use attributes::{Attribute, DEVICE, DRIVER, Driver, RANGE, REGION, Range, Subject};
use dax::{DevDax, DeviceName};
use linux_raw_sys::general::{O_ACCMODE, O_RDONLY, O_WRONLY, S_IFREG};
use mm::range::PAGE_SIZE;

/// Longer texts mean nothing in any of the files.
const MAX_TEXT: usize = 64;

/// A file.
struct SysFile<T: 'static> {
    path: String,
    subject: T,
    attribute: &'static Attribute<T>,
}

/// The directory /sys.
pub fn root() -> Arc<dyn Node> {
    tree::directory("/sys")
}

/// Finds what an absolute path under /sys names.
pub fn find(path: &str) -> Option<Arc<dyn Node>> {
    let mut names = [""; 10];
    let mut count = 0;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        *names.get_mut(count)? = name;
        count += 1;
    }
    match names[..count].get(1..)? {
        [] | ["bus"] | ["bus", "dax" | "nd"] | ["bus", "dax" | "nd", "devices"] => {
            Some(tree::directory(path))
        }
        ["bus", "dax", "drivers"] | ["dev"] | ["dev", "char"] => Some(tree::directory(path)),
        ["bus", "dax", "drivers", "device_dax", rest @ ..] => file(path, rest, Driver, DRIVER),
        ["bus", "dax", "devices", name, rest @ ..] => {
            find_in_device(path, rest, control::device(DeviceName::parse(name)?).ok()?)
        }
        ["dev", "char", number, rest @ ..] => {
            let (major, minor) = number.split_once(':')?;
            let minor = minor.parse().ok().filter(|_| major.parse() == Ok(DAX_MAJOR))?;
            find_in_device(path, rest, machine().registry.by_number(minor)?)
        }
        ["bus", "nd", "devices", name, rest @ ..] => {
            let region = machine().registry.region(name.strip_prefix("region").and_then(number)?)?;
            match rest {
                [] => Some(tree::directory(path)),
                ["dax_region", rest @ ..] => file(path, rest, region, REGION),
                _ => None,
            }
        }
        _ => None,
    }
}

fn find_in_device(path: &str, rest: &[&str], device: Arc<DevDax>) -> Option<Arc<dyn Node>> {
    match rest {
        ["dax_region", rest @ ..] => file(path, rest, device.region().clone(), REGION),
        ["mapping", ..] | [] => file(path, rest, device, DEVICE),
        [directory, rest @ ..] if let Some(index) = directory.strip_prefix("mapping") => {
            let index = number(index)? as usize;
            device.ranges().nth(index)?;
            file(path, rest, Range { device, index }, RANGE)
        }
        rest => file(path, rest, device, DEVICE),
    }
}

/// A group's own directory, or one of its files.
fn file<T: Subject>(
    path: &str,
    rest: &[&str],
    subject: T,
    table: &'static [Attribute<T>],
) -> Option<Arc<dyn Node>> {
    match rest {
        [] => Some(tree::directory(path)),
        [name] => {
            let attribute = table.iter().find(|attribute| attribute.name == *name)?;
            Some(Arc::new(SysFile { path: path.into(), subject, attribute }))
        }
        _ => None,
    }
}

/// A number in a name, which has one spelling.
fn number(text: &str) -> Option<u32> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_canonical)
}

impl<T: Subject> Node for SysFile<T> {
    /// One inode number for all: they come and go with the devices. As on Linux each is a page long.
    fn metadata(&self) -> Metadata {
        let metadata = Metadata::new(FileSystem::Sys, 2, S_IFREG | self.attribute.mode);
        Metadata { size_bytes: PAGE_SIZE, ..metadata }
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
        let text = core::str::from_utf8(bytes).map(|text| text.strip_suffix('\n').unwrap_or(text));
        let text = text.ok().filter(|_| len <= MAX_TEXT).unwrap_or("?");
        // What gives memory back must work when there is none.
        if !matches!(self.attribute.name, "unbind" | "delete") {
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
    fn the_paths_that_need_no_device_are_found() {
        for directory in ["", "/bus", "/bus/dax/devices", "/bus/dax/drivers/device_dax", "/dev/char"] {
            let path = format!("/sys{directory}");
            assert!(find(&path).unwrap().is_directory(), "{path}");
        }
        let bind = find("/sys/bus/dax/drivers/device_dax/bind").unwrap();
        assert_eq!(bind.metadata().mode, S_IFREG | 0o200);
        assert_eq!(bind.open(O_RDONLY).err(), Some(Errno::EACCES));
        for missing in [
            "/class",
            "/bus/dax/drivers/kmem/bind",
            "/bus/dax/drivers/device_dax/bind/x",
            "/1/2/3/4/5/6/7/8/9/10",
        ] {
            assert!(find(&format!("/sys{missing}")).is_none(), "{missing}");
        }
    }
}
