//! What is on an NVDIMM: bytes of the media to labels, info blocks and namespaces.
//!
//! This crate decides whether a persistent range may become a device. It reads, it never writes, and it
//! holds nothing: no allocation, no unsafe code, no device access. Below it `nfit` says where ranges lie;
//! above it `kernel::discovery` maps a range's head, lends the label areas, and acts on the answer.
//!
//! Two places on the media tell who owns a range:
//! 1. The *label area* of each DIMM, outside of the range: two index blocks and an array of labels, each a
//!    piece of a namespace. The `label_index` file picks the current index, `label` reads a slot.
//! 2. The *head* of the namespace, its first 8 KiB: an info block at byte 4096 says how the rest is laid
//!    out. `info_block` knows fsdax and devdax, `btt` the block translation table (also at byte 0).
//!
//! [`identify`] asks both, labels first, and gives one [`Found`]. Its rule is that nothing on the media is
//! lost: a range is [`Found::Bare`] only when neither place carries a signature. Where Linux reads a block
//! with a wrong checksum as "no info block", we say [`Found::Damaged`], because it is somebody's data.
//! Content without one of the exact 16-byte signatures is never mistaken for damage.
//!
//! Formats: UEFI 2.7, 13.19 (labels) and 13.20 (BTT); Linux `drivers/nvdimm/pfn.h` (info blocks). Section
//! numbers in comments are those of the device-dax reference.
#![no_std]
#![forbid(unsafe_code)]

mod btt;
mod error;
mod extent;
mod fletcher;
mod found;
mod info_block;
mod label;
mod label_area;
mod label_index;

pub use btt::Btt;
pub use error::Error;
pub use extent::Extent;
pub use fletcher::fletcher64;
pub use found::{Found, Labelled, Structure, identify};
pub use info_block::{InfoBlock, InfoBlockKind, Map, Placement};
pub use label::{Label, LabelFormat};
pub use label_area::{LabelArea, Unreadable};
pub use label_index::{ActiveSlot, LabelIndex};

/// Bytes at the start of a namespace that [`identify`] needs: two pages, the second holds the info block.
pub const HEAD_BYTES: usize = 8192;

/// Offset of the info block in a namespace, and of a BTT of version 1.
pub const INFO_BLOCK_OFFSET: usize = 4096;

/// Size of every info block, fsdax, devdax and BTT alike.
pub const INFO_BLOCK_BYTES: usize = 4096;
