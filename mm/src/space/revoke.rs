//! What a device takes back from a space.

use super::{AddressSpace, Memory};
use crate::vma::{Backing, Vma};
use core::ops::Range;

/// What `revoke` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    /// Vmas of the object.
    pub mappings: u64,
    /// Entries that were cleared, by size in the order of [`MapSize::ALL`](crate::range::MapSize::ALL).
    pub entries: [u64; 3],
}

impl AddressSpace {
    /// Clears all entries that show a byte of `offsets` of the object `key` ([`crate::pager::Pager::key`]); the vmas
    /// stay. When it returns no CPU uses one of them any more.
    pub fn revoke(&self, key: u64, offsets: &Range<u64>) -> Revoked {
        let mut revoked = Revoked::default();
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        let shows_it = |vma: &&Vma| matches!(&vma.backing, Backing::Device(pager) if pager.key() == key);
        for vma in vmas.iter().filter(shows_it) {
            let Some(part) = vma.showing(offsets) else { continue };
            let (flush, cleared) = tables.revoke(part, vma.granule);
            flush.acknowledge(self.environment.shootdown);
            revoked.mappings += 1;
            revoked.entries[vma.granule as usize] += cleared;
        }
        revoked
    }
}
