//! The start of a program: from a path in the initrd to registers that can be run.

use super::brk::ProgramBreak;
use super::memory::{private, within};
use super::process::Program;
use super::signal;
use crate::arch::context::UserContext;
use crate::clock;
use crate::initrd::File;
use crate::linux::image::{ImageError, Plan};
use crate::linux::stack::{Arguments, Auxiliary, InitialStack, TooLong};
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
use mm::space::{AddressSpace, MapRequest};
use mm::vma::VmaFlags;
use thiserror::Error;

/// Two thirds up the lower half, where Linux puts movable programs (asm/elf.h, ELF_ET_DYN_BASE).
const IMAGE_BASE: u64 = USER_END / 3 * 2;
/// Movable programs start up to 1 TiB higher, the stack up to 16 GiB lower, the heap up to 32 MiB behind the
/// image: all as on Linux x86-64.
const IMAGE_RANDOM_BYTES: u64 = 1 << 40;
const STACK_RANDOM_BYTES: u64 = 16 << 30;
const HEAP_RANDOM_BYTES: u64 = 32 << 20;

/// Why a program cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LoadError {
    /// No such file in the initrd.
    #[error("no such file in the initrd")]
    NotFound,
    /// The path names a directory.
    #[error("is a directory")]
    Directory,
    /// Not a program that runs here.
    #[error("cannot run: {0}")]
    Image(#[from] ImageError),
    /// The arguments and the environment are too long.
    #[error("cannot run: {0}")]
    Arguments(#[from] TooLong),
    /// The image and the stack do not find room.
    #[error("cannot be mapped: {0}")]
    Map(Refusal),
    /// The stack's first pages could not be had.
    #[error("out of memory")]
    NoMemory,
}

impl From<Refusal> for LoadError {
    fn from(refusal: Refusal) -> LoadError {
        LoadError::Map(refusal)
    }
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
    if file.mode & S_IFMT == S_IFDIR { Err(LoadError::Directory) } else { Ok(file) }
}

/// Makes a program of `file` ready to run. The caller's own address space is loaded again when this returns.
pub fn load(file: &'static File, argv: &[Vec<u8>], envp: &[Vec<u8>]) -> Result<Loaded, LoadError> {
    let machine = machine();
    let plan = Plan::parse(file.bytes)?;
    if plan.wants_executable_stack {
        log::warn!("{}: wants an executable stack; it gets one that is not", file.path);
    }
    let space = AddressSpace::new(&machine.kernel_half, &machine.memory, random::u64());
    let space = space.ok_or(LoadError::NoMemory)?;
    let bias = plan.bias(random_above(IMAGE_BASE, IMAGE_RANDOM_BYTES, MapSize::Size2M));
    plan.map(file, &space, bias)?;
    let stack = within(&space, || start_stack(&space, &plan, bias, file, argv, envp))?;
    let mut context = UserContext::default();
    context.rip = plan.entry.wrapping_add(bias);
    context.rsp = stack.pointer;
    // Interrupts on; bit 1 is always set.
    context.rflags = 0x202;
    let heap = random_above(plan.high().wrapping_add(bias), HEAP_RANDOM_BYTES, MapSize::Size4K);
    let program = Program {
        executable: file,
        auxv: stack.bytes[stack.auxv].into(),
        program_break: SpaceLock::new(ProgramBreak::new(heap)),
        started_ns: clock::monotonic_ns(),
    };
    Ok(Loaded { space, program: Arc::new(program), context })
}

/// Maps the stack and puts the arguments on it.
fn start_stack(
    space: &AddressSpace,
    plan: &Plan,
    bias: u64,
    file: &File,
    argv: &[Vec<u8>],
    envp: &[Vec<u8>],
) -> Result<InitialStack, LoadError> {
    let mut random = [0; 16];
    random::fill(&mut random);
    let path = [b"/", file.path.as_bytes()].concat();
    let auxiliary = Auxiliary {
        headers: plan.headers.map_or(0, |address| address.wrapping_add(bias)),
        header_count: plan.header_count,
        entry: plan.entry.wrapping_add(bias),
        hwcap: u64::from(__cpuid(1).edx),
        signal_stack_bytes: signal::stack_bytes(),
        random,
    };
    let top = random_above(USER_END - STACK_RANDOM_BYTES, STACK_RANDOM_BYTES, MapSize::Size4K);
    let stack = InitialStack::build(top, &Arguments { path: &path, argv, envp }, &auxiliary)?;
    let len_bytes = stack.mapped_bytes();
    let request = private(top - len_bytes, len_bytes, Prot::READ | Prot::WRITE);
    space.mmap(&MapRequest { flags: VmaFlags::GROWS_DOWN, name: "[stack]", ..request })?;
    user_memory::write(stack.pointer, &stack.bytes)?;
    Ok(stack)
}

/// A random multiple of `size` in `[start, start + span_bytes]`; `start` and the span are whole pages.
fn random_above(start: u64, span_bytes: u64, size: MapSize) -> u64 {
    let start = start.next_multiple_of(PAGE_SIZE);
    let moved = start.saturating_add(random::u64() % span_bytes);
    (moved & !(size.bytes() - 1)).max(start)
}
