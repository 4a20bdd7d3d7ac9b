//! Files in RAM.
//!
//! What the initrd has of a file stays where it is; pages that were written, or mapped shared, are [`SharedPages`]. A
//! shared mapping asks the file for its pages as it would ask a device ([`mm::pager::Pager`]), so that a truncation
//! can take them back. Locks, outermost first:
//!
//! 1. `changes`: one write or change of length at a time. Held while the program's memory is copied.
//! 2. A space's lock: a fault holds it when it asks, and a truncation takes it to revoke.
//! 3. `contents`: nothing else is taken, and no memory of a program is touched, while it is held.
//!
//! So a file gets shorter in three steps: its length, after which no fault finds what is behind it; its mappings;
//! its pages.

mod mapping;

use super::errno::{Answer, Errno};
use super::image::FilePages;
use super::inode::Inode;
use super::io::{fill, write_pages};
use super::memory::{check_reserve, lets_others_in};
use super::node::{END, Node, Seek};
use super::stat::Metadata;
use super::thread::Thread;
use crate::initrd::File;
use crate::machine::machine;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general::{O_TRUNC, S_IFREG};
use mapping::Mapping;
use mm::lock::{Rank, SpaceLock, SpinLock};
use mm::pager::{FaultError, PageSource, Prot, Sharing};
use mm::range::{PAGE_SIZE, PhysRange, USER_END};
use mm::shared::SharedPages;
use mm::space::AddressSpace;
use mm::vma::Backing;

/// The longest file: what a program could map.
const MAX_BYTES: u64 = USER_END;

/// A regular file.
pub struct RamFile {
    inode: Inode,
    /// The path that it was made with, as /proc/self/maps shows it.
    path: Cow<'static, str>,
    initrd: Option<&'static File>,
    changes: SpaceLock<()>,
    contents: SpaceLock<Contents>,
    /// The spaces that map it shared, or did.
    mapped_by: SpinLock<Vec<Weak<AddressSpace>>>,
}

/// The inode of the file behind a mapping, if it is one of these.
pub fn inode_behind(backing: &Backing) -> Option<&Inode> {
    let file: &RamFile = match backing {
        Backing::Private(source) => (&**source as &dyn Any).downcast_ref()?,
        Backing::Device(pager) => &(&**pager as &dyn Any).downcast_ref::<Mapping>()?.0,
        Backing::Anonymous | Backing::Shared(_) => return None,
    };
    Some(&file.inode)
}

/// Its bytes.
struct Contents {
    len_bytes: u64,
    /// What was written, since something was.
    pages: Option<Arc<SharedPages>>,
    /// What shows elsewhere, up to where the file was ever cut.
    initrd: Option<FilePages>,
}

impl Contents {
    fn source(&self) -> Option<&dyn PageSource> {
        self.initrd.as_ref().map(|pages| pages as &dyn PageSource)
    }

    /// Copies the bytes from `position` on.
    fn copy_to(&self, position: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = position + done as u64;
            let end = out.len().min(done + (PAGE_SIZE - at % PAGE_SIZE) as usize);
            let piece = &mut out[done..end];
            if !self.pages.as_ref().is_some_and(|pages| pages.read(at, piece)) {
                match self.source() {
                    Some(initrd) => initrd.fill(at, piece),
                    None => piece.fill(0),
                }
            }
            done = end;
        }
    }

    /// The page at `offset_bytes`, made if it was not written yet.
    fn page(&self, offset_bytes: u64) -> Result<PhysRange, FaultError> {
        let pages = self.pages.as_ref().ok_or(FaultError::NoMemory)?;
        let page = pages.page(offset_bytes, self.source())?;
        PhysRange::new(page.as_u64(), PAGE_SIZE).ok_or(FaultError::Bus)
    }

    /// Gives back the pages behind the end, which nobody maps.
    fn discard_behind_end(&mut self) {
        if let Some(pages) = &mut self.pages {
            let pages = Arc::get_mut(pages).expect("a mapping holds the file, not its pages");
            pages.discard(self.len_bytes.next_multiple_of(PAGE_SIZE));
        }
    }

    /// Writes `bytes`, which end in the page that they begin in.
    fn put(&self, position: u64, bytes: &[u8]) -> Result<(), FaultError> {
        let is_written = || self.pages.as_ref().is_some_and(|pages| pages.write(position, bytes));
        if !is_written() {
            self.page(position - position % PAGE_SIZE)?;
            is_written();
        }
        Ok(())
    }
}

impl RamFile {
    /// A file of the initrd.
    pub fn of_initrd(file: &'static File) -> Arc<RamFile> {
        RamFile::with(Inode::new(S_IFREG | file.mode & 0o7777, file.mtime), file.path.into(), Some(file))
    }

    /// An empty file.
    pub fn new(inode: Inode, path: &str) -> Arc<RamFile> {
        RamFile::with(inode, String::from(path.trim_start_matches('/')).into(), None)
    }

    fn with(inode: Inode, path: Cow<'static, str>, initrd: Option<&'static File>) -> Arc<RamFile> {
        let len_bytes = initrd.map_or(0, |file| file.bytes.len() as u64);
        let contents = Contents { len_bytes, pages: None, initrd: initrd.map(FilePages::whole) };
        Arc::new(RamFile {
            inode,
            path,
            initrd,
            changes: SpaceLock::new(()),
            contents: SpaceLock::new(contents),
            mapped_by: SpinLock::new(Rank::File, Vec::new()),
        })
    }

