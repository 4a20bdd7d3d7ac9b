//! The mapping rules of device-dax, as a pure function (device-dax reference 5.3).
//!
//! Better than Linux on purpose: the offset must be aligned as well. (Linux looks at the two ends of the
//! vma only: a MAP_FIXED mapping with an odd offset passes mmap and gets SIGBUS at every touch.) A mapping
//! that reaches past the device is allowed, as on Linux, and touching it there is SIGBUS.

use mm::pager::{Refusal, Sharing, VmaRequest};
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

#[cfg(test)]
mod tests;
