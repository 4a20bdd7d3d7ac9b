//! What a program has mapped: vmas, and the sorted set of them.
//!
//! The set is a sorted `Vec`: the fault path finds its vma by the index of the last hit or a binary search
//! over one block of memory, and the search for free addresses runs through it in order. (A `BTreeMap`
//! would spend more on one lookup than a whole fault may.) The price: an insertion moves the vmas above it,
//! and a search from the top looks at each vma above the hole that it finds. A program that fills its
//! addresses downwards pays both for each mmap, in proportion to the vmas that it has.

use crate::pager::{PageSource, Pager, Prot, Refusal, Sharing};
use crate::range::{MapSize, VirtRange};
use crate::shared::SharedPages;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use x86_64::VirtAddr;

/// The most vmas of one space (Linux's vm.max_map_count).
pub const MAX_VMAS: usize = 65530;

/// Kept free below a stack, so that running over its end faults (Linux's stack_guard_gap of 256 pages).
pub const STACK_GUARD_BYTES: u64 = 1 << 20;

bitflags! {
    /// Marks of a vma.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmaFlags: u8 {
        /// A stack: a fault below it grows it.
        const GROWS_DOWN = 1;
        /// Not inherited by a child (MADV_DONTFORK).
        const DONT_FORK = 2;
        /// Inherited as zeros (MADV_WIPEONFORK): anonymous memory only.
        const WIPE_ON_FORK = 4;
    }
}

/// What shows in a vma.
#[derive(Clone)]
pub enum Backing {
    /// Zeros until written.
    Anonymous,
    /// A file, copied page by page when written.
    Private(Arc<dyn PageSource>),
    /// Zeros until written, and the same bytes for all who map it.
    Shared(Arc<SharedPages>),
    /// A device, mapped in entries of its granule.
    Device(Arc<dyn Pager>),
}

impl Backing {
    /// The size of every entry of a mapping of it.
    pub fn granule(&self) -> MapSize {
        match self {
            Backing::Anonymous | Backing::Private(_) | Backing::Shared(_) => MapSize::Size4K,
            Backing::Device(pager) => pager.granule(),
        }
    }
}

/// One mapping.
#[derive(Clone)]
pub struct Vma {
    /// Its addresses, in whole granules.
    pub range: VirtRange,
    /// The object's byte that `range.start()` shows; 0 for anonymous memory.
    pub offset_bytes: u64,
    /// What shows in it.
    pub backing: Backing,
    /// What /proc/self/maps shows for anonymous memory, such as `[stack]`; may be empty.
    pub name: &'static str,
    /// The size of its entries.
    pub granule: MapSize,
    /// What the program may do.
    pub prot: Prot,
    /// What `mprotect` may ever allow.
    pub max_prot: Prot,
    /// Shared or private.
    pub sharing: Sharing,
    /// Marks.
    pub flags: VmaFlags,
}

impl Vma {
    /// The object's byte that `address`, which is inside, shows.
    pub fn offset_of(&self, address: VirtAddr) -> u64 {
        self.offset_bytes + (address - self.range.start())
    }

    /// The addresses that show bytes of `offsets`.
    pub(crate) fn showing(&self, offsets: &Range<u64>) -> Option<VirtRange> {
        let (start, len_bytes) = (self.range.start().as_u64(), self.range.len_bytes());
        let [from, to] = [offsets.start, offsets.end]
            .map(|at| start + at.saturating_sub(self.offset_bytes).min(len_bytes));
        VirtRange::from_bounds(from, to)
    }

    /// Keeps what is below `address`, which is inside, and returns the rest.
    fn split_off(&mut self, address: VirtAddr) -> Vma {
        let mut upper = self.clone();
        upper.range = between(address, self.range.end());
        if !matches!(self.backing, Backing::Anonymous) {
            upper.offset_bytes = self.offset_of(address);
        }
        self.range = between(self.range.start(), address);
        upper
    }

