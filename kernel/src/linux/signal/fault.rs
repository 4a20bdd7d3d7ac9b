//! Faults as signals: which one, with which si_code and si_addr, for each exception of the CPU.
//!
//! Sources: Linux arch/x86/mm/fault.c and arch/x86/kernel/traps.c; SDM 3A, 6.15 for the vectors.

use super::frame::FaultRecord;
use super::number::Signal;
use crate::arch::fpu;
use crate::linux::process::ExitStatus;
use crate::linux::thread::Thread;
use linux_raw_sys::general::{
    BUS_ADRALN, BUS_ADRERR, BUS_MCEERR_AR, FPE_FLTDIV, FPE_FLTINV, FPE_FLTOVF, FPE_FLTRES, FPE_FLTUND,
    FPE_INTDIV, ILL_ILLOPN, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, TRAP_TRACE,
};
use mm::pager::{Access, FaultError};
use mm::range::USER_END;
use x86_64::VirtAddr;

const PAGE_FAULT: u64 = 14;

/// Page-fault error code (SDM 3A, 4.7): the page was present; a store; in ring 3; an instruction fetch.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const FETCH: u64 = 16;

impl Thread {
    /// Turns a page fault that cannot be served into its signal, and delivers it or ends the program.
    #[cold]
    pub fn page_fault_signal(&mut self, error: FaultError, address: u64, access: Access) {
        let (signal, code) = match error {
            FaultError::NotMapped => (Signal::SEGV, SEGV_MAPERR),
            FaultError::Protection => (Signal::SEGV, SEGV_ACCERR),
            FaultError::Bus => (Signal::BUS, BUS_ADRERR),
            FaultError::Poisoned => (Signal::BUS, BUS_MCEERR_AR),
            FaultError::NoMemory => {
                log::warn!("/{}: out of memory at {address:#x}: killed", self.name());
                return self.end(ExitStatus::Killed(Signal::KILL));
            }
        };
        let kind = match access {
            Access::Read => 0,
            Access::Write => WRITE,
            Access::Execute => FETCH,
        };
        // Linux hides whether a kernel address is mapped: it always says "present".
        let is_present = match VirtAddr::try_new(address) {
            Ok(address) if address.as_u64() < USER_END => self.space.walk(address).leaf.is_some(),
            _ => true,
        };
        let present = if is_present { PRESENT } else { 0 };
        self.signals.last_fault =
            FaultRecord { trap: PAGE_FAULT, error: USER | kind | present, cr2: address };
        self.fault_signal(signal, code, address);
    }

    /// Turns another exception into its signal, and delivers it or ends the program.
    #[cold]
    pub fn exception_signal(&mut self, vector: u8, error: u64) {
        let rip = self.context.rip;
        self.signals.last_fault.trap = u64::from(vector);
        self.signals.last_fault.error = error;
        let (signal, code, address) = match vector {
            0 => (Signal::FPE, FPE_INTDIV, rip),
            1 => (Signal::TRAP, TRAP_TRACE, rip),
            3 => (Signal::TRAP, SI_KERNEL, 0),
            6 => (Signal::ILL, ILL_ILLOPN, rip),
            // Segment not present, stack segment: a non-canonical address by way of rsp or rbp.
            11 | 12 => (Signal::BUS, SI_KERNEL, 0),
            16 | 19 => match float_error(vector) {
                Some(code) => (Signal::FPE, code, rip),
                // Gone by the time we looked, as Linux has it: nothing to report.
                None => return,
            },
            17 => (Signal::BUS, BUS_ADRALN, 0),
            // Overflow, bound, invalid TSS, general protection, and what no program should ever cause.
            _ => (Signal::SEGV, SI_KERNEL, 0),
        };
        self.fault_signal(signal, code, address);
    }

    fn fault_signal(&mut self, signal: Signal, code: u32, address: u64) {
        let rip = self.context.rip;
        self.force(signal, code as i32, address);
        if self.process.group.lock().ending != Some(ExitStatus::Killed(signal)) {
            return;
        }
        let (name, FaultRecord { trap, error, .. }) = (self.name(), self.signals.last_fault);
        if trap == PAGE_FAULT {
            let why = match code {
                BUS_MCEERR_AR if signal == Signal::BUS => "bad memory",
                _ if signal == Signal::BUS => "nothing behind the mapping",
                SEGV_ACCERR => "access not allowed",
                _ => "nothing mapped",
            };
            log::warn!("/{name}: killed by {signal}: {why} at {address:#x}, rip {rip:#x}");
        } else {
            log::warn!("/{name}: killed by {signal}: exception {trap}, error {error:#x}, rip {rip:#x}");
        }
    }
}

/// si_code of an x87 (16) or SSE (19) exception: the first that is raised and not masked
/// (arch/x86/kernel/fpu/core.c, `fpu__exception_code`).
fn float_error(vector: u8) -> Option<u32> {
    let area = fpu::save();
    let word =
        |at: usize| area.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b));
    let raised = if vector == 16 {
        // FCW in the lower half, FSW in the upper one.
        (word(0) >> 16) & !word(0)
    } else {
        let mxcsr = word(24);
        !(mxcsr >> 7) & mxcsr
    };
    let codes =
        [(0x01, FPE_FLTINV), (0x04, FPE_FLTDIV), (0x08, FPE_FLTOVF), (0x12, FPE_FLTUND), (0x20, FPE_FLTRES)];
    codes.into_iter().find(|(bits, _)| raised & bits != 0).map(|(_, code)| code)
}
