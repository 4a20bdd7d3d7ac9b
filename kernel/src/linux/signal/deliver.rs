//! Delivery: from a pending or forced signal to a running handler, and back.

use super::frame::{self, CLEARED_FLAGS, Placement, RED_ZONE_BYTES, SignalFrame, UContext};
use super::number::{DefaultAction, Signal};
use super::pending::Sent;
use super::{DEFAULT, IGNORE, no_alternate_stack};
use crate::arch::fpu;
use crate::linux::abi::SigAction;
use crate::linux::errno::{Answer, Errno};
use crate::linux::process::ExitStatus;
use crate::linux::strace;
use crate::linux::thread::Thread;
use crate::task::{ATTEND_EXIT, ATTEND_SIGNAL};
use crate::user_memory;
use alloc::vec;
use linux_raw_sys::general::{
    BUS_MCEERR_AR, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SI_KERNEL, SS_AUTODISARM,
};
use x86_64::VirtAddr;

impl Thread {
    /// Delivers what is pending and not blocked: the first signal's handler runs last, as on Linux.
    #[cold]
    #[inline(never)]
    pub(in crate::linux) fn deliver_pending(&mut self) {
        self.task.attended(ATTEND_SIGNAL);
        while self.task.attention() & ATTEND_EXIT == 0 {
            let unblocked = !self.member.blocked();
            let Some(sent) = self.process.group.lock().take(&self.member, unblocked) else { break };
            self.deliver(&sent);
        }
        // A signal that was ignored after all ends an rt_sigsuspend without a frame that restores the mask.
        self.resume_mask();
        // No handler ran: the call goes on.
        let interrupted = self.signals.restart.take();
        self.restart(interrupted);
    }

    /// Starts an interrupted call again, unless it has done a part of its work and says so.
    fn restart(&mut self, call: Option<u64>) {
        if let Some(call) = call
            && self.context.rax == Errno::EINTR.to_rax()
        {
            // Back onto the `syscall` instruction, which is two bytes long.
            self.context.rax = call;
            self.context.rip = self.context.rip.wrapping_sub(2);
        }
    }

    fn deliver(&mut self, sent: &Sent) {
        if strace::is_on() {
            strace::signal(self, sent);
        }
        let signal = sent.signal;
        let action = self.process.group.lock().actions.get(signal);
        match action.sa_handler_kernel {
            IGNORE => {}
            DEFAULT => match signal.default_action() {
                DefaultAction::Ignore => {}
                DefaultAction::Terminate => self.end(ExitStatus::Killed(signal)),
                // Nobody can see a stopped program, let alone continue it by hand.
                DefaultAction::Stop => {
                    log::warn!("/{}: stopped by {signal}: killed", self.name());
                    self.end(ExitStatus::Killed(Signal::KILL));
                }
            },
            _ if self.run_handler(sent, &action).is_ok() => {}
            _ if signal == Signal::SEGV => {
                log::warn!("/{}: no room on the stack for the frame of {signal}", self.name());
                self.end(ExitStatus::Killed(signal));
            }
            _ => self.force(Signal::SEGV, SI_KERNEL as i32, 0),
        }
    }

    /// Delivers a fault's signal. Blocked or ignored, it kills: the program could not go on (kernel/signal.c,
    /// `force_sig_info_to_task`).
    pub(super) fn force(&mut self, signal: Signal, code: i32, address: u64) {
        let mut group = self.process.group.lock();
        let action = group.actions.get(signal);
        let blocked = self.member.blocked();
        if blocked & signal.bit() != 0 || action.sa_handler_kernel == IGNORE {
            group.set_blocked(&self.member, blocked & !signal.bit());
            group.actions.set(signal, SigAction { sa_handler_kernel: DEFAULT, ..action });
        }
        drop(group);
        let mut sent = Sent::new(signal, code, address);
        if signal == Signal::BUS && code == BUS_MCEERR_AR as i32 {
            // si_addr_lsb: how much is lost around the address, as a power of two.
            let vma = self.space.find(VirtAddr::new_truncate(address));
            sent.value = vma.map_or(0, |vma| vma.granule.shift().into());
        }
        self.deliver(&sent);
    }

