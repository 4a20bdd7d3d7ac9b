//! Every guest run: programs by alignment and machine, how programs end, media, firmware tables, bad input.
//!
//! A name begins with the machine and the alignment; `s7_6_` and the like name the property of the
//! device-dax reference, section 7, that a run shows.

mod busybox;
mod dynamic;
mod fio;
mod hostile;
mod load;
mod ndctl;
mod nvdimms;
mod pmdk;
mod systems;

use crate::case::{Boot, Case};

const MACHINES: [&str; 2] = ["q35", "pc"];
const ALIGNS: [&str; 3] = ["4K", "2M", "1G"];

/// Programs that run at every alignment on both machines: name, expected status, a line of stdout.
const EVERYWHERE: [(&str, i32, &str); 5] = [
    ("dax_mmap", 0, "all there after mapping again"),
    ("dax_mmap-glibc", 0, "all there after mapping again"),
    ("dax_mmap-pie", 0, "all there after mapping again"),
    ("memmap", 0, "1073741824 bytes by len, 1073741824 bytes by fstat, stored and flushed"),
    ("sigbus", 135, ""),
];

/// Programs that end in their own way: name, expected status, a line of stdout, a line of the log.
const ENDINGS: [(&str, i32, &str, &str); 10] = [
    ("ok", 0, "", ""),
    ("ok-glibc", 0, "", ""),
    ("ok-pie", 0, "", ""),
    ("exit7", 7, "", ""),
    ("segv", 139, "", "SIGSEGV"),
    ("abort", 134, "", ""),
    ("stack_overflow", 139, "", "SIGSEGV"),
    ("jump_kernel", 139, "", "SIGSEGV"),
    ("fresh_registers", 0, "", ""),
    ("oom", 137, "", "memory"),
];

/// Conditions that are not the usual ones: name, options, a line of the log. `cases` must pass in each.
const CONDITIONS: [(&str, &[&str], &str); 6] = [
    ("seabios", &["--firmware", "seabios"], "dax0.0"),
    ("seabios pc", &["--firmware", "seabios", "--machine", "pc"], "dax0.0"),
    ("8G of RAM", &["--memory", "8G"], "8191 MiB of RAM"),
    ("2 CPUs pc", &["--cpus", "2", "--machine", "pc"], "smp: 2 CPUs"),
    ("cpu qemu64", &["--qemu-opts", "-cpu qemu64"], "1 GiB pages"),
    ("icount", &["--icount"], "dax0.0"),
];

/// All runs.
pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    for machine in MACHINES {
        for align in ALIGNS {
            table.push(cases(machine, align));
            table.extend(EVERYWHERE.map(|row| everywhere(machine, align, row)));
        }
    }
    table.extend(ENDINGS.map(ending));
    table.extend(CONDITIONS.map(condition));
    table.extend(programs());
    table.extend(dynamic::table());
    table.extend(busybox::table());
    table.extend(fio::table());
    table.extend(ndctl::table());
    table.extend(pmdk::table());
    table.extend(nvdimms::table());
    table.extend(hostile::table());
    table.extend(systems::table());
    table.extend(load::table());
    table
}

/// The program `cases` leaves families out where it finds no device or no counters: these must be there.
fn all_cases(align: &str) -> Boot {
    let boot = Boot::of("cases").at(align).with(&["--nvdimm", "{dir}/n.img,size=4G", "--timeout", "180"]);
    boot.ktap().out("- matrix has every row").out("- s6_2_one_entry_of_the_alignment_for_a_write")
}

/// All guest cases, on an NVDIMM with room for four entries of 1 GiB.
fn cases(machine: &str, align: &str) -> Case {
    let boot = all_cases(align).with(&["--machine", machine]);
    Case::new(format!("{machine} {align} cases")).boot(boot.log("dax0.0*size 0x100000000 (4096 MiB)"))
}

fn everywhere(machine: &str, align: &str, (program, status, out): (&str, i32, &str)) -> Case {
    let boot = Boot::of(program).at(align).with(&["--machine", machine]).status(status).out(out);
    Case::new(format!("{machine} {align} {program}")).boot(boot.log(format!("dax0.0*align {align}")))
}

fn ending((program, status, out, log): (&str, i32, &str, &str)) -> Case {
    let boot = Boot::of(program).with(&["--memory", "64M"]).status(status).out(out).log(log);
    Case::new(format!("q35 2M {program} ends with {status}")).boot(boot)
}

fn condition((name, options, log): (&str, &[&str], &str)) -> Case {
    Case::new(format!("2M {name}: cases")).boot(all_cases("2M").with(options).log(log))
}

