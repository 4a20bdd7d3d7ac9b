//! The program to run: is it there, and can the guest run it? Asked before anything boots.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use object::elf;

use crate::failure::Failure;
use crate::image::Image;

/// Bytes of a script that the guest's kernel looks at.
const SCRIPT_HEAD: u64 = 256;

/// Checks that `path` is an executable file that the guest can load: an ELF64 for x86-64, or a script.
///
/// Fails with 127 when nothing is there, otherwise with 126 and what the file is instead.
pub fn check(path: &Path) -> Result<(), Failure> {
    let named = |why: &str| format!("{}: {why}", path.display());
    let meta = fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Failure::not_found(named("not found (a path on this host; PATH is not searched)"))
        }
        _ => Failure::cannot_run(named(&error.to_string())),
    })?;
    if !meta.is_file() {
        return Err(Failure::cannot_run(named("is not a file")));
    }
    if !is_executable(&meta) {
        return Err(Failure::cannot_run(named("not executable: chmod +x it")));
    }
    if script_interpreter(path).is_some() {
        return Ok(());
    }
    check_elf(path).map_err(|why| Failure::cannot_run(named(&why)))
}

/// The program that runs the script at `path`, which its first line names (`#!`); `None` for any other file.
pub fn script_interpreter(path: &Path) -> Option<String> {
    // Opening a pipe would wait.
    path.metadata().ok().filter(|meta| meta.is_file() && is_executable(meta))?;
    let file = File::open(path).ok()?;
    let mut head = Vec::new();
    file.take(SCRIPT_HEAD).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|&byte| matches!(byte, b'\n' | 0)).next()?;
    let line = String::from_utf8_lossy(line);
    let word = line.split([' ', '\t']).find(|word| !word.is_empty())?;
    Some(word.into())
}

fn is_executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o111 != 0
}

/// The program's path in the guest: `/bin/` and its name, with what a kernel command line cannot carry
/// (spaces, commas, anything not plain ASCII) replaced by `_`.
pub fn guest_path(program: &Path) -> String {
    let name = program.file_name().unwrap_or(OsStr::new("program"));
    let plain = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'-' => char::from(*byte),
        _ => '_',
    };
    let name: String = name.as_bytes().iter().map(plain).collect();
    format!("/bin/{name}")
}

fn check_elf(path: &Path) -> Result<(), String> {
    let image = Image::read(path)?;
    match image.kind {
        elf::ET_EXEC | elf::ET_DYN if image.entry != 0 => Ok(()),
        elf::ET_EXEC | elf::ET_DYN => Err("has no entry point: a shared library?".into()),
        elf::ET_REL => Err("is an object file: link it first".into()),
        elf::ET_CORE => Err("is a core dump".into()),
        other => Err(format!("is an ELF file of unknown type {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{CANNOT_RUN, NOT_FOUND};

    fn refusal(bytes: &[u8], mode: u32) -> Failure {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("prog");
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode set");
        check(&path).expect_err("not a program")
    }

    /// An ELF64 header with this machine and type, no segments, and an entry point.
    fn elf_header(machine: u16, kind: u16) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[24] = 1;
        bytes
    }

    #[test]
    fn a_missing_program_is_127() {
        assert_eq!(check(Path::new("/no/such/program")).expect_err("missing").status, NOT_FOUND);
        assert_eq!(check(Path::new("/etc/passwd/x")).expect_err("missing").status, NOT_FOUND);
    }

    #[test]
    fn what_cannot_run_is_126_and_says_what_it_is() {
        let object_file = elf_header(elf::EM_X86_64, elf::ET_REL);
        let aarch64 = elf_header(elf::EM_AARCH64, elf::ET_EXEC);
        let static_program = elf_header(elf::EM_X86_64, elf::ET_EXEC);
        for (bytes, mode, word) in [
            (&b""[..], 0o755, "is empty"),
            (b"#! \n", 0o755, "neither an ELF program nor a script"),
            (b"#!/bin/sh\n", 0o644, "chmod +x"),
            (b"\x7fEL", 0o755, "neither an ELF"),
            (b"\x7fELF\x01\x01 and more than 20 bytes", 0o755, "32-bit"),
            (b"\x7fELF\x02\x01 and more than 20 bytes", 0o755, "damaged"),
            (&object_file, 0o755, "object file"),
            (&aarch64, 0o755, "aarch64"),
            (&static_program, 0o644, "chmod +x"),
        ] {
            let refusal = refusal(bytes, mode);
            assert_eq!(refusal.status, CANNOT_RUN, "{refusal}");
            assert!(refusal.message.contains(word), "{refusal}");
        }
        assert!(check(Path::new("/")).expect_err("directory").message.contains("not a file"));
    }

    #[test]
    fn guest_paths_fit_a_kernel_command_line() {
        assert_eq!(guest_path(Path::new("target/my-prog_1.x")), "/bin/my-prog_1.x");
        assert_eq!(guest_path(Path::new("./a b,c=\u{e9}")), "/bin/a_b_c___");
    }
}
