//! The files of /sys that control dax devices: Linux's paths, texts and modes (reference 5.9).
//!
//! | path | files |
//! |---|---|
//! | /sys/bus/dax/devices/daxX.Y, /sys/dev/char/M:m | [`DEVICE`], `mappingN/` [`RANGE`], `dax_region/` [`REGION`] |
//! | /sys/bus/nd/devices/regionN/dax_region | [`REGION`]; also of a region without a device |
//! | /sys/bus/dax/drivers/device_dax | [`DRIVER`] |
//!
//! An open file names its device or region and holds neither: each access looks it up, which costs the same
//! however many there are, and fails with ENODEV when it is gone. As on Linux a write is one command, and a read
//! formats the text anew. Ours beside Linux's: `dax_region/scrub`, and `SIZE revoke` written to a device's `size`.

use super::dev::DAX_MAJOR;
use super::errno::{Answer, Errno};
use super::io::copy_out;
use super::memory::check_reserve;
use crate::control::{self, ControlError, WhenBound};
use crate::log_limit::Limit;
use crate::machine::machine;
use crate::number::{self, BadNumber};
use crate::user_memory;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use dax::{DaxRegion, DevDax, DeviceName, Scrub};
use mm::range::{PAGE_SIZE, PhysRange};

/// Longer texts mean nothing in any of the files.
const MAX_TEXT: usize = 64;

/// What a path under /sys names.
pub enum Entry {
    /// A directory.
    Directory,
    /// A file.
    File(SysFile),
}

