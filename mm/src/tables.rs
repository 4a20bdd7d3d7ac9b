//! One tree of page tables: many install, one unmaps.
//!
//! Entries are atomics in frames that the physical window shows. The protocol:
//!
//! 1. `PageTables::install` takes `&self`: any number of faults run it at once. It only ever turns an empty
//!    entry into a table or a leaf, or adds permissions to a leaf, by compare-exchange. It never
//!    allocates: missing tables come from a [`Reserve`], and a table that lost its race goes back there.
//! 2. Everything else takes `&mut self`, which the space's lock gives only to its exclusive holder.
//! 3. What an exclusive change leaves behind in a TLB is named by a [`Flush`]. It borrows the tables, and
//!    so the guard: the lock cannot be released before [`Flush::acknowledge`]. It holds the frames until
//!    then.
//! 4. A table is unlinked when no vma needs it: the caller passes the hole in which nothing is mapped any
//!    more, so no table is ever searched for entries. Hence an empty table never blocks a huge leaf.
//!
//! A leaf whose frame belongs to the space carries [`OWNED`]. After a fork several spaces own it
//! (`frames::shares`) and none may write: only a fault makes such a leaf writable. Where the program may not touch an owned page
//! at all (PROT_NONE), its leaf is parked: not present, frame and OWNED bit kept.

use crate::frames::{Frame, FrameAllocator};
use crate::pager::Installed;
use crate::range::{MapSize, PAGE_SIZE, VirtRange};
pub use crate::reserve::{MAX_MISSING, Reserve};
use crate::shootdown::Flush;
use crate::walk::{ADDRESS_BITS, decode_leaf, entry_shift, leaf_level, table_index};
pub use crate::walk::{Leaf, Walk, WalkStep};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::structures::paging::PageTableFlags;
use x86_64::{PhysAddr, VirtAddr};

/// Entries 256..512 of the root table: the same in every space, fixed at boot.
pub type KernelHalf = [u64; 256];

/// Software bit of a leaf: its frame belongs to the space and is freed with the entry.
pub const OWNED: PageTableFlags = PageTableFlags::BIT_9;

const PRESENT: u64 = PageTableFlags::PRESENT.bits();
const HUGE: u64 = PageTableFlags::HUGE_PAGE.bits();
/// Bits of an entry that leads to a table: the leaf alone decides.
const TABLE: u64 = PRESENT | PageTableFlags::WRITABLE.bits() | PageTableFlags::USER_ACCESSIBLE.bits();
/// Bits that `install` may add to a leaf of the same frame.
const GRANTS: u64 = PageTableFlags::WRITABLE.bits()
    | PageTableFlags::USER_ACCESSIBLE.bits()
    | PageTableFlags::ACCESSED.bits()
    | PageTableFlags::DIRTY.bits();
/// What a leaf that several spaces own lacks.
const WRITES: PageTableFlags = PageTableFlags::WRITABLE.union(PageTableFlags::DIRTY);
const LOWER_HALF: VirtRange = match VirtRange::from_bounds(0, crate::range::USER_END) {
    Some(range) => range,
    None => unreachable!(),
};
const NO_EXECUTE: u64 = PageTableFlags::NO_EXECUTE.bits();

/// A tree of page tables with its own lower half. Dropping it frees that half, owned pages included: no CPU
/// may have it loaded then.
pub struct PageTables {
    root: PhysAddr,
    frames: &'static FrameAllocator,
}

impl PageTables {
    /// A root table with an empty lower half; `None` when memory is out.
    pub fn new(kernel_half: &KernelHalf, frames: &'static FrameAllocator) -> Option<PageTables> {
        let tables = PageTables { root: frames.allocate_table()?.address(), frames };
        for (index, entry) in (256..).zip(kernel_half) {
            tables.entry(tables.root, index).store(*entry, Ordering::Relaxed);
        }
        Some(tables)
    }

