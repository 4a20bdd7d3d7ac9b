use super::*;
use alloc::vec;
use mm::range::USER_END;

const FILE_BYTES: usize = 0x3000;

/// A program header: type, flags, offset, address, bytes in the file, bytes in memory.
#[derive(Clone, Copy)]
struct Header(u32, u32, u64, u64, u64, u64);

const TEXT: Header = Header(abi::PT_LOAD, 5, 0, 0x40_0000, 0x1800, 0x1800);
const DATA: Header = Header(abi::PT_LOAD, 6, 0x2800, 0x60_2800, 0x100, 0x5000);

fn file(e_type: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut bytes = vec![0; FILE_BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &e_type.to_le_bytes());
    put(18, &abi::EM_X86_64.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &(headers.len() as u16).to_le_bytes());
    for (index, &Header(kind, flags, offset, address, file_bytes, memory_bytes)) in headers.iter().enumerate()
    {
        let at = 64 + index * 56;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (word, value) in [offset, address, address, file_bytes, memory_bytes, 0x1000].iter().enumerate() {
            put(at + 8 + word * 8, &value.to_le_bytes());
        }
    }
    bytes
}

fn parse(bytes: Vec<u8>) -> Result<Plan<'static>, ImageError> {
    Plan::parse(bytes.leak())
}

fn fixed(headers: &[Header]) -> Result<Plan<'static>, ImageError> {
    parse(file(abi::ET_EXEC, 0x40_1000, headers))
}

#[test]
fn a_fixed_program_becomes_its_segments() {
    let plan = fixed(&[DATA, TEXT, Header(abi::PT_GNU_STACK, 6, 0, 0, 0, 0)]).unwrap();
    assert_eq!(plan.kind, Kind::Fixed);
    assert_eq!(plan.segments.len(), 2);
    assert_eq!(plan.segments[0].address, 0x40_0000);
    assert_eq!(plan.segments[0].prot, Prot::READ | Prot::EXEC);
    assert_eq!(plan.segments[1].memory_bytes, 0x5000);
    assert_eq!((plan.low(), plan.high()), (0x40_0000, 0x60_8000));
    assert_eq!(plan.headers, Some(0x40_0040));
    assert_eq!(plan.header_count, 3);
    assert_eq!(plan.bias(0x5555_5540_0000), 0);
    assert!(!plan.wants_executable_stack);
}

#[test]
fn a_movable_program_may_start_at_zero_and_moves_by_its_alignment() {
    let text = Header(abi::PT_LOAD, 5, 0, 0, 0x1800, 0x1800);
    let plan = parse(file(abi::ET_DYN, 0x1000, &[text])).unwrap();
    assert_eq!(plan.kind, Kind::PositionIndependent);
    assert_eq!(plan.bias(0x5555_5540_0123), 0x5555_5540_0000);
    assert_eq!(plan.headers, Some(0x40));
    assert_eq!(
        parse(file(abi::ET_EXEC, 0x1000, &[text])),
        Err(ImageError::Address { address: 0, memory_bytes: 0x1800 })
    );
}

#[test]
fn files_for_other_machines_are_refused() {
    let good = file(abi::ET_EXEC, 0x40_1000, &[TEXT]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        parse(bytes)
    };
    assert_eq!(with(0, b'#'), Err(ImageError::Magic(*b"#ELF")));
    assert_eq!(with(4, 1), Err(ImageError::Class(1)));
    assert_eq!(with(5, 2), Err(ImageError::ByteOrder(2)));
    assert_eq!(with(6, 0), Err(ImageError::Version(0)));
    assert_eq!(with(16, 1), Err(ImageError::Type(1)));
    assert_eq!(with(18, 183), Err(ImageError::Machine(183)));
    assert_eq!(with(54, 32), Err(ImageError::HeaderSize(32)));
    assert_eq!(with(56, 0), Err(ImageError::HeaderCount(0)));
    assert_eq!(with(57, 0xff), Err(ImageError::HeaderCount(0xff01)));
}

