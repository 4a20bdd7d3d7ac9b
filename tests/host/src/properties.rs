//! The 39 properties of the device-dax reference, section 7, and the tests that show them.
//!
//! A test shows `S6.2` when its name begins with `s6_2_`; it may begin with several. Names come from
//! `cargo test -- --list`, from the guest table, from the program `cases`, which lists itself, and from a list of
//! scripts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::case::{Boot, Paths, execute};
use crate::{guest_table, host, root};

/// Number, and what holds.
const PROPERTIES: [((u8, u8), &str); 39] = [
    ((1, 1), "thousands of devices, unique minors, one major"),
    ((1, 2), "minors are reused: create and delete never run out"),
    ((1, 3), "the last minor can be had, the next request fails cleanly"),
    ((1, 4), "no option or constant caps the number of devices"),
    ((1, 5), "the minor of a killed device is held until its last user goes"),
    ((2, 1), "a dax_device exists without a character device"),
    ((2, 2), "the service can be detached alone; killing the object stops both"),
    ((2, 3), "after a kill: no access, ENXIO"),
    ((2, 4), "freeing an alive device is detected"),
    ((2, 5), "two look-ups give one object, freed once"),
    ((2, 6), "direct_access gives what is left, refuses past the end and 0 pages"),
    ((3, 1), "a fault that waits for memory breaks no guard"),
    ((3, 2), "a kill waits for faults under way; then no entry is left"),
    ((3, 3), "a fault after the kill is SIGBUS and installs nothing"),
    ((3, 4), "the grace period is bounded, and ends without a timer"),
    ((3, 5), "a kill from inside a fault is refused, not a deadlock"),
    ((3, 6), "out of memory in a fault: reported, guard released, retry works"),
    ((4, 1), "every combination of features builds"),
    ((4, 2), "a senseless combination is refused in words"),
    ((4, 3), "an image without dax boots and lists regions as unclaimed"),
    ((4, 4), "an image without pmem serves other regions"),
    ((5, 1), "more than 256 devices"),
    ((5, 2), "an open costs the same with 1 device and with thousands"),
    ((5, 3), "an open descriptor holds the storage of a deleted device"),
    ((5, 4), "an open that races a delete: a valid descriptor or ENXIO"),
    ((5, 5), "a creation that fails at any step leaves nothing behind"),
    ((6, 1), "the mapping rules, each with its errno, in their order"),
    ((6, 2), "one fault, one entry of exactly the device's alignment"),
    ((6, 3), "addresses fit the offset, in random and fragmented spaces"),
    ((6, 4), "private is refused; untouched pages show the media; stores are shared"),
    ((6, 5), "an open descriptor outlives a disable; mmap ENXIO, touch SIGBUS"),
    ((6, 6), "after an enable: new mappings work, the content is unchanged"),
    ((6, 7), "unaligned munmap and mprotect are refused, the mapping intact"),
    ((7, 1), "start and size are multiples of the alignment, or refused with a reason"),
    ((7, 2), "n bytes take n / align faults, rounded up; a second run the same"),
    ((7, 3), "fork follows a documented policy"),
    ((7, 4), "what a device tells agrees with where it lies"),
    ((7, 5), "a second claim of a range is refused and names the holder"),
    ((7, 6), "data survive a boot; info block and labels are never touched"),
];

/// What `make check` shows, where no test runner lists it: a script, and the properties in front of its words.
const SCRIPTS: [(&str, &str); 1] =
    [("tests/features.sh", "s4_1_s4_2_every_combination_of_features_builds_or_is_refused_in_words")];

/// Lists every property with its tests; `false` when one has none.
pub fn print(build: PathBuf) -> io::Result<bool> {
    let mut shown: BTreeMap<(u8, u8), Vec<String>> = BTreeMap::new();
    let (host, guest) = (host::names()?, guest_names(&Paths::new(build)?)?);
    let table = guest_table::table().into_iter().map(|case| case.name);
    let scripts = SCRIPTS.iter().filter(|(script, _)| root().join(script).is_file());
    for (where_, name) in host
        .into_iter()
        .map(|name| ("host ", name))
        .chain(guest.into_iter().map(|name| ("guest", name)))
        .chain(table.map(|name| ("boots", name)))
        .chain(scripts.map(|(script, words)| ("check", format!("{script} {words}"))))
    {
        numbers(&name).for_each(|number| shown.entry(number).or_default().push(format!("{where_} {name}")));
    }
    let mut missing = 0;
    for (number, text) in PROPERTIES {
        let (seed, property) = number;
        println!("S{seed}.{property}  {text}");
        match shown.get(&number) {
            Some(tests) => tests.iter().for_each(|test| println!("      {test}")),
            None => {
                missing += 1;
                println!("      MISSING: no test shows it");
            }
        }
    }
    let unknown: Vec<_> =
        shown.keys().filter(|number| PROPERTIES.iter().all(|(known, _)| known != *number)).collect();
    let count = PROPERTIES.iter().filter(|(number, _)| shown.contains_key(number)).count();
    println!("{count} of {} properties shown, {missing} missing", PROPERTIES.len());
    if !unknown.is_empty() {
        println!("tests name properties that do not exist: {unknown:?}");
    }
    Ok(missing == 0 && unknown.is_empty())
}

/// The cases of the program `cases`, which lists in the guest all that it would run there.
fn guest_names(paths: &Paths) -> io::Result<Vec<String>> {
    let dir = paths.scratch("properties")?;
    let list = Boot::of("cases").args(&["--list"]).at("2M").quiet();
    let ran = execute(list.command(paths, &dir), &dir)?;
    let names: Vec<_> = String::from_utf8_lossy(&ran.stdout).lines().map(str::to_owned).collect();
    if !ran.status.is_some_and(|status| status.success())
        || names.iter().all(|name| numbers(name).next().is_none())
    {
        return Err(io::Error::other(format!("cases --list names no property:\n{}", ran.text())));
    }
    fs::remove_dir_all(dir)?;
    Ok(names)
}

/// The properties that a name begins with: its last word, behind the last `::`.
fn numbers(name: &str) -> impl Iterator<Item = (u8, u8)> {
    let mut rest = name.rsplit([' ', ':']).next().unwrap_or_default();
    std::iter::from_fn(move || {
        let (seed, behind) = rest.strip_prefix('s')?.split_once('_')?;
        let (property, behind) = behind.split_once('_')?;
        rest = behind;
        Some((seed.parse().ok()?, property.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_properties() {
        let of = |name| numbers(name).collect::<Vec<_>>();
        assert_eq!(of("dax::tests::s6_2_one_entry"), [(6, 2)]);
        assert_eq!(of("tests::s3_2_s3_3_after_a_kill"), [(3, 2), (3, 3)]);
        assert_eq!(of("q35 2M s7_6_the_counter"), [(7, 6)]);
        assert_eq!(of("tests::small_2_x"), []);
    }

    #[test]
    fn the_properties_are_those_of_seven_seeds() {
        let count = |seed| PROPERTIES.iter().filter(|((of, _), _)| *of == seed).count();
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(count), [5, 6, 6, 4, 5, 7, 6]);
    }
}
