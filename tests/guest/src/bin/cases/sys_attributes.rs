//! The attributes under /sys that control dax devices: what they show, and what each refuses (device-dax reference
//! 5.9).
//!
//! The cases work on the region of the device under test. Those that change it begin with an empty region and leave
//! it as they found it: one enabled device of all of it.

use guest::device::Device;
use guest::ensure;
use guest::fault::Touch;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::{self, Errno, RW};
use guest::sysfs::{self, BIND, Name, Region, UNBIND};
use libc::{EACCES, EBUSY, EINVAL, ENODEV, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, ERANGE, MAP_SHARED};

use crate::removal::{errno, is_sigbus};
use crate::{Context, Named};

const CASES: &[Named] = &[
    ("sys: a device shows what it is, under both of its paths", |_| shows_device()),
    ("sys: a region shows what it is, with and without a device", |_| shows_region()),
    ("sys: the permissions hold, and what is not there is ENOENT", |_| permissions()),
    ("sys: a read goes on where it ended, a write is one command", |_| positions()),
    ("sys: create takes 1 alone, and makes a seed", |_| with_empty(create)),
    ("sys: size takes multiples of the alignment that fit", |_| with_empty(size)),
    ("sys: align takes the three sizes that divide every range", |_| with_empty(align)),
    ("sys: mapping takes ranges that nobody has", |_| with_empty(mapping)),
    ("sys: delete takes devices without memory, never the first", |_| with_empty(delete)),
    ("sys: bind and unbind take devices of the other state", |_| with_empty(bind)),
    ("sys: a device that is bound cannot be changed", |_| with_empty(bound)),
    ("sys: a hole in the middle and the end make two mappings", |_| with_empty(holes)),
    ("sys: two devices that grow in turn have four mappings each", |_| with_empty(alternate)),
    ("sys: growing into the head makes a mapping, into the tail none", |_| with_empty(head_and_tail)),
    ("sys: ids are given again, the lowest first", |_| with_empty(ids)),
    ("sys: a new owner sees zeros", |_| with_empty(|region| scrubbed(region, "1"))),
    ("sys: a new owner sees old bytes where the scrub is waived", |_| {
        with_empty(|region| scrubbed(region, "0"))
    }),
    ("sys: resize with revoke takes the device from its users", |_| with_empty(revoke)),
    ("sys: neighbours keep their mapping while a device comes and goes", |_| with_empty(neighbours)),
    ("sys: a thousand devices come and go", |_| with_empty(thousand)),
];

/// All of the family.
pub fn cases() -> Vec<Case<Context>> {
    crate::family("sys", CASES)
}

/// The device under test and its name.
fn under_test() -> Result<(Device, Name), String> {
    let device = Device::open()?;
    let path = device.path.to_string_lossy().into_owned();
    let name = path.strip_prefix("/dev/").and_then(Name::parse).ok_or(format!("{path} is no dax device"))?;
    sys::close(device.fd).map_err(errno("close"))?;
    Ok((device, name))
}

/// A region without memory in use.
struct Empty {
    region: Region,
    /// Its first device, unbound and of size 0.
    first: Name,
    align: usize,
    /// Bytes of the region.
    size: usize,
}

/// Runs a case on the emptied region of the device under test.
fn with_empty(case: fn(&Empty) -> Outcome) -> Outcome {
    let (device, name) = under_test()?;
    let region = Region(name.region);
    ensure!(name.id == 0 && region.available()? == 0, "{name} is not all of its region");
    let empty = Empty { region, first: name, align: device.align, size: device.size };
    name.unbind().map_err(errno("unbind"))?;
    let outcome = name.set("size", "0").and_then(|()| case(&empty));
    outcome.and(empty.restore())
}

impl Empty {
    /// Makes the region what it was.
    fn restore(&self) -> Outcome {
        for id in 0..16 {
            let name = Name { id, ..self.first };
            let _ = name.unbind();
            let _ = name.set("size", "0");
            let _ = self.region.delete(name);
        }
        // What the case left is of no interest, and zeroing gigabytes takes long.
        self.scrub("0")?;
        self.first.set("align", &self.align.to_string())?;
        self.first.set("size", &self.size.to_string())?;
        self.first.bind().map_err(errno("bind"))?;
        self.scrub("1")
    }

