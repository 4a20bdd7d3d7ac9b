//! Device-dax reference section 7: seeds S6 (file operations and mmap) and S7 (region, alignment).
//!
//! The number in a name is the seed's and the property's. What needs disabling (S6 5 and 6 in full) is in
//! `removal.rs`, what needs two tasks in `sharing.rs`, a second boot (S7 6) in the program `pattern`.

use guest::device::{Align, Device};
use guest::ensure;
use guest::fault::Touch;
use guest::kernel_view::{Counters, Walk, faults_at};
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, PAGE, RW};
use libc::{MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, PROT_READ};

use crate::Context;

/// A case of a device that is alive.
pub type Property = (&'static str, fn(&Device) -> Outcome);

/// Properties that any kernel can show.
const PLAIN: &[Property] = &[
    ("s6_1_the_descriptor_is_checked_first", bad_descriptor_first),
    ("s6_1_unknown_flag_is_refused_before_the_access", unknown_flag_before_access),
    ("s6_1_access_is_checked_before_the_alignment", access_before_alignment),
    ("s6_1_private_is_einval_at_every_length", private_is_einval),
    ("s6_1_misaligned_start_end_and_offset_are_einval", misaligned_is_einval),
    ("s6_1_no_room_is_enomem", no_room),
    ("s6_3_address_fits_the_offset_in_a_fragmented_space", aligned_in_fragments),
    ("s6_4_untouched_page_shows_the_media", untouched_shows_media),
    ("s6_4_two_mappings_see_each_others_stores", two_mappings),
    ("s6_5_mapping_outlives_its_descriptor", mapping_outlives_descriptor),
    ("s6_7_misaligned_munmap_and_mprotect_leave_the_mapping", misaligned_change),
    ("s7_1_size_is_a_multiple_of_the_alignment", size_is_multiple),
    ("s7_4_fstat_seek_and_last_byte_agree", size_agrees),
    ("s7_6_data_stay_when_unmapped", data_stay),
];

/// Properties that need the kernel's counters and walks.
const COUNTED: &[Property] = &[
    ("s6_2_one_entry_of_the_alignment_for_a_write", |d| entry_sizes(d, |m, at| m.store(at, 1))),
    ("s6_2_one_entry_of_the_alignment_for_a_read", |d| entry_sizes(d, |m, at| m.load(at))),
    ("s6_2_populate_fills_every_entry", populate_fills),
    ("s6_2_entry_is_gone_after_munmap_and_dontneed", entry_gone),
    ("s6_2_nothing_is_mapped_past_the_end", nothing_past_the_end),
    ("s6_7_refused_munmap_keeps_the_entry", refused_munmap_keeps_entry),
    ("s7_1_physical_start_is_a_multiple_of_the_alignment", physical_start),
    ("s7_2_faults_are_bytes_over_alignment_rounded_up", fault_counts),
    ("s7_2_a_second_run_takes_the_same_faults", same_faults_again),
];

/// The cases that need a device only.
pub fn cases() -> Vec<Case<Context>> {
    PLAIN.iter().map(case).collect()
}

/// The cases that need this kernel.
pub fn counted_cases() -> Vec<Case<Context>> {
    COUNTED.iter().map(case).collect()
}

/// A property as a case.
pub fn case(&(name, run): &Property) -> Case<Context> {
    let run = Box::new(move |context: &Context| run(context.device()?));
    Case { family: "dax", name: name.into(), run }
}

/// A mapping that the property needs before it begins.
pub fn need(mapping: Result<Mapping, Errno>) -> Result<Mapping, String> {
    mapping.map_err(|errno| format!("mmap: {errno}"))
}

fn refused(what: &str, answer: Result<Mapping, Errno>, errno: i32) -> Outcome {
    match answer {
        Err(Errno(number)) if number == errno => Ok(()),
        Err(other) => Err(format!("{what}: {other}, not {}", Errno(errno))),
        Ok(_) => Err(format!("{what}: mapped, not {}", Errno(errno))),
    }
}

fn bad_descriptor_first(device: &Device) -> Outcome {
    refused("fd 999, len 0", Mapping::new(0, 0, RW, MAP_SHARED, 999, 0), libc::EBADF)?;
    refused("len 0", device.map(0, 0), libc::EINVAL)
}

fn read_only_fd(device: &Device, len: usize, flags: i32) -> Result<Mapping, Errno> {
    let fd = sys::open(&device.path, libc::O_RDONLY)?;
    let mapping = Mapping::new(0, len, RW, flags, fd, 0);
    sys::close(fd).and(mapping)
}

fn unknown_flag_before_access(device: &Device) -> Outcome {
    const UNKNOWN: i32 = 1 << 25;
    let answer = read_only_fd(device, device.align, MAP_SHARED_VALIDATE | UNKNOWN);
    refused("SHARED_VALIDATE with bit 25", answer, libc::EOPNOTSUPP)?;
    need(device.map_as(0, device.align, RW, MAP_SHARED | UNKNOWN, 0)).map(drop)
}

fn access_before_alignment(device: &Device) -> Outcome {
    refused("O_RDONLY, RW, len 1", read_only_fd(device, 1, MAP_SHARED), libc::EACCES)
}

fn private_is_einval(device: &Device) -> Outcome {
    for len in [1, PAGE, device.align, device.size, device.size + device.align] {
        let answer = device.map_as(0, len, PROT_READ, MAP_PRIVATE, 0);
        refused(&format!("MAP_PRIVATE, len {len:#x}"), answer, libc::EINVAL)?;
    }
    Ok(())
}

fn misaligned_is_einval(device: &Device) -> Outcome {
    let align = device.align;
    let place = need(device.map(4 * align, 0))?.addr;
    let fixed = MAP_SHARED | MAP_FIXED;
    refused("start + 1", device.map_as(place + 1, align, RW, fixed, 0), libc::EINVAL)?;
    refused("offset + 1", device.map_as(place, align, RW, fixed, 1), libc::EINVAL)?;
    if device.alignment != Align::Page4K {
        refused("start + 4K", device.map_as(place + PAGE, align, RW, fixed, 0), libc::EINVAL)?;
        refused("end - 4K", device.map_as(place, align - PAGE, RW, fixed, 0), libc::EINVAL)?;
        // Linux lets this one pass and answers every touch with SIGBUS.
        refused("offset + 4K", device.map_as(place, align, RW, fixed, PAGE as u64), libc::EINVAL)?;
    }
    Ok(())
}

fn no_room(device: &Device) -> Outcome {
    refused("128 TiB", device.map(1 << 47, 0), libc::ENOMEM)?;
    refused("the whole address space", device.map(usize::MAX & !(device.align - 1), 0), libc::ENOMEM)?;
    let above = device.map_as(1 << 56, device.align, RW, MAP_SHARED | MAP_FIXED, 0);
    refused("MAP_FIXED at 2^56", above, libc::ENOMEM)
}

fn aligned_in_fragments(device: &Device) -> Outcome {
    let mut seed = 0x2545_f491_u32;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as usize
    };
    let mut fragments = Vec::new();
    for index in 0..200 {
        let len = (1 + random() % 700) * PAGE;
        fragments.push(need(Mapping::new(0, len, libc::PROT_NONE, sys::ANON, -1, 0))?);
        if index % 3 == 2 {
            drop(fragments.swap_remove(random() % fragments.len()));
        }
    }
    let units = device.size / device.align;
    let mut live = Vec::new();
    for _ in 0..24 {
        let off = random() % units * device.align;
        let len = (1 + random() % 3) * device.align;
        let mapping = need(device.map(len, off))?;
        ensure!(mapping.addr.is_multiple_of(device.align), "offset {off:#x} came to {:#x}", mapping.addr);
        ensure!(mapping.store(0, 9).is_done(), "offset {off:#x}: the first byte is not there");
        live.push(mapping);
    }
    Ok(())
}

