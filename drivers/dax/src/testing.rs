//! Fakes for this crate's tests: an epoch over host threads, media that records its flushes, fixtures.

use crate::lifetime::{Collector, Epoch, GracePeriods, LocalHandle};
use crate::region::{DaxRegion, MediaAccess, MediaFlush, RegionConfig, RegionKind};
use crate::{DevDax, DeviceRequest, Placement, Registry};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use crossbeam_epoch::Guard;
use mm::pager::{Sharing, VmaRequest};
use mm::range::{MapSize, PhysRange, VirtRange};
use spin::Mutex;

std::thread_local! {
    /// This thread's participants: a thread plays a CPU.
    static HANDLES: RefCell<Vec<(usize, LocalHandle)>> = const { RefCell::new(Vec::new()) };
}

/// An epoch whose CPUs are host threads. Each test has its own, so that none waits for another's pins.
pub struct HostEpoch {
    collector: Collector,
    periods: &'static GracePeriods,
}

impl HostEpoch {
    pub fn leak() -> &'static HostEpoch {
        let periods = Box::leak(Box::new(GracePeriods::new()));
        Box::leak(Box::new(HostEpoch { collector: Collector::new(), periods }))
    }

    fn with_handle<R>(&self, body: impl FnOnce(&LocalHandle) -> R) -> R {
        let key = core::ptr::from_ref(self).addr();
        HANDLES.with_borrow_mut(|handles| {
            if !handles.iter().any(|(of, _)| *of == key) {
                handles.push((key, self.collector.register()));
            }
            let mine = handles.iter().find(|(of, _)| *of == key).expect("registered above");
            body(&mine.1)
        })
    }
}

impl Epoch for HostEpoch {
    fn pin(&self) -> Guard {
        self.with_handle(LocalHandle::pin)
    }

    fn is_pinned(&self) -> bool {
        self.with_handle(LocalHandle::is_pinned)
    }

    fn relax(&self) {
        std::thread::yield_now();
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        self.periods
    }
}

/// Media that notes what it was asked to flush.
#[derive(Default)]
pub struct RecordingFlush(pub Mutex<Vec<PhysRange>>);

impl MediaFlush for RecordingFlush {
    fn flush(&self, range: PhysRange) {
        self.0.lock().push(range);
    }
}

pub const M2: u64 = 2 << 20;
pub const G1: u64 = 1 << 30;

pub fn phys(start: u64, len_bytes: u64) -> PhysRange {
    PhysRange::new(start, len_bytes).expect("a test's range is right")
}

pub fn config(id: u32, range: PhysRange, align: MapSize) -> RegionConfig {
    let flush = Arc::new(RecordingFlush::default());
    let (kind, access) = (RegionKind::Persistent, MediaAccess::ReadWrite);
    RegionConfig { id, range, align, target_node: None, kind, access, flush }
}

/// A registry that is never freed, and with it no device that is alive.
pub fn registry() -> &'static Registry {
    Box::leak(Box::new(Registry::new(HostEpoch::leak())))
}

/// A registry with region 0: 8 GiB from 4 GiB on.
pub fn registry_with_region(align: MapSize) -> (&'static Registry, Arc<DaxRegion>) {
    let registry = registry();
    let region = registry.add_region(config(0, phys(4 * G1, 8 * G1), align)).expect("the fixture fits");
    (registry, region)
}

/// A device at a range.
pub fn at(range: &[PhysRange], align: MapSize) -> DeviceRequest<'_> {
    DeviceRequest { placement: Placement::Ranges(range), align }
}

/// A device of a size.
pub fn sized(size_bytes: u64, align: MapSize) -> DeviceRequest<'static> {
    DeviceRequest { placement: Placement::Size(size_bytes), align }
}

/// `dax0.0`, enabled: four entries of `align` from 4 GiB on.
pub fn device(align: MapSize) -> Arc<DevDax> {
    let (registry, region) = registry_with_region(align);
    let range = phys(4 * G1, 4 * align.bytes());
    let device = registry.create_device(&region, at(&[range], align)).expect("the fixture fits");
    device.enable().expect("a new device is dead");
    device
}

pub fn vma(start: u64, len_bytes: u64, offset_bytes: u64) -> VmaRequest {
    let range = VirtRange::new(start, len_bytes).expect("a test's vma is right");
    VmaRequest { range, offset_bytes, sharing: Sharing::Shared }
}
