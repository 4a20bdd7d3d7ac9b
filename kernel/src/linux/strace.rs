//! `dax.strace`: each call of each program as a line of the log, as `strace -f` writes it, and between them the
//! signals that are delivered and the ends of processes.
//!
//! A line is written when its call returns, so calls that wait stand where they ended. What a call takes is looked at
//! before it, what it gives after it: a traced call comes as a trap of its own, and leaves a bit of the task's
//! attention set.

mod names;

use super::call::{self, Kind};
use super::memory::check_reserve;
use super::process::ExitStatus;
use super::signal::{Sent, Signal};
use super::thread::Thread;
use crate::arch::context::trace_syscalls;
use crate::task::{ATTEND_EXIT, ATTEND_TRACE};
use crate::user_memory::{self, BadAddress};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general::*;
use syscalls::{Errno, Sysno};

/// Bytes of a buffer, and of a string of a vector, that are shown, as strace's `-s`.
const SHOWN_BYTES: usize = 32;
/// Strings of an argument vector that are shown.
const SHOWN_STRINGS: u64 = 32;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Traces all calls from now on.
pub fn trace_calls() {
    IS_ON.store(true, Ordering::Relaxed);
    trace_syscalls();
}

/// Are calls traced?
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// A call between its begin and its end.
pub struct TracedCall {
    /// The caller's number while it called: execve may change it.
    tid: i32,
    number: u32,
    kinds: &'static [Kind],
    registers: [u64; 6],
    /// The arguments that have been shown.
    text: String,
    shown: usize,
}

impl Thread {
    /// Looks at the call that the registers hold, before it is answered.
    #[cold]
    pub fn trace_call(&mut self) {
        let context = &self.context;
        let number = context.rax as u32;
        let kinds = call::kinds(number).unwrap_or(&[Kind::Word; 6]);
        let registers = [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9];
        let tid = self.member.tid();
        let mut call = TracedCall { tid, number, kinds, registers, text: String::new(), shown: 0 };
        call.show(kinds.iter().position(is_given).unwrap_or(kinds.len()), 0);
        self.traced = Some(Box::new(call));
        self.task.attend(ATTEND_TRACE);
    }

    /// Tells of the call, now that it has been answered.
    #[cold]
    #[inline(never)]
    pub(super) fn trace_result(&mut self) {
        self.task.attended(ATTEND_TRACE);
        let Some(mut call) = self.traced.take() else { return };
        let (tid, number, result) = (call.tid, call.number, self.context.rax);
        call.show(call.kinds.len(), result);
        let restarts = self.signals.restart.is_some();
        let shown = Outcome { number, result, restarts, returns: self.task.attention() & ATTEND_EXIT == 0 };
        match Sysno::new(number as usize) {
            Some(name) => log::warn!("[pid {tid}] {name}({}) = {shown}", call.text),
            None => log::warn!("[pid {tid}] syscall_{number:#x}({}) = {shown}", call.text),
        }
    }
}

/// Tells of a signal that is about to be delivered.
#[cold]
pub fn signal(thread: &Thread, sent: &Sent) {
    let Sent { signal, code, origin, value } = *sent;
    let told = match signal {
        Signal::CHLD => format!("si_pid={origin}, si_status={value}"),
        _ if code == SI_TIMER => format!("si_timerid={origin}"),
        _ if code <= 0 => format!("si_pid={origin}"),
        _ if origin == 0 => "si_addr=NULL".into(),
        _ => format!("si_addr={origin:#x}"),
    };
    let (tid, code) = (thread.member.tid(), names::code(signal, code));
    log::warn!("[pid {tid}] --- {signal} {{si_signo={signal}, si_code={code}, {told}}} ---");
}

/// Tells of the end of a process.
#[cold]
pub fn ended(pid: i32, status: ExitStatus) {
    match status {
        ExitStatus::Exited(status) => log::warn!("[pid {pid}] +++ exited with {status} +++"),
        ExitStatus::Killed(signal) => log::warn!("[pid {pid}] +++ killed by {signal} +++"),
    }
}

/// What a call came to.
struct Outcome {
    number: u32,
    result: u64,
    /// Does a signal's handler decide whether the program sees it or the call starts again?
    restarts: bool,
    /// Does the program see it?
    returns: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_ERRNO: i64 = 4095;
        let result = self.result as i64;
        match (-MAX_ERRNO..0).contains(&result).then(|| Errno::new(-result as i32)) {
            _ if !self.returns => f.write_str("?"),
            _ if self.restarts => f.write_str("? ERESTARTSYS (To be restarted if SA_RESTART is set)"),
            Some(errno) => match errno.name_and_description() {
                Some((name, description)) => write!(f, "-1 {name} ({description})"),
                None => write!(f, "-1 errno {}", -result),
            },
            None if [__NR_mmap, __NR_brk, __NR_mremap, __NR_shmat].contains(&self.number) => {
                write!(f, "{result:#x}")
            }
            None => write!(f, "{result}"),
        }
    }
}