fn programs() -> Vec<Case> {
    let hello = |program: &str| {
        let boot = Boot::of(program).args(&["one", "two words"]).with(&["--env", "LEVEL=3"]);
        let boot = boot.out("hello").out("argv[0]=*/hello").out("argv[2]=two words").out("env LEVEL=3");
        Case::new(format!("q35 2M {program}")).boot(boot.log("hello on stderr"))
    };
    let bytes = |rounds: usize| {
        let (up, down): (Vec<u8>, Vec<u8>) = ((0..=255).collect(), (0..=255).rev().collect());
        let boot = Boot::of("echo_bytes").args(&[&rounds.to_string()]).quiet();
        Case::new(format!("q35 2M echo_bytes {rounds} rounds arrive byte for byte"))
            .boot(boot.bytes(up.repeat(rounds), down.repeat(rounds)))
    };
    let next = Boot::of("oom").with(&["--memory", "64M", "--file", "{guest}/hello:/bin/hello"]);
    let after = |program: &str, status: i32| {
        let init = format!("init=/bin/{program},/bin/hello");
        let boot = Boot::of(program).with(&["--memory", "64M", "--file", "{guest}/hello:/bin/hello"]);
        Case::new(format!("q35 2M the program after {program} runs"))
            .boot(boot.with(&["--append", &init]).status(status).out("hello"))
    };
    let trace = Boot::of("traced").with(&["--strace"]).status(3);
    let trace = [
        r#"[pid 3] openat(AT_FDCWD, "/dev/dax0.0", O_RDWR|O_CLOEXEC) = 3"#,
        r#"openat(AT_FDCWD, "/no\nfile", O_WRONLY|O_CREAT|O_EXCL|O_DIRECTORY, 0640) = -1 ENOTDIR (Not a directory)"#,
        "mmap(NULL, 4194304, PROT_READ|PROT_WRITE, MAP_SHARED_VALIDATE|MAP_SYNC, 3, 0x200000) = 0x7f",
        "mmap(NULL, 4096, PROT_NONE, MAP_SHARED, 3, 0) = -1 EINVAL (Invalid argument)",
        "pipe2([4, 5], O_NONBLOCK) = 0",
        r#"write(5, "01234567890123456789012345678901"..., 34) = 34"#,
        r#"read(4, "01234567", 8) = 8"#,
        "kill(4194304, SIGUSR1) = -1 ESRCH (No such process)",
        "[pid 3] --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_TKILL, si_pid=3} ---",
        "[pid 4] --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10} ---",
        "[pid 4] +++ killed by SIGSEGV +++",
        "wait4(-1, 0x7f*, 0, NULL) = 4",
        "syscall_0x3e7(0x1, 0x2, 0x3, 0x4, 0x5, 0x6) = -1 ENOSYS",
        r#"execve("/bin/none", ["none", "a \"b\""], 0x7f*) = -1 ENOENT (No such file or directory)"#,
        "[pid 3] exit_group(3) = ?",
        "[pid 3] +++ exited with 3 +++",
    ]
    .into_iter()
    .fold(trace, Boot::log);
    let small = ["--memory", "16M", "--nvdimm", "{dir}/n.img,size=4G"];
    let restart = ["--append", "init=/bin/oom,/bin/fresh_registers", "--file"];
    vec![
        hello("hello"),
        hello("hello-glibc"),
        hello("hello-pie"),
        bytes(4),
        bytes(4096),
        Case::new("q35 2M --strace shows calls, signals and ends").boot(trace),
        after("oom", 137),
        after("segv", 139),
        after("jump_kernel", 139),
        Case::new("q35 2M registers of a program that died are not seen by the next")
            .boot(next.with(&restart).with(&["{guest}/fresh_registers:/bin/fresh_registers"]).status(137)),
        Case::new("q35 2M loop ends with 124 after --timeout 5").boot(
            Boot::of("loop")
                .with(&["--timeout", "5"])
                .status(124)
                .out("looping")
                .log("longer than --timeout 5"),
        ),
        Case::new("q35 2M 16M of RAM: memmap").boot(Boot::of("memmap").at("2M").with(&small)),
        Case::new("q35 4K 16M of RAM: dax_mmap").boot(Boot::of("dax_mmap").at("4K").with(&small)),
        Case::new("q35 1G 16M of RAM: dax_mmap-glibc").boot(Boot::of("dax_mmap-glibc").at("1G").with(&small)),
        Case::new("q35 1G cpu qemu64: refused, for it has no 1 GiB pages").boot(
            Boot::of("dax_mmap")
                .at("1G")
                .with(&["--qemu-opts", "-cpu qemu64"])
                .status(1)
                .log("no device: align 1G, but this CPU has no 1 GiB pages")
                .log("open /dev/dax0.0: No such file"),
        ),
    ]
}
