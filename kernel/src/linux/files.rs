//! Descriptors: small numbers for open files, and the calls that only shuffle them.

use super::dev::Stream;
use super::errno::{Answer, Errno};
use super::flock;
use super::io::tell;
use super::memory::vec_for;
use super::node::Node;
use super::pipe::End;
use super::thread::Thread;
use super::tree::Place;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general::{
    F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_GETLK, F_SETFD, F_SETFL, F_SETLK, F_SETLKW, FD_CLOEXEC,
    O_ACCMODE, O_APPEND, O_CLOEXEC, O_DIRECT, O_LARGEFILE, O_NOATIME, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR,
    O_WRONLY,
};
use linux_raw_sys::ioctl::{FIOCLEX, FIONCLEX, FIONREAD};

/// Descriptors that a program may have (Linux's default RLIMIT_NOFILE).
pub const MAX_DESCRIPTORS: usize = 1024;

/// An open file; descriptors made by dup share it, position and all.
pub struct OpenFile {
    /// What is open.
    pub node: Arc<dyn Node>,
    /// What was found at its path, or stands for it.
    pub place: Arc<Place>,
    flags: AtomicU32,
    position: AtomicU64,
}

impl OpenFile {
    /// A file without a path, with open(2)'s `flags`.
    pub fn new(node: Arc<dyn Node>, flags: u32) -> OpenFile {
        let name = format!("pipe:[{}]", node.metadata().inode);
        OpenFile::at(Place::nameless(Arc::clone(&node), name), node, flags)
    }

    /// What was found at `place`: `node` is that, or what it became when it was opened.
    pub fn at(place: Arc<Place>, node: Arc<dyn Node>, flags: u32) -> OpenFile {
        OpenFile { node, place, flags: AtomicU32::new(flags), position: AtomicU64::new(0) }
    }

