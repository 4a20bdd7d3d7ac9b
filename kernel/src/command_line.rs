//! The kernel command line: Linux's spellings, and ours as `dax.*`.

use crate::number;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use mm::range::{MapSize, PAGE_SIZE, PhysRange};
use thiserror::Error;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `init=PATH[,PATH...]`: the programs, run one after another.
    pub init: Vec<String>,
    /// What stands behind `--`: the arguments of the first program.
    pub arguments: Vec<String>,
    /// `dax.align=`: the alignment of devices, unless it is 2M.
    pub align: Option<MapSize>,
    /// `dax.regionN.*=`: what is asked for one region, in the order of their numbers.
    pub regions: Vec<(u32, RegionWish)>,
    /// `memmap=SIZE!START[,...]`: RAM that becomes regions.
    pub carve_outs: Vec<PhysRange>,
    /// `dax.scrub=0`: memory that one device gave back may be given to the next with its old bytes.
    pub waives_scrub: bool,
    /// `brd.rd_nr=`: how many RAM disks there are.
    pub ram_disks: u32,
    /// `brd.rd_size=`: the size of each in KiB.
    pub ram_disk_kib: u64,
    /// `dax.force_raw`: use ranges whole, whatever is on them.
    pub force_raw: bool,
    /// `dax.strace`: print each call of each program.
    pub strace: bool,
    /// `dax.test_leak`: lose a frame, to show that the check for lost frames works.
    pub test_leak: bool,
    /// `dax.test_panic`: panic, to show what a panic looks like from outside.
    pub test_panic: bool,
    /// `loglevel=N`: lines of a lower level than N are printed (Linux: 4 errors, 5 warnings, 7 information).
    pub log_level: u8,
    /// `maxcpus=`: how many CPUs run tasks at most; the boot CPU always does.
    pub max_cpus: usize,
    /// The first words that mean nothing here.
    pub unknown: Vec<String>,
    /// How many more there are.
    pub more_unknown: usize,
}

/// What the command line asks of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionWish {
    /// `dax.regionN.align=`: the alignment of its devices.
    pub align: Option<MapSize>,
    /// `dax.regionN.devices=SIZE[@ALIGN],...`: its devices, instead of one of all of it.
    pub devices: Option<Vec<DeviceWish>>,
}

/// A device that the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceWish {
    /// Its size; of 0 bytes it is one that a program is to give a size.
    pub size_bytes: u64,
    /// Its alignment, unless it is the region's.
    pub align: Option<MapSize>,
}

/// A value that means nothing: going on with a guess would not be what the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("command line: {option}: expected {expected}")]
pub struct BadOption {
    option: String,
    expected: &'static str,
}

impl CommandLine {
    /// Reads a command line. Double quotes keep spaces together, as on Linux.
    pub fn parse(text: &str) -> Result<CommandLine, BadOption> {
        let mut line =
            CommandLine { ram_disk_kib: 4096, log_level: 7, max_cpus: usize::MAX, ..CommandLine::default() };
        let mut words = Words(text);
        for word in words.by_ref().take_while(|word| word != "--") {
            line.take(&word)?;
        }
        line.arguments = words.collect();
        Ok(line)
    }