    /// The root table, for CR3.
    #[inline]
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    pub(crate) fn frames(&self) -> &'static FrameAllocator {
        self.frames
    }

    /// [`PageTables::install`] for the usual case: writes the leaf if all its tables are there and its
    /// entry is empty. False when there is more to do; nothing is changed then.
    ///
    /// It calls nothing, so the hot path of a fault keeps everything in registers.
    #[inline]
    #[must_use]
    pub(crate) fn try_install(
        &self,
        address: VirtAddr,
        phys: PhysAddr,
        size: MapSize,
        flags: PageTableFlags,
    ) -> bool {
        let leaf_level = leaf_level(size);
        let mut table = self.root;
        // Constant levels: unrolled, with constant shifts, this is half as long as a loop over the level.
        for level in [4, 3, 2] {
            if level <= leaf_level {
                break;
            }
            let value = self.entry(table, table_index(address, level)).load(Ordering::Acquire);
            if value & (PRESENT | HUGE) != PRESENT {
                return false;
            }
            table = PhysAddr::new_truncate(value & ADDRESS_BITS);
        }
        let entry = self.entry(table, address.as_u64() >> size.shift());
        entry.compare_exchange(0, leaf_entry(phys, size, flags), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Maps `size.bytes()` from `phys`, a multiple of it, where `address` is, with the bits `flags`.
    ///
    /// May run on many CPUs at once; never allocates. When a leaf of the same memory is there already, what
    /// `flags` allow is added to it. When more tables are missing than `reserve` holds, nothing is
    /// changed. A leaf of other memory stays as it is and counts as `Already`.
    ///
    /// # Panics
    /// When a table or a larger leaf is in the way: two vmas overlap, or an unmap was told the wrong hole.
    pub(crate) fn install(
        &self,
        address: VirtAddr,
        phys: PhysAddr,
        size: MapSize,
        flags: PageTableFlags,
        reserve: &mut Reserve<'_>,
    ) -> Installed {
        let leaf_level = leaf_level(size);
        let mut table = self.root;
        for level in (leaf_level + 1..=4).rev() {
            let entry = self.entry(table, table_index(address, level));
            let mut value = entry.load(Ordering::Acquire);
            if value & PRESENT == 0 {
                let missing = (level - leaf_level) as usize;
                match add_table(entry, missing, reserve) {
                    Some(added) => value = added,
                    None => return Installed::NeedsTables(missing as u8),
                }
            }
            if value & HUGE != 0 {
                in_the_way(address, size);
            }
            table = PhysAddr::new_truncate(value & ADDRESS_BITS);
        }
        let entry = self.entry(table, table_index(address, leaf_level));
        let leaf = leaf_entry(phys, size, flags);
        match entry.compare_exchange(0, leaf, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Installed::New,
            Err(found) => {
                if size != MapSize::Size4K && found & HUGE == 0 {
                    in_the_way(address, size);
                }
                raise(entry, found, leaf);
                Installed::Already
            }
        }
    }

    /// Clears every leaf that has a byte in `range` and unlinks the tables whose whole span lies in `hole`,
    /// which holds `range` and in which nothing else is mapped. A huge leaf across an end goes too.
    pub fn unmap(&mut self, range: VirtRange, hole: VirtRange) -> Flush<'_> {
        let mut flush = Flush::new(self, range);
        let (root, last) = (flush.tables().root, 4);
        let rest = flush.clear(root, last, 0, range, hole).err();
        flush.set_rest(rest.and_then(|at| VirtRange::from_bounds(at, range.end().as_u64())));
        flush
    }

    /// Sets the bits of every leaf in `range`: `owned` for those with [`OWNED`], `borrowed` for the others.
    /// Bits without PRESENT park the former and clear the latter.
    pub fn protect(
        &mut self,
        range: VirtRange,
        owned: PageTableFlags,
        borrowed: PageTableFlags,
    ) -> Flush<'_> {
        let mut changed = false;
        self.for_each_entry(range, &mut |entry, _, level| {
            let old = entry.load(Ordering::Relaxed);
            let is_owned = old & OWNED.bits() != 0;
            let flags = match is_owned {
                true if self.frames.is_shared(PhysAddr::new_truncate(old & ADDRESS_BITS)) => {
                    (owned | OWNED) - WRITES
                }
                true => owned | OWNED,
                false => borrowed,
            };
            let kept = old & ADDRESS_BITS | if level > 1 { HUGE } else { 0 };
            let new = match flags.contains(PageTableFlags::PRESENT) {
                true => kept | flags.bits(),
                false if is_owned => old & ADDRESS_BITS | OWNED.bits(),
                false => 0,
            };
            // Nobody else writes here but a CPU that sets accessed or dirty bits, which nobody reads.
            entry.store(new, Ordering::Release);
            changed |= old & PRESENT != 0;
        });
        let mut flush = Flush::new(self, range);
        flush.set_changed(changed);
        flush
    }

    /// Clears every leaf of `size` in `range`, where all leaves have that size and none is owned, and tells how
    /// many there were. The tables stay.
    pub(crate) fn revoke(&mut self, range: VirtRange, size: MapSize) -> (Flush<'_>, u64) {
        let mut cleared = 0;
        self.visit_leaf_tables(self.root, 4, 0, range, leaf_level(size), &mut |entries| {
            // In eights, so that it is unrolled: a load, a count and a store for each entry.
            let (eights, rest) = entries.as_chunks::<8>();
            let in_eights: u64 = eights.iter().map(|eight| eight.iter().map(clear_leaf).sum::<u64>()).sum();
            cleared += in_eights + rest.iter().map(clear_leaf).sum::<u64>();
        });
        let mut flush = Flush::new(self, range);
        flush.set_changed(cleared > 0);
        (flush, cleared)
    }

    /// Lets `child`, which nobody else can reach yet, own what is owned in `ranges` as well: neither may write
    /// from now on. False when memory ran out half way; then `child` owns a part.
    ///
    /// The shootdown is one for all the ranges.
    pub(crate) fn share(
        &mut self,
        ranges: impl Iterator<Item = VirtRange>,
        child: &mut PageTables,
    ) -> (Flush<'_>, bool) {
        let (mut first, mut behind) = (u64::MAX, 0);
        let mut target = None;
        let mut complete = true;
        for range in ranges {
            self.for_each_entry(range, &mut |entry, address, _| {
                let old = entry.load(Ordering::Relaxed);
                let window = address >> entry_shift(2);
                if old & OWNED.bits() == 0 || !complete {
                    return;
                }
                let table = match target {
                    Some((known, table)) if known == window => table,
                    _ => match child.leaf_table(VirtAddr::new_truncate(address)) {
                        Some(table) => table,
                        None => return complete = false,
                    },
                };
                target = Some((window, table));
                let shared = old & !WRITES.bits();
                self.frames.share(PhysAddr::new_truncate(old & ADDRESS_BITS));
                child.entry(table, address >> 12).store(shared, Ordering::Relaxed);
                if shared != old {
                    entry.store(shared, Ordering::Release);
                    (first, behind) = (first.min(address), address + PAGE_SIZE);
                }
            });
        }
        let changed = VirtRange::from_bounds(first, behind);
        let mut flush = Flush::new(self, changed.unwrap_or(LOWER_HALF));
        flush.set_changed(changed.is_some());
        (flush, complete)
    }

    /// The table of 4 KiB leaves for `address`, made now where it is missing; `None` when memory is out.
    fn leaf_table(&mut self, address: VirtAddr) -> Option<PhysAddr> {
        let mut table = self.root;
        for level in [4, 3, 2] {
            let entry = self.entry(table, table_index(address, level));
            let mut value = entry.load(Ordering::Relaxed);
            if value == 0 {
                value = self.frames.allocate_table()?.address().as_u64() | TABLE;
                entry.store(value, Ordering::Relaxed);
            }
            table = PhysAddr::new_truncate(value & ADDRESS_BITS);
        }
        Some(table)
    }

    /// What the CPU would see on its way to `address`.
    pub fn walk(&self, address: VirtAddr) -> Walk {
        let mut walk = Walk { steps: [None; 4], leaf: None };
        let mut table = self.root;
        for (step, level) in walk.steps.iter_mut().zip([4, 3, 2, 1]) {
            let index = table_index(address, level);
            let entry = self.entry(table, index).load(Ordering::Acquire);
            *step = Some(WalkStep { level: level as u8, index: index as u16, entry });
            walk.leaf = decode_leaf(entry, level);
            if walk.leaf.is_some() || entry & PRESENT == 0 {
                break;
            }
            table = PhysAddr::new_truncate(entry & ADDRESS_BITS);
        }
        walk
    }

    /// The present leaf at `address`.
    pub fn leaf(&self, address: VirtAddr) -> Option<Leaf> {
        let mut table = self.root;
        for level in [4, 3, 2, 1] {
            let entry = self.entry(table, table_index(address, level)).load(Ordering::Acquire);
            if level == 1 || entry & PRESENT == 0 || entry & HUGE != 0 {
                return decode_leaf(entry, level);
            }
            table = PhysAddr::new_truncate(entry & ADDRESS_BITS);
        }
        None
    }

    /// Calls `visit` with the address and the content of every present leaf in `range`.
    pub fn for_each_leaf(&self, range: VirtRange, visit: &mut dyn FnMut(VirtAddr, Leaf)) {
        self.for_each_entry(range, &mut |entry, address, level| {
            if let Some(leaf) = decode_leaf(entry.load(Ordering::Acquire), level) {
                visit(VirtAddr::new_truncate(address), leaf);
            }
        });
    }

    /// Calls `visit` with every leaf in `range`, parked ones included: entry, address, level.
    fn for_each_entry(&self, range: VirtRange, visit: &mut dyn FnMut(&AtomicU64, u64, u32)) {
        self.visit_table(self.root, 4, 0, range, visit);
    }

    fn visit_table(
        &self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: VirtRange,
        visit: &mut dyn FnMut(&AtomicU64, u64, u32),
    ) {
        let (mut index, last) = bounds(level, base, range);
        while let Some((used, value)) = self.next_used(table, index, last) {
            let address = base + (used << entry_shift(level));
            match child(value, level) {
                Child::Leaf => visit(self.entry(table, used), address, level),
                Child::Table(child) => self.visit_table(child, level - 1, address, range, visit),
            }
            index = used + 1;
        }
    }

    /// The first entry that is not empty from `first` up to `last` in a table, and its index. (Tables are
    /// mostly empty: a fork or an exit spends its time here.)
    fn next_used(&self, table: PhysAddr, first: u64, last: u64) -> Option<(u64, u64)> {
        let (mut index, entries) = (first as usize, &self.table(table)[..=last as usize]);
        // Full tables are common too.
        match entries.get(index)?.load(Ordering::Acquire) {
            0 => index += 1,
            value => return Some((first, value)),
        }
        while let Some(eight) = entries.get(index..index + 8)
            && eight.iter().fold(0, |all, entry| all | entry.load(Ordering::Relaxed)) == 0
        {
            index += 8;
        }
        let values = entries.get(index..)?.iter().map(|entry| entry.load(Ordering::Acquire));
        (index as u64..).zip(values).find(|&(_, value)| value != 0)
    }

    /// Calls `visit` with the entries in `range` of each table at `leaf_level`.
    fn visit_leaf_tables(
        &self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: VirtRange,
        leaf_level: u32,
        visit: &mut dyn FnMut(&[AtomicU64]),
    ) {
        if level == leaf_level {
            let (first, last) = bounds(level, base, range);
            return visit(&self.table(table)[first as usize..=last as usize]);
        }
        let (mut index, last) = bounds(level, base, range);
        while let Some((used, value)) = self.next_used(table, index, last) {
            if let Child::Table(child) = child(value, level) {
                let address = base + (used << entry_shift(level));
                self.visit_leaf_tables(child, level - 1, address, range, leaf_level, visit);
            }
            index = used + 1;
        }
    }

    #[inline]
    pub(crate) fn entry(&self, table: PhysAddr, index: u64) -> &AtomicU64 {
        &self.table(table)[(index & 511) as usize]
    }

    #[inline]
    fn table(&self, table: PhysAddr) -> &[AtomicU64; 512] {
        let pointer = self.frames.physmap().pointer(table).cast();
        // SAFETY: `table` is the root or the address in a present table entry: a frame of this tree, mapped by the
        // window. Tables are only unlinked by `&mut self`, and freed after that. All access is atomic.
        unsafe { &*pointer }
    }
}

