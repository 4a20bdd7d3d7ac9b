//! clone, clone3, fork, vfork: a new thread, or a new process that is a copy of this one.
//!
//! The order: every check; what can fail for want of memory, the copy of the address space above all; the task,
//! which waits; the tables, so that whoever hears the number can use it; then the task may go.

use super::errno::{Answer, Errno};
use super::memory::{check_reserve, vec_for};
use super::process::{ExitStatus, Inherited, Process, Program};
use super::signal::{Member, Signal};
use super::thread::{Newborn, Thread, conceive};
use crate::machine::machine;
use crate::task::park::Interruptible;
use crate::task::{self, ATTEND_EXIT};
use crate::user_memory;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;
use mm::lock::{Rank, SpaceLock, SpinLock};
use mm::range::{PAGE_SIZE, USER_END};
use mm::space::AddressSpace;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// What is known here. Not: namespaces, process descriptors, cgroups.
const KNOWN: u64 = (CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_PTRACE
    | CLONE_VFORK
    | CLONE_PARENT
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID
    | CLONE_DETACHED
    | CLONE_UNTRACED
    | CLONE_CHILD_SETTID
    | CLONE_IO) as u64
    | CLONE_CLEAR_SIGHAND;

/// A task takes its kernel stack and, mostly, as much again for tables and structures: that many bytes of RAM allow one
/// task (Linux: threads-max).
const RAM_PER_TASK: u64 = 32 << 10;

/// struct clone_args.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct Wish {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    /// 0 for none.
    exit_signal: u64,
    /// The lowest address of the child's stack; 0, with `stack_bytes`, for its parent's place.
    stack: u64,
    stack_bytes: u64,
    tls: u64,
    set_tid: u64,
    set_tid_count: u64,
    cgroup: u64,
}

/// The size of the first version, which ends with `tls`.
const FIRST_VERSION_BYTES: u64 = 64;

impl Wish {
    fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }
}

/// clone(2): the lowest byte of the flags is the signal at the child's end.
pub fn clone(
    thread: &mut Thread,
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
) -> Answer {
    // The upper half of the register is no flag (kernel/fork.c, sys_clone).
    let (flags, exit_signal) = (flags & 0xffff_ff00, flags & u64::from(CSIGNAL));
    birth(thread, &Wish { flags, exit_signal, stack, parent_tid, child_tid, tls, ..Wish::new_zeroed() })
}

/// fork(2).
pub fn fork(thread: &mut Thread) -> Answer {
    clone(thread, u64::from(Signal::CHLD.number()), 0, 0, 0, 0)
}

/// vfork(2): the child borrows the parent's memory, and the parent waits until it is given back.
pub fn vfork(thread: &mut Thread) -> Answer {
    clone(thread, u64::from(CLONE_VFORK | CLONE_VM) | u64::from(Signal::CHLD.number()), 0, 0, 0, 0)
}

/// clone3(2).
pub fn clone3(thread: &mut Thread, address: u64, len_bytes: u64) -> Answer {
    if len_bytes > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if len_bytes < FIRST_VERSION_BYTES {
        return Err(Errno::EINVAL);
    }
    // What this version has and the program's has not is 0; the other way round it must be 0 (copy_struct_from_user).
    let mut bytes = vec_for(len_bytes as usize)?;
    bytes.resize(len_bytes as usize, 0u8);
    user_memory::read(address, &mut bytes)?;
    let known = size_of::<Wish>();
    if bytes.iter().skip(known).any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    bytes.resize(known, 0);
    let wish = Wish::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?;
    let Wish { flags, exit_signal, stack, stack_bytes, .. } = wish;
    let is_signal = exit_signal <= Signal::COUNT as u64;
    let is_stack = (stack == 0) == (stack_bytes == 0)
        && stack.checked_add(stack_bytes).is_some_and(|end| end <= USER_END);
    let thread_signals = flags & u64::from(CLONE_THREAD | CLONE_PARENT) != 0 && exit_signal != 0;
    // The bits that clone keeps its signal in, and CLONE_DETACHED, mean nothing here.
    let is_flags = flags & u64::from(CSIGNAL | CLONE_DETACHED) == 0;
    if !is_signal || !is_stack || !is_flags || thread_signals {
        return Err(Errno::EINVAL);
    }
    if wish.set_tid_count != 0 {
        return Err(refuse(thread, flags, "set_tid"));
    }
    birth(thread, &wish)
}

