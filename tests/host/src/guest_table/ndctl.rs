//! Debian's ndctl and daxctl in the guest: of a medium they say what they said of it on Linux, and devices are made
//! and destroyed with them.

use host_tests::media::{Media, listed, said};
use serde_json::json;

use crate::case::{Boot, Case};

pub fn table() -> Vec<Case> {
    let mut table: Vec<Case> = ["devdax-2M-dev", "devdax-4K-mem"].map(claimed).into();
    table.extend([bare(), devices()]);
    table
}

/// The fixtures were listed with these options; without them less is said of each.
fn ndctl(options: &[&str]) -> Boot {
    Boot::of("/usr/bin/ndctl").with(options).args(&["list", "-RNDv"])
}

fn daxctl(options: &[&str]) -> Boot {
    Boot::of("/usr/bin/daxctl").with(options).args(&["list", "-DRM"])
}

fn claimed(kind: &'static str) -> Case {
    let media = Media::load(kind).unwrap_or_else(|error| panic!("tests/media: {kind}: {error}"));
    let mut linux = said(kind, "ndctl");
    // The one difference (docs/differences.md): there are no labels to be aligned.
    let align = listed(kind)["namespaces"][0]["align"].clone();
    linux["regions"][0]["align"] = align;
    let with = ["--nvdimm", "{dir}/nvdimm.img"];
    Case::new(format!("q35 2M ndctl and daxctl list {kind} as on Linux"))
        .media(media, host_tests::media::FILE_BYTES)
        .boot(ndctl(&with).json("", linux))
        .boot(daxctl(&with).json("", said(kind, "daxctl")))
}

/// A range with nothing on it is a device from byte 0, where Linux has a raw namespace and a block device.
fn bare() -> Case {
    let size = 64_u64 << 20;
    let mut device =
        json!({"chardev": "dax0.0", "size": size, "target_node": 0, "align": 2 << 20, "mode": "devdax"});
    let region = json!({"id": 0, "size": size, "align": 2 << 20, "devices": [device.clone()]});
    let namespace = json!([{"dev": "namespace0.0", "mode": "devdax", "map": "mem", "size": size,
        "uuid": "00000000-0000-0000-0000-000000000000", "daxregion": region, "align": 2 << 20,
        "numa_node": 0, "target_node": 0}]);
    let start = 4_u64 << 30;
    device["mappings"] = json!([{"page_offset": 0, "start": start, "end": start + size - 1, "size": size}]);
    let with = ["--nvdimm", "{dir}/n.img,size=64M"];
    Case::new("q35 2M ndctl and daxctl list a range with nothing on it")
        .boot(ndctl(&with).json("/regions/0/size", size).json("/regions/0/namespaces", namespace))
        .boot(daxctl(&with).json("/0/devices", json!([device])))
}

fn devices() -> Case {
    let options = ["--nvdimm", "{dir}/n.img,size=64M", "--file", "/usr/bin/daxctl:/bin/daxctl"];
    Case::new("q35 2M daxctl").boot(Boot::of("daxctl.sh").with(&options).ktap())
}
