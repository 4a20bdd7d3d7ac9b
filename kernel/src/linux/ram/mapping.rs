//! A file in RAM as mappings see it.

use super::RamFile;
use alloc::sync::{Arc, Weak};
use core::fmt;
use mm::pager::{FaultError, Install, Installed, PageSource, Pager, Refusal, VmaRequest};
use mm::range::{MapSize, PhysRange};
use mm::space::AddressSpace;

/// Private mappings copy its pages, or show them in place where they are still the initrd's.
impl PageSource for RamFile {
    fn len_bytes(&self) -> u64 {
        self.contents.read().len_bytes
    }

    fn page_in_place(&self, offset_bytes: u64) -> Option<PhysRange> {
        let contents = self.contents.read();
        let untouched = contents.initrd.as_ref().filter(|_| contents.pages.is_none())?;
        untouched.page_in_place(offset_bytes)
    }

    fn fill(&self, offset_bytes: u64, page: &mut [u8]) {
        self.contents.read().copy_to(offset_bytes, page);
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/{}", self.path)
    }
}

/// A shared mapping, which shows them.
pub struct Mapping(pub Arc<RamFile>);

impl Pager for Mapping {
    fn granule(&self) -> MapSize {
        MapSize::Size4K
    }

    fn check_vma(&self, _: &VmaRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn fault(&self, offset_bytes: u64, install: &mut Install<'_>) -> Result<Installed, FaultError> {
        // Until the entry is written: a truncation that comes behind finds it.
        let contents = self.0.contents.read();
        if offset_bytes >= contents.len_bytes {
            return Err(FaultError::Bus);
        }
        match contents.page(offset_bytes) {
            Ok(page) => Ok(install(page, MapSize::Size4K)),
            Err(FaultError::NoMemory) => Ok(Installed::NeedsTables(0)),
            Err(error) => Err(error),
        }
    }

    fn attach(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        let mut spaces = self.0.mapped_by.lock();
        // A dead space's place is taken: nobody moves, for `revoke` may be on its way along the list.
        let is_free = |known: &Weak<AddressSpace>| known.ptr_eq(space) || known.strong_count() == 0;
        match spaces.iter().position(is_free) {
            Some(index) => spaces[index] = space.clone(),
            None => {
                spaces.try_reserve(1).map_err(|_| Refusal::NoMemory)?;
                spaces.push(space.clone());
            }
        }
        Ok(Arc::new(Mapping(Arc::clone(&self.0))))
    }

    fn inherit(&self, space: &Weak<AddressSpace>) -> Result<Arc<dyn Pager>, Refusal> {
        self.attach(space)
    }

    fn key(&self) -> u64 {
        self.0.key()
    }

    fn futex_object(&self) -> (u64, u64) {
        (self.key(), 0)
    }

    fn flush(&self, _: u64, _: u64) -> Result<(), Refusal> {
        Ok(())
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.0.write_path(out)
    }
}
