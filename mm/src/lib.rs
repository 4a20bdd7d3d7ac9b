//! Memory: ranges, frames, the heap, page tables, vmas, address spaces, and the trait of what is mapped.
//!
//! Two neighbours stay unknown here: what is mapped (a [`pager::Pager`] knows) and how a TLB is flushed
//! (a [`shootdown::Shootdown`] knows). That is why everything runs on a host over fake RAM as well.
//! Unsafe code lives in `physmap`, `frames`, `heap` and `tables` only.
#![no_std]
extern crate alloc;

pub mod checks;
mod environment;
mod fault;
pub mod frames;
pub mod heap;
pub mod lock;
pub mod memory_map;
pub mod pager;
pub mod physmap;
mod placement;
mod populate;
pub mod range;
mod reserve;
pub mod shared;
pub mod shootdown;
pub mod space;
pub mod tables;
pub mod vma;
mod walk;

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod fake;
