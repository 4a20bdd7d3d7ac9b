//! How the guest's bytes come out of QEMU, and how files without a name get in.
//!
//! Each of the guest's four voices has a pipe of its own, whose writing end QEMU inherits under a fixed
//! number: three debug consoles (port I/O, byte for byte) and the serial port. When nobody reads, QEMU
//! waits in its write; nothing is lost. One thread reads each pipe and tells the main thread by `Event`s.
//! The numbers are fixed and have one digit so that a printed command line can be pasted into any shell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use crate::status::Status;

/// The program's standard output.
pub const STDOUT_FD: RawFd = 3;
/// The program's standard error.
pub const STDERR_FD: RawFd = 4;
/// The kernel's word on how the program ended.
pub const STATUS_FD: RawFd = 5;
/// The kernel's log.
pub const LOG_FD: RawFd = 6;
/// The initrd.
pub const INITRD_FD: RawFd = 7;
/// The temporary NVDIMM.
pub const NVDIMM_FD: RawFd = 8;
/// The highest of the fixed numbers.
pub const LAST_FD: RawFd = NVDIMM_FD;

/// What the guest writes: name, inherited number, and the port of its debug console (none: serial port).
pub const GUEST_CHANNELS: [(&str, RawFd, Option<u16>); 4] = [
    ("stdout", STDOUT_FD, Some(0xe9)),
    ("stderr", STDERR_FD, Some(0xea)),
    ("status", STATUS_FD, Some(0xeb)),
    ("log", LOG_FD, None),
];

/// A line longer than this is cut into several.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// What a pipe holds, if the host allows it: fewer wake-ups for large outputs.
const PIPE_BYTES: usize = 1 << 20;
/// Time for a busy guest to fill the pipe: each byte is a write of its own, and waking a reader for each
/// one costs more than the write.
const GATHER: Duration = Duration::from_micros(200);

/// What the main thread hears.
#[derive(Debug)]
pub enum Event {
    /// One of the pipes has ended; nothing follows from it.
    Ended,
    /// The kernel told how the program ended.
    Status(Status),
    /// Our own stdout or stderr takes no more bytes.
    OutputFailed(io::Error),
    /// The last lines of the kernel's log, after its end.
    LogTail(Vec<String>),
    /// A line from QEMU itself.
    QemuSaid(String),
    /// This process got a signal.
    Signal(i32),
}

/// The path under which QEMU opens a file that it inherits.
pub fn inherited_path(fd: RawFd) -> PathBuf {
    format!("/dev/fd/{fd}").into()
}

/// A pipe for one channel.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // A refusal (pipe-user-pages-soft) leaves the usual 64 KiB, which is only slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES);
    Ok((reader, writer))
}

/// Copies a channel to one of our own outputs, byte for byte, on a thread of its own.
///
/// After a failure the channel is still read to its end, so that QEMU is never stuck in a write.
pub fn copy(mut from: impl Read + Send + 'static, to: OwnedFd, events: Sender<Event>) {
    thread::spawn(move || {
        let mut to = File::from(to);
        let mut buffer = vec![0; 64 << 10];
        let mut is_open = true;
        loop {
            let len = match from.read(&mut buffer) {
                Ok(len @ 1..) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => break,
            };
            if is_open && let Err(error) = write_all(&mut to, &buffer[..len]) {
                is_open = false;
                let _ = events.send(Event::OutputFailed(error));
            }
            if len < 4096 {
                thread::sleep(GATHER);
            }
        }
        let _ = events.send(Event::Ended);
    });
}

/// Gives each line of a channel to `take`, on a thread of its own, then `end`'s event.
///
/// `make` runs on that thread: what it makes need not be `Send`.
pub fn lines<T>(
    from: impl Read + Send + 'static,
    events: Sender<Event>,
    make: impl FnOnce() -> T + Send + 'static,
    take: impl Fn(&mut T, &[u8]) -> Option<Event> + Send + 'static,
    end: impl FnOnce(T) -> Option<Event> + Send + 'static,
) {
    thread::spawn(move || {
        let mut state = make();
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if let Some(event) = take(&mut state, text.strip_suffix(b"\r").unwrap_or(text)) {
                let _ = events.send(event);
            }
            line.clear();
        }
        if let Some(event) = end(state) {
            let _ = events.send(event);
        }
        let _ = events.send(Event::Ended);
    });
}

/// `write_all` that also waits for an output that somebody made non-blocking.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Every second read is interrupted before it has read anything.
    struct Interrupted(&'static [u8], bool);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(ErrorKind::Interrupted.into()) } else { self.0.read(&mut buffer[..3]) }
        }
    }

    #[test]
    fn an_interrupted_read_does_not_end_the_channel() {
        let (mut copied, to) = pipe().expect("made");
        let (events, heard) = mpsc::channel();
        copy(Interrupted(b"all of it", false), to.into(), events);
        let mut text = String::new();
        copied.read_to_string(&mut text).expect("read");
        assert_eq!(text, "all of it");
        assert!(matches!(heard.recv(), Ok(Event::Ended)));
    }
}
