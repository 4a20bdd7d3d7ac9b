//! The start of a program: from a path in the initrd to registers that can be run.
//!
//! A script is run by its interpreter, a dynamic program is started by its own: the dynamic loader, which goes to a
//! place of its own in the same space and finds the program by the auxiliary vector. Order of Linux 6.1 fs/exec.c
//! (`exec_binprm`) and fs/binfmt_elf.c.

use super::brk::ProgramBreak;
use super::errno::Errno;
use super::memory::{pages, private, within};
use super::process::{Image, Program};
use super::{script, signal};
use crate::arch::context::UserContext;
use crate::clock;
use crate::initrd::File;
use crate::linux::image::{ImageError, Plan};
use crate::linux::stack::{Auxiliary, InitialStack, TooLong};
use crate::machine::machine;
use crate::random;
use crate::user_memory::{self, BadAddress};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use linux_raw_sys::general::{S_IFDIR, S_IFMT};
use mm::lock::SpaceLock;
use mm::pager::{Prot, Refusal};
use mm::range::{MapSize, PAGE_SIZE, USER_END};
use mm::space::{AddressSpace, MapRequest, Placement};
use mm::vma::VmaFlags;
use thiserror::Error;

/// Two thirds up the lower half, where Linux puts movable programs (asm/elf.h, ELF_ET_DYN_BASE).
const IMAGE_BASE: u64 = USER_END / 3 * 2;
/// Movable programs start up to 1 TiB higher, the stack up to 16 GiB lower, the heap up to 32 MiB behind the
/// image: all as on Linux x86-64.
const IMAGE_RANDOM_BYTES: u64 = 1 << 40;
const STACK_RANDOM_BYTES: u64 = 16 << 30;
const HEAP_RANDOM_BYTES: u64 = 32 << 20;

/// Scripts that interpret scripts, at most (fs/exec.c, exec_binprm).
const MAX_SCRIPTS: usize = 5;

