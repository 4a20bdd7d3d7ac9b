//! What the tests share: a writer of media as Linux writes them, and the fixtures that Linux wrote.
#![allow(dead_code, reason = "each test file uses its part")]

use nvdimm::{Extent, HEAD_BYTES, InfoBlockKind, LabelArea, LabelFormat, Map, Unreadable, fletcher64};
use std::io::Read;
use std::path::PathBuf;
use uuid::Uuid;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
/// Where QEMU puts the first NVDIMM.
pub const BASE: u64 = 4 * GIB;

pub type Block = [u8; 4096];

/// The uuid 00 01 02 .. 0f of the reference's checksum vectors.
pub fn counting_uuid() -> Uuid {
    Uuid::from_bytes(core::array::from_fn(|i| i as u8))
}

pub fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Writes the checksum of `bytes` into its field at `at`.
pub fn seal(bytes: &mut [u8], at: usize) {
    put(bytes, at, [0; 8]);
    let sum = fletcher64(bytes);
    put(bytes, at, sum.to_le_bytes());
}

/// `ndctl create-namespace`: the formulas of reference section 4.1, "create".
#[derive(Clone, Copy, Debug)]
pub struct Create {
    pub kind: InfoBlockKind,
    pub namespace: Extent,
    pub map: Map,
    pub align: u64,
    pub parent: Uuid,
}

impl Create {
    pub fn devdax(len_bytes: u64, map: Map, align: u64) -> Self {
        let namespace = Extent { base_phys: BASE, len_bytes };
        Self { kind: InfoBlockKind::DevDax, namespace, map, align, parent: Uuid::nil() }
    }

    /// The info block; `None` when Linux refuses to make one.
    pub fn block(&self) -> Option<Block> {
        let Extent { base_phys: start, len_bytes: size } = self.namespace;
        let align = self.align.max(2 * MIB);
        let end_trunc = (start + size) % align;
        let page_map = match self.map {
            Map::Mem => 0,
            Map::Dev => 64 * ((size - 8 * KIB) / (4 * KIB)),
        };
        let data_offset = (start + 8 * KIB + page_map).next_multiple_of(align) - start;
        if start % (2 * MIB) != 0 || data_offset >= size.saturating_sub(end_trunc) {
            return None;
        }
        let mut block = [0; 4096];
        put(&mut block, 0, *signature(self.kind));
        put(&mut block, 16, counting_uuid().into_bytes());
        put(&mut block, 32, self.parent.into_bytes());
        put(&mut block, 52, 1u16.to_le_bytes());
        put(&mut block, 54, 4u16.to_le_bytes());
        put(&mut block, 56, data_offset.to_le_bytes());
        put(&mut block, 64, ((size - data_offset - end_trunc) / (4 * KIB)).to_le_bytes());
        put(&mut block, 72, if self.map == Map::Mem { 1u32 } else { 2 }.to_le_bytes());
        put(&mut block, 80, (end_trunc as u32).to_le_bytes());
        put(&mut block, 84, (self.align as u32).to_le_bytes());
        put(&mut block, 88, 4096u32.to_le_bytes());
        put(&mut block, 92, 64u16.to_le_bytes());
        seal(&mut block, 4088);
        Some(block)
    }
}

pub fn signature(kind: InfoBlockKind) -> &'static [u8; 16] {
    match kind {
        InfoBlockKind::DevDax => b"NVDIMM_DAX_INFO\0",
        InfoBlockKind::FsDax => b"NVDIMM_PFN_INFO\0",
    }
}

/// The info block of a BTT with 512-byte sectors.
pub fn btt_block(major: u16, minor: u16) -> Block {
    let mut block = [0; 4096];
    put(&mut block, 0, *b"BTT_ARENA_INFO\0\0");
    put(&mut block, 16, counting_uuid().into_bytes());
    put(&mut block, 52, major.to_le_bytes());
    put(&mut block, 54, minor.to_le_bytes());
    put(&mut block, 56, 512u32.to_le_bytes());
    put(&mut block, 60, 123_456u32.to_le_bytes());
    seal(&mut block, 4088);
    block
}

/// The first 8 KiB of a namespace, zero but for `block` at `at`.
pub fn head_with(at: usize, block: &Block) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    head[at..at + block.len()].copy_from_slice(block);
    head
}

/// No label area.
pub fn no_labels() -> Option<&'static [u8]> {
    None
}

/// A label area of 128 KiB with index blocks of 256 bytes, as `ndctl init-labels` leaves it.
#[derive(Clone)]
pub struct Area {
    pub bytes: Vec<u8>,
    pub format: LabelFormat,
}

