//! Address ranges that cannot be wrong: never empty, never wrapping.
//!
//! Everything past a parser speaks of memory in these types. Ranges are half open: `start` is inside,
//! `end` is the first byte behind.

use core::fmt;
use x86_64::{PhysAddr, VirtAddr};

/// Bytes of the smallest page, and the unit of all memory bookkeeping.
pub const PAGE_SIZE: u64 = 4096;

/// First address behind the lower half that programs may use (Linux keeps the last page free: a `syscall`
/// at its end would return to a non-canonical address).
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// The addresses `[start, start + len)`, not empty, of which none is at or behind `LIMIT`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange<const LIMIT: u64> {
    start: u64,
    len: u64,
}

/// A physical range, whose end does not pass the 52 bits of an x86-64 physical address.
pub type PhysRange = AddressRange<{ 1 << 52 }>;

/// A range of a program's addresses, wholly below [`USER_END`].
pub type VirtRange = AddressRange<USER_END>;

impl<const LIMIT: u64> AddressRange<LIMIT> {
    /// The range `[start, start + len_bytes)`; `None` when it is empty, wraps or passes the limit.
    pub const fn new(start: u64, len_bytes: u64) -> Option<Self> {
        match start.checked_add(len_bytes) {
            Some(end) if len_bytes > 0 && end <= LIMIT => Some(AddressRange { start, len: len_bytes }),
            _ => None,
        }
    }

    /// The range `[start, end)`; `None` when `end` is not above `start` or passes the limit.
    pub const fn from_bounds(start: u64, end: u64) -> Option<Self> {
        match end.checked_sub(start) {
            Some(len) => AddressRange::new(start, len),
            None => None,
        }
    }

    /// Length in bytes, at least 1.
    pub const fn len_bytes(self) -> u64 {
        self.len
    }

    /// First byte and first byte behind, as numbers: on the path of a fault `VirtAddr`'s sign extension counts.
    #[inline]
    pub const fn bounds(self) -> (u64, u64) {
        (self.start, self.start + self.len)
    }

    /// Do the two share a byte?
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.bounds().1 && other.start < self.bounds().1
    }

    /// Does `other` lie wholly inside?
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.bounds().1 <= self.bounds().1
    }

    /// The part that both have, if any.
    pub fn intersection(self, other: Self) -> Option<Self> {
        AddressRange::from_bounds(self.start.max(other.start), self.bounds().1.min(other.bounds().1))
    }
}

impl PhysRange {
    /// First byte.
    pub const fn start(self) -> PhysAddr {
        PhysAddr::new_truncate(self.start)
    }

    /// First byte behind the range, as a number: it may be 2^52, which no address is.
    pub const fn end(self) -> u64 {
        self.start + self.len
    }

    /// The `len_bytes` bytes from byte `offset_bytes` of the range on; `None` when they are not all inside, or
    /// there is none.
    #[inline]
    pub const fn part(self, offset_bytes: u64, len_bytes: u64) -> Option<PhysRange> {
        match self.len.checked_sub(offset_bytes) {
            Some(left) if left >= len_bytes && len_bytes > 0 => {
                Some(PhysRange { start: self.start + offset_bytes, len: len_bytes })
            }
            _ => None,
        }
    }
}

impl VirtRange {
    /// First byte.
    pub const fn start(self) -> VirtAddr {
        VirtAddr::new_truncate(self.start)
    }

    /// First byte behind the range.
    pub const fn end(self) -> VirtAddr {
        VirtAddr::new_truncate(self.start + self.len)
    }

    /// Is this byte inside?
    #[inline]
    pub fn holds(self, address: VirtAddr) -> bool {
        let (start, end) = self.bounds();
        start <= address.as_u64() && address.as_u64() < end
    }
}

impl<const LIMIT: u64> fmt::Display for AddressRange<LIMIT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}-{:#x}]", self.start, self.start + self.len - 1)
    }
}

