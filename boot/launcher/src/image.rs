//! What an ELF file says of itself: how it is started, and what it needs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::Endianness;
use object::elf::{self, Dyn64, FileHeader64, ProgramHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{Error, ReadCache, ReadRef, StringTable};

const ENDIAN: Endianness = Endianness::Little;

/// An ELF64 file for x86-64.
#[derive(Debug)]
pub struct Image {
    /// `ET_*`.
    pub kind: u16,
    /// Where it starts; 0 for nowhere.
    pub entry: u64,
    /// The program that starts it (PT_INTERP).
    pub interpreter: Option<String>,
    /// The libraries that it names (DT_NEEDED).
    pub needed: Vec<String>,
    /// What others call it (DT_SONAME).
    pub soname: Option<String>,
    /// Where libraries are looked for, also those that its libraries name (DT_RPATH).
    pub rpath: Option<String>,
    /// Where its own libraries are looked for (DT_RUNPATH). With it the rpath does not count.
    pub runpath: Option<String>,
}

impl Image {
    /// Reads the headers of a file. Fails with what the file is instead, to be said behind its name.
    pub fn read(path: &Path) -> Result<Self, String> {
        // Opening a pipe would wait.
        if !path.metadata().map_err(|error| error.to_string())?.is_file() {
            return Err("is not a regular file".into());
        }
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut ident = Vec::new();
        (&file).take(6).read_to_end(&mut ident).map_err(|error| error.to_string())?;
        match ident[..] {
            [0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB, ..] => {}
            [0x7f, b'E', b'L', b'F', ..] => {
                return Err("is a 32-bit or big-endian ELF, not ELF64 x86-64".into());
            }
            [] => return Err("is empty".into()),
            _ => return Err("is neither an ELF program nor a script (#!)".into()),
        }
        let data = &ReadCache::new(file);
        let broken = |error: Error| format!("is a damaged ELF: {error}");
        let header = FileHeader64::parse(data).map_err(broken)?;
        match header.e_machine(ENDIAN) {
            elf::EM_X86_64 => Self::of(header, data).map_err(broken),
            machine => Err(format!("is for another machine ({}), not x86-64", machine_name(machine))),
        }
    }

    fn of<'data>(header: &FileHeader64<Endianness>, data: impl ReadRef<'data>) -> Result<Self, Error> {
        let segments = header.program_headers(ENDIAN, data)?;
        let interpreter = segments.iter().find_map(|segment| segment.interpreter(ENDIAN, data).transpose());
        let interpreter = interpreter.transpose()?.map(|path| String::from_utf8_lossy(path).into_owned());
        let entries = segments.iter().find_map(|segment| segment.dynamic(ENDIAN, data).transpose());
        let entries = entries.transpose()?.unwrap_or_default();
        let strings = dynamic_strings(segments, entries, data);
        let texts = |tag: u32| {
            let tagged = entries.iter().filter(move |entry| entry.tag32(ENDIAN) == Some(tag));
            let texts = tagged.map(|entry| entry.string(ENDIAN, strings));
            texts.map(|text| text.map(|text| String::from_utf8_lossy(text).into_owned()))
        };
        Ok(Self {
            kind: header.e_type(ENDIAN),
            entry: header.e_entry(ENDIAN),
            interpreter,
            needed: texts(elf::DT_NEEDED).collect::<Result<_, _>>()?,
            soname: texts(elf::DT_SONAME).next().transpose()?,
            rpath: texts(elf::DT_RPATH).next().transpose()?,
            runpath: texts(elf::DT_RUNPATH).next().transpose()?,
        })
    }
}

/// The strings of the dynamic section, which names them by their address in memory.
fn dynamic_strings<'data>(
    segments: &[ProgramHeader64<Endianness>],
    entries: &[Dyn64<Endianness>],
    data: impl ReadRef<'data>,
) -> StringTable<'data> {
    let value = |tag: u32| {
        let entry = entries.iter().find(|entry| entry.tag32(ENDIAN) == Some(tag));
        entry.map_or(0, |entry| entry.d_val(ENDIAN))
    };
    let (address, len) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ));
    let loaded = segments.iter().filter(|segment| segment.p_type(ENDIAN) == elf::PT_LOAD);
    let bytes =
        loaded.filter_map(|segment| segment.data_range(ENDIAN, data, address, len).ok().flatten()).next();
    bytes.map_or_else(StringTable::default, |bytes| StringTable::new(bytes, 0, bytes.len() as u64))
}

fn machine_name(machine: u16) -> String {
    match machine {
        elf::EM_386 => "i386".into(),
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_RISCV => "RISC-V".into(),
        other => format!("ELF machine {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_loader_and_its_libraries() {
        // This very test is a dynamic program.
        let own = std::env::current_exe().expect("known");
        let image = Image::read(&own).expect("a program");
        assert_eq!(image.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(image.needed.iter().any(|name| name == "libc.so.6"), "{:?}", image.needed);
        assert_eq!((image.kind, image.soname), (elf::ET_DYN, None));
    }
}
