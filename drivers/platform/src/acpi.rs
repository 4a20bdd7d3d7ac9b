//! ACPI's static tables, through the `acpi` crate; no AML.
//!
//! The crate trusts addresses and lengths, so every address is checked here first: tables must lie in the
//! readable window (the first 4 GiB, as boot maps it). What cannot be read looks like a table of zeros.

use crate::pm_timer::PmTimer;
use crate::power::{SoftOff, sleep_type_of_s5};
use acpi::{AcpiTables, Handler, PciAddress, PhysicalMapping, sdt::Signature, sdt::fadt::Fadt};
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

/// Bytes of the header that every table starts with (ACPI 6.5, 5.2.6).
const HEADER_BYTES: u64 = 36;

/// A table longer than this is taken for garbage.
const MAX_TABLE_BYTES: u64 = 16 << 20;

/// Handler methods that do nothing and answer with zeros.
macro_rules! no_register_access {
    ($($name:ident($($argument:ty),*) $(-> $answer:ty)?),* $(,)?) => {
        $(fn $name(&self, $(_: $argument),*) $(-> $answer)? { $(<$answer>::default())? })*
    };
}

/// Physical memory that can be read at `base + physical address`, up to `len_bytes`.
#[derive(Clone, Copy)]
pub struct Window {
    /// Virtual address of physical address 0.
    pub base: u64,
    /// Readable bytes from there.
    pub len_bytes: u64,
}

impl Window {
    /// The bytes at `[phys, phys + len)`, if they are readable.
    pub fn bytes(&self, phys: u64, len: u64) -> Option<&'static [u8]> {
        let end = phys.checked_add(len)?;
        if end > self.len_bytes {
            return None;
        }
        // SAFETY: 1. boot maps [0, len_bytes) at `base` until it loads the kernel's own tables; what is read later
        //    (the NFIT, and nothing else) it maps there again and keeps from being given away;
        // 2. firmware's tables are not written by anyone once the hypervisor has started us.
        Some(unsafe { core::slice::from_raw_parts((self.base + phys) as *const u8, len as usize) })
    }
}

/// What unreadable addresses look like: zeros, which no signature matches.
#[repr(align(4096))]
struct Nothing([u8; 4096]);
static NOTHING: Nothing = Nothing([0; 4096]);

impl Handler for Window {
    unsafe fn map_physical_region<T>(&self, phys: usize, size: usize) -> PhysicalMapping<Self, T> {
        let bytes = self.bytes(phys as u64, size as u64).unwrap_or(&NOTHING.0);
        PhysicalMapping {
            physical_start: phys,
            virtual_start: NonNull::from(bytes).cast(),
            region_length: size,
            mapped_length: size,
            handler: *self,
        }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}

    // The interpreter is not built in: nothing calls these.
    no_register_access! {
        read_u8(usize) -> u8, read_u16(usize) -> u16, read_u32(usize) -> u32, read_u64(usize) -> u64,
        write_u8(usize, u8), write_u16(usize, u16), write_u32(usize, u32), write_u64(usize, u64),
        read_io_u8(u16) -> u8, read_io_u16(u16) -> u16, read_io_u32(u16) -> u32,
        write_io_u8(u16, u8), write_io_u16(u16, u16), write_io_u32(u16, u32),
        read_pci_u8(PciAddress, u16) -> u8, read_pci_u16(PciAddress, u16) -> u16, read_pci_u32(PciAddress, u16) -> u32,
        write_pci_u8(PciAddress, u16, u8), write_pci_u16(PciAddress, u16, u16), write_pci_u32(PciAddress, u16, u32),
        nanos_since_boot() -> u64, stall(u64), sleep(u64),
    }
}