impl<const LIMIT: u64> fmt::Debug for AddressRange<LIMIT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The three sizes that an x86-64 page-table entry can map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MapSize {
    /// 4 KiB, an entry of a page table.
    Size4K,
    /// 2 MiB, an entry of a page directory.
    Size2M,
    /// 1 GiB, an entry of a page-directory-pointer table.
    Size1G,
}

impl MapSize {
    /// All sizes, smallest first.
    pub const ALL: [MapSize; 3] = [MapSize::Size4K, MapSize::Size2M, MapSize::Size1G];

    /// Bytes that one entry maps.
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The binary logarithm of [`MapSize::bytes`]: 12, 21 or 30.
    pub const fn shift(self) -> u32 {
        match self {
            MapSize::Size4K => 12,
            MapSize::Size2M => 21,
            MapSize::Size1G => 30,
        }
    }

    /// Is `value` (an address, an offset or a length in bytes) a multiple of this size?
    pub const fn divides(self, value: u64) -> bool {
        value & (self.bytes() - 1) == 0
    }

    /// The size with exactly this many bytes.
    pub fn from_bytes(bytes: u64) -> Option<MapSize> {
        MapSize::ALL.into_iter().find(|size| size.bytes() == bytes)
    }

    /// Reads `4K`, `2M` or `1G` (either case), or the same number in bytes.
    pub fn parse(text: &str) -> Option<MapSize> {
        match text {
            "4K" | "4k" => Some(MapSize::Size4K),
            "2M" | "2m" => Some(MapSize::Size2M),
            "1G" | "1g" => Some(MapSize::Size1G),
            _ => MapSize::from_bytes(text.parse().ok()?),
        }
    }
}

impl fmt::Display for MapSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapSize::Size4K => "4K",
            MapSize::Size2M => "2M",
            MapSize::Size1G => "1G",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_ranges_are_never_empty_and_never_pass_52_bits() {
        assert_eq!(PhysRange::new(0x1000, 0), None);
        assert_eq!(PhysRange::new(u64::MAX, 2), None);
        assert_eq!(PhysRange::new((1 << 52) - 1, 2), None);
        assert_eq!(PhysRange::from_bounds(2, 2), None);
        assert_eq!(PhysRange::from_bounds(3, 2), None);
        assert_eq!(PhysRange::new((1 << 52) - 1, 1).map(PhysRange::end), Some(1 << 52));
    }

    #[test]
    fn user_ranges_end_below_the_last_page_of_the_lower_half() {
        assert_eq!(VirtRange::new(USER_END - 1, 2), None);
        assert_eq!(VirtRange::new(USER_END, 1), None);
        assert_eq!(VirtRange::new(0x1000, u64::MAX), None);
        let last = VirtRange::new(USER_END - 1, 1).expect("the last byte");
        assert_eq!(last.end().as_u64(), USER_END);
    }

    #[test]
    fn ranges_that_only_touch_share_nothing() {
        let (low, high) = (PhysRange { start: 0, len: 8 }, PhysRange { start: 8, len: 8 });
        assert!(!low.overlaps(high) && !high.overlaps(low));
        assert!(low.overlaps(PhysRange { start: 7, len: 1 }) && low.contains(PhysRange { start: 7, len: 1 }));
        assert!(!low.contains(PhysRange { start: 7, len: 2 }));
        let (low, high) = (VirtRange { start: 0, len: 8 }, VirtRange { start: 8, len: 8 });
        assert_eq!(low.intersection(high), None);
        let shared = low.intersection(VirtRange { start: 4, len: 8 });
        assert_eq!(shared, Some(VirtRange { start: 4, len: 4 }));
        assert!(high.holds(high.start()) && !high.holds(high.end()));
    }

    #[test]
    fn sizes_read_what_they_write() {
        for size in MapSize::ALL {
            assert_eq!(MapSize::parse(&alloc::format!("{size}")), Some(size));
            assert_eq!(MapSize::parse(&alloc::format!("{}", size.bytes())), Some(size));
        }
        assert_eq!(MapSize::parse("4M"), None);
    }
}
