//! Scripts: files whose first line, `#!INTERPRETER [ARGUMENT]`, names the program that reads them.
//!
//! As Linux's fs/binfmt_script.c: the line ends with a newline, a NUL or the file, only its first 256 bytes count,
//! spaces and tabs around the words do not, and what follows the interpreter is one argument.

/// Bytes of a file that are looked at (include/uapi/linux/binfmts.h, BINPRM_BUF_SIZE).
const HEAD_BYTES: usize = 256;
const BLANKS: [char; 2] = [' ', '\t'];

/// The interpreter's path and its argument; `None` when the first line names no interpreter.
pub fn parse(file: &[u8]) -> Option<(&str, Option<&str>)> {
    let head = file.get(..HEAD_BYTES).unwrap_or(file);
    let rest = head.strip_prefix(b"#!")?;
    let line = rest.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let words = core::str::from_utf8(line).ok()?.trim_start_matches(BLANKS);
    // A path that goes on behind the head would be cut short.
    let is_cut = head.len() == HEAD_BYTES && line.len() == rest.len() && !words.contains(BLANKS);
    let words = words.trim_end_matches(BLANKS);
    let (path, argument) = match words.split_once(BLANKS) {
        Some((path, argument)) => (path, Some(argument.trim_start_matches(BLANKS))),
        None => (words, None),
    };
    (!path.is_empty() && !is_cut).then_some((path, argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_an_interpreter_and_at_most_one_argument() {
        assert_eq!(parse(b"#!/bin/sh\necho"), Some(("/bin/sh", None)));
        assert_eq!(parse(b"#! \t/bin/sh  -e  -x \n"), Some(("/bin/sh", Some("-e  -x"))));
        assert_eq!(parse(b"#!/bin/sh"), Some(("/bin/sh", None)));
        assert_eq!(parse(b"#!/bin/sh\0\n"), Some(("/bin/sh", None)));
        assert_eq!(parse(b"#!/bin/sh\r\n"), Some(("/bin/sh\r", None)));
        for none in [&b"#!"[..], b"#!\n/bin/sh", b"#! \t\n", b"# !/bin/sh\n", b"", b"#!\xff\n"] {
            assert_eq!(parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_path_that_is_cut_short_is_none() {
        let long = [b"#!/", &[b'x'; 300][..]].concat();
        assert_eq!(parse(&long), None);
        let blank = [b"#!/x ", &[b'y'; 300][..]].concat();
        assert_eq!(parse(&blank).map(|(path, _)| path), Some("/x"));
        let whole = [b"#!/", &[b'x'; 252][..], b"\n", &[b'y'; 300][..]].concat();
        assert_eq!(parse(&whole).map(|(path, _)| path.len()), Some(253));
    }
}