/// Why ACPI, or one table, cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// The table's address or length leads outside of what can be read.
    Unreadable {
        /// Which table.
        name: &'static str,
        /// Its physical address.
        address: u64,
        /// Its length in bytes, as far as it is known.
        len_bytes: u64,
    },
    /// Something else lies where the table should be.
    Signature {
        /// Which table was expected.
        expected: &'static str,
        /// What lies there.
        found: [u8; 4],
    },
    /// The bytes of the table do not sum up to 0.
    Checksum {
        /// Which table.
        name: &'static str,
        /// The sum of its bytes, modulo 256.
        sum: u8,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TableError::Unreadable { name, address, len_bytes } => {
                write!(f, "{name} at {address:#x} with {len_bytes} bytes cannot be read")
            }
            TableError::Signature { expected, found } => {
                write!(f, "{expected} expected, found \"{}\"", found.escape_ascii())
            }
            TableError::Checksum { name, sum } => {
                write!(f, "{name}: the bytes sum up to {sum:#04x}, not to 0")
            }
        }
    }
}

/// The CPUs that the MADT lists.
#[derive(Clone, Debug)]
pub struct Cpus {
    /// Physical address of every CPU's local APIC.
    pub apic_base: u64,
    /// The APIC ids of the enabled CPUs, in the table's order; nobody has checked that they differ.
    pub apic_ids: Vec<u32>,
}

/// The static tables of this machine.
pub struct Acpi {
    tables: AcpiTables<Window>,
    window: Window,
}

impl Acpi {
    /// The tables behind the RSDP at this physical address. RSDP and XSDT (RSDT) are checked.
    pub fn find(window: Window, rsdp: u64) -> Result<Acpi, TableError> {
        let unreadable = TableError::Unreadable { name: "RSDP", address: rsdp, len_bytes: 36 };
        let raw = window.bytes(rsdp, 36).ok_or(unreadable)?;
        if &raw[..8] != b"RSD PTR " {
            let found = [raw[0], raw[1], raw[2], raw[3]];
            return Err(TableError::Signature { expected: "RSD ", found });
        }
        let revision = raw[15];
        // The extended part has a length of its own, which the crate would trust.
        let len = if revision == 0 { 20 } else { le_u32(raw, 20).clamp(20, 36) as usize };
        checksum("RSDP", &raw[..len])?;
        let (name, root) = match revision {
            0 => ("RSDT", u64::from(le_u32(raw, 16))),
            _ => ("XSDT", le_u64(raw, 24)),
        };
        check_table(&window, name, root)?;
        // SAFETY: root is the address of a readable RSDT or XSDT whose length was checked, as the revision says.
        match unsafe { AcpiTables::from_rsdt(window, revision, root as usize) } {
            Ok(tables) => Ok(Acpi { tables, window }),
            Err(_) => Err(TableError::Unreadable { name, address: root, len_bytes: 36 }),
        }
    }