fn untouched_shows_media(device: &Device) -> Outcome {
    let units = [0, device.size / device.align / 2, device.size / device.align - 1];
    for (index, unit) in units.into_iter().enumerate() {
        let byte = 0x30 + index as u8;
        let at = unit * device.align;
        ensure!(need(device.map(device.align, at))?.store(123, byte).is_done(), "store at {at:#x}");
        let again = need(device.map(device.align, at))?.load(123);
        ensure!(again == Touch::Done(byte), "unit {unit} reads {again:?}, was written {byte:#x}");
    }
    Ok(())
}

fn two_mappings(device: &Device) -> Outcome {
    let one = need(device.map(2 * device.align, 0))?;
    let two = need(device.map(device.align, device.align))?;
    for byte in [1, 2, 255] {
        one.store(device.align + 7, byte);
        ensure!(two.load(7) == Touch::Done(byte), "the second mapping lacks {byte}");
        two.store(8, byte);
        ensure!(one.load(device.align + 8) == Touch::Done(byte), "the first mapping lacks {byte}");
    }
    Ok(())
}

fn mapping_outlives_descriptor(device: &Device) -> Outcome {
    let fd = sys::open(&device.path, libc::O_RDWR).map_err(|errno| format!("open: {errno}"))?;
    let mapping = need(Mapping::new(0, device.align, RW, MAP_SHARED, fd, 0))?;
    sys::close(fd).map_err(|errno| format!("close: {errno}"))?;
    ensure!(mapping.store(0, 3).is_done() && mapping.load(0) == Touch::Done(3), "the mapping went away");
    Ok(())
}

