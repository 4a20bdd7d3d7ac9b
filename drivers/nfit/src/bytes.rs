//! Little-endian fields of a structure whose length was checked once.
//!
//! A field's offset is a constant, so reading past the `N` checked bytes fails to compile and nothing
//! here can panic on what the table says. [`items`] serves the arrays at the end of a structure, [`write_flags`]
//! names bits.

use core::fmt;

/// The first `N` bytes of a structure.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a, const N: usize>(&'a [u8; N]);

impl<'a, const N: usize> Fields<'a, N> {
    /// `None` when the structure has fewer than `N` bytes.
    pub(crate) fn of(structure: &'a [u8]) -> Option<Self> {
        structure.first_chunk().map(Self)
    }

    pub(crate) fn array<const AT: usize, const LEN: usize>(self) -> [u8; LEN] {
        const { assert!(AT + LEN <= N, "the field lies past the checked bytes") };
        core::array::from_fn(|i| self.0[AT + i])
    }

    pub(crate) fn u8<const AT: usize>(self) -> u8 {
        u8::from_le_bytes(self.array::<AT, 1>())
    }

    pub(crate) fn u16<const AT: usize>(self) -> u16 {
        u16::from_le_bytes(self.array::<AT, 2>())
    }

    pub(crate) fn u32<const AT: usize>(self) -> u32 {
        u32::from_le_bytes(self.array::<AT, 4>())
    }

    pub(crate) fn u64<const AT: usize>(self) -> u64 {
        u64::from_le_bytes(self.array::<AT, 8>())
    }
}

/// The `WIDTH`-byte items of an array field, in table order; a torn last item is left out.
pub(crate) fn items<const WIDTH: usize>(array: &[u8]) -> impl Iterator<Item = [u8; WIDTH]> + Clone + '_ {
    array.as_chunks::<WIDTH>().0.iter().copied()
}

/// Writes the names of the bits of `flags` that are set, and returns those without a name.
pub(crate) fn write_flags(
    f: &mut fmt::Formatter<'_>,
    flags: u64,
    names: impl IntoIterator<Item = (u64, &'static str)>,
    separator: &str,
) -> Result<u64, fmt::Error> {
    let mut left = flags;
    for (bit, name) in names.into_iter().filter(|(bit, _)| flags & bit != 0) {
        write!(f, "{}{name}", if left == flags { "" } else { separator })?;
        left &= !bit;
    }
    Ok(left)
}
