//! What one structure cannot know alone: whether it fits the others.
//!
//! The rules for SPA ranges are in `region.rs`, because obeying them makes a region.

use crate::entry::{Record, StructureType};
use crate::{
    Capabilities, ControlRegion, Entry, FlushHints, Interleave, Memdev, Nfit, PAGE_BYTES, RangeKind, Reason,
    Refusal, SpaRange, Structure,
};

impl<'a> Nfit<'a> {
    /// Everything in the table that is not taken, in table order: at most one refusal for each structure.
    pub fn refusals(self) -> impl Iterator<Item = Refusal> + Clone {
        self.entries().filter_map(move |Entry { offset, content }| {
            let reason = match content {
                Ok(structure) => self.refuse(offset, &structure),
                Err(reason) => Some(reason),
            };
            reason.map(|reason| Refusal { offset, reason })
        })
    }

    /// Why `structure`, which stands at `offset`, is not taken.
    fn refuse(self, offset: usize, structure: &Structure<'a>) -> Option<Reason> {
        match structure {
            Structure::SpaRange(spa) => self.region_at(offset, spa).err(),
            Structure::Memdev(memdev) => self.refuse_memdev(offset, memdev),
            Structure::Interleave(interleave) => self.refuse_interleave(offset, interleave),
            Structure::ControlRegion(region) => self.refuse_control_region(offset, region),
            Structure::FlushHints(hints) => self.refuse_flush_hints(offset, hints),
            Structure::Capabilities(_) => self.refuse_capabilities(offset),
            Structure::Unknown(kind) => Some(Reason::ReservedType { kind: *kind }),
            Structure::Smbios(_) | Structure::BlockDataWindow(_) => None,
        }
    }

    /// Why a mapping is not taken.
    pub(crate) fn refuse_memdev(self, offset: usize, memdev: &Memdev) -> Option<Reason> {
        let handle = memdev.device_handle;
        let region = self.control_region(memdev.control_region_index);
        if memdev.control_region_index != 0 && region.is_none() {
            return Some(Reason::NoControlRegion { handle, index: memdev.control_region_index });
        }
        // Many mappings share a handle, one for each region of the DIMM; they must mean the same DIMM.
        let same_handle = |m: &Memdev| m.device_handle == handle;
        let (first_offset, first) = self.first(same_handle)?;
        let first_region = self.control_region(first.control_region_index);
        let two_modules = matches!((region, first_region), (Some(a), Some(b)) if a.serial != b.serial);
        if first.physical_id != memdev.physical_id || two_modules {
            return Some(Reason::HandleTaken { handle, first_offset });
        }
        if memdev.range_index == 0 {
            return None;
        }
        let Some((_, spa)) = self.first(|spa: &SpaRange| spa.range_index == memdev.range_index) else {
            return Some(Reason::NoRange { handle, range_index: memdev.range_index });
        };
        if !matches!(spa.kind, RangeKind::Persistent | RangeKind::Volatile) {
            return None;
        }
        let wraps = memdev.dpa.checked_add(memdev.region_size).is_none();
        let whole = (memdev.dpa | memdev.region_size).is_multiple_of(PAGE_BYTES);
        if memdev.region_size == 0 || wraps || !whole {
            return Some(Reason::BadPiece { handle, dpa: memdev.dpa, len_bytes: memdev.region_size });
        }
        let key = |m: &Memdev| (m.device_handle, m.range_index, m.region_id);
        let (first_offset, _) = self.earlier(offset, |m| key(m) == key(memdev))?;
        Some(Reason::MappingTaken { handle, range_index: memdev.range_index, first_offset })
    }

    fn refuse_control_region(self, offset: usize, region: &ControlRegion) -> Option<Reason> {
        let (kind, index) = (StructureType::CONTROL_REGION, region.index);
        let (first_offset, first) = self.earlier(offset, |r: &ControlRegion| r.index == index)?;
        (first != *region).then_some(Reason::IndexTaken { kind, index, first_offset })
    }

    fn refuse_interleave(self, offset: usize, interleave: &Interleave<'_>) -> Option<Reason> {
        let (kind, index) = (StructureType::INTERLEAVE, interleave.index);
        let (first_offset, first) = self.earlier(offset, |i: &Interleave<'_>| i.index == index)?;
        (first != *interleave).then_some(Reason::IndexTaken { kind, index, first_offset })
    }

    fn refuse_flush_hints(self, offset: usize, hints: &FlushHints<'_>) -> Option<Reason> {
        let handle = hints.device_handle;
        if !self.all().any(|(_, memdev): (_, Memdev)| memdev.device_handle == handle) {
            return Some(Reason::NoDimm { handle });
        }
        let (first_offset, _) = self.earlier(offset, |h: &FlushHints<'_>| h.device_handle == handle)?;
        Some(Reason::FlushHintsTaken { handle, first_offset })
    }

    fn refuse_capabilities(self, offset: usize) -> Option<Reason> {
        let (first_offset, _) = self.earlier(offset, |_: &Capabilities| true)?;
        Some(Reason::CapabilitiesTaken { first_offset })
    }

    /// The first well-formed structure that `is_it` accepts, with its offset, when that is before `offset`.
    fn earlier<T: Record<'a> + 'a>(self, offset: usize, is_it: impl Fn(&T) -> bool) -> Option<(usize, T)> {
        self.first(is_it).filter(|(first_offset, _)| *first_offset < offset)
    }
}
