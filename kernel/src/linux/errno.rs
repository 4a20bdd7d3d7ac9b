//! Where errnos are born: every refusal of the floors below becomes its Linux number here, and nowhere else.
//!
//! The matches have no `_` arm: a new refusal does not compile until somebody has decided what a program
//! gets to see.

use crate::user_memory::BadAddress;
use linux_raw_sys::errno;
use mm::pager::{FaultError, Refusal};

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
    E2BIG EACCES EAGAIN EBADF ECHILD EEXIST EFAULT EINTR EINVAL EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENODEV ENOENT
    ENOEXEC ENOMEM ENOSYS ENOTDIR ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM ERANGE EROFS ESPIPE ESRCH ETIMEDOUT
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
            | Refusal::Misaligned { .. }
            | Refusal::ZeroLength
            | Refusal::NotUserRange { .. } => Errno::EINVAL,
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
