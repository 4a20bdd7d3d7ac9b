//! What `--file` brings when it names a folder: all that is in it, links as links.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::place::Place;
use crate::run::say;

/// The guest's files, folders and links that were asked for.
#[derive(Debug, Default)]
pub struct Contents {
    /// All of them. A folder comes before what is in it.
    pub places: Vec<Place>,
    /// What the links among them lead to, by their path in the guest.
    pub links: BTreeMap<String, PathBuf>,
}

impl Contents {
    /// What `files` name, with the contents of folders. `program` and each of `files` win over what a folder has at
    /// their path.
    pub fn of(files: &[Place], program: &Place) -> Result<Self, Failure> {
        let named: HashSet<&str> = files.iter().chain([program]).map(|place| place.guest.as_str()).collect();
        let mut contents = Self::default();
        for place in files {
            contents.places.push(place.clone());
            if !place.host.is_dir() {
                continue;
            }
            // The walk grows the list that it walks. It follows no links, so it ends.
            let top = place.host.canonicalize().unwrap_or_else(|_| place.host.clone());
            let mut at = contents.places.len() - 1;
            while let Some(folder) = contents.places.get(at).cloned() {
                let is_link = contents.links.contains_key(&folder.guest);
                if !is_link && folder.host.is_dir() {
                    let failed =
                        |error| Failure::launcher(format!("folder {}: {error}", folder.host.display()));
                    contents.add_entries(&folder, &top, &named).map_err(failed)?;
                }
                at += 1;
            }
        }
        Ok(contents)
    }

    fn add_entries(&mut self, folder: &Place, top: &Path, named: &HashSet<&str>) -> io::Result<()> {
        let mut entries: Vec<DirEntry> = fs::read_dir(&folder.host)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type()?);
            let left_out = |why: &str| say(&format!("daxite: warning: {}: {why}: left out", path.display()));
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                left_out("the name is not UTF-8");
                continue;
            };
            let place = folder.join(name);
            if named.contains(place.guest.as_str()) {
                continue;
            }
            // A file outside, to which the guest could not follow, is brought instead of the link.
            let is_file_outside =
                || path.canonicalize().is_ok_and(|target| target.is_file() && !target.starts_with(top));
            if kind.is_symlink() && !is_file_outside() {
                self.links.insert(place.guest.clone(), fs::read_link(&path)?);
            } else if !(kind.is_dir() || path.is_file()) {
                left_out("is neither a file nor a folder");
                continue;
            }
            self.places.push(place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_folder_brings_all_that_is_in_it() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("a/empty")).expect("made");
        for file in ["top/a/file", "top/prog", "outside"] {
            fs::write(dir.path().join(file), file).expect("written");
        }
        for (target, link) in
            [("a/file", "inside"), ("../outside", "out"), ("none", "dangling"), ("..", "up")]
        {
            symlink(target, top.join(link)).expect("linked");
        }
        let _socket = UnixListener::bind(top.join("socket")).expect("bound");
        let program = Place { host: "prog".into(), guest: "/t/prog".into() };
        let place = Place { host: top.clone(), guest: "/t".into() };
        let contents = Contents::of(&[place], &program).expect("readable");
        let guests: Vec<&str> = contents.places.iter().map(|place| place.guest.as_str()).collect();
        assert_eq!(
            guests,
            ["/t", "/t/a", "/t/dangling", "/t/inside", "/t/out", "/t/up", "/t/a/empty", "/t/a/file"]
        );
        let links: Vec<&str> = contents.links.keys().map(String::as_str).collect();
        assert_eq!(links, ["/t/dangling", "/t/inside", "/t/up"]);
    }

    #[test]
    fn a_file_is_itself() {
        let place = Place { host: "/none".into(), guest: "/n".into() };
        let contents = Contents::of(std::slice::from_ref(&place), &place).expect("nothing is read");
        assert_eq!((contents.places, contents.links.len()), (vec![place], 0));
    }
}
