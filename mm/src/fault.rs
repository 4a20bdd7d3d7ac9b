//! Page faults: the hot path of the house.
//!
//! A fault holds the space's lock shared, so any number run at once; they meet at the compare-exchange in
//! `PageTables::install`. Two rare cases start over with the lock held exclusively: a stack grows, and a
//! page of a file that is mapped in place, or a page that others own too since a fork, is replaced by the
//! program's own copy (clear, shoot down, then map: no CPU may go on reading the old page while another writes
//! the new one).
//!
//! Device faults reserve, then pin (`pager` module head): the pager pins, so the frames that `install` may
//! need are reserved before it is asked again. When there is no frame the fault lets go of everything, waits for
//! frames that are on their way back, and starts over.

use crate::frames::{Frame, FrameAllocator};
use crate::pager::{Access, FaultError, Installed, PageSource, Pager, Prot, VmaRequest};
use crate::range::{PAGE_SIZE, VirtRange};
use crate::reserve::{MAX_MISSING, Reserve};
use crate::space::{AddressSpace, Environment, FaultNotes, Memory};
use crate::tables::{OWNED, PageTables};
use crate::vma::{Backing, STACK_GUARD_BYTES, Vma, VmaFlags, VmaSet};
use core::sync::atomic::Ordering;
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags;

/// The longest that a stack grows (Linux's default RLIMIT_STACK).
pub const STACK_LIMIT_BYTES: u64 = 8 << 20;

impl AddressSpace {
    /// Serves a page fault at `address`, which may be any canonical address: `New`, or `Already` when somebody was
    /// faster or a permission was raised, never `NeedsTables`.
    ///
    /// First the case that counts; it starts over as a general fault when it finds anything unusual.
    pub fn fault(&self, address: VirtAddr, access: Access) -> Result<Installed, FaultError> {
        {
            let memory = self.memory.read();
            let notes = memory.local();
            if let Some(vma) = memory.vmas.find_near(address, &notes.near) {
                match self.serve_quickly(&memory.tables, vma, address, access) {
                    Ok(Installed::NeedsTables(_)) => {}
                    result => return result.map(|installed| notes.counted(vma, installed)),
                }
            }
        }
        self.fault_general(address, access)
    }

    /// Maps a device's entry whose tables are all there; it reserves nothing. `NeedsTables`, and nothing has happened,
    /// when that is not so, or when it is no device's.
    #[inline]
    pub(crate) fn serve_quickly(
        &self,
        tables: &PageTables,
        vma: &Vma,
        address: VirtAddr,
        access: Access,
    ) -> Result<Installed, FaultError> {
        const SLOWLY: Installed = Installed::NeedsTables(MAX_MISSING as u8);
        match &vma.backing {
            Backing::Device(pager)
                if allows(vma.prot, access) && self.environment.has_entries_of(vma.granule) =>
            {
                let flags = self.environment.leaf_flags(vma.prot);
                pager.fault(entry_offset(vma, address)?, &mut move |found, size| {
                    let written = tables.try_install(address, found.start(), size, flags);
                    if written { Installed::New } else { SLOWLY }
                })
            }
            _ => Ok(SLOWLY),
        }
    }

    /// The whole fault, again whenever memory was short and some came back: whatever changed while it
    /// waited (a device that died, say) it finds out by looking.
    #[inline(never)]
    fn fault_general(&self, address: VirtAddr, access: Access) -> Result<Installed, FaultError> {
        let frames = self.environment.frames;
        loop {
            let began = frames.moment();
            match self.fault_once(address, access) {
                Err(FaultError::NoMemory) if frames.wait_for_returning(began) => {}
                other => return other,
            }
        }
    }

    /// Returns with no lock and no frame in its hands.
    fn fault_once(&self, address: VirtAddr, access: Access) -> Result<Installed, FaultError> {
        let mut reserve = Reserve::new(self.environment.frames);
        {
            let memory = self.memory.read();
            if let Some(vma) = memory.vmas.find_near(address, &memory.local().near)
                && let Some(installed) = self.serve(&memory.tables, vma, address, access, &mut reserve)?
            {
                return Ok(installed);
            }
        }
        self.fault_exclusive(address, access, &mut reserve)
    }

