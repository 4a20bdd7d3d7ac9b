//! What the kernel found and made at boot, in one place, for good.

use crate::dax::Registry;
use crate::initrd::Initrd;
use mm::heap::KernelHeap;
use mm::space::Environment;
use mm::tables::KernelHalf;
use spin::Once;

/// The machine as boot left it. Everything here lives until power-off.
pub struct Machine {
    /// What every address space needs: frames, shootdown, CPU features.
    pub memory: Environment,
    /// Where the kernel's own objects are.
    pub heap: &'static KernelHeap,
    /// The upper half of every root table.
    pub kernel_half: KernelHalf,
    /// The files that came with the kernel.
    pub initrd: Initrd,
    /// The NFIT as the firmware left it, where there is one.
    pub nfit: Option<&'static [u8]>,
    /// dax regions and devices, by name and number.
    pub registry: Registry,
}

static MACHINE: Once<Machine> = Once::new();

/// The machine; boot has called [`publish`] before the first program starts.
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("boot publishes the machine before anything asks for it")
}

/// Publishes what boot made. Called once.
pub fn publish(machine: Machine) -> &'static Machine {
    MACHINE.call_once(|| machine)
}
