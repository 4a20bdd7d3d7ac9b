//! The DIMMs: one for each distinct device handle.

use crate::{ControlRegion, DeviceHandle, DimmState, FlushHints, Memdev, Nfit};

/// An NVDIMM, pieced together from its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimm {
    /// Its place in the machine, and its identity in this table.
    pub handle: DeviceHandle,
    /// Handle of its SMBIOS type 17 record.
    pub physical_id: u16,
    /// The state flags of all its mappings together.
    pub state: DimmState,
    /// Vendor, device, serial number and so on; `None` when no control region of the table belongs to it.
    pub control_region: Option<ControlRegion>,
}

impl<'a> Nfit<'a> {
    /// The DIMMs by ascending handle, those that serve no range included.
    ///
    /// A handle that means two different DIMMs ([`Reason::HandleTaken`](crate::Reason::HandleTaken)) is the
    /// one that comes first in the table.
    pub fn dimms(self) -> impl Iterator<Item = Dimm> + Clone {
        let handles = move || self.all::<Memdev>().map(|(_, memdev)| memdev.device_handle);
        let ascending = core::iter::successors(handles().min(), move |last| {
            handles().filter(|handle| handle > last).min()
        });
        ascending.filter_map(move |handle| self.dimm(handle))
    }

    fn dimm(self, handle: DeviceHandle) -> Option<Dimm> {
        let of_handle = self.all::<Memdev>().map(|(_, memdev)| memdev).filter(|m| m.device_handle == handle);
        let first = of_handle.clone().next()?;
        let of_handle = of_handle.filter(|memdev| memdev.physical_id == first.physical_id);
        let mut dimm = Dimm {
            handle,
            physical_id: first.physical_id,
            state: DimmState::default(),
            control_region: None,
        };
        for memdev in of_handle {
            dimm.state.0 |= memdev.state.0;
            let found = self.control_region(memdev.control_region_index);
            // A DIMM with block mode has a second control region, and only that one has windows: as Linux,
            // prefer it.
            let better = match (dimm.control_region, found) {
                (None, found) => found,
                (Some(had), Some(found)) if had.windows == 0 && found.windows != 0 => {
                    (had.serial == found.serial).then_some(found).or(Some(had))
                }
                (had, _) => had,
            };
            dimm.control_region = better;
        }
        Some(dimm)
    }

    /// Physical addresses of which any one, stored to, flushes the write queues of DIMM `handle`.
    ///
    /// Empty when the DIMM has none. See [`FlushHints::addresses`] for what to check before storing.
    pub fn flush_hints(self, handle: DeviceHandle) -> impl Iterator<Item = u64> + Clone {
        let first = self.first(move |hints: &FlushHints<'_>| hints.device_handle == handle);
        first.into_iter().flat_map(|(_, hints)| hints.addresses())
    }
}
