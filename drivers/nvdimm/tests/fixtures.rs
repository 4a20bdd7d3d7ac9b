//! What Linux wrote and said about it, against what we make of the same bytes.

mod common;

use common::{json, no_labels, slice, sysfs};
use nvdimm::{ActiveSlot, Error, Extent, Found, HEAD_BYTES, InfoBlock, LabelIndex, Placement, Structure};
use nvdimm::{LabelFormat, identify};
use serde_json::Value;
use uuid::Uuid;

fn head(kind: &str) -> Vec<u8> {
    slice(&format!("{kind}.first16M"), HEAD_BYTES)
}

fn namespace(kind: &str, name: &str) -> Extent {
    let attribute = |attribute| sysfs(kind, &format!("{name}/{attribute}")).unwrap();
    Extent { base_phys: attribute("resource"), len_bytes: attribute("size") }
}

/// What `ndctl list` says about the namespace `name`.
fn listed(kind: &str, name: &str) -> Value {
    let list = json(&format!("{kind}.ndctl.json"));
    let namespaces = list["regions"][0]["namespaces"].as_array().unwrap();
    namespaces.iter().find(|namespace| namespace["dev"] == name).unwrap().clone()
}

fn uuid(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

fn assert_as_listed(placement: &Placement, listed: &Value, base_phys: u64, resource: u64) {
    assert_eq!(placement.uuid, uuid(&listed["uuid"]));
    assert_eq!(placement.map.to_string(), listed["map"].as_str().unwrap());
    assert_eq!(Some(placement.align_bytes), listed["align"].as_u64());
    assert_eq!(Some(placement.len_bytes), listed["size"].as_u64());
    assert_eq!(base_phys + placement.data_offset_bytes, resource);
}

fn assert_devdax_as_linux_shows(kind: &str) {
    let namespace = namespace(kind, "namespace0.0");
    let found = identify(&head(kind), no_labels(), namespace);
    let Found::DevDax(placement) = found else { panic!("{kind}: {found}") };
    let resource = sysfs(kind, "dax0.0/resource").unwrap();
    assert_as_listed(&placement, &listed(kind, "namespace0.0"), namespace.base_phys, resource);

    let daxctl = &json(&format!("{kind}.daxctl.json"))[0]["devices"][0];
    let device = found.device(namespace).unwrap();
    assert_eq!(daxctl["mode"], "devdax");
    assert_eq!(daxctl["align"].as_u64(), Some(placement.align_bytes));
    assert_eq!(daxctl["mappings"][0]["start"].as_u64(), Some(device.base_phys));
    assert_eq!(daxctl["mappings"][0]["end"].as_u64(), Some(device.end_phys().unwrap() - 1));
    assert_eq!(sysfs(kind, "dax0.0/size"), Some(device.len_bytes));
    assert_eq!(device.end_phys(), namespace.end_phys());
}

#[test]
fn raw_is_bare_and_used_whole() {
    let namespace = namespace("raw", "namespace0.0");
    let found = identify(&head("raw"), no_labels(), namespace);
    assert_eq!(found, Found::Bare);
    assert_eq!(listed("raw", "namespace0.0")["mode"], "raw");
    assert_eq!(
        listed("raw", "namespace0.0")["size"].as_u64(),
        Some(found.device(namespace).unwrap().len_bytes)
    );
}

#[test]
fn devdax_2m_is_placed_as_linux_shows() {
    assert_devdax_as_linux_shows("devdax-2M-dev");
}

#[test]
fn devdax_4k_is_placed_as_linux_shows() {
    assert_devdax_as_linux_shows("devdax-4K-mem");
}

#[test]
fn fsdax_is_recognised_and_gives_no_device() {
    let namespace = namespace("fsdax", "namespace0.0");
    let found = identify(&head("fsdax"), no_labels(), namespace);
    let Found::FsDax(placement) = found else { panic!("{found}") };
    let listed = listed("fsdax", "namespace0.0");
    assert_as_listed(&placement, &listed, namespace.base_phys, sysfs("fsdax", "pfn0.0/resource").unwrap());
    assert_eq!(found.device(namespace), None);
    assert_eq!(
        found.to_string(),
        "fsdax namespace, uuid 4ca9e71e-e1ea-41a7-96a0-d34832632767, map=dev, align 2M, 4030M at offset 66M"
    );
}

/// The label area: the last 128 KiB of the backing file.
fn label_area() -> Vec<u8> {
    slice("labels-two.last1M", 1 << 20).split_off((1 << 20) - (128 << 10))
}

/// What `ndctl read-labels` printed; its first line is no JSON.
fn label_dump() -> Value {
    let text = common::text("labels-two.labels.json");
    serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
}

fn whole_region() -> Extent {
    let list = json("labels-two.ndctl.json");
    Extent { base_phys: common::BASE, len_bytes: list["regions"][0]["size"].as_u64().unwrap() }
}

#[test]
fn labels_are_recognised_and_give_no_device() {
    let area = label_area();
    let found = identify(&head("labels-two"), Some(&area[..]), whole_region());
    let Found::Labelled(labelled) = found else { panic!("{found}") };
    assert_eq!((labelled.labels, labelled.damaged), (2, 0));
    assert_eq!(labelled.first.name(), b"first");
    assert_eq!(labelled.first.uuid, uuid(&listed("labels-two", "namespace0.0")["raw_uuid"]));
    assert_eq!(found.device(whole_region()), None);
    assert_eq!(
        found.to_string(),
        "labelled namespaces, 2 labels in use, first \"first\", uuid e58fdd56-cd90-428f-b03f-f44d09f16848, 1G"
    );
}

#[test]
fn labels_in_use_are_those_of_the_current_index() {
    let area = label_area();
    let mut area = &area[..];
    let index = LabelIndex::current(&mut area).unwrap().unwrap();
    let dump = label_dump();
    let dumped_index = &dump[0]["index"][0];
    assert_eq!(index.format(), LabelFormat::V1_1);
    assert_eq!(Some(index.format().label_bytes()), dumped_index["labelsize"].as_u64());
    assert_eq!(Some(u64::from(index.slots())), dumped_index["nslot"].as_u64());
    assert_eq!(Some(u64::from(index.sequence())), dumped_index["seq"].as_u64());

    let mut in_use = Vec::new();
    index
        .for_each_active(&mut area, |slot| match slot {
            ActiveSlot::Label(label) => in_use.push(label),
            other => panic!("{other:?}"),
        })
        .unwrap();
    // Slot 0 of the dump is the first write of `second`, freed since.
    assert_eq!(in_use.iter().map(|label| label.slot).collect::<Vec<_>>(), [1, 2]);
    for label in in_use {
        let dumped = &dump[0]["label"][label.slot as usize];
        assert_eq!(label.uuid, uuid(&dumped["uuid"]));
        assert_eq!(label.name(), dumped["name"].as_str().unwrap().as_bytes());
        assert_eq!(Some(label.dpa), dumped["dpa"].as_u64());
        assert_eq!(Some(label.rawsize_bytes), dumped["rawsize"].as_u64());
        assert_eq!(Some(label.set_cookie), dumped["isetcookie"].as_u64());
        assert_eq!(Some(u64::from(label.label_count)), dumped["nlabel"].as_u64());
    }
}

#[test]
fn info_blocks_of_labelled_namespaces_are_placed_as_linux_shows() {
    let cases = [("first16M", "namespace0.0", "dax0.0"), ("at1G-16M", "namespace0.1", "pfn0.0")];
    for (image, name, device) in cases {
        let head = slice(&format!("labels-two.{image}"), HEAD_BYTES);
        let block = head.last_chunk().unwrap();
        let (namespace, listed) = (namespace("labels-two", name), listed("labels-two", name));
        let info = InfoBlock::parse(block).unwrap().unwrap();
        assert_eq!(info.kind.to_string(), listed["mode"].as_str().unwrap());
        let placement = info.place(namespace, uuid(&listed["raw_uuid"])).unwrap();
        let resource = sysfs("labels-two", &format!("{device}/resource")).unwrap();
        assert_as_listed(&placement, &listed, namespace.base_phys, resource);
    }
}

#[test]
fn info_block_of_a_lost_label_is_refused_with_its_namespace() {
    let found = identify(&head("labels-two"), no_labels(), whole_region());
    let Found::Damaged { what: Structure::InfoBlock(_), why: Error::ParentUuid { found: parent, .. } } =
        found
    else {
        panic!("{found}")
    };
    assert_eq!(parent, uuid(&listed("labels-two", "namespace0.0")["raw_uuid"]));
    assert!(found.to_string().contains("e58fdd56-cd90-428f-b03f-f44d09f16848"), "{found}");
    assert_eq!(found.device(whole_region()), None);
}
