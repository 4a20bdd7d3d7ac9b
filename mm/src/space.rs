//! A program's memory: its vmas and its page tables under one lock.
//!
//! Faults (`fault.rs`) hold the lock shared, all else exclusive. An exclusive operation goes in this order:
//!
//! 1. every check, so that a refusal leaves everything as it was;
//! 2. room in the vma set, the last thing that can fail;
//! 3. entries, then the shootdown, then frames, then vmas: the lock is held until the shootdown is
//!    acknowledged (`tables::Flush`), else another thread could map an address that a TLB still knows. The
//!    vmas are dropped last: with one goes the device's knowledge of who maps it, or shared memory itself.
//!
//! Two spaces are locked at once by fork only: the parent, then the child that nobody else has yet. What holds
//! the lock long: unmapping and forking much memory (a page at a time), mprotect of it.

mod fork;
mod remap;
mod revoke;

pub use crate::environment::Environment;
pub use crate::fault::STACK_LIMIT_BYTES;
use crate::lock::SpaceLock;
use crate::pager::{FaultError, Prot, Refusal, Sharing, VmaRequest};
use crate::placement::Layout;
pub use crate::placement::{Placement, STACK_AREA_BYTES};
use crate::range::{MapSize, PAGE_SIZE, VirtRange};
use crate::tables::{KernelHalf, PageTables};
use crate::vma::{Backing, Vma, VmaFlags, VmaHint, VmaSet};
use crate::walk::Walk;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use x86_64::{PhysAddr, VirtAddr};

pub use remap::{Left, RemapRequest};
pub use revoke::Revoked;

