//! What programs need beside themselves: interpreters and libraries, found as the guest's loader will look for them.
//!
//! The rules are those of ld.so(8): the rpath of whoever asks and of whoever asked for it, LD_LIBRARY_PATH, the
//! runpath of whoever asks, /etc/ld.so.cache, the usual folders. Each file is brought to the path at which the guest
//! finds it first, which is its path on this host but where `$ORIGIN` is part of it: the program lies in the
//! guest's /bin. A file that the user has put there himself is the one that counts.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use object::elf::ET_DYN;

use crate::failure::Failure;
use crate::image::Image;
use crate::ld_cache::{self, LdCache};
use crate::place::Place;
use crate::program;
use crate::run::say;

/// Where a loader looks at last (ld.so: Debian's order, then Fedora's).
const FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// glibc loads the second one without naming it, when a thread ends early.
const GLIBC: &str = "libc.so.6";
const UNWINDER: &str = "libgcc_s.so.1";

/// All that `program` and then `files` need and that is not among them. `library_path` is LD_LIBRARY_PATH.
///
/// Fails with 126 when something that the program needs is not there, and names it. The same of a file, which may
/// never be run, is a warning.
pub fn needed_by(program: &Place, files: &[Place], library_path: &str) -> Result<Vec<Place>, Failure> {
    let given = [program].into_iter().chain(files);
    let mut search = Search {
        files: given.map(|place| (place.guest.clone(), place.host.clone())).collect(),
        found: Vec::new(),
        names: HashSet::new(),
        library_path,
        cache: fs::read(ld_cache::PATH).map_or_else(|_| LdCache::default(), |bytes| LdCache::parse(&bytes)),
    };
    search.add_needs(program)?;
    for file in files {
        if let Err(failure) = search.add_needs(file) {
            say(&format!("daxite: warning: {failure}"));
        }
    }
    Ok(search.found)
}

struct Search<'a> {
    /// The guest's files so far: guest path, path here.
    files: BTreeMap<String, PathBuf>,
    /// Those of them that nobody gave.
    found: Vec<Place>,
    /// What libraries are called that the last program has.
    names: HashSet<String>,
    library_path: &'a str,
    cache: LdCache,
}

/// A program or a library that is loaded, in the order of loading.
struct Object {
    place: Place,
    image: Image,
    /// Who asked for it first: an index.
    asked_by: Option<usize>,
}

impl Search<'_> {
    fn add_needs(&mut self, user: &Place) -> Result<(), Failure> {
        if let Some(path) = program::script_interpreter(&user.host) {
            let before = self.found.len();
            let interpreter = self.add_interpreter(&path, user)?;
            // One that was there already has had its turn, or will have it.
            if self.found.len() > before { self.add_needs(&interpreter) } else { Ok(()) }
        } else if let Ok(image) = Image::read(&user.host) {
            self.add_libraries(user, image)
        } else {
            Ok(())
        }
    }

    fn add_interpreter(&mut self, path: &str, user: &Place) -> Result<Place, Failure> {
        let place = self.chosen(Place::same(path));
        if !place.host.is_file() {
            return Err(missing(path, user));
        }
        self.add(&place);
        Ok(place)
    }

    /// Adds a program's interpreter and libraries, or those of a library that the last program will open: breadth
    /// first, each name once.
    fn add_libraries(&mut self, user: &Place, image: Image) -> Result<(), Failure> {
        if let Some(path) = &image.interpreter {
            let loader = self.add_interpreter(path, user)?;
            // It is there from the start, and is not looked for by its name. musl's is the C library, too, which need
            // not say so.
            let name = Image::read(&loader.host).ok().and_then(|loader| loader.soname);
            self.names = HashSet::from([name.unwrap_or_else(|| "libc.so".into())]);
        }
        // A program's folder is the one of the file that links lead to (/proc/self/exe).
        let host = fs::canonicalize(&user.host).unwrap_or_else(|_| user.host.clone());
        let mut objects = vec![Object { place: Place { host, ..user.clone() }, image, asked_by: None }];
        for at in 0.. {
            let Some(object) = objects.get(at) else { break };
            let is_glibc = object.image.soname.as_deref() == Some(GLIBC);
            let needed = object.image.needed.iter().cloned().chain(is_glibc.then(|| UNWINDER.into()));
            for name in needed.collect::<Vec<String>>() {
                if self.names.contains(&name) {
                    continue;
                }
                let Some((place, image)) = self.find(&name, at, &objects) else {
                    if is_glibc && name == UNWINDER {
                        continue;
                    }
                    return Err(missing(&name, &objects[at].place));
                };
                self.add(&place);
                self.names.extend(image.soname.clone());
                self.names.insert(name);
                objects.push(Object { place, image, asked_by: Some(at) });
            }
        }
        if objects.len() > 1 && Path::new(ld_cache::PATH).is_file() {
            self.add(&Place::same(ld_cache::PATH).normal());
        }
        Ok(())
    }

    /// The library that the loader takes for `name` when `objects[asking]` needs it.
    fn find(&self, name: &str, asking: usize, objects: &[Object]) -> Option<(Place, Image)> {
        let candidates = match name.contains('/') {
            true => vec![Place::expand(name, &objects[asking].place.folder())],
            false => self.candidates(name, asking, objects),
        };
        candidates.into_iter().find_map(|place| {
            let place = self.chosen(place);
            // Files of other kinds and machines are passed over.
            let image = Image::read(&place.host).ok().filter(|image| image.kind == ET_DYN)?;
            Some((place, image))
        })
    }

    fn candidates(&self, name: &str, asking: usize, objects: &[Object]) -> Vec<Place> {
        let listed = |list: Option<&str>, object: &Object| -> Vec<Place> {
            let origin = object.place.folder();
            let list = list.map(|list| list.split([':', ';']));
            list.into_iter().flatten().map(|folder| Place::expand(folder, &origin)).collect()
        };
        let object = &objects[asking];
        let mut folders = Vec::new();
        if object.image.runpath.is_none() {
            let mut next = Some(object);
            while let Some(object) = next {
                let counts = object.image.runpath.is_none();
                folders.extend(listed(object.image.rpath.as_deref().filter(|_| counts), object));
                next = object.asked_by.map(|at| &objects[at]);
            }
        }
        folders.extend(listed(Some(self.library_path).filter(|list| !list.is_empty()), object));
        folders.extend(listed(object.image.runpath.as_deref(), object));
        let mut places: Vec<Place> = folders.iter().map(|folder| folder.join(name)).collect();
        places.extend(self.cache.find(name).map(Place::same));
        places.extend(FOLDERS.map(|folder| Place::same(folder).join(name)));
        places
    }

    /// The place with the file that the guest will have there.
    fn chosen(&self, place: Place) -> Place {
        let Place { host, guest } = place.normal();
        Place { host: self.files.get(&guest).cloned().unwrap_or(host), guest }
    }

    fn add(&mut self, place: &Place) {
        if self.files.insert(place.guest.clone(), place.host.clone()).is_none() {
            self.found.push(place.clone());
        }
    }
}

fn missing(what: &str, user: &Place) -> Failure {
    Failure::cannot_run(format!(
        "{} needs {what}, which is not on this host: bring it with --file HOST:GUEST, or say --no-libs",
        user.host.display()
    ))
}

#[cfg(test)]
mod tests;
