//! Builds tables by the layouts of ACPI 6.5, 5.2.26: an independent writing-down of what the crate reads.

#![allow(dead_code, reason = "each test file uses its part")]

use nfit::{Nfit, Refusal};

pub const PM: [u8; 16] =
    [0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 0x0d, 0x33, 0x18, 0xb7, 0x8c, 0xdb];
pub const VOLATILE: [u8; 16] =
    [0x4f, 0x94, 0x05, 0x73, 0xda, 0xfd, 0xe3, 0x44, 0xb1, 0x6c, 0x3f, 0x22, 0xd2, 0x52, 0xe5, 0xd0];
pub const CONTROL: [u8; 16] =
    [0xf6, 0x01, 0xf7, 0x92, 0xb4, 0x13, 0x5d, 0x40, 0x91, 0x0b, 0x29, 0x93, 0x67, 0xe8, 0x23, 0x4c];
pub const BLOCK: [u8; 16] =
    [0x30, 0x05, 0xaf, 0x91, 0x86, 0x5d, 0x0e, 0x47, 0xa6, 0xb0, 0x0a, 0x2d, 0xb9, 0x40, 0x82, 0x49];
pub const DISKS: [[u8; 16]; 4] = [
    [0x5a, 0x53, 0xab, 0x77, 0xfc, 0x45, 0x4b, 0x62, 0x55, 0x60, 0xf7, 0xb2, 0x81, 0xd1, 0xf9, 0x6e],
    [0x30, 0xbd, 0x5a, 0x3d, 0x75, 0x41, 0xce, 0x87, 0x6d, 0x64, 0xd2, 0xad, 0xe5, 0x23, 0xc4, 0xbb],
    [0xc9, 0x02, 0xea, 0x5c, 0x07, 0x4d, 0xd3, 0x69, 0x26, 0x9f, 0x44, 0x96, 0xfb, 0xe0, 0x96, 0xf9],
    [0x88, 0x81, 0x01, 0x08, 0xcd, 0x42, 0x48, 0xbb, 0x10, 0x0f, 0x53, 0x87, 0xd5, 0x3d, 0xed, 0x3d],
];
pub const GIB: u64 = 1 << 30;

/// The fields of a SPA range structure that tests vary; `Spa::default()` is as QEMU writes it.
#[derive(Clone, Copy, Debug)]
pub struct Spa {
    pub index: u16,
    pub flags: u16,
    pub guid: [u8; 16],
    pub base: u64,
    pub len: u64,
    pub attributes: u64,
}

impl Default for Spa {
    fn default() -> Spa {
        Spa { index: 2, flags: 3, guid: PM, base: 4 * GIB, len: GIB, attributes: 0x8008 }
    }
}

/// The fields of a mapping that tests vary.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    pub handle: u32,
    pub physical_id: u16,
    pub region_id: u16,
    pub range: u16,
    pub dcr: u16,
    pub size: u64,
    pub dpa: u64,
    pub state: u16,
}

impl Default for Map {
    fn default() -> Map {
        Map { handle: 1, physical_id: 0, region_id: 0, range: 2, dcr: 3, size: GIB, dpa: 0, state: 0 }
    }
}

/// The fields of a control region that tests vary.
#[derive(Clone, Copy, Debug)]
pub struct Dcr {
    pub index: u16,
    pub serial: u32,
    pub windows: u16,
}

impl Default for Dcr {
    fn default() -> Dcr {
        Dcr { index: 3, serial: 0x12_3456, windows: 0 }
    }
}

/// Structures in the making.
#[derive(Clone, Debug, Default)]
pub struct Table(pub Vec<u8>);

impl Table {
    /// One DIMM of 1 GiB at 4 GiB, as QEMU writes it.
    pub fn one_dimm() -> Table {
        Table::default().spa(Spa::default()).map(Map::default()).dcr(Dcr::default())
    }

    /// Adds a structure with the right length.
    pub fn raw(self, kind: u16, body: &[u8]) -> Table {
        let length = u16::try_from(body.len() + 4).expect("tests write short structures");
        self.with_length(kind, length, body)
    }

