//! Bad input: firmware tables, archives, programs, command lines; and the kernel's own failures.
//!
//! Each is named in the log, and the program still runs where there is one that can.

use std::fs::{self, File};
use std::io;
use std::process::Command;

use crate::case::{Boot, Case};
use crate::table::{Dcr, GIB, Map, Spa, Table};

pub fn table() -> Vec<Case> {
    let mut table = firmware();
    table.extend(archives());
    table.extend(images());
    table.extend(failures());
    table
}

/// NFITs that QEMU would never write, given to it with a header of its own.
fn firmware() -> Vec<Case> {
    let spa = |spa: Spa| Table::default().spa(spa);
    let kept = Table::one_dimm();
    let rows: [(&str, Table, &str); 15] = [
        ("empty", Table::default(), "Daxite"),
        ("length 0", Table::default().with_length(0, 0, &[]), "has length 0, at least 4 is possible"),
        ("torn header", Table(vec![0, 0, 56]), "3 bytes are left at the table's end"),
        ("truncated entry", kept.with_length(0, 56, &[0; 10]), "has length 56, but the table ends after 14"),
        ("wrong length", Table::default().raw(0, &[0; 36]), "has length 40, must have at least 56"),
        ("over RAM", spa(Spa { base: 16 << 20, len: 16 << 20, ..Spa::default() }), "region0: no device:*RAM"),
        (
            "over the kernel",
            spa(Spa { base: 0, len: 16 << 20, ..Spa::default() }),
            "region0: no device:*overlaps",
        ),
        (
            "over the local APIC",
            spa(Spa { base: 0xfee0_0000, len: 2 << 20, ..Spa::default() }),
            "held by the APICs",
        ),
        (
            "over ECAM",
            spa(Spa { base: 0xb000_0000, len: 1 << 28, ..Spa::default() }),
            "region0: no device:*held by",
        ),
        ("wrapping", spa(Spa { base: !0xfff, len: 8192, ..Spa::default() }), "wraps past the last address"),
        ("empty range", spa(Spa { len: 0, ..Spa::default() }), "is empty"),
        ("unaligned", spa(Spa { base: 4 * GIB + 512, ..Spa::default() }), "must be multiples of 4096"),
        ("out of reach", spa(Spa { base: 1 << 51, ..Spa::default() }), "address bits that can be mapped"),
        ("unknown GUID", spa(Spa { guid: [0xee; 16], ..Spa::default() }), "has unknown type GUID"),
        ("no write-back", spa(Spa { attributes: 1, ..Spa::default() }), "dax needs WB"),
    ];
    let second = Spa { index: 4, base: 4 * GIB + GIB / 2, ..Spa::default() };
    let more: [(&str, Table, &str); 5] = [
        (
            "flush hint out of reach",
            Table::one_dimm().flush(1, 1, &[1 << 45]),
            "flush hint 0x200000000000 is*out of reach",
        ),
        ("overlapping ranges", spa(Spa::default()).spa(second), "SPA range 4*overlaps SPA range 2"),
        (
            "lost control region",
            spa(Spa::default()).map(Map::default()),
            "names control region 3, which is not",
        ),
        (
            "lost range",
            Table::default().map(Map::default()).dcr(Dcr::default()),
            "names SPA range 2, which is not",
        ),
        ("long array", Table::default().interleave(1, u32::MAX, 256, &[0]), "claims 4294967295 items"),
    ];
    rows.into_iter().chain(more).map(|(name, table, log)| bad_nfit(name, &table, log)).collect()
}

fn bad_nfit(name: &str, table: &Table, log: &str) -> Case {
    let body = [&[0; 4], &table.0[..]].concat();
    let options = ["--no-nvdimm", "--qemu-opts", "-acpitable sig=NFIT,rev=1,data={dir}/nfit"];
    Case::new(format!("q35 2M bad NFIT, {name}"))
        .file("nfit", body)
        .boot(Boot::of("hello").with(&options).out("hello").log(log))
}