    /// Could `upper`, which begins where this ends, be part of it? Only anonymous memory is joined.
    fn continues_in(&self, upper: &Vma) -> bool {
        matches!((&self.backing, &upper.backing), (Backing::Anonymous, Backing::Anonymous))
            && self.range.end() == upper.range.start()
            && (self.prot, self.max_prot, self.sharing) == (upper.prot, upper.max_prot, upper.sharing)
            && (self.flags, self.name) == (upper.flags, upper.name)
    }

    /// The lowest address that other mappings should keep away from: a stack wants room below it.
    pub(crate) fn start_with_guard(&self) -> u64 {
        let guard = if self.flags.contains(VmaFlags::GROWS_DOWN) { STACK_GUARD_BYTES } else { 0 };
        self.range.start().as_u64().saturating_sub(guard)
    }
}

/// The vmas of a space: sorted, disjoint.
#[derive(Default)]
pub struct VmaSet {
    vmas: Vec<Vma>,
}

/// Where a vma was found the last time; it may be wrong by now.
#[derive(Default, Debug)]
pub struct VmaHint(AtomicUsize);

impl VmaSet {
    /// The vma that holds `address`.
    pub fn find(&self, address: VirtAddr) -> Option<&Vma> {
        self.vmas.get(self.first_behind(address)).filter(|vma| vma.range.holds(address))
    }

    /// The same, faster when it is the vma that was found with this hint before.
    #[inline]
    pub fn find_near(&self, address: VirtAddr, hint: &VmaHint) -> Option<&Vma> {
        match self.vmas.get(hint.0.load(Ordering::Relaxed)) {
            Some(vma) if vma.range.holds(address) => Some(vma),
            _ => self.search(address, hint),
        }
    }

    #[cold]
    fn search(&self, address: VirtAddr, hint: &VmaHint) -> Option<&Vma> {
        hint.0.store(self.first_behind(address), Ordering::Relaxed);
        self.find(address)
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.vmas.iter()
    }

    /// Those that share a byte with `range`, by address.
    pub fn overlapping(&self, range: VirtRange) -> impl Iterator<Item = &Vma> {
        self.vmas[self.indices(range)].iter()
    }

    /// The lowest vma that ends above `address`.
    pub fn at_or_above(&self, address: VirtAddr) -> Option<&Vma> {
        self.vmas.get(self.first_behind(address))
    }

    /// The highest vma that ends at or below `address`.
    pub fn below(&self, address: VirtAddr) -> Option<&Vma> {
        self.vmas.get(self.first_behind(address).checked_sub(1)?)
    }

    /// The widest range around `range` in which nothing is mapped once `range` is unmapped.
    pub fn hole_around(&self, range: VirtRange) -> VirtRange {
        let (start, end) = (range.start(), range.end());
        let floor = match self.at_or_above(start) {
            Some(vma) if vma.range.start() < start => start,
            _ => self.below(start).map_or(VirtAddr::zero(), |vma| vma.range.end()),
        };
        let ceiling = self.at_or_above(end).map(|vma| vma.range.start().max(end));
        between(floor, ceiling.unwrap_or(VirtAddr::new_truncate(crate::range::USER_END)))
    }

    /// Is every page of `range` mapped? `NotMapped` names the first that is not.
    pub fn check_mapped(&self, range: VirtRange) -> Result<(), Refusal> {
        let mut expected = range.start();
        for vma in self.overlapping(range) {
            if vma.range.start() > expected {
                break;
            }
            expected = vma.range.end();
        }
        if expected < range.end() { Err(Refusal::NotMapped { address: expected }) } else { Ok(()) }
    }

