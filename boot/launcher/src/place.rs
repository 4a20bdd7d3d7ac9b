//! Paths on this host, and where the guest has what is there.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::initrd::TRAILER;

/// The folder of the guest that is ours.
const RESERVED: &str = "/.daxite";
/// `$LIB` where libraries of several machines lie side by side (Debian).
const MULTIARCH: &str = "lib/x86_64-linux-gnu";

/// A file or a folder of this host, and where the guest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its path here.
    pub host: PathBuf,
    /// Its absolute path there.
    pub guest: String,
}

impl Place {
    /// `HOST:GUEST` in full.
    pub fn as_typed(&self) -> OsString {
        let mut text = self.host.clone().into_os_string();
        text.push(":");
        text.push(&self.guest);
        text
    }

    /// The same path here and there. One that is not absolute counts from the current directory: ours, and the
    /// guest's `/`.
    pub fn same(path: &str) -> Self {
        Self { host: path.into(), guest: format!("/{path}") }
    }

    /// The folder that this file is in.
    pub fn folder(&self) -> Self {
        let guest = self.guest.rsplit_once('/').map_or("", |(folder, _)| folder);
        Self { host: self.host.parent().unwrap_or(Path::new("/")).into(), guest: guest.into() }
    }

    /// `name` in this folder.
    pub fn join(&self, name: &str) -> Self {
        Self { host: self.host.join(name), guest: format!("{}/{name}", self.guest) }
    }

    /// A path with names of ld.so(8) in it: `$ORIGIN` stands for the folder `origin`, `$LIB` for what the folder of
    /// libraries is called on this host, `$PLATFORM` for the machine as the guest names it (AT_PLATFORM).
    pub fn expand(path: &str, origin: &Self) -> Self {
        let lib = if Path::new("/").join(MULTIARCH).is_dir() { MULTIARCH } else { "lib64" };
        let with = |folder: &str| {
            let names = [("ORIGIN", folder), ("LIB", lib), ("PLATFORM", "x86_64")];
            names.iter().fold(path.to_owned(), |path, (name, value)| {
                path.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
            })
        };
        Self { host: with(&origin.host.to_string_lossy()).into(), ..Self::same(&with(&origin.guest)) }
    }

    /// The guest's path without `.`, `..` and empty parts.
    pub fn normal(mut self) -> Self {
        let mut parts = Vec::new();
        for part in self.guest.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        self.guest = format!("/{}", parts.join("/"));
        self
    }
}

/// `HOST[:GUEST]`: by default /NAME, but the same path for a folder that is named by an absolute one.
impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The last ":/" divides, so a name with a colon of its own still works.
        let (host, guest) = match text.rfind(":/") {
            Some(at) => (&text[..at], &text[at + 1..]),
            None if text.starts_with('/') && Path::new(text).is_dir() => (text, text.trim_end_matches('/')),
            None => (text, "/"),
        };
        let host = PathBuf::from(host);
        let name = host.file_name().and_then(OsStr::to_str).ok_or("HOST is not the name of a file")?;
        let guest = if guest.ends_with('/') { format!("{guest}{name}") } else { guest.into() };
        if guest.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("guest path '{guest}' has an empty part, '.' or '..'"));
        }
        if Path::new(&guest).starts_with(RESERVED) {
            return Err(format!("guest path '{guest}': {RESERVED} is daxite's own; use another folder"));
        }
        if guest.strip_prefix('/') == Some(TRAILER) {
            return Err(format!(
                "guest path '{guest}' would end the archive: use HOST:GUEST with another name"
            ));
        }
        Ok(Self { host, guest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_paths_come_from_the_request() {
        let parse = |text: &str| text.parse::<Place>().map(|file| file.guest);
        assert_eq!(parse("dir/data.bin"), Ok("/data.bin".into()));
        assert_eq!(parse("data.bin:/etc/data"), Ok("/etc/data".into()));
        assert_eq!(parse("data.bin:/etc/"), Ok("/etc/data.bin".into()));
        assert_eq!(parse("a:b:/c"), Ok("/c".into()));
        assert_eq!(parse("/abs/data"), Ok("/data".into()));
        for text in ["x:/a/../b", "x:/a//b", "x:/./b", "..", "/"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["x:/.daxite", "x:/.daxite/argv", ".daxite"] {
            assert!(parse(text).is_err_and(|why| why.contains("/.daxite is daxite's own")), "{text}");
        }
        for text in ["x:/TRAILER!!!", "TRAILER!!!", "dir/TRAILER!!!:/"] {
            assert!(parse(text).is_err_and(|why| why.contains("would end the archive")), "{text}");
        }
        // Only the whole name of an entry counts.
        assert_eq!(parse("x:/.daxite2"), Ok("/.daxite2".into()));
        assert_eq!(parse("x:/a/TRAILER!!!"), Ok("/a/TRAILER!!!".into()));
    }

    #[test]
    fn origin_is_another_folder_in_the_guest() {
        let program = Place { host: "/home/me/build/prog".into(), guest: "/bin/prog".into() };
        let folder = Place::expand("${ORIGIN}/../lib/./x", &program.folder());
        let library = folder.join("liba.so").normal();
        assert_eq!(library.host, Path::new("/home/me/build/../lib/./x/liba.so"));
        assert_eq!(library.guest, "/lib/x/liba.so");
        // Names that stand for the same on both sides.
        let named = Place::expand("/opt/$LIB/${PLATFORM}", &program).guest;
        assert!(
            ["//opt/lib/x86_64-linux-gnu/x86_64", "//opt/lib64/x86_64"].contains(&named.as_str()),
            "{named}"
        );
        // Relative: to our current directory, and to the guest's.
        let relative = Place::expand("", &program).join("liba.so").normal();
        assert_eq!(relative, Place { host: "liba.so".into(), guest: "/liba.so".into() });
        assert_eq!(Place::same("/../../etc/x").normal().guest, "/etc/x");
    }
}
