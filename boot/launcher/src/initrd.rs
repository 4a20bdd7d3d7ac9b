//! The initrd: a newc cpio archive with the program, its files and libraries, its arguments and its environment.
//!
//! newc aligns file data to 4 bytes only, which the guest could not map. So each name is padded with NULs
//! until its data starts on a page of the archive, which QEMU loads on a page; `cpio -t` reads a name up to
//! its first NUL and does not mind. (The padding can push the stated name length a little past PATH_MAX.)
//!
//! `.daxite/argv` and `.daxite/envp` hold strings that each end with a NUL: `argv[0]` is the program as
//! typed, while the file that runs is `/bin/NAME`.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cli::ProgramOptions;
use crate::failure::Failure;
use crate::folder::Contents;
use crate::libraries;
use crate::place::Place;
use crate::program;
use crate::size::Size;

const PAGE: usize = 4096;
const HEADER: usize = 110;
/// What the kernel and a small program need beside the initrd.
const KERNEL_ROOM: Size = Size(4 << 20);
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
/// Where a dynamic program looks for its libraries: ours is handed on to it.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH=";
/// The name that ends an archive.
pub const TRAILER: &str = "TRAILER!!!";

/// The files of an initrd. Nothing but their metadata is read before it is written.
#[derive(Debug, Default)]
pub struct Initrd {
    entries: Vec<Entry>,
    /// The names of those that are files.
    names: HashSet<String>,
}

#[derive(Debug)]
struct Entry {
    /// Path in the guest without the leading slash.
    name: String,
    source: Source,
    mode: u32,
    mtime: u32,
    len: u32,
}

#[derive(Debug)]
enum Source {
    Host(PathBuf),
    Bytes(Vec<u8>),
}

impl Initrd {
    /// Plans the initrd of what is asked for, which is checked first: PROG, its files and what they need.
    pub fn new(options: &ProgramOptions, has_colour: bool) -> Result<Self, Failure> {
        let command = options.argv();
        let program = Path::new(command.first().map_or(OsStr::new(""), OsString::as_os_str));
        program::check(program)?;
        let mut initrd = Self::default();
        let argv = command.iter().map(|argument| argument.as_bytes());
        initrd.add_bytes(".daxite/argv", REGULAR | 0o444, nul_ended(argv))?;
        let program = Place { host: program.into(), guest: program::guest_path(program) };
        let contents = Contents::of(&options.files, &program)?;
        let mut env = options.environment(has_colour);
        let mut needed = Vec::new();
        if !options.no_libs {
            let set = env.iter().find_map(|variable| variable.strip_prefix(LIBRARY_PATH)).map(str::to_owned);
            let folders = set.or_else(|| std::env::var("LD_LIBRARY_PATH").ok()).unwrap_or_default();
            needed = libraries::needed_by(&program, &contents.places, &folders)?;
            if !needed.is_empty() && !folders.is_empty() {
                env.retain(|variable| !variable.starts_with(LIBRARY_PATH));
                env.push(format!("{LIBRARY_PATH}{folders}"));
            }
        }
        initrd.add_bytes(".daxite/envp", REGULAR | 0o444, nul_ended(env.iter().map(String::as_bytes)))?;
        for place in [&program].into_iter().chain(&contents.places).chain(&needed) {
            match contents.links.get(&place.guest) {
                Some(target) => {
                    initrd.add_bytes(
                        &place.guest[1..],
                        LINK | 0o777,
                        target.as_os_str().as_bytes().into(),
                    )?;
                }
                None => initrd.add_file(place)?,
            }
        }
        Ok(initrd)
    }

    /// Refuses an initrd that leaves the kernel no room in the guest's memory.
    pub fn check_fits(&self, memory: Size) -> Result<(), Failure> {
        let files: u64 = self.entries.iter().map(|entry| u64::from(entry.len) + 2 * PAGE as u64).sum();
        let needed = Size(files + KERNEL_ROOM.bytes()).round_up(Size(1 << 20));
        match needed {
            Some(needed) if needed > memory => Err(Failure::launcher(format!(
                "the program and its files do not fit in {memory} of memory: use --memory {needed} or more"
            ))),
            _ => Ok(()),
        }
    }