fn archives() -> Vec<Case> {
    let other = ["--qemu-opts", "-initrd {dir}/initrd"];
    let cut = |name: &str, keeps: fn(u64) -> u64, log: &str| {
        Case::new(format!("q35 2M {name}"))
            .prepare(move |paths, dir| {
                let path = dir.join("initrd");
                let mut daxite = Command::new(paths.daxite());
                daxite.arg("initrd").arg("--output").arg(&path).arg(paths.guest().join("hello"));
                if !daxite.status()?.success() {
                    return Err(io::Error::other("daxite initrd failed"));
                }
                let file = File::options().write(true).open(&path)?;
                file.set_len(keeps(file.metadata()?.len()))
            })
            .boot(Boot::of("hello").with(&other).status(127).log(log).log("/bin/hello: no such file"))
    };
    vec![
        cut("an initrd cut in the middle", |len| len / 2, "initrd:*passes the archive's end"),
        cut("an initrd cut in its first header", |_| 50, "initrd:*byte 0x0*passes the archive's end"),
        Case::new("q35 2M an initrd of garbage")
            .file("initrd", b"not an archive".repeat(400))
            .boot(Boot::of("hello").with(&other).status(127).log("initrd: no newc cpio header at byte 0x0")),
        Case::new("q35 2M an empty initrd")
            .file("initrd", Vec::new())
            .boot(Boot::of("hello").with(&other).status(127).log("/bin/hello: no such file")),
        Case::new("q35 2M a program that is not there")
            .boot(Boot::of("{dir}/none").status(127).log("not found")),
        Case::new("q35 2M an init= that is not there, and the next program runs").boot(
            Boot::of("hello")
                .with(&["--append", "init=/bin/none,/bin/hello"])
                .status(127)
                .out("hello")
                .log("/bin/none"),
        ),
    ]
}

/// A PT_LOAD segment: flags, file offset, address, bytes in the file, bytes in memory.
type Segment = (u32, u64, u64, u64, u64);

const RX: u32 = 5;
const RW: u32 = 6;
const RWX: u32 = 7;

fn images() -> Vec<Case> {
    const TEXT: Segment = (RX, 0, 0x40_0000, 0x1000, 0x1000);
    let entry = 0x40_0100;
    let rows: [(&str, u64, &[Segment], &str); 9] = [
        ("writable and executable", entry, &[(RWX, 0, 0x40_0000, 0x1000, 0x1000)], "writable and executable"),
        ("overlapping", entry, &[TEXT, (RW, 0, 0x40_0000, 0x10, 0x10)], "overlap"),
        (
            "kernel address",
            entry,
            &[TEXT, (RW, 0, 0xffff_8000_0000_0000, 16, 16)],
            "at 0xffff800000000000 is outside",
        ),
        ("page of NULL", entry, &[TEXT, (RW, 0, 0, 16, 16)], "at 0x0 is outside"),
        ("wrapping", entry, &[TEXT, (RW, 0, !0xfff, 16, 0x2000)], "at 0xfffffffffffff000 is outside"),
        ("huge", entry, &[TEXT, (RW, 0, 0x50_0000, 16, 1 << 62)], "is outside"),
        ("behind the file", entry, &[TEXT, (RW, 0x10_0000, 0x50_0000, 0x1000, 0x1000)], "the file ends at"),
        (
            "entry in data",
            0x50_0000,
            &[TEXT, (RW, 0, 0x50_0000, 16, 16)],
            "entry point 0x500000 is in no executable",
        ),
        ("no segment", entry, &[], "program headers; 1 to"),
    ];
    let mut table: Vec<_> =
        rows.into_iter().map(|(name, entry, segments, log)| bad_elf(name, entry, segments, log)).collect();
    let truncated = Case::new("q35 2M bad ELF, cut in the middle").prepare(|paths, dir| {
        let bytes = fs::read(paths.guest().join("hello"))?;
        write_program(&dir.join("bad"), &bytes[..bytes.len() / 2])
    });
    table.push(truncated.boot(Boot::of("{dir}/bad").status(126).log("the file ends at")));
    table
}

