//! Where a program's arguments and environment come from.

use crate::command_line::CommandLine;
use crate::initrd::File;
use crate::machine::machine;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use mm::range::PAGE_SIZE;

/// argv and envp.
pub type Vectors = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The program's argument and environment vectors; `None` when they would take half of the free memory.
///
/// The launcher leaves those of the first program in the initrd, as NUL-terminated strings: any byte but NUL
/// can be in them. Without them the command line's words behind `--` are the arguments.
pub fn arguments(options: &CommandLine, number: usize) -> Option<Vectors> {
    let machine = machine();
    let files = ["argv", "envp"].map(|name| machine.initrd.find(&format!(".daxite/{name}")));
    let bytes = || files.iter().flatten().flat_map(|file| file.bytes);
    // A string is copied twice, and each copy has its pointer and its block of the heap.
    let needed_bytes = bytes().count() * 2 + bytes().filter(|&&byte| byte == 0).count() * 64;
    if needed_bytes as u64 > machine.memory.frames.free_frames() * PAGE_SIZE / 2 {
        return None;
    }
    let strings = |file: Option<&File>| {
        let bytes = file?.bytes;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        (!bytes.is_empty()).then(|| bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>())
    };
    let path = options.init[number].clone().into_bytes();
    let argv = match strings(files[0]) {
        Some(argv) if number == 0 => argv,
        _ => {
            let words = options.arguments.iter().filter(|_| number == 0);
            core::iter::once(path).chain(words.map(|word| word.clone().into_bytes())).collect()
        }
    };
    let envp = strings(files[1]).unwrap_or_else(|| vec![b"HOME=/".to_vec(), b"PATH=/bin".to_vec()]);
    Some((argv, envp))
}
