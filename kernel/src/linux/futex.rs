//! futex(2): sleeping until somebody says that a word has changed.
//!
//! A waiter and its waker meet at the word's key: (space, address) for private memory, whatever the flag says,
//! (object and generation, offset) for shared memory; never the physical address, which a copy on write
//! changes and the next owner of a range inherits. The word is faulted in before it is looked at under the key's
//! lock, where nothing may fault; when it is gone by then, all starts over.

use super::errno::{Answer, Errno};
use super::thread::Thread;
use super::time;
use crate::clock;
use crate::task;
use crate::task::park::{self, Interruptible, Key, Park, Wake};
use crate::user_memory;
use core::cell::Cell;
use linux_raw_sys::general::*;
use x86_64::VirtAddr;

/// futex(2). `timeout` is a timespec's address or, to requeue, a count; `second` is the word to move to.
pub fn futex(
    thread: &mut Thread,
    word: u64,
    operation: u32,
    value: u32,
    timeout: u64,
    second: u64,
    value3: u32,
) -> Answer {
    let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let is_wait = matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET);
    // It takes an absolute time, which FUTEX_WAIT does not.
    if operation & FUTEX_CLOCK_REALTIME != 0 && command != FUTEX_WAIT_BITSET {
        return Err(Errno::ENOSYS);
    }
    let mask = match command {
        FUTEX_WAIT | FUTEX_WAKE | FUTEX_REQUEUE | FUTEX_CMP_REQUEUE | FUTEX_WAKE_OP => FUTEX_BITSET_MATCH_ANY,
        FUTEX_WAIT_BITSET | FUTEX_WAKE_BITSET => value3,
        _ => return Err(Errno::ENOSYS),
    };
    let deadline_ns = if is_wait && timeout != 0 { Some(deadline(operation, timeout)?) } else { None };
    if !word.is_multiple_of(4) || mask == 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => wait(thread, word, value, mask, deadline_ns),
        FUTEX_WAKE | FUTEX_WAKE_BITSET => wake(thread, word, mask, at_least_one(value)),
        FUTEX_WAKE_OP => {
            if !second.is_multiple_of(4) {
                return Err(Errno::EINVAL);
            }
            // Both words are there before one of them changes.
            let (first, other) = (key(thread, word)?, key(thread, second)?);
            let is_so = change(thread, second, value3)?;
            let woken = park::unpark(first, mask, at_least_one(value));
            let also = if is_so { park::unpark(other, mask, at_least_one(timeout as u32)) } else { 0 };
            Ok((woken + also) as u64)
        }
        _ => {
            let expected = (command == FUTEX_CMP_REQUEUE).then_some(value3);
            let counts = [value, timeout as u32].map(|count| usize::try_from(count as i32));
            let [Ok(to_wake), Ok(to_move)] = counts else { return Err(Errno::EINVAL) };
            requeue(thread, word, second, to_wake, to_move, expected)
        }
    }
}

/// How many to wake: Linux wakes one before it looks at the count.
fn at_least_one(count: u32) -> usize {
    usize::try_from(count as i32).unwrap_or(1).max(1)
}

/// FUTEX_WAKE_OP: does to the word what `code` says, and compares what was there (include/uapi/linux/futex.h, FUTEX_OP).
fn change(thread: &mut Thread, word: u64, code: u32) -> Result<bool, Errno> {
    let signed = |twelve_bits: u32| (twelve_bits << 20) as i32 >> 20;
    let (operand, compared) = (signed(code >> 12), signed(code));
    let operand = match code >> 28 & FUTEX_OP_OPARG_SHIFT {
        0 => operand as u32,
        _ => 1 << (operand & 31),
    };
    let old = loop {
        let old: u32 = user_memory::read_value(word)?;
        let new = match code >> 28 & !FUTEX_OP_OPARG_SHIFT {
            FUTEX_OP_SET => operand,
            FUTEX_OP_ADD => old.wrapping_add(operand),
            FUTEX_OP_OR => old | operand,
            FUTEX_OP_ANDN => old & !operand,
            FUTEX_OP_XOR => old ^ operand,
            _ => return Err(Errno::ENOSYS),
        };
        if user_memory::compare_exchange(word, old, new)? == old {
            break old as i32;
        }
        look_again(thread)?;
    };
    match code >> 24 & 15 {
        FUTEX_OP_CMP_EQ => Ok(old == compared),
        FUTEX_OP_CMP_NE => Ok(old != compared),
        FUTEX_OP_CMP_LT => Ok(old < compared),
        FUTEX_OP_CMP_LE => Ok(old <= compared),
        FUTEX_OP_CMP_GT => Ok(old > compared),
        FUTEX_OP_CMP_GE => Ok(old >= compared),
        _ => Err(Errno::ENOSYS),
    }
}