/// munmap, mprotect and madvise that split an alignment: one name, one call each.
fn splitting_calls(m: &Mapping, device: &Device) -> Vec<(&'static str, Result<(), Errno>)> {
    let mut calls = vec![("munmap addr+1", sys::munmap(m.addr + 1, device.align))];
    calls.push(("mprotect addr+1", sys::mprotect(m.addr + 1, device.align, PROT_READ)));
    if device.alignment != Align::Page4K {
        let align = device.align;
        calls.push(("munmap first 4K", sys::munmap(m.addr, PAGE)));
        calls.push(("munmap last 4K", sys::munmap(m.addr + m.len - PAGE, PAGE)));
        calls.push(("munmap align+4K", sys::munmap(m.addr, align + PAGE)));
        calls.push(("mprotect first 4K", sys::mprotect(m.addr, PAGE, PROT_READ)));
        calls.push(("mprotect half", sys::mprotect(m.addr + align / 2, align, PROT_READ)));
    }
    calls
}

fn misaligned_change(device: &Device) -> Outcome {
    let mapping = need(device.map(2 * device.align, 0))?;
    let marks = [0, PAGE - 1, device.align - 1, device.align, 2 * device.align - 1];
    let byte_at = |mark: usize| (mark % 251) as u8;
    for mark in marks {
        mapping.store(mark, byte_at(mark));
    }
    for (what, answer) in splitting_calls(&mapping, device) {
        ensure!(answer == Err(Errno(libc::EINVAL)), "{what}: {answer:?}, not EINVAL");
    }
    for mark in marks {
        let byte = mapping.load(mark);
        ensure!(byte == Touch::Done(byte_at(mark)), "byte {mark:#x} is {byte:?}");
        ensure!(mapping.store(mark, byte_at(mark)).is_done(), "byte {mark:#x} is no longer writable");
    }
    Ok(())
}

fn size_is_multiple(device: &Device) -> Outcome {
    ensure!(device.size >= 4 * device.align, "{} bytes: these cases need 4 alignments", device.size);
    ensure!(
        device.size.is_multiple_of(device.align),
        "{} bytes are not a multiple of {}",
        device.size,
        device.align
    );
    Ok(())
}

