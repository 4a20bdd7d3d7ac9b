//! The mapping rules of device-dax, as pure functions (device-dax reference 5.3 and 5.5).
//!
//! Better than Linux on purpose: the offset must be aligned as well. (Linux looks at the two ends of the
//! vma only: a MAP_FIXED mapping with an odd offset passes mmap and gets SIGBUS at every touch.) A mapping
//! that reaches past the device is allowed, as on Linux, and touching it there is SIGBUS.

use mm::pager::{FaultRequest, Refusal, Sharing, VmaRequest};
use mm::range::MapSize;

/// May a live device with this alignment be mapped so? Checked in the order of the reference.
pub fn check_vma(vma: &VmaRequest, align: MapSize) -> Result<(), Refusal> {
    if vma.sharing == Sharing::Private {
        return Err(Refusal::PrivateDevice);
    }
    // With an aligned start, "the end is misaligned" and "the length is" are the same; the length is what the
    // program passed.
    let values = [
        ("address", vma.range.start().as_u64()),
        ("length", vma.range.len_bytes()),
        ("offset", vma.offset_bytes),
    ];
    match values.into_iter().find(|&(_, value)| !align.divides(value)) {
        Some((what, value)) => Err(Refusal::Misaligned { what, value, align }),
        None => Ok(()),
    }
}

/// The device's offset of the entry-sized window around a fault; a multiple of `granule` in a vma that
/// [`check_vma`] allowed.
///
/// `None` when the window is not wholly inside the vma, or the offset passes 2^64: the answer is SIGBUS.
pub fn fault_offset(request: &FaultRequest, granule: MapSize) -> Option<u64> {
    let vma = &request.vma;
    let (start, end) = vma.range.bounds();
    let unit = granule.bytes();
    let address = request.address.as_u64();
    let window = address - (address & (unit - 1));
    // No overflow: addresses of programs end far below 2^63.
    if window < start || window + unit > end {
        return None;
    }
    vma.offset_bytes.checked_add(window - start)
}

#[cfg(test)]
mod tests;