    /// Maps what `vma` shows at `address`, as far as that goes with the lock held shared. `None`: a page has to be
    /// replaced by a copy, which needs the lock exclusively.
    pub(crate) fn serve(
        &self,
        tables: &PageTables,
        vma: &Vma,
        address: VirtAddr,
        access: Access,
        reserve: &mut Reserve<'_>,
    ) -> Result<Option<Installed>, FaultError> {
        let served = Miss { environment: self.environment, tables, vma, address, reserve }.serve(access)?;
        Ok(served.map(|installed| self.memory.local().counted(vma, installed)))
    }

    /// Entries of devices written so far, by size in the order of [`MapSize::ALL`](crate::range::MapSize::ALL): by
    /// faults of the program and of the kernel's copies, and in advance.
    pub fn device_entries(&self) -> [u64; 3] {
        let mut sums = [0; 3];
        for notes in self.memory.locals() {
            for (sum, count) in sums.iter_mut().zip(&notes.device_entries) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        sums
    }

    #[cold]
    pub(crate) fn fault_exclusive(
        &self,
        address: VirtAddr,
        access: Access,
        reserve: &mut Reserve<'_>,
    ) -> Result<Installed, FaultError> {
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        if vmas.find(address).is_none() {
            grow_stack(vmas, address)?;
        }
        let vma = vmas.find(address).ok_or(FaultError::NotMapped)?;
        if let Some(installed) = self.serve(tables, vma, address, access, reserve)? {
            return Ok(installed);
        }
        let start = address.align_down(PAGE_SIZE);
        let page = VirtRange::new(start.as_u64(), PAGE_SIZE).ok_or(FaultError::NotMapped)?;
        let frames = self.environment.frames;
        let frame = match (tables.leaf(start), &vma.backing) {
            (Some(leaf), _) if leaf.flags.contains(OWNED) => {
                frames.allocate_copy(leaf.phys).ok_or(FaultError::NoMemory)?
            }
            (_, Backing::Private(source)) => own_page(frames, Some(source.as_ref()), vma.offset_of(start))?,
            _ => return Err(FaultError::Bus),
        };
        self.unmap(tables, page, page);
        let flags = self.environment.leaf_flags(vma.prot);
        tables.install_owned(start, frame, flags, reserve)
    }
}

impl FaultNotes {
    /// Passes on what became of an entry; one of a device that was written counts.
    #[inline]
    pub(crate) fn counted(&self, vma: &Vma, installed: Installed) -> Installed {
        if installed == Installed::New && matches!(vma.backing, Backing::Device(_)) {
            self.device_entries[vma.granule as usize].fetch_add(1, Ordering::Relaxed);
        }
        installed
    }
}

/// A fault that found its vma, and what it takes to serve it.
struct Miss<'a, 'r> {
    environment: &'a Environment,
    tables: &'a PageTables,
    vma: &'a Vma,
    address: VirtAddr,
    reserve: &'a mut Reserve<'r>,
}

impl Miss<'_, '_> {
    /// `None`: the page has to be replaced by a copy.
    fn serve(self, access: Access) -> Result<Option<Installed>, FaultError> {
        let Miss { environment, tables, vma, .. } = self;
        if !allows(vma.prot, access) {
            return Err(FaultError::Protection);
        }
        let flags = environment.leaf_flags(vma.prot);
        match &vma.backing {
            Backing::Device(_) if !environment.has_entries_of(vma.granule) => Err(FaultError::Bus),
            Backing::Device(pager) => self.serve_device(pager.as_ref(), flags).map(Some),
            Backing::Anonymous => self.serve_page(None, access, flags),
            Backing::Private(source) => self.serve_page(Some(source.as_ref()), access, flags),
            Backing::Shared(pages) => {
                let page = self.address.align_down(PAGE_SIZE);
                let memory = pages.page_with(vma.offset_of(page), None, self.reserve)?;
                tables.install_page(page, memory, flags, self.reserve).map(Some)
            }
        }
    }

