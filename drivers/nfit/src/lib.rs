//! The ACPI NVDIMM Firmware Interface Table (NFIT): bytes in, structures and memory regions out.
//!
//! The NFIT is where firmware says which physical ranges are persistent memory and which DIMMs are
//! behind them (ACPI 6.5, 5.2.26). [`Nfit::parse`] checks the table as a whole; everything after that
//! is an iterator over the same bytes: nothing is allocated, nothing is copied out.
//!
//! ```text
//! Nfit::parse(bytes)?      signature, length, checksum              -> TableError
//!   .entries()             every structure, types 0-7               -> Structure or Reason
//!   .regions()             ranges that may become memory            -> Region, Mapping
//!   .dimms()               the DIMMs, by device handle              -> Dimm
//!   .flush_hints(handle)   where to write to flush a DIMM's queues
//!   .capabilities()        what power loss keeps
//!   .refusals()            everything not taken, each with its offset and why
//! ```
//!
//! One bad structure costs itself and nothing else, save where its length is the damage: what follows it
//! cannot be found then. Of two structures that contradict each other the first in the table stays.
//! [`Nfit::refusals`] asks the same functions as [`Nfit::regions`], so a range is in exactly one of the two.
//!
//! What the parser cannot know is left to its caller: whether a region or a flush hint lies over RAM,
//! and whether the CPU has that many address bits.
//!
//! # Bounds
//! There is no memory to index the table, so questions across structures walk it again. The first
//! [`MAX_STRUCTURES`] structures are read and more are refused; so all answers together cost at most a
//! small multiple of `MAX_STRUCTURES`^2 header reads, whatever the table says.

#![no_std]
#![forbid(unsafe_code)]

mod bytes;
mod capabilities;
mod control_region;
mod dimm;
mod entry;
mod flush_hints;
mod guid;
mod interleave;
mod judge;
mod memdev;
mod messages;
mod refusal;
mod region;
mod spa_range;
mod table;

pub use capabilities::{Capabilities, PersistenceDomain};
pub use control_region::{BlockDataWindow, ControlRegion, UniqueId};
pub use dimm::Dimm;
pub use entry::{Entry, Structure, StructureType};
pub use flush_hints::FlushHints;
pub use guid::Guid;
pub use interleave::Interleave;
pub use memdev::{DeviceHandle, DimmState, Memdev};
pub use refusal::{RangeName, Reason, Refusal};
pub use region::{MAX_MAPPINGS, Mapping, PAGE_BYTES, Region, RegionKind};
pub use spa_range::{MemoryAttributes, RangeKind, SpaRange};
pub use table::{MAX_STRUCTURES, Nfit, TableError};
