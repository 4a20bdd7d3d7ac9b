//! The kernel's log on COM1: lines like dmesg's, with /dev/kmsg's level prefix.
//!
//! `<4>[    0.012345] nfit: ...` - 3 error, 4 warning, 6 information, 7 debug.

use crate::clock;
use core::fmt::{self, Write};
use log::{Level, LevelFilter, Log, Metadata, Record};
use mm::lock::{Rank, SpinLock};
use platform::serial;

struct SerialLog;

static LINE: SpinLock<()> = SpinLock::new(Rank::Log, ());

impl Log for SerialLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        // A line arrives whole, whoever else has something to say.
        let _whole = LINE.lock();
        let mut line = Line::new(serial::write);
        let _ = line.start(level).and_then(|()| line.write_fmt(*record.args()));
        line.end();
    }

    fn flush(&self) {}
}

/// Switches the log on.
pub fn init() {
    // Fails only when a logger is set already, and nobody else sets one.
    let _ = log::set_logger(&SerialLog);
    log::set_max_level(LevelFilter::Info);
}

/// Prints only lines whose level is lower than `level`, as Linux's `loglevel=`.
pub fn set_level(level: u8) {
    log::set_max_level(match level {
        0..=3 => LevelFilter::Off,
        4 => LevelFilter::Error,
        5 | 6 => LevelFilter::Warn,
        7 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    });
}

/// Collects a line and hands it to `write` in pieces that fit: no allocation, so that a panic can use it.
pub struct Line {
    write: fn(&[u8]),
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    /// An empty line that goes to `write`.
    pub fn new(write: fn(&[u8])) -> Line {
        Line { write, bytes: [0; 256], len: 0 }
    }

    /// Writes the level and the time.
    pub fn start(&mut self, level: u8) -> fmt::Result {
        let us = clock::monotonic_ns() / 1000;
        write!(self, "<{level}>[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000)
    }

    /// Ends the line.
    pub fn end(mut self) {
        self.push(b'\n');
        self.flush();
    }

    fn push(&mut self, byte: u8) {
        if self.len == self.bytes.len() {
            self.flush();
        }
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn flush(&mut self) {
        (self.write)(&self.bytes[..self.len]);
        self.len = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // A line is a line: what a program or a command line put into it cannot begin another one.
        text.bytes().for_each(|byte| self.push(if byte.is_ascii_control() { b' ' } else { byte }));
        Ok(())
    }
}
