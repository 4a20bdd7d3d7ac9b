//! `hvm_start_info`, the letter that a PVH hypervisor leaves (xen/include/public/arch-x86/hvm/start_info.h).
//!
//! It is input from outside: every address is checked by the reader, every count bounded.

use core::fmt;
use mm::range::PhysRange;
use zerocopy::{FromBytes, Immutable, KnownLayout, little_endian::U32, little_endian::U64};

/// `hvm_start_info.magic`.
const MAGIC: u32 = 0x336e_c578;

/// More memory map entries than any firmware has been seen to make; further ones are counted and left out.
pub const MAX_MAP_ENTRIES: usize = 128;

/// The longest command line that is read; a longer one is cut.
pub const MAX_COMMAND_LINE: usize = 64 * 1024;

/// Physical memory as the boot code can read it.
pub trait PhysicalMemory {
    /// The `len` bytes from physical address `start`, or `None` where that cannot be read.
    fn bytes(&self, start: u64, len: u64) -> Option<&[u8]>;
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStartInfo {
    magic: U32,
    version: U32,
    flags: U32,
    modules: U32,
    module_list: U64,
    command_line: U64,
    rsdp: U64,
    // The fields from here on exist since version 1.
    memory_map: U64,
    memory_map_entries: U32,
    reserved: U32,
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawModule {
    address: U64,
    size: U64,
    command_line: U64,
    reserved: U64,
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawMapEntry {
    address: U64,
    size: U64,
    kind: U32,
    reserved: U32,
}

/// One entry of the memory map, as the hypervisor gave it: not checked, not sorted.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct MemoryMapEntry {
    /// Physical address of the first byte.
    pub start: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// E820 type: 1 is RAM (ACPI 6.5, table 15.5).
    pub kind: u32,
}

/// What the hypervisor told.
pub struct BootInfo<'a> {
    /// Physical address of the ACPI RSDP; `None` when the hypervisor names none.
    pub rsdp: Option<u64>,
    /// The kernel command line without its NUL, cut at [`MAX_COMMAND_LINE`].
    pub command_line: &'a [u8],
    /// The first module: the initrd.
    pub initrd: Option<PhysRange>,
    /// Modules behind the first, which nobody reads.
    pub extra_modules: u32,
    /// Memory map entries that did not fit.
    pub dropped_map_entries: u32,
    map: &'a [RawMapEntry],
}

/// Why the boot information cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// This part of the letter, at this physical address, lies where nothing can be read.
    Unreadable(&'static str, u64),
    /// The magic number is not `hvm_start_info`'s.
    Magic(u32),
    /// The structure, of this version, has no memory map, and without one no byte of RAM is known.
    NoMemoryMap(u32),
    /// The initrd module, with this physical address and length in bytes, is longer than 2^52 or wraps.
    Initrd(u64, u64),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Unreadable(what, at) => write!(f, "the PVH {what} at {at:#x} cannot be read"),
            BootError::Magic(found) => write!(f, "PVH start_info has magic {found:#x}, not {MAGIC:#x}"),
            BootError::NoMemoryMap(version) => {
                write!(f, "PVH start_info (version {version}) has no memory map")
            }
            BootError::Initrd(at, len) => {
                write!(f, "the initrd at {at:#x} with {len:#x} bytes is no range of memory")
            }
        }
    }
}

impl<'a> BootInfo<'a> {
    /// Reads the `hvm_start_info` at physical address `start_info`.
    pub fn parse(memory: &'a dyn PhysicalMemory, start_info: u64) -> Result<BootInfo<'a>, BootError> {
        let info: &RawStartInfo = read(memory, "start_info", start_info, size_of::<RawStartInfo>())?;
        if info.magic.get() != MAGIC {
            return Err(BootError::Magic(info.magic.get()));
        }
        let (version, entries) = (info.version.get(), info.memory_map_entries.get() as usize);
        if version == 0 || entries == 0 {
            return Err(BootError::NoMemoryMap(version));
        }
        let map_len = entries.min(MAX_MAP_ENTRIES);
        let map_bytes = map_len * size_of::<RawMapEntry>();
        Ok(BootInfo {
            rsdp: Some(info.rsdp.get()).filter(|&rsdp| rsdp != 0),
            command_line: command_line(memory, info.command_line.get())?,
            initrd: initrd(memory, info)?,
            extra_modules: info.modules.get().saturating_sub(1),
            dropped_map_entries: (entries - map_len) as u32,
            map: read(memory, "memory map", info.memory_map.get(), map_bytes)?,
        })
    }

    /// The memory map, in the hypervisor's order.
    pub fn memory_map(&self) -> impl ExactSizeIterator<Item = MemoryMapEntry> + Clone {
        self.map.iter().map(|raw| MemoryMapEntry {
            start: raw.address.get(),
            len_bytes: raw.size.get(),
            kind: raw.kind.get(),
        })
    }
}

fn read<'a, T: FromBytes + KnownLayout + Immutable + ?Sized>(
    memory: &'a dyn PhysicalMemory,
    what: &'static str,
    address: u64,
    len_bytes: usize,
) -> Result<&'a T, BootError> {
    let bytes = memory.bytes(address, len_bytes as u64).and_then(|bytes| T::ref_from_bytes(bytes).ok());
    bytes.ok_or(BootError::Unreadable(what, address))
}