    fn scrub(&self, text: &str) -> Outcome {
        sysfs::write(&self.region.attribute("scrub"), text).map_err(errno("scrub"))
    }

    /// A new device of this many units, not bound.
    fn make(&self, units: usize) -> Result<Name, String> {
        let name = self.region.create()?;
        name.set("size", &(units * self.align).to_string())?;
        Ok(name)
    }

    /// Units of the region: 4 at 1G.
    fn units(&self) -> usize {
        self.size / self.align
    }
}

/// How many ranges a device has.
fn mappings(name: Name) -> usize {
    (0..).take_while(|index| sysfs::read(&name.attribute(&format!("mapping{index}/start"))).is_ok()).count()
}

/// Each text must be refused with its errno.
fn refuses(path: &str, rows: &[(&str, i32)]) -> Outcome {
    for &(text, expected) in rows {
        match sysfs::write(path, text) {
            Err(Errno(found)) if found == expected => {}
            Err(found) => return Err(format!("{path}: {text:?} is {found} and not {}", Errno(expected))),
            Ok(()) => {
                return Err(format!("{path}: {text:?} is taken, and not refused with {}", Errno(expected)));
            }
        }
    }
    Ok(())
}

fn expect(path: &str, expected: &str) -> Outcome {
    let text = sysfs::read(path).map_err(|errno| format!("{path}: {errno}"))?;
    ensure!(text == expected, "{path} is {text:?} and not {expected:?}");
    Ok(())
}

fn shows_device() -> Outcome {
    let (device, name) = under_test()?;
    let fd = sys::open(&device.path, libc::O_RDONLY).map_err(errno("open"))?;
    let number = sys::fstat(fd).map_err(errno("fstat"))?.st_rdev;
    sys::close(fd).map_err(errno("close"))?;
    let number = format!("{}:{}", libc::major(number), libc::minor(number));
    for directory in [name.attribute(""), format!("/sys/dev/char/{number}/")] {
        let expect = |name: &str, text: &str| expect(&format!("{directory}{name}"), text);
        expect("size", &device.size.to_string())?;
        expect("align", &device.align.to_string())?;
        expect("dev", &number)?;
        expect("modalias", "dax:t0")?;
        let resource = sysfs::read(&format!("{directory}resource")).map_err(errno("resource"))?;
        expect("mapping0/start", &resource)?;
        let start = resource.strip_prefix("0x").and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let start = start.ok_or(format!("resource is {resource:?}"))?;
        expect("mapping0/end", &format!("{:#x}", start + device.size - 1))?;
        expect("mapping0/page_offset", "0")?;
        expect("dax_region/id", &name.region.to_string())?;
        for node in ["target_node", "numa_node"] {
            let text = sysfs::read(&format!("{directory}{node}")).map_err(errno("node"))?;
            ensure!(text.parse::<i32>().is_ok_and(|node| node >= -1), "{node} is {text:?}");
        }
    }
    Ok(())
}

fn shows_region() -> Outcome {
    let (device, name) = under_test()?;
    let region = Region(name.region);
    expect(&region.attribute("id"), &name.region.to_string())?;
    expect(&region.attribute("size"), &device.size.to_string())?;
    expect(&region.attribute("align"), &device.align.to_string())?;
    expect(&region.attribute("available_size"), "0")?;
    expect(&region.attribute("scrub"), "1")?;
    expect(&name.attribute("dax_region/size"), &device.size.to_string())
}

