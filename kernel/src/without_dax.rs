//! What stands in for the dax crate in a kernel that was built without it: types that nothing can be of, so that
//! what serves them compiles, and goes.

use alloc::sync::{Arc, Weak};
use core::fmt;
use mm::pager::{FaultError, FaultRequest, Install, Installed, Pager, Prot, Refusal, VmaRequest};
use mm::range::MapSize;
use mm::space::AddressSpace;

/// No regions, no devices.
pub struct Registry;

impl Registry {
    /// None.
    pub fn device_count(&self) -> usize {
        0
    }

    /// There is none.
    pub fn by_name(&self, _name: &str) -> Option<Arc<DevDax>> {
        None
    }
}

/// A device that cannot be.
pub enum DevDax {}

impl DevDax {
    /// Never called.
    pub fn name(&self) -> &'static str {
        match *self {}
    }

    /// Never called.
    pub fn align(&self) -> MapSize {
        match *self {}
    }

    /// Never called.
    pub fn number(&self) -> u32 {
        match *self {}
    }

    /// Never called.
    pub fn size_bytes(&self) -> u64 {
        match *self {}
    }

    /// Never called.
    pub fn max_prot(&self) -> Prot {
        match *self {}
    }

    /// Never called.
    pub fn open(self: &Arc<Self>) -> Result<Arc<OpenDax>, Refusal> {
        match **self {}
    }
}

/// An open device that cannot be.
#[derive(Debug)]
pub enum OpenDax {}

impl OpenDax {
    /// Never called.
    pub fn device(&self) -> &Arc<DevDax> {
        match *self {}
    }

    /// Never called.
    pub fn max_prot(&self) -> Prot {
        match *self {}
    }
}

impl Pager for OpenDax {
    fn granule(&self) -> MapSize {
        match *self {}
    }

    fn check_vma(&self, _: &VmaRequest) -> Result<(), Refusal> {
        match *self {}
    }

    fn fault(&self, _: &FaultRequest, _: &mut Install<'_>) -> Result<Installed, FaultError> {
        match *self {}
    }

    fn attach(&self, _: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        match *self {}
    }

    fn inherit(&self, _: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        match *self {}
    }

    fn key(&self) -> u64 {
        match *self {}
    }

    fn futex_object(&self) -> (u64, u64) {
        match *self {}
    }

    fn flush(&self, _: u64, _: u64) -> Result<(), Refusal> {
        match *self {}
    }

    fn write_path(&self, _: &mut dyn fmt::Write) -> fmt::Result {
        match *self {}
    }
}

/// What stands in for the epoch of dax devices.
pub mod epoch {
    /// No part in it.
    pub struct CpuEpoch;

    impl CpuEpoch {
        /// None.
        pub const fn unregistered() -> CpuEpoch {
            CpuEpoch
        }

        /// Nothing to take part in.
        pub fn register(&self) {}
    }
}
