//! The end of a thread: exit, exit_group, and what it leaves in memory for those that go on.

use super::errno::Answer;
use super::futex;
use super::process::ExitStatus;
use super::thread::Thread;
use crate::task::{self, ATTEND_EXIT};
use crate::user_memory::{self, BadAddress};
use alloc::sync::Arc;
use linux_raw_sys::general::{FUTEX_BITSET_MATCH_ANY, FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// Entries of a robust list that are looked at: a program can make it a circle (Linux: ROBUST_LIST_LIMIT).
const MAX_ROBUST_ENTRIES: usize = 2048;

/// exit_group(2): the low byte counts.
pub fn exit_group(thread: &mut Thread, status: i32) -> Answer {
    thread.end(ExitStatus::Exited(status as u8));
    Ok(0)
}

/// exit(2): this thread only. The process's status is what its first thread says.
pub fn exit(thread: &mut Thread, status: i32) -> Answer {
    if thread.member.tid() == thread.process.pid {
        thread.process.group.lock().first_status = ExitStatus::Exited(status as u8);
    }
    thread.task.attend(ATTEND_EXIT);
    Ok(0)
}

impl Thread {
    /// The last of the thread: what it leaves in memory for others, then all that it holds, then its place.
    #[inline(always)] // one caller, and it spares a copy of the thread
    pub(super) fn finish(mut self) {
        self.leave_memory();
        let Thread { space, process, program, files, member, .. } = self;
        drop(files);
        task::use_space(None);
        drop((space, program));
        process.leave(&member);
    }

    /// Tells those who wait for a word of this thread that it is gone, at its end and before execve.
    pub(super) fn leave_memory(&mut self) {
        if self.robust_list != 0 {
            // A list that leads nowhere ends there.
            let _ = self.release_robust_futexes();
            self.robust_list = 0;
        }
        // The thread and its task have the space; if nobody else has, nobody looks.
        let is_shared = Arc::strong_count(&self.space) > 2;
        let word = core::mem::take(&mut self.clear_tid);
        if word != 0 && is_shared && user_memory::write_value(word, &0u32).is_ok() {
            let _ = futex::wake(self, word, FUTEX_BITSET_MATCH_ANY, 1);
        }
    }

    /// Walks struct robust_list_head: the list's first entry, the words' distance from their entries, and the entry that
    /// was being taken or released (kernel/futex/core.c, exit_robust_list).
    fn release_robust_futexes(&self) -> Result<(), BadAddress> {
        let head = self.robust_list;
        let [first, distance, pending]: [u64; 3] = user_memory::read_value(head)?;
        // The lowest bit of an entry marks a futex with priority inheritance, which we lack.
        let mut entry = first & !1;
        for _ in 0..MAX_ROBUST_ENTRIES {
            if entry == head {
                break;
            }
            // The word may be given away, with its entry, as soon as it is released.
            let next = user_memory::read_value::<u64>(entry);
            if entry != pending & !1 {
                self.release_robust_futex(entry.wrapping_add(distance))?;
            }
            entry = next? & !1;
        }
        match pending & !1 {
            0 => Ok(()),
            entry => {
                let word = entry.wrapping_add(distance);
                // Killed between giving the word up and waking the next.
                if user_memory::read_value::<u32>(word)? == 0 {
                    let _ = futex::wake(self, word, FUTEX_BITSET_MATCH_ANY, 1);
                }
                self.release_robust_futex(word)
            }
        }
    }

    /// Marks a word that this thread owns, and wakes who waits for it.
    fn release_robust_futex(&self, word: u64) -> Result<(), BadAddress> {
        if !word.is_multiple_of(4) {
            return Err(BadAddress);
        }
        loop {
            let value: u32 = user_memory::read_value(word)?;
            if value & FUTEX_TID_MASK != self.member.tid().unsigned_abs() {
                return Ok(());
            }
            let left = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
            if user_memory::compare_exchange(word, value, left)? == value {
                let _ = futex::wake(self, word, FUTEX_BITSET_MATCH_ANY, 1);
                return Ok(());
            }
            // Others may change the word as often as they like.
            task::preempt_point();
        }
    }
}
