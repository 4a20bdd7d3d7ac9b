//! What the kernel tells about the program that asks: counters and its page tables.
//!
//! `/proc/self/daxite` has `key value` lines. `/proc/self/pagewalk`, read at the offset of a virtual
//! address, is the walk from CR3 to the entry that maps it: one line a level, and a last line
//! `size 2M phys 0x140200000 flags ...` or `not mapped`. Linux has neither file: [`present`] tells.

use std::collections::BTreeMap;
use std::fmt;

use crate::device::Align;
use crate::{sys, sysfs};

/// Whether this kernel is Daxite.
pub fn present() -> bool {
    Counters::read().is_ok()
}

/// The counters of this process and of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Faults on a dax mapping of this process that installed a 4K, 2M, 1G entry.
    pub faults: [u64; 3],
    /// Frames of 4 KiB that nobody uses.
    pub free_frames: u64,
    /// From kernel entry to the first instruction of this program, in nanoseconds.
    pub boot_ns: u64,
}

impl Counters {
    /// Reads `/proc/self/daxite`.
    pub fn read() -> Result<Counters, String> {
        let mut buffer = [0; 1024];
        let fd = sys::open(c"/proc/self/daxite", libc::O_RDONLY)
            .map_err(|errno| format!("open /proc/self/daxite: {errno}"))?;
        let len = sys::read(fd, &mut buffer);
        let _ = sys::close(fd);
        let len = len.map_err(|errno| format!("read /proc/self/daxite: {errno}"))?;
        let text = String::from_utf8_lossy(&buffer[..len.min(buffer.len())]).into_owned();
        let mut counters = Counters::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            let slot = match key {
                "faults_4k" => &mut counters.faults[0],
                "faults_2m" => &mut counters.faults[1],
                "faults_1g" => &mut counters.faults[2],
                "free_frames" => &mut counters.free_frames,
                "boot_ns" => &mut counters.boot_ns,
                _ => continue,
            };
            *slot = value.trim().parse().map_err(|_| format!("/proc/self/daxite: {key} {value}"))?;
        }
        Ok(counters)
    }

    /// All faults on dax mappings.
    pub fn all_faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Faults since `earlier`, by size of the entry: 4K, 2M, 1G.
    pub fn faults_since(&self, earlier: &Counters) -> [u64; 3] {
        std::array::from_fn(|size| self.faults[size].wrapping_sub(earlier.faults[size]))
    }
}

/// The kernel's counters of removals since it booted: `/proc/daxite/lifetime`, `key value` lines.
pub fn lifetime() -> Result<BTreeMap<String, u64>, String> {
    let path = "/proc/daxite/lifetime";
    let text = sysfs::read(path).map_err(|errno| format!("read of {path}: {errno}"))?;
    let line = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().map(|text| line(text).ok_or_else(|| format!("{path}: {text:?}"))).collect()
}

/// What `count` faults at `align` look like in [`Counters::faults_since`].
pub fn faults_at(align: Align, count: u64) -> [u64; 3] {
    match align {
        Align::Page4K => [count, 0, 0],
        Align::Page2M => [0, count, 0],
        Align::Page1G => [0, 0, count],
    }
}

/// The entry behind one virtual address, from a walk of the page tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The size of the entry: `4K`, `2M` or `1G`; `None` when nothing is mapped.
    pub size: Option<String>,
    /// The physical address of the entry's first byte.
    pub phys: u64,
    /// One line a level, from the root: table and index, then the entry's bits.
    pub levels: Vec<String>,
}

impl Walk {
    /// Walks to `addr`.
    pub fn to(addr: usize) -> Result<Walk, String> {
        let mut buffer = [0; 1024];
        let fd = sys::open(c"/proc/self/pagewalk", libc::O_RDONLY)
            .map_err(|errno| format!("open /proc/self/pagewalk: {errno}"))?;
        let len = sys::pread(fd, &mut buffer, addr as u64);
        let _ = sys::close(fd);
        let len = len.map_err(|errno| format!("pread /proc/self/pagewalk at {addr:#x}: {errno}"))?;
        Walk::parse(&String::from_utf8_lossy(&buffer[..len.min(buffer.len())]))
    }

    /// The way down: `PML4[1] > PDPT[3] > PD[5]`.
    pub fn path(&self) -> String {
        let tables: Vec<&str> = self.levels.iter().filter_map(|level| level.split(' ').next()).collect();
        tables.join(" > ")
    }

    fn parse(text: &str) -> Result<Walk, String> {
        let mut levels: Vec<String> = text.lines().map(str::to_string).collect();
        let last = levels.pop().unwrap_or_default();
        if last == "not mapped" {
            return Ok(Walk { size: None, phys: 0, levels });
        }
        let words: Vec<&str> = last.split(' ').collect();
        let ["size", size, "phys", phys, ..] = words[..] else {
            return Err(format!("the walk ends in {last:?}, not in `size S phys P` or `not mapped`"));
        };
        let phys = u64::from_str_radix(phys.trim_start_matches("0x"), 16)
            .map_err(|_| format!("the walk's physical address is {phys:?}"))?;
        Ok(Walk { size: Some(size.to_string()), phys, levels })
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.size {
            Some(size) => write!(f, "{size} at {:#x}", self.phys),
            None => f.write_str("not mapped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_reads_the_size_and_the_address_of_the_leaf() {
        let text =
            "PML4[1] 0x1234067\nPDPT[3] 0x1235067\nPD[5] 0x1402000e7\nsize 2M phys 0x140200000 flags USER\n";
        let walk = Walk::parse(text).unwrap();
        assert_eq!((walk.size.as_deref(), walk.phys), (Some("2M"), 0x1_4020_0000));
        assert_eq!(walk.path(), "PML4[1] > PDPT[3] > PD[5]");
    }

    #[test]
    fn walk_to_a_hole_is_not_mapped() {
        assert_eq!(Walk::parse("PML4[1] 0\nnot mapped\n").unwrap().size, None);
        assert!(Walk::parse("size 2M").is_err());
    }
}
