//! What /sys has of the machine, and the links that lead to devices.

use super::attributes::{DEVICE_NAME, HOME, key_of, name_of, path_of, region_path};
use super::{NUMBER, Row, Spelling, Subject, SysDirectory, SysLink};
use crate::control::{self, ControlError};
use crate::linux::dev::DAX_MAJOR;
use crate::machine::machine;
use crate::task;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use dax::{DaxRegion, DeviceName, RegionKind};
use mm::range::PAGE_SIZE;

/// The bus of the NVDIMMs, under /sys.
pub const ND_BUS: &str = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0";

/// The machine as a whole.
#[derive(Clone, Copy)]
pub struct System;

impl Subject for System {
    fn now(&self) -> Result<Self, ControlError> {
        Ok(System)
    }
}

/// /sys. Rows of one directory stand together; what is looked for most comes first.
pub static ROOT: &[Row<System>] = &[
    #[cfg(feature = "dax_pmem")]
    Row::group(ND_BUS, super::nd::BUS).only_if(has_nd_bus),
    Row::each(
        "devices/platform/hmem.*",
        NUMBER,
        |_, from| next_region(from, is_volatile),
        |_, id, path| Some(SysDirectory::at(path, region(id)?, HOME)),
    ),
    // As glibc, libnuma and Rust's std read them.
    Row::shown("devices/system/cpu/online", cpus),
    Row::shown("devices/system/cpu/possible", cpus),
    Row::shown("devices/system/cpu/present", cpus),
    // stress-ng counts them.
    Row::each(
        "devices/system/cpu/cpu*",
        NUMBER,
        |_, from| Some(from).filter(|&cpu| cpu < task::online().count_ones().into()),
        |_, cpu, path| {
            (cpu < task::online().count_ones().into()).then(|| SysDirectory::at(path, System, &[]))
        },
    ),
    Row::shown("devices/system/node/online", |_| "0".into()),
    Row::shown("devices/system/node/possible", |_| "0".into()),
    Row::shown("devices/system/node/node0/cpulist", cpus),
    Row::shown("devices/system/node/node0/cpumap", cpu_mask),
    Row::shown("devices/system/node/node0/meminfo", memory),
    Row::each("bus/dax/devices/*", DEVICE_NAME, next_device, |_, key, path| {
        Some(SysLink::at(path, path_of(&*control::device(name_of(key)).ok()?)))
    }),
    Row::stored("bus/dax/drivers/device_dax/bind", |_, text| control::bind(device_name(text)?)),
    Row::stored("bus/dax/drivers/device_dax/unbind", |_, text| control::unbind(device_name(text)?)),
    // This driver takes every device: an id adds none, and one that is removed takes none away (drivers/dax/bus.c).
    // libdaxctl writes both beside the two above.
    Row::stored("bus/dax/drivers/device_dax/new_id", |_, text| id(text)),
    Row::stored("bus/dax/drivers/device_dax/remove_id", |_, text| id(text)),
    Row::link("bus/dax/drivers/device_dax/module", |_| "module/device_dax".into()),
    Row::link("bus/nd/devices/ndbus0", |_| ND_BUS.into()).only_if(has_nd_bus),
    // Of memory that forgets, as on no Linux: each region has a path by its number alone.
    Row::each(
        "bus/nd/devices/region*",
        NUMBER,
        |_, from| next_region(from, |_| true),
        |_, id, path| Some(SysLink::at(path, region_path(&*region(id)?))),
    ),
    #[cfg(feature = "dax_pmem")]
    super::nd::NAMESPACE_LINKS,
    #[cfg(feature = "dax_pmem")]
    super::nd::CLAIM_LINKS,
    #[cfg(feature = "dax_pmem")]
    super::nd::DIMM_LINKS,
    Row::group("bus/nd/drivers/nd_region", &[]),
    Row::group("bus/nd/drivers/dax_pmem", &[]),
    Row::group("bus/nd/drivers/nvdimm", &[]),
    Row::link("class/nd/ndctl0", |_| format!("{ND_BUS}/nd/ndctl0")).only_if(has_nd_bus),
    Row::each("dev/char/254:*", MINOR, next_device, |_, key, path| {
        Some(SysLink::at(path, path_of(&*control::device(name_of(key)).ok()?)))
    }),
    Row::link("dev/char/253:0", |_| format!("{ND_BUS}/nd/ndctl0")).only_if(has_nd_bus),
    // libkmod looks here before libdaxctl binds a device.
    Row::shown("module/device_dax/initstate", |_| "live".into()),
];

/// Devices by number.
const MINOR: Spelling = Spelling {
    write: |key| Some(control::device(name_of(key)).ok()?.number().to_string()),
    read: |text| {
        let minor = (super::NUMBER.read)(text)?;
        Some(key_of(machine().registry.by_number(u32::try_from(minor).ok()?)?.name()))
    },
};

const _: () = assert!(DAX_MAJOR == 254, "ROOT names it");

fn next_device(_: &System, from: u64) -> Option<u64> {
    Some(key_of(machine().registry.next_device(from.checked_sub(1).map(name_of))?.name()))
}

/// The region of this number.
pub fn region(id: u64) -> Option<Arc<DaxRegion>> {
    machine().registry.region(u32::try_from(id).ok()?)
}

/// The first region that is `wanted` with this number or a higher one.
pub fn next_region(from: u64, wanted: fn(&DaxRegion) -> bool) -> Option<u64> {
    let regions = machine().registry.regions();
    regions
        .iter()
        .filter(|region| wanted(region))
        .map(|region| region.id().into())
        .find(|&id: &u64| id >= from)
}

fn is_volatile(region: &DaxRegion) -> bool {
    region.kind() == RegionKind::Volatile
}

fn has_nd_bus(_: &System) -> bool {
    cfg!(feature = "dax_pmem") && machine().nfit.is_some()
}

/// A list of ranges: CPUs are numbered as they come online.
fn cpus(_: &System) -> String {
    match task::online().count_ones() {
        1 => "0".into(),
        count => format!("0-{}", count - 1),
    }
}

/// Their mask in words of 32 bits, the highest first, for lscpu.
fn cpu_mask(_: &System) -> String {
    let mask = task::online();
    match mask >> 32 {
        0 => format!("{mask:x}"),
        high => format!("{high:x},{:08x}", mask & 0xffff_ffff),
    }
}

fn memory(_: &System) -> String {
    let frames = machine().memory.frames;
    let kib = |frames| frames * (PAGE_SIZE >> 10);
    let (total, free) = (kib(frames.total_frames()), kib(frames.free_frames()));
    format!("Node 0 MemTotal:       {total:8} kB\nNode 0 MemFree:        {free:8} kB")
}

fn device_name(text: &str) -> Result<DeviceName, ControlError> {
    DeviceName::parse(text).ok_or(ControlError::NoDevice)
}

/// The name of a device, which need not be there.
fn id(text: &str) -> Result<(), ControlError> {
    DeviceName::parse(text).map(drop).ok_or(ControlError::Syntax { expected: "daxN.M" })
}