    fn take(&mut self, word: &str) -> Result<(), BadOption> {
        let bad = |expected| BadOption { option: word.to_owned(), expected };
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "init" => {
                self.init = value.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect()
            }
            "dax.align" => self.align = Some(MapSize::parse(value).ok_or(bad("4K, 2M or 1G"))?),
            "dax.force_raw" => self.force_raw = flag(value).ok_or(bad("0 or 1"))?,
            "dax.strace" => self.strace = flag(value).ok_or(bad("0 or 1"))?,
            "dax.test_leak" => self.test_leak = flag(value).ok_or(bad("0 or 1"))?,
            "dax.test_panic" => self.test_panic = flag(value).ok_or(bad("0 or 1"))?,
            "dax.scrub" => self.waives_scrub = !flag(value).ok_or(bad("0 or 1"))?,
            "memmap" => {
                let ranges: Option<Vec<_>> = value.split(',').map(carve_out).collect();
                let expected = "SIZE!START[,SIZE!START...] in whole pages, such as 1G!4G";
                self.carve_outs.extend(ranges.ok_or(bad(expected))?);
            }
            "brd.rd_nr" => self.ram_disks = number(value).ok_or(bad("a number of RAM disks"))?,
            "brd.rd_size" => {
                let kib = number::parse(value).ok().filter(|kib| kib % 4 == 0 && (4..1 << 40).contains(kib));
                self.ram_disk_kib = kib.ok_or(bad("a number of KiB, a multiple of 4"))?;
            }
            "maxcpus" => self.max_cpus = number(value).ok_or(bad("a number of CPUs"))? as usize,
            "loglevel" => self.log_level = value.parse().map_err(|_| bad("a number from 0 to 8"))?,
            // Known to Linux users, and true here anyway: the console is ttyS0, panics end.
            "console" | "panic" | "quiet" => {}
            _ => match region_option(key) {
                Some((region, "align")) => {
                    let align = MapSize::parse(value).ok_or(bad("4K, 2M or 1G"))?;
                    self.wish(region).align = Some(align);
                }
                Some((region, "devices")) => {
                    let wishes: Option<Vec<_>> = value.split(',').map(DeviceWish::parse).collect();
                    let expected = "SIZE[@ALIGN][,SIZE[@ALIGN]...], such as 1G,512M@2M";
                    self.wish(region).devices = Some(wishes.ok_or(bad(expected))?);
                }
                _ if self.unknown.len() < MAX_UNKNOWN => self.unknown.push(word.to_owned()),
                _ => self.more_unknown += 1,
            },
        }
        Ok(())
    }

    /// What is asked for this region, from now on.
    fn wish(&mut self, region: u32) -> &mut RegionWish {
        let known = self.regions.binary_search_by_key(&region, |(number, _)| *number);
        let index = known.unwrap_or_else(|index| {
            self.regions.insert(index, (region, RegionWish::default()));
            index
        });
        &mut self.regions[index].1
    }

    /// What is asked for this region, if anything is.
    pub fn wish_for(&self, region: u32) -> Option<&RegionWish> {
        self.regions.iter().find(|(number, _)| *number == region).map(|(_, wish)| wish)
    }

    /// The alignment that the devices of this region get.
    pub fn align_of(&self, region: u32) -> MapSize {
        self.wish_for(region).and_then(|wish| wish.align).or(self.align).unwrap_or(MapSize::Size2M)
    }
}

impl DeviceWish {
    fn parse(text: &str) -> Option<DeviceWish> {
        let (size, align) = match text.split_once('@') {
            Some((size, align)) => (size, Some(MapSize::parse(align)?)),
            None => (text, None),
        };
        Some(DeviceWish { size_bytes: number::parse_bytes(size)?, align })
    }
}

/// `1G!4G` is the gigabyte from 4 GiB on.
fn carve_out(text: &str) -> Option<PhysRange> {
    let (size, start) = text.split_once('!')?;
    let (size, start) = (number::parse_bytes(size)?, number::parse_bytes(start)?);
    PhysRange::new(start, size).filter(|_| size % PAGE_SIZE == 0 && start % PAGE_SIZE == 0)
}

