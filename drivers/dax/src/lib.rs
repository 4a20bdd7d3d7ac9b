//! Device-dax: who owns which range of differentiated memory, and how programs may map it.
//!
//! | module | noun |
//! |---|---|
//! | [`lifetime`] | alive or not, which generation, and the grace period of a kill |
//! | [`device`] | [`DaxDevice`]: the generic object: number, name, lifetime, operations |
//! | [`region`] | [`DaxRegion`]: a physical range that devices are cut from |
//! | [`ranges`] | [`DevRanges`](ranges::DevRanges): a device's bytes in physical memory |
//! | [`dev_dax`] | [`DevDax`]: `dax0.0`, a device that programs map |
//! | [`open_dax`] | [`OpenDax`]: what a descriptor holds; the pager |
//! | [`rules`] | the mapping rules, as pure functions |
//! | [`registry`] | [`Registry`]: every region and device, by name and by number |
//! | [`claims`], [`ids`], [`name`], [`stats`], [`error`] | small parts of the above |
//!
//! The crate knows addresses, not memory: it never reads or writes a byte of the media, holds no unsafe
//! code, and builds and tests on any host. A kernel supplies three things: [`lifetime::Epoch`] (pin this
//! CPU), [`region::MediaFlush`] (make stores durable) and the `install` closure of [`mm::pager::Pager`].
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod claims;
pub mod dev_dax;
pub mod device;
pub mod error;
pub mod ids;
pub mod lifetime;
pub mod name;
pub mod open_dax;
pub mod ranges;
pub mod region;
pub mod registry;
pub mod rules;
pub mod stats;

#[cfg(test)]
mod testing;

pub use dev_dax::DevDax;
pub use device::{DaxDevice, DaxOperations};
pub use error::DaxError;
pub use lifetime::{Epoch, Generation, GracePeriods};
pub use name::DeviceName;
pub use open_dax::OpenDax;
pub use region::{DaxRegion, MediaAccess, MediaFlush, RegionConfig, RegionKind};
pub use registry::Registry;