/// Is it there only after the call?
fn is_given(kind: &Kind) -> bool {
    matches!(kind, Kind::Filled | Kind::Pair)
}

impl TracedCall {
    /// Shows the arguments before `end`; `result` is what the call answered, if it has.
    fn show(&mut self, end: usize, result: u64) {
        // A trace may not take the last memory.
        while self.shown < end && check_reserve().is_ok() {
            let (index, kind) = (self.shown, self.kinds[self.shown]);
            self.shown += 1;
            if kind == Kind::Mode && index > 0 && !self.makes_a_file(index - 1) {
                continue;
            }
            if index > 0 {
                self.text.push_str(", ");
            }
            // Writing to a String cannot fail.
            let _ = self.show_one(kind, index, result);
        }
    }

    /// Does open(2) look at the mode behind this argument?
    fn makes_a_file(&self, index: usize) -> bool {
        let flags = self.registers[index] as u32;
        self.kinds[index] != Kind::Open || flags & O_CREAT != 0 || flags & O_TMPFILE == O_TMPFILE
    }

    fn show_one(&mut self, kind: Kind, index: usize, result: u64) -> fmt::Result {
        let (value, text) = (kind.cut(self.registers[index]), &mut self.text);
        let address = value as u64;
        // None, when the call failed.
        let given = u64::try_from(result as i64).unwrap_or(0);
        match kind {
            Kind::Int | Kind::Fd | Kind::Number | Kind::Size | Kind::Offset => write!(text, "{value}"),
            Kind::Mode => write!(text, "0{value:o}"),
            Kind::Signal => match Signal::new(value as u32) {
                Some(signal) => write!(text, "{signal}"),
                None => write!(text, "{value}"),
            },
            Kind::Path => show_string(text, address, PATH_MAX as usize),
            Kind::Strings => show_strings(text, address),
            Kind::Bytes => show_bytes(text, address, self.registers[index + 1]),
            Kind::Filled if given > 0 => show_bytes(text, address, given),
            Kind::Pair => match user_memory::read_value::<[i32; 2]>(address) {
                Ok([first, second]) if result == 0 => write!(text, "[{first}, {second}]"),
                _ => show_address(text, address),
            },
            Kind::Address | Kind::Filled => show_address(text, address),
            _ => names::show(kind, address, text),
        }
    }
}

fn show_address(text: &mut String, address: u64) -> fmt::Result {
    if address == 0 { text.write_str("NULL") } else { write!(text, "{address:#x}") }
}

/// A string, or its begin when it is longer than `most_bytes`.
fn show_string(text: &mut String, address: u64, most_bytes: usize) -> fmt::Result {
    match user_memory::read_string(address, most_bytes) {
        Ok(Some(string)) => write!(text, "\"{}\"", string.escape_ascii()),
        Ok(None) => show_bytes(text, address, most_bytes as u64 + 1),
        Err(_) => show_address(text, address),
    }
}

/// The strings of an array that ends with a null pointer.
fn show_strings(text: &mut String, array: u64) -> fmt::Result {
    text.write_char('[')?;
    for index in 0..=SHOWN_STRINGS {
        let pointer = array.checked_add(index * 8).ok_or(BadAddress).and_then(user_memory::read_value::<u64>);
        let Ok(string @ 1..) = pointer else { break };
        text.write_str(if index > 0 { ", " } else { "" })?;
        if index == SHOWN_STRINGS {
            text.write_str("...")?;
        } else {
            show_string(text, string, SHOWN_BYTES)?;
        }
    }
    text.write_char(']')
}

fn show_bytes(text: &mut String, address: u64, count: u64) -> fmt::Result {
    let mut bytes = [0; SHOWN_BYTES];
    let shown = &mut bytes[..count.min(SHOWN_BYTES as u64) as usize];
    match user_memory::read(address, shown) {
        Ok(()) => {
            let rest = if count > shown.len() as u64 { "..." } else { "" };
            write!(text, "\"{}\"{rest}", shown.escape_ascii())
        }
        Err(_) => show_address(text, address),
    }
}