fn permissions() -> Outcome {
    let (_, name) = under_test()?;
    let region = Region(name.region);
    let rows = [
        (name.attribute("size"), libc::O_RDWR, None),
        (name.attribute("size"), libc::O_WRONLY | libc::O_TRUNC | libc::O_CREAT, None),
        (name.attribute("resource"), libc::O_RDONLY, None),
        (name.attribute("resource"), libc::O_WRONLY, Some(EACCES)),
        (name.attribute("resource"), libc::O_RDWR, Some(EACCES)),
        (name.attribute("modalias"), libc::O_WRONLY, Some(EACCES)),
        (name.attribute("mapping"), libc::O_RDONLY, Some(EACCES)),
        (name.attribute("mapping0/start"), libc::O_WRONLY, Some(EACCES)),
        (region.attribute("delete"), libc::O_RDONLY, Some(EACCES)),
        (region.attribute("seed"), libc::O_WRONLY, Some(EACCES)),
        (BIND.into(), libc::O_RDONLY, Some(EACCES)),
        (UNBIND.into(), libc::O_RDWR, Some(EACCES)),
        (name.attribute("mapping1/start"), libc::O_RDONLY, Some(ENOENT)),
        (name.attribute("colour"), libc::O_RDONLY, Some(ENOENT)),
        (name.attribute("size/x"), libc::O_RDONLY, Some(ENOTDIR)),
        (name.attribute("dax_region"), libc::O_RDONLY | libc::O_DIRECTORY, None),
        (Region(77).attribute("create"), libc::O_WRONLY, Some(ENOENT)),
        ("/sys/bus/dax/devices/dax77.0/size".into(), libc::O_RDONLY, Some(ENOENT)),
        ("/sys/bus/dax/devices/dax00.0/size".into(), libc::O_RDONLY, Some(ENOENT)),
        ("/sys/dev/char/254:99999/size".into(), libc::O_RDONLY, Some(ENOENT)),
    ];
    for (path, flags, expected) in rows {
        let answer = sysfs::open(&path, flags);
        let found = answer.err().map(|Errno(number)| number);
        ensure!(found == expected, "open of {path} with {flags:#x} is {answer:?}");
        answer.map_or(Ok(()), sys::close).map_err(errno("close"))?;
    }
    Ok(())
}

fn positions() -> Outcome {
    let (device, name) = under_test()?;
    let fd = sysfs::open(&name.attribute("size"), libc::O_RDWR).map_err(errno("open"))?;
    let text = format!("{}\n", device.size);
    let (mut head, mut rest, mut tail) = ([0; 3], [0; 64], [0; 64]);
    let outcome = (|| {
        ensure!(sys::read(fd, &mut head) == Ok(3), "the first read");
        let len = sys::read(fd, &mut rest).map_err(errno("the second read"))?;
        let joined = [&head[..], &rest[..len]].concat();
        ensure!(joined == text.as_bytes(), "two reads give {joined:?}");
        ensure!(sys::read(fd, &mut rest) == Ok(0), "a read at the end");
        ensure!(sys::pread(fd, &mut tail, 3) == Ok(text.len() - 3), "pread");
        ensure!(sys::pread(fd, &mut tail, u64::MAX >> 1) == Ok(0), "pread far behind the end");
        ensure!(sys::write(fd, b"") == Ok(0), "an empty write");
        let long = vec![b'1'; 5000];
        ensure!(sys::write(fd, &long).is_err(), "a text of 5000 digits was taken");
        let bad = sys::numbers(libc::SYS_write, &[fd as usize, 8, 4]);
        ensure!(bad == Err(Errno(libc::EFAULT)), "a write from a bad address: {bad:?}");
        ensure!(sys::write(fd, b"\xff\xfe") == Err(Errno(EINVAL)), "bytes that are no text");
        Ok(())
    })();
    outcome.and(sys::close(fd).map_err(errno("close")))
}

fn create(empty: &Empty) -> Outcome {
    let path = empty.region.attribute("create");
    let rows = [
        ("0", EINVAL),
        ("2", EINVAL),
        ("-1", EINVAL),
        ("x", EINVAL),
        ("1x", EINVAL),
        ("\n", EINVAL),
        ("\0", EINVAL),
    ];
    refuses(&path, &rows)?;
    for text in ["1", "1\n", "0x1", "01", "+1", "1\0", "1\n\0x"] {
        sysfs::write(&path, text).map_err(|errno| format!("create: {text:?}: {errno}"))?;
    }
    let youngest = Name { id: 7, ..empty.first };
    expect(&path, &youngest.to_string())?;
    expect(&empty.region.attribute("seed"), &Name { id: 1, ..empty.first }.to_string())?;
    expect(&youngest.attribute("size"), "0")?;
    ensure!(mappings(youngest) == 0, "a seed has mappings");
    ensure!(sys::open(&youngest.node(), libc::O_RDWR) == Err(Errno(ENXIO)), "a seed can be opened");
    // Nothing left: no more seeds.
    empty.first.set("size", &empty.size.to_string())?;
    refuses(&path, &[("1", ENOSPC)])
}

