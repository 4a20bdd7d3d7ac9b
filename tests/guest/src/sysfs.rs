//! Devices by their attributes under /sys: made, sized, bound to their driver, unbound, deleted.

use std::ffi::CString;
use std::fmt;

use crate::sys::{self, Errno};

/// Writes `text` to an attribute, in one write(2) as the shell's echo does.
pub fn write(path: &str, text: &str) -> Result<(), Errno> {
    let fd = open(path, libc::O_WRONLY)?;
    let written = sys::write(fd, text.as_bytes());
    sys::close(fd)?;
    written.map(drop)
}

/// The text of an attribute without the newline at its end.
pub fn read(path: &str) -> Result<String, Errno> {
    let fd = open(path, libc::O_RDONLY)?;
    let mut buffer = [0; 4096];
    let len = sys::read(fd, &mut buffer);
    sys::close(fd)?;
    Ok(String::from_utf8_lossy(&buffer[..len?]).trim_end_matches('\n').to_owned())
}

/// Opens an attribute.
pub fn open(path: &str, flags: i32) -> Result<i32, Errno> {
    let path = CString::new(path).map_err(|_| Errno(libc::EINVAL))?;
    sys::open(&path, flags)
}

/// `regionN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region(pub u32);

/// `daxX.Y`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// X.
    pub region: u32,
    /// Y.
    pub id: u32,
}

/// The driver's attribute that brings a device to life.
pub const BIND: &str = "/sys/bus/dax/drivers/device_dax/bind";
/// The driver's attribute that disables a device.
pub const UNBIND: &str = "/sys/bus/dax/drivers/device_dax/unbind";

impl Region {
    /// The path of one of its attributes; it is there with and without devices.
    pub fn attribute(self, name: &str) -> String {
        format!("/sys/bus/nd/devices/region{}/dax_region/{name}", self.0)
    }

    /// Makes a device without memory; the name that the kernel gave it.
    pub fn create(self) -> Result<Name, String> {
        let path = self.attribute("create");
        write(&path, "1").map_err(|errno| format!("write of 1 to {path}: {errno}"))?;
        let text = read(&path).map_err(|errno| format!("read of {path}: {errno}"))?;
        Name::parse(&text).ok_or_else(|| format!("{path} is {text:?} and not a device's name"))
    }

    /// Makes a device of `size` bytes at `align` bytes and enables it.
    pub fn create_bound(self, size: u64, align: usize) -> Result<Name, String> {
        let name = self.create()?;
        name.set("align", &align.to_string())?;
        name.set("size", &size.to_string())?;
        name.bind().map_err(|errno| format!("bind of {name}: {errno}"))?;
        Ok(name)
    }

    /// Deletes a device that is disabled and has no memory.
    pub fn delete(self, name: Name) -> Result<(), Errno> {
        write(&self.attribute("delete"), &name.to_string())
    }

    /// Bytes that no device has.
    pub fn available(self) -> Result<u64, String> {
        number(&self.attribute("available_size"))
    }
}

impl Name {
    /// Reads `dax0.1`.
    pub fn parse(text: &str) -> Option<Name> {
        let (region, id) = text.strip_prefix("dax")?.split_once('.')?;
        Some(Name { region: region.parse().ok()?, id: id.parse().ok()? })
    }

    /// The path of one of its attributes.
    pub fn attribute(self, name: &str) -> String {
        format!("/sys/bus/dax/devices/{self}/{name}")
    }

    /// The file that programs open.
    pub fn node(self) -> CString {
        CString::new(format!("/dev/{self}")).expect("a name holds no NUL")
    }

    /// Writes an attribute; the error names it.
    pub fn set(self, name: &str, text: &str) -> Result<(), String> {
        let path = self.attribute(name);
        write(&path, text).map_err(|errno| format!("write of {text} to {path}: {errno}"))
    }

    /// Its bytes.
    pub fn size(self) -> Result<u64, String> {
        number(&self.attribute("size"))
    }

    /// Enables it.
    pub fn bind(self) -> Result<(), Errno> {
        write(BIND, &self.to_string())
    }

    /// Disables it: when this returns nobody has an entry of it any more.
    pub fn unbind(self) -> Result<(), Errno> {
        write(UNBIND, &self.to_string())
    }

    /// Disables it, takes its memory, and deletes it.
    pub fn destroy(self) -> Result<(), String> {
        self.unbind().map_err(|errno| format!("unbind of {self}: {errno}"))?;
        self.set("size", "0")?;
        Region(self.region).delete(self).map_err(|errno| format!("delete of {self}: {errno}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dax{}.{}", self.region, self.id)
    }
}

fn number(path: &str) -> Result<u64, String> {
    let text = read(path).map_err(|errno| format!("read of {path}: {errno}"))?;
    text.parse().map_err(|_| format!("{path} is {text:?} and not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        let name = Name { region: 2, id: 31 };
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert_eq!(name.attribute("size"), "/sys/bus/dax/devices/dax2.31/size");
        for text in ["", "dax", "dax1", "dax.1", "dax1.", "nmem0", "dax1.2.3"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
