//! NVDIMMs: what the user asked for, checked against the backing file, and the file itself.
//!
//! QEMU answers a bad size, alignment or label size with a puzzling line or with silent trimming, so
//! every number is checked here first and the bad one is named. Asking (`check`) changes nothing;
//! `open` creates the file and locks it, so two guests never share one by accident.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::channels;
use crate::failure::Failure;
use crate::size::{GIB, MIB_2, PAGE, Size};

/// QEMU's smallest label area (hw/mem/nvdimm.c, MIN_NAMESPACE_LABEL_SIZE).
pub const MIN_LABEL: Size = Size(128 << 10);
/// QEMU's largest number of memory devices (ACPI_MAX_RAM_SLOTS).
pub const MAX_NVDIMMS: usize = 256;

/// `FILE[,size=][,align=][,label-size=][,unarmed=on]`, as typed. A comma in FILE is doubled, as in QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvdimmRequest {
    path: PathBuf,
    size: Option<Size>,
    align: Option<Size>,
    label_size: Option<Size>,
    armed: bool,
}

/// Where the bytes of an NVDIMM are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file of exactly the right length, or an empty or missing one, which is made sparse.
    File(PathBuf),
    /// A file without a name that goes when the guest ends, however it ends.
    Temporary,
}

/// An NVDIMM whose numbers QEMU and the guest accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nvdimm {
    /// Where the bytes are.
    pub backing: Backing,
    /// What the guest may map: a multiple of 4 KiB and of `align`, not zero.
    pub usable: Size,
    /// The label area behind the usable bytes, at least 128 KiB when there is one.
    pub label: Option<Size>,
    /// The alignment of the guest physical address; a power of two, at least 4 KiB.
    pub align: Size,
    /// Whether the guest is told that the DIMM keeps its data.
    pub armed: bool,
}

impl FromStr for NvdimmRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A doubled comma stands for one in the name; no path contains NUL.
        let escaped = text.replace(",,", "\0");
        let mut parts = escaped.split(',').map(|part| part.replace('\0', ","));
        let path = parts.next().filter(|path| !path.is_empty()).ok_or("the file name is missing")?;
        let mut request = Self { path: path.into(), size: None, align: None, label_size: None, armed: true };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((&part, ""));
            let size = || value.parse::<Size>().map_err(|why| format!("{key}: {why}"));
            match (key, value) {
                ("size", _) => request.size = Some(size()?),
                ("align", _) => request.align = Some(size()?),
                ("label-size", _) => request.label_size = Some(size()?),
                ("unarmed", "on") => request.armed = false,
                ("unarmed", "off") => request.armed = true,
                ("unarmed", _) => return Err(format!("unarmed: '{value}' is neither on nor off")),
                _ => {
                    return Err(format!("'{part}' is unknown: use size=, align=, label-size= or unarmed=on"));
                }
            }
        }
        Ok(request)
    }
}

impl NvdimmRequest {
    /// Checks every number of the request, and the backing file as it is now. Changes nothing.
    ///
    /// `map_align` is the alignment of the guest's devices: the default of `align=` where the size
    /// allows it.
    pub fn check(&self, map_align: Size) -> Result<Nvdimm, Failure> {
        self.check_numbers(map_align)
            .map_err(|why| Failure::launcher(format!("NVDIMM {}: {why}", self.path.display())))
    }

    fn check_numbers(&self, map_align: Size) -> Result<Nvdimm, String> {
        match self.label_size {
            Some(label) if label < MIN_LABEL => {
                return Err(format!(
                    "label-size {label} is too small: QEMU wants at least {MIN_LABEL} (leave it out for none)"
                ));
            }
            Some(label) if !label.is_multiple_of(PAGE) => {
                return Err(format!("label-size {label} is not a multiple of 4K"));
            }
            _ => {}
        }
        let length = existing_length(&self.path)?;
        let usable = self.usable(length)?;
        if usable == Size(0) || !usable.is_multiple_of(PAGE) {
            let origin = length.map_or(String::new(), |length| format!(" of a file of {length}"));
            return Err(format!("usable size {usable}{origin} is not a multiple of 4K above zero"));
        }
        let align = match self.align {
            Some(align) if align < PAGE || !align.bytes().is_power_of_two() => {
                return Err(format!(
                    "align {align} is not a power of two of at least 4K (such as 4K, 2M, 1G)"
                ));
            }
            Some(align) if !usable.is_multiple_of(align) => return Err(misfit(usable, align)),
            Some(align) => align,
            None => default_align(usable, map_align),
        };
        let backing = Backing::File(self.path.clone());
        Ok(Nvdimm { backing, usable, label: self.label_size, align, armed: self.armed })
    }

