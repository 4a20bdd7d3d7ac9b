//! What of a range can be used, and what a refusal says.

use super::*;
use crate::ids::MINORS;
use crate::testing::{G1, M2, config, phys};
use proptest::prelude::*;
use std::string::ToString;

fn new(config: RegionConfig) -> Result<DaxRegion, DaxError> {
    DaxRegion::new(config, MINORS)
}

#[test]
fn s7_1_a_misaligned_head_is_refused_with_the_alignment_that_fits() {
    let range = phys(0x1_c002_0000, G1);
    let error = new(config(1, range, MapSize::Size2M)).expect_err("misaligned");
    assert_eq!(
        error.to_string(),
        "region1 [0x1c0020000-0x20001ffff] starts at 0x1c0020000, not a multiple of 2M: \
         the largest alignment that fits is 4K (dax.region1.align=4K)"
    );
    assert!(new(config(1, range, MapSize::Size4K)).is_ok());
}

#[test]
fn s7_1_a_region_of_less_than_one_entry_is_refused_with_the_alignment_that_fits() {
    let error = new(config(0, phys(4 * G1, G1 - M2), MapSize::Size1G)).expect_err("too small");
    assert_eq!(
        error.to_string(),
        "region0 [0x100000000-0x13fdfffff] has 0x3fe00000 bytes, less than one entry of 1G: \
         the largest alignment that fits is 2M (dax.region0.align=2M)"
    );
    let error = usable(3, phys(4 * G1 + 512, 4096), MapSize::Size4K).expect_err("misaligned");
    assert!(error.to_string().ends_with("no alignment fits, not even 4K"), "{error}");
}

#[test]
fn s7_4_a_region_tells_what_it_was_made_from() {
    let mut from = config(7, phys(4 * G1, G1 + 4096), MapSize::Size2M);
    (from.target_node, from.kind, from.access) = (Some(2), RegionKind::Volatile, MediaAccess::ReadOnly);
    let region = new(from).expect("aligned");
    assert_eq!((region.id(), region.align(), region.target_node()), (7, MapSize::Size2M, Some(2)));
    assert_eq!((region.kind(), region.access()), (RegionKind::Volatile, MediaAccess::ReadOnly));
    assert_eq!(region.range(), phys(4 * G1, G1), "only the tail is trimmed");
    assert_eq!(region.available_bytes(), G1);
}

proptest! {
    /// A usable range keeps its head, loses less than one entry of its tail, and is refused exactly when
    /// its head is misaligned or nothing is left; the alignment that a refusal names is usable, the next
    /// larger is not.
    #[test]
    fn s7_1_only_the_tail_is_ever_trimmed(
        start in (0u64..1 << 22, prop::sample::select(&[0u32, 12, 21, 30])).prop_map(|(n, shift)| n << shift),
        len in prop_oneof![1u64..3 * M2, 1u64..3 * G1],
        align in prop::sample::select(&MapSize::ALL),
    ) {
        let start = start % (1 << 50);
        let range = phys(start, len);
        match usable(0, range, align) {
            Ok(used) => {
                prop_assert_eq!(used.start(), range.start());
                prop_assert!(align.divides(start) && align.divides(used.len_bytes()));
                prop_assert!(range.contains(used) && len - used.len_bytes() < align.bytes());
            }
            Err(DaxError::HeadMisaligned { fits, .. }) => {
                prop_assert!(!align.divides(start));
                prop_assert!(fits < Some(align));
                prop_assert!(fits.is_none_or(|fits| usable(0, range, fits).is_ok()));
            }
            Err(DaxError::TooSmall { fits, .. }) => {
                prop_assert!(align.divides(start) && len < align.bytes());
                prop_assert!(fits < Some(align));
                prop_assert!(fits.is_none_or(|fits| usable(0, range, fits).is_ok()));
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
        let largest = MapSize::ALL.into_iter().filter(|&size| usable(0, range, size).is_ok()).max();
        prop_assert_eq!(largest_align(range), largest);
    }
}
