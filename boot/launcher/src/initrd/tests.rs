use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;

fn initrd(files: &[(&str, &[u8])]) -> (TempDir, Initrd) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut initrd = Initrd::default();
    initrd.add_bytes(".daxite/argv", REGULAR | 0o444, b"prog\0".to_vec()).expect("small");
    for (name, bytes) in files {
        let host = dir.path().join(name.replace('/', "_"));
        fs::write(&host, bytes).expect("written");
        initrd.add_file(&Place { host, guest: (*name).into() }).expect("added");
    }
    (dir, initrd)
}

fn archive(initrd: &Initrd) -> Vec<u8> {
    let mut bytes = Vec::new();
    initrd.write(&mut bytes).expect("written to memory");
    bytes
}

/// Runs cpio on an archive in an empty directory and answers its stdout.
fn cpio(archive: &[u8], folder: &Path, options: &str) -> String {
    let mut child = Command::new("cpio")
        .args([options, "--quiet"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio is installed");
    child.stdin.take().expect("piped").write_all(archive).expect("cpio reads it all");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "cpio {options}: {}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn cpio_lists_and_extracts_what_was_put_in() {
    let files: [(&str, &[u8]); 4] =
        [("/bin/prog", &[1; 5000]), ("/empty", b""), ("/three", b"abc"), ("/a/b/page", &[2; 4096])];
    let (_host, initrd) = initrd(&files);
    let archive = archive(&initrd);
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    assert_eq!(cpio(&archive, folder.path(), "-t"), ".daxite/argv\nbin/prog\nempty\nthree\na/b/page\n");
    cpio(&archive, folder.path(), "-id");
    for (name, bytes) in files {
        assert!(fs::read(folder.path().join(&name[1..])).expect(name) == bytes, "{name}");
    }
}

#[test]
fn the_data_of_every_file_starts_on_a_page() {
    // Lengths and names around the page's end, where a header just fits or just does not.
    let names: Vec<String> = (0..40).map(|len| format!("/{}", "n".repeat(len * 3 + 1))).collect();
    let sizes = [0, 1, 3, 4, 3900, 3970, 3980, 3984, 3985, 3986, 3990, 4095, 4096, 4097];
    let bytes = vec![0x5a; 5000];
    let files: Vec<(&str, &[u8])> =
        names.iter().zip(sizes.iter().cycle()).map(|(name, len)| (name.as_str(), &bytes[..*len])).collect();
    let (_host, initrd) = initrd(&files);
    let archive = archive(&initrd);
    let field = |at: usize| {
        let text = std::str::from_utf8(&archive[at..at + 8]).expect("hexadecimal");
        usize::from_str_radix(text, 16).expect("hexadecimal")
    };
    let (mut at, mut seen) = (0, 0);
    while &archive[at + HEADER..at + HEADER + 10] != b"TRAILER!!!" {
        assert_eq!((at % 4, &archive[at..at + 6]), (0, &b"070701"[..]));
        let data_at = at + HEADER + field(at + 94);
        assert_eq!(data_at % PAGE, 0, "entry {seen}");
        at = (data_at + field(at + 54)).next_multiple_of(4);
        seen += 1;
    }
    assert_eq!(seen, files.len() + 1);
}

#[test]
fn a_file_that_changes_its_length_is_an_error() {
    let (dir, initrd) = initrd(&[("/data", b"four")]);
    for bytes in [&b"longer"[..], b"s"] {
        fs::write(dir.path().join("_data"), bytes).expect("written");
        let error = initrd.write(&mut io::sink()).expect_err("changed");
        assert!(error.to_string().contains("changed while"), "{error}");
    }
}

#[test]
fn two_files_cannot_have_one_guest_path() {
    let (dir, mut initrd) = initrd(&[("/data", b"x")]);
    let twice =
        initrd.add_file(&Place { host: dir.path().join("_data"), guest: "/data".into() }).expect_err("taken");
    assert!(twice.message.contains("/data is already taken"), "{twice}");
    let device = initrd.add_file(&Place { host: "/dev/null".into(), guest: "/null".into() });
    assert!(device.expect_err("a device").message.contains("neither a regular file nor a folder"));
}

#[test]
fn an_initrd_larger_than_the_memory_is_refused_with_the_memory_it_needs() {
    let (_host, initrd) = initrd(&[("/large", &vec![0; 14 << 20])]);
    let why = initrd.check_fits(Size(16 << 20)).expect_err("no room").message;
    assert!(why.contains("do not fit in 16M") && why.contains("--memory 19M"), "{why}");
    initrd.check_fits(Size(32 << 20)).expect("room enough");
}
