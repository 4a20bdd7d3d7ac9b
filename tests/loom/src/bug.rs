//! What can be wrong with a machine.

/// One step of the protocol left out, or taken at the wrong time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A fault looks whether the device is alive, and pins then.
    AliveBeforePin,
    /// A fault ends its section, and writes the entry then.
    UnpinBeforeInstall,
    /// A fault looks whether the device is alive, not whether it is in the mapping's generation.
    GenerationNotChecked,
    /// A fault that waited for memory does not look again whether the device is alive.
    StartsOverUnchecked,
    /// A fault waits for memory inside its section.
    WaitsInSection,
    /// An mmap looks whether the device is alive, and takes the lock of the list then.
    AliveBeforeListLock,
    /// An mmap lets the program touch the mapping, and enters it into the list then.
    TouchedBeforeListed,
    /// A removal unmaps when the device is dead, and waits out the grace period then.
    UnmapBeforeGrace,
    /// A removal gives the range back when the shootdown is asked for, not when it is acknowledged.
    BackBeforeAcknowledged,
}