    /// Refuses when a cut at either end of `range` would go through an entry of a vma that `changes`.
    pub fn check_cuts(&self, range: VirtRange, changes: impl Fn(&Vma) -> bool) -> Result<(), Refusal> {
        for vma in self.overlapping(range).filter(|vma| changes(vma)) {
            for (what, cut) in [("address", range.start()), ("end", range.end())] {
                let (inside, value) = (vma.range.start() < cut && cut < vma.range.end(), cut.as_u64());
                if inside && !vma.granule.divides(value) {
                    return Err(Refusal::Misaligned { what, value, align: vma.granule });
                }
            }
        }
        Ok(())
    }

    /// How many vmas that `differ` are cut in two by the ends of `range`, at most 2: what
    /// [`VmaSet::update`] adds.
    fn cuts(&self, range: VirtRange, differs: impl Fn(&Vma) -> bool) -> usize {
        let touched = &self.vmas[self.indices(range)];
        let below = touched.first().is_some_and(|vma| vma.range.start() < range.start() && differs(vma));
        let above = touched.last().is_some_and(|vma| range.end() < vma.range.end() && differs(vma));
        usize::from(below) + usize::from(above)
    }

    /// How many more vmas there are when `new` ones replace what is mapped in `range`; 0 when there are fewer.
    pub fn growth(&self, range: VirtRange, new: usize) -> usize {
        (self.cuts(range, |_| true) + new).saturating_sub(self.indices(range).len())
    }

    /// Makes room for `added` vmas, so that the operation that adds them cannot fail half way. What adds none
    /// is never refused: a program can give memory back when it has all the vmas that it may have.
    pub fn prepare(&mut self, added: usize) -> Result<(), Refusal> {
        if added > 0 && self.vmas.len() + added > MAX_VMAS {
            return Err(Refusal::NoMemory);
        }
        self.vmas.try_reserve(added).map_err(|_| Refusal::NoMemory)
    }

    /// Checks and prepares [`VmaSet::update`].
    pub fn prepare_update(
        &mut self,
        range: VirtRange,
        differs: impl Fn(&Vma) -> bool,
    ) -> Result<(), Refusal> {
        self.check_cuts(range, &differs)?;
        self.prepare(self.cuts(range, differs))
    }

    /// Checks and prepares [`VmaSet::remove`].
    pub fn prepare_removal(&mut self, range: VirtRange) -> Result<(), Refusal> {
        self.check_cuts(range, |_| true)?;
        self.prepare(self.growth(range, 0))
    }

    /// Adds a vma where nothing is mapped, and joins it with its neighbours where they are alike.
    pub fn insert(&mut self, vma: Vma) {
        let index = self.first_behind(vma.range.start());
        debug_assert!(self.vmas.get(index).is_none_or(|next| vma.range.end() <= next.range.start()));
        self.vmas.insert(index, vma);
        self.join(index..index + 1);
    }

    /// Adds a vma above all others, for which there is room, and joins it with nothing.
    pub fn push(&mut self, vma: Vma) {
        debug_assert!(self.vmas.last().is_none_or(|last| last.range.end() <= vma.range.start()));
        self.vmas.push(vma);
    }

    /// Forgets what is mapped in `range`; vmas across its ends are cut. Only a hole in the middle of one vma
    /// adds a vma, and takes memory.
    pub fn remove(&mut self, range: VirtRange) {
        if self.growth(range, 0) > 0 {
            self.cut(range.end(), |_| true);
        }
        let Range { mut start, mut end } = self.indices(range);
        if let Some(first) = self.vmas.get_mut(start).filter(|vma| vma.range.start() < range.start()) {
            first.split_off(range.start());
            start += 1;
        }
        if let Some(last) = self.vmas[start..end].last_mut().filter(|vma| range.end() < vma.range.end()) {
            *last = last.split_off(range.end());
            end -= 1;
        }
        self.vmas.drain(start..end);
    }