impl Area {
    pub const INDEX_BYTES: usize = 256;

    pub fn zeroed() -> Vec<u8> {
        vec![0; 128 << 10]
    }

    pub fn initialised(format: LabelFormat) -> Self {
        let mut area = Self { bytes: Self::zeroed(), format };
        area.write_index(0, 3, &[]);
        area.write_index(1, 2, &[]);
        area
    }

    pub fn slots(&self) -> usize {
        (self.bytes.len() - 2 * Self::INDEX_BYTES) / self.format.label_bytes() as usize
    }

    pub fn index(&mut self, block: usize) -> &mut [u8] {
        &mut self.bytes[block * Self::INDEX_BYTES..(block + 1) * Self::INDEX_BYTES]
    }

    pub fn label(&mut self, slot: usize) -> &mut [u8] {
        let label_bytes = self.format.label_bytes() as usize;
        let at = 2 * Self::INDEX_BYTES + slot * label_bytes;
        &mut self.bytes[at..at + label_bytes]
    }

    /// Writes index block 0 or 1; all slots are free but those `in_use`.
    pub fn write_index(&mut self, block: usize, seq: u32, in_use: &[usize]) {
        let slots = self.slots();
        let (size_code, minor) = match self.format {
            LabelFormat::V1_1 => (0u8, 1u16),
            LabelFormat::V1_2 => (1, 2),
        };
        let index = self.index(block);
        index.fill(0);
        put(index, 0, *b"NAMESPACE_INDEX\0");
        put(index, 19, [size_code]);
        put(index, 20, seq.to_le_bytes());
        put(index, 24, (block as u64 * 256).to_le_bytes());
        put(index, 32, 256u64.to_le_bytes());
        put(index, 40, ((1 - block as u64) * 256).to_le_bytes());
        put(index, 48, 512u64.to_le_bytes());
        put(index, 56, (slots as u32).to_le_bytes());
        put(index, 60, 1u16.to_le_bytes());
        put(index, 62, minor.to_le_bytes());
        for slot in (0..slots).filter(|slot| !in_use.contains(slot)) {
            index[72 + slot / 8] |= 1 << (slot % 8);
        }
        seal(index, 64);
    }

    /// Writes a label of 1 GiB into `slot`; the index is not touched.
    pub fn write_label(&mut self, slot: usize, name: &[u8], abstraction: Uuid) {
        let format = self.format;
        let label = self.label(slot);
        label.fill(0);
        put(label, 0, counting_uuid().into_bytes());
        label[16..16 + name.len()].copy_from_slice(name);
        put(label, 84, 1u16.to_le_bytes());
        put(label, 88, 0x0024_68ac_0012_3456u64.to_le_bytes());
        put(label, 104, (slot as u64 * GIB).to_le_bytes());
        put(label, 112, GIB.to_le_bytes());
        put(label, 120, (slot as u32).to_le_bytes());
        if format == LabelFormat::V1_2 {
            put(label, 144, abstraction.to_bytes_le());
            seal(label, 248);
        }
    }
}

/// A label area that counts its reads, and fails from the `fail_at`-th on.
pub struct Mailbox<'a> {
    pub bytes: &'a [u8],
    pub reads: usize,
    pub fail_at: usize,
}

impl<'a> Mailbox<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, reads: 0, fail_at: usize::MAX }
    }
}

impl LabelArea for Mailbox<'_> {
    fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        assert!(offset_bytes + buf.len() as u64 <= self.len_bytes(), "read outside of the label area");
        self.reads += 1;
        if self.reads > self.fail_at {
            Err(Unreadable)
        } else {
            LabelArea::read(&mut self.bytes, offset_bytes, buf)
        }
    }
}

fn media(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/media", name].iter().collect()
}

/// The text file `name` of `tests/media`.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(media(name)).unwrap()
}

/// The JSON file `name` of `tests/media`.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&text(name)).unwrap()
}

/// The first `len_bytes` of the slice `name`.img.zst of `tests/media`.
pub fn slice(name: &str, len_bytes: usize) -> Vec<u8> {
    let file = std::fs::File::open(media(&format!("{name}.img.zst"))).unwrap();
    let mut bytes = vec![0; len_bytes];
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// The value of `attribute` in a `.sysfs.txt`, decimal or hexadecimal; `None` when Linux shows none.
pub fn sysfs(kind: &str, attribute: &str) -> Option<u64> {
    let text = text(&format!("{kind}.sysfs.txt"));
    let value = text.lines().find_map(|line| line.strip_prefix(attribute)?.trim().strip_prefix('='))?.trim();
    match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}
