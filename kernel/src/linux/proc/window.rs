//! The part of a text that a read wants.

use core::fmt::{self, Write};

/// Keeps the part of a text that a read wants, so that no text is ever stored whole.
pub struct Window<'a> {
    /// Bytes of text still to be dropped.
    skip: u64,
    out: &'a mut [u8],
    filled: usize,
}

impl<'a> Window<'a> {
    /// Drops `skip` bytes, and keeps as many as `out` has room for.
    pub fn new(skip: u64, out: &'a mut [u8]) -> Window<'a> {
        Window { skip, out, filled: 0 }
    }

    /// How many bytes it has.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Takes the next bytes; fails when they do not fit.
    pub fn put(&mut self, bytes: &[u8]) -> fmt::Result {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let bytes = bytes.get(skipped as usize..).unwrap_or(&[]);
        let room = self.out.get_mut(self.filled..).unwrap_or(&mut []);
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        let copied = bytes.len().min(room.len());
        self.filled += copied;
        if copied < bytes.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl Write for Window<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_the_wanted_part_of_a_text() {
        let mut bytes = [0; 4];
        let mut window = Window::new(3, &mut bytes);
        assert_eq!(window.write_str("ab"), Ok(()));
        assert_eq!(window.write_str("cde"), Ok(()));
        assert_eq!(window.write_str("fgh"), Err(fmt::Error));
        assert_eq!(window.filled(), 4);
        assert_eq!(&bytes, b"defg");
    }
}
