//! What the attributes show and take (reference 5.9). Ours beside Linux's: `dax_region/scrub`, and `SIZE revoke`
//! written to a device's `size`.

use crate::control::{self, ControlError, WhenBound};
use crate::linux::dev::DAX_MAJOR;
use crate::machine::machine;
use crate::number::{self, BadNumber};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use dax::ranges::DevRange;
use dax::{DaxRegion, DevDax, DeviceName, Scrub};
use mm::range::{PAGE_SIZE, PhysRange};

/// Does what a text says.
type Store<T> = fn(&T, &str) -> Result<(), ControlError>;

/// A file of a `T`.
pub struct Attribute<T> {
    pub name: &'static str,
    /// The permission bits of st_mode.
    pub mode: u32,
    /// Its text, without the newline.
    pub show: Option<fn(&T) -> String>,
    pub store: Option<Store<T>>,
}

impl<T> Attribute<T> {
    const fn shown(name: &'static str, mode: u32, show: fn(&T) -> String) -> Attribute<T> {
        Attribute { name, mode, show: Some(show), store: None }
    }

    const fn stored(name: &'static str, store: Store<T>) -> Attribute<T> {
        Attribute { name, mode: 0o200, show: None, store: Some(store) }
    }

    const fn both(name: &'static str, show: fn(&T) -> String, store: Store<T>) -> Attribute<T> {
        Attribute { name, mode: 0o644, show: Some(show), store: Some(store) }
    }
}

/// What attributes are of.
pub trait Subject: Send + Sync + Sized {
    /// As it is now; `NoDevice` when it is gone.
    fn now(&self) -> Result<Self, ControlError>;
}

impl Subject for Arc<DevDax> {
    /// A resized device is another object of the same number, which nobody else gets while this one is held.
    fn now(&self) -> Result<Self, ControlError> {
        let found = control::device(self.name())?;
        if found.number() == self.number() { Ok(found) } else { Err(ControlError::NoDevice) }
    }
}

impl Subject for Arc<DaxRegion> {
    fn now(&self) -> Result<Self, ControlError> {
        let found = machine().registry.region(self.id()).filter(|found| Arc::ptr_eq(found, self));
        found.ok_or(ControlError::NoDevice)
    }
}

/// One of a device's ranges.
pub struct Range {
    pub device: Arc<DevDax>,
    pub index: usize,
}

impl Range {
    fn get(&self) -> Option<DevRange> {
        self.device.ranges().nth(self.index)
    }

    fn show(&self, what: fn(DevRange) -> u64) -> String {
        self.get().map(what).map(hex).unwrap_or_default()
    }
}

impl Subject for Range {
    fn now(&self) -> Result<Self, ControlError> {
        let now = Range { device: self.device.now()?, index: self.index };
        if now.get().is_some() { Ok(now) } else { Err(ControlError::NoDevice) }
    }
}

/// The driver of dax devices.
pub struct Driver;

impl Subject for Driver {
    fn now(&self) -> Result<Self, ControlError> {
        Ok(Driver)
    }
}

/// The files of a device.
pub const DEVICE: &[Attribute<Arc<DevDax>>] = &[
    Attribute::both("size", |device| device.size_bytes().to_string(), resize),
    Attribute::both("align", |device| device.align().bytes().to_string(), set_align),
    Attribute::shown("resource", 0o400, |device| {
        let first = device.ranges().next().map_or(device.region().range(), |range| range.phys);
        hex(first.start().as_u64())
    }),
    Attribute::shown("target_node", 0o444, show_node),
    Attribute::shown("numa_node", 0o444, show_node),
    Attribute::shown("dev", 0o444, |device| format!("{DAX_MAJOR}:{}", device.number())),
    Attribute::shown("modalias", 0o444, |_| "dax:t0".into()),
    Attribute::stored("mapping", add_mapping),
];

/// The files of each of a device's ranges.
pub const RANGE: &[Attribute<Range>] = &[
    Attribute::shown("start", 0o400, |range| range.show(|range| range.phys.start().as_u64())),
    Attribute::shown("end", 0o400, |range| range.show(|range| range.phys.end() - 1)),
    Attribute::shown("page_offset", 0o400, |range| range.show(|range| range.offset_bytes / PAGE_SIZE)),
];