    /// Takes away what the spaces that map it have of it behind `len_bytes`.
    fn revoke(&self, len_bytes: u64) {
        for next in 0.. {
            // One at a time: a space's lock is taken with no spin lock held.
            let space = match self.mapped_by.lock().get(next) {
                Some(space) => space.upgrade(),
                None => return,
            };
            if let Some(space) = space {
                space.revoke(self.key(), &(len_bytes..u64::MAX));
            }
        }
    }

    /// Names it to [`AddressSpace::revoke`]: its address, which nobody else has while a mapping holds it.
    fn key(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    fn lengthen(&self, end: u64) {
        let mut contents = self.contents.write();
        contents.len_bytes = contents.len_bytes.max(end);
    }

    /// From now on pages can be made.
    fn make_pages(&self) -> Result<(), Errno> {
        check_reserve()?;
        if self.contents.read().pages.is_none() {
            let made = SharedPages::new(MAX_BYTES, machine().memory.frames).ok_or(Errno::ENOSPC)?;
            self.contents.write().pages.get_or_insert(made);
        }
        Ok(())
    }
}

impl Node for Arc<RamFile> {
    fn metadata(&self) -> Metadata {
        Metadata { size_bytes: self.contents.read().len_bytes, ..self.inode.metadata() }
    }

    fn inode(&self) -> Option<&Inode> {
        Some(&self.inode)
    }

    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        if flags & O_TRUNC != 0 {
            self.truncate(0)?;
        }
        Ok(None)
    }

    fn program(&self) -> Option<&'static File> {
        let contents = self.contents.read();
        self.initrd.filter(|file| contents.pages.is_none() && contents.len_bytes == file.bytes.len() as u64)
    }

    fn read(&self, _: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let behind = self.contents.read().len_bytes.saturating_sub(position);
        let mut at = position;
        fill(buffer, count.min(behind), |piece| {
            self.contents.read().copy_to(at, piece);
            at += piece.len() as u64;
        })
    }

    fn write(&self, _: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let _changes = self.changes.write();
        let mut at = if position == END { self.contents.read().len_bytes } else { position };
        if count == 0 {
            return Ok(0);
        }
        let room = MAX_BYTES.checked_sub(at).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        self.make_pages()?;
        let done = write_pages(buffer, count.min(room), |mut piece| {
            while !piece.is_empty() {
                let in_page = (PAGE_SIZE - at % PAGE_SIZE) as usize;
                let (head, tail) = piece.split_at(piece.len().min(in_page));
                self.contents.read().put(at, head).map_err(|_| Errno::ENOSPC)?;
                at += head.len() as u64;
                piece = tail;
            }
            self.lengthen(at);
            if lets_others_in() { Ok(()) } else { Err(Errno::EINTR) }
        });
        self.inode.touch();
        done
    }

    fn truncate(&self, len_bytes: u64) -> Result<(), Errno> {
        if len_bytes > MAX_BYTES {
            return Err(Errno::EFBIG);
        }
        let _changes = self.changes.write();
        let before = core::mem::replace(&mut self.contents.write().len_bytes, len_bytes);
        self.inode.touch();
        if len_bytes > before {
            return Ok(());
        }
        self.revoke(len_bytes);
        let mut contents = self.contents.write();
        let Contents { pages, initrd, .. } = &mut *contents;
        let kept = initrd.as_ref().map_or(0, |pages| pages.len_bytes().min(len_bytes));
        *initrd = self.initrd.map(|file| FilePages::cut(file, kept));
        if let Some(pages) = pages {
            // Should the file grow again, what was there is zeros.
            let in_page = (len_bytes % PAGE_SIZE) as usize;
            if in_page > 0 {
                pages.write(len_bytes, &[0; PAGE_SIZE as usize][in_page..]);
            }
        }
        contents.discard_behind_end();
        Ok(())
    }

    fn allocate(&self, mode: u32, start: u64, end: u64) -> Result<(), Errno> {
        if mode != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if end > MAX_BYTES {
            return Err(Errno::EFBIG);
        }
        let _changes = self.changes.write();
        self.make_pages()?;
        let made = (start - start % PAGE_SIZE..end).step_by(PAGE_SIZE as usize).try_for_each(|page| {
            self.contents.read().page(page).map_err(|_| Errno::ENOSPC)?;
            if lets_others_in() { Ok(()) } else { Err(Errno::EINTR) }
        });
        match made {
            Ok(()) => self.lengthen(end),
            Err(_) => self.contents.write().discard_behind_end(),
        }
        made
    }

    fn seek(&self) -> Seek {
        Seek::Data
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn map(&self, sharing: Sharing) -> Result<(Backing, Prot), Errno> {
        check_reserve()?;
        if sharing == Sharing::Private {
            return Ok((Backing::Private(Arc::<RamFile>::clone(self)), Prot::all()));
        }
        self.make_pages()?;
        Ok((Backing::Device(Arc::new(Mapping(Arc::clone(self)))), Prot::all()))
    }
}
