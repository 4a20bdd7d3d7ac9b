//! The program break: the end of a heap that grows behind the program's image.

use super::errno::Answer;
use super::memory::private;
use super::thread::Thread;
use mm::pager::Prot;
use mm::range::{PAGE_SIZE, USER_END, VirtRange};

/// The end of a program's data, which brk moves.
#[derive(Clone, Copy)]
pub struct ProgramBreak {
    start: u64,
    end: u64,
}

impl ProgramBreak {
    /// An empty heap at `start`, a multiple of the page size.
    pub fn new(start: u64) -> ProgramBreak {
        ProgramBreak { start, end: start }
    }

    /// The heap's addresses, if it has any.
    pub fn range(&self) -> Option<VirtRange> {
        VirtRange::from_bounds(self.start, self.end)
    }
}

/// brk(2): the new end, or the old one when it cannot be had.
pub fn brk(thread: &mut Thread, end: u64) -> Answer {
    let mut program_break = thread.program.program_break.write();
    let ProgramBreak { start, end: old } = *program_break;
    let (Some(old_page), Some(new_page)) = (page_up(old), page_up(end)) else {
        return Ok(old);
    };
    if end < start {
        return Ok(old);
    }
    let space = &thread.space;
    let moved = if new_page > old_page {
        space.mmap(&private(old_page, new_page - old_page, Prot::READ | Prot::WRITE)).map(drop)
    } else if let Some(left) = VirtRange::from_bounds(new_page, old_page) {
        space.munmap(left)
    } else {
        Ok(())
    };
    if moved.is_ok() {
        program_break.end = end;
    }
    Ok(program_break.end)
}

/// Rounds up to pages; `None` when that leaves the program's half.
fn page_up(address: u64) -> Option<u64> {
    address.checked_next_multiple_of(PAGE_SIZE).filter(|&address| address <= USER_END)
}
