//! Another process's memory: process_vm_readv, process_vm_writev.

use std::sync::atomic::Ordering::SeqCst;

use guest::ensure;
use guest::fault::{self, Touch};
use guest::ktap::{Case, Outcome};
use guest::process::{self, Child, Ended};
use guest::sys::{self, Errno, PAGE};

use crate::memory::{anonymous, did};
use crate::{Context, Named, family};

const PLAIN: &[Named] = &[
    ("process_vm_readv and _writev reach a child's private memory", child_memory),
    ("process_vm_readv copies up to the first bad page", |_| partial()),
    ("process_vm_readv refuses bad arguments", |_| bad_arguments()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("memory", PLAIN)
}

type Part = [usize; 2];

fn transfer(number: i64, pid: i32, own: &[Part], other: &[Part]) -> Result<usize, Errno> {
    let vector = |parts: &[Part]| [parts.as_ptr() as usize, parts.len()];
    let ([own, own_count], [other, other_count]) = (vector(own), vector(other));
    // SAFETY: the callers name memory that they mapped, or buffers that they look at afterwards.
    unsafe { sys::call(number, [pid as usize, own, own_count, other, other_count, 0]) }
}

fn read(pid: i32, own: &[Part], other: &[Part]) -> Result<usize, Errno> {
    transfer(libc::SYS_process_vm_readv, pid, own, other)
}

fn write(pid: i32, own: &[Part], other: &[Part]) -> Result<usize, Errno> {
    transfer(libc::SYS_process_vm_writev, pid, own, other)
}

/// Private memory of the child, and an untouched page of the device that it alone maps.
fn child_memory(context: &Context) -> Outcome {
    let memory = anonymous(4 * PAGE)?;
    let words = process::shared_words(2).map_err(|errno| format!("shared words: {errno}"))?;
    memory.store(0, 1);
    let child = process::fork(|| {
        let device = context.device.as_ref().ok().and_then(|device| device.map(device.align, 0).ok());
        if let Some(mapping) = &device {
            mapping.store(0, 0xd0);
        }
        for page in 0..4 {
            memory.store(page * PAGE + 5, 0x10 + page as u8);
        }
        words[1].store(device.as_ref().map_or(0, |mapping| mapping.addr as u64), SeqCst);
        words[0].store(1, SeqCst);
        while words[0].load(SeqCst) != 2 {
            std::hint::spin_loop();
            let _ = sys::numbers(libc::SYS_sched_yield, &[]);
        }
        let told = (0..4).all(|page| memory.load(page * PAGE + 6) == Touch::Done(0x60 + page as u8));
        i32::from(!told)
    });
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    while words[0].load(SeqCst) != 1 {
        let _ = sys::numbers(libc::SYS_sched_yield, &[]);
    }
    let outcome = reach(child, memory.addr, words[1].load(SeqCst) as usize);
    words[0].store(2, SeqCst);
    let ended = child.wait();
    outcome?;
    ensure!(ended == Ok(Ended::Exited(0)), "the child does not see what was written: {ended:?}");
    ensure!(memory.load(5) == Touch::Done(0), "the child's stores are the parent's");
    let gone = read(child.0, &[[memory.addr, 1]], &[[memory.addr, 1]]);
    ensure!(gone == Err(Errno(libc::ESRCH)), "a child that was waited for: {gone:?}");
    Ok(())
}

fn reach(child: Child, addr: usize, device: usize) -> Outcome {
    let mut bytes = [0_u8; 4];
    let own = [
        [bytes.as_mut_ptr() as usize, 1],
        [bytes.as_mut_ptr() as usize + 1, 0],
        [bytes.as_mut_ptr() as usize + 1, 3],
    ];
    let other: Vec<Part> = (0..4).map(|page| [addr + page * PAGE + 5, 1]).collect();
    let count = read(child.0, &own, &other);
    ensure!(count == Ok(4) && bytes == [0x10, 0x11, 0x12, 0x13], "read: {count:?} {bytes:x?}");
    let bytes = [0x60_u8, 0x61, 0x62, 0x63];
    let other: Vec<Part> = (0..4).map(|page| [addr + page * PAGE + 6, 1]).collect();
    let count = write(child.0, &[[bytes.as_ptr() as usize, 4]], &other);
    ensure!(count == Ok(4), "write: {count:?}");
    if device != 0 {
        let mut byte = 0_u8;
        let count = read(child.0, &[[&raw mut byte as usize, 1]], &[[device, 1]]);
        ensure!(count == Ok(1) && byte == 0xd0, "read of the child's device: {count:?} {byte:#x}");
    }
    Ok(())
}

fn own_pid() -> i32 {
    sys::numbers(libc::SYS_getpid, &[]).unwrap_or(0) as i32
}

fn partial() -> Outcome {
    let (from, to) = (anonymous(3 * PAGE)?, anonymous(3 * PAGE)?);
    for page in 0..3 {
        from.store(page * PAGE, 0x20 + page as u8);
    }
    did("munmap", sys::munmap(from.addr + 2 * PAGE, PAGE))?;
    let count = read(own_pid(), &[[to.addr, 3 * PAGE]], &[[from.addr, 3 * PAGE]]);
    ensure!(count == Ok(2 * PAGE), "up to a hole: {count:?}");
    ensure!(fault::load(to.addr + PAGE) == Touch::Done(0x21), "the second page has not come");
    let count = read(own_pid(), &[[to.addr, 3 * PAGE]], &[[from.addr + 2 * PAGE, PAGE]]);
    ensure!(count == Err(Errno(libc::EFAULT)), "from a hole: {count:?}");
    let count = read(own_pid(), &[[from.addr + 2 * PAGE, PAGE]], &[[to.addr, PAGE]]);
    ensure!(count == Err(Errno(libc::EFAULT)), "to a hole: {count:?}");
    Ok(())
}

fn bad_arguments() -> Outcome {
    let memory = anonymous(PAGE)?;
    let part = [memory.addr, 8];
    let high = 0xffff_8000_0000_0000;
    let (good, pid) = ([&raw const part as usize, 1], own_pid() as usize);
    for (what, pid, [own, own_count], [other, other_count], flags, errno) in [
        ("flags", pid, good, good, 1, libc::EINVAL),
        ("nobody", 0x7fff_fff0, good, good, 0, libc::ESRCH),
        ("process -1", usize::MAX, good, good, 0, libc::ESRCH),
        ("1025 own parts", pid, [good[0], 1025], good, 0, libc::EINVAL),
        ("1025 other parts", pid, good, [good[0], 1025], 0, libc::EINVAL),
        ("an own vector in the kernel half", pid, [high, 1], good, 0, libc::EFAULT),
        ("an other vector at 0", pid, good, [0, 1], 0, libc::EFAULT),
    ] {
        let answer =
            sys::numbers(libc::SYS_process_vm_readv, &[pid, own, own_count, other, other_count, flags]);
        ensure!(answer == Err(Errno(errno)), "{what}: {answer:?}, not {}", Errno(errno));
    }
    for (what, part) in [("the kernel half", [high, 8]), ("a wrapping part", [usize::MAX - 3, 8])] {
        let answer = read(own_pid(), &[[memory.addr, 8]], &[part]);
        ensure!(answer == Err(Errno(libc::EFAULT)), "{what}: {answer:?}");
    }
    Ok(())
}
