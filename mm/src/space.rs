//! A program's memory: its vmas and its page tables under one lock.
//!
//! Faults (`fault.rs`) hold the lock shared, all else exclusive. An exclusive operation goes in this order:
//!
//! 1. every check, so that a refusal leaves everything as it was;
//! 2. room in the vma set, the last thing that can fail;
//! 3. entries, then the shootdown, then frames, then vmas: the lock is held until the shootdown is
//!    acknowledged (`shootdown::Flush`), else another thread could map an address that a TLB still knows. The
//!    vmas are dropped last: with one goes the device's knowledge of who maps it, or shared memory itself.
//!
//! Two spaces are locked at once by fork only: the parent, then the child that nobody else has yet. What holds
//! the lock long: unmapping and forking much memory (a page at a time), mprotect of it.

pub use crate::fault::{Fault, Populated, STACK_LIMIT_BYTES};
use crate::frames::FrameAllocator;
use crate::lock::SpaceLock;
use crate::pager::{FaultError, Prot, Refusal, Sharing, VmaRequest};
use crate::placement::Layout;
pub use crate::placement::{Placement, STACK_AREA_BYTES};
use crate::range::{MapSize, PAGE_SIZE, USER_END, VirtRange};
use crate::shootdown::Shootdown;
use crate::tables::{KernelHalf, PageTables, runs};
use crate::vma::{Backing, Vma, VmaFlags, VmaHint, VmaSet};
use crate::walk::Walk;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use x86_64::structures::paging::PageTableFlags;
use x86_64::{PhysAddr, VirtAddr};

/// What all spaces of the machine share.
pub struct Environment {
    /// Where frames come from.
    pub frames: &'static FrameAllocator,
    /// Who flushes TLBs.
    pub shootdown: &'static dyn Shootdown,
    /// The CPU has the no-execute bit, and it is enabled.
    pub no_execute: bool,
    /// The CPU has 1 GiB entries; without them touching a 1 GiB mapping is `FaultError::Bus`.
    pub gigabyte_pages: bool,
}

impl Environment {
    /// The bits of a user leaf with this protection; empty for PROT_NONE. x86 has no write without read, nor
    /// execute without read. Accessed and dirty are set at once: nobody reads them, and the CPU would
    /// take a microcode assist to do it.
    #[inline]
    pub(crate) fn leaf_flags(&self, prot: Prot) -> PageTableFlags {
        // Looked up and not computed: every fault asks.
        const FLAGS: [[PageTableFlags; 8]; 2] = [all_leaf_flags(false), all_leaf_flags(true)];
        FLAGS[usize::from(self.no_execute)][usize::from(prot.bits() & 7)]
    }

    /// Does the CPU have entries of this size?
    #[inline]
    pub(crate) fn has_entries_of(&self, size: MapSize) -> bool {
        size != MapSize::Size1G || self.gigabyte_pages
    }

    /// The bits of a leaf that shows what the space may read but not write, whatever `prot` says.
    pub(crate) fn read_only_flags(&self, prot: Prot) -> PageTableFlags {
        self.leaf_flags(prot) - (PageTableFlags::WRITABLE | PageTableFlags::DIRTY)
    }
}

/// What `munmap` calls misaligned is another matter for `mmap`: nothing is wrong with its own arguments.
fn cuts_mapping(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Misaligned { value, align, .. } => Refusal::CutsMapping { address: value, align },
        other => other,
    }
}

/// The leaf bits for every [`Prot`], by its bits.
const fn all_leaf_flags(no_execute: bool) -> [PageTableFlags; 8] {
    use PageTableFlags as F;
    let mut all = [F::empty(); 8];
    let mut bits = 1;
    while bits < all.len() {
        let prot = Prot::from_bits_truncate(bits as u8);
        let mut flags = F::PRESENT.union(F::USER_ACCESSIBLE).union(F::ACCESSED);
        if prot.contains(Prot::WRITE) {
            flags = flags.union(F::WRITABLE).union(F::DIRTY);
        }
        if no_execute && !prot.contains(Prot::EXEC) {
            flags = flags.union(F::NO_EXECUTE);
        }
        all[bits] = flags;
        bits += 1;
    }
    all
}

