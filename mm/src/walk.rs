//! What a walk through page tables finds, decoded for people and tests.

use crate::range::MapSize;
use x86_64::structures::paging::PageTableFlags;
use x86_64::{PhysAddr, VirtAddr};

/// Bits of an entry that hold an address (Intel SDM volume 3, 4.5.4; bits 52 and up are flags).
pub(crate) const ADDRESS_BITS: u64 = 0x000f_ffff_ffff_f000;

/// What an entry leads to: a table or a frame.
#[inline]
pub(crate) const fn address_of(entry: u64) -> PhysAddr {
    PhysAddr::new_truncate(entry & ADDRESS_BITS)
}

/// One step of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkStep {
    /// 4 for the root table down to 1.
    pub level: u8,
    /// Index in the table, 0..512.
    pub index: u16,
    /// The raw entry.
    pub entry: u64,
}

/// A present leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// How much it maps.
    pub size: MapSize,
    /// The first byte that it maps.
    pub phys: PhysAddr,
    /// Its bits, HUGE_PAGE included.
    pub flags: PageTableFlags,
}

/// What the CPU would see on its way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The root table's step first; `None` behind the entry that ended the walk (a leaf or one not present).
    pub steps: [Option<WalkStep>; 4],
    /// The leaf at the end, if the address is mapped.
    pub leaf: Option<Leaf>,
}

/// The level whose entries map `size`: 1, 2 or 3.
#[inline]
pub(crate) const fn leaf_level(size: MapSize) -> u32 {
    (size.shift() - 12) / 9 + 1
}

/// The binary logarithm of the bytes that one entry of a table at `level` (1..=4) spans.
#[inline]
pub(crate) const fn entry_shift(level: u32) -> u32 {
    12 + 9 * (level - 1)
}

/// The index of `address` in a table at `level`.
#[inline]
pub(crate) const fn table_index(address: VirtAddr, level: u32) -> u64 {
    address.as_u64() >> entry_shift(level) & 511
}

/// Decodes the raw entry of a table at `level`, if it is a present leaf.
pub(crate) fn decode_leaf(entry: u64, level: u32) -> Option<Leaf> {
    let flags = PageTableFlags::from_bits_truncate(entry & !ADDRESS_BITS);
    if !flags.contains(PageTableFlags::PRESENT) || (level > 1 && !flags.contains(PageTableFlags::HUGE_PAGE)) {
        return None;
    }
    let size = MapSize::ALL.into_iter().find(|&size| leaf_level(size) == level)?;
    // Bit 12 of a huge leaf is its PAT bit, not part of the address.
    let phys = PhysAddr::new_truncate(entry & ADDRESS_BITS & !(size.bytes() - 1));
    Some(Leaf { size, phys, flags })
}
