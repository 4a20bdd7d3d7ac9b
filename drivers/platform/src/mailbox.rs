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

#[repr(C, align(4096))]
struct Page([u32; 1024]);

static PAGE: Mutex<Page> = Mutex::new(Page([0; 1024]));

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
    let mut page = PAGE.lock();
    match call(&mut page, to_phys, [handle, GET_LABEL_SIZE, 0, 0]) {
        Ok(payload) => payload.first().copied().ok_or(MailboxError::Length(8)),
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
        let mut page = PAGE.lock();
        let len = chunk.len() as u32;
        let payload = call(&mut page, to_phys, [handle, GET_LABEL_DATA, offset, len])?;
        let mut bytes = payload.iter().flat_map(|word| word.to_le_bytes());
        for byte in chunk {
            *byte = bytes.next().ok_or(MailboxError::Length(len))?;
        }
        offset += len;
    }
    Ok(())
}

/// One call; gives the words behind the status.
fn call(
    page: &mut Page,
    to_phys: fn(u64) -> u64,
    [handle, function, arg0, arg1]: [u32; 4],
) -> Result<&[u32], MailboxError> {
    page.0[..6].copy_from_slice(&[handle, 1, function, arg0, arg1, 0]);
    let phys = to_phys(page.0.as_ptr().addr() as u64) as u32;
    compiler_fence(Ordering::SeqCst);
    // SAFETY: 1. the port is QEMU's NVDIMM doorbell, or nobody's;
    // 2. the device writes only into the page whose address it is given, which we hold exclusively;
    // 3. the pointer was exposed above, and the fences keep the accesses on their sides of the write.
    unsafe { PortWriteOnly::<u32>::new(PORT).write(phys) };
    compiler_fence(Ordering::SeqCst);
    let words = core::hint::black_box(&page.0);
    let (length, status) = (words[0], words[1]);
    // A page as it was sent. (Of handle 8, "unsupported" without data looks the same; both mean no label area to a
    // caller who knows that the mailbox is there.)
    if [length, status, words[2]] == [handle, 1, function] && handle != 8 {
        return Err(MailboxError::NoAnswer);
    }
    if status != 0 {
        return Err(MailboxError::Status(status));
    }
    let payload = (length as usize).checked_sub(8).filter(|&bytes| bytes <= 4088);
    let payload = payload.ok_or(MailboxError::Length(length))?;
    Ok(&words[2..2 + payload.div_ceil(4)])
}
