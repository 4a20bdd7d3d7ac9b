//! Executable files: what an ELF image asks for, and the mappings that give it that.
//!
//! [`Plan::parse`] is pure: bytes in, checked segments out; nothing is mapped before every header has been
//! looked at. [`Plan::map`] then makes one mapping per segment part, all lazy: pages of the file that are
//! only read are shown where the initrd lies, written ones are copied at the first store, and the part of a
//! segment behind its file bytes is anonymous.
//!
//! An image goes to a fixed address (ET_EXEC) or anywhere (ET_DYN: PIE, and the dynamic loader that a program names as
//! its interpreter, an image of its own). Sources: System V gABI chapters 4 and 5, AMD64 psABI, Linux
//! fs/binfmt_elf.c.

mod error;
mod map;

pub use error::ImageError;
pub use map::FilePages;

use alloc::vec::Vec;
use core::ffi::CStr;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::segment::{ProgramHeader, SegmentTable};
use linux_raw_sys::general::PATH_MAX;
use mm::pager::Prot;
use mm::range::{PAGE_SIZE, VirtRange};

/// Bytes of an ELF64 file header.
const FILE_HEADER_BYTES: usize = 64;
/// Bytes of an ELF64 program header.
const PROGRAM_HEADER_BYTES: u16 = 56;
/// More program headers than any linker writes.
const MAX_PROGRAM_HEADERS: u16 = 128;
/// The longest image that is placed for the program (32 TiB): it fits between the lowest place and the stack.
const MAX_SPAN_BYTES: u64 = 1 << 45;

/// Where an image goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// At the addresses in its headers (ET_EXEC).
    Fixed,
    /// Anywhere: all addresses in the headers count from a base (ET_DYN).
    PositionIndependent,
}

/// One PT_LOAD segment, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First address, before the base is added; same offset in its page as `offset_bytes`.
    pub address: u64,
    /// First byte in the file.
    pub offset_bytes: u64,
    /// Bytes that come from the file; the range lies inside the file.
    pub file_bytes: u64,
    /// Bytes in memory, at least 1 and at least `file_bytes`; what the file does not fill is zero.
    pub memory_bytes: u64,
    /// Never both WRITE and EXEC.
    pub prot: Prot,
}

impl Segment {
    /// First byte behind the segment. [`Plan::parse`] has checked that it does not wrap.
    pub fn end(&self) -> u64 {
        self.address + self.memory_bytes
    }

    fn first_page(&self) -> u64 {
        page_down(self.address)
    }

    fn last_page_end(&self) -> u64 {
        page_up(self.end())
    }
}

/// What an image asks for, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan<'a> {
    /// Fixed or movable.
    pub kind: Kind,
    /// First instruction, in an executable segment, before the base is added.
    pub entry: u64,
    /// By address, on pages of their own, at least one.
    pub segments: Vec<Segment>,
    /// Where the program finds its program headers (AT_PHDR), if a segment holds them.
    pub headers: Option<u64>,
    /// How many there are (AT_PHNUM).
    pub header_count: u16,
    /// The largest alignment of a segment: the base of a movable image is a multiple of it.
    pub align_bytes: u64,
    /// The program that runs first and loads this one's libraries (PT_INTERP): a path.
    pub interpreter: Option<&'a str>,
    /// PT_GNU_STACK asks for an executable stack, which it does not get.
    pub wants_executable_stack: bool,
}