fn size(empty: &Empty) -> Outcome {
    let (name, align) = (empty.first, empty.align);
    let more = (empty.size + align).to_string();
    let rows = [
        ("x", EINVAL),
        ("1", EINVAL),
        ("4097", EINVAL),
        ("-4096", EINVAL),
        ("4K", EINVAL),
        ("99999999999999999999", ERANGE),
        ("0x", EINVAL),
        (" 4096", EINVAL),
        (&more, ENOSPC),
        ("18446744072635809792", ENOSPC),
    ];
    refuses(&name.attribute("size"), &rows)?;
    for text in [format!("{align:#x}"), format!("{}\n", 2 * align), format!("{align}"), "0".into()] {
        name.set("size", &text)?;
    }
    name.set("size", &align.to_string())?;
    expect(&name.attribute("size"), &align.to_string())?;
    ensure!(empty.region.available()? as usize == empty.size - align, "available_size");
    ensure!(mappings(name) == 1, "{} mappings", mappings(name));
    // Smaller than the unit of the region, by an alignment of its own.
    name.set("size", "0")?;
    name.set("align", "4096")?;
    name.set("size", "12288")?;
    refuses(&name.attribute("size"), &[("4095", EINVAL), ("6144", EINVAL)])
}

fn align(empty: &Empty) -> Outcome {
    let path = empty.first.attribute("align");
    let rows = [("x", ENXIO), ("0", EINVAL), ("8192", EINVAL), ("2097153", EINVAL), ("2M", ENXIO)];
    refuses(&path, &rows)?;
    empty.first.set("align", "0x1000")?;
    empty.first.set("size", "12288")?;
    refuses(&path, &[("2097152", EINVAL)])?;
    expect(&path, "4096")?;
    empty.first.set("size", "2097152")?;
    empty.first.set("align", "2097152")
}

fn mapping(empty: &Empty) -> Outcome {
    let (name, unit) = (empty.make(0)?, empty.align);
    let path = name.attribute("mapping");
    let resource = sysfs::read(&name.attribute("resource")).map_err(errno("resource"))?;
    let start = usize::from_str_radix(resource.trim_start_matches("0x"), 16).map_err(|_| "resource")?;
    let range = |first: usize, units: usize| {
        format!("{:x}-{:x}", start + first * unit, start + (first + units) * unit - 1)
    };
    empty.first.set("size", &unit.to_string())?;
    let before = format!("{:x}-{:x}", start - unit, start - 1);
    let odd = format!("{:x}-{:x}", start + unit, start + unit + 99);
    refuses(
        &path,
        &[
            ("x", EINVAL),
            ("1000", EINVAL),
            ("-", EINVAL),
            ("1000-zz", EINVAL),
            (&odd, ENXIO),
            ("2000-1000", ENXIO),
            ("0-ffffffffffffffff", ENXIO),
            (&range(0, 1), ENOMEM),
            (&range(0, 2), ENOMEM),
            (&before, ENOMEM),
        ],
    )?;
    // From the end to the middle, so that no two join.
    name.set("mapping", &range(3, 1))?;
    name.set("mapping", &range(1, 1))?;
    ensure!(mappings(name) == 2 && name.size()? as usize == 2 * unit, "{} mappings", mappings(name));
    expect(&name.attribute("mapping0/start"), &format!("{:#x}", start + 3 * unit))?;
    expect(&name.attribute("mapping1/page_offset"), &format!("{:#x}", unit / 4096))?;
    refuses(&path, &[(&range(1, 1), ENOMEM)])
}

