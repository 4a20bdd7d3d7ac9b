//! process_vm_readv, process_vm_writev: copies between this process's memory and another one's.
//!
//! Page by page, with the other space loaded for the time of a copy: a page is faulted in as its own process would.

use super::abi::Iovec;
use super::errno::{Answer, Errno};
use super::io::read_vector;
use super::memory::{lets_others_in, within};
use super::process;
use crate::user_memory;
use mm::range::PAGE_SIZE;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the other process (process_vm_readv).
    Read,
    /// To it (process_vm_writev).
    Write,
}

/// process_vm_readv(2), process_vm_writev(2): a vector is its address and its length. Bytes up to the first bad page.
#[inline(never)]
pub fn process_vm(direction: Direction, pid: i32, own: (u64, u64), other: (u64, u64), flags: u64) -> Answer {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (mut own, mut other) = (read_vector(own.0, own.1)?, read_vector(other.0, other.1)?);
    let peer = process::find(pid).and_then(|process| process.space()).ok_or(Errno::ESRCH)?;
    let mut page = [0; PAGE_SIZE as usize];
    let mut done = 0;
    while let (Some(own), Some(other)) = (first_left(&mut own), first_left(&mut other)) {
        let len = own.iov_len.min(other.iov_len).min(PAGE_SIZE - other.iov_base % PAGE_SIZE);
        let piece = &mut page[..len as usize];
        let copied = match direction {
            Direction::Read => within(&peer, || user_memory::read(other.iov_base, piece))
                .and_then(|()| user_memory::write(own.iov_base, piece)),
            Direction::Write => user_memory::read(own.iov_base, piece)
                .and_then(|()| within(&peer, || user_memory::write(other.iov_base, piece))),
        };
        match copied {
            Err(bad) if done == 0 => return Err(bad.into()),
            Err(_) => break,
            Ok(()) => done += len,
        }
        for part in [own, other] {
            part.iov_base += len;
            part.iov_len -= len;
        }
        if !lets_others_in() {
            break;
        }
    }
    Ok(done)
}

fn first_left(parts: &mut [Iovec]) -> Option<&mut Iovec> {
    parts.iter_mut().find(|part| part.iov_len > 0)
}
