//! Reading and writing through descriptors.
//!
//! Checks come in Linux's order (fs/read_write.c): descriptor, open mode, "can this object be read at all"
//! (a dax device cannot: EINVAL), then the buffer. A buffer that turns bad on the way ends the transfer early
//! and its good part counts, as on Linux.

use super::abi::Iovec;
use super::errno::{Answer, Errno};
use super::files::OpenFile;
use super::memory::{lets_others_in, vec_for};
use super::node::{END, Seek};
use super::pipe::{ATOMIC_BYTES, End};
use super::poll::transfer;
use super::thread::Thread;
use crate::user_memory;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{
    POSIX_FADV_NOREUSE, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, SPLICE_F_GIFT, SPLICE_F_MORE,
    SPLICE_F_MOVE, UIO_MAXIOV,
};
use mm::range::{PAGE_SIZE, USER_END};
use zerocopy::{Immutable, IntoBytes};

/// Most bytes that one call transfers (include/linux/fs.h, MAX_RW_COUNT).
const MAX_TRANSFER: u64 = 0x7fff_f000;

/// read(2), pread64(2): at the file's own position, which moves, or at `position`.
pub fn read(thread: &mut Thread, fd: i32, buffer: u64, count: u64, position: Option<i64>) -> Answer {
    let file = transferable(thread, fd, OpenFile::is_readable, position)?;
    read_parts(thread, &file, &[part(buffer, count)?], position)
}

/// readv(2), preadv(2).
pub fn readv(thread: &mut Thread, fd: i32, vector: u64, count: u64, position: Option<i64>) -> Answer {
    let file = transferable(thread, fd, OpenFile::is_readable, position)?;
    read_parts(thread, &file, &read_vector(vector, count)?, position)
}

/// write(2), pwrite64(2).
pub fn write(thread: &mut Thread, fd: i32, buffer: u64, count: u64, position: Option<i64>) -> Answer {
    let file = transferable(thread, fd, OpenFile::is_writable, position)?;
    write_parts(thread, &file, &[part(buffer, count)?], position)
}

/// writev(2), pwritev(2).
pub fn writev(thread: &mut Thread, fd: i32, vector: u64, count: u64, position: Option<i64>) -> Answer {
    let file = transferable(thread, fd, OpenFile::is_writable, position)?;
    write_parts(thread, &file, &read_vector(vector, count)?, position)
}

/// vmsplice(2): a writev to a pipe, or a readv from it. The pages are copied, whatever the flags.
pub fn vmsplice(thread: &mut Thread, fd: i32, vector: u64, count: u64, flags: u32) -> Answer {
    // Not SPLICE_F_NONBLOCK: a descriptor waits or it does not.
    if flags & !(SPLICE_F_MOVE | SPLICE_F_MORE | SPLICE_F_GIFT) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = thread.file(fd)?;
    file.node_as::<End>().ok_or(Errno::EBADF)?;
    let call = if file.is_writable() { writev } else { readv };
    call(thread, fd, vector, count, None)
}

/// sendfile(2): no file here gives its pages away, so programs read and write instead.
pub fn sendfile(thread: &mut Thread, output: i32, input: i32) -> Answer {
    let (input, output) = (thread.file(input)?, thread.file(output)?);
    Err(if input.is_readable() && output.is_writable() { Errno::EINVAL } else { Errno::EBADF })
}

/// lseek(2).
pub fn lseek(thread: &mut Thread, fd: i32, offset: i64, whence: u32) -> Answer {
    let file = thread.file(fd)?;
    let size = file.node.metadata().size_bytes;
    let base = match (file.node.seek(), whence) {
        (Seek::Pipe, ..=SEEK_HOLE) => return Err(Errno::ESPIPE),
        (Seek::Start | Seek::Nowhere, ..=SEEK_HOLE) => return Ok(0),
        (_, SEEK_SET) => 0,
        (_, SEEK_CUR) => file.position(),
        (Seek::Sized | Seek::Data, SEEK_END) => size,
        (Seek::Data, SEEK_DATA | SEEK_HOLE) => {
            let start = u64::try_from(offset).ok().filter(|&start| start < size).ok_or(Errno::ENXIO)?;
            file.set_position(if whence == SEEK_DATA { start } else { size });
            return Ok(file.position());
        }
        _ => return Err(Errno::EINVAL),
    };
    let position = base.checked_add_signed(offset).filter(|&position| position <= i64::MAX as u64);
    file.set_position(position.ok_or(Errno::EINVAL)?);
    Ok(file.position())
}