    /// Changes the vmas in `range` that `differs` picks; those of them across its ends are cut.
    pub fn update(&mut self, range: VirtRange, differs: impl Fn(&Vma) -> bool, change: impl Fn(&mut Vma)) {
        self.cut(range.start(), &differs);
        self.cut(range.end(), &differs);
        let touched = self.indices(range);
        self.vmas[touched.clone()].iter_mut().filter(|vma| differs(vma)).for_each(change);
        self.join(touched);
    }

    /// Gives the vma that begins at `start` the addresses `range`, of which nobody else has any, and joins it with
    /// its neighbours where they are alike.
    pub fn resize(&mut self, start: VirtAddr, range: VirtRange) {
        let index = self.first_behind(start);
        if let Some(vma) = self.vmas.get_mut(index).filter(|vma| vma.range.start() == start) {
            vma.range = range;
            self.join(index..index + 1);
        }
    }

    /// The highest free place for `len_bytes` in `[low, high)`, at a multiple of `align`, clear of the guards
    /// below stacks.
    pub fn find_gap(&self, low: u64, high: u64, len_bytes: u64, align: MapSize) -> Option<VirtRange> {
        let mut ceiling = high;
        let below_high = self.indices(VirtRange::from_bounds(0, high)?).end;
        for vma in self.vmas[..below_high].iter().rev() {
            let floor = vma.range.end().as_u64().max(low);
            if let Some(found) = fit(floor, ceiling, len_bytes, align) {
                return Some(found);
            }
            ceiling = ceiling.min(vma.start_with_guard());
            if ceiling <= low {
                return None;
            }
        }
        fit(low, ceiling, len_bytes, align)
    }

    /// Is all of `range` free, and clear of the guard of a stack above it?
    pub fn is_free(&self, range: VirtRange) -> bool {
        self.at_or_above(range.start()).is_none_or(|vma| range.end().as_u64() <= vma.start_with_guard())
    }

    /// Cuts the vma across `address`, if it is `wanted`.
    fn cut(&mut self, address: VirtAddr, wanted: impl Fn(&Vma) -> bool) {
        let index = self.first_behind(address);
        let across = |vma: &&mut Vma| vma.range.start() < address && wanted(vma);
        if let Some(vma) = self.vmas.get_mut(index).filter(across) {
            let upper = vma.split_off(address);
            self.vmas.insert(index + 1, upper);
        }
    }

    /// Joins alike vmas from the one below `changed` to the one above it, in one pass.
    fn join(&mut self, changed: Range<usize>) {
        let end = self.vmas.len().min(changed.end + 1);
        let mut kept = changed.start.saturating_sub(1);
        for index in kept + 1..end {
            if self.vmas[kept].continues_in(&self.vmas[index]) {
                self.vmas[kept].range = between(self.vmas[kept].range.start(), self.vmas[index].range.end());
            } else {
                kept += 1;
                self.vmas.swap(kept, index);
            }
        }
        self.vmas.drain(end.min(kept + 1)..end);
    }

    fn indices(&self, range: VirtRange) -> Range<usize> {
        let first = self.first_behind(range.start());
        let count = self.vmas[first..].partition_point(|vma| vma.range.start() < range.end());
        first..first + count
    }

    /// The index of the lowest vma that ends above `address`.
    #[inline]
    fn first_behind(&self, address: VirtAddr) -> usize {
        self.vmas.partition_point(|vma| vma.range.end() <= address)
    }
}

/// The highest multiple of `align` in `[floor, ceiling)` with room for `len_bytes`.
fn fit(floor: u64, ceiling: u64, len_bytes: u64, align: MapSize) -> Option<VirtRange> {
    let start = ceiling.checked_sub(len_bytes)? & !(align.bytes() - 1);
    if start >= floor { VirtRange::new(start, len_bytes) } else { None }
}

fn between(start: VirtAddr, end: VirtAddr) -> VirtRange {
    VirtRange::from_bounds(start.as_u64(), end.as_u64()).expect("parts of a vma are ranges")
}

#[cfg(test)]
mod tests;
