//! Names and source lines for the addresses of a kernel backtrace, from the kernel's symbol file.
//!
//! The kernel prints ` #1 0xffffffff80012345`; its names stay on the host, in `kernel.sym` (an ELF file
//! of symbols and line tables). The file is read only when a backtrace comes.

use std::cell::OnceCell;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use addr2line::Loader;

/// How every address of the kernel's image starts, and the digits that follow.
const KERNEL_PREFIX: &str = "0xffffffff8";
const FURTHER_DIGITS: usize = 7;
/// What lies further behind the last symbol before it is no code of that symbol.
const LONGEST_FUNCTION: u64 = 64 << 10;

/// Appends names to backtrace lines.
pub struct PanicNames {
    symbols: Option<PathBuf>,
    loader: OnceCell<Option<Loader>>,
}

impl PanicNames {
    /// Names from this symbol file; `None` leaves all lines as they are.
    pub fn new(symbols: Option<PathBuf>) -> Self {
        Self { symbols, loader: OnceCell::new() }
    }

    /// The line with ` name (file:line)` after each kernel address, when it is a line of a backtrace (has
    /// a `#`) and the symbol file knows the address.
    pub fn annotate(&self, line: &str) -> String {
        let Some(mark) = line.find('#') else { return line.into() };
        let mut named = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(at) = rest.find(KERNEL_PREFIX) {
            let digits = rest[at + KERNEL_PREFIX.len()..].bytes().take_while(u8::is_ascii_hexdigit).count();
            let end = at + KERNEL_PREFIX.len() + digits;
            named.push_str(&rest[..end]);
            if digits == FURTHER_DIGITS
                && let Ok(address) = u64::from_str_radix(&rest[at + 2..end], 16)
            {
                let is_top = line[mark..].starts_with("#0 ");
                named.push_str(&self.name(address, is_top).unwrap_or_default());
            }
            rest = &rest[end..];
        }
        named + rest
    }

    /// ` name (file:line)`, callers that it is inlined into after it.
    fn name(&self, address: u64, is_top: bool) -> Option<String> {
        let loader = self.loader.get_or_init(|| load(self.symbols.as_deref()?)).as_ref()?;
        // A return address lies behind its call, after a call that never returns even in the next
        // function: step back. Only the top frame can be the first byte of a function itself.
        let starts_function = loader.find_symbol_info(address)?.address() == address;
        let probe = if is_top && starts_function { address } else { address - 1 };
        let mut text = String::new();
        let mut frames = loader.find_frames(probe).ok()?;
        while let Ok(Some(frame)) = frames.next() {
            text += if text.is_empty() { " " } else { ", inlined in " };
            match frame.function.as_ref().and_then(|function| function.demangle().ok()) {
                Some(function) => text += &function,
                None => text += &symbol(loader, probe)?,
            }
            if let Some(place) = frame.location
                && let (Some(file), Some(line)) = (place.file, place.line)
            {
                write!(text, " ({file}:{line})").expect("a String takes every write");
            }
        }
        if text.is_empty() { symbol(loader, probe).map(|symbol| format!(" {symbol}")) } else { Some(text) }
    }
}

fn load(symbols: &Path) -> Option<Loader> {
    Loader::new(symbols).ok()
}

/// The name of the symbol before this address, for code without line tables (assembly).
fn symbol(loader: &Loader, probe: u64) -> Option<String> {
    let symbol = loader.find_symbol_info(probe)?;
    let is_near = probe - symbol.address() < LONGEST_FUNCTION;
    is_near.then(|| addr2line::demangle_auto(symbol.name().into(), None).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symbols of `tests/fixtures/backtrace.c`, whose `die` is at 0xffffffff80000000 and `outer` right
    /// behind it at 0xffffffff80000011; the call of `die` that was inlined into `outer` is its last
    /// instruction.
    fn names() -> PanicNames {
        PanicNames::new(Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/backtrace.sym").into()))
    }

    #[test]
    fn a_return_address_behind_the_function_names_the_call() {
        assert_eq!(
            names().annotate(" #1 0xffffffff80000020 end"),
            " #1 0xffffffff80000020 inlined (./backtrace.c:14), inlined in outer (./backtrace.c:18) end"
        );
    }

    #[test]
    fn only_the_top_frame_can_be_at_the_start_of_a_function() {
        let top = names().annotate(" #0 0xffffffff80000011");
        assert!(top.contains("inlined in outer"), "{top}");
        let caller = names().annotate(" #1 0xffffffff80000011");
        assert!(caller.ends_with(" die (./backtrace.c:9)"), "{caller}");
    }

    #[test]
    fn other_lines_and_unknown_addresses_stay_as_they_are() {
        for line in [
            "mapped 0xffffffff80000020",
            " #1 0xffffffff8fffffff",
            " #1 0xffffffff8000002",
            " #1 0xffffffff800000200",
            " #1 0x1000",
            "#0xffffffff8",
        ] {
            assert_eq!(names().annotate(line), line);
        }
    }

    #[test]
    fn a_missing_symbol_file_leaves_the_backtrace_readable() {
        let line = " #1 0xffffffff80000020";
        assert_eq!(PanicNames::new(Some("/no/such.sym".into())).annotate(line), line);
        assert_eq!(PanicNames::new(None).annotate(line), line);
    }
}