fn number(value: &str) -> Option<u32> {
    number::parse(value).ok()?.try_into().ok()
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "y" | "on" => Some(true),
        "0" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// `dax.region3.align` is (3, "align").
fn region_option(key: &str) -> Option<(u32, &str)> {
    let (number, option) = key.strip_prefix("dax.region")?.split_once('.')?;
    Some((number.parse().ok()?, option))
}

/// Unknown words that are kept for the log.
const MAX_UNKNOWN: usize = 8;

/// The words of a text, one by one: a long line must not fill the boot heap.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let mut word = String::new();
        let mut is_quoted = false;
        let end = text.find(|character: char| {
            match character {
                '"' => is_quoted = !is_quoted,
                c if c.is_ascii_whitespace() && !is_quoted => return true,
                c => word.push(c),
            }
            false
        });
        self.0 = &text[end.unwrap_or(text.len())..];
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn reads_linux_and_dax_options() {
        let line = CommandLine::parse(
            "console=ttyS0 init=/bin/a,/bin/b dax.align=1G dax.region2.align=4k dax.force_raw -- x \"y z\" \"\"",
        )
        .unwrap();
        assert_eq!(line.init, ["/bin/a", "/bin/b"]);
        assert_eq!((line.align_of(0), line.align_of(2)), (MapSize::Size1G, MapSize::Size4K));
        assert!(line.force_raw && !line.test_leak);
        assert_eq!(line.arguments, ["x", "y z", ""]);
        assert!(line.unknown.is_empty());
    }

    #[test]
    fn defaults_are_2m_and_no_program() {
        let line = CommandLine::parse("").unwrap();
        assert_eq!(line.align_of(7), MapSize::Size2M);
        assert!(line.init.is_empty() && line.arguments.is_empty());
    }

    #[test]
    fn bad_values_are_named_with_what_is_expected() {
        let bad = |text| CommandLine::parse(text).unwrap_err();
        let text = alloc::format!("{}", bad("dax.align=3M"));
        assert_eq!(text, "command line: dax.align=3M: expected 4K, 2M or 1G");
        assert_eq!(bad("dax.region0.align=").option, "dax.region0.align=");
        assert_eq!(bad("dax.force_raw=maybe").expected, "0 or 1");
        assert_eq!(bad("loglevel=loud").option, "loglevel=loud");
    }

    #[test]
    fn reads_devices_carve_outs_and_ram_disks() {
        let line = CommandLine::parse(
            "dax.region1.devices=1G,0x200000@4K,0 memmap=1G!4G,16M!0x10000000 memmap=4K!1M dax.scrub=0 \
             brd.rd_nr=2 brd.rd_size=8192 maxcpus=3 dax.region0.align=4K",
        )
        .unwrap();
        let wish = |size_bytes, align| DeviceWish { size_bytes, align };
        let wishes = [wish(1 << 30, None), wish(2 << 20, Some(MapSize::Size4K)), wish(0, None)];
        assert_eq!(line.wish_for(1).unwrap().devices.as_deref(), Some(&wishes[..]));
        let bounds: Vec<_> =
            line.carve_outs.iter().map(|range| (range.start().as_u64(), range.end())).collect();
        assert_eq!(bounds, [(4 << 30, 5 << 30), (0x1000_0000, 0x1100_0000), (0x10_0000, 0x10_1000)]);
        assert!(line.waives_scrub);
        assert_eq!((line.ram_disks, line.ram_disk_kib, line.max_cpus), (2, 8192, 3));
        assert!(line.regions.iter().map(|(number, _)| *number).eq([0, 1]));
    }

    #[test]
    fn bad_devices_and_carve_outs_are_named() {
        for word in [
            "dax.region0.devices=",
            "dax.region0.devices=1G,",
            "dax.region0.devices=1G@3M",
            "dax.region0.devices=-1",
            "dax.region0.devices=99999999T",
            "memmap=1G",
            "memmap=1G@4G",
            "memmap=0!4G",
            "memmap=4097!4G",
            "memmap=1G!1000",
            "memmap=1G!18446744073709547520",
            "memmap=exactmap",
            "brd.rd_size=3",
            "brd.rd_size=1099511627776",
            "brd.rd_nr=4294967296",
            "maxcpus=all",
            "dax.scrub=2",
        ] {
            assert_eq!(CommandLine::parse(word).unwrap_err().option, word);
        }
    }

    #[test]
    fn no_option_caps_devices() {
        let line = CommandLine::parse("dax.nr_dax=8 nr_dax=8 dax.max_devices=8").unwrap();
        assert_eq!(line.unknown, vec!["dax.nr_dax=8", "nr_dax=8", "dax.max_devices=8"]);
    }

    #[test]
    fn unknown_words_are_kept_for_the_log() {
        let line = CommandLine::parse("dax.colour=red dax.region.align=2M root=/dev/sda").unwrap();
        assert_eq!(line.unknown, vec!["dax.colour=red", "dax.region.align=2M", "root=/dev/sda"]);
    }
}
