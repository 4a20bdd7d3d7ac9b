//! What a program finds on its stack at its first instruction: argc, argv, envp, the auxiliary vector.
//!
//! Sources: AMD64 psABI 3.4.1 and Linux fs/binfmt_elf.c, `create_elf_tables`. From the top down: 8 zero
//! bytes, the program's path, the environment's strings, the arguments' strings; the platform string and 16
//! random bytes; the auxiliary vector, envp, argv, argc. The stack pointer is a multiple of 16.

use alloc::vec::Vec;
use core::ops::Range;
use linux_raw_sys::auxvec;
use mm::range::PAGE_SIZE;
use thiserror::Error;

/// Most bytes of strings and pointers that a program can be started with: a quarter of its stack (Linux).
pub const MAX_ARGUMENT_BYTES: u64 = 2 << 20;

/// Clock ticks a second that times(2) counts in (AT_CLKTCK; Linux's USER_HZ).
pub const CLOCK_TICKS: u64 = 100;
const PLATFORM: &[u8] = b"x86_64\0";

/// What the auxiliary vector says about the program and the machine.
pub struct Auxiliary {
    /// Where the program headers are in memory; 0 when they are not.
    pub headers: u64,
    /// Their count.
    pub header_count: u16,
    /// How far the dynamic loader was moved; 0 without one.
    pub interpreter_base: u64,
    /// The program's first instruction, which its loader goes to.
    pub entry: u64,
    /// CPUID leaf 1, EDX.
    pub hwcap: u64,
    /// Bytes of stack that a signal takes at most.
    pub signal_stack_bytes: u64,
    /// For stack protectors.
    pub random: [u8; 16],
}

/// The top of a new stack.
#[derive(Debug)]
pub struct InitialStack {
    /// Where `bytes` go, and the program's first stack pointer.
    pub pointer: u64,
    /// From `pointer` to the top of the stack.
    pub bytes: Vec<u8>,
    /// Where in `bytes` the auxiliary vector is.
    pub auxv: Range<usize>,
    /// Where the arguments' strings are, one behind the other.
    pub arguments: Range<u64>,
    /// The same of the environment.
    pub environment: Range<u64>,
}

/// The arguments and the environment are too long (E2BIG).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("arguments and environment take {len_bytes} bytes; at most {MAX_ARGUMENT_BYTES} fit")]
pub struct TooLong {
    /// Bytes with all pointers.
    pub len_bytes: u64,
}

impl InitialStack {
    /// Lays out the stack that ends at `top`, a multiple of the page size well above [`MAX_ARGUMENT_BYTES`]: for the
    /// program at `path`, with arguments and `NAME=value` strings, all without NULs.
    pub fn build(
        top: u64,
        path: &[u8],
        argv: &[Vec<u8>],
        envp: &[Vec<u8>],
        auxiliary: &Auxiliary,
    ) -> Result<InitialStack, TooLong> {
        // With their NULs and pointers.
        let strings = argv.iter().chain(envp).map(|string| string.len() as u64 + 9);
        let len_bytes = strings.sum::<u64>() + path.len() as u64;
        if len_bytes > MAX_ARGUMENT_BYTES {
            return Err(TooLong { len_bytes });
        }
        let mut strings = Vec::new();
        let argv = push_strings(&mut strings, argv);
        let arguments_len = strings.len() as u64;
        let envp = push_strings(&mut strings, envp);
        let environment_end = strings.len() as u64;
        let path = push_string(&mut strings, path);
        strings.extend_from_slice(&[0; 8]);
        let strings_start = top - strings.len() as u64;

        let random_start = (strings_start - (16 + PLATFORM.len() as u64)) & !15;
        let platform_start = random_start + 16;
        let auxv = auxiliary.vector(strings_start + path, platform_start, random_start);

        let mut words = Vec::with_capacity(argv.len() + envp.len() + auxv.len() * 2 + 4);
        words.push(argv.len() as u64);
        words.extend(argv.iter().map(|offset| strings_start + offset));
        words.push(0);
        words.extend(envp.iter().map(|offset| strings_start + offset));
        words.push(0);
        words.extend(auxv.iter().flat_map(|&(kind, value)| [u64::from(kind), value]));
        let auxv = (words.len() - auxv.len() * 2) * 8..words.len() * 8;
        let pointer = (random_start - words.len() as u64 * 8) & !15;

        let mut bytes = Vec::with_capacity((top - pointer) as usize);
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.resize((random_start - pointer) as usize, 0);
        bytes.extend_from_slice(&auxiliary.random);
        bytes.extend_from_slice(PLATFORM);
        bytes.resize((strings_start - pointer) as usize, 0);
        bytes.append(&mut strings);
        let environment = strings_start + arguments_len..strings_start + environment_end;
        let arguments = strings_start..environment.start;
        Ok(InitialStack { pointer, bytes, auxv, arguments, environment })
    }

    /// Bytes that the stack must have at its first instruction: what is on it and 128 KiB, in whole pages.
    pub fn mapped_bytes(&self) -> u64 {
        (self.bytes.len() as u64 + (128 << 10)).next_multiple_of(PAGE_SIZE)
    }
}