    /// Adds a structure that claims `length`.
    pub fn with_length(mut self, kind: u16, length: u16, body: &[u8]) -> Table {
        self.0.extend(kind.to_le_bytes());
        self.0.extend(length.to_le_bytes());
        self.0.extend(body);
        self
    }

    pub fn spa(self, spa: Spa) -> Table {
        self.raw(0, &spa_body(spa))
    }

    pub fn map(self, map: Map) -> Table {
        self.raw(1, &map_body(map))
    }

    pub fn dcr(self, dcr: Dcr) -> Table {
        self.raw(4, &dcr_body(dcr))
    }

    /// Adds flush hints with a count of its own.
    pub fn flush(self, handle: u32, count: u16, hints: &[u64]) -> Table {
        let mut body = [handle.to_le_bytes().as_slice(), &count.to_le_bytes(), &[0; 6]].concat();
        hints.iter().for_each(|hint| body.extend(hint.to_le_bytes()));
        self.raw(6, &body)
    }

    /// Adds an interleave structure with a count of its own.
    pub fn interleave(self, index: u16, count: u32, line_size: u32, lines: &[u32]) -> Table {
        let head = [index.to_le_bytes(), [0; 2]].concat();
        let mut body = [head, [count.to_le_bytes(), line_size.to_le_bytes()].concat()].concat();
        lines.iter().for_each(|line| body.extend(line.to_le_bytes()));
        self.raw(2, &body)
    }

    pub fn capabilities(self, highest_bit: u8, bits: u32) -> Table {
        self.raw(7, &[[highest_bit, 0, 0, 0], bits.to_le_bytes(), [0; 4]].concat())
    }

    /// The whole table, with header, length and checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"NFIT\0\0\0\0\x01\0TESTERTABLE\0\0\0\x01\0\0\0TEST\x01\0\0\0\0\0\0\0".to_vec();
        bytes.extend(&self.0);
        seal(&mut bytes);
        bytes
    }

    /// The refusals' text.
    pub fn refusals(&self) -> Vec<String> {
        let bytes = self.bytes();
        let table = Nfit::parse(&bytes).expect("the header is right");
        table.refusals().map(|refusal: Refusal| refusal.to_string()).collect()
    }

    /// Range index and base of each region.
    pub fn regions(&self) -> Vec<(u16, u64)> {
        let bytes = self.bytes();
        let table = Nfit::parse(&bytes).expect("the header is right");
        table.regions().map(|region| (region.range_index, region.base)).collect()
    }
}

pub fn spa_body(spa: Spa) -> Vec<u8> {
    let head = [spa.index.to_le_bytes(), spa.flags.to_le_bytes(), [0; 2], [0; 2]].concat();
    let proximity = 7u32.to_le_bytes();
    let numbers = [spa.base, spa.len, spa.attributes].map(u64::to_le_bytes).concat();
    [head.as_slice(), &proximity, &spa.guid, &numbers].concat()
}

pub fn map_body(map: Map) -> Vec<u8> {
    let ids = [map.physical_id, map.region_id, map.range, map.dcr].map(u16::to_le_bytes).concat();
    let place = [map.size, 0, map.dpa].map(u64::to_le_bytes).concat();
    let rest = [0, 1, map.state, 0].map(u16::to_le_bytes).concat();
    [map.handle.to_le_bytes().as_slice(), &ids, &place, &rest].concat()
}

pub fn dcr_body(dcr: Dcr) -> Vec<u8> {
    let ids = [dcr.index, 0x8086, 1, 1, 0x8087, 2, 3].map(u16::to_le_bytes).concat();
    let made = [0, 0x0f, 0x23, 0x11, 0, 0];
    let rest = [dcr.serial.to_le_bytes(), [0x01, 0x03, dcr.windows as u8, (dcr.windows >> 8) as u8]].concat();
    [ids.as_slice(), &made, &rest, &[0; 48]].concat()
}

/// Corrects length and checksum.
pub fn seal(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len()).expect("tests write short tables");
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[9] = 0;
    bytes[9] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}