    /// Writes the archive to a file without a name in TMPDIR.
    pub fn to_temporary(&self) -> Result<File, Failure> {
        let file = tempfile::tempfile().and_then(|file| {
            let mut out = BufWriter::new(&file);
            self.write(&mut out)?;
            out.flush()?;
            drop(out);
            Ok(file)
        });
        file.map_err(|error| Failure::launcher(format!("cannot write the initrd: {error}")))
    }

    /// Writes the archive. A host file that changes its length meanwhile is an error, not a damaged archive.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut offset = 0;
        for (entry, inode) in self.entries.iter().zip(1_u32..) {
            let data_at = (offset + HEADER + entry.name.len() + 1).next_multiple_of(PAGE);
            let name_len = data_at - offset - HEADER;
            write_header(out, entry, inode, name_len)?;
            match &entry.source {
                Source::Bytes(bytes) => out.write_all(bytes)?,
                Source::Host(path) => copy_exactly(path, entry.len, out)?,
            }
            offset = (data_at + entry.len as usize).next_multiple_of(4);
            out.write_all(&[0; 3][..offset - data_at - entry.len as usize])?;
        }
        let trailer =
            Entry { name: TRAILER.into(), source: Source::Bytes(vec![]), mode: 0, mtime: 0, len: 0 };
        let name_len = (HEADER + trailer.name.len() + 1).next_multiple_of(4) - HEADER;
        write_header(out, &trailer, 0, name_len)
    }

    fn add_bytes(&mut self, name: &str, mode: u32, bytes: Vec<u8>) -> Result<(), Failure> {
        let len = newc_len(name, bytes.len() as u64)?;
        self.entries.push(Entry { name: name.into(), source: Source::Bytes(bytes), mode, mtime: 0, len });
        Ok(())
    }

    fn add_file(&mut self, Place { host, guest }: &Place) -> Result<(), Failure> {
        let fail = |why: String| Failure::launcher(format!("file {}: {why}", host.display()));
        let meta = fs::metadata(host).map_err(|error| fail(error.to_string()))?;
        let name = guest.trim_start_matches('/');
        let permissions = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            return self.add_bytes(name, FOLDER | permissions, Vec::new());
        }
        if !meta.is_file() {
            return Err(fail("is neither a regular file nor a folder".into()));
        }
        // Opened once now, so that a missing permission is told with the file's name.
        File::open(host).map_err(|error| fail(error.to_string()))?;
        if !self.names.insert(name.into()) {
            return Err(fail(format!("{guest} is already taken in the guest: use --file HOST:GUEST")));
        }
        self.entries.push(Entry {
            name: name.into(),
            source: Source::Host(host.clone()),
            mode: REGULAR | permissions,
            mtime: u32::try_from(meta.mtime()).unwrap_or(0),
            len: newc_len(guest, meta.len())?,
        });
        Ok(())
    }
}

fn nul_ended<'a>(strings: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    strings.flat_map(|string| string.iter().copied().chain([0])).collect()
}

fn newc_len(name: &str, bytes: u64) -> Result<u32, Failure> {
    u32::try_from(bytes).map_err(|_| {
        Failure::launcher(format!(
            "file {name}: {bytes} bytes are more than a newc archive holds (4 GiB - 1)"
        ))
    })
}

/// The header and the name with NULs up to `name_len` bytes. cpio(5), "New ASCII Format".
fn write_header(out: &mut impl Write, entry: &Entry, inode: u32, name_len: usize) -> io::Result<()> {
    let (uid, gid, links, device, check) = (0, 0, 1, 0, 0);
    write!(out, "070701{inode:08x}{:08x}{uid:08x}{gid:08x}{links:08x}", entry.mode)?;
    write!(out, "{:08x}{:08x}{device:08x}{device:08x}{device:08x}{device:08x}", entry.mtime, entry.len)?;
    write!(out, "{name_len:08x}{check:08x}{}", entry.name)?;
    let padding = vec![0; name_len - entry.name.len()];
    out.write_all(&padding)
}

fn copy_exactly(path: &Path, len: u32, out: &mut impl Write) -> io::Result<()> {
    let named = |error| io::Error::other(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(named)?;
    let copied = io::copy(&mut (&file).take(len.into()), out).map_err(named)?;
    if copied != u64::from(len) || (&file).read(&mut [0]).map_err(named)? != 0 {
        return Err(io::Error::other(format!("{} changed while it was read", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
