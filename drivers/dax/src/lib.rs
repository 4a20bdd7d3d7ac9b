//! Device-dax: who owns which range of differentiated memory, and how programs may map it.
//!
//! | module | noun |
//! |---|---|
//! | [`lifetime`] | alive or not, which generation, and the grace period of a kill |
//! | [`device`] | [`DaxDevice`]: the generic object: number, name, lifetime, operations |
//! | [`devices`], [`holder`] | [`DaxDevices`]: all of them; [`Hold`]: one in use for good |
//! | [`region`] | [`DaxRegion`]: a physical range that devices are cut from |
//! | [`ranges`] | [`DevRanges`](ranges::DevRanges): a device's bytes in physical memory |
//! | [`dev_dax`] | [`DevDax`]: `dax0.0`, a device that programs map |
//! | [`open_dax`] | [`OpenDax`]: what a descriptor or a mapping holds: the pager |
//! | [`mappings`] | who has mapped a device |
//! | [`rules`] | the mapping rules, as pure functions |
//! | [`registry`] | [`Registry`]: every region and device, by name and by number |
//! | [`claims`], [`ids`], [`name`], [`error`], `table`, `range_set`, `space`, `change`, `memory` | small parts of the above |
//!
//! The crate knows addresses, not memory: it never reads or writes a byte of the media, holds no unsafe
//! code, and builds and tests on any host. A kernel supplies three things: [`lifetime::Epoch`] (pin this
//! CPU), [`region::MediaFlush`] (make stores durable) and the `install` closure of [`mm::pager::Pager`].
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod change;
pub mod claims;
pub mod dev_dax;
pub mod device;
pub mod devices;
pub mod error;
pub mod holder;
pub mod ids;
pub mod lifetime;
pub mod mappings;
mod memory;
pub mod name;
pub mod open_dax;
mod range_set;
pub mod ranges;
pub mod region;
pub mod registry;
pub mod rules;
mod space;
mod table;

// Here and not in `lifetime`, whose loom models bring their own atomics.
use core::sync::atomic;

#[cfg(test)]
mod testing;

pub use dev_dax::{DevDax, Scrubbing};
pub use device::{DaxDevice, DaxOperations, Unsupported};
pub use devices::DaxDevices;
pub use error::DaxError;
pub use holder::{DaxHolder, Hold};
pub use lifetime::{Epoch, Generation, GracePeriods};
pub use mappings::TakenMappings;
pub use name::{DaxName, DeviceName};
pub use open_dax::OpenDax;
pub use region::{
    DaxRegion, DeviceRequest, MediaAccess, MediaFlush, Placement, RegionConfig, RegionKind, Scrub,
};
pub use registry::Registry;
