//! The QEMU command line, in full and in one place: `run` starts exactly this, `--dry-run` prints it.
//!
//! The machine is stripped to what the kernel uses, which halves QEMU's start. The guest speaks through
//! four files that QEMU inherits (see `channels`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::ValueEnum;

use crate::accel::Accel;
use crate::channels;
use crate::failure::Failure;
use crate::nvdimm::{MAX_NVDIMMS, Nvdimm};
use crate::size::{GIB, Size};

/// Devices and timers that the kernel does without, on q35 and on pc.
const STRIPPED: &str = "graphics=off,usb=off,smm=off,pit=off,pic=off,sata=off,smbus=off,vmport=off,hpet=off,\
                        i8042=off";

/// What `-cpu max` can address under TCG (TCG_PHYS_ADDR_BITS is 40).
const TCG_ADDRESSES: Size = Size(1 << 40);

/// QEMU's machine types that have NVDIMMs and boot by PVH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MachineType {
    /// Intel Q35 with PCI Express
    Q35,
    /// Intel 440FX
    Pc,
}

/// Everything that decides QEMU's command line.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// The machine type.
    pub machine_type: MachineType,
    /// `-bios`: `qboot.rom`, `bios-256k.bin` or a path.
    pub firmware: PathBuf,
    /// What runs the guest.
    pub accel: Accel,
    /// One nanosecond of guest time per instruction.
    pub icount: bool,
    /// Number of vCPUs.
    pub cpus: u32,
    /// RAM, NVDIMMs not counted.
    pub memory: Size,
    /// In the order of their guest physical addresses.
    pub nvdimms: Vec<Nvdimm>,
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// The user's own arguments, last.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// QEMU's arguments. Fails when the NVDIMMs are too many or too large to be counted.
    pub fn arguments(&self) -> Result<Vec<OsString>, Failure> {
        let mut line = Line(Vec::new());
        let (slots, memory) = self.memory_option()?;
        let machine_type = match self.machine_type {
            MachineType::Q35 => "q35",
            MachineType::Pc => "pc",
        };
        let nvdimm = if slots > 0 { "nvdimm=on," } else { "" };
        line.pair("-machine", format!("{machine_type},{nvdimm}{STRIPPED}"));
        let (accel, cpu) = match self.accel {
            Accel::Kvm => ("kvm", "host"),
            Accel::Tcg => ("tcg", "max"),
        };
        line.pair("-accel", accel);
        line.pair("-cpu", cpu);
        if self.icount {
            line.pair("-icount", "shift=0,sleep=off");
        }
        line.pair("-smp", self.cpus.to_string());
        line.pair("-m", memory);
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            line.flag(flag);
        }
        line.pair("-display", "none");
        line.pair("-vga", "none");
        line.pair("-bios", &self.firmware);
        for (index, nvdimm) in self.nvdimms.iter().enumerate() {
            line.nvdimm(index, nvdimm);
        }
        // append=on: without it QEMU truncates the file, which a pipe refuses.
        for (name, fd, port) in channels::GUEST_CHANNELS {
            line.pair("-add-fd", format!("fd={fd},set={fd}"));
            line.pair("-chardev", format!("file,id={name},path=/dev/fdset/{fd},append=on"));
            match port {
                Some(port) => line.pair(
                    "-device",
                    format!("isa-debugcon,iobase={port:#x},readback={port:#x},chardev={name}"),
                ),
                None => line.pair("-serial", format!("chardev:{name}")),
            }
        }
        line.pair("-kernel", &self.kernel);
        line.pair("-initrd", channels::inherited_path(channels::INITRD_FD));
        line.pair("-append", &self.command_line);
        line.0.extend(self.extra.iter().cloned());
        Ok(line.0)
    }

    /// The number of memory slots, and the value of `-m`.
    ///
    /// QEMU wants room for each device, rounded up, in `maxmem`; one more GiB is slack. Devices that the
    /// user brings by `--qemu-opts` are counted too, by their `size=`.
    fn memory_option(&self) -> Result<(usize, String), Failure> {
        let (extra_slots, extra_sizes) = self.extra_devices();
        let slots = self.nvdimms.len() + extra_slots;
        if slots > MAX_NVDIMMS {
            return Err(Failure::launcher(format!("{slots} NVDIMMs: QEMU has slots for {MAX_NVDIMMS}")));
        }
        if slots == 0 {
            return Ok((0, self.memory.to_string()));
        }
        let sizes = self.nvdimms.iter().map(Nvdimm::file_size).chain(extra_sizes).chain([GIB]);
        let total =
            sizes
                .map(|size| size.round_up(GIB))
                .try_fold(self.memory, |sum, size| sum.plus(size?))
                .ok_or_else(|| Failure::launcher("the NVDIMMs together are more than 64 bits can count"))?;
        self.check_address_space(slots, total)?;
        Ok((slots, format!("{},slots={slots},maxmem={total}", self.memory)))
    }

    /// TCG's guests have 40 bits of physical addresses (on KVM the host decides, and QEMU tells).
    ///
    /// QEMU keeps up to 4 GiB of holes below the memory and one GiB beside each device for its alignment.
    fn check_address_space(&self, slots: usize, total: Size) -> Result<(), Failure> {
        let holes = Size(GIB.bytes() * (4 + slots as u64));
        match total.plus(holes) {
            Some(end) if self.accel == Accel::Kvm || end <= TCG_ADDRESSES => Ok(()),
            _ => Err(Failure::launcher(format!(
                "memory and NVDIMMs of {total}, rounded up, and {holes} of holes do not fit in the \
                 {TCG_ADDRESSES} of a TCG guest's physical addresses"
            ))),
        }
    }

    /// The memory devices, and the sizes of memory backends, among the user's own arguments.
    fn extra_devices(&self) -> (usize, Vec<Size>) {
        let texts: Vec<_> = self.extra.iter().map(|argument| argument.to_string_lossy()).collect();
        let is_device = |text: &str| matches!(text.split(',').next(), Some("nvdimm" | "pc-dimm"));
        let slots = texts.iter().filter(|text| is_device(text)).count();
        let backends = texts.iter().filter(|text| text.starts_with("memory-backend-"));
        let sizes = backends.flat_map(|text| text.split(',').filter_map(|part| part.strip_prefix("size=")));
        (slots, sizes.filter_map(|size| size.parse().ok()).collect())
    }
}

