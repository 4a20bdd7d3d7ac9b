//! Fletcher64, the checksum of labels, index blocks and info blocks (reference section 3.4).

/// A checksum in progress: `update` takes the bytes in order, in pieces that are multiples of 4 bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fletcher64 {
    low: u32,
    // Linux sums these in 64 bits and shifts the upper half out at the end: the same number.
    high: u32,
}

impl Fletcher64 {
    #[must_use]
    pub(crate) fn update(mut self, bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        for word in words {
            self.low = self.low.wrapping_add(u32::from_le_bytes(*word));
            self.high = self.high.wrapping_add(self.low);
        }
        self
    }

    pub(crate) fn finish(self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

/// Returns the Fletcher64 checksum of `bytes`, taken as little-endian 32-bit words.
///
/// A tail of fewer than 4 bytes does not count; every structure on the media is a multiple of 4 bytes.
/// A structure that holds its own checksum is summed with that field zero.
pub fn fletcher64(bytes: &[u8]) -> u64 {
    Fletcher64::default().update(bytes).finish()
}

/// Returns the checksum of an info block whose last 8 bytes are its checksum field.
pub(crate) fn info_block_checksum(block: &[u8; crate::INFO_BLOCK_BYTES]) -> u64 {
    let (body, _) = block.split_at(crate::INFO_BLOCK_BYTES - 8);
    Fletcher64::default().update(body).update(&[0; 8]).finish()
}