    /// The usable size: as asked for and in agreement with the file, or what the file holds, or 1 GiB.
    fn usable(&self, length: Option<Size>) -> Result<Size, String> {
        let label = self.label_size.unwrap_or(Size(0));
        let usable = match (length, self.size) {
            (_, Some(size)) => size,
            (None, None) => GIB,
            (Some(length), None) if length <= label => {
                return Err(format!("the file has {length}: nothing is left beside label-size {label}"));
            }
            (Some(length), None) => Size(length.bytes() - label.bytes()),
        };
        let total = usable.plus(label).ok_or("size + label-size is more than 64 bits can count")?;
        match length {
            Some(length) if length != total => Err(format!(
                "the file has {length}, but size {usable} and label-size {label} make {total}: leave \
                 size= out to use the whole file, or remove the file to have it created"
            )),
            _ => Ok(usable),
        }
    }
}

impl Nvdimm {
    /// The NVDIMM of a run that asked for none: 1 GiB, gone with the guest.
    pub fn temporary() -> Self {
        Self { backing: Backing::Temporary, usable: GIB, label: None, align: GIB, armed: true }
    }

    /// The length of the backing file: the usable bytes and the label area.
    pub fn file_size(&self) -> Size {
        Size(self.usable.bytes().saturating_add(self.label.map_or(0, Size::bytes)))
    }

    /// The path that QEMU opens.
    pub fn mem_path(&self) -> PathBuf {
        match &self.backing {
            Backing::File(path) => path.clone(),
            Backing::Temporary => channels::inherited_path(channels::NVDIMM_FD),
        }
    }

    /// Whether QEMU must map the file read-only: an unarmed DIMM over a file that we may not write.
    pub fn is_read_only(&self) -> bool {
        match &self.backing {
            Backing::File(path) if !self.armed && path.exists() => {
                OpenOptions::new().read(true).write(true).open(path).is_err()
            }
            _ => false,
        }
    }

    /// Makes the file when it is missing or empty, and locks it against other guests for as long as the
    /// result lives.
    pub fn open(&self) -> Result<File, Failure> {
        let fail = |why: String| match &self.backing {
            Backing::File(path) => Failure::launcher(format!("NVDIMM {}: {why}", path.display())),
            Backing::Temporary => {
                let folder = std::env::temp_dir();
                Failure::launcher(format!("temporary NVDIMM in {} (TMPDIR): {why}", folder.display()))
            }
        };
        let opened = match &self.backing {
            Backing::Temporary => tempfile::tempfile().map(|file| (file, None)),
            Backing::File(path) if self.is_read_only() => File::open(path).map(|file| (file, None)),
            Backing::File(path) => open_or_create(path),
        };
        let (file, created) = opened.map_err(|error| fail(error.to_string()))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(fail("in use: given twice, or another daxite runs on it".into()));
            }
            // Some file systems and devices know no locks: that is no reason to refuse them.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let is_empty = file.metadata().map_err(|error| fail(error.to_string()))?.len() == 0;
        // Sparse: the length takes no space on the disk.
        if is_empty && let Err(error) = file.set_len(self.file_size().bytes()) {
            if let Some(path) = created {
                let _ = fs::remove_file(path);
            }
            return Err(fail(format!("cannot be made {} long: {error}", self.file_size())));
        }
        Ok(file)
    }
}

/// Opens the file, and answers its path again if it was not there and so is ours to remove.
fn open_or_create(path: &Path) -> io::Result<(File, Option<&Path>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        // `create`, because a link to a file that is missing is there, too.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            options.create(true).truncate(false).open(path).map(|file| (file, None))
        }
        opened => opened.map(|file| (file, Some(path))),
    }
}

/// The length of the file, `None` when there is none or an empty one, which is as good.
fn existing_length(path: &Path) -> Result<Option<Size>, String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match (fs::metadata(path), parent) {
        (Ok(meta), _) if meta.is_file() => Ok((meta.len() > 0).then_some(Size(meta.len()))),
        (Ok(_), _) => Err("not a regular file".into()),
        (Err(error), _) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        (Err(_), Some(parent)) if !parent.is_dir() => {
            Err(format!("cannot be created: {} is not a directory", parent.display()))
        }
        (Err(_), _) => Ok(None),
    }
}

/// The largest of `map_align`, 2 MiB and 4 KiB that divides the size: more would make QEMU trim the tail.
fn default_align(usable: Size, map_align: Size) -> Size {
    [map_align, MIB_2, PAGE].into_iter().find(|align| usable.is_multiple_of(*align)).unwrap_or(PAGE)
}

fn misfit(usable: Size, align: Size) -> String {
    let fitting = Size(1 << usable.bytes().trailing_zeros());
    let rounded = usable.round_down(align);
    let other = if rounded == Size(0) { align } else { rounded };
    format!(
        "usable size {usable} is not a multiple of align {align} (QEMU would trim or refuse it): \
         use size={other} or align={fitting}"
    )
}

#[cfg(test)]
mod tests;