/// A file under /sys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SysFile {
    /// The permission bits of st_mode.
    pub mode: u32,
    attribute: Attribute,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attribute {
    Device(DeviceName, DeviceAttribute),
    /// Of the range of this index.
    Range(DeviceName, usize, RangeAttribute),
    /// Of the region of this number.
    Region(u32, RegionAttribute),
    Driver(DriverAttribute),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DeviceAttribute {
    Size,
    Align,
    Resource,
    Node,
    Number,
    Modalias,
    Mapping,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RangeAttribute {
    Start,
    End,
    PageOffset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RegionAttribute {
    Id,
    Size,
    Align,
    AvailableSize,
    Create,
    Seed,
    Delete,
    Scrub,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DriverAttribute {
    Bind,
    Unbind,
}

/// Names and permissions of a group of files.
type Table<A> = [(&'static str, u32, A)];

/// The files of a device.
const DEVICE: &Table<DeviceAttribute> = &[
    ("size", 0o644, DeviceAttribute::Size),
    ("align", 0o644, DeviceAttribute::Align),
    ("resource", 0o400, DeviceAttribute::Resource),
    ("target_node", 0o444, DeviceAttribute::Node),
    ("numa_node", 0o444, DeviceAttribute::Node),
    ("dev", 0o444, DeviceAttribute::Number),
    ("modalias", 0o444, DeviceAttribute::Modalias),
    ("mapping", 0o200, DeviceAttribute::Mapping),
];

/// The files of each of a device's ranges.
const RANGE: &Table<RangeAttribute> = &[
    ("start", 0o400, RangeAttribute::Start),
    ("end", 0o400, RangeAttribute::End),
    ("page_offset", 0o400, RangeAttribute::PageOffset),
];

/// The files of a region.
const REGION: &Table<RegionAttribute> = &[
    ("id", 0o444, RegionAttribute::Id),
    ("size", 0o444, RegionAttribute::Size),
    ("align", 0o444, RegionAttribute::Align),
    ("available_size", 0o444, RegionAttribute::AvailableSize),
    ("create", 0o644, RegionAttribute::Create),
    ("seed", 0o444, RegionAttribute::Seed),
    ("delete", 0o200, RegionAttribute::Delete),
    ("scrub", 0o644, RegionAttribute::Scrub),
];

/// The files of the driver.
const DRIVER: &Table<DriverAttribute> =
    &[("bind", 0o200, DriverAttribute::Bind), ("unbind", 0o200, DriverAttribute::Unbind)];

/// Finds what a path names: `path` is what stands behind `/sys`, without a slash at its end.
pub fn find(path: &str) -> Option<Entry> {
    let mut names = [""; 9];
    let mut count = 0;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        *names.get_mut(count)? = name;
        count += 1;
    }
    match &names[..count] {
        [] | ["bus"] | ["bus", "dax" | "nd"] | ["bus", "dax" | "nd", "devices"] => Some(Entry::Directory),
        ["bus", "dax", "drivers"] | ["dev"] | ["dev", "char"] => Some(Entry::Directory),
        ["bus", "dax", "drivers", "device_dax", rest @ ..] => file(DRIVER, rest, Attribute::Driver),
        ["bus", "dax", "devices", name, rest @ ..] => {
            let name = DeviceName::parse(name)?;
            find_in_device(&*control::device(name).ok()?, rest)
        }
        ["dev", "char", number, rest @ ..] => {
            let (major, minor) = number.split_once(':')?;
            let minor = minor.parse().ok().filter(|_| major.parse() == Ok(DAX_MAJOR))?;
            find_in_device(&*machine().registry.by_number(minor)?, rest)
        }
        ["bus", "nd", "devices", name, rest @ ..] => {
            let region = name.strip_prefix("region").and_then(number)?;
            machine().registry.region(region)?;
            match rest {
                [] => Some(Entry::Directory),
                ["dax_region", rest @ ..] => find_in_region(region, rest),
                _ => None,
            }
        }
        _ => None,
    }
}

fn find_in_device(device: &DevDax, path: &[&str]) -> Option<Entry> {
    let name = device.name();
    match path {
        ["dax_region", rest @ ..] => find_in_region(name.region, rest),
        [directory, rest @ ..]
            if directory.strip_prefix("mapping").is_some_and(|index| !index.is_empty()) =>
        {
            let index = directory.strip_prefix("mapping").and_then(number)? as usize;
            device.ranges().nth(index)?;
            file(RANGE, rest, |attribute| Attribute::Range(name, index, attribute))
        }
        path => file(DEVICE, path, |attribute| Attribute::Device(name, attribute)),
    }
}

fn find_in_region(region: u32, path: &[&str]) -> Option<Entry> {
    file(REGION, path, |attribute| Attribute::Region(region, attribute))
}

/// A group's own directory, or one of its files.
fn file<A: Copy>(table: &Table<A>, path: &[&str], attribute: impl Fn(A) -> Attribute) -> Option<Entry> {
    match path {
        [] => Some(Entry::Directory),
        [name] => {
            let &(_, mode, found) = table.iter().find(|(known, ..)| known == name)?;
            Some(Entry::File(SysFile { mode, attribute: attribute(found) }))
        }
        _ => None,
    }
}

/// A number in a name, which has one spelling.
fn number(text: &str) -> Option<u32> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_canonical)
}

/// Copies the file's text from `position` on to the program; bytes copied, 0 at the end.
pub fn read(file: SysFile, position: u64, buffer: u64, count: u64) -> Answer {
    let mut text = Text { bytes: [0; MAX_TEXT], len: 0 };
    file.show(&mut text)?;
    let text = text.bytes.get(..text.len).unwrap_or(&[]);
    let rest = text.get(position.min(MAX_TEXT as u64) as usize..).unwrap_or(&[]);
    copy_out(buffer, rest.get(..count as usize).unwrap_or(rest))
}

/// Does what the program's text says; all of it counts as written. A refusal is a line in the log.
pub fn write(file: SysFile, buffer: u64, count: u64) -> Answer {
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
    if file.takes_memory() {
        check_reserve()?;
    }
    file.store(text).map_err(|why| {
        if LIMIT.admits("/sys") {
            log::warn!("{file}: write of {text:?} refused: {why}");
        }
        Errno::from(why)
    })?;
    Ok(count)
}

/// A text in the making. None of ours is longer.
struct Text {
    bytes: [u8; MAX_TEXT],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

impl SysFile {
    fn show(self, out: &mut Text) -> Result<(), Errno> {
        let shown = match self.attribute {
            Attribute::Device(name, attribute) => show_device(&*device(name)?, attribute, out),
            Attribute::Range(name, index, attribute) => {
                let device = device(name)?;
                let range = device.ranges().nth(index).ok_or(Errno::ENODEV)?;
                match attribute {
                    RangeAttribute::Start => writeln!(out, "{}", Hex(range.phys.start().as_u64())),
                    RangeAttribute::End => writeln!(out, "{}", Hex(range.phys.end() - 1)),
                    RangeAttribute::PageOffset => writeln!(out, "{}", Hex(range.offset_bytes / PAGE_SIZE)),
                }
            }
            Attribute::Region(id, attribute) => show_region(&*region(id)?, attribute, out),
            Attribute::Driver(_) => return Err(Errno::EIO),
        };
        shown.map_err(|fmt::Error| Errno::EIO)
    }

    /// May a write to it take memory for good? What gives memory back must work when there is none.
    fn takes_memory(self) -> bool {
        !matches!(
            self.attribute,
            Attribute::Driver(DriverAttribute::Unbind) | Attribute::Region(_, RegionAttribute::Delete)
        )
    }

    fn store(self, text: &str) -> Result<(), ControlError> {
        match self.attribute {
            Attribute::Device(name, attribute) => store_device(&control::device(name)?, attribute, text),
            Attribute::Region(id, attribute) => {
                let region = machine().registry.region(id).ok_or(ControlError::NoDevice)?;
                store_region(&region, attribute, text)
            }
            Attribute::Driver(attribute) => {
                let name = DeviceName::parse(text).ok_or(ControlError::NoDevice)?;
                match attribute {
                    DriverAttribute::Bind => control::bind(name),
                    DriverAttribute::Unbind => control::unbind(name),
                }
            }
            // Its files are for reading.
            Attribute::Range(..) => Err(ControlError::Invalid { expected: "nothing" }),
        }
    }
}

impl fmt::Display for SysFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute {
            Attribute::Device(name, attribute) => {
                write!(f, "/sys/bus/dax/devices/{name}/{}", name_in(DEVICE, attribute))
            }
            Attribute::Range(name, index, attribute) => {
                write!(f, "/sys/bus/dax/devices/{name}/mapping{index}/{}", name_in(RANGE, attribute))
            }
            Attribute::Region(id, attribute) => {
                write!(f, "/sys/bus/nd/devices/region{id}/dax_region/{}", name_in(REGION, attribute))
            }
            Attribute::Driver(attribute) => {
                write!(f, "/sys/bus/dax/drivers/device_dax/{}", name_in(DRIVER, attribute))
            }
        }
    }
}

fn name_in<A: PartialEq>(table: &Table<A>, attribute: A) -> &'static str {
    table.iter().find(|row| row.2 == attribute).map_or("", |row| row.0)
}

fn device(name: DeviceName) -> Result<Arc<DevDax>, Errno> {
    control::device(name).map_err(|_| Errno::ENODEV)
}

fn region(id: u32) -> Result<Arc<DaxRegion>, Errno> {
    machine().registry.region(id).ok_or(Errno::ENODEV)
}

fn show_device(device: &DevDax, attribute: DeviceAttribute, out: &mut Text) -> fmt::Result {
    match attribute {
        DeviceAttribute::Size => writeln!(out, "{}", device.size_bytes()),
        DeviceAttribute::Align => writeln!(out, "{}", device.align().bytes()),
        DeviceAttribute::Resource => {
            let first = device.ranges().next().map_or(device.region().range(), |range| range.phys);
            writeln!(out, "{}", Hex(first.start().as_u64()))
        }
        // Both names for the one node that the firmware told; -1 where it told none.
        DeviceAttribute::Node => match device.region().target_node() {
            Some(node) => writeln!(out, "{node}"),
            None => writeln!(out, "-1"),
        },
        DeviceAttribute::Number => writeln!(out, "{DAX_MAJOR}:{}", device.number()),
        DeviceAttribute::Modalias => writeln!(out, "dax:t0"),
        DeviceAttribute::Mapping => Err(fmt::Error),
    }
}

fn show_region(region: &DaxRegion, attribute: RegionAttribute, out: &mut Text) -> fmt::Result {
    let show_name = |out: &mut Text, name: Option<DeviceName>| match name {
        Some(name) => writeln!(out, "{name}"),
        None => writeln!(out),
    };
    match attribute {
        RegionAttribute::Id => writeln!(out, "{}", region.id()),
        RegionAttribute::Size => writeln!(out, "{}", region.range().len_bytes()),
        RegionAttribute::Align => writeln!(out, "{}", region.align().bytes()),
        RegionAttribute::AvailableSize => writeln!(out, "{}", region.available_bytes()),
        RegionAttribute::Create => show_name(out, region.youngest()),
        RegionAttribute::Seed => show_name(out, region.seed()),
        RegionAttribute::Scrub => writeln!(out, "{}", u32::from(region.scrub() == Scrub::Required)),
        RegionAttribute::Delete => Err(fmt::Error),
    }
}

fn store_device(device: &Arc<DevDax>, attribute: DeviceAttribute, text: &str) -> Result<(), ControlError> {
    match attribute {
        DeviceAttribute::Size => {
            let (text, when_bound) = match text.strip_suffix(" revoke") {
                Some(text) => (text, WhenBound::Revoke),
                None => (text, WhenBound::Refuse),
            };
            control::resize(
                device,
                parse(text, "a number of bytes, which may have `revoke` behind it")?,
                when_bound,
            )
        }
        // Linux answers ENXIO for what is no number at all, so it is told apart from a wrong one.
        DeviceAttribute::Align => match number::parse(unsigned(text)) {
            Ok(align_bytes) => control::set_align(device, align_bytes),
            Err(_) => Err(ControlError::NoAlign),
        },
        DeviceAttribute::Mapping => {
            let expected = "START-END, both hexadecimal, END the last byte";
            let (start, end) = text.split_once('-').ok_or(ControlError::Syntax { expected })?;
            let [start, end] = [start, end].map(|text| {
                number::parse_radix(text.strip_prefix("0x").unwrap_or(text), 16)
                    .map_err(|_| ControlError::Syntax { expected })
            });
            let (start, end) = (start?, end?);
            let range = end.checked_add(1).and_then(|end| PhysRange::from_bounds(start, end));
            control::add_mapping(
                device,
                range.ok_or(ControlError::RangeMisaligned { align: device.align() })?,
            )
        }
        _ => Err(ControlError::Invalid { expected: "nothing" }),
    }
}

fn store_region(region: &Arc<DaxRegion>, attribute: RegionAttribute, text: &str) -> Result<(), ControlError> {
    match attribute {
        RegionAttribute::Create => match parse(text, "1")? {
            1 => control::create(region),
            _ => Err(ControlError::Invalid { expected: "1" }),
        },
        RegionAttribute::Delete => {
            let name = DeviceName::parse(text).ok_or(ControlError::NotInRegion)?;
            control::delete(region, name)
        }
        RegionAttribute::Scrub => {
            region.set_scrub(match parse(text, "0 or 1")? {
                0 => Scrub::Waived,
                1 => Scrub::Required,
                _ => return Err(ControlError::Invalid { expected: "0 or 1" }),
            });
            Ok(())
        }
        _ => Err(ControlError::Invalid { expected: "nothing" }),
    }
}

/// Reads a number as `kstrtoull(text, 0)` does.
fn parse(text: &str, expected: &'static str) -> Result<u64, ControlError> {
    number::parse(unsigned(text)).map_err(|why| match why {
        BadNumber::Syntax => ControlError::Syntax { expected },
        BadNumber::TooLarge => ControlError::TooLarge,
    })
}

/// `kstrtoull` takes one plus sign.
fn unsigned(text: &str) -> &str {
    text.strip_prefix('+').unwrap_or(text)
}

/// As C's `%#llx` writes it: 0 has no `0x`.
struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { write!(f, "0") } else { write!(f, "{:#x}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_that_need_no_device_are_found() {
        for directory in ["", "/bus", "/bus/dax/devices", "/bus/dax/drivers/device_dax", "/dev/char"] {
            assert!(matches!(find(directory), Some(Entry::Directory)), "{directory}");
        }
        let Some(Entry::File(bind)) = find("/bus/dax/drivers/device_dax/bind") else { panic!() };
        assert_eq!(bind.mode, 0o200);
        assert_eq!(alloc::format!("{bind}"), "/sys/bus/dax/drivers/device_dax/bind");
        for missing in [
            "/class",
            "/bus/dax/drivers/kmem/bind",
            "/bus/dax/drivers/device_dax/bind/x",
            "/1/2/3/4/5/6/7/8/9/10",
        ] {
            assert!(find(missing).is_none(), "{missing}");
        }
    }

    #[test]
    fn numbers_are_those_of_kstrtoull() {
        let parsed = |text| parse(text, "a number");
        assert_eq!(["0", "+1", "0x200000", "010"].map(parsed), [0, 1, 0x20_0000, 8].map(Ok));
        assert_eq!(parsed("++1"), Err(ControlError::Syntax { expected: "a number" }));
        assert_eq!(parsed("0x10000000000000000"), Err(ControlError::TooLarge));
        assert_eq!(alloc::format!("{} {}", Hex(0), Hex(4096)), "0 0x1000");
    }
}