    /// Builds the frame and points the program at its handler. Fails, with the registers as they were, when
    /// the frame cannot be written or the program gave no way back.
    #[inline(never)]
    fn run_handler(&mut self, sent: &Sent, action: &SigAction) -> Result<(), Errno> {
        let has = |flag: u32| action.sa_flags & u64::from(flag) != 0;
        if !has(SA_RESTORER) {
            return Err(Errno::EFAULT);
        }
        let place = self.place_frame(has(SA_ONSTACK)).ok_or(Errno::EFAULT)?;
        let mut image = fpu::save();
        frame::finish_image(&mut image);
        let image_bytes = fpu::area_bytes();
        user_memory::write(place.fpstate, image.0.get(..image_bytes).unwrap_or(&image.0))?;
        if let Some(mark) = frame::end_mark() {
            user_memory::write(place.fpstate + image_bytes as u64, &mark)?;
        }
        let interrupted = self.signals.restart.take().filter(|_| has(SA_RESTART));
        self.restart(interrupted);
        let blocked = self.member.blocked();
        let signals = &mut self.signals;
        let mask = signals.suspended.unwrap_or(blocked);
        let frame = SignalFrame {
            restorer: action.sa_restorer,
            context: UContext::capture(
                &self.context,
                signals.last_fault,
                place.fpstate,
                signals.alternate,
                mask,
            ),
            info: sent.info(),
        };
        user_memory::write_value(place.frame, &frame)?;

        signals.suspended = None;
        if signals.alternate.ss_flags & SS_AUTODISARM != 0 {
            signals.alternate = no_alternate_stack();
        }
        let own = if has(SA_NODEFER) { 0 } else { sent.signal.bit() };
        let mut group = self.process.group.lock();
        group.set_blocked(&self.member, blocked | action.sa_mask | own);
        if has(SA_RESETHAND) {
            group.actions.set(sent.signal, SigAction { sa_handler_kernel: DEFAULT, ..*action });
        }
        drop(group);
        let context = &mut self.context;
        context.rip = action.sa_handler_kernel;
        context.rsp = place.frame;
        context.rdi = u64::from(sent.signal.number());
        context.rsi = place.frame + core::mem::offset_of!(SignalFrame, info) as u64;
        context.rdx = place.frame + core::mem::offset_of!(SignalFrame, context) as u64;
        context.rax = 0;
        context.rflags &= !CLEARED_FLAGS;
        // A handler starts like a program does; its return brings the interrupted state back.
        fpu::reset();
        Ok(())
    }

    /// Where the frame goes: below the red zone, or on the alternate stack when the handler asks for it and
    /// the program is not on it already.
    fn place_frame(&self, wants_alternate: bool) -> Option<Placement> {
        let signals = &self.signals;
        let alternate = signals.alternate;
        let stack_pointer = self.context.rsp;
        let is_nested = signals.is_on_alternate(stack_pointer);
        let enters = wants_alternate && alternate.ss_size != 0 && !is_nested;
        let top = match enters {
            true => alternate.ss_sp.checked_add(alternate.ss_size)?,
            false => stack_pointer.checked_sub(RED_ZONE_BYTES)?,
        };
        let place = Placement::below(top)?;
        // A frame that leaves the alternate stack below would destroy what lies there.
        if (enters || is_nested) && !signals.is_inside_alternate(place.frame) {
            return None;
        }
        Some(place)
    }
}

/// rt_sigreturn(2): takes the program back to what the handler interrupted, or what it made of it.
#[inline(never)]
pub fn sigreturn(thread: &mut Thread) -> Answer {
    if restore(thread).is_err() {
        if thread.may_log() {
            log::warn!("/{}: rt_sigreturn: bad frame at {:#x}", thread.name(), thread.context.rsp);
        }
        thread.force(Signal::SEGV, SI_KERNEL as i32, 0);
    }
    // Whatever is in rax now is the program's, not a result.
    Ok(thread.context.rax)
}

fn restore(thread: &mut Thread) -> Result<(), Errno> {
    // The handler's return has taken the restorer's address off the stack.
    let stack_pointer = thread.context.rsp;
    let saved: UContext = user_memory::read_value(stack_pointer)?;
    let image = match saved.registers.fpstate {
        0 => None,
        address => Some(read_image(address)?),
    };
    if image.as_ref().is_some_and(|image| !frame::is_loadable(image)) {
        return Err(Errno::EFAULT);
    }
    if !saved.restore(&mut thread.context) {
        return Err(Errno::EFAULT);
    }
    match image {
        Some(image) => fpu::restore(&image),
        None => fpu::reset(),
    }
    thread.set_blocked(saved.mask);
    // As on Linux, a bad alternate stack in the frame is not the handler's fault.
    let _ = thread.signals.set_alternate(&saved.stack, thread.context.rsp);
    Ok(())
}

/// Reads an FPU image as far as its software bytes say, when the end mark agrees. EFAULT also for one that is
/// not aligned as XRSTOR or FXRSTOR wants it.
fn read_image(address: u64) -> Result<alloc::boxed::Box<fpu::FpuArea>, Errno> {
    let mut legacy = [0; 512];
    user_memory::read(address, &mut legacy)?;
    let len = frame::claimed_bytes(&legacy);
    if len > legacy.len() {
        let mark_address = address.checked_add(len as u64).ok_or(Errno::EFAULT)?;
        if frame::is_end_mark(user_memory::read_value(mark_address)?) {
            check_aligned(address, 64)?;
            let mut image = vec![0; len];
            user_memory::read(address, &mut image)?;
            return Ok(frame::area_from(&image));
        }
    }
    check_aligned(address, 16)?;
    Ok(frame::area_from(&legacy))
}

fn check_aligned(address: u64, align: u64) -> Result<(), Errno> {
    if address.is_multiple_of(align) { Ok(()) } else { Err(Errno::EFAULT) }
}
