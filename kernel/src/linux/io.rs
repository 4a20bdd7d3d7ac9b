//! Reading and writing through descriptors.
//!
//! Checks come in Linux's order (fs/read_write.c): descriptor, open mode, "can this object be read at all"
//! (a dax device cannot: EINVAL), then the buffer. A buffer that turns bad on the way ends the transfer early
//! and its good part counts, as on Linux.

use super::abi::Iovec;
use super::dev::Device;
use super::errno::{Answer, Errno};
use super::files::{Object, OpenFile, Stream};
use super::memory::vec_for;
use super::proc;
use super::stat::Metadata;
use super::sys;
use super::thread::Thread;
use crate::random;
use crate::user_memory;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, UIO_MAXIOV};
use mm::pager::Pager;
use mm::range::{PAGE_SIZE, USER_END};

/// Most bytes that one call transfers (include/linux/fs.h, MAX_RW_COUNT).
const MAX_TRANSFER: u64 = 0x7fff_f000;

/// read(2).
pub fn read(thread: &mut Thread, fd: i32, buffer: u64, count: u64) -> Answer {
    let file = readable(thread, fd)?;
    read_next(thread, &file, buffer, check_buffer(buffer, count)?)
}

/// write(2).
pub fn write(thread: &mut Thread, fd: i32, buffer: u64, count: u64) -> Answer {
    let file = writable(thread, fd)?;
    write_to(&file, buffer, check_buffer(buffer, count)?)
}

/// pread64(2).
pub fn pread(thread: &mut Thread, fd: i32, buffer: u64, count: u64, position: i64) -> Answer {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    check_position(thread.file(fd)?.as_ref())?;
    let file = readable(thread, fd)?;
    read_at(thread, &file, position, buffer, check_buffer(buffer, count)?)
}

/// pwrite64(2).
pub fn pwrite(thread: &mut Thread, fd: i32, buffer: u64, count: u64, position: i64) -> Answer {
    u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    check_position(thread.file(fd)?.as_ref())?;
    let file = writable(thread, fd)?;
    write_to(&file, buffer, check_buffer(buffer, count)?)
}

/// readv(2).
pub fn readv(thread: &mut Thread, fd: i32, vector: u64, count: u64) -> Answer {
    let file = readable(thread, fd)?;
    each_part(&read_vector(vector, count)?, |part| read_next(thread, &file, part.iov_base, part.iov_len))
}

/// writev(2).
pub fn writev(thread: &mut Thread, fd: i32, vector: u64, count: u64) -> Answer {
    let file = writable(thread, fd)?;
    each_part(&read_vector(vector, count)?, |part| write_to(&file, part.iov_base, part.iov_len))
}

