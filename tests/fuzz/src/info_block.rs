//! Info blocks and label areas: no device where somebody's data is, none outside of its namespace.

use crate::{Numbers, Target, line, number, shape};
use nvdimm::{Extent, Found, HEAD_BYTES, INFO_BLOCK_BYTES, LabelArea, Unreadable, fletcher64, identify};

/// What stands before the media in an input: base and length of the namespace (u64 each), size of the label
/// area with the number of the first read that fails in its upper byte (u32), bytes of the head (u32). The
/// head follows, then the label area, whose missing rest is zero. Size 0 is a DIMM without labels.
const PREFIX_BYTES: usize = 24;

/// Twice what QEMU gives, so that both sizes of index blocks are met.
const MAX_AREA_BYTES: u64 = 256 << 10;
/// Size of an index block in areas up to 240 KiB.
const INDEX_BYTES: usize = 256;
const LABEL_BYTES: usize = 256;

const SIGNATURES: [&[u8]; 3] = [b"NVDIMM_DAX_INFO\0", b"NVDIMM_PFN_INFO\0", b"BTT_ARENA_INFO\0\0"];

/// An input is a namespace's extent, its head and a label area.
pub static INFO_BLOCK: Target = Target {
    name: "info_block",
    check: check_info_block,
    pieces,
    seal,
    numbers: Numbers::Binary,
    max_bytes: PREFIX_BYTES + 3 * INFO_BLOCK_BYTES + 4096,
};

/// Checks what [`identify`] finds.
pub fn check_info_block(input: &[u8]) -> Vec<String> {
    let field = |at| number::<8>(input, at).unwrap_or(0);
    let namespace = Extent { base_phys: field(0), len_bytes: field(8) };
    let area_field = number::<4>(input, 16).unwrap_or(0);
    let media = input.get(PREFIX_BYTES..).unwrap_or_default();
    let (head, area_bytes) = media.split_at(head_bytes(input));
    let mut area = Area {
        bytes: area_bytes,
        len_bytes: (area_field & 0xff_ffff).min(MAX_AREA_BYTES),
        reads: 0,
        fails_at: area_field >> 24,
    };
    let labels = (area.len_bytes > 0).then_some(&mut area);
    let found = identify(head, labels, namespace);
    check_found(&found, head, namespace);
    // Both formats' index blocks twice, the bitmap, and each label once.
    let most_reads = 16 + area.len_bytes / 512 + area.len_bytes / 128;
    assert!(area.reads <= most_reads, "{} reads of {} bytes of labels", area.reads, area.len_bytes);
    vec![shape(&line(&found))]
}

fn check_found(found: &Found, head: &[u8], namespace: Extent) {
    let block_at = |at: usize| head.get(at..at + 16).filter(|_| namespace.len_bytes >= at as u64 + 4096);
    let signed = |at| block_at(at).is_some_and(|start| SIGNATURES.contains(&start));
    match found {
        Found::Bare => {
            assert_eq!(found.device(namespace), Some(namespace));
            assert!(!signed(INFO_BLOCK_BYTES), "an info block counts as bare");
            assert!(block_at(0) != Some(SIGNATURES[2]), "a BTT counts as bare");
            assert!(head.len() as u64 >= namespace.len_bytes.min(HEAD_BYTES as u64), "half read, yet bare");
        }
        Found::DevDax(placement) => {
            let device = found.device(namespace).expect("a devdax namespace has a device");
            let end = device.end_phys().expect("a device does not wrap");
            assert!(device.len_bytes > 0 && device.len_bytes == placement.len_bytes);
            assert!(device.base_phys >= namespace.base_phys + HEAD_BYTES as u64, "over its own info block");
            assert!(Some(end) <= namespace.end_phys(), "{device:?} passes {namespace:?}");
            let align = placement.align_bytes;
            assert!([4 << 10, 2 << 20, 1 << 30].contains(&align), "align {align:#x}");
            assert!(
                device.base_phys.is_multiple_of(align) && end.is_multiple_of(align),
                "{device:?} is not aligned"
            );
            assert!(placement.parent_uuid.is_nil(), "a piece of a labelled namespace");
        }
        Found::FsDax(_)
        | Found::Btt(_)
        | Found::Labelled(_)
        | Found::CxlLabels(_)
        | Found::Damaged { .. } => {
            assert_eq!(found.device(namespace), None, "{found}");
        }
    }
}

/// A label area that tells when it is read out of bounds or too often.
struct Area<'a> {
    bytes: &'a [u8],
    len_bytes: u64,
    reads: u64,
    fails_at: u64,
}

impl LabelArea for Area<'_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let end = offset_bytes.checked_add(buf.len() as u64);
        assert!(end.is_some_and(|end| end <= self.len_bytes), "read of {} at {offset_bytes}", buf.len());
        self.reads += 1;
        if self.reads == self.fails_at {
            return Err(Unreadable);
        }
        let rest = self.bytes.get(offset_bytes as usize..).unwrap_or_default();
        let (given, zeros) = buf.split_at_mut(rest.len().min(buf.len()));
        given.copy_from_slice(&rest[..given.len()]);
        zeros.fill(0);
        Ok(())
    }
}

/// Bytes of the head that are there.
fn head_bytes(input: &[u8]) -> usize {
    let media_bytes = input.len().saturating_sub(PREFIX_BYTES);
    let asked = number::<4>(input, 20).unwrap_or(0) as usize;
    asked.min(3 * INFO_BLOCK_BYTES).min(media_bytes)
}

/// The prefix, both blocks of the head, both index blocks, each label.
fn pieces(input: &[u8]) -> Vec<usize> {
    let area = PREFIX_BYTES + head_bytes(input);
    let head = (PREFIX_BYTES..area).step_by(INFO_BLOCK_BYTES);
    [0].into_iter().chain(head).chain((area..input.len()).step_by(INDEX_BYTES)).collect()
}

/// Sums whatever has a signature, and the labels.
fn seal(input: &mut [u8]) {
    let area = PREFIX_BYTES + head_bytes(input);
    if area > input.len() {
        return;
    }
    let (front, labels) = input.split_at_mut(area);
    for block in front[PREFIX_BYTES..].chunks_exact_mut(INFO_BLOCK_BYTES) {
        if SIGNATURES.contains(&&block[..16]) {
            write_sum(block, INFO_BLOCK_BYTES - 8);
        }
    }
    for (number, block) in labels.chunks_exact_mut(LABEL_BYTES).enumerate() {
        if block.starts_with(b"NAMESPACE_INDEX\0") {
            write_sum(block, 64);
        } else if number >= 2 {
            write_sum(block, 248);
        }
    }
}

/// Writes the checksum of `bytes` into its field at `at`.
fn write_sum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 8].fill(0);
    let sum = fletcher64(bytes);
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_block_gets_past_its_checksum() {
        let mut input = vec![0; PREFIX_BYTES + HEAD_BYTES];
        input[8..16].copy_from_slice(&(1u64 << 30).to_le_bytes());
        input[20..24].copy_from_slice(&(HEAD_BYTES as u32).to_le_bytes());
        input[PREFIX_BYTES + 4096..][..16].copy_from_slice(SIGNATURES[0]);
        assert!(check_info_block(&input)[0].contains("checksum"), "{:?}", check_info_block(&input));
        seal(&mut input);
        assert!(check_info_block(&input)[0].contains("version"), "{:?}", check_info_block(&input));
        assert_eq!(pieces(&input), [0, 24, 24 + 4096]);
    }
}
