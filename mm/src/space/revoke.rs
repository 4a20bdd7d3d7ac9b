//! What a device takes back from a space.

use super::{AddressSpace, Memory};
use crate::vma::Backing;

/// What `revoke` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    /// Vmas of the object.
    pub mappings: u64,
    /// Entries that were cleared, by size in the order of [`MapSize::ALL`](crate::range::MapSize::ALL).
    pub entries: [u64; 3],
}

impl AddressSpace {
    /// Clears all entries of the vmas that show the object `key` ([`crate::pager::Pager::key`]); the vmas stay. When it
    /// returns no CPU uses one of them any more.
    pub fn revoke(&self, key: u64) -> Revoked {
        let mut revoked = Revoked::default();
        let mut memory = self.memory.write();
        let Memory { tables, vmas } = &mut *memory;
        for vma in
            vmas.iter().filter(|vma| matches!(&vma.backing, Backing::Device(pager) if pager.key() == key))
        {
            let (flush, cleared) = tables.revoke(vma.range, vma.granule);
            flush.acknowledge(self.environment.shootdown);
            revoked.mappings += 1;
            revoked.entries[vma.granule as usize] += cleared;
        }
        revoked
    }
}