/// Why a program cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LoadError {
    /// No such file in the initrd.
    #[error("no such file in the initrd")]
    NotFound,
    /// A directory, or none of the file's x bits is set.
    #[error("is not an executable file")]
    NotExecutable,
    /// Nothing that can be run is at the path that a script or a dynamic program names.
    #[error("needs {0}, which is not there or not executable")]
    NoInterpreter(&'static str, Errno),
    /// What a dynamic program names is no dynamic loader.
    #[error("needs {0}, which cannot be its loader: {1}")]
    Interpreter(&'static str, ImageError),
    /// Scripts that are interpreted by scripts, and so on.
    #[error("more than {MAX_SCRIPTS} scripts, each the interpreter of another")]
    TooManyScripts,
    /// Not a program that runs here.
    #[error("cannot run: {0}")]
    Image(#[from] ImageError),
    /// The arguments and the environment are too long.
    #[error("cannot run: {0}")]
    Arguments(#[from] TooLong),
    /// The image and the stack do not find room.
    #[error("cannot be mapped: {0}")]
    Map(#[from] Refusal),
    /// The stack's first pages could not be had.
    #[error("out of memory")]
    NoMemory,
}

/// The stack is the only user memory that is written before the program runs.
impl From<BadAddress> for LoadError {
    fn from(BadAddress: BadAddress) -> LoadError {
        LoadError::NoMemory
    }
}

/// A program that can be run.
pub struct Loaded {
    /// Its memory.
    pub space: Arc<AddressSpace>,
    /// What runs in it.
    pub program: Arc<Program>,
    /// Its first registers.
    pub context: UserContext,
}

/// The file at `path` of the initrd, if it can be a program.
pub fn find(path: &str) -> Result<&'static File, LoadError> {
    let file = machine().initrd.find(path).ok_or(LoadError::NotFound)?;
    let is_program = file.mode & S_IFMT != S_IFDIR && file.mode & 0o111 != 0;
    if is_program { Ok(file) } else { Err(LoadError::NotExecutable) }
}

/// How the path of an interpreter is looked up.
pub type Find<'a> = &'a dyn Fn(&str) -> Result<&'static File, Errno>;

fn find_interpreter(path: &'static str, find: Find) -> Result<&'static File, LoadError> {
    find(path).map_err(|errno| LoadError::NoInterpreter(path, errno))
}

/// Makes a program of `file`, which `path` names, or of the interpreter of the script that it is, ready to run. The
/// caller's own address space is loaded again when this returns.
pub fn load(
    file: &'static File,
    path: &str,
    argv: Vec<Vec<u8>>,
    envp: &[Vec<u8>],
    find: Find,
) -> Result<Loaded, LoadError> {
    let machine = machine();
    let (executable, argv) = read_scripts(file, path, argv, find)?;
    let plan = Plan::parse(executable.bytes)?;
    if plan.wants_executable_stack {
        log::warn!("{}: wants an executable stack; it gets one that is not", executable.path);
    }
    let space = AddressSpace::new(&machine.kernel_half, &machine.memory, random::u64());
    let space = space.ok_or(LoadError::NoMemory)?;
    let bias = plan.bias(random_above(IMAGE_BASE, IMAGE_RANDOM_BYTES, MapSize::Size2M));
    plan.map(executable, &space, bias)?;
    let entry = plan.entry.wrapping_add(bias);
    let (interpreter_base, start) = match plan.interpreter {
        Some(path) => map_interpreter(path, &space, find)?,
        None => (0, entry),
    };
    let mut random = [0; 16];
    random::fill(&mut random);
    let auxiliary = Auxiliary {
        headers: plan.headers.map_or(0, |address| address.wrapping_add(bias)),
        header_count: plan.header_count,
        interpreter_base,
        entry,
        hwcap: u64::from(__cpuid(1).edx),
        signal_stack_bytes: signal::stack_bytes(),
        random,
    };
    let top = random_above(USER_END - STACK_RANDOM_BYTES, STACK_RANDOM_BYTES, MapSize::Size4K);
    let stack = InitialStack::build(top, path.as_bytes(), &argv, envp, &auxiliary)?;
    let len_bytes = stack.mapped_bytes();
    let request = private(top - len_bytes, len_bytes, Prot::READ | Prot::WRITE);
    space.mmap(&MapRequest { flags: VmaFlags::GROWS_DOWN, name: "[stack]", ..request })?;
    within(&space, || user_memory::write(stack.pointer, &stack.bytes))?;
    let mut context = UserContext::default();
    context.rip = start;
    context.rsp = stack.pointer;
    // Interrupts on; bit 1 is always set.
    context.rflags = 0x202;
    let heap = random_above(plan.high().wrapping_add(bias), HEAP_RANDOM_BYTES, MapSize::Size4K);
    let program = Program {
        image: Image {
            executable,
            arguments: stack.arguments,
            environment: stack.environment,
            started_ns: clock::monotonic_ns(),
        },
        auxv: stack.bytes[stack.auxv].into(),
        program_break: SpaceLock::new(ProgramBreak::new(heap)),
    };
    Ok(Loaded { space, program: Arc::new(program), context })
}

/// The program that runs when `file` is executed, and its arguments: those of an interpreter are its own path, the
/// argument in the script, and the script's path in the place of `argv[0]`.
fn read_scripts(
    mut file: &'static File,
    mut path: &str,
    mut argv: Vec<Vec<u8>>,
    find: Find,
) -> Result<(&'static File, Vec<Vec<u8>>), LoadError> {
    let mut scripts = 0;
    while let Some((interpreter, argument)) = script::parse(file.bytes) {
        scripts += 1;
        if scripts > MAX_SCRIPTS {
            return Err(LoadError::TooManyScripts);
        }
        let words = [Some(interpreter), argument, Some(path)].into_iter().flatten();
        argv.try_reserve(2).map_err(|_| LoadError::NoMemory)?;
        argv.splice(..argv.len().min(1), words.map(Vec::from));
        file = find_interpreter(interpreter, find)?;
        path = interpreter;
    }
    Ok((file, argv))
}

/// Maps the dynamic loader at `path` where mmap(2) would put it; how much higher than its headers say (AT_BASE), and
/// its first instruction.
fn map_interpreter(path: &'static str, space: &AddressSpace, find: Find) -> Result<(u64, u64), LoadError> {
    let file = find_interpreter(path, find)?;
    let plan = Plan::parse(file.bytes).map_err(|why| LoadError::Interpreter(path, why))?;
    // Room for the whole image, however it must be aligned. Nobody else knows this space yet.
    let len_bytes = plan.high() - plan.low() + plan.align_bytes;
    let anywhere = MapRequest { placement: Placement::Anywhere, ..private(0, len_bytes, Prot::empty()) };
    let room = space.mmap(&anywhere)?.as_u64();
    pages(room, len_bytes).map_or(Ok(()), |range| space.munmap(range))?;
    let bias = plan.bias(room + plan.align_bytes);
    plan.map(file, space, bias)?;
    Ok((bias, plan.entry.wrapping_add(bias)))
}

/// A random multiple of `size` in `[start, start + span_bytes]`; `start` and the span are whole pages.
fn random_above(start: u64, span_bytes: u64, size: MapSize) -> u64 {
    let start = start.next_multiple_of(PAGE_SIZE);
    let moved = start.saturating_add(random::u64() % span_bytes);
    (moved & !(size.bytes() - 1)).max(start)
}
