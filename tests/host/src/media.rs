//! NVDIMM media as Linux left them (`tests/media`): their slices, their expansion, what Linux says of them.
//!
//! A fixture is a backing file of 4 GiB of which all but a few slices is zero. Work goes in chunks of 1 MiB,
//! of which every slice is a whole number, and only over chunks that are not holes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde_json::Value;

/// Every fixture.
pub const KINDS: [&str; 5] = ["raw", "devdax-2M-dev", "devdax-4K-mem", "fsdax", "labels-two"];

/// Length of every backing file.
pub const FILE_BYTES: u64 = 4 << 30;

/// The label area of `labels-two`, at the end of the file.
pub const LABEL_BYTES: usize = 128 << 10;

const CHUNK: usize = 1 << 20;
const SLICES: [(&str, u64); 3] = [("first16M", 0), ("at1G-16M", 1024), ("last1M", 4095)];

/// The non-zero part of a backing file.
pub struct Media {
    /// Chunks by number.
    chunks: BTreeMap<u64, Vec<u8>>,
}

impl Media {
    /// Unpacks the slices of a fixture.
    pub fn load(kind: &str) -> io::Result<Media> {
        let mut chunks = BTreeMap::new();
        for (slice, first) in SLICES {
            let path = folder().join(format!("{kind}.{slice}.img.zst"));
            if !path.exists() && slice == "at1G-16M" {
                continue;
            }
            let mut stream = ruzstd::decoding::StreamingDecoder::new(File::open(&path)?)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            chunks.extend((first..).zip(bytes.chunks(CHUNK).map(<[u8]>::to_vec)));
        }
        Ok(Media { chunks })
    }

    /// Media with these bytes at its start and zeros behind them.
    pub fn from_head(head: &[u8]) -> Media {
        let mut chunk = vec![0; CHUNK];
        chunk[..head.len()].copy_from_slice(head);
        Media { chunks: [(0, chunk)].into() }
    }

    /// The first bytes of the file.
    pub fn head(&self, len_bytes: usize) -> &[u8] {
        self.chunks.get(&0).map_or(&[], |chunk| &chunk[..len_bytes])
    }

    /// The last bytes of the file.
    pub fn tail(&self, len_bytes: usize) -> &[u8] {
        self.chunks.get(&(FILE_BYTES / CHUNK as u64 - 1)).map_or(&[], |chunk| &chunk[CHUNK - len_bytes..])
    }

    /// Writes the backing file, sparse.
    pub fn expand(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(FILE_BYTES)?;
        let used = self.chunks.iter().filter(|(_, chunk)| chunk.iter().any(|&byte| byte != 0));
        used.into_iter().try_for_each(|(number, chunk)| file.write_all_at(chunk, number * CHUNK as u64))
    }

    /// The first difference between these media and the first `len_bytes` of a backing file, in words.
    pub fn difference(&self, path: &Path, len_bytes: u64) -> io::Result<Option<String>> {
        let file = File::open(path)?;
        let found = file.metadata()?.len();
        if found != FILE_BYTES {
            return Ok(Some(format!("the file has {found} bytes, had {FILE_BYTES}")));
        }
        let mut numbers = data_chunks(&file)?;
        numbers.extend(self.chunks.keys());
        let (zeros, mut bytes) = (vec![0; CHUNK], vec![0; CHUNK]);
        for number in numbers.into_iter().filter(|number| (number + 1) * CHUNK as u64 <= len_bytes) {
            file.read_exact_at(&mut bytes, number * CHUNK as u64)?;
            let expected = self.chunks.get(&number).unwrap_or(&zeros);
            if let Some(at) = bytes.iter().zip(expected).position(|(found, expected)| found != expected) {
                let (found, expected) = (bytes[at], expected[at]);
                let at = number * CHUNK as u64 + at as u64;
                return Ok(Some(format!("byte {at:#x} of the file was {expected:#x} and is {found:#x}")));
            }
        }
        Ok(None)
    }
}

/// The chunks that are not wholly holes.
fn data_chunks(file: &File) -> io::Result<Vec<u64>> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    loop {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data / CHUNK as u64,
            Err(Errno::NXIO) => return Ok(numbers),
            Err(error) => return Err(error.into()),
        };
        numbers.push(at);
        at = (at + 1) * CHUNK as u64;
    }
}

/// What `ndctl list` or `daxctl list` said of a fixture on Linux.
pub fn said(kind: &str, program: &str) -> Value {
    let path = folder().join(format!("{kind}.{program}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The region of a fixture, with the namespaces in it, as ndctl lists it.
pub fn listed(kind: &str) -> Value {
    said(kind, "ndctl")["regions"][0].clone()
}

/// The namespace of this name in `ndctl list`.
pub fn namespace(kind: &str, name: &str) -> Value {
    let region = listed(kind);
    let all = region["namespaces"].as_array().expect("ndctl lists the namespaces");
    all.iter().find(|one| one["dev"] == name).unwrap_or_else(|| panic!("{kind} has no {name}")).clone()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../media")
}
