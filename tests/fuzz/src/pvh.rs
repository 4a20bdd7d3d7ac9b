//! The PVH start_info, the memory map and the command line that come with it.

use crate::{Numbers, Target, line, number, shape};
use entry::start_info::{MAX_COMMAND_LINE, MAX_MAP_ENTRIES};
use entry::{BootInfo, MemoryMapEntry, PhysicalMemory};
use kernel::command_line::CommandLine;
use mm::memory_map::MemoryMap;
use mm::range::{PAGE_SIZE, PhysRange};

/// What stands before the memory in an input: the address of start_info, u64.
const PREFIX_BYTES: usize = 8;

/// An input is the address of start_info and the physical memory from 0 on.
pub static PVH: Target = Target {
    name: "pvh",
    check: check_pvh,
    pieces,
    seal: |_| {},
    numbers: Numbers::Binary,
    max_bytes: PREFIX_BYTES + 8192,
};

struct Memory<'a>(&'a [u8]);

impl PhysicalMemory for Memory<'_> {
    fn bytes(&self, start: u64, len: u64) -> Option<&[u8]> {
        let end = start.checked_add(len)?;
        self.0.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// Checks what [`BootInfo::parse`] reads, and what memory map and command line become of it.
pub fn check_pvh(input: &[u8]) -> Vec<String> {
    let memory = Memory(input.get(PREFIX_BYTES..).unwrap_or_default());
    let start_info = number::<8>(input, 0).unwrap_or(0);
    let info = match BootInfo::parse(&memory, start_info) {
        Ok(info) => info,
        Err(error) => return vec![shape(&line(&error))],
    };
    let claimed = number::<4>(memory.0, start_info as usize + 48).expect("start_info was read");
    let entries: Vec<_> = info.memory_map().collect();
    assert_eq!(entries.len() as u64 + u64::from(info.dropped_map_entries), claimed);
    assert!(entries.len() <= MAX_MAP_ENTRIES && !entries.is_empty());
    assert!(info.command_line.len() <= MAX_COMMAND_LINE && !info.command_line.contains(&0));
    assert_ne!(info.rsdp, Some(0));

    let mut map = MemoryMap::new(entries.iter().map(|entry| (entry.start, entry.len_bytes, entry.kind)));
    check_memory_map(&map, &entries);
    let mut shapes = vec![
        format!("rsdp {}, initrd {}", info.rsdp.is_some(), info.initrd.is_some()),
        format!("more modules {}", info.extra_modules > 0),
        format!("map entries dropped {}", info.dropped_map_entries > 0),
        format!("RAM dropped {}, ranges {}", map.dropped().0 > 0, map.ram().count().min(8)),
    ];
    if let Some(initrd) = info.initrd {
        map.carve(initrd, "the initrd").expect("nothing else is claimed");
        assert!(map.ram().all(|ram| !ram.overlaps(initrd)), "{initrd} is still free");
        assert!(map.reserve(initrd, "twice").is_err_and(|error| !line(&error).is_empty()));
    }
    shapes.extend(check_command_line(&String::from_utf8_lossy(info.command_line)));
    shapes
}

/// RAM is what some entry gives and none takes.
fn check_memory_map(map: &MemoryMap, entries: &[MemoryMapEntry]) {
    let ram: Vec<PhysRange> = map.ram().collect();
    assert!(ram.is_sorted_by(|one, next| one.end() < next.start().as_u64()), "{ram:?} touch or overlap");
    assert_eq!(map.total_bytes(), ram.iter().map(|range| range.len_bytes()).sum::<u64>());
    let given = |address: u64| {
        entries
            .iter()
            .any(|entry| entry.kind == 1 && entry.start <= address && u128::from(address) < end(entry))
    };
    // The first entry that takes a byte of `range`.
    let taken = |range: PhysRange| {
        let mut others = entries.iter().filter(|entry| entry.kind != 1 && entry.len_bytes > 0);
        others.find(|other| other.start < range.end() && end(other) > range.start().as_u64().into())
    };
    for range in &ram {
        let (first, last) = (range.start().as_u64(), range.end() - 1);
        assert!(first % PAGE_SIZE == 0 && range.end() % PAGE_SIZE == 0, "{range} is not whole pages");
        assert!(given(first) && given(last), "no entry gives all of {range}");
        assert_eq!(taken(*range), None, "{range} is not all RAM");
    }
    if map.dropped().0 == 0 {
        for entry in entries.iter().filter(|entry| entry.kind == 1 && entry.len_bytes >= 2 * PAGE_SIZE) {
            // An entry that does not end within 52 bits would count as dropped.
            let page = PhysRange::new(entry.start.next_multiple_of(PAGE_SIZE), PAGE_SIZE);
            let free = page.filter(|page| taken(*page).is_none());
            let lost = free.filter(|page| !ram.iter().any(|range| range.contains(*page)));
            assert_eq!(lost, None, "a page of {entry:x?} is lost");
        }
    }
}

/// The first address behind an entry, which may wrap.
fn end(entry: &MemoryMapEntry) -> u128 {
    u128::from(entry.start) + u128::from(entry.len_bytes)
}

fn check_command_line(text: &str) -> Vec<String> {
    match CommandLine::parse(text) {
        Ok(line) => {
            let words = [line.init.len(), line.arguments.len(), line.regions.len(), line.unknown.len()];
            let words: usize = words.iter().sum();
            assert!(words <= text.len(), "{words} words of {text:?}");
            vec![
                format!("align {:?}, init {}", line.align, line.init.len().min(3)),
                format!("arguments {}, unknown {}", line.arguments.len().min(3), line.unknown.len().min(3)),
                format!("regions {}, raw {}", line.regions.len().min(3), line.force_raw),
            ]
        }
        Err(error) => {
            // The option is the user's text, behind it stands what would be accepted.
            let message = error.to_string();
            let (_, expected) =
                message.rsplit_once(": expected ").expect("the message says what is expected");
            vec![format!("command line: expected {expected}")]
        }
    }
}

/// The prefix, start_info, and what it points to.
fn pieces(input: &[u8]) -> Vec<usize> {
    let at = |address: u64| usize::try_from(address).ok()?.checked_add(PREFIX_BYTES);
    let info = number::<8>(input, 0).and_then(at).filter(|info| *info < input.len());
    let pointers =
        info.into_iter().flat_map(|info| [16, 24, 40].map(|field| number::<8>(input, info + field)));
    let mut starts: Vec<usize> = pointers.flatten().filter_map(at).chain(info).chain([0]).collect();
    starts.retain(|start| *start <= input.len());
    starts.sort_unstable();
    starts.dedup();
    starts
}
