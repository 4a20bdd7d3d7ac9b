//! The initrd: a newc cpio archive, read in place.
//!
//! The walk trusts nothing: a header that does not parse, or contents that pass the end, end it with an error that
//! names the offset; the files before it stay usable.

use alloc::vec::Vec;
use mm::range::PhysRange;
use thiserror::Error;

/// Bytes of a newc header: a magic of 6 and thirteen fields of 8 hexadecimal digits (cpio(5)).
const HEADER_BYTES: usize = 110;

/// The archive's files. The bytes stay where the hypervisor put them.
#[derive(Default)]
pub struct Initrd {
    files: Vec<File>,
}

/// One file of the archive.
#[derive(Clone, Copy)]
pub struct File {
    /// Path without a leading slash, as the archive spells it with `./` taken off.
    pub path: &'static str,
    /// Contents.
    pub bytes: &'static [u8],
    /// Where the contents lie in physical memory; `None` for an empty file.
    pub phys: Option<PhysRange>,
    /// st_mode.
    pub mode: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
}

/// What is wrong with an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ArchiveError {
    /// No newc header (`070701`) at this byte.
    #[error("no newc cpio header at byte {0:#x}")]
    Magic(usize),
    /// A header field at this byte is not hexadecimal.
    #[error("header field at byte {0:#x} is not hexadecimal")]
    Field(usize),
    /// The entry whose header is at this byte passes the end of the archive.
    #[error("the entry at byte {0:#x} passes the archive's end")]
    Truncated(usize),
    /// The name of the entry at this byte is not UTF-8 or has no end.
    #[error("the entry at byte {0:#x} has a name that cannot be read")]
    Name(usize),
    /// The archive ends without its `TRAILER!!!` entry, at this byte.
    #[error("the archive ends at byte {0:#x} without a trailer")]
    NoTrailer(usize),
}

impl Initrd {
    /// Walks the archive. The files that were read before an error come with it.
    ///
    /// `phys` is where `archive` lies in physical memory.
    pub fn parse(archive: &'static [u8], phys: Option<PhysRange>) -> (Initrd, Result<(), ArchiveError>) {
        let mut files = Vec::new();
        let mut at = 0;
        let result = loop {
            match entry(archive, at) {
                Ok(None) => break Ok(()),
                Ok(Some((mut file, next))) => {
                    file.phys = phys.and_then(|range| {
                        let offset = file.bytes.as_ptr().addr() - archive.as_ptr().addr();
                        PhysRange::new(range.start().as_u64() + offset as u64, file.bytes.len() as u64)
                    });
                    files.push(file);
                    at = next;
                }
                Err(error) => break Err(error),
            }
        };
        // As cpio extracts: of several entries with one name the last stays. The sort keeps their order.
        files.reverse();
        files.sort_by_key(|file: &File| file.path);
        files.dedup_by_key(|file| file.path);
        (Initrd { files }, result)
    }

    /// Finds a file by absolute or relative path (`/bin/prog`, `bin/prog`).
    pub fn find(&self, path: &str) -> Option<&File> {
        let path = path.trim_start_matches('/');
        self.files.binary_search_by_key(&path, |file| file.path).ok().map(|index| &self.files[index])
    }

    /// All files, by path.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }
}

/// Reads the entry at `at`; gives it and where the next one starts, `None` at the trailer.
fn entry(archive: &'static [u8], at: usize) -> Result<Option<(File, usize)>, ArchiveError> {
    if at >= archive.len() {
        return Err(ArchiveError::NoTrailer(at));
    }
    let truncated = ArchiveError::Truncated(at);
    let header = archive.get(at..at + HEADER_BYTES).ok_or(truncated)?;
    if !matches!(&header[..6], b"070701" | b"070702") {
        return Err(ArchiveError::Magic(at));
    }
    let field = |index: usize| {
        let start = 6 + index * 8;
        let digits = &header[start..start + 8];
        // `from_str_radix` would take a sign as well.
        let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| core::str::from_utf8(digits).ok());
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(ArchiveError::Field(at + start))
    };
    let (name_len, data_len) = (field(11)? as usize, field(6)? as usize);
    let name_at = at + HEADER_BYTES;
    let name = name_at.checked_add(name_len).and_then(|end| archive.get(name_at..end)).ok_or(truncated)?;
    // The name may be padded with NULs, which put the contents on a page of their own.
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = core::str::from_utf8(name).map_err(|_| ArchiveError::Name(at))?;
    if name == "TRAILER!!!" {
        return Ok(None);
    }
    let data_at = (name_at + name_len).next_multiple_of(4);
    let bytes = data_at.checked_add(data_len).and_then(|end| archive.get(data_at..end)).ok_or(truncated)?;
    let path = name.strip_prefix("./").unwrap_or(name).trim_start_matches('/');
    let file = File { path, bytes, phys: None, mode: field(1)?, mtime: u64::from(field(5)?) };
    Ok(Some((file, (data_at + data_len).next_multiple_of(4))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// An archive of files with mode 0644, as `cpio -H newc -o` writes it.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, data) in files.iter().chain(&[("TRAILER!!!", &b""[..])]) {
            let fields = [1, 0o100_644, 0, 0, 1, 7, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
            out.extend_from_slice(b"070701");
            fields.iter().for_each(|field| out.extend_from_slice(format!("{field:08x}").as_bytes()));
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend_from_slice(data);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    fn parse(bytes: Vec<u8>) -> (Initrd, Result<(), ArchiveError>) {
        Initrd::parse(bytes.leak(), PhysRange::new(0x10_0000, 1 << 20))
    }

    #[test]
    fn files_are_found_by_absolute_and_relative_path() {
        let (initrd, result) = parse(archive(&[("./bin/prog", b"code"), ("etc/empty", b"")]));
        assert_eq!(result, Ok(()));
        let file = initrd.find("/bin/prog").unwrap();
        assert_eq!((file.bytes, file.mode, file.mtime), (&b"code"[..], 0o100_644, 7));
        assert_eq!(file.phys.unwrap().start().as_u64() % 4, 0);
        assert!(initrd.find("etc/empty").unwrap().phys.is_none());
        assert!(initrd.find("bin").is_none());
    }

    #[test]
    fn every_truncation_keeps_the_files_before_it() {
        let whole = archive(&[("a", b"first"), ("b", b"second")]);
        for len in 0..whole.len() - 1 {
            let (initrd, result) = parse(whole[..len].to_vec());
            if result.is_ok() {
                assert!(len >= whole.len() - 4, "only padding may be missing, cut at {len}");
            }
            if len > 250 {
                assert_eq!(initrd.find("a").unwrap().bytes, b"first");
            }
        }
    }

    #[test]
    fn garbage_names_the_offset() {
        assert_eq!(parse(b"not an archive".repeat(20)).1, Err(ArchiveError::Magic(0)));
        let mut bytes = archive(&[("a", b"x")]);
        bytes[54] = b'z';
        assert_eq!(parse(bytes).1, Err(ArchiveError::Field(54)));
    }

    #[test]
    fn the_later_of_two_files_with_one_name_stays() {
        let (initrd, _) = parse(archive(&[("a", b"old"), ("a", b"new")]));
        assert_eq!(initrd.find("a").unwrap().bytes, b"new");
        assert_eq!(initrd.files().count(), 1);
    }
}
