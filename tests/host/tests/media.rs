//! From media as Linux left them to page-table entries: the fixtures of `tests/media` behind a real NFIT.

use std::fs;
use std::path::Path;

use host_tests::fake::{Discovery, Machine, discover, map_request};
use host_tests::media::{FILE_BYTES, KINDS, LABEL_BYTES, Media, listed, namespace};
use mm::pager::{Access, FaultError};
use mm::range::{MapSize, PhysRange};

/// Where QEMU puts the first NVDIMM, here and where the fixtures were made.
const BASE: u64 = 4 << 30;

/// Discovers the device of a fixture behind the NFIT of one NVDIMM of 4 GiB.
fn fixture(kind: &str, align: MapSize) -> Discovery {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../acpi/single-nolabel/NFIT.bin");
    let table = fs::read(path).expect("the table is in the tree");
    let media = Media::load(kind).expect("the slices are in the tree");
    discover(&table, align, |region| {
        assert_eq!((region.base, region.len_bytes), (BASE, FILE_BYTES));
        let labels = (kind == "labels-two").then(|| media.tail(LABEL_BYTES).to_vec());
        (media.head(nvdimm::HEAD_BYTES).to_vec(), labels)
    })
}

/// Maps the whole device, touches both ends, and returns where it begins and the size of its entries.
fn touch_both_ends(discovery: &Discovery) -> (PhysRange, MapSize) {
    let (space, device) = (Machine::new(16 << 20).space(0), discovery.open(0));
    let (dev_dax, align) = (device.device(), device.device().align());
    let (whole, size_bytes) = (dev_dax.ranges().next().expect("it has bytes").phys, dev_dax.size_bytes());
    let addr = space.mmap(&map_request(&device, 0, size_bytes + align.bytes())).expect("it is aligned");
    for offset in [0, size_bytes - 1] {
        space.fault(addr + offset, Access::Write).expect("inside the device");
        let leaf = space.walk(addr + offset).leaf.expect("the fault mapped it");
        assert_eq!(leaf.size, align);
        assert_eq!(leaf.phys.as_u64(), whole.start().as_u64() + offset - offset % align.bytes());
    }
    assert_eq!(space.fault(addr + size_bytes, Access::Read), Err(FaultError::Bus));
    (whole, align)
}

#[test]
fn s7_1_a_devdax_info_block_decides_place_size_and_alignment() {
    for kind in ["devdax-2M-dev", "devdax-4K-mem"] {
        let linux = namespace(kind, "namespace0.0");
        // What the command line asks for counts for bare media only.
        for asked in MapSize::ALL {
            let (range, align) = touch_both_ends(&fixture(kind, asked));
            assert_eq!(Some(align.bytes()), linux["align"].as_u64(), "{kind}");
            assert_eq!(Some(range.len_bytes()), linux["size"].as_u64(), "{kind}");
            assert_eq!(range.end(), BASE + FILE_BYTES, "{kind}: the data ends with the range");
        }
    }
}

#[test]
fn s6_2_bare_media_are_mapped_whole_in_entries_of_the_alignment_asked_for() {
    assert_eq!(namespace("raw", "namespace0.0")["mode"], "raw");
    for asked in MapSize::ALL {
        let (range, align) = touch_both_ends(&fixture("raw", asked));
        assert_eq!((range, align), (PhysRange::new(BASE, FILE_BYTES).expect("a range"), asked));
    }
}

#[test]
fn what_is_somebodys_data_gives_no_device_and_is_named() {
    for kind in ["fsdax", "labels-two"] {
        let discovery = fixture(kind, MapSize::Size2M);
        assert!(discovery.registry.next_device(None).is_none(), "{kind}");
        let [why] = &discovery.refused[..] else { panic!("{kind}: {:?}", discovery.refused) };
        let linux = namespace(kind, "namespace0.0");
        let uuid = linux.get("raw_uuid").unwrap_or(&linux["uuid"]);
        assert!(why.contains(uuid.as_str().expect("a uuid")), "{kind}: {why}");
        let mode = if kind == "fsdax" { "fsdax namespace" } else { "labelled namespaces, 2 labels in use" };
        assert!(why.contains(mode), "{kind}: {why}");
    }
}

#[test]
fn an_expanded_fixture_is_its_slices_and_any_change_is_noticed() {
    use std::os::unix::fs::FileExt;
    let path = std::env::temp_dir().join(format!("daxite-media-{}.img", std::process::id()));
    for kind in KINDS {
        let media = Media::load(kind).expect("the slices are in the tree");
        media.expand(&path).expect("there is room for a sparse file");
        assert!(listed(kind)["size"].as_u64().is_some_and(|size| size <= FILE_BYTES));
        assert_eq!(media.difference(&path, FILE_BYTES).expect("readable"), None, "{kind}");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("writable");
        // A hole in every fixture.
        file.write_all_at(&[1], 3 << 30).expect("writable");
        let difference = media.difference(&path, FILE_BYTES).expect("readable");
        assert_eq!(difference.as_deref(), Some("byte 0xc0000000 of the file was 0x0 and is 0x1"), "{kind}");
        assert_eq!(media.difference(&path, 1 << 30).expect("readable"), None, "{kind}: only the head counts");
    }
    fs::remove_file(path).expect("it was made");
}
