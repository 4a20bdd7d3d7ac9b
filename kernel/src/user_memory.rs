//! Copies between the kernel and the program whose address space is loaded.
//!
//! Every access goes through the program's own mapping, with a fix-up: a bad address costs the caller
//! [`BadAddress`] (EFAULT), never a kernel fault. Copies fault pages in like the program's own touch would.
//! No lock of an address space is held by the caller: the fault takes it.

use crate::task;
use alloc::vec::Vec;
use mm::range::{PAGE_SIZE, USER_END};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The program gave an address that it may not use this way (EFAULT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadAddress;

unsafe extern "C" {
    /// trap.s: returns the bytes not copied.
    fn copy_user(to: *mut u8, from: *const u8, len: usize) -> usize;
    /// trap.s: returns the words not zeroed.
    fn zero_user(to: *mut u64, words: usize) -> usize;
    /// trap.s: returns 0 when `expected` holds what was found.
    fn exchange_user(word: *mut u32, expected: &mut u32, new: u32) -> usize;
}

/// Copies `out.len()` bytes from the program's `address`.
#[inline]
pub fn read(address: u64, out: &mut [u8]) -> Result<(), BadAddress> {
    check(address, out.len())?;
    // SAFETY: 1. `out` is ours and long enough; 2. the other side lies in the lower half, where only the
    // program's pages are; a fault there is fixed up (traps.rs).
    all(unsafe { copy_user(out.as_mut_ptr(), address as *const u8, out.len()) })
}

/// Copies `bytes` to the program's `address`.
pub fn write(address: u64, bytes: &[u8]) -> Result<(), BadAddress> {
    check(address, bytes.len())?;
    // SAFETY: as in `read`, with the sides exchanged.
    all(unsafe { copy_user(address as *mut u8, bytes.as_ptr(), bytes.len()) })
}

/// Zeroes `len_bytes` bytes from `address` on; both are multiples of 8.
pub fn zero(address: u64, len_bytes: u64) -> Result<(), BadAddress> {
    check(address, len_bytes as usize)?;
    // SAFETY: the range lies in the lower half, where only a program's pages are; a fault there is fixed up.
    all(unsafe { zero_user(address as *mut u64, len_bytes as usize / 8) })
}

/// Was nothing left out?
fn all(left: usize) -> Result<(), BadAddress> {
    if left == 0 { Ok(()) } else { Err(BadAddress) }
}

/// Puts `new` in the place of `expected` if that is there, atomically; what was there. `address` is a multiple of 4.
pub fn compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, BadAddress> {
    check(address, size_of::<u32>())?;
    let mut found = expected;
    // SAFETY: the word lies in the lower half, where only a program's pages are; a fault there is fixed up.
    match unsafe { exchange_user(address as *mut u32, &mut found, new) } {
        0 => Ok(found),
        _ => Err(BadAddress),
    }
}

/// Reads one plain value.
#[inline]
pub fn read_value<T: FromBytes + IntoBytes>(address: u64) -> Result<T, BadAddress> {
    let mut value = T::new_zeroed();
    read(address, value.as_mut_bytes())?;
    Ok(value)
}

/// Reads one plain value without faulting anything in: it fails where the page is not there now. Neither sleeps nor
/// takes a lock, so it may be asked while parking.
#[inline]
pub fn read_value_nofault<T: FromBytes + IntoBytes>(address: u64) -> Result<T, BadAddress> {
    task::without_faults(|| read_value(address))
}

/// Writes one plain value.
pub fn write_value<T: IntoBytes + Immutable>(address: u64, value: &T) -> Result<(), BadAddress> {
    write(address, value.as_bytes())
}

/// Reads a NUL-terminated string of at most `max` bytes; `Ok(None)` when it is longer (ENAMETOOLONG).
pub fn read_string(address: u64, max: usize) -> Result<Option<Vec<u8>>, BadAddress> {
    let mut string = Vec::new();
    let mut at = address;
    // In pieces that end with a page: the string may end just before memory that is not there.
    while string.len() <= max {
        let mut piece = [0; 256];
        let len = (PAGE_SIZE - at % PAGE_SIZE).min(piece.len() as u64) as usize;
        read(at, &mut piece[..len])?;
        match piece[..len].iter().position(|&byte| byte == 0) {
            Some(end) => {
                string.extend_from_slice(&piece[..end]);
                return Ok((string.len() <= max).then_some(string));
            }
            None => string.extend_from_slice(&piece[..len]),
        }
        at += len as u64;
    }
    Ok(None)
}

fn check(address: u64, len: usize) -> Result<(), BadAddress> {
    address.checked_add(len as u64).filter(|&end| end <= USER_END).map(drop).ok_or(BadAddress)
}