fn size_agrees(device: &Device) -> Outcome {
    let stat = sys::fstat(device.fd).map_err(|errno| format!("fstat: {errno}"))?.st_size as usize;
    let seek = sys::lseek(device.fd, 0, libc::SEEK_END).map_err(|errno| format!("lseek: {errno}"))?;
    ensure!(stat == device.size && seek == stat, "fstat {stat}, SEEK_END {seek}, device {}", device.size);
    let mapping = need(device.map(2 * device.align, device.size - device.align))?;
    let (last, past) = (mapping.load(device.align - 1), mapping.load(device.align));
    ensure!(last.is_done(), "the last byte answers {last}");
    ensure!(past.to_string() == "SIGBUS/ADRERR", "the byte behind the last answers {past}");
    let Touch::Faulted(fault) = past else { return Ok(()) };
    ensure!(fault.addr == mapping.addr + device.align, "si_addr is {:#x}", fault.addr);
    Ok(())
}

fn data_stay(device: &Device) -> Outcome {
    let offsets = (0..16).map(|step| device.size / 16 * step + 1000 + step);
    let byte = |offset: usize| (offset >> 7) as u8 ^ offset as u8;
    let whole = need(device.map(device.size, 0))?;
    for offset in offsets.clone() {
        whole.store(offset, byte(offset));
    }
    drop(whole);
    let whole = need(device.map(device.size, 0))?;
    for offset in offsets {
        let found = whole.load(offset);
        ensure!(found == Touch::Done(byte(offset)), "byte {offset:#x} is {found:?}");
    }
    Ok(())
}

/// Touches the first, a middle and the last alignment and walks to bytes in them.
fn entry_sizes(device: &Device, touch: fn(&Mapping, usize) -> Touch) -> Outcome {
    let whole = need(device.map(device.size, 0))?;
    let last = device.size / device.align - 1;
    let mut start = None;
    for unit in [last, 0, last.div_ceil(2)] {
        let at = unit * device.align;
        ensure!(Walk::to(whole.addr + at)?.size.is_none(), "unit {unit} is mapped before its first touch");
        let before = Counters::read()?;
        ensure!(touch(&whole, at + device.align / 2 + 1).is_done(), "touch in unit {unit}");
        let taken = Counters::read()?.faults_since(&before);
        ensure!(taken == faults_at(device.alignment, 1), "unit {unit} took faults {taken:?} (4K, 2M, 1G)");
        for inside in [0, device.align - 1] {
            let walk = Walk::to(whole.addr + at + inside)?;
            let wanted = device.alignment.to_string();
            ensure!(walk.size.as_deref() == Some(wanted.as_str()), "unit {unit}: {walk} by {}", walk.path());
            let base = walk.phys.wrapping_sub(at as u64);
            ensure!(*start.get_or_insert(base) == base, "unit {unit} is at {:#x}: not linear", walk.phys);
        }
    }
    ensure!(Walk::to(whole.addr + device.align)?.size.is_none(), "unit 1 was never touched");
    Ok(())
}

/// At most this many alignments are looked at one by one.
const MANY: usize = 512;

fn populate_fills(device: &Device) -> Outcome {
    let units = (device.size / device.align).min(MANY);
    let flags = MAP_SHARED | libc::MAP_POPULATE;
    let mapping = need(device.map_as(0, units * device.align, RW, flags, 0))?;
    let wanted = device.alignment.to_string();
    let before = Counters::read()?;
    for unit in 0..units {
        ensure!(mapping.store(unit * device.align, 1).is_done(), "store to unit {unit}");
        if unit % 64 == 0 {
            let walk = Walk::to(mapping.addr + unit * device.align)?;
            ensure!(walk.size.as_deref() == Some(wanted.as_str()), "unit {unit}: {walk}");
        }
    }
    let taken = Counters::read()?.faults_since(&before);
    ensure!(taken == [0; 3], "touching after MAP_POPULATE took faults {taken:?} (4K, 2M, 1G)");
    Ok(())
}

