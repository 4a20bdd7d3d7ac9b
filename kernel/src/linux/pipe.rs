//! Pipes: bytes that one descriptor takes and another gives.
//!
//! A pipe is there as long as one of its ends is; an end's node is dropped with the last descriptor that has it, which
//! is how the other one learns that nobody will write, or read, any more. What is copied to or from the program is
//! copied under the pipe's lock, which sleeps: so a read that fails half way has taken nothing out.

use super::abi::Iovec;
use super::errno::{Answer, Errno};
use super::files::{self, OpenFile};
use super::io::{copy_out, tell};
use super::memory::check_reserve;
use super::node::{Node, Seek};
use super::poll::{Changes, Source};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use crate::user_memory;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general::*;
use mm::lock::SpaceLock;

/// Bytes that wait in a pipe at most (Linux: 16 pages).
const CAPACITY: usize = 64 << 10;

/// So much is written at once, or nothing.
pub const ATOMIC_BYTES: u64 = PIPE_BUF as u64;

struct Pipe {
    bytes: SpaceLock<VecDeque<u8>>,
    /// Its number in its file system.
    inode: u64,
    /// Is there a reader, is there a writer?
    is_open: [AtomicBool; 2],
    /// Something to read, room to write.
    ready: [Source; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Read,
    Write,
}

impl Pipe {
    fn has(&self, side: Side) -> bool {
        self.is_open[side as usize].load(Ordering::SeqCst)
    }

    fn ready(&self, side: Side) -> &Source {
        &self.ready[side as usize]
    }
}

/// One end of a pipe.
pub struct End {
    pipe: Arc<Pipe>,
    side: Side,
}

impl End {
    /// How many bytes wait (FIONREAD).
    pub fn len(&self) -> usize {
        self.pipe.bytes.read().len()
    }

    /// Takes what fits of the bytes at `parts`, but all or none of [`ATOMIC_BYTES`] or less. EAGAIN when there is no room,
    /// EPIPE when nobody will read them.
    #[inline(never)]
    pub fn take(&self, parts: &[Iovec]) -> Answer {
        let count: u64 = parts.iter().map(|part| part.iov_len).sum();
        if count == 0 {
            return Ok(0);
        }
        let mut bytes = self.pipe.bytes.write();
        if !self.pipe.has(Side::Read) {
            return Err(Errno::EPIPE);
        }
        let room = (CAPACITY - bytes.len()) as u64;
        if room == 0 || room < count && count <= ATOMIC_BYTES {
            return Err(Errno::EAGAIN);
        }
        check_reserve()?;
        bytes.try_reserve(room.min(count) as usize).map_err(|_| Errno::ENOMEM)?;
        let before = bytes.len();
        let result = extend(&mut bytes, parts);
        let taken = bytes.len() - before;
        drop(bytes);
        if taken == 0 {
            return result.map(|()| 0);
        }
        self.pipe.ready(Side::Read).announce();
        Ok(taken as u64)
    }
}

/// With so many bytes in it, does a pipe show no room (POLLOUT)?
fn has_no_room(len: usize) -> bool {
    CAPACITY - len < PIPE_BUF as usize
}

/// Copies until there is no room or an address is bad.
fn extend(bytes: &mut VecDeque<u8>, parts: &[Iovec]) -> Result<(), Errno> {
    let mut piece = [0; PIPE_BUF as usize];
    for part in parts {
        let mut done = 0;
        while done < part.iov_len && bytes.len() < CAPACITY {
            let len = (part.iov_len - done).min((CAPACITY - bytes.len()) as u64).min(ATOMIC_BYTES);
            let (piece, _) = piece.split_at_mut(len as usize);
            user_memory::read(part.iov_base + done, piece)?;
            bytes.extend(&*piece);
            done += len;
        }
    }
    Ok(())
}

impl Node for End {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileSystem::Pipes, self.pipe.inode, S_IFIFO | 0o600)
    }

    fn read(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        let mut bytes = self.pipe.bytes.write();
        if count == 0 || bytes.is_empty() && !self.pipe.has(Side::Write) {
            return Ok(0);
        }
        if bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        let (front, back) = bytes.as_slices();
        let cut = |half: &[u8], count: u64| half.len().min(count as usize);
        let (front, _) = front.split_at(cut(front, count));
        let (back, _) = back.split_at(cut(back, count - front.len() as u64));
        let mut done = copy_out(buffer, front)?;
        if done == front.len() as u64 {
            // What has arrived counts.
            done += copy_out(buffer + done, back).unwrap_or(0);
        }
        // A write waits only where there is not even room for the longest that goes in whole.
        let is_awaited = has_no_room(bytes.len());
        bytes.drain(..done as usize);
        drop(bytes);
        if is_awaited {
            self.pipe.ready(Side::Write).announce();
        }
        Ok(done)
    }

    fn write(&self, _: &mut Thread, _: u64, buffer: u64, count: u64) -> Answer {
        self.take(&[Iovec { iov_base: buffer, iov_len: count }])
    }

    fn seek(&self) -> Seek {
        Seek::Pipe
    }

    fn events(&self) -> u32 {
        // Before the length: what the last writer left is not missed.
        let is_written = self.pipe.has(Side::Write);
        let len = self.len();
        let room = if has_no_room(len) { 0 } else { POLLOUT | POLLWRNORM };
        match self.side {
            Side::Read if len > 0 && is_written => POLLIN | POLLRDNORM,
            Side::Read if len > 0 => POLLIN | POLLRDNORM | POLLHUP,
            Side::Read if !is_written => POLLHUP,
            Side::Write if !self.pipe.has(Side::Read) => room | POLLERR,
            Side::Write => room,
            Side::Read => 0,
        }
    }

    fn changes(&self, _: u32) -> Option<Changes> {
        Some(self.pipe.ready(self.side).changes())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.pipe.is_open[self.side as usize].store(false, Ordering::SeqCst);
        self.pipe.ready.iter().for_each(Source::announce);
    }
}

/// pipe(2), pipe2(2): two descriptors go to `out`. Packets (O_DIRECT) are not known here.
pub fn pipe2(thread: &mut Thread, out: u64, flags: u32) -> Answer {
    static PIPES: AtomicU64 = AtomicU64::new(0);
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    check_reserve()?;
    let pipe = Arc::new(Pipe {
        bytes: SpaceLock::new(VecDeque::new()),
        inode: PIPES.fetch_add(1, Ordering::Relaxed) + 1,
        is_open: [const { AtomicBool::new(true) }; 2],
        ready: Default::default(),
    });
    let open = |side, mode| {
        let end = Arc::new(End { pipe: Arc::clone(&pipe), side });
        Arc::new(OpenFile::new(end, mode | flags & O_NONBLOCK))
    };
    let (reader, writer) = (open(Side::Read, O_RDONLY), open(Side::Write, O_WRONLY));
    // Clones go in: a file that finds no room is dropped when the lock is not held.
    let read = thread.files.lock().add(reader.clone(), flags)?;
    let write = thread.files.lock().add(writer.clone(), flags);
    let told = write.and_then(|write| tell(out, &[read as i32, write as i32]));
    if told.is_err() {
        for fd in [Ok(read), write].into_iter().flatten() {
            // Another thread may have been faster.
            let _ = files::close(thread, fd as i32);
        }
    }
    told
}