/// lseek(2).
pub fn lseek(thread: &mut Thread, fd: i32, offset: i64, whence: u32) -> Answer {
    let file = thread.file(fd)?;
    check_position(&file)?;
    // drivers/char/mem.c, null_lseek: stays at 0, wherever it is asked to go.
    if matches!(file.object, Object::Device(_)) && whence <= SEEK_HOLE {
        return Ok(0);
    }
    let size = Metadata::of_object(&file.object).size_bytes();
    // A device, a directory or a /proc file has no holes to look for, and most have no end.
    let is_plain = matches!(file.object, Object::File(_));
    let has_size = is_plain || matches!(file.object, Object::Dax(_));
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => file.position(),
        SEEK_END if has_size => size,
        SEEK_DATA | SEEK_HOLE if is_plain => {
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

/// fsync(2), fdatasync(2): a dax device flushes what its medium needs (Linux answers EINVAL; error matrix).
pub fn fsync(thread: &mut Thread, fd: i32) -> Answer {
    match &thread.file(fd)?.object {
        Object::Dax(open) => open.flush(0, open.device().size_bytes())?,
        Object::File(_) | Object::Directory(_) => {}
        Object::Stream(_) | Object::Device(_) | Object::Proc(_) | Object::Sys(_) => {
            return Err(Errno::EINVAL);
        }
    }
    Ok(0)
}

/// ftruncate(2): nothing here has a length that can change.
pub fn ftruncate(thread: &mut Thread, fd: i32) -> Answer {
    thread.file(fd)?;
    Err(Errno::EINVAL)
}

/// fallocate(2): the same.
pub fn fallocate(thread: &mut Thread, fd: i32, offset: i64, len_bytes: i64) -> Answer {
    let file = thread.file(fd)?;
    if offset < 0 || len_bytes <= 0 {
        return Err(Errno::EINVAL);
    }
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    match file.object {
        Object::Stream(_) => Err(Errno::ESPIPE),
        _ => Err(Errno::ENODEV),
    }
}

fn readable(thread: &Thread, fd: i32) -> Result<Arc<OpenFile>, Errno> {
    let file = thread.file(fd)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    match file.object {
        Object::Dax(_) => Err(Errno::EINVAL),
        Object::Directory(_) => Err(Errno::EISDIR),
        _ => Ok(file.clone()),
    }
}

fn writable(thread: &Thread, fd: i32) -> Result<Arc<OpenFile>, Errno> {
    let file = thread.file(fd)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    match file.object {
        Object::Dax(_) => Err(Errno::EINVAL),
        _ => Ok(file.clone()),
    }
}

fn check_position(file: &OpenFile) -> Result<(), Errno> {
    match file.object {
        Object::Stream(_) => Err(Errno::ESPIPE),
        _ => Ok(()),
    }
}

/// A buffer must end in the lower half, before anything else is looked at; long ones are cut.
fn check_buffer(buffer: u64, count: u64) -> Result<u64, Errno> {
    match buffer.checked_add(count) {
        Some(end) if end <= USER_END => Ok(count.min(MAX_TRANSFER)),
        _ => Err(Errno::EFAULT),
    }
}

/// Reads and checks all of an iovec array before the first byte moves (lib/iov_iter.c, import_iovec).
fn read_vector(vector: u64, count: u64) -> Result<Vec<Iovec>, Errno> {
    if count > u64::from(UIO_MAXIOV) {
        return Err(Errno::EINVAL);
    }
    let mut parts = vec_for(count as usize)?;
    let mut left = MAX_TRANSFER;
    for index in 0..count {
        let address = vector.checked_add(index * size_of::<Iovec>() as u64).ok_or(Errno::EFAULT)?;
        let mut part: Iovec = user_memory::read_value(address)?;
        i64::try_from(part.iov_len).map_err(|_| Errno::EINVAL)?;
        check_buffer(part.iov_base, part.iov_len)?;
        part.iov_len = part.iov_len.min(left);
        left -= part.iov_len;
        parts.push(part);
    }
    Ok(parts)
}

/// Transfers part by part until one is short.
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

/// Reads at the file's position and moves it.
fn read_next(thread: &mut Thread, file: &OpenFile, buffer: u64, count: u64) -> Answer {
    if let Object::Proc(kind) = file.object
        && kind.ends_before(file.position())
    {
        return Ok(0);
    }
    let done = read_at(thread, file, file.position(), buffer, count)?;
    file.set_position(file.position().saturating_add(done));
    Ok(done)
}

fn read_at(thread: &mut Thread, file: &OpenFile, position: u64, buffer: u64, count: u64) -> Answer {
    match &file.object {
        Object::Stream(_) | Object::Device(Device::Null) => Ok(0),
        Object::File(contents) => {
            let start = usize::try_from(position).unwrap_or(usize::MAX);
            let rest = contents.bytes.get(start..).unwrap_or(&[]);
            copy_out(buffer, rest.get(..count as usize).unwrap_or(rest))
        }
        Object::Device(Device::Zero) => fill(buffer, count, |_| {}),
        Object::Device(Device::Random) => fill(buffer, count, random::fill),
        Object::Proc(kind) => proc::read(thread, *kind, position, buffer, count),
        Object::Sys(file) => sys::read(*file, position, buffer, count),
        Object::Dax(_) => Err(Errno::EINVAL),
        Object::Directory(_) => Err(Errno::EISDIR),
    }
}

fn write_to(file: &OpenFile, buffer: u64, count: u64) -> Answer {
    match &file.object {
        Object::Stream(stream) => write_stream(*stream, buffer, count),
        Object::Device(_) => Ok(count),
        Object::Sys(file) => sys::write(*file, buffer, count),
        Object::Dax(_) | Object::Directory(_) | Object::File(_) | Object::Proc(_) => Err(Errno::EINVAL),
    }
}

/// Calls `step` with the start and length of each piece of `[buffer, buffer + count)` that lies in one page.
/// Bytes up to the first bad piece, or EFAULT when that is the first.
fn each_page(
    buffer: u64,
    count: u64,
    mut step: impl FnMut(u64, usize) -> Result<(), user_memory::BadAddress>,
) -> Answer {
    let mut done = 0;
    while done < count {
        let address = buffer + done;
        let len = (PAGE_SIZE - address % PAGE_SIZE).min(count - done);
        match step(address, len as usize) {
            Ok(()) => done += len,
            Err(bad) if done == 0 => return Err(bad.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Copies kernel bytes to the program; bytes copied.
pub fn copy_out(buffer: u64, bytes: &[u8]) -> Answer {
    if user_memory::write(buffer, bytes).is_ok() {
        return Ok(bytes.len() as u64);
    }
    // A bad page somewhere: page by page, to know how far it goes.
    let mut rest = bytes;
    each_page(buffer, bytes.len() as u64, |address, len| {
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        rest = behind;
        user_memory::write(address, piece)
    })
}

/// Fills the program's buffer from `make`, which is given zeros.
#[inline(never)]
pub fn fill(buffer: u64, count: u64, make: impl Fn(&mut [u8])) -> Answer {
    let mut page = [0; PAGE_SIZE as usize];
    each_page(buffer, count, |address, len| {
        let (piece, _) = page.split_at_mut(len.min(PAGE_SIZE as usize));
        make(piece);
        user_memory::write(address, piece)
    })
}

#[inline(never)]
fn write_stream(stream: Stream, buffer: u64, count: u64) -> Answer {
    let mut page = [0; PAGE_SIZE as usize];
    each_page(buffer, count, |address, len| {
        let (piece, _) = page.split_at_mut(len.min(PAGE_SIZE as usize));
        user_memory::read(address, piece)?;
        match stream {
            Stream::Stdout => platform::channel::stdout(piece),
            Stream::Stderr => platform::channel::stderr(piece),
            Stream::Stdin => {}
        }
        Ok(())
    })
}
