//! Why a file is not a program: each message names the value and what would be accepted.

use super::{FILE_HEADER_BYTES, MAX_PROGRAM_HEADERS, MAX_SPAN_BYTES, PROGRAM_HEADER_BYTES};
use core::fmt;
use mm::range::{PAGE_SIZE, USER_END};

/// Why a file is not a program that runs here, with the offending value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the fields are what the message prints
pub enum ImageError {
    Truncated { len_bytes: u64 },
    Magic([u8; 4]),
    Class(u8),
    ByteOrder(u8),
    Version(u8),
    Type(u16),
    Machine(u16),
    HeaderSize(u16),
    HeaderCount(u16),
    HeadersBeyondFile { offset_bytes: u64, len_bytes: u64 },
    Interpreter(InterpreterPath),
    NoSegment,
    WritableAndExecutable { address: u64 },
    FileLargerThanMemory { address: u64, file_bytes: u64, memory_bytes: u64 },
    BeyondFile { offset_bytes: u64, file_bytes: u64, len_bytes: u64 },
    Align { address: u64, align_bytes: u64 },
    Congruence { address: u64, offset_bytes: u64 },
    Address { address: u64, memory_bytes: u64 },
    Overlap { first: u64, second: u64 },
    Span { bytes: u64 },
    Entry { address: u64 },
}

/// The start of the interpreter's path, as long as it fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterpreterPath([u8; 48]);

impl InterpreterPath {
    pub(super) fn new(path: &[u8]) -> InterpreterPath {
        let mut bytes = [0; 48];
        for (to, from) in bytes.iter_mut().zip(path) {
            *to = *from;
        }
        InterpreterPath(bytes)
    }
}

impl fmt::Display for InterpreterPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = self.0.iter().take_while(|byte| byte.is_ascii_graphic());
        printable.copied().try_for_each(|byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ImageError::Truncated { len_bytes } => {
                write!(f, "{len_bytes} bytes are too short for an ELF file header of {FILE_HEADER_BYTES}")
            }
            ImageError::Magic([b'#', b'!', ..]) => write!(f, "a script; only ELF programs run here"),
            ImageError::Magic(bytes) => write!(f, "starts with {bytes:02x?}, not with 7f 45 4c 46 (ELF)"),
            ImageError::Class(class) => write!(f, "ELF class {class}, not 2 (64 bit)"),
            ImageError::ByteOrder(order) => write!(f, "ELF byte order {order}, not 1 (little endian)"),
            ImageError::Version(version) => write!(f, "ELF version {version}, not 1"),
            ImageError::Type(kind) => {
                write!(f, "ELF type {kind}, neither 2 (executable) nor 3 (static-PIE)")
            }
            ImageError::Machine(machine) => write!(f, "made for machine {machine}, not 62 (x86-64)"),
            ImageError::HeaderSize(bytes) => {
                write!(f, "program headers of {bytes} bytes, not {PROGRAM_HEADER_BYTES}")
            }
            ImageError::HeaderCount(count) => {
                write!(f, "{count} program headers; 1 to {MAX_PROGRAM_HEADERS} are accepted")
            }
            ImageError::HeadersBeyondFile { offset_bytes: at, len_bytes: len } => {
                write!(f, "program headers at file offset {at:#x}: the file ends at {len:#x}")
            }
            ImageError::Interpreter(path) => {
                write!(f, "dynamically linked: needs {path}; link it statically (-static or -static-pie)")
            }
            ImageError::NoSegment => write!(f, "no PT_LOAD segment with bytes in it"),
            ImageError::WritableAndExecutable { address } => {
                write!(f, "segment at {address:#x} is both writable and executable")
            }
            ImageError::FileLargerThanMemory { address, file_bytes: file, memory_bytes: memory } => {
                write!(f, "segment at {address:#x}: {file:#x} bytes in the file, only {memory:#x} in memory")
            }
            ImageError::BeyondFile { offset_bytes: at, file_bytes: bytes, len_bytes: len } => {
                write!(f, "segment of {bytes:#x} bytes at file offset {at:#x}: the file ends at {len:#x}")
            }
            ImageError::Align { address, align_bytes: align } => {
                write!(f, "segment at {address:#x}: alignment {align:#x} is no power of two up to 1 GiB")
            }
            ImageError::Congruence { address, offset_bytes: at } => {
                write!(f, "segment at {address:#x}, file offset {at:#x}: they differ within the page")
            }
            ImageError::Address { address, memory_bytes: bytes } => {
                let last = USER_END - 1;
                write!(f, "segment of {bytes:#x} bytes at {address:#x} is outside [{PAGE_SIZE:#x}-{last:#x}]")
            }
            ImageError::Overlap { first, second } => {
                write!(f, "segments at {first:#x} and {second:#x} overlap or share a page")
            }
            ImageError::Span { bytes } => {
                write!(f, "segments span {bytes:#x} bytes; up to {MAX_SPAN_BYTES:#x} can be placed")
            }
            ImageError::Entry { address } => {
                write!(f, "entry point {address:#x} is in no executable segment")
            }
        }
    }
}