/// A command line as a POSIX shell reads it, quoted where needed.
pub fn shell_line<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> OsString {
    let quoted: Vec<_> = words.into_iter().map(|word| shell_word(word.as_bytes())).collect();
    OsString::from_vec(quoted.join(&b' '))
}

fn shell_word(word: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./,:=+@%".contains(byte);
    // A leading `=` means something to zsh.
    if !word.is_empty() && !word.starts_with(b"=") && word.iter().all(is_plain) {
        return word.to_vec();
    }
    let escaped = word.split(|byte| *byte == b'\'').collect::<Vec<_>>().join(&b"'\\''"[..]);
    [b"'", &escaped[..], b"'"].concat()
}

struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.extend([flag.into(), value.into()]);
    }

    fn nvdimm(&mut self, index: usize, nvdimm: &Nvdimm) {
        let mut object = OsString::from(format!("memory-backend-file,id=mem{index},share=on,mem-path="));
        object.push(double_commas(nvdimm.mem_path().as_os_str()));
        object.push(format!(",size={},align={}", nvdimm.file_size(), nvdimm.align));
        if nvdimm.is_read_only() {
            object.push(",readonly=on");
        }
        self.pair("-object", object);
        let mut device = format!("nvdimm,id=nvdimm{index},memdev=mem{index}");
        if let Some(label) = nvdimm.label {
            device += &format!(",label-size={label}");
        }
        if !nvdimm.armed {
            device += ",unarmed=on";
        }
        self.pair("-device", device);
    }
}

/// QEMU's way to write a comma inside a value.
fn double_commas(text: &OsStr) -> OsString {
    let doubled = text.as_bytes().iter().flat_map(|&byte| match byte {
        b',' => vec![byte, byte],
        _ => vec![byte],
    });
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests;
