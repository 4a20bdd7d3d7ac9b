//! Why a file is not a program: each message names the value and what would be accepted.

use super::{FILE_HEADER_BYTES, MAX_PROGRAM_HEADERS, MAX_SPAN_BYTES, PROGRAM_HEADER_BYTES};
use mm::range::{PAGE_SIZE, USER_END};
use thiserror::Error;

/// The last address of a program.
const LAST: u64 = USER_END - 1;

/// Why a file is not a program that runs here, with the offending value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[allow(missing_docs)] // the fields are what the message prints
pub enum ImageError {
    #[error("{len_bytes} bytes are too short for an ELF file header of {FILE_HEADER_BYTES}")]
    Truncated { len_bytes: u64 },
    #[error("a script whose first line names no interpreter")]
    Script,
    #[error("starts with {0:02x?}, not with 7f 45 4c 46 (ELF)")]
    Magic([u8; 4]),
    #[error("ELF class {0}, not 2 (64 bit)")]
    Class(u8),
    #[error("ELF byte order {0}, not 1 (little endian)")]
    ByteOrder(u8),
    #[error("ELF version {0}, not 1")]
    Version(u8),
    #[error("ELF type {0}, neither 2 (executable) nor 3 (movable)")]
    Type(u16),
    #[error("made for machine {0}, not 62 (x86-64)")]
    Machine(u16),
    #[error("program headers of {0} bytes, not {PROGRAM_HEADER_BYTES}")]
    HeaderSize(u16),
    #[error("{0} program headers; 1 to {MAX_PROGRAM_HEADERS} are accepted")]
    HeaderCount(u16),
    #[error("program headers at file offset {offset_bytes:#x}: the file ends at {len_bytes:#x}")]
    HeadersBeyondFile { offset_bytes: u64, len_bytes: u64 },
    #[error(
        "interpreter's path of {len_bytes:#x} bytes at file offset {offset_bytes:#x}: no string that ends there"
    )]
    Interpreter { offset_bytes: u64, len_bytes: u64 },
    #[error("no PT_LOAD segment with bytes in it")]
    NoSegment,
    #[error("segment at {address:#x} is both writable and executable")]
    WritableAndExecutable { address: u64 },
    #[error("segment at {address:#x}: {file_bytes:#x} bytes in the file, only {memory_bytes:#x} in memory")]
    FileLargerThanMemory { address: u64, file_bytes: u64, memory_bytes: u64 },
    #[error(
        "segment of {file_bytes:#x} bytes at file offset {offset_bytes:#x}: the file ends at {len_bytes:#x}"
    )]
    BeyondFile { offset_bytes: u64, file_bytes: u64, len_bytes: u64 },
    #[error("segment at {address:#x}: alignment {align_bytes:#x} is no power of two up to 1 GiB")]
    Align { address: u64, align_bytes: u64 },
    #[error("segment at {address:#x}, file offset {offset_bytes:#x}: they differ within the page")]
    Congruence { address: u64, offset_bytes: u64 },
    #[error("segment of {memory_bytes:#x} bytes at {address:#x} is outside [{PAGE_SIZE:#x}-{LAST:#x}]")]
    Address { address: u64, memory_bytes: u64 },
    #[error("segments at {first:#x} and {second:#x} overlap or share a page")]
    Overlap { first: u64, second: u64 },
    #[error("segments span {bytes:#x} bytes; up to {MAX_SPAN_BYTES:#x} can be placed")]
    Span { bytes: u64 },
    #[error("entry point {address:#x} is in no executable segment")]
    Entry { address: u64 },
}