fn command_line(memory: &dyn PhysicalMemory, address: u64) -> Result<&[u8], BootError> {
    if address == 0 {
        return Ok(&[]);
    }
    // The end of readable memory may come before the maximum: halve until it fits.
    let mut windows = (0..=MAX_COMMAND_LINE.ilog2()).map(|halvings| MAX_COMMAND_LINE as u64 >> halvings);
    let bytes = windows.find_map(|window| memory.bytes(address, window));
    let bytes = bytes.ok_or(BootError::Unreadable("command line", address))?;
    Ok(bytes.split(|&byte| byte == 0).next().unwrap_or(bytes))
}

fn initrd(memory: &dyn PhysicalMemory, info: &RawStartInfo) -> Result<Option<PhysRange>, BootError> {
    if info.modules.get() == 0 {
        return Ok(None);
    }
    let at = info.module_list.get();
    let module: &RawModule = read(memory, "module list", at, size_of::<RawModule>())?;
    match (module.address.get(), module.size.get()) {
        (_, 0) => Ok(None),
        (address, len_bytes) => {
            PhysRange::new(address, len_bytes).map(Some).ok_or(BootError::Initrd(address, len_bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Physical memory that is one slice from address 0 on.
    struct Flat<'a>(&'a [u8]);

    impl PhysicalMemory for Flat<'_> {
        fn bytes(&self, start: u64, len: u64) -> Option<&[u8]> {
            self.0.get(start as usize..start.checked_add(len)? as usize)
        }
    }

    fn put32(image: &mut [u8], at: usize, value: u32) {
        image[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn put64(image: &mut [u8], at: usize, value: u64) {
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// start_info at 0x100, one module at 0x200, command line at 0x300, two map entries at 0x400.
    fn image() -> [u8; 0x1000] {
        let mut image = [0; 0x1000];
        put32(&mut image, 0x100, MAGIC);
        put32(&mut image, 0x104, 1);
        put32(&mut image, 0x10c, 1);
        put64(&mut image, 0x110, 0x200);
        put64(&mut image, 0x118, 0x300);
        put64(&mut image, 0x120, 0xf_0000);
        put64(&mut image, 0x128, 0x400);
        put32(&mut image, 0x130, 2);
        put64(&mut image, 0x200, 0x80_0000);
        put64(&mut image, 0x208, 0x1234);
        image[0x300..0x306].copy_from_slice(b"init=x");
        put64(&mut image, 0x408, 0xa_0000);
        put32(&mut image, 0x410, 1);
        put64(&mut image, 0x418, 0x10_0000);
        put64(&mut image, 0x420, 0x700_0000);
        put32(&mut image, 0x428, 1);
        image
    }

    #[test]
    fn reads_every_field() {
        let image = image();
        let memory = Flat(&image);
        let info = BootInfo::parse(&memory, 0x100).unwrap();
        assert_eq!(info.rsdp, Some(0xf_0000));
        assert_eq!(info.command_line, b"init=x");
        assert_eq!(info.initrd, PhysRange::new(0x80_0000, 0x1234));
        assert_eq!(info.memory_map().len(), 2);
        assert_eq!(info.memory_map().nth(1).unwrap().start, 0x10_0000);
    }

    #[test]
    fn wrong_magic_names_what_was_found() {
        let mut image = image();
        put32(&mut image, 0x100, 7);
        assert_eq!(BootInfo::parse(&Flat(&image), 0x100).err(), Some(BootError::Magic(7)));
    }

    #[test]
    fn addresses_outside_memory_are_errors_not_panics() {
        for field in [0x110, 0x118, 0x128] {
            let mut image = image();
            put64(&mut image, field, u64::MAX - 3);
            assert!(matches!(BootInfo::parse(&Flat(&image), 0x100), Err(BootError::Unreadable { .. })));
        }
        assert!(BootInfo::parse(&Flat(&image()), 0x0fff_ffff).is_err());
    }

    #[test]
    fn wrapping_initrd_is_refused_with_its_values() {
        let mut image = image();
        put64(&mut image, 0x208, u64::MAX);
        assert_eq!(BootInfo::parse(&Flat(&image), 0x100).err(), Some(BootError::Initrd(0x80_0000, u64::MAX)));
    }

    #[test]
    fn command_line_at_the_end_of_memory_is_read() {
        let mut image = image();
        put64(&mut image, 0x118, 0xffd);
        image[0xffd..].copy_from_slice(b"a\0b");
        assert_eq!(BootInfo::parse(&Flat(&image), 0x100).unwrap().command_line, b"a");
    }

    #[test]
    fn more_map_entries_than_fit_are_counted() {
        let mut image = [0; 0x4000];
        image[..0x1000].copy_from_slice(&self::image());
        put32(&mut image, 0x130, 200);
        put64(&mut image, 0x128, 0x1000);
        let memory = Flat(&image);
        let info = BootInfo::parse(&memory, 0x100).unwrap();
        assert_eq!((info.memory_map().len(), info.dropped_map_entries), (128, 72));
    }
}
