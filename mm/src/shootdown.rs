//! The seam to whoever can flush a TLB; [`crate::tables::Flush`] makes forgetting it impossible.

use crate::range::VirtRange;
use x86_64::PhysAddr;

/// Makes every CPU forget translations. The kernel implements it (invlpg, CR3 reload, later IPIs).
pub trait Shootdown: Sync {
    /// Returns when no CPU holds a translation of `range` in the space with this root table, nor a cached
    /// upper-level entry on the way to it. The caller holds the space's lock exclusively.
    fn flush(&self, root: PhysAddr, range: VirtRange);
}