fn bad_elf(name: &str, entry: u64, segments: &[Segment], log: &str) -> Case {
    let image = elf(entry, segments);
    // The launcher looks at the kind of file only; segments are the kernel's business.
    let options = ["--file", "{guest}/hello:/bin/hello", "--append", "init=/bin/bad,/bin/hello"];
    let boot = Boot::of("{dir}/bad").with(&options).status(126).out("hello");
    Case::new(format!("q35 2M bad ELF, {name}"))
        .prepare(move |_, dir| write_program(&dir.join("bad"), &image))
        .boot(boot.log(format!("/bin/bad: *{log}")))
}

/// An ELF64 executable of one page.
fn elf(entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<_>>();
    bytes.extend(halves(&[2, 62, 1, 0]));
    bytes.extend([entry, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(halves(&[0, 0, 64, 56, segments.len() as u16, 64, 0, 0]));
    for &(flags, offset, address, file_bytes, memory_bytes) in segments {
        bytes.extend([1, flags].iter().flat_map(|word| word.to_le_bytes()));
        let words = [offset, address, address, file_bytes, memory_bytes, 0x1000_u64];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    bytes.resize(4096, 0xcc);
    bytes
}

fn write_program(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The kernel gives up in words, never silently and never for ever.
fn failures() -> Vec<Case> {
    let append = |name: &str, words: &str| {
        (Case::new(format!("q35 2M {name}")), Boot::of("hello").with(&["--append", words]).status(125))
    };
    let (leak, leaked) = append("a leaked frame fails the run", "dax.test_leak=1");
    let (panic, panicked) = append("a kernel panic is named, with function and line", "dax.test_panic=1");
    let (option, refused) = append("an option that means nothing", "dax.align=3M");
    let (unknown, ignored) =
        append("s1_4_an_option_that_would_cap_devices_is_unknown_and_named", "dax.max_devices=8");
    let (empty, nothing) = append("no program to run", "init=");
    let far_return = |name: &str, cpu: &str, status: i32| {
        let options = ["--qemu-opts", cpu, "--timeout", "20"];
        Case::new(format!("q35 2M a far return {name}"))
            .boot(Boot::of("far_return").with(&options).status(status))
    };
    let many_files: Vec<String> =
        (0..600).flat_map(|n| ["--file".into(), format!("{{guest}}/ok:/f{n}")]).collect();
    let many_files: Vec<&str> = many_files.iter().map(String::as_str).collect();
    let letters = vec!["a"; 140_000];
    vec![
        empty.boot(nothing.log("no init=PROGRAM")),
        far_return("under SMAP is a signal", "-cpu max", 139),
        far_return("without SMAP returns", "-cpu max,-smap", 9),
        Case::new("q35 2M 600 files").boot(Boot::of("hello").with(&many_files).out("hello")),
        Case::new("q35 2M a command line of 2,000 words").boot(
            Boot::of("hello").with(&["--append", &"a ".repeat(2000)]).out("hello").log("1992 more unknown"),
        ),
        Case::new("q35 2M more arguments than 16M can hold").boot(
            Boot::of("hello").args(&letters).with(&["--memory", "16M"]).status(126).log("not enough memory"),
        ),
        leak.boot(leaked.log("1 frame(s) and 0 bytes of the heap lost by the kernel")),
        panic.boot(panicked.log("panic:").log(" #*0xffffffff8*.rs:").log("the kernel failed: panic:")),
        option.boot(refused.log("dax.align=3M: expected 4K, 2M or 1G")),
        unknown.boot(ignored.status(0).out("hello").log("dax.max_devices=8: unknown option")),
    ]
}
