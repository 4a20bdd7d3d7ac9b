//! Processes: children that run a closure, and memory that they share with their parent.

use std::sync::atomic::AtomicU64;

use crate::sys::{self, Errno, RW};

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By exit(2), with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A child that is not waited for yet.
#[must_use = "a child that nobody waits for stays a zombie"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child(pub i32);

impl Child {
    /// Waits until it has ended.
    pub fn wait(self) -> Result<Ended, Errno> {
        let mut status = 0;
        loop {
            match sys::wait4(self.0, &mut status, 0) {
                Ok(_) => return Ok(ended(status)),
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// kill(2).
    pub fn kill(self, signal: i32) -> Result<(), Errno> {
        sys::numbers(libc::SYS_kill, &[self.0 as usize, signal as usize]).map(drop)
    }
}

fn ended(status: i32) -> Ended {
    if libc::WIFEXITED(status) {
        Ended::Exited(libc::WEXITSTATUS(status))
    } else {
        Ended::Killed(libc::WTERMSIG(status))
    }
}

/// Runs `body` in a child, whose status is what it returns.
///
/// In a program with threads the child has a copy of the calling one alone: there `body` may not use what
/// another thread may have locked, such as std's stdout.
pub fn fork(body: impl FnOnce() -> i32) -> Result<Child, Errno> {
    // SAFETY: the C library's fork readies its own locks for the child; ours are the caller's promise.
    match unsafe { libc::fork() } {
        0 => {
            let status = body();
            // SAFETY: ends the child at once, without destructors that are the parent's.
            unsafe { libc::_exit(status) }
        }
        -1 => Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
        pid => Ok(Child(pid)),
    }
}

/// Lets this thread, and those that it makes, run on the CPUs of this mask only; where there is no such CPU they
/// stay where they are.
pub fn run_on(cpus: u64) {
    let mask = &raw const cpus as usize;
    let _ = sys::numbers(libc::SYS_sched_setaffinity, &[0, size_of::<u64>(), mask]);
}

/// Words that this process and its children to come share, all zero, for as long as the program runs.
pub fn shared_words(count: usize) -> Result<&'static [AtomicU64], Errno> {
    let addr = sys::mmap(0, count * 8, RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)?;
    // SAFETY: fresh memory of that size, page-aligned and zero, which is never unmapped; what other processes
    // do to it they do through the same atomics.
    Ok(unsafe { std::slice::from_raw_parts(addr as *const AtomicU64, count) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn a_child_ends_with_its_status_or_by_its_signal() {
        assert_eq!(fork(|| 7).and_then(Child::wait), Ok(Ended::Exited(7)));
        let sleeper = fork(|| {
            loop {
                let _ = sys::numbers(libc::SYS_pause, &[]);
            }
        });
        let sleeper = sleeper.expect("fork");
        assert_eq!(sleeper.kill(libc::SIGKILL), Ok(()));
        assert_eq!(sleeper.wait(), Ok(Ended::Killed(libc::SIGKILL)));
    }

    #[test]
    fn what_a_child_stores_in_shared_words_its_parent_sees() {
        let words = shared_words(2).expect("mmap");
        let child = fork(|| {
            words[1].store(42, Relaxed);
            0
        });
        assert_eq!(child.and_then(Child::wait), Ok(Ended::Exited(0)));
        assert_eq!(words[1].load(Relaxed), 42);
    }
}
