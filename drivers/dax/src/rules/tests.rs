//! Each row of device-dax reference 5.3, and the window rule of 5.5.

use super::*;
use crate::testing::vma;
use proptest::prelude::*;
use x86_64::VirtAddr;

const BASE: u64 = 0x4000_0000_0000;

#[test]
fn s6_1_each_row_refuses_in_the_order_of_the_reference() {
    for align in MapSize::ALL {
        let unit = align.bytes();
        assert_eq!(check_vma(&vma(BASE, unit, 0), align), Ok(()));
        assert_eq!(check_vma(&vma(BASE, 3 * unit, 5 * unit), align), Ok(()));

        // Every combination of the four faults: the first row that is hurt answers.
        for hurt in 1..16u64 {
            let (private, start, end, offset) = (hurt & 1, hurt >> 1 & 1, hurt >> 2 & 1, hurt >> 3 & 1);
            let small = unit / 2;
            let (first, last) = (BASE + start * small, BASE + 4 * unit + end * small);
            let mut request = vma(first, last - first, unit + offset * small);
            if private == 1 {
                request.sharing = Sharing::Private;
            }
            let expected = match (private, start, end) {
                (1, ..) => Refusal::PrivateDevice,
                (_, 1, _) => Refusal::Misaligned { what: "address", value: first, align },
                (_, _, 1) => Refusal::Misaligned { what: "length", value: last - first, align },
                _ => Refusal::Misaligned { what: "offset", value: unit + small, align },
            };
            assert_eq!(check_vma(&request, align), Err(expected), "{align} {hurt:04b}");
        }
    }
}

#[test]
fn s6_1_one_byte_of_a_2m_device_is_refused_for_its_length() {
    let refusal = Refusal::Misaligned { what: "length", value: 4096, align: MapSize::Size2M };
    assert_eq!(check_vma(&vma(BASE, 4096, 0), MapSize::Size2M), Err(refusal));
}

#[test]
fn s6_2_a_window_that_is_not_inside_the_vma_has_no_offset() {
    for align in [MapSize::Size2M, MapSize::Size1G] {
        let unit = align.bytes();
        let head = vma(BASE + 4096, unit, 0);
        assert_eq!(head.entry_offset(VirtAddr::new(BASE + 8192), align), None, "head of {align}");
        let tail = vma(BASE, 2 * unit - 4096, 0);
        assert_eq!(tail.entry_offset(VirtAddr::new(BASE + unit), align), None, "tail of {align}");
        assert_eq!(tail.entry_offset(VirtAddr::new(BASE + unit - 1), align), Some(0));
    }
}

#[test]
fn an_offset_that_overflows_is_none() {
    let align = MapSize::Size4K;
    let last = !4095;
    assert_eq!(vma(BASE, 8192, last).entry_offset(VirtAddr::new(BASE), align), Some(last));
    assert_eq!(vma(BASE, 8192, last).entry_offset(VirtAddr::new(BASE + 4096), align), None);
}

proptest! {
    /// In a vma that `check_vma` allows, every byte has a window, and the window shows that byte.
    #[test]
    fn s6_2_in_an_allowed_vma_every_byte_has_its_window(
        align in prop::sample::select(&MapSize::ALL),
        (units, at) in (1u64..64).prop_flat_map(|units| (Just(units), 0..units)),
        within in any::<u64>(),
        offset_units in 0u64..64,
    ) {
        let unit = align.bytes();
        let request = vma(BASE, units * unit, offset_units * unit);
        prop_assert_eq!(check_vma(&request, align), Ok(()));
        let address = BASE + at * unit + within % unit;
        prop_assert_eq!(request.entry_offset(VirtAddr::new(address), align), Some((offset_units + at) * unit));
    }
}