impl PageTables {
    /// Frees what `ranges`, which ascend and hold all that is mapped, lead to: a drop that looks at nothing else.
    /// No CPU may have the tables loaded.
    pub(crate) fn tear_down(&mut self, ranges: &mut dyn Iterator<Item = VirtRange>) {
        let (frames, root) = (self.frames, self.root);
        let _returning = frames.returning();
        let mut flush = Flush::new(self, LOWER_HALF);
        let mut ranges = runs(ranges, entry_shift(2)).peekable();
        while let Some(mut range) = ranges.next() {
            // Nothing is mapped below any more.
            let end = ranges.peek().map_or(LOWER_HALF.end(), |next| next.start());
            let hole = VirtRange::from_bounds(0, end.as_u64()).expect("it holds the range");
            while let Err(at) = flush.clear(root, 4, 0, range, hole) {
                let _batch = frames.returning();
                flush.release();
                range = VirtRange::from_bounds(at, range.end().as_u64()).expect("it is inside the range");
            }
        }
        flush.release();
    }
}

impl Drop for PageTables {
    fn drop(&mut self) {
        self.tear_down(&mut core::iter::once(LOWER_HALF));
        // SAFETY: `new` allocated the root with order 0 and gave up its token; nobody uses it any more.
        self.frames.free(unsafe { Frame::from_address(self.root, 0) });
    }
}