fn birth(thread: &mut Thread, wish: &Wish) -> Answer {
    let is_thread = wish.has(CLONE_THREAD);
    // kernel/fork.c, copy_process.
    if is_thread && !wish.has(CLONE_SIGHAND)
        || wish.has(CLONE_SIGHAND) && !wish.has(CLONE_VM)
        || wish.has(CLONE_SIGHAND) && wish.flags & CLONE_CLEAR_SIGHAND != 0
    {
        return Err(Errno::EINVAL);
    }
    if wish.flags & !KNOWN != 0 {
        return Err(refuse(thread, wish.flags & !KNOWN, "flags"));
    }
    // Actions and threads are one object here: nobody shares the one without the other.
    if wish.has(CLONE_SIGHAND) && !is_thread || is_thread && wish.has(CLONE_VFORK) {
        return Err(refuse(thread, wish.flags, "combination of flags"));
    }
    if wish.has(CLONE_SETTLS) && wish.tls >= USER_END {
        return Err(Errno::EPERM);
    }
    check_reserve().map_err(|_| Errno::EAGAIN)?;
    if task::live() as u64 >= machine().memory.frames.total_frames() * PAGE_SIZE / RAM_PER_TASK {
        return Err(Errno::EAGAIN);
    }
    let (space, program) = memory_for_child(thread, wish)?;
    let files = match wish.has(CLONE_FILES) {
        true => Arc::clone(&thread.files),
        false => Arc::new(SpinLock::new(Rank::Process, thread.files.lock().try_clone()?)),
    };
    let cradle = Arc::new(SpinLock::new(Rank::Process, None));
    let task = conceive(&cradle).ok_or(Errno::EAGAIN)?;
    let member = Member::new(Arc::clone(&task), thread.member.blocked());
    let process = match is_thread {
        true => {
            thread.process.group.lock().add(Arc::clone(&member))?;
            thread.process.living.fetch_add(1, Ordering::SeqCst);
            Arc::clone(&thread.process)
        }
        false => child_process(thread, wish, &member)?,
    };
    process.use_space(&space);
    let tid = member.tid();
    if !wish.has(CLONE_VM) {
        space.set_owner(tid.unsigned_abs());
    }
    if wish.has(CLONE_PARENT_SETTID) {
        let _ = user_memory::write_value(wish.parent_tid, &tid);
    }
    let mut context = thread.context.clone();
    context.rax = 0;
    if wish.stack != 0 {
        context.rsp = wish.stack.wrapping_add(wish.stack_bytes);
    }
    // As on Linux, a child that borrows memory does not run its handlers on its parent's alternate stack, save a vfork's.
    let signals = match wish.has(CLONE_VM) && !wish.has(CLONE_VFORK) {
        true => thread.signals.clone().without_alternate_stack(),
        false => thread.signals.clone(),
    };
    let child = Thread {
        context,
        task,
        space,
        process: Arc::clone(&process),
        program,
        files,
        member,
        signals,
        name: thread.name,
        clear_tid: if wish.has(CLONE_CHILD_CLEARTID) { wish.child_tid } else { 0 },
        robust_list: 0,
        traced: None,
    };
    *cradle.lock() = Some(Newborn {
        thread: child,
        fs_base: wish.has(CLONE_SETTLS).then_some(wish.tls),
        set_tid: if wish.has(CLONE_CHILD_SETTID) { wish.child_tid } else { 0 },
    });
    drop(cradle);
    if wish.has(CLONE_VFORK) {
        process.wait_until("vfork", Interruptible::ByEnd, &|| process.is_released.load(Ordering::SeqCst));
    }
    Ok(u64::from(tid.unsigned_abs()))
}

/// The parent's own memory, or a copy.
fn memory_for_child(thread: &Thread, wish: &Wish) -> Result<(Arc<AddressSpace>, Arc<Program>), Errno> {
    if wish.has(CLONE_VM) {
        return Ok((Arc::clone(&thread.space), Arc::clone(&thread.program)));
    }
    let space = thread.space.fork(&machine().kernel_half)?;
    let program = &thread.program;
    let program = Program {
        image: program.image.clone(),
        auxv: Arc::clone(&program.auxv),
        program_break: SpaceLock::new(*program.program_break.read()),
    };
    Ok((space, Arc::new(program)))
}

fn child_process(thread: &Thread, wish: &Wish, first: &Arc<Member>) -> Result<Arc<Process>, Errno> {
    let parent = &thread.process;
    let mut actions = parent.group.lock().actions.clone();
    if wish.flags & CLONE_CLEAR_SIGHAND != 0 {
        actions.reset();
    }
    let kin = parent.kin.lock().clone();
    let settings = parent.settings.lock().clone();
    let (parent, exit_signal) = match wish.has(CLONE_PARENT) {
        true => (parent.parent(), parent.exit_signal.load(Ordering::Relaxed)),
        false => (parent.pid, wish.exit_signal as i32),
    };
    let process = Process::publish(first, Inherited { parent, exit_signal, kin, actions, settings })?;
    // Who killed all at once before the child was in the table did not see it (Linux: fork fails, copy_process).
    if thread.task.attention() & ATTEND_EXIT != 0 {
        process.group.lock().end(ExitStatus::Killed(Signal::KILL));
    }
    Ok(process)
}

/// EINVAL, with what was asked for in the log.
#[cold]
fn refuse(thread: &Thread, flags: u64, what: &str) -> Errno {
    if thread.may_log() {
        log::warn!("/{}: clone: unsupported {what} {flags:#x}: EINVAL", thread.name());
    }
    Errno::EINVAL
}