/// The files of a region.
pub const REGION: &[Attribute<Arc<DaxRegion>>] = &[
    Attribute::shown("id", 0o444, |region| region.id().to_string()),
    Attribute::shown("size", 0o444, |region| region.range().len_bytes().to_string()),
    Attribute::shown("align", 0o444, |region| region.align().bytes().to_string()),
    Attribute::shown("available_size", 0o444, |region| region.available_bytes().to_string()),
    Attribute::both("create", |region| show_name(region.youngest()), create),
    Attribute::shown("seed", 0o444, |region| show_name(region.seed())),
    Attribute::stored("delete", |region, text| {
        control::delete(region, DeviceName::parse(text).ok_or(ControlError::NotInRegion)?)
    }),
    Attribute::both("scrub", |region| u32::from(region.scrub() == Scrub::Required).to_string(), set_scrub),
];

/// The files of the driver.
pub const DRIVER: &[Attribute<Driver>] = &[
    Attribute::stored("bind", |_, text| control::bind(device_name(text)?)),
    Attribute::stored("unbind", |_, text| control::unbind(device_name(text)?)),
];

/// As C's `%#llx` writes it: 0 has no `0x`.
fn hex(number: u64) -> String {
    if number == 0 { "0".into() } else { format!("{number:#x}") }
}

/// The one node that the firmware told; -1 where it told none.
fn show_node(device: &Arc<DevDax>) -> String {
    device.region().target_node().map_or("-1".into(), |node| node.to_string())
}

fn show_name(name: Option<DeviceName>) -> String {
    name.map(|name| name.to_string()).unwrap_or_default()
}

fn device_name(text: &str) -> Result<DeviceName, ControlError> {
    DeviceName::parse(text).ok_or(ControlError::NoDevice)
}

fn resize(device: &Arc<DevDax>, text: &str) -> Result<(), ControlError> {
    let (text, when_bound) = match text.strip_suffix(" revoke") {
        Some(text) => (text, WhenBound::Revoke),
        None => (text, WhenBound::Refuse),
    };
    let size_bytes = parse(text, "a number of bytes, which may have `revoke` behind it")?;
    control::resize(device, size_bytes, when_bound)
}

/// Linux answers ENXIO for what is no number at all, so it is told apart from a wrong one.
fn set_align(device: &Arc<DevDax>, text: &str) -> Result<(), ControlError> {
    let align_bytes = number::parse(unsigned(text)).map_err(|_| ControlError::NoAlign)?;
    control::set_align(device, align_bytes)
}

fn add_mapping(device: &Arc<DevDax>, text: &str) -> Result<(), ControlError> {
    let syntax = ControlError::Syntax { expected: "START-END, both hexadecimal, END the last byte" };
    let address =
        |text: &str| number::parse_radix(text.strip_prefix("0x").unwrap_or(text), 16).map_err(|_| syntax);
    let (start, end) = text.split_once('-').ok_or(syntax)?;
    let (start, end) = (address(start)?, address(end)?);
    let range = end.checked_add(1).and_then(|end| PhysRange::from_bounds(start, end));
    control::add_mapping(device, range.ok_or(ControlError::RangeMisaligned { align: device.align() })?)
}

fn create(region: &Arc<DaxRegion>, text: &str) -> Result<(), ControlError> {
    match parse(text, "1")? {
        1 => control::create(region),
        _ => Err(ControlError::Invalid { expected: "1" }),
    }
}

fn set_scrub(region: &Arc<DaxRegion>, text: &str) -> Result<(), ControlError> {
    region.set_scrub(match parse(text, "0 or 1")? {
        0 => Scrub::Waived,
        1 => Scrub::Required,
        _ => return Err(ControlError::Invalid { expected: "0 or 1" }),
    });
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_kstrtoull() {
        let parsed = |text| parse(text, "a number");
        assert_eq!(["0", "+1", "0x200000", "010"].map(parsed), [0, 1, 0x20_0000, 8].map(Ok));
        assert_eq!(parsed("++1"), Err(ControlError::Syntax { expected: "a number" }));
        assert_eq!(parsed("0x10000000000000000"), Err(ControlError::TooLarge));
        assert_eq!((hex(0).as_str(), hex(4096).as_str()), ("0", "0x1000"));
    }
}
