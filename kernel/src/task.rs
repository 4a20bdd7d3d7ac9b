//! A task: registers and an address space. What it is to Linux programs is `linux::process`'s business.

use crate::arch::context::UserContext;
use alloc::sync::Arc;
use mm::space::AddressSpace;

/// Something that runs in ring 3.
pub struct Task {
    /// Its registers while it is not running.
    pub context: UserContext,
    /// Its memory; tasks that share memory share this.
    pub space: Arc<AddressSpace>,
}
