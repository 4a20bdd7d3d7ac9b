//! Exclusive claims on physical ranges: one holder a byte, and a refusal says who.

use crate::name::DeviceName;
use alloc::collections::BTreeMap;
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

/// A claim that is in the way of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The range held.
    pub taken: PhysRange,
    /// Who holds it.
    pub holder: Holder,
}

/// Disjoint ranges, each with its holder. Every operation is O(log n).
#[derive(Debug, Default)]
pub struct Claims {
    /// By the address of the first byte.
    by_start: BTreeMap<u64, (PhysRange, Holder)>,
}

impl Claims {
    /// Nothing is held.
    pub const fn new() -> Claims {
        Claims { by_start: BTreeMap::new() }
    }

    /// Gives `range` to `holder`; fails when any byte of it is held, naming the lowest such claim.
    pub fn claim(&mut self, range: PhysRange, holder: Holder) -> Result<(), Conflict> {
        if let Some((taken, holder)) = self.first_overlap(range) {
            return Err(Conflict { taken, holder });
        }
        self.by_start.insert(range.start().as_u64(), (range, holder));
        Ok(())
    }

    /// Takes back all that `holder` has.
    pub fn release_all(&mut self, holder: Holder) {
        self.by_start.retain(|_, (_, of)| *of != holder);
    }

    /// All claims, lowest address first.
    pub fn iter(&self) -> impl Iterator<Item = (PhysRange, Holder)> + '_ {
        self.by_start.values().copied()
    }

    fn first_overlap(&self, range: PhysRange) -> Option<(PhysRange, Holder)> {
        let start = range.start().as_u64();
        // The claims are disjoint: only the last one that starts before us can reach into us.
        let before = self.by_start.range(..start).next_back();
        let inside = self.by_start.range(start..range.end()).next();
        before.into_iter().chain(inside).map(|(_, claim)| *claim).find(|(taken, _)| taken.overlaps(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        /// Against a plain list: same answers, same conflicts, whatever the order of calls.
        #[test]
        fn claims_agree_with_a_list(
            calls in prop::collection::vec((0u64..64, 1u64..16, prop::bool::weighted(0.9)), 1..200),
        ) {
            let mut claims = Claims::new();
            let mut list: Vec<(PhysRange, Holder)> = Vec::new();
            for (start, len, claim) in calls {
                let range = PhysRange::new(start, len).unwrap();
                let holder = Holder::Region((start % 3) as u32);
                if claim {
                    let lowest = list.iter().filter(|(taken, _)| taken.overlaps(range)).min_by_key(|c| c.0);
                    let expected =
                        lowest.map_or(Ok(()), |&(taken, holder)| Err(Conflict { taken, holder }));
                    prop_assert_eq!(claims.claim(range, holder), expected);
                    if expected.is_ok() {
                        list.push((range, holder));
                    }
                } else {
                    claims.release_all(holder);
                    list.retain(|&(_, of)| of != holder);
                }
            }
            list.sort_by_key(|held| held.0);
            prop_assert!(claims.iter().eq(list));
        }
    }
}