    /// The first table with this four-letter signature, whole; `Ok(None)` where there is none.
    pub fn table(&self, name: &'static str) -> Result<Option<&'static [u8]>, TableError> {
        let is_it = |&address: &usize| self.window.bytes(address as u64, 4) == Some(name.as_bytes());
        match self.tables.table_entries().find(is_it) {
            Some(address) => check_table(&self.window, name, address as u64).map(Some),
            None => Ok(None),
        }
    }

    /// Is there an SSDT with this OEM table id? (QEMU's NVDIMM devices are described by `NVDIMM`.)
    pub fn has_ssdt(&self, oem_table_id: &[u8]) -> bool {
        self.tables.table_headers().any(|(_, header)| {
            header.signature == Signature::SSDT && header.oem_table_id.starts_with(oem_table_id)
        })
    }

    /// The power-management timer, as the FADT names it.
    pub fn pm_timer(&self) -> Option<PmTimer> {
        let block = self.fadt()?.pm_timer_block().ok()??;
        PmTimer::at(u16::try_from(block.address).ok()?)
    }

    /// How to turn the machine off, from the FADT and the DSDT's `\_S5`.
    pub fn soft_off(&self) -> Option<SoftOff> {
        let fadt = self.fadt()?;
        let dsdt = check_table(&self.window, "DSDT", fadt.dsdt_address().ok()? as u64).ok()?;
        Some(SoftOff {
            pm1a_control: u16::try_from(fadt.pm1a_control_block().ok()?.address).ok()?,
            pm1b_control: match fadt.pm1b_control_block() {
                Ok(Some(block)) => u16::try_from(block.address).ok()?,
                _ => 0,
            },
            sleep_type: sleep_type_of_s5(dsdt)?,
        })
    }

    /// What the MADT says about CPUs; `Ok(None)` where there is no MADT. ACPI 6.5, 5.2.12.
    pub fn cpus(&self) -> Result<Option<Cpus>, TableError> {
        let Some(madt) = self.table("APIC")?.filter(|madt| madt.len() >= 44) else { return Ok(None) };
        let mut cpus = Cpus { apic_base: le_u32(madt, 36).into(), apic_ids: Vec::new() };
        let mut entries = &madt[44..];
        // Walked here and not by the crate: its iterator never ends at an entry of length zero.
        while let [kind, len, ..] = *entries {
            let Some(entry) = entries.get(..usize::from(len)).filter(|entry| entry.len() >= 2) else { break };
            match (kind, entry.len()) {
                // A local APIC, or an x2APIC: enabled ones only.
                (0, 8..) if entry[4] & 1 != 0 => cpus.apic_ids.push(entry[3].into()),
                (9, 16..) if entry[8] & 1 != 0 => cpus.apic_ids.push(le_u32(entry, 4)),
                // The local APICs' address in 64 bits.
                (5, 12..) => cpus.apic_base = le_u64(entry, 4),
                _ => {}
            }
            entries = &entries[usize::from(len)..];
        }
        Ok(Some(cpus))
    }

    /// PCI configuration space in memory, a (start, length) for each entry of the MCFG (PCI Firmware 3.3, 4.1.2).
    pub fn pci_config_space(&self) -> impl Iterator<Item = (u64, u64)> {
        let mcfg = self.table("MCFG").ok().flatten().and_then(|mcfg| mcfg.get(44..)).unwrap_or(&[]);
        mcfg.chunks_exact(16).map(|entry| {
            let base = le_u64(entry, 0);
            let (first, last) = (u64::from(entry[10]), u64::from(entry[11]));
            (base.saturating_add(first << 20), (last + 1).saturating_sub(first) << 20)
        })
    }

    fn fadt(&self) -> Option<PhysicalMapping<Window, Fadt>> {
        // The crate reads a whole Fadt whatever the header says: an old, shorter one is followed by readable
        // memory, and the crate's accessors look at the revision.
        self.table("FACP").ok()??;
        self.tables.find_table::<Fadt>()
    }
}

/// The table at `address`, if signature, length and checksum hold.
fn check_table(window: &Window, name: &'static str, address: u64) -> Result<&'static [u8], TableError> {
    let unreadable = |len_bytes| TableError::Unreadable { name, address, len_bytes };
    let header = window.bytes(address, HEADER_BYTES).ok_or(unreadable(HEADER_BYTES))?;
    let found = [header[0], header[1], header[2], header[3]];
    if found != name.as_bytes() {
        return Err(TableError::Signature { expected: name, found });
    }
    let len = u64::from(le_u32(header, 4));
    if !(HEADER_BYTES..=MAX_TABLE_BYTES).contains(&len) {
        return Err(unreadable(len));
    }
    let table = window.bytes(address, len).ok_or(unreadable(len))?;
    checksum(name, table)?;
    Ok(table)
}

fn checksum(name: &'static str, bytes: &[u8]) -> Result<(), TableError> {
    match bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) {
        0 => Ok(()),
        sum => Err(TableError::Checksum { name, sum }),
    }
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le_u32(bytes, at)) | u64::from(le_u32(bytes, at + 4)) << 32
}
