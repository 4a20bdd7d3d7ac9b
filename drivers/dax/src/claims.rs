//! Exclusive claims on physical ranges: one holder a byte, and a refusal says who.

use crate::error::DaxError;
use crate::memory;
use crate::name::DeviceName;
use alloc::vec::Vec;
use core::fmt;
use mm::range::PhysRange;

/// Who holds a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// A dax region.
    Region(u32),
    /// A dax device.
    Device(DeviceName),
    /// Somebody outside of this crate, such as "RAM" or "firmware".
    Other(&'static str),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Region(id) => write!(f, "region{id}"),
            Holder::Device(name) => write!(f, "{name}"),
            Holder::Other(who) => f.write_str(who),
        }
    }
}

/// Disjoint ranges, each with its holder: as many as there are regions and pieces of RAM, so a list will do.
#[derive(Debug, Default)]
pub struct Claims(Vec<(PhysRange, Holder)>);

impl Claims {
    /// Nothing is held.
    pub const fn new() -> Claims {
        Claims(Vec::new())
    }

    /// Gives `range` to `holder`. Fails with `Claimed` when any byte of it is held, naming the lowest such claim, or
    /// with `NoMemory`.
    pub fn claim(&mut self, range: PhysRange, holder: Holder) -> Result<(), DaxError> {
        let in_the_way =
            self.0.iter().filter(|(taken, _)| taken.overlaps(range)).min_by_key(|(taken, _)| *taken);
        if let Some(&(taken, holder)) = in_the_way {
            return Err(DaxError::Claimed { range, taken, holder });
        }
        memory::reserve_one(&mut self.0)?;
        self.0.push((range, holder));
        Ok(())
    }

    /// Takes back all that `holder` has.
    pub fn release_all(&mut self, holder: Holder) {
        self.0.retain(|(_, of)| *of != holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against every byte with its holder: same answers, same conflicts, whatever the order of calls.
        #[test]
        fn claims_agree_with_a_map_of_bytes(
            calls in prop::collection::vec((0u64..64, 1u64..16, prop::bool::weighted(0.9)), 1..200),
        ) {
            let mut claims = Claims::new();
            let mut bytes: BTreeMap<u64, (PhysRange, Holder)> = BTreeMap::new();
            for (start, len, claim) in calls {
                let range = PhysRange::new(start, len).unwrap();
                let holder = Holder::Region((start % 3) as u32);
                if claim {
                    let held = bytes.range(start..start + len).next();
                    let expected = held.map_or(Ok(()), |(_, &(taken, holder))| {
                        Err(DaxError::Claimed { range, taken, holder })
                    });
                    prop_assert_eq!(claims.claim(range, holder), expected);
                    if expected.is_ok() {
                        bytes.extend((start..start + len).map(|byte| (byte, (range, holder))));
                    }
                } else {
                    claims.release_all(holder);
                    bytes.retain(|_, &mut (_, of)| of != holder);
                }
            }
        }
    }
}
