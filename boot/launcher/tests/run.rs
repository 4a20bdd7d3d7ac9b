//! The command from outside: a shell script stands for QEMU and speaks on the inherited channels
//! (3 stdout, 4 stderr, 5 status, 6 kernel log, 7 initrd).

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A directory with a false QEMU, a false kernel with true symbols, and a program.
struct Guest {
    dir: TempDir,
}

impl Guest {
    /// A guest whose QEMU is this shell script; `$DIR` is the directory.
    fn new(script: &str) -> Self {
        let guest = Self { dir: tempfile::tempdir().expect("a temporary directory can be made") };
        let folder = guest.dir.path().display();
        guest.write("qemu", format!("#!/bin/sh\nDIR={folder}\n{script}\n").as_bytes());
        guest.write("kernel.elf", b"");
        guest.write("kernel.sym", include_bytes!("fixtures/backtrace.sym"));
        // The least that counts as a static x86-64 program: an ELF64 header with an entry point.
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        (elf[16], elf[18], elf[24]) = (2, 62, 1);
        guest.write("prog", &elf);
        guest
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("mode set");
    }

    /// `daxite run OPTIONS ./prog ARGS` in the directory, options and arguments in one string.
    fn command(&self, options: &str, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daxite"));
        command.current_dir(self.dir.path()).env("TMPDIR", self.dir.path()).stdin(Stdio::null());
        command.args(["run", "--accel", "tcg", "--qemu"]).arg(self.path("qemu"));
        command.arg("--kernel").arg(self.path("kernel.elf")).args(options.split_whitespace());
        command.arg("./prog").args(arguments.split_whitespace());
        command
    }

    fn run(&self, options: &str) -> Output {
        self.command(options, "").output().expect("daxite starts")
    }

    fn start(&self, options: &str) -> Child {
        let mut command = self.command(options, "");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("daxite starts")
    }

