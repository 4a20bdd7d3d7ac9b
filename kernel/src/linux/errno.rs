//! Where errnos are born: every refusal of the floors below becomes its Linux number here, and nowhere else.
//!
//! The matches have no `_` arm: a new refusal does not compile until somebody has decided what a program
//! gets to see.

use crate::user_memory::BadAddress;
use linux_raw_sys::errno;
use mm::pager::{FaultError, Refusal};
#[cfg(feature = "dax")]
use {
    crate::control::ControlError,
    dax::{DaxError, lifetime::LifetimeError},
};

/// Why a call failed, as a positive Linux number. (`u64`, so that a call's result travels in two registers.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(u64);

/// What a call answers: a value for rax, or an errno.
pub type Answer = Result<u64, Errno>;

macro_rules! numbers {
    ($($name:ident)*) => {
        #[allow(missing_docs)] // the names are POSIX's
        impl Errno {
            $(pub const $name: Errno = Errno(errno::$name as u64);)*
        }
    };
}

numbers! {
    E2BIG EACCES EAGAIN EBADF EBUSY ECHILD EEXIST EFAULT EFBIG EHWPOISON EINTR EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE
    ENAMETOOLONG ENODEV ENOENT ENOLCK
    ENOEXEC ENOMEM ENOSPC ENOSYS ENOTDIR ENOTEMPTY ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE ERANGE EROFS ESPIPE ESRCH
    ETIMEDOUT EXDEV
}

impl Errno {
    /// What a failed call leaves in rax.
    pub const fn to_rax(self) -> u64 {
        self.0.wrapping_neg()
    }
}

impl From<BadAddress> for Errno {
    fn from(BadAddress: BadAddress) -> Errno {
        Errno::EFAULT
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Errno {
        match refusal {
            Refusal::Dead => Errno::ENXIO,
            Refusal::PrivateDevice
            | Refusal::NotPoisoned
            | Refusal::Misaligned { .. }
            | Refusal::ZeroLength => Errno::EINVAL,
            Refusal::OffsetOverflow { .. } => Errno::EOVERFLOW,
            Refusal::CutsMapping { .. }
            | Refusal::NoAddresses { .. }
            | Refusal::NotMapped { .. }
            | Refusal::NoMemory => Errno::ENOMEM,
            Refusal::Occupied { .. } => Errno::EEXIST,
            Refusal::Protection { .. } => Errno::EACCES,
        }
    }
}

/// A fault that a call took on the program's behalf (MADV_POPULATE_*: mm/madvise.c, faultin_page_range).
impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Errno {
        match error {
            FaultError::NotMapped | FaultError::NoMemory => Errno::ENOMEM,
            FaultError::Protection => Errno::EINVAL,
            FaultError::Bus => Errno::EFAULT,
            FaultError::Poisoned => Errno::EHWPOISON,
        }
    }
}

/// A command written to /sys (drivers/dax/bus.c; reference 5.9).
#[cfg(feature = "dax")]
impl From<ControlError> for Errno {
    fn from(error: ControlError) -> Errno {
        match error {
            ControlError::Syntax { .. } | ControlError::Invalid { .. } => Errno::EINVAL,
            ControlError::TooLarge => Errno::ERANGE,
            ControlError::NoDevice | ControlError::NotBound { .. } => Errno::ENODEV,
            ControlError::NoAlign
            | ControlError::NotInRegion
            | ControlError::Empty { .. }
            | ControlError::RangeMisaligned { .. } => Errno::ENXIO,
            ControlError::Bound { .. }
            | ControlError::Mapped { .. }
            | ControlError::HasMemory { .. }
            | ControlError::First { .. } => Errno::EBUSY,
            ControlError::RegionFull { .. } => Errno::ENOSPC,
            ControlError::Interrupted => Errno::EINTR,
            ControlError::Dax(error) => error.into(),
        }
    }
}

#[cfg(feature = "dax")]
impl From<DaxError> for Errno {
    fn from(error: DaxError) -> Errno {
        match error {
            DaxError::HeadMisaligned { .. }
            | DaxError::TooSmall { .. }
            | DaxError::Twice { .. }
            | DaxError::Misaligned { .. }
            | DaxError::SizeMisaligned { .. } => Errno::EINVAL,
            // Only a device's `mapping` names a range, and Linux says ENOMEM there.
            DaxError::OutsideRegion { .. } | DaxError::Claimed { .. } | DaxError::NoMemory => Errno::ENOMEM,
            DaxError::NoSpace { .. } | DaxError::NoNumber { .. } => Errno::ENOSPC,
            DaxError::RegionExists { .. } | DaxError::NameExists { .. } => Errno::EEXIST,
            DaxError::NoSuchRegion { .. } | DaxError::NoSuchDevice { .. } | DaxError::NoBytes { .. } => {
                Errno::ENXIO
            }
            DaxError::RegionInUse { .. }
            | DaxError::Unscrubbed { .. }
            | DaxError::Mapped { .. }
            | DaxError::AtWork { .. }
            | DaxError::Held { .. } => Errno::EBUSY,
            DaxError::Lifetime { why, .. } => match why {
                LifetimeError::Alive | LifetimeError::Dying | LifetimeError::PinHeld => Errno::EBUSY,
                LifetimeError::Dead | LifetimeError::Retired => Errno::ENXIO,
                LifetimeError::NoMemory => Errno::ENOMEM,
            },
            DaxError::NoPages { .. } | DaxError::PastEnd { .. } => Errno::ERANGE,
            DaxError::ManyPages { .. } => Errno::EIO,
            DaxError::NoOperation { .. } => Errno::EOPNOTSUPP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_leaves_the_negated_number_in_rax() {
        assert_eq!(Errno::EINVAL.to_rax() as i64, -22);
        assert_eq!(Errno::from(Refusal::Dead).to_rax() as i64, -6);
    }
}