fn delete(empty: &Empty) -> Outcome {
    let path = empty.region.attribute("delete");
    let name = empty.make(1)?;
    let text = name.to_string();
    let other = Name { region: name.region + 1, id: 0 }.to_string();
    refuses(&path, &[("dax0.77", ENXIO), ("x", ENXIO), (&other, ENXIO), (&text, EBUSY)])?;
    empty.scrub("0")?;
    name.bind().map_err(errno("bind"))?;
    refuses(&path, &[(&text, EBUSY), (&empty.first.to_string(), EBUSY)])?;
    name.unbind().map_err(errno("unbind"))?;
    let fd = sysfs::open(&name.attribute("size"), libc::O_RDONLY).map_err(errno("open"))?;
    name.set("size", "0")?;
    sysfs::write(&path, &format!("{text}\n")).map_err(errno("delete"))?;
    let late = sys::read(fd, &mut [0; 8]);
    ensure!(late == Err(Errno(ENODEV)), "an attribute of a device that went: {late:?}");
    refuses(&path, &[(&text, ENXIO)])?;
    ensure!(sys::open(&name.node(), libc::O_RDWR) == Err(Errno(ENOENT)), "a deleted device can be opened");
    ensure!(name.bind() == Err(Errno(ENXIO)), "a deleted device can be bound");
    let namesake = empty.make(1)?;
    ensure!(namesake == name, "the next device is {namesake}, not {name}");
    let late = sys::read(fd, &mut [0; 8]);
    sys::close(fd).map_err(errno("close"))?;
    ensure!(late == Err(Errno(ENODEV)), "an attribute reaches the next device of its name: {late:?}");
    Ok(())
}

fn bind(empty: &Empty) -> Outcome {
    let name = empty.first;
    refuses(UNBIND, &[(&name.to_string(), ENODEV), ("dax0.77", ENODEV), ("x", ENODEV)])?;
    refuses(BIND, &[(&name.to_string(), ENXIO), ("dax0.99999", ENODEV), ("dax99.0", ENODEV), ("x", ENODEV)])?;
    empty.scrub("0")?;
    name.set("size", &empty.align.to_string())?;
    name.bind().map_err(errno("bind"))?;
    refuses(BIND, &[(&name.to_string(), EBUSY)])?;
    // What libdaxctl writes beside the two, with a NUL behind the name.
    for id in ["new_id", "remove_id"] {
        let path = format!("/sys/bus/dax/drivers/device_dax/{id}");
        refuses(&path, &[("x", EINVAL), ("dax0", EINVAL)])?;
        sysfs::write(&path, &format!("{name}\0")).map_err(errno(id))?;
    }
    name.unbind().map_err(errno("unbind"))?;
    sysfs::write(BIND, &format!("{name}\n")).map_err(errno("bind with a newline"))
}

fn open(name: Name) -> Result<i32, String> {
    sys::open(&name.node(), libc::O_RDWR).map_err(errno("open"))
}

fn map(fd: i32, len: usize) -> Result<Mapping, String> {
    Mapping::new(0, len, RW, MAP_SHARED, fd, 0).map_err(errno("mmap"))
}

/// A device that is enabled, open and mapped whole.
fn in_use(name: Name) -> Result<(i32, Mapping), String> {
    name.bind().map_err(errno("bind"))?;
    let fd = open(name)?;
    Ok((fd, map(fd, name.size()? as usize)?))
}

fn bound(empty: &Empty) -> Outcome {
    empty.scrub("0")?;
    let name = empty.make(1)?;
    let (fd, mapping) = in_use(name)?;
    let double = (2 * empty.align).to_string();
    refuses(&name.attribute("size"), &[("0", EBUSY), (&double, EBUSY)])?;
    refuses(&name.attribute("align"), &[("4096", EBUSY)])?;
    let free = empty.region.available()?;
    // A range that is free, so that nothing else is wrong with it.
    let resource = sysfs::read(&name.attribute("resource")).map_err(errno("resource"))?;
    let start = usize::from_str_radix(resource.trim_start_matches("0x"), 16).map_err(|_| "resource")?;
    let next = format!("{:x}-{:x}", start + empty.align, start + 2 * empty.align - 1);
    refuses(&name.attribute("mapping"), &[(&next, EBUSY)])?;
    ensure!(empty.region.available()? == free, "a refused change took memory");
    ensure!(mapping.store(0, 7).is_done(), "a refused change broke a mapping");
    sys::close(fd).map_err(errno("close"))
}

