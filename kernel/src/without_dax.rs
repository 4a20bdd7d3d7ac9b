//! What stands in for the dax crate in a kernel that was built without it: types that nothing can be of, so that
//! what serves them compiles, and goes.

use alloc::sync::{Arc, Weak};
use core::fmt;
use mm::pager::{FaultError, Install, Installed, Pager, Prot, Refusal, VmaRequest};
use mm::range::MapSize;
use mm::space::AddressSpace;

/// No regions, no devices.
pub struct Registry;

impl Registry {
    /// With nothing in it.
    pub fn new(_: epoch::NoEpoch) -> Registry {
        Registry
    }

    /// None.
    pub fn device_count(&self) -> usize {
        0
    }

    /// There is none.
    pub fn by_name(&self, _name: &str) -> Option<Arc<DevDax>> {
        None
    }
}

/// Functions that nobody calls, for there is nothing to call them on.
macro_rules! never {
    ($($scope:vis fn $name:ident(&self $(, _: $argument:ty)*) -> $answer:ty;)*) => {
        $($scope fn $name(&self $(, _: $argument)*) -> $answer { match *self {} })*
    };
}

/// A device that cannot be.
pub enum DevDax {}

#[allow(missing_docs)] // they are the real one's
impl DevDax {
    never! {
        pub fn name(&self) -> &'static str;
        pub fn align(&self) -> MapSize;
        pub fn number(&self) -> u32;
        pub fn size_bytes(&self) -> u64;
        pub fn max_prot(&self) -> Prot;
        pub fn open(&self) -> Result<Arc<OpenDax>, Refusal>;
    }
}

/// An open device that cannot be.
#[derive(Debug)]
pub enum OpenDax {}

#[allow(missing_docs)]
impl OpenDax {
    never! {
        pub fn device(&self) -> &Arc<DevDax>;
        pub fn opening(&self) -> Weak<()>;
        pub fn max_prot(&self) -> Prot;
    }
}

impl Pager for OpenDax {
    never! {
        fn granule(&self) -> MapSize;
        fn check_vma(&self, _: &VmaRequest) -> Result<(), Refusal>;
        fn fault(&self, _: u64, _: &mut Install<'_>) -> Result<Installed, FaultError>;
        fn attach(&self, _: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal>;
        fn inherit(&self, _: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal>;
        fn key(&self) -> u64;
        fn futex_object(&self) -> (u64, u64);
        fn flush(&self, _: u64, _: u64) -> Result<(), Refusal>;
        fn write_path(&self, _: &mut dyn fmt::Write) -> fmt::Result;
    }
}

/// What stands in for the epoch of dax devices.
pub mod epoch {
    /// Nothing is to be waited for.
    pub struct NoEpoch;

    /// There is none.
    pub fn epoch() -> NoEpoch {
        NoEpoch
    }

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
