//! The platform capabilities structure (type 7): how far stores get when power fails.

use crate::Reason;
use crate::entry::{Record, StructureType};
use crate::messages::messages;

/// Platform capabilities structure, ACPI 6.5, 5.2.26.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The highest capability bit that firmware knows.
    pub highest_bit: u8,
    /// The capability bits as stored, those above `highest_bit` included.
    pub stored: u32,
}

impl Capabilities {
    const CPU_CACHE_FLUSH: u32 = 1 << 0;
    const MEMORY_CONTROLLER_FLUSH: u32 = 1 << 1;
    const MIRRORING: u32 = 1 << 2;

    /// The capability bits up to `highest_bit`; those above mean nothing.
    pub fn effective(self) -> u32 {
        // 31 and more make all 32 bits valid, and the shift would not fit.
        let valid = 2u32.checked_shl(u32::from(self.highest_bit)).map_or(u32::MAX, |bit| bit.wrapping_sub(1));
        self.stored & valid
    }

    /// How far a store must have got to survive power loss.
    pub fn persistence(self) -> PersistenceDomain {
        let effective = self.effective();
        if effective & Self::CPU_CACHE_FLUSH != 0 {
            PersistenceDomain::CpuCache
        } else if effective & Self::MEMORY_CONTROLLER_FLUSH != 0 {
            PersistenceDomain::MemoryController
        } else {
            PersistenceDomain::Unknown
        }
    }

    /// Whether the platform mirrors NVDIMM memory in hardware.
    pub fn mirroring(self) -> bool {
        self.effective() & Self::MIRRORING != 0
    }
}

impl Record<'_> for Capabilities {
    const KIND: StructureType = StructureType::CAPABILITIES;

    fn parse(structure: &[u8]) -> Result<Capabilities, Reason> {
        let f = Self::fields::<16>(structure)?;
        Ok(Capabilities { highest_bit: f.u8::<4>(), stored: f.u32::<8>() })
    }
}

messages! {
    /// How far a store must have got to survive power loss. Its `Display` is the name that `ndctl` prints.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum PersistenceDomain {
        /// Into the CPU cache (eADR): nothing needs to be flushed.
        CpuCache => ("cpu_cache"),
        /// Into the memory controller (ADR): cache lines need to be flushed.
        MemoryController => ("memory_controller"),
        /// The table does not say.
        Unknown => ("unknown"),
    }
}
