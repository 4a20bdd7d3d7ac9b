//! One tree of page tables: many install, one unmaps (`unmap`) or shares with a child (`share`).
//!
//! Entries are atomics in frames that the physical window shows. The protocol:
//!
//! 1. `PageTables::install` takes `&self`: any number of faults run it at once. It only ever turns an empty
//!    entry into a table or a leaf, or adds permissions to a leaf, by compare-exchange. It never
//!    allocates: missing tables come from a `Reserve`, and a table that lost its race goes back there.
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

mod flush;
mod relocate;
mod share;
mod unmap;
mod visit;

use crate::frames::{Frame, FrameAllocator};
use crate::pager::{FaultError, Installed};
use crate::range::{MapSize, PAGE_SIZE, VirtRange};
use crate::reserve::Reserve;
use crate::walk::{ADDRESS_BITS, address_of, decode_leaf, leaf_level, table_index};
pub use crate::walk::{Leaf, Walk, WalkStep};
use core::sync::atomic::{AtomicU64, Ordering};
pub use flush::Flush;
use visit::next_used;
pub(crate) use visit::runs;
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
const NO_EXECUTE: u64 = PageTableFlags::NO_EXECUTE.bits();

/// A tree of page tables with its own lower half. Dropping it frees that half, owned pages included: no CPU
/// may have it loaded then.
pub struct PageTables {
    root: PhysAddr,
    pub(crate) frames: &'static FrameAllocator,
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
            table = address_of(value);
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
            table = address_of(value);
        }
        let entry = self.entry(table, table_index(address, leaf_level));
        let leaf = leaf_entry(phys, size, flags);
        match entry.compare_exchange(0, leaf, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Installed::New,
            Err(found) => {
                if size != MapSize::Size4K && found & HUGE == 0 {
                    in_the_way(address, size);
                }
                raise(entry, leaf);
                Installed::Already
            }
        }
    }

    /// Maps a page as [`PageTables::install`] does; what `reserve` lacks for it is taken now.
    pub(crate) fn install_page(
        &self,
        page: VirtAddr,
        memory: PhysAddr,
        flags: PageTableFlags,
        reserve: &mut Reserve<'_>,
    ) -> Result<Installed, FaultError> {
        loop {
            match self.install(page, memory, MapSize::Size4K, flags, reserve) {
                Installed::NeedsTables(count) => reserve.fill(count.into())?,
                installed => return Ok(installed),
            }
        }
    }

    /// Maps a frame that belongs to the space from now on; it is freed when somebody was faster.
    #[inline]
    pub(crate) fn install_owned(
        &self,
        page: VirtAddr,
        frame: Frame,
        flags: PageTableFlags,
        reserve: &mut Reserve<'_>,
    ) -> Result<Installed, FaultError> {
        let result = self.install_page(page, frame.address(), flags | OWNED, reserve);
        if result != Ok(Installed::New) {
            self.frames.free(frame);
        }
        result
    }

    /// Sets the bits of every leaf in `range`, where all leaves have this size: `owned` for those with [`OWNED`],
    /// `borrowed` for the others. Bits without PRESENT park the former and clear the latter.
    pub fn protect(
        &mut self,
        range: VirtRange,
        size: MapSize,
        owned: PageTableFlags,
        borrowed: PageTableFlags,
    ) -> Flush<'_> {
        let borrowed_bits = leaf_entry(PhysAddr::zero(), size, borrowed);
        let mut changed = 0;
        self.visit_leaf_tables(range, size, &mut |entries, _| {
            let mut next = 0;
            while let Some((index, old)) = next_used(entries, next) {
                next = index + 1;
                let new = if old & OWNED.bits() != 0 {
                    old & ADDRESS_BITS | self.owned_bits(address_of(old), owned)
                } else if borrowed.contains(PageTableFlags::PRESENT) {
                    old & ADDRESS_BITS | borrowed_bits
                } else {
                    0
                };
                // Nobody else writes here but a CPU that sets accessed or dirty bits, which nobody reads.
                entries[index].store(new, Ordering::Release);
                changed |= old & PRESENT;
            }
        });
        Flush::new(self, (changed != 0).then_some(range))
    }

    /// The bits of a leaf that shows an owned frame where the program may have `flags`.
    fn owned_bits(&self, frame: PhysAddr, flags: PageTableFlags) -> u64 {
        let parked = !flags.contains(PageTableFlags::PRESENT);
        let allowed = match flags {
            _ if parked => PageTableFlags::empty(),
            _ if self.frames.is_shared(frame) => flags - WRITES,
            _ => flags,
        };
        (allowed | OWNED).bits()
    }

    /// What the CPU would see on its way to `address`.
    #[inline]
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
            table = address_of(entry);
        }
        walk
    }

    /// The present leaf at `address`.
    pub fn leaf(&self, address: VirtAddr) -> Option<Leaf> {
        self.walk(address).leaf
    }

    /// Copies from an owned page to `out`, from `address` on and no further than its page. False: there is none.
    pub(crate) fn copy_from_page(&self, address: VirtAddr, out: &mut [u8]) -> bool {
        let Some(page) = self.owned_bytes(address, out.len()) else { return false };
        // SAFETY: `owned_bytes`; programs may write there meanwhile: what they race for is theirs.
        unsafe { page.copy_to_nonoverlapping(out.as_mut_ptr(), out.len()) };
        true
    }

    /// Copies `bytes` to an owned page, in the same way.
    pub(crate) fn copy_to_page(&self, address: VirtAddr, bytes: &[u8]) -> bool {
        let Some(page) = self.owned_bytes(address, bytes.len()) else { return false };
        // SAFETY: as in `copy_from_page`.
        unsafe { page.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }

    /// Where the window shows `address`, when the page of `len` bytes from there on is owned. It stays while the tables
    /// are borrowed: only `&mut self` frees it. It is a frame of its own, apart from all objects of the kernel.
    fn owned_bytes(&self, address: VirtAddr, len: usize) -> Option<*mut u8> {
        let in_page = address.as_u64() % PAGE_SIZE;
        let leaf = self.leaf(address).filter(|leaf| leaf.flags.contains(OWNED))?;
        assert!(in_page + len as u64 <= PAGE_SIZE, "a copy ends in the page that it begins in");
        Some(self.frames.physmap().pointer(leaf.phys.align_down(PAGE_SIZE) + in_page))
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

#[inline]
fn leaf_entry(phys: PhysAddr, size: MapSize, flags: PageTableFlags) -> u64 {
    phys.as_u64() | flags.bits() | if size == MapSize::Size4K { 0 } else { HUGE }
}

/// Puts a table from the reserve into an empty entry; the entry's value, which may be somebody else's
/// table. `None` when the reserve is short of the `missing` tables.
fn add_table(entry: &AtomicU64, missing: usize, reserve: &mut Reserve<'_>) -> Option<u64> {
    if reserve.held.len() < missing {
        return None;
    }
    let frame = reserve.held.pop()?;
    let value = frame.address().as_u64() | TABLE;
    match entry.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(value),
        Err(found) => {
            reserve.held.push(frame);
            Some(found)
        }
    }
}

/// Adds what `leaf` allows to an entry that maps the same memory.
fn raise(entry: &AtomicU64, leaf: u64) {
    let raised = |found: u64| {
        let is_same = found & PRESENT != 0 && (found ^ leaf) & ADDRESS_BITS == 0;
        let raised = (found | leaf & GRANTS) & !(NO_EXECUTE & !leaf);
        (is_same && raised != found).then_some(raised)
    };
    // An error is an entry with nothing to add.
    let _ = entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, raised);
}

#[cold]
fn in_the_way(address: VirtAddr, size: MapSize) -> ! {
    panic!("something of another size is in the way of a {size} entry at {address:#x}: two vmas overlap");
}

#[cfg(test)]
pub(crate) mod tests;
