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
use crate::pager::{Access, FaultError, FaultRequest, Installed, PageSource, Pager, Prot, VmaRequest};
use crate::range::{MapSize, PAGE_SIZE, PhysRange, VirtRange};
use crate::space::{AddressSpace, Environment, FaultNotes, Memory};
use crate::tables::{MAX_MISSING, OWNED, PageTables, Reserve};
use crate::vma::{Backing, STACK_GUARD_BYTES, Vma, VmaFlags, VmaSet};
use core::sync::atomic::Ordering;
use x86_64::structures::paging::PageTableFlags;
use x86_64::{PhysAddr, VirtAddr};

/// The longest that a stack grows (Linux's default RLIMIT_STACK).
pub const STACK_LIMIT_BYTES: u64 = 8 << 20;

/// A fault that was served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// `New`, or `Already`: somebody was faster, or a permission was raised. Never `NeedsTables`.
    pub installed: Installed,
    /// The size of the entry.
    pub size: MapSize,
    /// The vma shows a device.
    pub device: bool,
}

/// What `populate` wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Populated {
    /// New entries of devices, by entry size in the order of [`MapSize::ALL`].
    pub device: [u64; 3],
    /// New pages of anonymous memory and files.
    pub pages: u64,
}

/// Entries that `populate` writes before it lets others in.
const POPULATED_AT_ONCE: u32 = 1024;

/// How far a fault got with the lock held shared.
enum Served {
    Done(Fault),
    /// A page mapped in place has to be replaced by a copy: needs the lock exclusively.
    NeedsCopy,
}

