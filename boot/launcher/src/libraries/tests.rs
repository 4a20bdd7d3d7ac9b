use std::collections::BTreeSet;
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A folder, and shell commands that have made programs and libraries in it; `lib NAME FLAGS` makes one.
fn built(script: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let functions = "set -e\nlib() { name=$1; shift
        echo \"int $(basename $name .so)(void) { return 0; }\" >x.c
        gcc -shared -fPIC -Wl,--no-as-needed -Wl,-soname,$(basename $name) x.c -o $name \"$@\"; }
        prog() { echo 'int main(void) { return 0; }' >x.c; gcc -Wl,--no-as-needed x.c -o prog \"$@\"; }\n";
    let status =
        Command::new("sh").arg("-c").arg(format!("{functions}{script}")).current_dir(dir.path()).status();
    assert!(status.expect("sh starts").success());
    dir
}

fn program(host: &Path) -> Place {
    Place { host: host.into(), guest: "/bin/prog".into() }
}

/// The libraries that the host's own loader takes.
fn ldd(program: &Path, library_path: &str) -> BTreeSet<PathBuf> {
    let output =
        Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", library_path).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(|path| fs::canonicalize(path).expect(path)).collect()
}

/// What we take, less what the loader does not name.
fn ours(program: &Place, library_path: &str) -> BTreeSet<PathBuf> {
    let found = needed_by(program, &[], library_path).expect("all is there");
    let named =
        found.iter().filter(|place| place.guest != ld_cache::PATH && !place.guest.ends_with(UNWINDER));
    named.map(|place| fs::canonicalize(&place.host).expect("there")).collect()
}

#[test]
fn the_libraries_of_this_test_are_those_of_its_loader() {
    let own = std::env::current_exe().expect("known");
    let mut loaders = ldd(&own, "");
    loaders.retain(|path| !path.ends_with(UNWINDER));
    assert!(loaders.len() >= 2, "{loaders:?}");
    assert_eq!(ours(&program(&own), ""), loaders);
}

#[test]
fn folders_are_searched_in_the_order_of_the_loader() {
    // The same two libraries in three folders; who finds which depends on the kind of path and on who asks.
    let layout = |tag: &str, middle: &str| {
        format!(
            "mkdir one two three; for to in one two three; do lib $to/libb.so; done
             lib one/liba.so -Lone -lb {middle}; lib two/liba.so -Ltwo -lb {middle}
             prog -Lone -la -Wl,-rpath,'$ORIGIN/one' -Wl,--{tag}able-new-dtags -Wl,-rpath-link,one"
        )
    };
    let runpath = "-Wl,-rpath,$ORIGIN/../three -Wl,--enable-new-dtags";
    let rpath = "-Wl,-rpath,$ORIGIN/../three -Wl,--disable-new-dtags";
    let runpath = runpath.replace('$', "\\$");
    let rpath = rpath.replace('$', "\\$");
    for tag in ["en", "dis"] {
        for middle in ["", &runpath, &rpath] {
            let dir = built(&layout(tag, middle));
            let path = dir.path().join("prog");
            for folder in ["", "two", "none:three:two"] {
                let list = folder.split(':').map(|name| dir.path().join(name).display().to_string());
                let list = if folder.is_empty() { String::new() } else { list.collect::<Vec<_>>().join(":") };
                let loaders = ldd(&path, &list);
                match needed_by(&program(&path), &[], &list) {
                    Ok(_) => assert_eq!(ours(&program(&path), &list), loaders, "{tag} {middle} {list}"),
                    // Then the loader does not find it, either: it has fewer.
                    Err(why) => {
                        assert!(why.message.contains("liba.so needs libb.so"), "{why}");
                        assert!(
                            !loaders.iter().any(|path| path.ends_with("libb.so")),
                            "{tag} {middle} {list}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_library_goes_where_the_guest_looks_for_it() {
    let dir = built("mkdir lib; lib lib/liba.so; prog -Llib -la -Wl,-rpath,'$ORIGIN/lib/../lib'");
    let found = needed_by(&program(&dir.path().join("prog")), &[], "").expect("all is there");
    let guests: Vec<&str> = found.iter().map(|place| place.guest.as_str()).collect();
    assert_eq!(guests[..2], ["/lib64/ld-linux-x86-64.so.2", "/bin/lib/liba.so"]);
    assert!(guests.iter().any(|guest| guest.ends_with(GLIBC)), "{guests:?}");
}

#[test]
fn what_is_missing_is_named_and_a_file_can_stand_in() {
    let dir = built("mkdir lib; lib lib/liba.so; prog -Llib -la");
    let program = program(&dir.path().join("prog"));
    let failure = needed_by(&program, &[], "").expect_err("liba.so is nowhere");
    assert_eq!(failure.status, crate::failure::CANNOT_RUN);
    assert!(failure.message.contains("/prog needs liba.so, which is not on this host"), "{failure}");
    let stand_in = Place { host: dir.path().join("lib/liba.so"), guest: "/usr/lib/liba.so".into() };
    let found = needed_by(&program, &[stand_in], "").expect("found");
    assert!(found.iter().all(|place| !place.guest.contains("liba.so")), "{found:?}");
    // A library that the program will open does not need again what the program has.
    let plugin = Place { host: dir.path().join("lib/liba.so"), guest: "/lib/liba.so".into() };
    assert_eq!(needed_by(&program, &[plugin], "").expect("found").len(), found.len());
}

#[test]
fn a_script_brings_its_interpreter_and_what_that_needs() {
    use std::os::unix::fs::PermissionsExt;
    let dir = built("printf '#! /bin/sh -e\\n' >script; printf '#!%s\\n' $PWD/script2 >script2");
    for name in ["script", "script2"] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).expect("mode set");
    }
    let found = needed_by(&program(&dir.path().join("script")), &[], "").expect("sh is there");
    assert_eq!(found[0], Place { host: "/bin/sh".into(), guest: "/bin/sh".into() });
    assert!(found.iter().any(|place| place.guest.ends_with(GLIBC)), "{found:?}");
    // One that is its own interpreter ends, too.
    assert_eq!(needed_by(&program(&dir.path().join("script2")), &[], "").expect("there").len(), 1);
}