/// fadvise64(2): nothing is read ahead or kept back.
pub fn fadvise(thread: &mut Thread, fd: i32, len_bytes: i64, advice: u32) -> Answer {
    match thread.file(fd)?.node.seek() {
        Seek::Pipe => Err(Errno::ESPIPE),
        _ if len_bytes < 0 || advice > POSIX_FADV_NOREUSE => Err(Errno::EINVAL),
        _ => Ok(0),
    }
}

/// fsync(2), fdatasync(2).
pub fn fsync(thread: &mut Thread, fd: i32) -> Answer {
    thread.file(fd)?.node.flush()?;
    Ok(0)
}

/// ftruncate(2).
pub fn ftruncate(thread: &mut Thread, fd: i32, len_bytes: i64) -> Answer {
    let len_bytes = u64::try_from(len_bytes).map_err(|_| Errno::EINVAL)?;
    let file = thread.file(fd)?;
    if !file.is_writable() {
        return Err(Errno::EINVAL);
    }
    file.node.truncate(len_bytes).map(|()| 0)
}

/// fallocate(2).
pub fn fallocate(thread: &mut Thread, fd: i32, mode: u32, offset: i64, len_bytes: i64) -> Answer {
    let file = thread.file(fd)?;
    if offset < 0 || len_bytes <= 0 {
        return Err(Errno::EINVAL);
    }
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let end = offset.checked_add(len_bytes).ok_or(Errno::EFBIG)?;
    file.node.allocate(mode, offset as u64, end as u64).map(|()| 0)
}

/// The file behind a descriptor that is open for what is asked.
fn transferable(
    thread: &Thread,
    fd: i32,
    is_open: fn(&OpenFile) -> bool,
    position: Option<i64>,
) -> Result<Arc<OpenFile>, Errno> {
    if position.is_some_and(i64::is_negative) {
        return Err(Errno::EINVAL);
    }
    let file = thread.file(fd)?;
    match file.node.transfers() {
        _ if position.is_some() && matches!(file.node.seek(), Seek::Pipe | Seek::Nowhere) => {
            Err(Errno::ESPIPE)
        }
        _ if !is_open(&file) => Err(Errno::EBADF),
        true => Ok(file),
        false => Err(Errno::EINVAL),
    }
}

/// A buffer must end in the lower half, before anything else is looked at; long ones are cut.
fn part(buffer: u64, count: u64) -> Result<Iovec, Errno> {
    match buffer.checked_add(count) {
        Some(end) if end <= USER_END => Ok(Iovec { iov_base: buffer, iov_len: count.min(MAX_TRANSFER) }),
        _ => Err(Errno::EFAULT),
    }
}

/// Reads and checks all of an iovec array before the first byte moves (lib/iov_iter.c, import_iovec).
pub fn read_vector(vector: u64, count: u64) -> Result<Vec<Iovec>, Errno> {
    if count > u64::from(UIO_MAXIOV) {
        return Err(Errno::EINVAL);
    }
    let mut parts = vec_for(count as usize)?;
    let mut left = MAX_TRANSFER;
    for index in 0..count {
        let address = vector.checked_add(index * size_of::<Iovec>() as u64).ok_or(Errno::EFAULT)?;
        let Iovec { iov_base, iov_len } = user_memory::read_value(address)?;
        i64::try_from(iov_len).map_err(|_| Errno::EINVAL)?;
        let mut part = part(iov_base, iov_len)?;
        part.iov_len = part.iov_len.min(left);
        left -= part.iov_len;
        parts.push(part);
    }
    Ok(parts)
}