/// What `mmap` is asked for.
#[derive(Clone, Debug)]
pub struct MapRequest {
    /// Where.
    pub placement: Placement,
    /// Length in bytes as the program gave it; it is rounded up to 4 KiB.
    pub len_bytes: u64,
    /// What the program may do.
    pub prot: Prot,
    /// What `mprotect` may ever allow.
    pub max_prot: Prot,
    /// Shared or private.
    pub sharing: Sharing,
    /// What shows in it.
    pub backing: Backing,
    /// The object's byte that the first address shows, as the program gave it. Anonymous memory only needs it
    /// to be whole pages.
    pub offset_bytes: u64,
    /// Marks.
    pub flags: VmaFlags,
    /// Name for /proc/self/maps, such as `[stack]`; may be empty.
    pub name: &'static str,
}

/// What `revoke` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    /// Vmas of the object.
    pub mappings: u64,
    /// Entries that were cleared, by size in the order of [`MapSize::ALL`].
    pub entries: [u64; 3],
}

/// A number that no other space or shared memory of this boot has.
pub(crate) fn new_object_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One number for an object and its generation, apart from those of [`new_object_id`].
fn device_futex((object, generation): (u64, u64)) -> u64 {
    (object.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation) | 1 << 63
}

/// A program's memory. Dropping it frees all of it; no CPU may have its root in CR3 then.
pub struct AddressSpace {
    pub(crate) environment: &'static Environment,
    this: Weak<AddressSpace>,
    id: u64,
    owner: AtomicU32,
    root: PhysAddr,
    layout: Layout,
    pub(crate) memory: SpaceLock<Memory, FaultNotes, READER_SHARDS>,
}

/// Faults that run at once on fewer CPUs than this usually write to no cache line of each other.
const READER_SHARDS: usize = 8;

/// What faults write down while they hold the lock shared: one for each shard of readers.
#[derive(Default)]
pub(crate) struct FaultNotes {
    /// Where the last fault found its vma.
    pub(crate) near: VmaHint,
    /// Entries of devices that were written, by size in the order of [`MapSize::ALL`].
    pub(crate) device_entries: [AtomicU64; 3],
}

/// What the lock guards. The entries go before what they show.
pub(crate) struct Memory {
    pub(crate) tables: PageTables,
    pub(crate) vmas: VmaSet,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.tables.tear_down(&mut self.vmas.iter().map(|vma| vma.range));
    }
}

impl AddressSpace {
    /// An empty space; `random` moves its mmap base. `None` when memory is out.
    pub fn new(
        kernel_half: &KernelHalf,
        environment: &'static Environment,
        random: u64,
    ) -> Option<Arc<AddressSpace>> {
        AddressSpace::with_layout(kernel_half, environment, Layout::new(random))
    }

    fn with_layout(
        kernel_half: &KernelHalf,
        environment: &'static Environment,
        layout: Layout,
    ) -> Option<Arc<AddressSpace>> {
        let tables = PageTables::new(kernel_half, environment.frames)?;
        Some(Arc::new_cyclic(|this| AddressSpace {
            environment,
            this: this.clone(),
            id: new_object_id(),
            owner: AtomicU32::new(0),
            root: tables.root(),
            layout,
            memory: SpaceLock::new(Memory { tables, vmas: VmaSet::new() }),
        }))
    }

    /// A copy for a child process. Private memory is shared until one of the two writes; devices and shared
    /// memory show the same bytes; vmas marked [`VmaFlags::DONT_FORK`] are left out. `NoMemory`, or what a
    /// pager says: this space is as it was then.
    pub fn fork(&self, kernel_half: &KernelHalf) -> Result<Arc<AddressSpace>, Refusal> {
        loop {
            if let Some(child) = self.try_fork(kernel_half)? {
                return Ok(child);
            }
            // From now, not from before: what came back with half a child is no reason to try again.
            let frames = self.environment.frames;
            if !frames.wait_for_returning(frames.moment()) {
                return Err(Refusal::NoMemory);
            }
        }
    }

