//! Thin access to the machine: ports, ACPI tables, the NVDIMM mailbox, cache flushes, the way out.
//!
//! Each file is one device or mechanism and holds the unsafe code for it; nothing here decides anything.
#![no_std]

extern crate alloc;

pub mod acpi;
pub mod apic;
pub mod channel;
pub mod flush;
pub mod mailbox;
pub mod pic;
pub mod pm_timer;
pub mod power;
pub mod rtc;
pub mod serial;