fn holes(empty: &Empty) -> Outcome {
    let unit = empty.units() / 4;
    empty.first.set("size", &(unit * empty.align).to_string())?;
    let [middle, third, end] = [empty.make(unit)?, empty.make(unit)?, empty.make(unit)?];
    ensure!([empty.first, middle, third, end].map(mappings) == [1; 4], "neighbours in one piece");
    for name in [middle, end] {
        name.set("size", "0")?;
    }
    let both = empty.make(2 * unit)?;
    ensure!(mappings(both) == 2, "{} mappings", mappings(both));
    Ok(())
}

fn alternate(empty: &Empty) -> Outcome {
    // At 1G there may be four units only: half a unit each, at 2M.
    let align = if empty.units() < 8 { 2 << 20 } else { empty.align };
    let step = empty.size / 8;
    let other = empty.make(0)?;
    for name in [empty.first, other] {
        name.set("align", &align.to_string())?;
    }
    for round in 1..=4 {
        for name in [empty.first, other] {
            name.set("size", &(round * step).to_string())?;
        }
    }
    let found = [empty.first, other].map(mappings);
    ensure!(found == [4, 4], "{found:?} mappings");
    ensure!(empty.region.available()? == 0, "something is left");
    Ok(())
}

fn head_and_tail(empty: &Empty) -> Outcome {
    let unit = empty.units() / 4;
    let bytes = |units: usize| (units * unit * empty.align).to_string();
    empty.first.set("size", &bytes(1))?;
    let name = empty.make(unit)?;
    // Its tail is free, and next to it.
    name.set("size", &bytes(2))?;
    ensure!(mappings(name) == 1, "{} mappings after growing the tail", mappings(name));
    empty.first.set("size", "0")?;
    name.set("size", &bytes(3))?;
    ensure!(mappings(name) == 2, "{} mappings after growing into the head", mappings(name));
    // Shrinking takes from the tail of the device, which is the head of the region.
    name.set("size", &bytes(2))?;
    ensure!(mappings(name) == 1, "{} mappings after shrinking", mappings(name));
    Ok(())
}

fn ids(empty: &Empty) -> Outcome {
    let names = [empty.make(0)?, empty.make(0)?, empty.make(0)?];
    ensure!(names.map(|name| name.id) == [1, 2, 3], "{names:?}");
    for name in [names[1], names[0]] {
        empty.region.delete(name).map_err(errno("delete"))?;
    }
    let again = [empty.make(0)?, empty.make(0)?, empty.make(0)?];
    ensure!(again.map(|name| name.id) == [1, 2, 4], "{again:?}");
    Ok(())
}

/// One owner writes, the next one looks. At 4K and 2M the device has a few units, at places of odd alignment.
fn scrubbed(empty: &Empty, scrub: &str) -> Outcome {
    let units = if empty.units() > 8 { 5 } else { 1 };
    let len = units * empty.align;
    let places = [0, 4096 - 1, len / 2, len - 4096, len - 1];
    let name = empty.make(units)?;
    empty.scrub("0")?;
    let (fd, mapping) = in_use(name)?;
    ensure!(places.iter().all(|&at| mapping.store(at, 0xa5).is_done()), "store");
    drop(mapping);
    sys::close(fd).map_err(errno("close"))?;
    name.destroy()?;
    empty.scrub(scrub)?;
    let next = empty.make(units)?;
    ensure!(next == name, "{next} is another device");
    let (fd, mapping) = in_use(next)?;
    let seen = places.map(|at| mapping.load(at));
    drop(mapping);
    sys::close(fd).map_err(errno("close"))?;
    let expected = if scrub == "1" { 0 } else { 0xa5 };
    ensure!(seen == [Touch::Done(expected); 5], "the next owner sees {seen:x?}");
    // Its own bytes are its own, also after it was disabled.
    let (fd, mapping) = {
        next.unbind().map_err(errno("unbind"))?;
        in_use(next)?
    };
    ensure!(mapping.store(0, 0x77).is_done(), "store");
    next.unbind().map_err(errno("unbind"))?;
    sys::close(fd).map_err(errno("close"))?;
    let (fd, mapping) = in_use(next)?;
    let own = mapping.load(0);
    sys::close(fd).map_err(errno("close"))?;
    ensure!(own == Touch::Done(0x77), "after a disable it sees {own:x?}");
    Ok(())
}