fn entry_gone(device: &Device) -> Outcome {
    let mapping = need(device.map(2 * device.align, 0))?;
    mapping.store(0, 1);
    mapping.store(device.align, 1);
    sys::munmap(mapping.addr, device.align).map_err(|errno| format!("munmap: {errno}"))?;
    ensure!(Walk::to(mapping.addr)?.size.is_none(), "mapped after munmap");
    ensure!(Walk::to(mapping.addr + device.align)?.size.is_some(), "the second unit went with the first");
    sys::madvise(mapping.addr + device.align, device.align, libc::MADV_DONTNEED)
        .map_err(|errno| format!("madvise: {errno}"))?;
    ensure!(Walk::to(mapping.addr + device.align)?.size.is_none(), "mapped after MADV_DONTNEED");
    Ok(())
}

fn nothing_past_the_end(device: &Device) -> Outcome {
    let mapping = need(device.map(2 * device.align, device.size - device.align))?;
    let before = Counters::read()?;
    ensure!(!mapping.load(device.align).is_done(), "a load past the end worked");
    let taken = Counters::read()?.faults_since(&before);
    ensure!(taken == [0; 3], "it installed {taken:?} (4K, 2M, 1G)");
    ensure!(Walk::to(mapping.addr + device.align)?.size.is_none(), "an entry past the end");
    Ok(())
}

fn refused_munmap_keeps_entry(device: &Device) -> Outcome {
    let mapping = need(device.map(2 * device.align, 0))?;
    mapping.store(0, 1);
    mapping.store(device.align, 1);
    let (walks, before) = (both(&mapping, device)?, Counters::read()?);
    splitting_calls(&mapping, device);
    ensure!(both(&mapping, device)? == walks, "the entries changed");
    mapping.store(0, 2);
    mapping.store(device.align, 2);
    let taken = Counters::read()?.faults_since(&before);
    ensure!(taken == [0; 3], "stores after the refusals took faults {taken:?} (4K, 2M, 1G)");
    Ok(())
}

fn both(mapping: &Mapping, device: &Device) -> Result<[Walk; 2], String> {
    Ok([Walk::to(mapping.addr)?, Walk::to(mapping.addr + device.align)?])
}

fn physical_start(device: &Device) -> Outcome {
    let mapping = need(device.map(device.align, 0))?;
    mapping.load(0);
    let walk = Walk::to(mapping.addr)?;
    ensure!(
        walk.size.is_some() && walk.phys.is_multiple_of(device.align as u64),
        "the device begins at {walk}"
    );
    Ok(())
}

/// Faults of touching every page of the first `len` bytes of a fresh mapping.
fn faults_of(device: &Device, len: usize) -> Result<[u64; 3], String> {
    let mapping = need(device.map(len.next_multiple_of(device.align), 0))?;
    let before = Counters::read()?;
    for at in (0..len).step_by(PAGE) {
        ensure!(mapping.store(at, 1).is_done(), "store at {at:#x}");
    }
    Ok(Counters::read()?.faults_since(&before))
}

fn lengths(device: &Device) -> [usize; 6] {
    let align = device.align;
    [1, align - 1, align, align + 1, 2 * align + PAGE, 3 * align]
}

fn fault_counts(device: &Device) -> Outcome {
    for len in lengths(device) {
        let taken = faults_of(device, len)?;
        let wanted = faults_at(device.alignment, len.div_ceil(device.align) as u64);
        ensure!(taken == wanted, "{len:#x} bytes took {taken:?} (4K, 2M, 1G), not {wanted:?}");
    }
    Ok(())
}

fn same_faults_again(device: &Device) -> Outcome {
    for len in lengths(device) {
        let (first, second) = (faults_of(device, len)?, faults_of(device, len)?);
        ensure!(first == second, "{len:#x} bytes took {first:?}, then {second:?}");
    }
    Ok(())
}
