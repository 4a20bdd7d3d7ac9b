//! Other machines and other kernels: more CPUs, regions without an NVDIMM, kernels with parts left out.

use crate::case::{Boot, Case};
use crate::table::{GIB, Map, Spa, Table, VOLATILE};

use super::{ALIGNS, all_cases};

/// All runs.
pub fn table() -> Vec<Case> {
    let mut table = cpus();
    table.extend(tasks());
    table.extend(regions());
    table.extend(variants());
    table
}

/// The cases with four CPUs at each alignment; more CPUs than the host has.
fn cpus() -> Vec<Case> {
    let cases = ALIGNS.map(|align| {
        let boot = all_cases(align).with(&["--cpus", "4"]).log("smp: 4 CPUs");
        Case::new(format!("q35 {align} 4 CPUs: cases")).boot(boot)
    });
    let many = ["8", "16"].map(|cpus| {
        let boot = Boot::of("dax_mmap-glibc").with(&["--cpus", cpus]).log(format!("smp: {cpus} CPUs"));
        Case::new(format!("q35 2M {cpus} CPUs")).boot(boot.out("all there after mapping again"))
    });
    let one = Boot::of("dax_mmap").with(&["--cpus", "4", "--append", "maxcpus=1"]);
    let two = Boot::of("dax_mmap").with(&["--cpus", "4", "--append", "maxcpus=2"]).log("smp: 2 CPUs");
    let mut table: Vec<Case> = cases.into_iter().chain(many).collect();
    table.push(Case::new("q35 2M 4 CPUs, maxcpus=1").boot(one.out("all there after mapping again")));
    table.push(Case::new("q35 2M 4 CPUs, maxcpus=2").boot(two.out("all there after mapping again")));
    table
}

/// The programs about processes, threads and what they tell each other: C with both C libraries, Rust.
fn tasks() -> Vec<Case> {
    let programs = ["processes", "threads", "pipes", "waits", "sessions", "queued"];
    let case = |program: String, cpus: &str| {
        let boot = Boot::of(&program).with(&["--cpus", cpus, "--memory", "128M"]).ktap();
        Case::new(format!("q35 2M {cpus} CPU(s) {program}")).boot(boot)
    };
    let ends = |cpus: &str| {
        let boot = Boot::of("orphan").with(&["--cpus", cpus, "--timeout", "30"]);
        Case::new(format!("q35 2M {cpus} CPU(s) a run ends with children that wait for each other"))
            .boot(boot)
    };
    // Debian's gron, which is written in Go: its runtime has threads, timers, signals and an epoll.
    let go = |cpus: &str| {
        let options = ["--cpus", cpus, "--no-nvdimm", "--file", "{dir}/a.json:/a.json"];
        let boot = Boot::of("/usr/bin/gron").args(&["/a.json"]).with(&options);
        Case::new(format!("{cpus} CPU(s) gron"))
            .file("a.json", br#"{"a":[1,{"b":null}]}"#.to_vec())
            .boot(boot.out("json.a[1].b = null;"))
    };
    let crates = |(cpus, align): (&str, &str)| {
        let boot = Boot::of("crates").at(align).with(&["--cpus", cpus]).ktap();
        Case::new(format!("q35 {align} {cpus} CPU(s) crates")).boot(boot)
    };
    let drained = Boot::of("drain").with(&["--memory", "64M"]).at("4K").out("made *");
    programs
        .into_iter()
        .flat_map(|program| [program.into(), format!("{program}-glibc")])
        .flat_map(|program: String| ["1", "4"].map(|cpus| case(program.clone(), cpus)))
        .chain(["1", "4"].map(ends))
        .chain(["1", "4"].map(go))
        .chain([("1", "2M"), ("4", "4K"), ("4", "2M"), ("4", "1G")].map(crates))
        .chain([Case::new("q35 4K a device is disabled when memory is out").boot(drained)])
        .collect()
}

/// RAM that becomes a region, devices of the command line, volatile ranges of the NFIT.
fn regions() -> Vec<Case> {
    let carved = |program: &str, align: &str| {
        let options = ["--no-nvdimm", "--memory", "6G", "--append", "memmap=4G!4G"];
        Boot::of(program).at(align).with(&options).log("dax0.0*size 0x100000000")
    };
    let devices = |device: &str| {
        let device = format!("DAX_DEVICE=/dev/{device}");
        let options = ["--nvdimm", "{dir}/n.img,size=4G", "--append", "dax.region0.devices=1G,512M@2M,8M@4K"];
        Boot::of("dax_mmap").with(&options).with(&["--env", &device])
    };
    let volatile = Table::default()
        .spa(Spa { guid: VOLATILE, flags: 0, ..Spa::default() })
        .map(Map { dcr: 0, ..Map::default() });
    let dimm = "-acpitable sig=NFIT,rev=1,data={dir}/nfit -object memory-backend-ram,id=v0,size=1G \
                -device pc-dimm,memdev=v0";
    let mut table: Vec<Case> = ALIGNS
        .iter()
        .map(|align| {
            let cases = carved("cases", align).ktap().with(&["--timeout", "180"]);
            Case::new(format!("q35 {align} RAM by memmap= and no NVDIMM: cases"))
                .boot(cases.args(&["dax", "removal"]))
        })
        .collect();
    table.push(
        Case::new("q35 2M s7_5_carve_outs_that_others_hold_are_refused_by_name").boot(
            Boot::of("dax_mmap")
                .with(&["--no-nvdimm", "--memory", "6G", "--append", "memmap=1G!4G,2M!1M,1G!3584M"])
                .log("memmap=0x200000!0x100000*held by the kernel")
                .log("memmap=0x40000000!0xe0000000*held by the APICs")
                .log("dax0.0*0x100000000")
                .out("all there after mapping again"),
        ),
    );
    table.push(
        Case::new("q35 1G devices of the command line")
            .boot(devices("dax0.0").at("1G").log("dax0.1*align 2M").out("all there after mapping again"))
            .boot(devices("dax0.2").at("4K").with(&["--env", "DAX_ALIGN=4K"]).log("dax0.2*align 4K")),
    );
    table.push(
        Case::new("q35 2M a volatile range of the NFIT")
            .file("nfit", [&[0; 4], &volatile.0[..]].concat())
            .boot(
                Boot::of("dax_mmap")
                    .with(&["--no-nvdimm", "--qemu-opts", dimm])
                    .log(format!("dax0.0*{:#x}", 4 * GIB))
                    .out("all there after mapping again"),
            ),
    );
    table
}

/// Kernels without a part: what is left works, and what is missing is said.
fn variants() -> Vec<Case> {
    let memmap = ["--memory", "6G", "--append", "memmap=1G!4G"];
    let no_device = |boot: Boot| boot.status(1).log("open /dev/dax0.0: No such file");
    vec![
        Case::new("q35 2M s4_3_an_image_without_dax_boots_and_lists_its_regions")
            .boot(Boot::of("hello").kernel("nodax").out("hello").log("region0*unclaimed"))
            .boot(no_device(Boot::of("dax_mmap").kernel("nodax"))),
        Case::new("q35 2M s4_4_an_image_without_pmem_serves_other_regions")
            .boot(Boot::of("hello").kernel("nopmem").out("hello").log("region0*unclaimed"))
            .boot(
                Boot::of("dax_mmap")
                    .kernel("nopmem")
                    .with(&["--no-nvdimm"])
                    .with(&memmap)
                    .out("all there after mapping again"),
            ),
        Case::new("q35 2M the kernel with checks: cases").boot(all_cases("2M").kernel("checks")),
    ]
}