    /// Waits for a file that the script makes, and answers its text.
    fn wait_for(&self, name: &str) -> String {
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            match fs::read_to_string(self.path(name)) {
                Ok(text) if text.ends_with('\n') => return text.trim().into(),
                _ if Instant::now() > limit => panic!("{name} does not appear"),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn output_and_status_of_the_program_are_ours() {
    let output = Guest::new(r"printf '\000\377\r\nx' >&3; printf 'err' >&4; echo exit 7 >&5").run("");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"\x00\xff\r\nx");
    assert_eq!(output.stderr, b"err");
}

#[test]
fn a_killed_program_is_128_plus_its_signal() {
    assert_eq!(Guest::new("echo signal 7 >&5").run("").status.code(), Some(135));
}

#[test]
fn the_last_status_counts() {
    assert_eq!(Guest::new("echo exit 0 >&5; echo exit 3 >&5").run("").status.code(), Some(3));
}

#[test]
fn a_guest_without_a_word_is_125_with_all_that_is_known() {
    let output = Guest::new("echo '<6>[ 0.1] last words' >&6; echo bad option >&2; exit 1").run("");
    assert_eq!(output.status.code(), Some(125));
    let text = stderr(&output);
    for part in ["ended without a status", "exit status: 1", "qemu: bad option", "log: [ 0.1] last words"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_kernel_panic_is_125_with_names_and_lines() {
    let script = "echo '<0>[ 0.1] panic: no frames' >&6; echo ' #1 0xffffffff80000020' >&6
                  echo fail panic: no frames >&5";
    let output = Guest::new(script).run("");
    assert_eq!(output.status.code(), Some(125));
    let text = stderr(&output);
    for part in ["[ 0.1] panic: no frames", "outer (./backtrace.c:18)", "the kernel failed: panic: no frames"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn an_unreadable_status_is_125() {
    let output = Guest::new("echo exit 300 >&5").run("");
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("'exit 300'"), "{}", stderr(&output));
}

#[test]
fn the_log_is_filtered_unless_asked_for() {
    let guest = Guest::new("printf 'noise\\r\\n<6>[ 0.1] info\\n<4>[ 0.2] warn\\n' >&6; echo exit 0 >&5");
    assert_eq!(stderr(&guest.run("")), "[ 0.2] warn\n");
    let all = stderr(&guest.run("-v"));
    assert!(all.contains("accel: tcg, as asked for"), "{all}");
    assert!(all.contains("-machine q35"), "{all}");
    assert!(all.ends_with("noise\n[ 0.1] info\n[ 0.2] warn\n"), "{all}");
}

#[test]
fn large_outputs_arrive_whole() {
    let script = "head -c 20000000 /dev/zero >&3; head -c 9000000 /dev/zero >&4; echo exit 0 >&5";
    let output = Guest::new(script).run("");
    assert_eq!(
        (output.status.code(), output.stdout.len(), output.stderr.len()),
        (Some(0), 20_000_000, 9_000_000)
    );
}

#[test]
fn a_slow_reader_loses_nothing() {
    // Less than a pipe holds: QEMU is gone long before the reader begins.
    let guest = Guest::new("head -c 900000 /dev/zero >&3; echo exit 4 >&5");
    let mut child = guest.start("--timeout 2");
    // Longer than anything that ends a run (5 s for QEMU after its status, then 2.5 s).
    thread::sleep(Duration::from_secs(8));
    let mut bytes = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut bytes).expect("read");
    assert_eq!((bytes.len(), child.wait().expect("ended").code()), (900_000, Some(4)));
}

#[test]
fn a_reader_of_stderr_that_is_stuck_stops_neither_time_out_nor_signal() {
    // More of the log than our stderr takes, then a line of QEMU's own, which -v shows.
    let script = "yes '<4>warn' | head -c 300000 >&6; echo own >&2; echo $$ >$DIR/pid; exec sleep 60";
    let guest = Guest::new(script);
    let mut child = guest.start("-v --timeout 1");
    assert_eq!(end(&mut child).code(), Some(124));
    let guest = Guest::new(script);
    let mut child = guest.start("-v");
    let qemu = pid(&guest.wait_for("pid"));
    thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("running");
    assert_eq!(end(&mut child).code(), Some(143));
    assert!(is_gone(qemu), "QEMU outlives its launcher");
}

#[test]
fn the_last_word_waits_for_a_slow_reader_but_not_against_a_signal() {
    // What the program wrote fills our stderr to the last byte.
    let guest = Guest::new("head -c 65536 /dev/zero >&4");
    let mut slow = guest.start("");
    let mut stuck = guest.start("");
    thread::sleep(Duration::from_millis(1500));
    kill_process(Pid::from_child(&stuck), Signal::TERM).expect("running");
    assert_eq!(end(&mut stuck).signal(), Some(15));
    let mut bytes = Vec::new();
    slow.stderr.take().expect("piped").read_to_end(&mut bytes).expect("read");
    assert!(String::from_utf8_lossy(&bytes).contains("ended without a status"));
    assert_eq!(end(&mut slow).code(), Some(125));
}

#[test]
fn nobody_reading_ends_the_guest_with_141() {
    let guest = Guest::new("while :; do echo line >&3; done");
    let mut child = guest.start("");
    let mut stdout = child.stdout.take().expect("piped");
    let mut first = [0; 5];
    stdout.read_exact(&mut first).expect("a line");
    drop(stdout);
    assert_eq!((&first, child.wait().expect("ended").code()), (b"line\n", Some(141)));
}

#[test]
fn a_time_out_is_124_even_for_a_qemu_that_does_not_listen() {
    for script in ["sleep 30", "trap '' TERM; while :; do sleep 1; done"] {
        let start = Instant::now();
        let output = Guest::new(script).run("--timeout 0.3");
        assert_eq!(output.status.code(), Some(124));
        assert!(stderr(&output).contains("--timeout 0.3"), "{}", stderr(&output));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[test]
fn a_qemu_that_stays_after_the_status_is_ended() {
    let output = Guest::new("echo exit 9 >&5; sleep 60").run("");
    assert_eq!(output.status.code(), Some(9));
    assert!(stderr(&output).contains("did not end after the guest's end"), "{}", stderr(&output));
}

#[test]
fn a_kvm_error_does_not_leave_qemu_waiting() {
    let output = Guest::new("echo 'KVM internal error. Suberror: 1' >&2; sleep 60").run("");
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("qemu: KVM internal error"), "{}", stderr(&output));
}

#[test]
fn signals_end_the_guest_and_leave_nothing_behind() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let guest = Guest::new("echo $$ >$DIR/pid; exec sleep 60");
        let mut child = guest.start("");
        let qemu = pid(&guest.wait_for("pid"));
        kill_process(Pid::from_child(&child), signal).expect("running");
        assert_eq!(child.wait().expect("ended").code(), Some(status));
        assert!(is_gone(qemu), "QEMU outlives {signal:?}");
        let mut left: Vec<_> = fs::read_dir(guest.dir.path())
            .expect("listed")
            .map(|entry| entry.expect("listed").file_name().into_string().expect("UTF-8"))
            .collect();
        left.sort();
        assert_eq!(left, ["kernel.elf", "kernel.sym", "pid", "prog", "qemu"]);
    }
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let script = "echo $$ >$DIR/pid; while [ ! -e $DIR/go ]; do sleep 0.05; done; echo exit 5 >&5";
    let guest = Guest::new(script);
    let daxite = guest.command("", "");
    // What nohup does, and a shell for a job in the background.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"])
        .arg(daxite.get_program())
        .args(daxite.get_args())
        .current_dir(guest.dir.path())
        .spawn()
        .expect("sh starts");
    guest.wait_for("pid");
    for signal in [Signal::HUP, Signal::INT] {
        kill_process(Pid::from_child(&child), signal).expect("running");
    }
    thread::sleep(Duration::from_millis(200));
    guest.write("go", b"");
    assert_eq!(end(&mut child).code(), Some(5));
}

#[test]
fn qemu_dies_with_a_killed_launcher() {
    let guest = Guest::new("echo $$ >$DIR/pid; exec sleep 60");
    let mut child = guest.start("");
    let qemu = pid(&guest.wait_for("pid"));
    child.kill().expect("running");
    assert_eq!(child.wait().expect("ended").signal(), Some(9));
    assert!(is_gone(qemu), "QEMU outlives its launcher");
}

#[test]
fn the_guest_gets_program_files_arguments_and_environment() {
    let guest = Guest::new("cat /dev/fd/7 >$DIR/initrd.cpio; echo exit 0 >&5");
    guest.write("data", b"some data");
    let output = guest.command("--file data:/etc/data --env A=b", "-- -x y").output().expect("daxite starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let unpack = "mkdir root && cd root && cpio -id --quiet <../initrd.cpio";
    let status = Command::new("sh").args(["-c", unpack]).current_dir(guest.dir.path()).status();
    assert!(status.expect("sh starts").success());
    let read = |name: &str| fs::read(guest.path("root").join(name)).expect(name);
    assert_eq!(read(".daxite/argv"), b"./prog\0-x\0y\0");
    assert_eq!(read(".daxite/envp"), b"PATH=/bin\0A=b\0");
    assert_eq!(read("etc/data"), b"some data");
    assert!(read("bin/prog") == fs::read(guest.path("prog")).expect("read"));
}

#[test]
fn a_script_comes_with_its_interpreter_and_libraries_unless_told_otherwise() {
    let guest = Guest::new("cpio -t --quiet </dev/fd/7 >&3; echo exit 0 >&5");
    guest.write("prog", b"#!/bin/sh\n");
    let list = |options: &str| {
        let mut command = guest.command(options, "");
        let output = command.env("LD_LIBRARY_PATH", "/none").output().expect("daxite starts");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let all = list("");
    assert!(
        all.starts_with(".daxite/argv\n.daxite/envp\nbin/prog\nbin/sh\nlib64/ld-linux-x86-64.so.2\n"),
        "{all}"
    );
    assert!(all.contains("/libc.so.6\n") && all.ends_with("etc/ld.so.cache\n"), "{all}");
    assert_eq!(list("--no-libs"), ".daxite/argv\n.daxite/envp\nbin/prog\n");
}

#[test]
fn nvdimm_files_are_made_and_kept() {
    let guest = Guest::new("echo exit 0 >&5");
    let output = guest.run("--nvdimm a.img,size=4M,label-size=128K --nvdimm b.img,size=2M --align 4K");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let len = |name: &str| fs::metadata(guest.path(name)).expect(name).len();
    assert_eq!((len("a.img"), len("b.img")), ((4 << 20) + (128 << 10), 2 << 20));
}

#[test]
fn a_dry_run_prints_a_script_and_touches_nothing() {
    let guest = Guest::new("touch $DIR/started");
    let output = guest.run("--dry-run --nvdimm new.img,size=2M --append dax.force_raw");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let last = text.lines().last().expect("lines");
    assert!(
        last.contains("-append 'console=ttyS0 init=/bin/prog dax.align=2M loglevel=5 dax.force_raw'"),
        "{text}"
    );
    assert!(!guest.path("new.img").exists() && !guest.path("started").exists());
}

#[test]
fn the_script_of_a_dry_run_runs() {
    let guest = Guest::new("wc -c </dev/fd/7 >$DIR/initrd-size; stat -Lc %s /dev/fd/8 >&3");
    let script = guest.run("--dry-run").stdout;
    guest.write("script", &script);
    let output = Command::new("sh").arg("script").current_dir(guest.dir.path()).output().expect("sh starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1073741824\n", "{}", stderr(&output));
    assert!(guest.wait_for("initrd-size").parse::<u64>().expect("a number") > 4096);
}

#[test]
fn refusals_have_the_statuses_of_a_shell() {
    let guest = Guest::new("echo exit 0 >&5");
    let status = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daxite"));
        command.current_dir(guest.dir.path()).args(words).output().expect("daxite starts").status.code()
    };
    assert_eq!(status(&["run", "./missing"]), Some(127));
    guest.write("script", b"#!/no/such/shell\n");
    assert_eq!(status(&["run", "./script"]), Some(126), "its interpreter is missing");
    assert_eq!(status(&["run", "./kernel.elf"]), Some(126), "not a program");
    assert_eq!(status(&["run", "--nvdim", "x", "./prog"]), Some(125));
    assert_eq!(status(&["run", "--kernel", "missing", "./prog"]), Some(125));
    assert_eq!(status(&["run", "--kernel", "kernel.elf", "--qemu", "./missing", "./prog"]), Some(125));
    assert_eq!(status(&["run", "--kernel", "kernel.elf", "--firmware", "missing", "./prog"]), Some(125));
    assert_eq!(status(&["run", "--kernel", "kernel.elf", "--qemu-opts", "'x", "./prog"]), Some(125));
    assert_eq!(status(&["--version"]), Some(0));
    assert_eq!(status(&["run", "--help"]), Some(0));
}

/// How the launcher ends, which takes it ten seconds at most.
fn end(child: &mut Child) -> ExitStatus {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        match child.try_wait().expect("ours") {
            Some(status) => return status,
            None if Instant::now() > limit => {
                child.kill().expect("running");
                panic!("daxite does not end");
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a number")).expect("not zero")
}

/// Whether the process ends within two seconds; a dead one that nobody has reaped yet counts as gone.
fn is_gone(process: Pid) -> bool {
    let is_zombie = || {
        fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()))
            .is_ok_and(|stat| stat.contains(") Z "))
    };
    (0..200).any(|_| {
        thread::sleep(Duration::from_millis(10));
        test_kill_process(process).is_err() || is_zombie()
    })
}
