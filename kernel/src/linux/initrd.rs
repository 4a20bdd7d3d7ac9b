//! The initrd's files, which can be read, mapped and run.

use super::errno::{Answer, Errno};
use super::image::FilePages;
use super::io::copy_out;
use super::memory::check_reserve;
use super::node::{Node, Seek};
use super::stat::{FileSystem, Metadata};
use super::thread::Thread;
use super::tree::Directory;
use crate::initrd::File;
use crate::machine::machine;
use alloc::sync::Arc;
use linux_raw_sys::general::{O_ACCMODE, O_RDONLY, O_TRUNC, S_IFDIR, S_IFMT, S_IFREG};
use mm::pager::Prot;
use mm::vma::Backing;

/// What an absolute path names in the initrd, which need not have an entry for a directory.
pub fn find(path: &str) -> Option<Arc<dyn Node>> {
    let initrd = &machine().initrd;
    let inside = |file: &&File| {
        let rest = file.path.strip_prefix(path.trim_start_matches('/'));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    match initrd.find(path) {
        Some(file) if file.mode & S_IFMT != S_IFDIR => Some(Arc::new(file)),
        Some(_) => Some(Directory::at(path)),
        None => initrd.files().find(inside).map(|_| Directory::at(path)),
    }
}

impl Node for &'static File {
    fn metadata(&self) -> Metadata {
        // A cpio made by hand may leave the type out.
        let mode = if self.mode & S_IFMT == 0 { S_IFREG | self.mode } else { self.mode };
        Metadata {
            size_bytes: self.bytes.len() as u64,
            mtime: self.mtime,
            ..Metadata::new(FileSystem::Initrd, self.inode, mode)
        }
    }

    fn open(&self, flags: u32) -> Result<Option<Arc<dyn Node>>, Errno> {
        let writes = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0;
        if writes { Err(Errno::EROFS) } else { Ok(None) }
    }

    fn program(&self) -> Option<&'static File> {
        Some(self)
    }

    fn read(&self, _: &mut Thread, position: u64, buffer: u64, count: u64) -> Answer {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let rest = self.bytes.get(start..).unwrap_or(&[]);
        copy_out(buffer, rest.get(..count as usize).unwrap_or(rest))
    }

    fn seek(&self) -> Seek {
        Seek::Data
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn map(&self) -> Result<(Backing, Prot), Errno> {
        check_reserve()?;
        Ok((Backing::Private(Arc::new(FilePages::whole(self))), Prot::all()))
    }
}