impl<'a> Plan<'a> {
    /// Checks an ELF file and works out what must be mapped. `bytes` is the whole file, from anybody.
    pub fn parse(bytes: &'a [u8]) -> Result<Plan<'a>, ImageError> {
        let header = parse_file_header(bytes)?;
        let kind = match header.e_type {
            abi::ET_EXEC => Kind::Fixed,
            abi::ET_DYN => Kind::PositionIndependent,
            other => return Err(ImageError::Type(other)),
        };
        let mut plan = Plan {
            kind,
            entry: header.e_entry,
            segments: Vec::new(),
            headers: None,
            header_count: header.e_phnum,
            align_bytes: PAGE_SIZE,
            interpreter: None,
            wants_executable_stack: false,
        };
        for program_header in program_headers(&header, bytes)?.iter() {
            plan.add(&program_header, header.e_phoff, bytes)?;
        }
        plan.check()?;
        Ok(plan)
    }

    /// First page of the image.
    pub fn low(&self) -> u64 {
        self.segments.first().map_or(0, Segment::first_page)
    }

    /// First address behind the last page of the image.
    pub fn high(&self) -> u64 {
        self.segments.last().map_or(0, Segment::last_page_end)
    }

    /// How far to move the image up so that it starts at or just below `target`: 0 for a fixed one, else a
    /// multiple of its alignment. Add it wrapping: headers may count from a higher address than `target`.
    pub fn bias(&self, target: u64) -> u64 {
        match self.kind {
            Kind::Fixed => 0,
            Kind::PositionIndependent => target.wrapping_sub(self.low()) & !(self.align_bytes - 1),
        }
    }

    fn add(&mut self, header: &ProgramHeader, table_offset: u64, file: &'a [u8]) -> Result<(), ImageError> {
        match header.p_type {
            // The first counts, as on Linux.
            abi::PT_INTERP if self.interpreter.is_none() => {
                self.interpreter = Some(interpreter_path(header, file)?);
            }
            abi::PT_GNU_STACK => self.wants_executable_stack = header.p_flags & abi::PF_X != 0,
            abi::PT_LOAD if header.p_memsz == 0 && header.p_filesz == 0 => {}
            abi::PT_LOAD => {
                let segment = check_segment(header, self.kind, file.len() as u64)?;
                if table_offset >= segment.offset_bytes {
                    let inside = table_offset - segment.offset_bytes;
                    // Both numbers are below the file's length, and the segment's end does not wrap.
                    let table_bytes = u64::from(self.header_count) * u64::from(PROGRAM_HEADER_BYTES);
                    if inside + table_bytes <= segment.file_bytes {
                        self.headers = Some(segment.address + inside);
                    }
                }
                self.align_bytes = self.align_bytes.max(header.p_align);
                self.segments.push(segment);
            }
            _ => {}
        }
        Ok(())
    }

    /// The checks that need all segments; sorts them.
    fn check(&mut self) -> Result<(), ImageError> {
        if self.segments.is_empty() {
            return Err(ImageError::NoSegment);
        }
        self.segments.sort_unstable_by_key(|segment| segment.address);
        for (first, second) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            if second.first_page() < first.last_page_end() {
                return Err(ImageError::Overlap { first: first.address, second: second.address });
            }
        }
        let span = self.high() - self.low();
        if self.kind == Kind::PositionIndependent && span > MAX_SPAN_BYTES {
            return Err(ImageError::Span { bytes: span });
        }
        let executable = |segment: &Segment| {
            segment.prot.contains(Prot::EXEC) && (segment.address..segment.end()).contains(&self.entry)
        };
        if !self.segments.iter().any(executable) {
            return Err(ImageError::Entry { address: self.entry });
        }
        Ok(())
    }
}

fn parse_file_header(bytes: &[u8]) -> Result<FileHeader<LittleEndian>, ImageError> {
    let truncated = ImageError::Truncated { len_bytes: bytes.len() as u64 };
    let header = bytes.first_chunk::<FILE_HEADER_BYTES>().ok_or(truncated)?;
    let [m0, m1, m2, m3, class, order, version, osabi, abi_version, ..] = *header;
    if [m0, m1, m2, m3] != abi::ELFMAGIC {
        let is_script = [m0, m1] == *b"#!";
        return Err(if is_script { ImageError::Script } else { ImageError::Magic([m0, m1, m2, m3]) });
    }
    if class != abi::ELFCLASS64 {
        return Err(ImageError::Class(class));
    }
    if order != abi::ELFDATA2LSB {
        return Err(ImageError::ByteOrder(order));
    }
    if version != abi::EV_CURRENT {
        return Err(ImageError::Version(version));
    }
    let (_, tail) = header.split_at(abi::EI_NIDENT);
    let header = FileHeader::parse_tail((LittleEndian, Class::ELF64, osabi, abi_version), tail)
        .map_err(|_| truncated)?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(ImageError::Machine(header.e_machine));
    }
    Ok(header)
}

