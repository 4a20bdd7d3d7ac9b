//! Names of devices: `dax0.0` is device 0 of region 0; `ram0` is a device that its provider named.

use core::fmt;

/// The name of a device: `dax<region>.<id>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceName {
    /// Number of the region that the device was cut from.
    pub region: u32,
    /// Number of the device in its region; the lowest free one at its creation.
    pub id: u32,
}

impl DeviceName {
    /// Reads a name as [`DeviceName`] displays it; `None` for any other text, `dax00.0` among them.
    pub fn parse(text: &str) -> Option<DeviceName> {
        let (region, id) = text.strip_prefix("dax")?.split_once('.')?;
        Some(DeviceName { region: parse_number(region)?, id: parse_number(id)? })
    }
}

/// The name of a generic dax device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DaxName {
    /// A device of a region.
    Device(DeviceName),
    /// A device whose provider has a name for it: the stem and a number, as in `ram0`.
    Host(&'static str, u32),
}

impl From<DeviceName> for DaxName {
    fn from(name: DeviceName) -> DaxName {
        DaxName::Device(name)
    }
}

impl DaxName {
    /// Is it spelled so?
    pub fn is(&self, text: &str) -> bool {
        match *self {
            DaxName::Device(name) => DeviceName::parse(text) == Some(name),
            DaxName::Host(stem, number) => text.strip_prefix(stem).and_then(parse_number) == Some(number),
        }
    }
}

impl fmt::Display for DaxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaxName::Device(name) => name.fmt(f),
            DaxName::Host(stem, number) => write!(f, "{stem}{number}"),
        }
    }
}

/// Reads decimal digits only: a name has one spelling, so `+1` and `01` are not numbers here.
fn parse_number(text: &str) -> Option<u32> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dax{}.{}", self.region, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(DeviceName::parse("dax0.0"), Some(DeviceName { region: 0, id: 0 }));
        for text in
            ["", "dax", "dax0", "dax0.", "dax.0", "dax00.0", "dax0.01", "dax+1.0", "dax0.0.0", "dax-1.0"]
        {
            assert_eq!(DeviceName::parse(text), None, "{text}");
        }
        assert_eq!(DeviceName::parse("dax0.4294967296"), None);
    }

    #[test]
    fn a_host_name_is_a_stem_and_a_number() {
        let name = DaxName::Host("ram", 10);
        assert_eq!(name.to_string(), "ram10");
        assert!(name.is("ram10") && !name.is("ram1") && !name.is("ram010") && !name.is("rom10"));
        assert!(DaxName::Device(DeviceName { region: 0, id: 1 }).is("dax0.1"));
    }

    proptest! {
        #[test]
        fn a_displayed_name_parses_back(region: u32, id: u32) {
            let name = DeviceName { region, id };
            prop_assert_eq!(DeviceName::parse(&name.to_string()), Some(name));
        }
    }
}
