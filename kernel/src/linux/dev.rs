//! The devices of /dev that need no driver.

use linux_raw_sys::general::S_IFCHR;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// Reads nothing, takes everything.
    Null,
    /// Reads zeros, takes everything; mapped, it is anonymous memory.
    Zero,
    /// Reads random bytes, takes everything.
    Random,
}

/// The major number of /dev/daxX.Y: the first that Linux gives away dynamically
/// (Documentation/admin-guide/devices.txt, 234-254). Later drivers get 253 and so on.
pub const DAX_MAJOR: u32 = 254;

/// st_mode of /dev/daxX.Y.
pub const DAX_MODE: u32 = S_IFCHR | 0o600;

impl Device {
    /// Finds a device by its name under /dev.
    pub fn parse(name: &str) -> Option<Device> {
        match name {
            "null" => Some(Device::Null),
            "zero" => Some(Device::Zero),
            "random" | "urandom" => Some(Device::Random),
            _ => None,
        }
    }

    /// Major and minor number (Documentation/admin-guide/devices.txt).
    pub fn number(self) -> (u32, u32) {
        match self {
            Device::Null => (1, 3),
            Device::Zero => (1, 5),
            Device::Random => (1, 9),
        }
    }

    /// st_mode.
    pub fn mode(self) -> u32 {
        S_IFCHR | 0o666
    }
}