fn revoke(empty: &Empty) -> Outcome {
    empty.scrub("0")?;
    let name = empty.make(3)?;
    let (fd, mapping) = in_use(name)?;
    ensure!(mapping.store(0, 0x11).is_done() && mapping.store(2 * empty.align, 0x33).is_done(), "store");
    let path = name.attribute("size");
    refuses(&path, &[("1 revoke", EINVAL), ("0 please", EINVAL)])?;
    ensure!(mapping.load(0).is_done(), "a refused command revoked");
    name.set("size", &format!("{} revoke", 2 * empty.align))?;
    for at in [0, 2 * empty.align] {
        is_sigbus("load", mapping.load(at), mapping.addr + at)?;
    }
    let late = Mapping::new(0, empty.align, RW, MAP_SHARED, fd, 0).map(|_| ());
    ensure!(late == Err(Errno(ENXIO)), "mmap on the old descriptor: {late:?}");
    sys::close(fd).map_err(errno("close"))?;
    // It came back by itself, smaller, with its bytes.
    let fd = open(name)?;
    let now = map(fd, 2 * empty.align)?;
    let kept = now.load(0);
    sys::close(fd).map_err(errno("close"))?;
    ensure!(kept == Touch::Done(0x11) && name.size()? as usize == 2 * empty.align, "it holds {kept:x?}");
    // The old mapping stays dead.
    is_sigbus("load", mapping.load(0), mapping.addr)
}

fn neighbours(empty: &Empty) -> Outcome {
    empty.scrub("0")?;
    empty.first.set("size", &empty.align.to_string())?;
    let (fd, kept) = in_use(empty.first)?;
    ensure!(kept.store(0, 0x42).is_done(), "store");
    for round in 0..20 {
        let name = empty.make(1 + round % 2)?;
        let (other, mapping) = in_use(name)?;
        ensure!(mapping.store(0, round as u8).is_done(), "store in round {round}");
        name.destroy()?;
        is_sigbus("load", mapping.load(0), mapping.addr)?;
        sys::close(other).map_err(errno("close"))?;
        ensure!(kept.load(0) == Touch::Done(0x42), "the neighbour in round {round}");
    }
    sys::close(fd).map_err(errno("close"))
}

fn thousand(empty: &Empty) -> Outcome {
    empty.scrub("0")?;
    empty.first.set("size", "0")?;
    let mut names = Vec::new();
    for _ in 0..1000 {
        names.push(empty.region.create_bound(4096, 4096)?);
    }
    ensure!(names.iter().enumerate().all(|(at, name)| name.id as usize == at + 1), "ids");
    let numbers: std::collections::BTreeSet<String> =
        names.iter().filter_map(|name| sysfs::read(&name.attribute("dev")).ok()).collect();
    ensure!(numbers.len() == names.len(), "{} numbers of {} devices", numbers.len(), names.len());
    ensure!(numbers.iter().all(|number| number.starts_with("254:")), "another major");
    for path in ["/sys/bus/dax/devices", "/sys/dev/char", "/dev"] {
        let entries = std::fs::read_dir(path).map_err(|error| format!("{path}: {error}"))?;
        let listed: std::collections::HashSet<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        ensure!(listed.len() > names.len(), "{path} lists {} of {} devices", listed.len(), names.len());
    }
    for name in names.iter().rev() {
        name.destroy()?;
    }
    ensure!(empty.region.available()? as usize == empty.size, "memory is lost");
    Ok(())
}