/// What `mmap` is asked for.
#[derive(Clone)]
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
            memory: SpaceLock::new(Memory { tables, vmas: VmaSet::default() }),
        }))
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
        check_granule("offset", offset_bytes, MapSize::Size4K)?;
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
        let vma = Vma { range, offset_bytes, backing, name, granule, prot, max_prot, sharing, flags };
        memory.vmas.insert(vma);
        Ok(range.start())
    }

    /// Removes what is mapped in `range` (whole pages, as for all calls here); holes are fine. A cut through an entry
    /// of a device is refused. A refusal changes nothing.
    pub fn munmap(&self, range: VirtRange) -> Result<(), Refusal> {
        let mut memory = self.memory.write();
        memory.vmas.prepare_removal(range)?;
        self.remove(&mut memory, range);
        Ok(())
    }

    /// Changes what the program may do there, at entries of every size. A refusal changes nothing (Linux
    /// changes what lies before the first hole); vmas that have this protection already are no reason to
    /// refuse.
    pub fn mprotect(&self, range: VirtRange, prot: Prot) -> Result<(), Refusal> {
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        vmas.check_mapped(range)?;
        if let Some(vma) = vmas.overlapping(range).find(|vma| !vma.max_prot.contains(prot)) {
            return Err(Refusal::Protection { asked: prot, allowed: vma.max_prot });
        }
        let differs = |vma: &Vma| vma.prot != prot;
        vmas.prepare_update(range, differs)?;
        let owned = self.environment.leaf_flags(prot);
        for vma in vmas.overlapping(range).filter(|vma| differs(vma)) {
            let part = vma.range.intersection(range).expect("it overlaps");
            // What a file shows in place is the file itself: only a copy is ever writable.
            let borrowed = match vma.backing {
                Backing::Device(_) | Backing::Shared(_) => owned,
                _ => self.environment.read_only_flags(prot),
            };
            tables.protect(part, vma.granule, owned, borrowed).acknowledge(self.environment.shootdown);
        }
        vmas.update(range, differs, |vma| vma.prot = prot);
        Ok(())
    }

    /// Drops the entries there (MADV_DONTNEED): anonymous memory is zero again, files and devices show
    /// their bytes again at the next touch. Entries of a device that lie partly inside go too. With a hole
    /// in the range the rest is done, and `NotMapped` names the hole, as on Linux.
    pub fn dont_need(&self, range: VirtRange) -> Result<(), Refusal> {
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        for vma in vmas.overlapping(range) {
            let part = vma.range.intersection(range).expect("it overlaps");
            self.unmap(tables, part, part);
        }
        vmas.check_mapped(range)
    }

    /// Sets and clears marks there (MADV_DONTFORK, MADV_DOFORK). A refusal changes nothing.
    pub fn set_flags(&self, range: VirtRange, set: VmaFlags, clear: VmaFlags) -> Result<(), Refusal> {
        let differs = |vma: &Vma| (vma.flags | set) - clear != vma.flags;
        let mut memory = self.memory.write();
        memory.vmas.check_mapped(range)?;
        memory.vmas.prepare_update(range, differs)?;
        memory.vmas.update(range, differs, |vma| vma.flags = (vma.flags | set) - clear);
        Ok(())
    }

    /// Could the range get attributes of its own (MADV_RANDOM and the like)? Changes nothing.
    pub fn check_split(&self, range: VirtRange) -> Result<(), Refusal> {
        let memory = self.memory.read();
        memory.vmas.check_mapped(range)?;
        memory.vmas.check_cuts(range, |_| true)
    }

    /// Is every page there mapped? `NotMapped` names the first that is not.
    pub fn check_mapped(&self, range: VirtRange) -> Result<(), Refusal> {
        self.memory.read().vmas.check_mapped(range)
    }

    /// Makes stores to the devices mapped there durable (msync). With a hole in the range the rest is done,
    /// and `NotMapped` names the hole. Flushing takes its time, so the lock is not held meanwhile.
    pub fn flush_device(&self, range: VirtRange) -> Result<(), Refusal> {
        self.visit_parts(range, |backing, offset_bytes, len_bytes| match backing {
            Backing::Device(pager) => pager.flush(offset_bytes, len_bytes),
            _ => Ok(()),
        })
    }

    /// Takes the memory of the devices mapped there out of use, as it went bad (MADV_HWPOISON), for all who map it.
    /// `NotPoisoned` for other memory, `NotMapped` for a hole: what lies before is out of use then.
    ///
    /// `goes_on` is asked before each mapping, with nothing held: it may let others run, and leaves out the rest by a
    /// false.
    pub fn poison(&self, range: VirtRange, goes_on: &mut dyn FnMut() -> bool) -> Result<(), Refusal> {
        self.visit_parts(range, |backing, offset_bytes, len_bytes| match backing {
            _ if !goes_on() => Ok(()),
            Backing::Device(pager) => pager.poison(offset_bytes, len_bytes),
            _ => Err(Refusal::NotPoisoned),
        })
    }

    /// Calls `act` with what shows in each part of a range, the offset in it and the length, and with no lock held.
    fn visit_parts(
        &self,
        range: VirtRange,
        mut act: impl FnMut(&Backing, u64, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mapped = self.memory.read().vmas.check_mapped(range);
        let mut rest = Some(range);
        while let Some(range) = rest {
            let Some(vma) = self.memory.read().vmas.overlapping(range).next().cloned() else { break };
            let part = vma.range.intersection(range).expect("it overlaps");
            act(&vma.backing, vma.offset_of(part.start()), part.len_bytes())?;
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
            let (flush, still_mapped) = tables.unmap(range, hole);
            flush.acknowledge(self.environment.shootdown);
            rest = still_mapped;
        }
    }
}

/// What `munmap` calls misaligned is another matter for `mmap`: nothing is wrong with its own arguments.
fn cuts_mapping(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Misaligned { value, align, .. } => Refusal::CutsMapping { address: value, align },
        other => other,
    }
}

fn check_granule(what: &'static str, value: u64, align: MapSize) -> Result<(), Refusal> {
    if align.divides(value) { Ok(()) } else { Err(Refusal::Misaligned { what, value, align }) }
}

#[cfg(test)]
mod tests;
