//! What dax devices and regions show and take (reference 5.9). Ours beside Linux's: `dax_region/scrub`, and
//! `SIZE revoke` written to a device's `size`.

use super::tables::ND_BUS;
use super::{NUMBER, Row, Spelling, Subject, SysDirectory};
use crate::control::{self, ControlError, WhenBound};
use crate::linux::dev::DAX_MAJOR;
use crate::machine::machine;
use crate::number::{self, BadNumber};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use dax::ranges::DevRange;
use dax::{DaxRegion, DevDax, DeviceName, RegionKind, Scrub};
use mm::range::{PAGE_SIZE, PhysRange};

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
#[derive(Clone)]
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

/// Where a region is, under /sys: behind the bus of the NVDIMMs or, other memory, a platform device's
/// (drivers/dax/hmem).
pub fn region_path(region: &DaxRegion) -> String {
    match region.kind() {
        RegionKind::Persistent => format!("{ND_BUS}/region{}", region.id()),
        RegionKind::Volatile => format!("devices/platform/hmem.{}", region.id()),
    }
}

/// Where its devices are, under /sys: an NVDIMM's behind the claim of its namespace.
pub fn home(region: &DaxRegion) -> String {
    let path = region_path(region);
    match region.kind() {
        RegionKind::Persistent => format!("{path}/dax{}.0", region.id()),
        RegionKind::Volatile => path,
    }
}

/// Where it is, under /sys.
pub fn path_of(device: &DevDax) -> String {
    format!("{}/{}", home(device.region()), device.name())
}

/// The files of a device.
pub static DEVICE: &[Row<Arc<DevDax>>] = &[
    Row::both("size", |device| device.size_bytes().to_string(), resize),
    Row::both("align", |device| device.align().bytes().to_string(), set_align),
    Row::secret("resource", |device| {
        let first = device.ranges().next().map_or(device.region().range(), |range| range.phys);
        hex(first.start().as_u64())
    }),
    Row::shown("target_node", |device| show_node(device.region())),
    Row::shown("numa_node", |device| show_node(device.region())),
    Row::shown("dev", |device| format!("{DAX_MAJOR}:{}", device.number())),
    Row::shown("modalias", |_| "dax:t0".into()),
    Row::shown("uevent", |device| {
        let driver = if device.is_alive() { "DRIVER=device_dax\n" } else { "" };
        let (minor, name) = (device.number(), device.name());
        format!("MAJOR={DAX_MAJOR}\nMINOR={minor}\nDEVNAME={name}\n{driver}MODALIAS=dax:t0")
    }),
    Row::stored("mapping", add_mapping),
    Row::each(
        "mapping*",
        NUMBER,
        |device, from| (from < device.ranges().count() as u64).then_some(from),
        |device, index, path| {
            let range = Range { device: device.clone(), index: index as usize };
            Some(SysDirectory::at(path, range, RANGE))
        },
    ),
    Row::link("subsystem", |_| "bus/dax".into()),
    Row::link("driver", |_| "bus/dax/drivers/device_dax".into()).only_if(|device| device.is_alive()),
    // On Linux it is beside the device only.
    Row::link("dax_region", |device| format!("{}/dax_region", home(device.region()))),
];

/// The files of each of a device's ranges.
static RANGE: &[Row<Range>] = &[
    Row::secret("start", |range| range.show(|range| range.phys.start().as_u64())),
    Row::secret("end", |range| range.show(|range| range.phys.end() - 1)),
    Row::secret("page_offset", |range| range.show(|range| range.offset_bytes / PAGE_SIZE)),
];

/// What has devices: the files of its region, and the devices.
pub static HOME: &[Row<Arc<DaxRegion>>] = &[Row::group("dax_region", REGION), DEVICES];

/// The devices of a region.
pub const DEVICES: Row<Arc<DaxRegion>> = Row::each(
    "*",
    DEVICE_NAME,
    |region, from| {
        let least = DeviceName { region: region.id(), id: 0 };
        let from = from.max(key_of(least));
        let device = region.next_device(name_of(from).id).filter(|_| name_of(from).region == region.id())?;
        Some(key_of(device.name()))
    },
    |region, key, path| Some(SysDirectory::at(path, region.device(name_of(key).id)?, DEVICE)),
);

/// Devices by name.
pub const DEVICE_NAME: Spelling = Spelling {
    write: |key| Some(name_of(key).to_string()),
    read: |text| DeviceName::parse(text).map(key_of),
};

/// The key of a device, in the order of names.
pub fn key_of(name: DeviceName) -> u64 {
    u64::from(name.region) << 24 | u64::from(name.id)
}

/// The name behind a key.
pub fn name_of(key: u64) -> DeviceName {
    DeviceName { region: (key >> 24) as u32, id: key as u32 & 0xff_ffff }
}

/// The files of a region.
pub static REGION: &[Row<Arc<DaxRegion>>] = &[
    Row::shown("id", |region| region.id().to_string()),
    Row::shown("size", |region| region.range().len_bytes().to_string()),
    Row::shown("align", |region| region.align().bytes().to_string()),
    Row::shown("available_size", |region| region.available_bytes().to_string()),
    Row::both("create", |region| show_name(region.youngest()), create),
    Row::shown("seed", |region| show_name(region.seed())),
    Row::stored("delete", |region, text| {
        control::delete(region, DeviceName::parse(text).ok_or(ControlError::NotInRegion)?)
    }),
    Row::both("scrub", |region| u32::from(region.scrub() == Scrub::Required).to_string(), set_scrub),
];

/// As C's `%#llx` writes it: 0 has no `0x`.
pub fn hex(number: u64) -> String {
    if number == 0 { "0".into() } else { format!("{number:#x}") }
}

/// The one node that the firmware told; -1 where it told none.
pub fn show_node(region: &DaxRegion) -> String {
    region.target_node().map_or("-1".into(), |node| node.to_string())
}

fn show_name(name: Option<DeviceName>) -> String {
    name.map(|name| name.to_string()).unwrap_or_default()
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
pub fn parse(text: &str, expected: &'static str) -> Result<u64, ControlError> {
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
