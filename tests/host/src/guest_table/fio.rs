//! Debian's fio, unchanged: what it writes it finds again, and what it should not find it reports.
//!
//! Every job of its dev-dax engine maps its file from offset 0 and takes all of it, wherever the job's offset is.
//! So several jobs that write one device write the same blocks, on any kernel, and a header with each job's own seed
//! cannot be verified. Four jobs are honest in two ways: a device each, with checksums ([`own_devices`]); or one
//! device and blocks that are the same whoever writes them, their own offset over and over ([`one_device`]).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::case::{Boot, Case};

use super::ALIGNS;

const FOUR_JOBS: [&str; 2] = ["--thread", "--numjobs=4"];
const CHECKSUMS: &str = "--verify=crc32c";
/// Where a byte is flipped, and the block that has it.
const FLIPPED: (u64, u64) = (5_255_225, 5 << 20);

pub fn table() -> Vec<Case> {
    let mut table: Vec<Case> = ["4K", "2M"].map(own_devices).into();
    table.extend(ALIGNS.map(one_device));
    table.extend([whole_gigabyte(), engines(), flipped_byte()]);
    table
}

/// Four CPUs and an NVDIMM of this size.
fn fio(align: &str, media: &str, arguments: &[&str]) -> Boot {
    let media = format!("{{dir}}/n.img,size={media}");
    let boot =
        Boot::of("/usr/bin/fio").at(align).with(&["--cpus", "4", "--memory", "512M", "--nvdimm", &media]);
    // It has much to compute where other guests run beside it.
    boot.with(&["--timeout", "120"]).args(&["--output-format=json", "--verify_state_save=0"]).args(arguments)
}

/// A run without errors of four jobs, each of which read (or verified) this much.
fn four_jobs(boot: Boot, bytes: u64) -> Boot {
    let boot = boot.args(&FOUR_JOBS).args(&["--name=x", "--ioengine=dev-dax", "--rw=randrw"]);
    (0..4).fold(boot, |boot, job| {
        boot.json(format!("/jobs/{job}/error"), 0).json(format!("/jobs/{job}/read/io_bytes"), bytes)
    })
}

fn own_devices(align: &str) -> Case {
    let boot = fio(align, "64M", &["--bs=16k", CHECKSUMS, "--filename_format=/dev/dax0.$jobnum"]);
    let boot = boot.with(&["--append", "dax.region0.devices=16M,16M,16M,16M"]);
    Case::new(format!("q35 {align} fio: four jobs, a device each")).boot(four_jobs(boot, 16 << 20))
}

fn one_device(align: &str) -> Case {
    // A quarter of 1 GiB for each job, all over it: the point are the entries, not the time.
    let (media, block, limit, bytes) = match align {
        "1G" => ("1G", "--bs=1m", "--io_size=256m", 256 << 20),
        _ => ("64M", "--bs=64k", "--io_size=100%", 64 << 20),
    };
    let pattern = ["--verify=pattern", "--verify_pattern=%o", "--filename=/dev/dax0.0", block, limit];
    let boot = four_jobs(fio(align, media, &pattern), bytes);
    Case::new(format!("q35 {align} fio: four jobs on one device")).boot(boot)
}

/// A tenth of it is written, the rest read: a checksum is slow under TCG.
fn whole_gigabyte() -> Case {
    let job =
        ["--name=x", "--ioengine=dev-dax", "--thread", "--filename=/dev/dax0.0", "--rw=randrw", CHECKSUMS];
    let boot = fio("1G", "1G", &job).args(&["--bs=1m", "--rwmixread=90"]);
    Case::new("q35 1G fio: all of a device")
        .boot(boot.json("/jobs/0/error", 0).json("/jobs/0/read/io_bytes", 1 << 30))
}

/// Jobs that are processes: other engines on files in RAM, and a device beside them.
fn engines() -> Case {
    let mut boot = fio("2M", "16M", &["--rw=randrw", "--bs=4k", "--size=4m", CHECKSUMS]);
    for (job, engine) in ["mmap", "psync", "sync", "dev-dax"].into_iter().enumerate() {
        let file = if engine == "dev-dax" { "/dev/dax0.0".into() } else { format!("/tmp/{engine}") };
        let arguments =
            [format!("--name={engine}"), format!("--ioengine={engine}"), format!("--filename={file}")];
        boot = boot.args(&arguments.each_ref().map(String::as_str));
        boot = boot.json(format!("/jobs/{job}/jobname"), engine).json(format!("/jobs/{job}/error"), 0);
        boot = boot.json(format!("/jobs/{job}/read/io_bytes"), 4 << 20);
    }
    Case::new("q35 2M fio: a process for each engine").boot(boot)
}

fn flipped_byte() -> Case {
    let job = |arguments: &[&str]| {
        let boot =
            fio("2M", "16M", &["--name=x", "--ioengine=dev-dax", "--thread", "--filename=/dev/dax0.0"]);
        boot.args(&["--bs=64k", CHECKSUMS]).args(arguments)
    };
    let read = || job(&["--rw=read"]).json("/jobs/0/read/io_bytes", 16 << 20);
    let found = format!("crc32c: verify failed at file /dev/dax0.0 offset {}, length 65536*", FLIPPED.1);
    Case::new("q35 2M fio: a byte that is flipped between write and verify is reported")
        .boot(job(&["--rw=write", "--do_verify=0"]).json("/jobs/0/write/io_bytes", 16 << 20))
        .boot(read().json("/jobs/0/error", 0))
        .boot(
            job(&["--rw=read"])
                .after(flip)
                .status(1)
                .log(found)
                .json("/jobs/0/error", rustix::io::Errno::ILSEQ.raw_os_error()),
        )
}

fn flip(dir: &Path) -> io::Result<()> {
    let (file, mut byte) = (OpenOptions::new().read(true).write(true).open(dir.join("n.img"))?, [0]);
    file.read_exact_at(&mut byte, FLIPPED.0)?;
    file.write_all_at(&[byte[0] ^ 1], FLIPPED.0)
}
