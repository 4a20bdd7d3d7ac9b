//! getdents64: what a directory has, as records.

use super::errno::{Answer, Errno};
use super::memory::{check_reserve, vec_for};
use super::node::{Entry, numbered};
use super::stat::Metadata;
use super::thread::Thread;
use crate::user_memory;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most bytes that one call gives.
const MAX_BYTES: u64 = 32 << 10;

/// The positions of `.` and `..`; those of the directory's own entries follow.
const DOTS: u64 = 2;

/// getdents64(2). The position of the open file is that of the next entry.
pub fn getdents64(thread: &mut Thread, fd: i32, buffer: u64, count: u64) -> Answer {
    let file = thread.file(fd)?;
    let (node, mut position) = (&file.node, file.position());
    let parent = || file.place.parent.as_ref().map(|parent| Arc::clone(&parent.node));
    let mut records = vec_for(count.min(MAX_BYTES) as usize)?;
    'full: loop {
        check_reserve()?;
        let batch = match position.checked_sub(DOTS) {
            None => numbered([".", ".."], position),
            Some(from) => node.entries(thread, from)?,
        };
        if batch.is_empty() {
            break;
        }
        for Entry { position: at, name } in batch {
            let (found, at) = match name.as_str() {
                "." => (Ok(Arc::clone(node)), at),
                ".." => (Ok(parent().unwrap_or_else(|| Arc::clone(node))), at),
                name => (node.lookup(thread, name), at + DOTS),
            };
            match found {
                Ok(found) if push(&mut records, &name, &found.metadata(), at + 1) => {}
                Ok(_) if records.is_empty() => return Err(Errno::EINVAL),
                Ok(_) => break 'full,
                // It has gone meanwhile.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            position = at + 1;
        }
    }
    user_memory::write(buffer, &records)?;
    file.set_position(position);
    Ok(records.len() as u64)
}

/// Adds a `struct linux_dirent64`, where there is room for it.
fn push(records: &mut Vec<u8>, name: &str, metadata: &Metadata, next: u64) -> bool {
    let start = records.len();
    let end = (start + 19 + name.len() + 1).next_multiple_of(8);
    if end > records.capacity() {
        return false;
    }
    records.extend_from_slice(&metadata.inode.to_le_bytes());
    records.extend_from_slice(&next.to_le_bytes());
    records.extend_from_slice(&((end - start) as u16).to_le_bytes());
    // DT_* is the type's part of st_mode (include/linux/fs_types.h).
    records.push((metadata.mode >> 12) as u8);
    records.extend_from_slice(name.as_bytes());
    records.resize(end, 0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::stat::FileSystem;
    use linux_raw_sys::general::S_IFDIR;

    #[test]
    fn records_are_laid_out_as_linux_does() {
        let mut records = Vec::with_capacity(32);
        let metadata = Metadata::new(FileSystem::Dev, 7, S_IFDIR | 0o755);
        assert!(push(&mut records, "shm", &metadata, 3));
        assert_eq!(&records[..8], &7u64.to_le_bytes());
        assert_eq!(&records[8..16], &3u64.to_le_bytes());
        assert_eq!(&records[16..], b"\x18\x00\x04shm\0\0");
        assert!(!push(&mut records, "null", &metadata, 4));
        assert_eq!(records.len(), 24);
    }
}
