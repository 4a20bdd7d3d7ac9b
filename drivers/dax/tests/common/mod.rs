//! A registry over an epoch whose CPUs are host threads.

#![allow(dead_code)] // each test file uses a part

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use dax::{
    DeviceRequest, Epoch, GracePeriods, MediaAccess, MediaFlush, Placement, RegionConfig, RegionKind,
    Registry,
};
use mm::range::{MapSize, PhysRange};
use std::sync::{Arc, LazyLock};

pub const M2: u64 = 2 << 20;
pub const G1: u64 = 1 << 30;

static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);
static GRACE_PERIODS: GracePeriods = GracePeriods::new();

thread_local! {
    static CPU: LocalHandle = COLLECTOR.register();
}

pub struct HostEpoch;

impl Epoch for HostEpoch {
    fn pin(&self) -> Guard {
        CPU.with(LocalHandle::pin)
    }

    fn is_pinned(&self) -> bool {
        CPU.with(LocalHandle::is_pinned)
    }

    fn relax(&self) {
        std::thread::yield_now();
    }

    fn grace_periods(&self) -> &'static GracePeriods {
        &GRACE_PERIODS
    }
}

pub struct NoCache;

impl MediaFlush for NoCache {
    fn flush(&self, _range: PhysRange) {}
}

/// Never freed, and with it no device that is alive.
pub fn registry() -> &'static Registry {
    Box::leak(Box::new(Registry::new(&HostEpoch)))
}

pub fn phys(start: u64, len_bytes: u64) -> PhysRange {
    PhysRange::new(start, len_bytes).expect("a test's range is right")
}

pub fn config(id: u32, range: PhysRange, align: MapSize) -> RegionConfig {
    let (kind, access, flush) = (RegionKind::Persistent, MediaAccess::ReadWrite, Arc::new(NoCache));
    RegionConfig { id, range, align, target_node: None, kind, access, flush }
}

pub fn sized(size_bytes: u64, align: MapSize) -> DeviceRequest<'static> {
    DeviceRequest { placement: Placement::Size(size_bytes), align }
}
