//! Dynamic programs, their libraries, scripts: what the launcher brings along, and what the kernel makes of it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::case::{Boot, Case};

/// Scripts of the program `dynamic`, in /test of the guest: name, contents.
const SCRIPTS: [(&str, &str); 8] = [
    ("script", "#!/bin/dynamic --child\n"),
    ("script-of-script", "#! /test/script\n"),
    ("no-program", "no program\n"),
    ("no-interpreter", "#!/none\n"),
    ("empty-interpreter", "#! \n"),
    ("directory-interpreter", "#!/test\n"),
    ("data-interpreter", "#!/test/data\n"),
    ("endless", "#!/test/endless\n"),
];

pub fn table() -> Vec<Case> {
    let mut table: Vec<Case> = ["1", "4"].into_iter().flat_map(programs).collect();
    table.extend(hellos());
    table.extend(refusals());
    table
}

/// C and C++ as gcc and g++ make them.
fn programs(cpus: &str) -> Vec<Case> {
    let names = ["processes-dynamic", "threads-dynamic", "cpp-dynamic", "cpp-static"];
    let with = |boot: Boot| boot.with(&["--cpus", cpus, "--no-nvdimm"]).ktap();
    let mut table: Vec<Case> =
        names.map(|name| Case::new(format!("{cpus} CPU(s) {name}")).boot(with(Boot::of(name)))).into();
    let mut boot = with(Boot::of("dynamic")).with(&["--file", "{guest}/libplugin.so:/lib/libplugin.so"]);
    for name in ["no-loader", "bad-loader"] {
        boot = boot.with(&["--file", &format!("{{guest}}/{name}:/test/{name}")]);
    }
    for (name, _) in SCRIPTS.iter().chain(&[("data", "")]) {
        boot = boot.with(&["--file", &format!("{{dir}}/{name}:/test/{name}")]);
    }
    let boot = boot.log("warning: *no-loader needs /none, which is not on this host");
    let case = Case::new(format!("{cpus} CPU(s) dynamic")).file("data", b"nor is this".to_vec());
    let scripts =
        |_: &_, dir: &Path| SCRIPTS.iter().try_for_each(|(name, text)| write_script(&dir.join(name), text));
    table.push(case.prepare(scripts).boot(boot));
    table
}

/// Other loaders, a script of this host's shell.
fn hellos() -> Vec<Case> {
    let hello = |name: &str| {
        let boot = Boot::of(name).args(&["one", "two words"]).with(&["--env", "LEVEL=3", "--no-nvdimm"]);
        Case::new(name).boot(boot.out("hello").out("argv[2]=two words").out("env LEVEL=3"))
    };
    let script = "#!/bin/sh -u\necho \"$0 has $# arguments, the first is $1\"\nexit 9\n";
    let boot = Boot::of("{dir}/script.sh").args(&["a b", "c"]).with(&["--no-nvdimm"]).status(9);
    vec![
        hello("hello-dynamic"),
        Case::new("a folder comes with all that is in it")
            .prepare(|_, dir| {
                write_script(
                    &dir.join("script.sh"),
                    "#!/bin/sh\necho /f/*/* && read -r x < /f/a/link && echo \"$x\"\n",
                )?;
                fs::create_dir_all(dir.join("folder/a/empty"))?;
                fs::write(dir.join("folder/a/file"), "contents\n")?;
                symlink("file", dir.join("folder/a/link"))
            })
            .boot(
                Boot::of("{dir}/script.sh")
                    .with(&["--no-nvdimm", "--file", "{dir}/folder:/f"])
                    .out("/f/a/empty /f/a/file /f/a/link")
                    .out("contents"),
            ),
        hello("hello-musl-dynamic"),
        Case::new("a script and the shell that it names")
            .prepare(move |_, dir| write_script(&dir.join("script.sh"), script))
            .boot(boot.out("/bin/script.sh has 2 arguments, the first is a b")),
    ]
}

/// What is not there is named, by the launcher or by the kernel.
fn refusals() -> Vec<Case> {
    let alone = |name: &'static str, status: i32, boot: Boot| {
        Case::new(name)
            .prepare(|paths, dir| fs::copy(paths.guest().join("dynamic"), dir.join("dynamic")).map(drop))
            .boot(boot.with(&["--no-nvdimm"]).status(status))
    };
    let own = ["--file", "{guest}/libdynamic.so:/lib/libdynamic.so"];
    vec![
        alone(
            "a library that is missing is named",
            126,
            Boot::of("{dir}/dynamic").log("*/dynamic needs libdynamic.so, which is not on this host*--file"),
        ),
        alone(
            "a library by --file is found where it goes",
            31,
            Boot::of("{dir}/dynamic").with(&own).args(&["--child"]),
        ),
        Case::new("--no-libs brings no loader").boot(
            Boot::of("hello-dynamic").with(&["--no-libs", "--no-nvdimm"]).status(126).log(
                "/bin/hello-dynamic: needs /lib64/ld-linux-x86-64.so.2, which is not there or not executable",
            ),
        ),
    ]
}

fn write_script(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
