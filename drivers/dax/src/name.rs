//! Names of devices: `dax0.0` is device 0 of region 0.

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

    proptest! {
        #[test]
        fn a_displayed_name_parses_back(region: u32, id: u32) {
            let name = DeviceName { region, id };
            prop_assert_eq!(DeviceName::parse(&name.to_string()), Some(name));
        }
    }
}
