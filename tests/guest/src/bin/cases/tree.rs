//! The tree of files in RAM: what programs make, change, list and take away in it.

mod contents;
mod mappings;
mod names;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use guest::ktap::Case;

use crate::{Context, family};

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    [contents::CASES, names::CASES, mappings::CASES]
        .into_iter()
        .flat_map(|table| family("tree", table))
        .collect()
}

/// Those that need the kernel's counters.
pub fn counted_cases() -> Vec<Case<Context>> {
    family("tree", contents::COUNTED)
}

/// A directory of this process's own, which goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Scratch, String> {
        let path = PathBuf::from(format!("/tmp/tree-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("mkdir {path:?}: {error}"))?;
        Ok(Scratch(path))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new file with these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> Result<File, String> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(self.join(name));
        let mut file = file.map_err(|error| format!("create {name}: {error}"))?;
        file.write_all(bytes).map_err(|error| format!("write of {name}: {error}"))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// The errno of an answer, 0 when it is good.
fn errno<T>(answer: io::Result<T>) -> i32 {
    answer.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn listing(path: impl AsRef<Path>) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(text)? {
        names.push(entry.map_err(text)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