impl Flush<'_> {
    /// Clears the part of `table` (at `level`, spanning from `base`) that lies in `range`. When no more
    /// frames can be held, returns the address to go on from.
    fn clear(
        &mut self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: VirtRange,
        hole: VirtRange,
    ) -> Result<(), u64> {
        let (mut next, last) = bounds(level, base, range);
        while let Some((index, value)) = self.tables().next_used(table, next, last) {
            next = index + 1;
            let address = base + (index << entry_shift(level));
            let freed = match child(value, level) {
                Child::Leaf => value & OWNED.bits() != 0,
                Child::Table(child) => {
                    self.clear(child, level - 1, address, range, hole)?;
                    if !covers(hole, address, level) {
                        continue;
                    }
                    true
                }
            };
            if freed && self.is_full() {
                return Err(address);
            }
            self.tables().entry(table, index).store(0, Ordering::Release);
            self.set_changed(true);
            if freed {
                // SAFETY: the entry held the only token of this frame (it is OWNED, or a table of this
                // tree), allocated with order 0, and it has just been cleared.
                let frame = unsafe { Frame::from_address(PhysAddr::new_truncate(value & ADDRESS_BITS), 0) };
                self.hold(frame);
            }
        }
        Ok(())
    }
}

/// What an entry that is not empty leads to.
enum Child {
    /// A leaf, perhaps a parked one.
    Leaf,
    Table(PhysAddr),
}

