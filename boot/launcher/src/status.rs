//! The kernel's last words: how the program ended, one line on the status channel.

/// How the guest ended, by its own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// `exit N`: the program's own status.
    Exit(u8),
    /// `signal N`: the program was killed.
    Signal(u8),
    /// `fail REASON`: the kernel could not go on.
    Fail(String),
    /// A line that is none of these.
    Unknown(String),
}

impl Status {
    /// Reads a line, which came without its end.
    pub fn parse(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match (word, rest.parse()) {
            ("exit", Ok(status)) => Self::Exit(status),
            // Linux has signals 1 to 64.
            ("signal", Ok(number @ 1..=64)) => Self::Signal(number),
            ("fail", _) => Self::Fail(rest.into()),
            _ => Self::Unknown(line.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        assert_eq!(Status::parse(b"exit 0"), Status::Exit(0));
        assert_eq!(Status::parse(b"exit 255"), Status::Exit(255));
        assert_eq!(Status::parse(b"signal 64"), Status::Signal(64));
        assert_eq!(Status::parse(b"fail panic: no memory"), Status::Fail("panic: no memory".into()));
        assert_eq!(Status::parse(b"fail"), Status::Fail(String::new()));
    }

    #[test]
    fn other_lines_are_kept_as_they_are() {
        for line in ["", "exit", "exit 256", "exit -1", "exit 1 2", "signal 0", "signal 65", "done"] {
            assert_eq!(Status::parse(line.as_bytes()), Status::Unknown(line.into()));
        }
    }
}