    /// Asks the pager, which pins and calls back with what to map; again, with a reserve, when tables are
    /// missing.
    fn serve_device(self, pager: &dyn Pager, flags: PageTableFlags) -> Result<Installed, FaultError> {
        let Miss { tables, vma, address, reserve, .. } = self;
        let offset_bytes = entry_offset(vma, address)?;
        loop {
            let installed = pager.fault(offset_bytes, &mut |found, size| {
                debug_assert_eq!(size, vma.granule, "a pager maps in entries of its granule");
                tables.install(address, found.start(), size, flags, reserve)
            })?;
            match installed {
                Installed::NeedsTables(0) => return Err(FaultError::NoMemory),
                Installed::NeedsTables(count) => reserve.fill(count.into())?,
                _ => return Ok(installed),
            }
        }
    }

    /// Maps one page of a file in place, or one of the program's own: a copy of the file's, or zeros (no `source`).
    fn serve_page(
        self,
        source: Option<&dyn PageSource>,
        access: Access,
        flags: PageTableFlags,
    ) -> Result<Option<Installed>, FaultError> {
        let Miss { environment, tables, vma, address, reserve } = self;
        let page = address.align_down(PAGE_SIZE);
        if let Some(leaf) = tables.leaf(page) {
            if access != Access::Write || leaf.flags.contains(PageTableFlags::WRITABLE) {
                return Ok(Some(Installed::Already));
            }
            if !leaf.flags.contains(OWNED) || environment.frames.is_shared(leaf.phys) {
                return Ok(None);
            }
            // The other owners are gone. Only a fork of this space could share it anew, and that needs the lock.
            return tables.install_page(page, leaf.phys, flags | OWNED, reserve).map(Some);
        }
        let offset_bytes = vma.offset_of(page);
        let in_place = match source {
            Some(source) if offset_bytes >= source.len_bytes() => return Err(FaultError::Bus),
            Some(source) if access != Access::Write => source.page_in_place(offset_bytes),
            _ => None,
        };
        if let Some(memory) = in_place {
            let flags = environment.read_only_flags(vma.prot);
            return tables.install_page(page, memory.start(), flags, reserve).map(Some);
        }
        let frame = own_page(environment.frames, source, offset_bytes)?;
        tables.install_owned(page, frame, flags, reserve).map(Some)
    }
}

/// Write and execute imply read on x86; PROT_NONE allows nothing.
#[inline]
fn allows(prot: Prot, access: Access) -> bool {
    match access {
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Execute => prot.contains(Prot::EXEC),
    }
}

#[inline]
fn entry_offset(vma: &Vma, address: VirtAddr) -> Result<u64, FaultError> {
    let Vma { range, offset_bytes, sharing, granule, .. } = *vma;
    VmaRequest { range, offset_bytes, sharing }.entry_offset(address, granule).ok_or(FaultError::Bus)
}

/// A frame with a copy of the file's page at `offset_bytes`, or with zeros.
#[inline]
pub(crate) fn own_page(
    frames: &FrameAllocator,
    source: Option<&dyn PageSource>,
    offset_bytes: u64,
) -> Result<Frame, FaultError> {
    let mut frame = frames.allocate_for_program().ok_or(FaultError::NoMemory)?;
    let page = frames.bytes_mut(&mut frame);
    match source {
        Some(source) => source.fill(offset_bytes, page),
        None => page.fill(0),
    }
    Ok(frame)
}

/// Extends the stack above `address` down to its page, as far as the limit and the guard below allow.
fn grow_stack(vmas: &mut VmaSet, address: VirtAddr) -> Result<(), FaultError> {
    let stack = vmas.at_or_above(address).ok_or(FaultError::NotMapped)?;
    let (old, is_stack) = (stack.range, stack.flags.contains(VmaFlags::GROWS_DOWN));
    let start = address.align_down(PAGE_SIZE);
    let fits = old.end() - start <= STACK_LIMIT_BYTES
        // What nobody can touch is a guard itself.
        && vmas.below(start).is_none_or(|vma| {
            vma.prot.is_empty() || start - vma.range.end() >= STACK_GUARD_BYTES
        });
    if !is_stack || !fits {
        return Err(FaultError::NotMapped);
    }
    let grown = VirtRange::from_bounds(start.as_u64(), old.end().as_u64()).ok_or(FaultError::NotMapped)?;
    vmas.resize(old.start(), grown);
    Ok(())
}