impl Auxiliary {
    /// The vector in Linux's order (fs/binfmt_elf.c), for a program of user 0 without a vDSO.
    fn vector(&self, path: u64, platform: u64, random: u64) -> [(u32, u64); 19] {
        [
            (auxvec::AT_MINSIGSTKSZ, self.signal_stack_bytes),
            (auxvec::AT_HWCAP, self.hwcap),
            (auxvec::AT_PAGESZ, PAGE_SIZE),
            (auxvec::AT_CLKTCK, CLOCK_TICKS),
            (auxvec::AT_PHDR, self.headers),
            (auxvec::AT_PHENT, 56),
            (auxvec::AT_PHNUM, u64::from(self.header_count)),
            (auxvec::AT_BASE, self.interpreter_base),
            (auxvec::AT_FLAGS, 0),
            (auxvec::AT_ENTRY, self.entry),
            (auxvec::AT_UID, 0),
            (auxvec::AT_EUID, 0),
            (auxvec::AT_GID, 0),
            (auxvec::AT_EGID, 0),
            (auxvec::AT_SECURE, 0),
            (auxvec::AT_RANDOM, random),
            (auxvec::AT_EXECFN, path),
            (auxvec::AT_PLATFORM, platform),
            (auxvec::AT_NULL, 0),
        ]
    }
}

/// Appends strings; their offsets.
fn push_strings(area: &mut Vec<u8>, strings: &[Vec<u8>]) -> Vec<u64> {
    strings.iter().map(|string| push_string(area, string)).collect()
}

fn push_string(area: &mut Vec<u8>, string: &[u8]) -> u64 {
    let offset = area.len() as u64;
    area.extend_from_slice(string);
    area.push(0);
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TOP: u64 = 0x7fff_0000_0000;

    fn auxiliary() -> Auxiliary {
        Auxiliary {
            headers: 0x40_0040,
            header_count: 9,
            interpreter_base: 0x7f00_0000_0000,
            entry: 0x40_1000,
            hwcap: 0x178b_fbff,
            signal_stack_bytes: 1376,
            random: *b"0123456789abcdef",
        }
    }

    fn word(stack: &InitialStack, address: u64) -> u64 {
        let at = (address - stack.pointer) as usize;
        u64::from_le_bytes(stack.bytes[at..at + 8].try_into().unwrap())
    }

    fn text(stack: &InitialStack, address: u64) -> &[u8] {
        let tail = &stack.bytes[(address - stack.pointer) as usize..];
        tail.split(|&byte| byte == 0).next().unwrap()
    }

    #[test]
    fn a_program_finds_argc_argv_envp_and_auxv_as_on_linux() {
        let argv = vec![b"/bin/prog".to_vec(), b"".to_vec(), b"two words".to_vec()];
        let envp = vec![b"HOME=/".to_vec()];
        let stack = InitialStack::build(TOP, b"/bin/prog", &argv, &envp, &auxiliary()).unwrap();
        let sp = stack.pointer;
        assert_eq!(sp % 16, 0);
        assert_eq!(sp + stack.bytes.len() as u64, TOP);
        assert_eq!(word(&stack, sp), 3);
        assert_eq!(text(&stack, word(&stack, sp + 8)), b"/bin/prog");
        assert_eq!(text(&stack, word(&stack, sp + 16)), b"");
        assert_eq!(text(&stack, word(&stack, sp + 24)), b"two words");
        assert_eq!(word(&stack, sp + 32), 0);
        assert_eq!(text(&stack, word(&stack, sp + 40)), b"HOME=/");
        assert_eq!(word(&stack, sp + 48), 0);

        let mut found = Vec::new();
        let mut at = sp + 56;
        while word(&stack, at) != 0 {
            found.push((word(&stack, at) as u32, word(&stack, at + 8)));
            at += 16;
        }
        let value = |kind| found.iter().find(|pair| pair.0 == kind).unwrap().1;
        assert_eq!(value(auxvec::AT_PHDR), 0x40_0040);
        assert_eq!(value(auxvec::AT_PHNUM), 9);
        assert_eq!(value(auxvec::AT_BASE), 0x7f00_0000_0000);
        assert_eq!(value(auxvec::AT_PAGESZ), 4096);
        assert_eq!(text(&stack, value(auxvec::AT_EXECFN)), b"/bin/prog");
        assert_eq!(text(&stack, value(auxvec::AT_PLATFORM)), b"x86_64");
        let random = (value(auxvec::AT_RANDOM) - sp) as usize;
        assert_eq!(&stack.bytes[random..random + 16], b"0123456789abcdef");
        assert!(found.iter().all(|pair| pair.0 != auxvec::AT_SYSINFO_EHDR));
        assert_eq!(stack.bytes[stack.bytes.len() - 8..], [0; 8]);
    }

    #[test]
    fn the_stack_pointer_is_aligned_for_every_number_of_arguments() {
        for count in 0..9 {
            let argv = vec![b"x".to_vec(); count];
            let stack = InitialStack::build(TOP, b"x", &argv, &[], &auxiliary()).unwrap();
            assert_eq!(stack.pointer % 16, 0);
            assert_eq!(word(&stack, stack.pointer), count as u64);
            assert!(stack.mapped_bytes() >= stack.bytes.len() as u64 + 4096);
        }
    }

    #[test]
    fn arguments_beyond_a_quarter_of_the_stack_are_too_long() {
        let argv = vec![vec![b'x'; 2 << 20]];
        let error = InitialStack::build(TOP, b"x", &argv, &[], &auxiliary()).unwrap_err();
        assert!(error.len_bytes > MAX_ARGUMENT_BYTES);
    }
}