    /// `None` when frames ran out: some may be on their way back.
    fn try_fork(&self, kernel_half: &KernelHalf) -> Result<Option<Arc<AddressSpace>>, Refusal> {
        let Some(child) = AddressSpace::with_layout(kernel_half, self.environment, self.layout) else {
            return Ok(None);
        };
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        // Devices learn of the child before it is complete; who wants to revoke waits for this guard.
        let mut copy = child.memory.write();
        let inherited = || vmas.iter().filter(|vma| !vma.flags.contains(VmaFlags::DONT_FORK));
        copy.vmas.prepare(inherited().count())?;
        for vma in inherited() {
            let mut vma = vma.clone();
            if let Backing::Device(pager) = &vma.backing {
                vma.backing = Backing::Device(pager.inherit(&child.this)?);
            }
            copy.vmas.push(vma);
        }
        let private = inherited()
            .filter(|vma| matches!(vma.backing, Backing::Anonymous | Backing::Private(_)))
            .map(|vma| vma.range);
        // Between two of them nothing is owned but what is left out.
        let nothing_left_out = copy.vmas.iter().count() == vmas.iter().count();
        let window = if nothing_left_out { MapSize::Size2M.shift() } else { 0 };
        let (flush, complete) = tables.share(runs(private, window), &mut copy.tables);
        let rest = flush.acknowledge(self.environment.shootdown);
        debug_assert!(rest.is_none(), "sharing frees nothing");
        drop(copy);
        Ok(complete.then_some(child))
    }

    /// Clears all entries of the vmas that show the object `key` ([`crate::pager::Pager::key`]); the vmas stay. When it
    /// returns no CPU uses one of them any more.
    pub fn revoke(&self, key: u64) -> Revoked {
        let mut revoked = Revoked::default();
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        for vma in
            vmas.iter().filter(|vma| matches!(&vma.backing, Backing::Device(pager) if pager.key() == key))
        {
            let (flush, cleared) = tables.revoke(vma.range, vma.granule);
            let rest = flush.acknowledge(self.environment.shootdown);
            debug_assert!(rest.is_none(), "what a device shows is nobody's to free");
            revoked.mappings += 1;
            revoked.entries[vma.granule as usize] += cleared;
        }
        revoked
    }

    /// What names the futex at `address`: an object and the offset in it. Private memory is named by space and
    /// address.
    pub fn futex_key(&self, address: VirtAddr) -> Result<(u64, u64), FaultError> {
        let memory = self.memory.read();
        let vma = memory.vmas.find_near(address, &memory.local().near).ok_or(FaultError::NotMapped)?;
        Ok(match &vma.backing {
            Backing::Anonymous | Backing::Private(_) => (self.id, address.as_u64()),
            Backing::Shared(pages) => (pages.id(), vma.offset_of(address)),
            Backing::Device(pager) => (device_futex(pager.futex_object()), vma.offset_of(address)),
        })
    }

    /// Labels the space with its process, for logs.
    pub fn set_owner(&self, pid: u32) {
        self.owner.store(pid, Ordering::Relaxed);
    }

    /// The label; 0 before there is one.
    pub fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// The root table, for CR3.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// The address below which `Placement::Anywhere` searches first.
    pub fn mmap_base(&self) -> VirtAddr {
        VirtAddr::new_truncate(self.layout.mmap_base)
    }

    /// Makes a mapping and returns its first address; nothing is faulted in. A refusal changes nothing, even
    /// where something would have been replaced.
    ///
    /// Checked in Linux's order: the offset's page, the length, the end of the object's offsets, the place,
    /// the protection, whether what is replaced may be cut, and at last the pager's own rules.
    pub fn mmap(&self, request: &MapRequest) -> Result<VirtAddr, Refusal> {
        let &MapRequest { placement, offset_bytes, prot, max_prot, sharing, flags, name, .. } = request;
        if !MapSize::Size4K.divides(offset_bytes) {
            return Err(misaligned("offset", offset_bytes));
        }
        if request.len_bytes == 0 {
            return Err(Refusal::ZeroLength);
        }
        let len_bytes = request
            .len_bytes
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(Refusal::NoAddresses { len_bytes: request.len_bytes })?;
        let offset_bytes = if matches!(request.backing, Backing::Anonymous) { 0 } else { offset_bytes };
        if offset_bytes.checked_add(len_bytes).is_none() {
            return Err(Refusal::OffsetOverflow { offset_bytes, len_bytes });
        }
        let granule = request.backing.granule();

        let mut memory = self.memory.write();
        let range = self.layout.place(&memory.vmas, placement, len_bytes, granule)?;
        if !max_prot.contains(prot) {
            return Err(Refusal::Protection { asked: prot, allowed: max_prot });
        }
        memory.vmas.check_cuts(range, |_| true).map_err(cuts_mapping)?;
        if let Backing::Device(pager) = &request.backing {
            pager.check_vma(&VmaRequest { range, offset_bytes, sharing })?;
        }
        let added = memory.vmas.growth(range, 1);
        memory.vmas.prepare(added)?;
        let backing = match &request.backing {
            Backing::Device(pager) => Backing::Device(pager.attach(&self.this)?),
            other => other.clone(),
        };
        self.remove(&mut memory, range);
        memory.vmas.insert(Vma {
            range,
            offset_bytes,
            backing,
            name,
            granule,
            prot,
            max_prot,
            sharing,
            flags,
        });
        Ok(range.start())
    }

