//! What happens when a program, or the kernel itself, traps.

use crate::arch::context::Trap;
use crate::arch::interrupts;
use crate::linux::Thread;
use crate::panic;
use crate::shootdown;
use crate::task;
use mm::pager::{Access, FaultError};
use mm::range::USER_END;
use mm::space::AddressSpace;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

/// Runs a thread until it ends. Its address space is loaded.
#[optimize(speed)]
pub fn run(thread: &mut Thread) {
    loop {
        // Before its first instruction, too: nobody interrupts it for what came while it waited for a CPU. And again and
        // again: while it yields, something new may come.
        while thread.task.attention() != 0 {
            if thread.attend().is_break() {
                return;
            }
        }
        let trap = thread.context.enter();
        if trap == Trap::TracedSyscall {
            thread.trace_call();
        }
        match trap {
            Trap::Syscall | Trap::TracedSyscall => thread.syscall(),
            Trap::PageFault { address, error } => user_fault(thread, address, error),
            Trap::Exception { vector, error } => thread.exception_signal(vector, error),
            Trap::Interrupt { vector } => interrupt(vector),
        }
    }
}

fn user_fault(thread: &mut Thread, address: u64, error: u64) {
    const USER: u64 = 1 << 2;
    if error & USER == 0 {
        // The CPU itself, for a segment load of the program. QEMU 7.2 reads a far return's stack like this and
        // trips over SMAP: to serve the fault would serve it for ever.
        return thread.page_fault_signal(FaultError::Protection, address, access(error));
    }
    if let Err(why) = page_fault(&thread.space, address, error) {
        thread.page_fault_signal(why, address, access(error));
    }
}

/// Serves a page fault in a program's half of the space.
fn page_fault(space: &AddressSpace, address: u64, error: u64) -> Result<(), FaultError> {
    // A reserved bit in an entry: only our own tables can be at fault.
    assert!(error & 8 == 0, "page table entry of {address:#x} has a reserved bit set (error {error:#x})");
    if address >= USER_END {
        return Err(FaultError::NotMapped);
    }
    space.fault(VirtAddr::new_truncate(address), access(error)).map(drop)
}

/// The access that faulted, from the error code (SDM 3A, 4.7).
fn access(error: u64) -> Access {
    match error {
        e if e & 1 << 4 != 0 => Access::Execute,
        e if e & 1 << 1 != 0 => Access::Write,
        _ => Access::Read,
    }
}

/// What trap.s saved of the kernel's own registers, and the CPU's frame.
#[repr(C)]
struct KernelFrame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Serves an interrupt. It hit a program, or the kernel where it holds no lock.
fn interrupt(vector: u8) {
    if vector == interrupts::SPURIOUS {
        return;
    }
    if let Some(apic) = interrupts::apic() {
        apic.end_of_interrupt();
    }
    match vector {
        interrupts::SHOOTDOWN => shootdown::answer(),
        interrupts::TIMER => task::timer_fired(),
        interrupts::RESCHEDULE => task::asked_to_look(),
        vector => log::warn!("interrupt {vector:#x}: nobody waits for it"),
    }
}

unsafe extern "C" {
    fn copy_user_instruction();
    fn zero_user_instruction();
    fn exchange_user_instruction();
    fn copy_user_done();
}

/// A trap of the kernel itself. What is served is a copy from or to a program's memory, and interrupts while the kernel
/// idles or lets them in.
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(frame: &mut KernelFrame) {
    const NMI: u64 = 2;
    const PAGE_FAULT: u64 = 14;
    let address = Cr2::read_raw();
    let copies = [copy_user_instruction, zero_user_instruction, exchange_user_instruction];
    let copies = copies.iter().any(|&copy| copy as *const () as u64 == frame.rip) && address < USER_END;
    match frame.vector {
        PAGE_FAULT if copies => {
            let space = task::current_space();
            let may = !task::faults_are_off();
            let served = may && space.is_some_and(|space| page_fault(&space, address, frame.error).is_ok());
            if !served {
                frame.rip = copy_user_done as *const () as u64;
            }
        }
        // Another CPU panics. Else not logged: the NMI may have interrupted whoever holds the UART.
        NMI => panic::stop_if_panicking(),
        vector @ 32.. => interrupt(vector as u8),
        PAGE_FAULT => {
            panic!("page fault at {:#x} (address {address:#x}, error {:#x})", frame.rip, frame.error)
        }
        vector => {
            panic!("exception {vector} at {:#x} (error {:#x}, rsp {:#x})", frame.rip, frame.error, frame.rsp)
        }
    }
}
