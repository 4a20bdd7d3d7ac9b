//! Debian's busybox, unchanged: its shell with all that scripts are made of, and its tools over the whole tree.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::case::{Boot, Case, Paths};

pub fn table() -> Vec<Case> {
    let mut table: Vec<Case> = ["1", "4"].map(shell).into();
    let attributes = Boot::of("attributes.sh").ktap();
    table.extend([Case::new("q35 2M busybox: attributes").boot(attributes), listing(), find(), md5sum()]);
    table
}

fn busybox(arguments: &[&str]) -> Boot {
    Boot::of("/bin/busybox").args(arguments)
}

fn shell(cpus: &str) -> Case {
    Case::new(format!("{cpus} CPU(s) busybox: shell"))
        .boot(Boot::of("shell.sh").with(&["--cpus", cpus, "--no-nvdimm"]).ktap())
}

fn listing() -> Case {
    let link = "dax0.0 -> ../../../devices/*/ACPI0012:00/ndbus0/region0/dax0.0/dax0.0";
    Case::new("q35 2M busybox: ls -lR /dev /sys/bus/dax").boot(
        busybox(&["ls", "-lR", "/dev", "/sys/bus/dax"])
            .out("crw------- * 0 * 0 * dax0.0")
            .out("crw-rw-rw- * 1,   3 * null")
            .out("lrwxrwxrwx * stdout -> /proc/self/fd/1")
            .out("drwxrwxrwt * shm")
            .out(format!("lrwxrwxrwx *{link}"))
            .out("/sys/bus/dax/drivers/device_dax:")
            .out("--w------- * 4096 * bind"),
    )
}

/// The tree is one file system but for /dev, /proc and /sys, of which the names are in it.
fn find() -> Case {
    let tree = "/\n/.daxite\n/.daxite/argv\n/.daxite/envp\n/bin\n/bin/busybox\n/etc\n/etc/data\n/tmp\n/dev\n/proc\n/sys\n";
    let options = ["--file", "{dir}/data:/etc/data", "--no-nvdimm"];
    let sorted = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n") + "\n"
    };
    Case::new("busybox: find / -xdev").file("data", vec![1]).boot(
        busybox(&["sh", "-c", "find / -xdev | sort"])
            .with(&options)
            .quiet()
            .bytes(sorted(tree).into(), vec![]),
    )
}

/// The sums are this host's.
fn md5sum() -> Case {
    let sums = |_: &Paths, dir: &Path| {
        let bytes: Vec<u8> =
            (0..1_000_003_u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
        fs::write(dir.join("data"), bytes)?;
        let output = Command::new("md5sum").args(["data", "/bin/busybox"]).current_dir(dir).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        fs::write(dir.join("sums"), output.stdout)
    };
    let options = ["--file", "{dir}/data:/data", "--file", "{dir}/sums:/sums", "--no-nvdimm"];
    let boot = busybox(&["md5sum", "-c", "/sums"]).with(&options);
    Case::new("busybox: md5sum").prepare(sums).boot(boot.out("data: OK").out("/bin/busybox: OK"))
}