/// FUTEX_WAIT counts from now, FUTEX_WAIT_BITSET names a time on the clock of the flag.
fn deadline(operation: u32, timeout: u64) -> Answer {
    let ns = time::read_timespec(timeout)?;
    let is_absolute = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME) == FUTEX_WAIT_BITSET;
    Ok(match operation & FUTEX_CLOCK_REALTIME {
        _ if !is_absolute => clock::monotonic_ns().saturating_add(ns),
        0 => ns,
        _ => time::from_realtime(ns),
    })
}

#[inline]
#[optimize(speed)]
fn key(thread: &Thread, word: u64) -> Result<Key, Errno> {
    // Faulted in, and the address is good: a shared word's page says whose it is.
    user_memory::read_value::<u32>(word)?;
    let (object, offset) = thread.space.futex_key(VirtAddr::new_truncate(word)).map_err(|_| Errno::EFAULT)?;
    Ok(Key { object, offset })
}

/// What a look at the word under the key's lock found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Expected,
    Other,
    /// Its page is not there any more.
    Gone,
}

#[inline]
fn look(word: u64, expected: u32) -> Look {
    match user_memory::read_value_nofault::<u32>(word) {
        Ok(value) if value == expected => Look::Expected,
        Ok(_) => Look::Other,
        Err(_) => Look::Gone,
    }
}

#[inline]
fn wait(thread: &mut Thread, word: u64, value: u32, mask: u32, deadline_ns: Option<u64>) -> Answer {
    loop {
        let key = key(thread, word)?;
        let found = Cell::new(Look::Expected);
        let wish = Park { key, mask, deadline_ns, interruptible: Interruptible::Yes, what: "futex" };
        let woken = thread.park(&wish, &|| {
            found.set(look(word, value));
            found.get() == Look::Expected
        });
        match (woken, found.get()) {
            // With a time limit Linux would resume the rest of it; a handler ends it all the same.
            (None, _) if deadline_ns.is_some() => return Err(Errno::EINTR),
            (None, _) => return Err(thread.restartable()),
            (Some(_), Look::Other) => return Err(Errno::EAGAIN),
            (Some(Wake::TimedOut), _) => return Err(Errno::ETIMEDOUT),
            (Some(_), Look::Expected) => return Ok(0),
            (Some(_), Look::Gone) => look_again(thread)?,
        }
    }
}

/// Another thread unmaps the word as fast as this one faults it in: others get their turn, and signals theirs.
fn look_again(thread: &mut Thread) -> Result<(), Errno> {
    task::preempt_point();
    if thread.task.attention() != 0 && thread.is_interrupted() { Err(thread.restartable()) } else { Ok(()) }
}

/// Wakes up to `count` of those that wait for the word with a bit of `mask`; how many.
#[inline]
pub fn wake(thread: &Thread, word: u64, mask: u32, count: usize) -> Answer {
    Ok(park::unpark(key(thread, word)?, mask, count) as u64)
}

fn requeue(
    thread: &mut Thread,
    word: u64,
    second: u64,
    to_wake: usize,
    to_move: usize,
    expected: Option<u32>,
) -> Answer {
    if !second.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    loop {
        let (from, to) = (key(thread, word)?, key(thread, second)?);
        let found = Cell::new(Look::Expected);
        let still = || {
            found.set(expected.map_or(Look::Expected, |expected| look(word, expected)));
            found.get() == Look::Expected
        };
        match (park::requeue(from, to, to_wake, to_move, &still), found.get()) {
            // FUTEX_REQUEUE tells only the woken ones (kernel/futex/requeue.c, futex_requeue).
            (Some((woken, moved)), _) => {
                return Ok((woken + if expected.is_some() { moved } else { 0 }) as u64);
            }
            (None, Look::Gone) => look_again(thread)?,
            (None, _) => return Err(Errno::EAGAIN),
        }
    }
}