fn program_headers<'a>(
    header: &FileHeader<LittleEndian>,
    bytes: &'a [u8],
) -> Result<SegmentTable<'a, LittleEndian>, ImageError> {
    if header.e_phentsize != PROGRAM_HEADER_BYTES {
        return Err(ImageError::HeaderSize(header.e_phentsize));
    }
    if header.e_phnum == 0 || header.e_phnum > MAX_PROGRAM_HEADERS {
        return Err(ImageError::HeaderCount(header.e_phnum));
    }
    let table_bytes = usize::from(header.e_phnum) * usize::from(PROGRAM_HEADER_BYTES);
    usize::try_from(header.e_phoff)
        .ok()
        .and_then(|start| bytes.get(start..start.checked_add(table_bytes)?))
        .map(|table| SegmentTable::new(LittleEndian, Class::ELF64, table))
        .ok_or(ImageError::HeadersBeyondFile { offset_bytes: header.e_phoff, len_bytes: bytes.len() as u64 })
}

fn check_segment(header: &ProgramHeader, kind: Kind, len_bytes: u64) -> Result<Segment, ImageError> {
    let ProgramHeader { p_offset, p_vaddr, p_filesz, p_memsz, p_flags, p_align, .. } = *header;
    if p_filesz > p_memsz {
        return Err(ImageError::FileLargerThanMemory {
            address: p_vaddr,
            file_bytes: p_filesz,
            memory_bytes: p_memsz,
        });
    }
    if p_offset.checked_add(p_filesz).is_none_or(|end| end > len_bytes) {
        return Err(ImageError::BeyondFile { offset_bytes: p_offset, file_bytes: p_filesz, len_bytes });
    }
    // 0 and 1 both mean "none". Beyond 1 GiB there is nothing to align for.
    if p_align > 1 << 30 || (p_align != 0 && !p_align.is_power_of_two()) {
        return Err(ImageError::Align { address: p_vaddr, align_bytes: p_align });
    }
    if p_vaddr % PAGE_SIZE != p_offset % PAGE_SIZE {
        return Err(ImageError::Congruence { address: p_vaddr, offset_bytes: p_offset });
    }
    // A movable image may start at 0: it is moved. Nothing is ever mapped at the null page.
    let lowest = if kind == Kind::Fixed { PAGE_SIZE } else { 0 };
    if p_vaddr < lowest || VirtRange::new(p_vaddr, p_memsz).is_none() {
        return Err(ImageError::Address { address: p_vaddr, memory_bytes: p_memsz });
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, p_flags & abi::PF_R != 0);
    prot.set(Prot::WRITE, p_flags & abi::PF_W != 0);
    prot.set(Prot::EXEC, p_flags & abi::PF_X != 0);
    if prot.contains(Prot::WRITE | Prot::EXEC) {
        return Err(ImageError::WritableAndExecutable { address: p_vaddr });
    }
    Ok(Segment {
        address: p_vaddr,
        offset_bytes: p_offset,
        file_bytes: p_filesz,
        memory_bytes: p_memsz,
        prot,
    })
}

fn interpreter_path<'a>(header: &ProgramHeader, file: &'a [u8]) -> Result<&'a str, ImageError> {
    let ProgramHeader { p_offset, p_filesz, .. } = *header;
    let bytes = || file.get(usize::try_from(p_offset).ok()?..)?.get(..usize::try_from(p_filesz).ok()?);
    // Longer ones are refused, as on Linux.
    let path = bytes()
        .filter(|bytes| bytes.len() <= PATH_MAX as usize)
        .and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok());
    let path = path.and_then(|path| path.to_str().ok()).filter(|path| !path.is_empty());
    path.ok_or(ImageError::Interpreter { offset_bytes: p_offset, len_bytes: p_filesz })
}

fn page_down(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// Rounds up; `address` is at most [`mm::range::USER_END`].
fn page_up(address: u64) -> u64 {
    page_down(address + (PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests;
