//! The label area of a DIMM, lent by whoever can reach it.

use crate::Error;

/// A DIMM's label area, read piece by piece.
///
/// A trait because the arrow turns here: the platform's mailbox gives 4 KiB at a time and lies on another
/// branch of the floors, and an area of 128 KiB without labels is known after four reads of 256 bytes.
pub trait LabelArea {
    /// Returns the size of the area in bytes, as the DIMM states it.
    fn len_bytes(&self) -> u64;

    /// Fills `buf` from `offset_bytes` on. Asked only for ranges inside `len_bytes()`.
    ///
    /// Error: [`Unreadable`] when the DIMM did not answer with all of it.
    fn read(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Unreadable>;
}

/// The DIMM did not hand out the bytes asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl LabelArea for &[u8] {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let from = usize::try_from(offset_bytes).map_err(|_| Unreadable)?;
        let to = from.checked_add(buf.len()).ok_or(Unreadable)?;
        buf.copy_from_slice(self.get(from..to).ok_or(Unreadable)?);
        Ok(())
    }
}

impl<A: LabelArea + ?Sized> LabelArea for &mut A {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }

    fn read(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        (**self).read(offset_bytes, buf)
    }
}

/// Reads from `area`, naming the place when that fails.
pub(crate) fn fetch(area: &mut impl LabelArea, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Error> {
    let len_bytes = buf.len() as u64;
    area.read(offset_bytes, buf).map_err(|Unreadable| Error::LabelRead { offset_bytes, len_bytes })
}