/// Transfers part by part until one is short.
#[inline] // most calls have one part
fn each_part(parts: &[Iovec], mut transfer: impl FnMut(&Iovec) -> Answer) -> Answer {
    let mut total = 0;
    for part in parts {
        match transfer(part) {
            Ok(done) => {
                total += done;
                if done < part.iov_len {
                    break;
                }
            }
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(total)
}

fn read_parts(thread: &mut Thread, file: &OpenFile, parts: &[Iovec], position: Option<i64>) -> Answer {
    let mut at = position.map(|position| position as u64);
    transfer(thread, file, "read", &mut |thread| {
        each_part(parts, |part| {
            let from = at.unwrap_or_else(|| file.position());
            if at.is_none() && file.node.is_at_end(from) {
                return Ok(0);
            }
            let done = file.node.read(thread, from, part.iov_base, part.iov_len)?;
            go_on(file, &mut at, from.saturating_add(done));
            Ok(done)
        })
    })
}

/// Writes all; a pipe without room for it has to be waited for.
fn write_parts(thread: &mut Thread, file: &OpenFile, parts: &[Iovec], position: Option<i64>) -> Answer {
    // One part alone is a pipe's own matter.
    if parts.len() > 1
        && let Some(end) = file.node_as::<End>()
        && parts.iter().map(|part| part.iov_len).sum::<u64>() <= ATOMIC_BYTES
    {
        return transfer(thread, file, "write", &mut |_| end.take(parts));
    }
    let mut at = position.map(|position| position as u64);
    each_part(parts, |&Iovec { iov_base, iov_len }| {
        let mut done = 0;
        let answer = transfer(thread, file, "write", &mut |thread| {
            loop {
                let to = if file.appends() { END } else { at.unwrap_or_else(|| file.position()) };
                let now = file.node.write(thread, to, iov_base + done, iov_len - done)?;
                let size = || file.node.metadata().size_bytes;
                go_on(file, &mut at, if to == END { size() } else { to.saturating_add(now) });
                done += now;
                if done == iov_len || file.node.seek() != Seek::Pipe || file.is_nonblocking() {
                    return Ok(done);
                }
            }
        });
        if done > 0 { Ok(done) } else { answer }
    })
}

/// The next transfer of this call goes on at `next`; without a position of its own, of the file.
#[inline]
fn go_on(file: &OpenFile, at: &mut Option<u64>, next: u64) {
    match at {
        Some(at) => *at = next,
        None => file.set_position(next),
    }
}

/// Writes what a call tells the program; answers 0.
pub fn tell<T: IntoBytes + Immutable>(address: u64, value: &T) -> Answer {
    user_memory::write_value(address, value)?;
    Ok(0)
}

/// The same where a null pointer says that nobody asks.
pub fn tell_if_asked<T: IntoBytes + Immutable>(address: u64, value: &T) -> Answer {
    if address == 0 { Ok(0) } else { tell(address, value) }
}

/// Calls `step` with the start and length of each piece of `[buffer, buffer + count)` that lies in one page.
/// Bytes up to the first bad piece, or EFAULT when that is the first.
fn each_page(buffer: u64, count: u64, mut step: impl FnMut(u64, usize) -> Result<(), Errno>) -> Answer {
    let mut done = 0;
    while done < count {
        let address = buffer + done;
        let len = (PAGE_SIZE - address % PAGE_SIZE).min(count - done);
        match step(address, len as usize) {
            Ok(()) => done += len,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Copies kernel bytes to the program; bytes copied.
pub fn copy_out(buffer: u64, bytes: &[u8]) -> Answer {
    // Page by page, to know how far it goes where one is bad.
    let mut rest = bytes;
    each_page(buffer, bytes.len() as u64, |address, len| {
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        rest = behind;
        Ok(user_memory::write(address, piece)?)
    })
}

/// Fills the program's buffer from `make`, which is given zeros.
#[inline(never)]
pub fn fill(buffer: u64, count: u64, mut make: impl FnMut(&mut [u8])) -> Answer {
    let mut page = [0; PAGE_SIZE as usize];
    each_page(buffer, count, |address, len| {
        let (piece, _) = page.split_at_mut(len.min(PAGE_SIZE as usize));
        make(piece);
        user_memory::write(address, piece)?;
        if lets_others_in() { Ok(()) } else { Err(Errno::EINTR) }
    })
}

/// Copies the program's buffer to the kernel and gives it to `take`, piece by piece.
#[inline(never)]
pub fn write_pages(buffer: u64, count: u64, mut take: impl FnMut(&[u8]) -> Result<(), Errno>) -> Answer {
    let mut page = [0; PAGE_SIZE as usize];
    each_page(buffer, count, |address, len| {
        let (piece, _) = page.split_at_mut(len.min(PAGE_SIZE as usize));
        user_memory::read(address, piece)?;
        take(piece)
    })
}
