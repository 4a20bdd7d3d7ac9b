//! ELF files: what is accepted can be mapped, is never writable code, and starts in code.

use crate::{Numbers, Target, line, number, shape};
use kernel::linux::image::{Kind, Plan, Segment};
use mm::pager::Prot;
use mm::range::{PAGE_SIZE, USER_END};

const FILE_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;

/// Where movable programs are put: as low and as high as the kernel ever puts one.
const PLACES: [u64; 3] = [USER_END / 3 * 2, USER_END / 3 * 2 + 0x12_3456_7000, USER_END / 3 * 2 + (1 << 40)];

/// An input is a file.
pub static ELF: Target =
    Target { name: "elf", check: check_elf, pieces, seal, numbers: Numbers::Binary, max_bytes: 16 << 10 };

/// Checks what [`Plan::parse`] accepts.
pub fn check_elf(input: &[u8]) -> Vec<String> {
    let plan = match Plan::parse(input) {
        Ok(plan) => plan,
        Err(error) => return vec![shape(&line(&error))],
    };
    assert!(!plan.segments.is_empty());
    plan.segments.iter().for_each(|segment| check_segment(segment, plan.kind, input.len()));
    assert!(
        plan.segments.is_sorted_by(|one, next| pages(one).1 <= pages(next).0),
        "segments share a page: {plan:x?}"
    );
    let in_code = |segment: &Segment| {
        segment.prot.contains(Prot::EXEC) && segment.address <= plan.entry && plan.entry < segment.end()
    };
    assert!(plan.segments.iter().any(in_code), "entry {:#x} is not in code: {plan:x?}", plan.entry);
    if let Some(headers) = plan.headers {
        let end = headers + u64::from(plan.header_count) * PROGRAM_HEADER_BYTES as u64;
        let in_file =
            |segment: &Segment| segment.address <= headers && end <= segment.address + segment.file_bytes;
        assert!(plan.segments.iter().any(in_file), "program headers at {headers:#x}: {plan:x?}");
    }
    PLACES.into_iter().for_each(|place| check_placed(&plan, place));
    let Plan { kind, headers, wants_executable_stack, .. } = plan;
    vec![
        format!("{kind:?}, {} segments", plan.segments.len().min(5)),
        format!("{kind:?}, headers {}, executable stack {wants_executable_stack}", headers.is_some()),
        format!("{kind:?}, alignment 2^{}", plan.align_bytes.ilog2()),
    ]
}

fn check_segment(segment: &Segment, kind: Kind, file_bytes: usize) {
    let Segment { address, offset_bytes, prot, .. } = *segment;
    assert!(!prot.contains(Prot::WRITE | Prot::EXEC), "writable code: {segment:x?}");
    assert!(segment.memory_bytes >= segment.file_bytes.max(1), "{segment:x?}");
    let file_end = offset_bytes.checked_add(segment.file_bytes);
    assert!(file_end.is_some_and(|end| end <= file_bytes as u64), "beyond the file: {segment:x?}");
    let end = address.checked_add(segment.memory_bytes);
    assert!(end.is_some_and(|end| end <= USER_END), "above user memory: {segment:x?}");
    assert!(kind == Kind::PositionIndependent || address >= PAGE_SIZE, "on the null page: {segment:x?}");
    assert_eq!(address % PAGE_SIZE, offset_bytes % PAGE_SIZE, "cannot be mapped: {segment:x?}");
}

/// First and end of the pages of a segment.
fn pages(segment: &Segment) -> (u64, u64) {
    (segment.address / PAGE_SIZE * PAGE_SIZE, segment.end().next_multiple_of(PAGE_SIZE))
}

/// A movable image lies at `place` or less than its alignment below, a fixed one where it wants.
fn check_placed(plan: &Plan, place: u64) {
    let bias = plan.bias(place);
    if plan.kind == Kind::Fixed {
        return assert_eq!(bias, 0);
    }
    assert_eq!(bias % plan.align_bytes, 0, "bias {bias:#x}: {plan:x?}");
    let low = plan.low().wrapping_add(bias);
    assert!(low <= place && place - low < plan.align_bytes, "placed at {low:#x}: {plan:x?}");
    let high = plan.high().wrapping_add(bias);
    assert!(low < high && high <= USER_END, "[{low:#x}-{high:#x}]: {plan:x?}");
}

/// The file header, each program header, the rest.
fn pieces(input: &[u8]) -> Vec<usize> {
    let table = number::<8>(input, 32).and_then(|offset| usize::try_from(offset).ok());
    let count = number::<2>(input, 56).unwrap_or(0).min(64) as usize;
    let headers = table.into_iter().flat_map(|table| {
        (0..=count).filter_map(move |which| table.checked_add(which * PROGRAM_HEADER_BYTES))
    });
    let inside = headers.filter(|at| (FILE_HEADER_BYTES..=input.len()).contains(at));
    [0].into_iter().chain(inside).collect()
}

/// Makes what identifies the file right: behind it is what is worth a try.
fn seal(input: &mut [u8]) {
    if let Some(header) = input.get_mut(..FILE_HEADER_BYTES) {
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        header[18..20].copy_from_slice(&62u16.to_le_bytes());
        header[54..56].copy_from_slice(&(PROGRAM_HEADER_BYTES as u16).to_le_bytes());
    }
}
