//! From a plan to mappings, and the file pages behind them.

use super::{Plan, Segment, page_down, page_up};
use crate::initrd::File;
use crate::linux::memory::private;
use alloc::sync::Arc;
use core::fmt;
use mm::pager::{PageSource, Refusal};
use mm::range::{PAGE_SIZE, PhysRange};
use mm::space::{AddressSpace, MapRequest};
use mm::vma::Backing;

impl Plan<'_> {
    /// Maps the segments of `file` where nothing is, `bias_bytes` higher than the headers say.
    ///
    /// `bias_bytes` is what [`Plan::bias`] gave (it may wrap around 0). A refusal leaves the space half
    /// filled: the caller drops it.
    pub fn map(&self, file: &'static File, space: &AddressSpace, bias_bytes: u64) -> Result<(), Refusal> {
        self.segments.iter().try_for_each(|segment| segment.map(file, space, bias_bytes))
    }
}

impl Segment {
    fn map(&self, file: &'static File, space: &AddressSpace, bias_bytes: u64) -> Result<(), Refusal> {
        let start = self.first_page();
        let file_end = match self.file_bytes {
            0 => start,
            bytes => page_up(self.address + bytes),
        };
        let map = |start: u64, end: u64, backing: Backing, offset_bytes: u64| {
            let place = private(start.wrapping_add(bias_bytes), end - start, self.prot);
            space.mmap(&MapRequest { backing, offset_bytes, ..place }).map(drop)
        };
        if file_end > start {
            // Where zeros follow the segment's last file byte, the file ends there for this mapping: the rest of
            // the page is then zero without anybody clearing it.
            let pages = match self.memory_bytes > self.file_bytes {
                true => FilePages::cut(file, self.offset_bytes + self.file_bytes),
                false => FilePages::whole(file),
            };
            map(start, file_end, Backing::Private(Arc::new(pages)), page_down(self.offset_bytes))?;
        }
        if self.last_page_end() > file_end {
            map(file_end, self.last_page_end(), Backing::Anonymous, 0)?;
        }
        Ok(())
    }
}

/// The pages of an initrd file, for private mappings.
pub struct FilePages {
    file: &'static File,
    len_bytes: u64,
}

impl FilePages {
    /// All of the file.
    pub fn whole(file: &'static File) -> FilePages {
        FilePages { file, len_bytes: file.bytes.len() as u64 }
    }

    /// The file as if it ended after `len_bytes`.
    pub fn cut(file: &'static File, len_bytes: u64) -> FilePages {
        FilePages { file, len_bytes: len_bytes.min(file.bytes.len() as u64) }
    }

    fn bytes(&self) -> &'static [u8] {
        self.file.bytes.get(..self.len_bytes as usize).unwrap_or(self.file.bytes)
    }
}

impl PageSource for FilePages {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn page_in_place(&self, offset_bytes: u64) -> Option<PhysRange> {
        // The last, partial page is always copied: what follows it in the initrd is another file's.
        let end = offset_bytes.checked_add(PAGE_SIZE)?;
        let start = self.file.phys?.start().as_u64().checked_add(offset_bytes)?;
        if end > self.len_bytes || start % PAGE_SIZE != 0 {
            return None;
        }
        PhysRange::new(start, PAGE_SIZE)
    }

    fn fill(&self, offset_bytes: u64, page: &mut [u8]) {
        let start = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
        let bytes = self.bytes().get(start..).unwrap_or(&[]);
        let filled = bytes.len().min(page.len());
        let (head, tail) = page.split_at_mut(filled);
        head.copy_from_slice(bytes.split_at(filled).0);
        tail.fill(0);
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/{}", self.file.path)
    }
}
