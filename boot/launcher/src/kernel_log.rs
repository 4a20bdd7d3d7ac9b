//! The kernel's log as it comes over the serial port: which lines the user sees, and the last ones kept.
//!
//! A line is `<N>[    0.012345] text`, as in /dev/kmsg. Levels 0 to 4 are warnings or worse and always
//! shown; the rest, and lines without a level (the firmware's noise), are shown with `-v`. After a line of
//! level 0 everything is shown: the kernel is dying and that is its report.

use std::collections::VecDeque;

use crate::panic_names::PanicNames;

/// The lowest level that is not always shown (5: notice).
const NOTICE: u8 = 5;
/// How many lines are kept for a guest that ends without a word.
const KEPT_LINES: usize = 12;

/// Filters the log line by line.
pub struct KernelLog {
    shows_all: bool,
    names: PanicNames,
    kept: VecDeque<String>,
}

impl KernelLog {
    /// A filter that shows all lines (`-v`) or only warnings and worse.
    pub fn new(shows_all: bool, names: PanicNames) -> Self {
        Self { shows_all, names, kept: VecDeque::new() }
    }

    /// Takes a line without its end; answers what to show, if anything.
    ///
    /// Control bytes are escaped (a program can put them into the log), addresses of a backtrace named.
    pub fn line(&mut self, raw: &[u8]) -> Option<String> {
        let (level, text) = split_level(raw);
        let text = self.names.annotate(&printable(text));
        let is_shown = self.shows_all || level.is_some_and(|level| level < NOTICE);
        if level == Some(0) {
            self.shows_all = true;
        }
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(text.clone());
        is_shown.then_some(text)
    }

    /// The last lines, unless the user has seen them already.
    pub fn unseen_tail(self) -> Vec<String> {
        if self.shows_all { Vec::new() } else { self.kept.into() }
    }
}

/// `<N>` with N from 0 to 7, and the rest.
fn split_level(raw: &[u8]) -> (Option<u8>, &[u8]) {
    match raw {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (Some(digit - b'0'), rest),
        _ => (None, raw),
    }
}

/// The text with control characters but the tab spelled out.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\t' => text.push(c),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shows_all: bool, lines: &[&str]) -> Vec<String> {
        let mut log = KernelLog::new(shows_all, PanicNames::new(None));
        lines.iter().filter_map(|line| log.line(line.as_bytes())).collect()
    }

    const LINES: [&str; 4] = ["SeaBIOS", "<6>[ 0.1] info", "<4>[ 0.2] warning", "<5>[ 0.3] notice"];

    #[test]
    fn warnings_are_shown_and_the_rest_only_on_request() {
        assert_eq!(shown(false, &LINES), ["[ 0.2] warning"]);
        assert_eq!(shown(true, &LINES), ["SeaBIOS", "[ 0.1] info", "[ 0.2] warning", "[ 0.3] notice"]);
    }

    #[test]
    fn a_panic_is_shown_to_its_end() {
        let lines = ["<6>before", "<0>panic: x", " #0 0xffffffff80012345", "<6>after"];
        assert_eq!(shown(false, &lines), ["panic: x", " #0 0xffffffff80012345", "after"]);
    }

    #[test]
    fn what_is_no_level_stays_in_the_text() {
        assert_eq!(shown(true, &["<8>x", "<>y", "<4z"]), ["<8>x", "<>y", "<4z"]);
    }

    #[test]
    fn control_bytes_cannot_reach_the_terminal() {
        assert_eq!(printable(b"a\tb\x1b[2J\x07\xff"), "a\tb\\u{1b}[2J\\u{7}\u{fffd}");
    }

    #[test]
    fn the_last_lines_are_kept_only_if_unseen() {
        let mut quiet = KernelLog::new(false, PanicNames::new(None));
        for number in 0..20 {
            quiet.line(format!("<6>{number}").as_bytes());
        }
        let tail = quiet.unseen_tail();
        assert_eq!((tail.len(), tail.last().map(String::as_str)), (KEPT_LINES, Some("19")));
        let mut loud = KernelLog::new(true, PanicNames::new(None));
        loud.line(b"<6>seen");
        assert!(loud.unseen_tail().is_empty());
    }
}