#[test]
fn truncated_files_are_refused() {
    let good = file(abi::ET_EXEC, 0x40_1000, &[TEXT, DATA]);
    assert!(Plan::parse(&good).is_ok());
    for len in 0..0x2900 {
        assert!(Plan::parse(&good[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn segments_that_cannot_be_mapped_are_refused() {
    let load = |flags, offset, address, file_bytes, memory_bytes| {
        fixed(&[TEXT, Header(abi::PT_LOAD, flags, offset, address, file_bytes, memory_bytes)])
    };
    assert_eq!(load(7, 0, 0x60_0000, 1, 1), Err(ImageError::WritableAndExecutable { address: 0x60_0000 }));
    assert_eq!(
        load(6, 0, 0x60_0000, 2, 1),
        Err(ImageError::FileLargerThanMemory { address: 0x60_0000, file_bytes: 2, memory_bytes: 1 })
    );
    assert_eq!(
        load(6, 0x2000, 0x60_0000, 0x1001, 0x1001),
        Err(ImageError::BeyondFile { offset_bytes: 0x2000, file_bytes: 0x1001, len_bytes: 0x3000 })
    );
    assert!(matches!(load(6, u64::MAX, 0x60_0fff, 1, 1), Err(ImageError::BeyondFile { .. })));
    assert_eq!(
        load(6, 1, 0x60_0000, 1, 1),
        Err(ImageError::Congruence { address: 0x60_0000, offset_bytes: 1 })
    );
    for address in [0, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0000_0000, !0xfff] {
        assert_eq!(
            load(6, 0, address, 0, 0x1000),
            Err(ImageError::Address { address, memory_bytes: 0x1000 })
        );
    }
    assert!(matches!(load(6, 0, 0x60_0000, 0, u64::MAX), Err(ImageError::Address { .. })));
    assert_eq!(load(6, 0, 0x40_1000, 0, 1), Err(ImageError::Overlap { first: 0x40_0000, second: 0x40_1000 }));
}

#[test]
fn an_image_without_code_is_refused() {
    assert_eq!(fixed(&[Header(abi::PT_GNU_STACK, 6, 0, 0, 0, 0)]), Err(ImageError::NoSegment));
    assert_eq!(fixed(&[Header(abi::PT_LOAD, 5, 0, 0x40_0000, 0, 0)]), Err(ImageError::NoSegment));
    assert_eq!(fixed(&[DATA]), Err(ImageError::Entry { address: 0x40_1000 }));
    let plan = parse(file(abi::ET_EXEC, 0x40_1800, &[TEXT]));
    assert_eq!(plan, Err(ImageError::Entry { address: 0x40_1800 }));
}

#[test]
fn alignments_and_spans_without_sense_are_refused() {
    let mut bytes = file(abi::ET_EXEC, 0x40_1000, &[TEXT]);
    bytes[64 + 48..64 + 56].copy_from_slice(&0x3000u64.to_le_bytes());
    assert_eq!(parse(bytes), Err(ImageError::Align { address: 0x40_0000, align_bytes: 0x3000 }));
    let far = Header(abi::PT_LOAD, 6, 0, 0x7000_0000_0000, 0, 0x1000);
    let plan = parse(file(abi::ET_DYN, 0x40_1000, &[TEXT, far]));
    assert_eq!(plan, Err(ImageError::Span { bytes: 0x7000_0000_1000 - 0x40_0000 }));
}

#[test]
fn the_interpreter_is_a_path_that_ends_in_the_file() {
    let with = |offset, len, path: &[u8]| {
        let mut bytes = file(abi::ET_DYN, 0x40_1000, &[Header(abi::PT_INTERP, 4, offset, 0, len, len), TEXT]);
        bytes[0x2000..0x2000 + path.len()].copy_from_slice(path);
        parse(bytes).map(|plan| plan.interpreter.map(alloc::string::String::from))
    };
    let path = "/lib64/ld-linux-x86-64.so.2";
    assert_eq!(with(0x2000, 28, b"/lib64/ld-linux-x86-64.so.2\0"), Ok(Some(path.into())));
    for (offset, len, path) in [
        (0x2000, 28, &b"/lib64/ld-linux-x86-64.so.2/"[..]),
        (0x2000, 28, b"/lib64\0"),
        (0x2000, 3, b"/\xff\0"),
        (0x2000, 1, b"\0"),
        (0x2000, 0, b""),
        (0x2fff, 2, b""),
        (u64::MAX, u64::MAX, b""),
    ] {
        let error = ImageError::Interpreter { offset_bytes: offset, len_bytes: len };
        assert_eq!(with(offset, len, path), Err(error));
    }
}

#[test]
fn flipped_bytes_in_the_headers_never_panic() {
    let good = file(abi::ET_DYN, 0x40_1000, &[TEXT, DATA]);
    for at in 0..64 + 2 * 56 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            if let Ok(plan) = parse(bytes) {
                assert!(plan.low() < plan.high());
                assert!(plan.segments.iter().all(|segment| segment.end() <= USER_END));
            }
        }
    }
}