impl AddressSpace {
    /// Serves a page fault at `address`, which may be any canonical address.
    ///
    /// First the case that counts: a device entry whose tables are all there. It reserves nothing, and
    /// starts over as a general fault when it finds anything unusual.
    #[inline]
    pub fn fault(&self, address: VirtAddr, access: Access) -> Result<Fault, FaultError> {
        {
            let memory = self.memory.read();
            let notes = memory.local();
            if let Some(vma) = memory.vmas.find_near(address, &notes.near)
                && let Backing::Device(pager) = &vma.backing
                && allows(vma.prot, access)
                && self.environment.has_entries_of(vma.granule)
            {
                let (tables, flags) = (&memory.tables, self.environment.leaf_flags(vma.prot));
                let install = &mut move |found: PhysRange, size| match tables.try_install(
                    address,
                    found.start(),
                    size,
                    flags,
                ) {
                    true => Installed::New,
                    false => Installed::NeedsTables(MAX_MISSING as u8),
                };
                match pager.fault(&request(vma, address), install) {
                    Ok(Installed::NeedsTables(_)) => {}
                    Ok(installed) => {
                        return Ok(notes.counted(Fault { installed, size: vma.granule, device: true }));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.fault_general(address, access)
    }

    /// The whole fault, again whenever memory was short and some came back: whatever changed while it
    /// waited (a device that died, say) it finds out by looking.
    #[inline(never)]
    fn fault_general(&self, address: VirtAddr, access: Access) -> Result<Fault, FaultError> {
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
    fn fault_once(&self, address: VirtAddr, access: Access) -> Result<Fault, FaultError> {
        let mut reserve = Reserve::new(self.environment.frames);
        {
            let memory = self.memory.read();
            if let Some(vma) = memory.vmas.find_near(address, &memory.local().near)
                && let Served::Done(fault) =
                    serve(self.environment, &memory.tables, vma, address, access, &mut reserve)?
            {
                return Ok(memory.local().counted(fault));
            }
        }
        self.fault_exclusive(address, access, &mut reserve)
    }

    /// Entries of devices written so far, by entry size in the order of [`MapSize::ALL`]: by faults of the program
    /// and of the kernel's copies, and in advance.
    pub fn device_entries(&self) -> [u64; 3] {
        let mut sums = [0; 3];
        for notes in self.memory.locals() {
            for (sum, count) in sums.iter_mut().zip(&notes.device_entries) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        sums
    }

    /// Faults in all of `range` (MAP_POPULATE, MADV_POPULATE_READ and _WRITE) and tells what that wrote. It
    /// stops at the first failure: MAP_POPULATE keeps quiet about it, madvise reports it.
    ///
    /// `goes_on` is asked after every thousand entries or so, with nothing held: it may let others run, and
    /// ends the work by a false.
    pub fn populate(
        &self,
        range: VirtRange,
        access: Access,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> (Populated, Result<(), FaultError>) {
        let (mut address, mut populated) = (range.start(), Populated::default());
        let frames = self.environment.frames;
        loop {
            let began = frames.moment();
            match self.populate_from(&mut address, range.end(), access, &mut populated) {
                Err(FaultError::NoMemory) if frames.wait_for_returning(began) => {}
                Ok(()) if address < range.end() && goes_on() => {}
                result => return (populated, result),
            }
        }
    }

    /// Moves `address` on as far as it gets, or by [`POPULATED_AT_ONCE`] entries; returns with no lock and no frame in
    /// its hands.
    fn populate_from(
        &self,
        address: &mut VirtAddr,
        end: VirtAddr,
        access: Access,
        populated: &mut Populated,
    ) -> Result<(), FaultError> {
        let mut reserve = Reserve::new(self.environment.frames);
        let mut left = POPULATED_AT_ONCE;
        while *address < end && left > 0 {
            let memory = self.memory.read();
            // All that can be done under one shared lock, in one pass.
            while *address < end && left > 0 {
                left -= 1;
                let vma =
                    memory.vmas.find_near(*address, &memory.local().near).ok_or(FaultError::NotMapped)?;
                match serve(self.environment, &memory.tables, vma, *address, access, &mut reserve)? {
                    Served::Done(fault) => populated.count(memory.local().counted(fault)),
                    Served::NeedsCopy => break,
                }
                *address = address.align_down(vma.granule.bytes()) + vma.granule.bytes();
            }
            drop(memory);
            if *address < end && left > 0 {
                populated.count(self.fault_exclusive(*address, access, &mut reserve)?);
                *address = address.align_down(PAGE_SIZE) + PAGE_SIZE;
            }
        }
        Ok(())
    }

    #[cold]
    fn fault_exclusive(
        &self,
        address: VirtAddr,
        access: Access,
        reserve: &mut Reserve<'_>,
    ) -> Result<Fault, FaultError> {
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        if vmas.find(address).is_none() {
            grow_stack(vmas, address)?;
        }
        let vma = vmas.find(address).ok_or(FaultError::NotMapped)?;
        if let Served::Done(fault) = serve(self.environment, tables, vma, address, access, reserve)? {
            return Ok(self.memory.local().counted(fault));
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
        let flags = self.environment.leaf_flags(vma.prot);
        self.unmap(tables, page, page);
        install_owned(tables, start, frame, flags, reserve)
    }
}

impl FaultNotes {
    /// Counts an entry of a device that was written.
    #[inline]
    fn counted(&self, fault: Fault) -> Fault {
        if fault.device && fault.installed == Installed::New {
            self.device_entries[fault.size as usize].fetch_add(1, Ordering::Relaxed);
        }
        fault
    }
}

impl Populated {
    fn count(&mut self, fault: Fault) {
        match fault {
            Fault { installed: Installed::New, device: true, size } => {
                self.device[MapSize::ALL.iter().position(|&one| one == size).unwrap_or(0)] += 1;
            }
            Fault { installed: Installed::New, .. } => self.pages += 1,
            _ => {}
        }
    }
}

/// Maps what `vma` shows at `address`, as far as that goes with the lock held shared.
fn serve(
    environment: &Environment,
    tables: &PageTables,
    vma: &Vma,
    address: VirtAddr,
    access: Access,
    reserve: &mut Reserve<'_>,
) -> Result<Served, FaultError> {
    if !allows(vma.prot, access) {
        return Err(FaultError::Protection);
    }
    match &vma.backing {
        Backing::Device(_) if !environment.has_entries_of(vma.granule) => Err(FaultError::Bus),
        Backing::Device(pager) => {
            let flags = environment.leaf_flags(vma.prot);
            serve_device(tables, vma, pager.as_ref(), address, flags, reserve)
        }
        Backing::Anonymous => serve_page(environment, tables, vma, None, address, access, reserve),
        Backing::Private(source) => {
            serve_page(environment, tables, vma, Some(source.as_ref()), address, access, reserve)
        }
        Backing::Shared(pages) => {
            let page = address.align_down(PAGE_SIZE);
            let memory = pages.page(vma.offset_of(page), reserve)?;
            let flags = environment.leaf_flags(vma.prot);
            install_page(tables, page, memory, flags, reserve).map(Served::Done)
        }
    }
}

/// Asks the pager, which pins and calls back with what to map; again, with a reserve, when tables are
/// missing.
fn serve_device(
    tables: &PageTables,
    vma: &Vma,
    pager: &dyn Pager,
    address: VirtAddr,
    flags: PageTableFlags,
    reserve: &mut Reserve<'_>,
) -> Result<Served, FaultError> {
    loop {
        let installed = pager.fault(&request(vma, address), &mut |found, size| {
            debug_assert_eq!(size, vma.granule, "a pager maps in entries of its granule");
            tables.install(address, found.start(), size, flags, reserve)
        })?;
        match installed {
            Installed::NeedsTables(count) => refill(reserve, count.into())?,
            _ => return Ok(Served::Done(Fault { installed, size: vma.granule, device: true })),
        }
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
fn request(vma: &Vma, address: VirtAddr) -> FaultRequest {
    let Vma { range, offset_bytes, sharing, .. } = *vma;
    FaultRequest { vma: VmaRequest { range, offset_bytes, sharing }, address }
}

fn refill(reserve: &mut Reserve<'_>, count: usize) -> Result<(), FaultError> {
    if reserve.fill(count) { Ok(()) } else { Err(FaultError::NoMemory) }
}

/// Maps one page of a file in place, or one of the program's own: a copy of the file's, or zeros (`None`).
fn serve_page(
    environment: &Environment,
    tables: &PageTables,
    vma: &Vma,
    source: Option<&dyn PageSource>,
    address: VirtAddr,
    access: Access,
    reserve: &mut Reserve<'_>,
) -> Result<Served, FaultError> {
    let page = address.align_down(PAGE_SIZE);
    if let Some(leaf) = tables.leaf(page) {
        if access != Access::Write || leaf.flags.contains(PageTableFlags::WRITABLE) {
            return Ok(Served::Done(new_page(Installed::Already)));
        }
        if !leaf.flags.contains(OWNED) || environment.frames.is_shared(leaf.phys) {
            return Ok(Served::NeedsCopy);
        }
        // The other owners are gone. Only a fork of this space could share it anew, and that needs the lock.
        let flags = environment.leaf_flags(vma.prot) | OWNED;
        return install_page(tables, page, leaf.phys, flags, reserve).map(Served::Done);
    }
    let offset_bytes = vma.offset_of(page);
    let in_place = match source {
        Some(source) if offset_bytes >= source.len_bytes() => return Err(FaultError::Bus),
        Some(source) if access != Access::Write => source.page_in_place(offset_bytes),
        _ => None,
    };
    if let Some(memory) = in_place {
        let flags = environment.read_only_flags(vma.prot);
        return install_page(tables, page, memory.start(), flags, reserve).map(Served::Done);
    }
    let frame = own_page(environment.frames, source, offset_bytes)?;
    install_owned(tables, page, frame, environment.leaf_flags(vma.prot), reserve).map(Served::Done)
}

/// A frame with a copy of the file's page at `offset_bytes`, or with zeros.
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

/// Maps a frame that the space owns from now on; it is freed when somebody was faster.
fn install_owned(
    tables: &PageTables,
    page: VirtAddr,
    frame: Frame,
    flags: PageTableFlags,
    reserve: &mut Reserve<'_>,
) -> Result<Fault, FaultError> {
    let result = install_page(tables, page, frame.address(), flags | OWNED, reserve);
    if !matches!(result, Ok(Fault { installed: Installed::New, .. })) {
        reserve.frames().free(frame);
    }
    result
}

fn install_page(
    tables: &PageTables,
    page: VirtAddr,
    memory: PhysAddr,
    flags: PageTableFlags,
    reserve: &mut Reserve<'_>,
) -> Result<Fault, FaultError> {
    loop {
        match tables.install(page, memory, MapSize::Size4K, flags, reserve) {
            Installed::NeedsTables(count) => refill(reserve, count.into())?,
            installed => return Ok(new_page(installed)),
        }
    }
}

fn new_page(installed: Installed) -> Fault {
    Fault { installed, size: MapSize::Size4K, device: false }
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
    vmas.grow_down(old.start(), start);
    Ok(())
}