fn child(entry: u64, level: u32) -> Child {
    if level == 1 || entry & HUGE != 0 {
        Child::Leaf
    } else {
        Child::Table(PhysAddr::new_truncate(entry & ADDRESS_BITS))
    }
}

/// Joins ascending ranges of which one ends and the next begins in the same window of `2^shift` bytes (none, with
/// 0): a walk from the root costs more than a look at the empty entries between them.
pub(crate) fn runs(ranges: impl Iterator<Item = VirtRange>, shift: u32) -> impl Iterator<Item = VirtRange> {
    let mut ranges = ranges.peekable();
    core::iter::from_fn(move || {
        let (start, mut end) = ranges.next()?.bounds();
        while let Some(next) = ranges.next_if(|next| next.bounds().0 >> shift == (end - 1) >> shift) {
            end = next.bounds().1;
        }
        VirtRange::from_bounds(start, end)
    })
}

/// The first and the last entry of a table at `level`, spanning from `base`, that `range` touches.
fn bounds(level: u32, base: u64, range: VirtRange) -> (u64, u64) {
    let (shift, (start, end)) = (entry_shift(level), range.bounds());
    let first = start.saturating_sub(base) >> shift;
    let last = ((end - 1).saturating_sub(base) >> shift).min(511);
    (first, last)
}

/// Clears an entry of a device with the space held exclusively; 1 when there was one.
#[inline]
fn clear_leaf(entry: &AtomicU64) -> u64 {
    let was = entry.load(Ordering::Relaxed);
    entry.store(0, Ordering::Release);
    u64::from(was != 0)
}

/// Does `hole` cover all that a program can map through the entry at `address` of a table at `level`?
fn covers(hole: VirtRange, address: u64, level: u32) -> bool {
    let end = (address + (1 << entry_shift(level))).min(crate::range::USER_END);
    hole.start().as_u64() <= address && end <= hole.end().as_u64()
}

#[inline]
fn leaf_entry(phys: PhysAddr, size: MapSize, flags: PageTableFlags) -> u64 {
    phys.as_u64() | flags.bits() | if size == MapSize::Size4K { 0 } else { HUGE }
}

/// Puts a table from the reserve into an empty entry; the entry's value, which may be somebody else's
/// table. `None` when the reserve is short of the `missing` tables.
fn add_table(entry: &AtomicU64, missing: usize, reserve: &mut Reserve<'_>) -> Option<u64> {
    if reserve.count() < missing {
        return None;
    }
    let frame = reserve.take()?;
    let value = frame.address().as_u64() | TABLE;
    match entry.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(value),
        Err(found) => {
            reserve.put(frame);
            Some(found)
        }
    }
}

/// Adds what `leaf` allows to an entry that maps the same memory.
fn raise(entry: &AtomicU64, mut found: u64, leaf: u64) {
    while found & PRESENT != 0 && (found ^ leaf) & ADDRESS_BITS == 0 {
        let raised = (found | leaf & GRANTS) & !(NO_EXECUTE & !leaf);
        if raised == found {
            return;
        }
        match entry.compare_exchange(found, raised, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(now) => found = now,
        }
    }
}

#[cold]
fn in_the_way(address: VirtAddr, size: MapSize) -> ! {
    panic!("something of another size is in the way of a {size} entry at {address:#x}: two vmas overlap");
}

#[cfg(test)]
mod tests;