    /// Removes what is mapped in `[address, address + len_bytes)`, rounded up to 4 KiB; holes are fine. A cut
    /// through an entry of a device is refused. A refusal changes nothing.
    pub fn munmap(&self, address: u64, len_bytes: u64) -> Result<(), Refusal> {
        let range = pages(address, len_bytes)?.ok_or(Refusal::ZeroLength)?;
        let mut memory = self.memory.write();
        memory.vmas.check_cuts(range, |_| true)?;
        let added = memory.vmas.growth(range, 0);
        memory.vmas.prepare(added)?;
        self.remove(&mut memory, range);
        Ok(())
    }

    /// Changes what the program may do there, at entries of every size. A refusal changes nothing (Linux
    /// changes what lies before the first hole); vmas that have this protection already are no reason to
    /// refuse.
    pub fn mprotect(&self, address: u64, len_bytes: u64, prot: Prot) -> Result<(), Refusal> {
        let Some(range) = pages_or_unmapped(address, len_bytes)? else { return Ok(()) };
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        vmas.check_mapped(range)?;
        if let Some(vma) = vmas.overlapping(range).find(|vma| !vma.max_prot.contains(prot)) {
            return Err(Refusal::Protection { asked: prot, allowed: vma.max_prot });
        }
        vmas.check_cuts(range, |vma| vma.prot != prot)?;
        vmas.prepare(vmas.cuts(range, |vma| vma.prot != prot))?;
        let owned = self.environment.leaf_flags(prot);
        for vma in vmas.overlapping(range).filter(|vma| vma.prot != prot) {
            let part = vma.range.intersection(range).expect("it overlaps");
            // What a file shows in place is the file itself: only a copy is ever writable.
            let borrowed = match vma.backing {
                Backing::Device(_) | Backing::Shared(_) => owned,
                _ => self.environment.read_only_flags(prot),
            };
            let rest = tables.protect(part, owned, borrowed).acknowledge(self.environment.shootdown);
            debug_assert!(rest.is_none(), "protecting frees nothing");
        }
        vmas.update(range, |vma| vma.prot != prot, |vma| vma.prot = prot);
        Ok(())
    }

    /// Drops the entries there (MADV_DONTNEED): anonymous memory is zero again, files and devices show
    /// their bytes again at the next touch. Entries of a device that lie partly inside go too. With a hole
    /// in the range the rest is done, and `NotMapped` names the hole, as on Linux.
    pub fn dont_need(&self, address: u64, len_bytes: u64) -> Result<(), Refusal> {
        let Some(range) = pages_or_unmapped(address, len_bytes)? else { return Ok(()) };
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        for vma in vmas.overlapping(range) {
            let part = vma.range.intersection(range).expect("it overlaps");
            self.unmap(tables, part, part);
        }
        vmas.check_mapped(range)
    }

    /// Sets and clears marks there (MADV_DONTFORK, MADV_DOFORK). A refusal changes nothing.
    pub fn set_flags(
        &self,
        address: u64,
        len_bytes: u64,
        set: VmaFlags,
        clear: VmaFlags,
    ) -> Result<(), Refusal> {
        let Some(range) = pages_or_unmapped(address, len_bytes)? else { return Ok(()) };
        let differs = |vma: &Vma| (vma.flags | set) - clear != vma.flags;
        let mut memory = self.memory.write();
        memory.vmas.check_mapped(range)?;
        memory.vmas.check_cuts(range, differs)?;
        let added = memory.vmas.cuts(range, differs);
        memory.vmas.prepare(added)?;
        memory.vmas.update(range, differs, |vma| vma.flags = (vma.flags | set) - clear);
        Ok(())
    }