    /// Opened for reading? The fourth access mode, 3, is for neither.
    pub fn is_readable(&self) -> bool {
        matches!(self.flags() & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    /// Opened for writing?
    pub fn is_writable(&self) -> bool {
        matches!(self.flags() & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    /// Does every write go behind the last byte (O_APPEND)?
    pub fn appends(&self) -> bool {
        self.flags() & O_APPEND != 0
    }

    /// Does a transfer that would have to wait fail (O_NONBLOCK)?
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & O_NONBLOCK != 0
    }

    /// What is open, if it is one of these.
    pub fn node_as<T: Node>(&self) -> Option<&T> {
        let node: &dyn Any = &*self.node;
        node.downcast_ref()
    }

    fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    fn is_path(&self) -> bool {
        self.flags() & O_PATH != 0
    }

    /// Where the next read starts, in bytes.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Moves there.
    pub fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }
}

/// Who waits for what it had locked looks again.
impl Drop for OpenFile {
    fn drop(&mut self) {
        flock::announce_close();
    }
}

/// The same.
impl Drop for Descriptors {
    fn drop(&mut self) {
        flock::announce_close();
    }
}

#[derive(Clone)]
struct Descriptor {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// A program's descriptors, behind a lock where threads or programs share them.
pub struct Descriptors {
    slots: Vec<Option<Descriptor>>,
}

impl Descriptors {
    /// 0, 1 and 2.
    pub fn new() -> Descriptors {
        let stream = |stream, flags| {
            let file = Arc::new(OpenFile::new(Arc::new(stream), flags));
            Some(Descriptor { file, close_on_exec: false })
        };
        let stdin = stream(Stream::Stdin, O_RDONLY);
        let stdout = stream(Stream::Stdout, O_WRONLY);
        let stderr = stream(Stream::Stderr, O_WRONLY);
        Descriptors { slots: Vec::from([stdin, stdout, stderr]) }
    }

    /// The file behind a descriptor, or EBADF; also EBADF when it was opened with O_PATH.
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        let file = &self.slot(fd)?.file;
        if file.is_path() { Err(Errno::EBADF) } else { Ok(file.clone()) }
    }

    /// The same for the calls that take an O_PATH descriptor too (Linux: fdget_raw).
    pub fn get_any(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        Ok(self.slot(fd)?.file.clone())
    }

    /// Gives `file` the lowest free descriptor, or EMFILE.
    pub fn add(&mut self, file: Arc<OpenFile>, flags: u32) -> Answer {
        self.add_from(0, file, flags & O_CLOEXEC != 0)
    }

    fn add_from(&mut self, lowest: usize, file: Arc<OpenFile>, close_on_exec: bool) -> Answer {
        let used = self.slots.iter().skip(lowest).take_while(|slot| slot.is_some()).count();
        match lowest + used {
            MAX_DESCRIPTORS.. => Err(Errno::EMFILE),
            fd => self.replace(fd, Descriptor { file, close_on_exec }).map(|_| fd as u64),
        }
    }

    /// Gives the file that the descriptor was before: closing it is for when the lock is no longer held.
    fn replace(&mut self, fd: usize, descriptor: Descriptor) -> Result<Option<Descriptor>, Errno> {
        if fd >= MAX_DESCRIPTORS {
            return Err(Errno::EBADF);
        }
        if fd >= self.slots.len() {
            self.slots.try_reserve(fd + 1 - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize(fd + 1, None);
        }
        Ok(self.slots.get_mut(fd).and_then(|slot| slot.replace(descriptor)))
    }

    /// A copy of them all, or ENOMEM.
    pub fn try_clone(&self) -> Result<Descriptors, Errno> {
        let mut slots = vec_for(self.slots.len())?;
        slots.extend_from_slice(&self.slots);
        Ok(Descriptors { slots })
    }

    fn slot(&self, fd: i32) -> Result<&Descriptor, Errno> {
        self.slots.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    fn slot_mut(&mut self, fd: i32) -> Result<&mut Descriptor, Errno> {
        self.slots.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::EBADF)
    }
}

impl Thread {
    /// The file behind a descriptor, as `Descriptors::get` has it.
    pub fn file(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.files.lock().get(fd)
    }

    /// The same with O_PATH.
    pub fn file_any(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.files.lock().get_any(fd)
    }
}

/// close(2).
pub fn close(thread: &mut Thread, fd: i32) -> Answer {
    // Out of the lock, then dropped: the last reference gives the object back.
    let closed = thread.files.lock().slots.get_mut(fd as usize).and_then(Option::take);
    flock::descriptor_closed(thread, &closed.ok_or(Errno::EBADF)?.file);
    Ok(0)
}

/// close_range(2); not CLOSE_RANGE_UNSHARE.
pub fn close_range(thread: &mut Thread, first: u32, last: u32, flags: u32) -> Answer {
    /// CLOSE_RANGE_CLOEXEC (include/uapi/linux/close_range.h).
    const CLOEXEC: u32 = 4;
    if flags & !CLOEXEC != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    for fd in first..=last.min(MAX_DESCRIPTORS as u32 - 1) {
        if flags & CLOEXEC == 0 {
            let _ = close(thread, fd as i32);
        } else if let Ok(descriptor) = thread.files.lock().slot_mut(fd as i32) {
            descriptor.close_on_exec = true;
        }
    }
    Ok(0)
}

/// Closes those that a new program does not get (FD_CLOEXEC).
pub fn close_on_exec(thread: &mut Thread) {
    let is_closed =
        |slot: &Option<Descriptor>| slot.as_ref().is_some_and(|descriptor| descriptor.close_on_exec);
    loop {
        let fd = thread.files.lock().slots.iter().position(is_closed);
        let Some(fd) = fd else { break };
        let _ = close(thread, fd as i32);
    }
}

/// dup(2).
pub fn dup(thread: &mut Thread, fd: i32) -> Answer {
    let file = thread.file_any(fd)?;
    // A clone, as in `open::add`.
    thread.files.lock().add(file.clone(), 0)
}

/// dup2(2).
pub fn dup2(thread: &mut Thread, old: i32, new: i32) -> Answer {
    if old == new {
        return thread.file_any(old).map(|_| old as u64);
    }
    dup3(thread, old, new, 0)
}

/// dup3(2).
pub fn dup3(thread: &mut Thread, old: i32, new: i32, flags: u32) -> Answer {
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let descriptor = Descriptor { file: thread.file_any(old)?, close_on_exec: flags & O_CLOEXEC != 0 };
    let replaced = thread.files.lock().replace(new as usize, descriptor.clone());
    if let Some(closed) = replaced? {
        flock::descriptor_closed(thread, &closed.file);
    }
    Ok(new as u64)
}

/// fcntl(2): the commands for descriptors, status flags and locks of bytes; no leases or owners.
pub fn fcntl(thread: &mut Thread, fd: i32, command: u32, argument: u64) -> Answer {
    let file = thread.file_any(fd)?;
    // fs/fcntl.c, check_fcntl_cmd.
    let takes_paths = matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL);
    if file.is_path() && !takes_paths {
        return Err(Errno::EBADF);
    }
    if let F_GETLK | F_SETLK | F_SETLKW = command {
        return flock::lock_bytes(thread, &file, command, argument);
    }
    let mut files = thread.files.lock();
    let descriptor = files.slot_mut(fd)?;
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            if argument >= MAX_DESCRIPTORS as u64 {
                return Err(Errno::EINVAL);
            }
            // A clone, as in `open::add`.
            files.add_from(argument as usize, file.clone(), command == F_DUPFD_CLOEXEC)
        }
        F_GETFD => Ok(if descriptor.close_on_exec { u64::from(FD_CLOEXEC) } else { 0 }),
        F_SETFD => {
            descriptor.close_on_exec = argument & u64::from(FD_CLOEXEC) != 0;
            Ok(0)
        }
        F_GETFL => Ok(u64::from(file.flags() | O_LARGEFILE)),
        F_SETFL => {
            // fs/fcntl.c, SETFL_MASK.
            let changeable = O_APPEND | O_DIRECT | O_NONBLOCK | O_NOATIME;
            if argument as u32 & O_DIRECT != 0 && file.node.inode().is_none() {
                return Err(Errno::EINVAL);
            }
            let flags = file.flags() & !changeable | argument as u32 & changeable;
            file.flags.store(flags, Ordering::Relaxed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// ioctl(2): nothing here is a terminal, a disk or a socket.
pub fn ioctl(thread: &mut Thread, fd: i32, command: u32, argument: u64) -> Answer {
    let file = thread.file(fd)?;
    if let (FIONREAD, Some(end)) = (command, file.node_as::<End>()) {
        return tell(argument, &(end.len() as i32));
    }
    let mut files = thread.files.lock();
    let descriptor = files.slot_mut(fd)?;
    match command {
        FIOCLEX => descriptor.close_on_exec = true,
        FIONCLEX => descriptor.close_on_exec = false,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// umask(2): the mask before.
pub fn umask(thread: &mut Thread, mask: u32) -> Answer {
    let before = core::mem::replace(&mut thread.process.settings.lock().umask, mask & 0o777);
    Ok(u64::from(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::dev::Device;

    #[test]
    fn the_fourth_access_mode_neither_reads_nor_writes() {
        let may = |flags| {
            let file = OpenFile::new(Arc::new(Device::Zero), flags);
            (file.is_readable(), file.is_writable())
        };
        assert_eq!([0, 1, 2, 3].map(may), [(true, false), (false, true), (true, true), (false, false)]);
    }

    #[test]
    fn a_path_descriptor_is_there_only_for_calls_that_take_one() {
        let mut files = Descriptors::new();
        let file = Arc::new(OpenFile::new(Arc::new(Device::Zero), O_PATH));
        assert_eq!(files.add(file, 0), Ok(3));
        assert_eq!(files.get(3).err(), Some(Errno::EBADF));
        assert!(files.get_any(3).is_ok());
    }
}
