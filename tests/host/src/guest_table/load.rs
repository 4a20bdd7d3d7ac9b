//! Many tasks, many CPUs, many devices: the programs `stress`, `million`, `hostile` and
//! `fuzz_calls`.
//!
//! They run on the kernel with `checks`, which looks through every page table after each kill; what they
//! count they assert themselves, from the targets in their arguments.

use crate::case::{Boot, Case};

/// Alignment, memory of the guest's NVDIMM, devices, units of each, faults that are to happen.
///
/// The faults are more than a million in all.
const STRESS: [(&str, &str, &str, &str, &str); 3] = [
    ("4K", "16M", "4", "64", "600000"),
    ("2M", "512M", "4", "32", "400000"),
    ("1G", "8G", "2", "4", "100000"),
];
/// At each alignment: kills that find a live entry, kills that wait for an install in flight.
const LIVE: &str = "1000";
const WAITED: &str = "100";

/// All runs.
pub fn table() -> Vec<Case> {
    let mut table: Vec<Case> = STRESS.map(stress).into();
    table.push(scrubbed("4K", "16M", "64"));
    table.push(scrubbed("2M", "64M", "4"));
    table.push(million());
    table.extend(survived());
    table.extend(["1", "4"].into_iter().flat_map(|cpus| ["1", "time"].map(|seed| random_calls(cpus, seed))));
    table
}

/// System calls with random arguments: one seed that repeats, one from the clock that the output names.
fn random_calls(cpus: &str, seed: &str) -> Case {
    let options = ["--cpus", cpus, "--memory", "64M", "--timeout", "90", "--nvdimm", "{dir}/n.img,size=32M"];
    let boot = Boot::of("fuzz_calls").kernel("checks").args(&[seed, "5000"]).with(&options).at("2M");
    Case::new(format!("q35 2M {cpus} CPU(s) survives random calls, seed {seed}"))
        .boot(boot.out("fuzz_calls: seed *").out("*; survived"))
}

fn on_checks(cpus: &str, program: &str, nvdimm_size: &str) -> Boot {
    let nvdimm = format!("{{dir}}/n.img,size={nvdimm_size}");
    let options = ["--cpus", cpus, "--memory", "64M", "--timeout", "180", "--nvdimm", &nvdimm];
    Boot::of(program).kernel("checks").with(&options)
}

fn stress((align, size, devices, units, faults): (&str, &str, &str, &str, &str)) -> Case {
    let counts = ["--faults", faults, "--live", LIVE, "--waited", WAITED, "--seconds", "150"];
    let boot = on_checks("4", "stress", size).at(align).args(&["--align", align, "--devices", devices]);
    let boot = boot.args(&["--units", units]).args(&counts);
    let boot =
        boot.out("kills that found a live entry *").out("kills that waited for an install in flight *");
    Case::new(format!("q35 {align} 4 CPUs s3_2_s3_3_s5_4_stress")).boot(boot.log("smp: 4 CPUs"))
}

/// What one owner left the next never sees.
fn scrubbed(align: &str, size: &str, units: &str) -> Case {
    let counts = ["--faults", "20000", "--live", "200", "--seconds", "100", "--scrub", "--seed", "2"];
    let boot = on_checks("4", "stress", size).at(align).args(&["--align", align, "--units", units]);
    Case::new(format!("q35 {align} 4 CPUs stress with scrub")).boot(boot.args(&counts))
}

fn million() -> Case {
    let options = ["--icount", "--memory", "1G", "--nvdimm", "{dir}/n.img,size=5G", "--timeout", "600"];
    let boot = Boot::of("million").at("4K").with(&options);
    Case::new("q35 4K s1_1_s1_2_s1_3_s5_1_s5_2_a_million_devices")
        .boot(boot.out("devices: 1048575, * bytes each").out("the request past the last minor: ENOSPC"))
}

/// What programs may do to the kernel and to each other.
fn survived() -> Vec<Case> {
    let modes: [(&str, &str); 7] = [
        ("fork", "a fork bomb"),
        ("thread", "a thread bomb"),
        ("memory", "processes that take all memory"),
        ("hoard", "processes that take all of everything else"),
        ("kill", "a storm of signals"),
        ("sysfs", "garbage in every attribute"),
        ("exec", "execve of garbage"),
    ];
    let case = |cpus: &str, (mode, what): (&str, &str)| {
        let files = ["--file", "{dir}/garbage:/garbage", "--file", "{dir}/cut:/cut"];
        let boot = on_checks(cpus, "hostile", "64M").args(&[mode, "7"]).with(&files).at("2M");
        // Who dies of it is named.
        let boot = if mode == "memory" { boot.log("/bin/hostile: out of memory at*: killed") } else { boot };
        Case::new(format!("q35 2M {cpus} CPU(s) survives {what}"))
            .file("garbage", b"no program\n".repeat(364))
            .prepare(|paths, dir| {
                let bytes = std::fs::read(paths.guest().join("hello"))?;
                std::fs::write(dir.join("cut"), &bytes[..bytes.len() / 2])
            })
            .boot(boot.out("survived"))
    };
    let starved =
        Boot::of("hostile").kernel("checks").args(&["memory"]).with(&["--memory", "32M", "--cpus", "4"]);
    let (bombs, _) = modes.split_at(4);
    let mut table: Vec<Case> = modes.into_iter().map(|mode| case("4", mode)).collect();
    table.extend(bombs.iter().map(|&mode| case("1", mode)));
    table.push(Case::new("q35 2M s3_6_memory_runs_out_under_faults").boot(starved));
    table
}