    /// Could the range get attributes of its own (MADV_RANDOM and the like)? Changes nothing.
    pub fn check_split(&self, address: u64, len_bytes: u64) -> Result<(), Refusal> {
        let Some(range) = pages_or_unmapped(address, len_bytes)? else { return Ok(()) };
        let memory = self.memory.read();
        memory.vmas.check_mapped(range)?;
        memory.vmas.check_cuts(range, |_| true)
    }

    /// Is every page there mapped? `NotMapped` names the first that is not.
    pub fn check_mapped(&self, address: u64, len_bytes: u64) -> Result<(), Refusal> {
        match pages_or_unmapped(address, len_bytes)? {
            Some(range) => self.memory.read().vmas.check_mapped(range),
            None => Ok(()),
        }
    }

    /// Makes stores to the devices mapped there durable (msync). With a hole in the range the rest is done,
    /// and `NotMapped` names the hole. Flushing takes its time, so the lock is not held meanwhile.
    pub fn flush_device(&self, address: u64, len_bytes: u64) -> Result<(), Refusal> {
        let Some(range) = pages_or_unmapped(address, len_bytes)? else { return Ok(()) };
        let mapped = self.memory.read().vmas.check_mapped(range);
        let mut rest = Some(range);
        while let Some(range) = rest {
            let Some(vma) = self.memory.read().vmas.overlapping(range).next().cloned() else { break };
            if let (Backing::Device(pager), Some(part)) = (&vma.backing, vma.range.intersection(range)) {
                pager.flush(vma.offset_of(part.start()), part.len_bytes())?;
            }
            rest = VirtRange::from_bounds(vma.range.end().as_u64(), range.end().as_u64());
        }
        mapped
    }

    /// Calls `visit` for each vma by address, with the lock held shared: it must not touch the program's
    /// memory.
    pub fn for_each_vma(&self, visit: &mut dyn FnMut(&Vma)) {
        self.memory.read().vmas.iter().for_each(visit);
    }

    /// The vma that holds `address`.
    pub fn find(&self, address: VirtAddr) -> Option<Vma> {
        self.memory.read().vmas.find(address).cloned()
    }

    /// What the CPU would see on its way to `address`.
    pub fn walk(&self, address: VirtAddr) -> Walk {
        self.memory.read().tables.walk(address)
    }

    /// Removes vmas and entries in `range`; its ends may be cut and there is room (`VmaSet::prepare`).
    fn remove(&self, memory: &mut Memory, range: VirtRange) {
        let Memory { tables, vmas } = memory;
        if vmas.overlapping(range).next().is_some() {
            self.unmap(tables, range, vmas.hole_around(range));
            vmas.remove(range);
        }
    }

    /// Unmaps all of `range`, however many rounds it takes.
    pub(crate) fn unmap(&self, tables: &mut PageTables, range: VirtRange, hole: VirtRange) {
        let mut rest = Some(range);
        while let Some(range) = rest {
            rest = tables.unmap(range, hole).acknowledge(self.environment.shootdown);
        }
    }
}

/// The pages of `[address, address + len_bytes)`; `None` when the length is 0.
fn pages(address: u64, len_bytes: u64) -> Result<Option<VirtRange>, Refusal> {
    if !MapSize::Size4K.divides(address) {
        return Err(misaligned("address", address));
    }
    if len_bytes == 0 {
        return Ok(None);
    }
    let rounded = len_bytes.checked_next_multiple_of(PAGE_SIZE);
    match rounded.and_then(|len_bytes| VirtRange::new(address, len_bytes)) {
        Some(range) => Ok(Some(range)),
        None => Err(Refusal::NotUserRange { address, len_bytes }),
    }
}

/// As `pages`, for calls that answer ENOMEM for what no program can map.
fn pages_or_unmapped(address: u64, len_bytes: u64) -> Result<Option<VirtRange>, Refusal> {
    pages(address, len_bytes).map_err(|refusal| match refusal {
        Refusal::NotUserRange { address, .. } => {
            Refusal::NotMapped { address: VirtAddr::new_truncate(address.max(USER_END)) }
        }
        other => other,
    })
}

fn misaligned(what: &'static str, value: u64) -> Refusal {
    Refusal::Misaligned { what, value, align: MapSize::Size4K }
}

#[cfg(test)]
mod tests;
