//! QEMU's NVDIMM mailbox: label areas without AML.
//!
//! A page below 4 GiB is filled with {handle, revision 1, function, arguments}, its physical address written to
//! port 0xa18, and the page holds {length, status, data} when the write returns (QEMU docs/specs/acpi_nvdimm;
//! reference section 3.7). One page serves all DIMMs, so calls are serialised by the lock around it.

use core::fmt;
use core::sync::atomic::{Ordering, compiler_fence};
use spin::Mutex;
use x86_64::instructions::port::PortWriteOnly;

/// The doorbell.
const PORT: u16 = 0xa18;

/// Label bytes that one call may move: the page less the two words of either header.
pub const MAX_TRANSFER: usize = 4096 - 20;

const GET_LABEL_SIZE: u32 = 4;
const GET_LABEL_DATA: u32 = 5;

const PAGE_WORDS: usize = 1024;

#[repr(C, align(4096))]
struct Page([u32; PAGE_WORDS]);

static PAGE: Mutex<Page> = Mutex::new(Page([0; PAGE_WORDS]));

/// Why the mailbox gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailboxError {
    /// The page came back as it was sent: nobody listens at the port.
    NoAnswer,
    /// The device answered with this status (reference 3.7: 1 unsupported, 2 no device, 3 bad input).
    Status(u32),
    /// The device said it wrote this many bytes, which is not what was asked for.
    Length(u32),
}

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MailboxError::NoAnswer => write!(f, "no answer from the NVDIMM mailbox"),
            MailboxError::Status(status) => write!(f, "the NVDIMM mailbox answered status {status:#x}"),
            MailboxError::Length(bytes) => write!(f, "the NVDIMM mailbox answered with {bytes} bytes"),
        }
    }
}

/// The label area's size of the DIMM with this NFIT device handle, in bytes; `Ok(0)`: it has none.
///
/// `to_phys` gives the physical address behind a kernel address of the image, which lies below 4 GiB.
pub fn label_size(handle: u32, to_phys: fn(u64) -> u64) -> Result<u32, MailboxError> {
    let mut size = [0];
    match call([handle, GET_LABEL_SIZE, 0, 0], &mut size, to_phys) {
        Ok(()) => Ok(size[0]),
        // QEMU refuses the label functions for a DIMM without a label area.
        Err(MailboxError::Status(1)) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Reads `out.len()` bytes of the label area from `offset` on.
pub fn read_label(
    handle: u32,
    offset: u32,
    out: &mut [u8],
    to_phys: fn(u64) -> u64,
) -> Result<(), MailboxError> {
    let mut offset = offset;
    for chunk in out.chunks_mut(MAX_TRANSFER) {
        let len = chunk.len() as u32;
        let mut words = [0; MAX_TRANSFER / 4];
        let words = &mut words[..chunk.len().div_ceil(4)];
        call([handle, GET_LABEL_DATA, offset, len], words, to_phys)?;
        chunk
            .iter_mut()
            .zip(words.iter().flat_map(|word| word.to_le_bytes()))
            .for_each(|(to, byte)| *to = byte);
        offset += len;
    }
    Ok(())
}

/// One call; fills `answer` with the words behind the status.
fn call(
    [handle, function, arg0, arg1]: [u32; 4],
    answer: &mut [u32],
    to_phys: fn(u64) -> u64,
) -> Result<(), MailboxError> {
    let mut page = PAGE.lock();
    let words = page.0.as_mut_ptr();
    let phys = to_phys(words.expose_provenance() as u64) as u32;
    // SAFETY: 1. every index below is inside the page, which we hold exclusively; the accesses are volatile, for the
    //    device reads and writes behind the compiler's back, and fences keep them on their sides of the doorbell;
    // 2. the port is QEMU's NVDIMM doorbell, or nobody's; the device writes only into the page that it is given.
    let (length, status, third) = unsafe {
        for (index, word) in [handle, 1, function, arg0, arg1, 0].into_iter().enumerate() {
            words.add(index).write_volatile(word);
        }
        compiler_fence(Ordering::SeqCst);
        PortWriteOnly::<u32>::new(PORT).write(phys);
        compiler_fence(Ordering::SeqCst);
        for (index, word) in answer.iter_mut().enumerate().take(PAGE_WORDS - 2) {
            *word = words.add(2 + index).read_volatile();
        }
        (words.read_volatile(), words.add(1).read_volatile(), words.add(2).read_volatile())
    };
    // A page as it was sent. (Of handle 8, "unsupported" without data looks the same; both mean no label area to a
    // caller who knows that the mailbox is there.)
    if [length, status, third] == [handle, 1, function] && handle != 8 {
        return Err(MailboxError::NoAnswer);
    }
    match (status, length as usize) {
        (0, bytes) if bytes.next_multiple_of(4) >= 8 + answer.len() * 4 && bytes <= 4096 => Ok(()),
        (0, _) => Err(MailboxError::Length(length)),
        (status, _) => Err(MailboxError::Status(status)),
    }
}
