//! execve(2): another program in the same process.
//!
//! The new program is loaded whole, into a space of its own, while the old one could still go on: until then a
//! failure is an errno. Then the other threads end; the one that is left takes the process's number, leaves the
//! old memory, and wakes up in the new program.

use super::alarm;
use super::errno::{Answer, Errno};
use super::files;
use super::load::{self, LoadError, Loaded};
use super::memory::check_reserve;
use super::signal::{Signal, Signals};
use super::stack::MAX_ARGUMENT_BYTES;
use super::thread::{Thread, default_name};
use super::tree::{self, Links};
use crate::arch::{context, fpu};
use crate::initrd::File;
use crate::machine::machine;
use crate::task::park::Interruptible;
use crate::task::{self, ATTEND_EXIT};
use crate::user_memory;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::AT_FDCWD;
use mm::lock::{Rank, SpinLock};
use mm::range::PAGE_SIZE;

/// The longest single string (include/uapi/linux/binfmts.h, MAX_ARG_STRLEN).
const MAX_STRING_BYTES: usize = 32 * PAGE_SIZE as usize;

impl From<LoadError> for Errno {
    fn from(error: LoadError) -> Errno {
        match error {
            LoadError::NotFound => Errno::ENOENT,
            LoadError::NotExecutable => Errno::EACCES,
            LoadError::NoInterpreter(_, errno) => errno,
            LoadError::Interpreter(..) => Errno::ELIBBAD,
            LoadError::TooManyScripts => Errno::ELOOP,
            LoadError::Image(_) => Errno::ENOEXEC,
            LoadError::Arguments(_) => Errno::E2BIG,
            LoadError::Map(refusal) => refusal.into(),
            LoadError::NoMemory => Errno::ENOMEM,
        }
    }
}

/// execve(2).
#[inline(never)]
pub fn execve(thread: &mut Thread, path: u64, argv: u64, envp: u64) -> Answer {
    check_reserve()?;
    let path = tree::read_path(path)?;
    let file = find_program(thread, &path)?;
    let mut room_bytes = MAX_ARGUMENT_BYTES;
    let mut argv = read_strings(argv, &mut room_bytes)?;
    if argv.is_empty() {
        // fs/exec.c, do_execveat_common: a program can rely on argv[0].
        argv.push(Vec::new());
    }
    let envp = read_strings(envp, &mut room_bytes)?;
    let find = |path: &str| find_program(thread, path);
    let loaded = load::load(file, &path, argv, &envp, &find).map_err(|error| {
        if thread.may_log() {
            log::warn!("/{}: execve of /{}: {error}", thread.name(), file.path);
        }
        Errno::from(error)
    })?;
    let files = thread.files.lock().try_clone()?;
    end_other_threads(thread)?;
    become_program(thread, loaded);
    // A script's own name, not its interpreter's.
    thread.name = default_name(file);
    // As on Linux (fs/exec.c, unshare_files) the table stays, and with it its locks of bytes, unless others share it.
    if Arc::strong_count(&thread.files) > 1 {
        thread.files = Arc::new(SpinLock::new(Rank::Process, files));
    }
    files::close_on_exec(thread);
    Ok(0)
}

fn find_program(thread: &Thread, path: &str) -> Result<&'static File, Errno> {
    let node = &tree::walk(thread, AT_FDCWD, path, Links::Follow)?.found()?.node;
    node.program().filter(|_| node.metadata().mode & 0o111 != 0).ok_or(Errno::EACCES)
}

/// Copies an array of strings that ends with a null pointer; the array itself may be null. `room_bytes` is what the
/// strings and pointers may still take.
fn read_strings(array: u64, room_bytes: &mut u64) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if array == 0 {
        return Ok(strings);
    }
    let mut at = array;
    loop {
        let string: u64 = user_memory::read_value(at)?;
        if string == 0 {
            return Ok(strings);
        }
        // Each is copied twice more on its way to the new stack, and grows by doubling.
        let free_bytes = machine().memory.frames.free_frames() * PAGE_SIZE;
        if (MAX_ARGUMENT_BYTES - *room_bytes + MAX_STRING_BYTES as u64) * 4 > free_bytes {
            return Err(Errno::ENOMEM);
        }
        let string = user_memory::read_string(string, MAX_STRING_BYTES - 1)?.ok_or(Errno::E2BIG)?;
        *room_bytes = room_bytes.checked_sub(string.len() as u64 + 9).ok_or(Errno::E2BIG)?;
        strings.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        strings.push(string);
        at = at.checked_add(8).ok_or(Errno::EFAULT)?;
    }
}

/// Leaves this thread alone in its process. Fails when the process ends first: then the program never runs again.
fn end_other_threads(thread: &mut Thread) -> Result<(), Errno> {
    let process = &thread.process;
    process.group.lock().close(&thread.member)?;
    process.wait_until("execve", Interruptible::No, &|| process.living.load(Ordering::SeqCst) == 1);
    process.group.lock().reopen(&thread.member, process.pid);
    if thread.task.attention() & ATTEND_EXIT != 0 { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// The point of no return.
fn become_program(thread: &mut Thread, loaded: Loaded) {
    let Loaded { space, program, context } = loaded;
    space.set_owner(thread.process.pid.unsigned_abs());
    thread.process.use_space(&space);
    thread.leave_memory();
    task::use_space(Some(Arc::clone(&space)));
    context::reset_segments();
    task::set_fs_base(0);
    fpu::reset();
    thread.process.settings.lock().image = program.image.clone();
    thread.process.exit_signal.store(Signal::CHLD.number().into(), Ordering::Relaxed);
    thread.process.group.lock().actions.reset();
    alarm::forget_made(thread.process.pid);
    (thread.space, thread.program, thread.context) = (space, program, context);
    thread.signals = Signals::new();
    thread.process.release();
}
