//! NVDIMMs: data that stay, two of them, and what is on media that somebody else wrote.

use host_tests::media::{FILE_BYTES, Media, namespace};
use nvdimm::fletcher64;

use crate::case::{Boot, Case};

/// A run that finds no device, because of this.
fn without_device(why: &str) -> Boot {
    Boot::of("dax_mmap")
        .status(1)
        .log("open /dev/dax0.0: No such file")
        .log(format!("region0: no device: {why}"))
}

pub fn table() -> Vec<Case> {
    let mut table = persistence();
    table.extend(second_nvdimm());
    table.extend(media());
    // Handle 8 in an answer of the mailbox once looked like no answer at all.
    let eight: Vec<String> =
        (1..=8).flat_map(|n| ["--nvdimm".into(), format!("{{dir}}/{n}.img,size=16M")]).collect();
    let eight: Vec<&str> = eight.iter().map(String::as_str).collect();
    table.push(
        Case::new("q35 2M eight NVDIMMs")
            .boot(Boot::of("hello").with(&eight).log("dax0.0*16 MiB").log("dax7.0*16 MiB")),
    );
    table.push(Case::new("q35 2M no NVDIMM at all").boot(
        Boot::of("hello").with(&["--no-nvdimm"]).out("hello").log("nfit: none: this machine has no NVDIMM"),
    ));
    table.push(
        Case::new("q35 2M an unarmed NVDIMM is read-only").boot(
            Boot::of("dax_mmap")
                .with(&["--nvdimm", "{dir}/n.img,size=1G,unarmed=on"])
                .status(1)
                .log("region0*not armed: read-only")
                .log("open /dev/dax0.0: Read-only file system"),
        ),
    );
    table
}

/// What one boot stores the next one finds, at any alignment: byte 0 of the device is byte 0 of the range.
fn persistence() -> Vec<Case> {
    let kept =
        |program: &str, align: &str| Boot::of(program).at(align).with(&["--nvdimm", "{dir}/n.img,size=1G"]);
    let pattern = |mode: &str, align: &str| kept("pattern", align).args(&[mode, "7", "8"]).out(mode);
    vec![
        Case::new("q35 s7_6_the_counter_goes_on_at_each_boot")
            .boot(kept("counter", "4K").out("1"))
            .boot(kept("counter", "2M").out("2"))
            .boot(kept("counter", "1G").with(&["--machine", "pc"]).out("3")),
        Case::new("q35 s7_6_data_written_are_there_at_the_next_boot_at_every_alignment")
            .boot(pattern("write", "2M"))
            .boot(pattern("verify", "4K"))
            .boot(pattern("verify", "2M"))
            .boot(pattern("verify", "1G").with(&["--firmware", "seabios"])),
        Case::new("q35 2M s7_6_writes_leave_the_info_block_alone")
            .media(load("devdax-2M-dev"), 16 << 20)
            .boot(Boot::of("pattern").args(&["write", "3", "8"]).with(&["--nvdimm", "{dir}/nvdimm.img"]))
            .boot(Boot::of("pattern").args(&["verify", "3", "8"]).with(&["--nvdimm", "{dir}/nvdimm.img"])),
    ]
}

/// The first file holds its label, so that the second NVDIMM begins 128 KiB below a multiple of 4 GiB.
fn second_nvdimm() -> Vec<Case> {
    let devices = "-object memory-backend-file,id=l0,share=on,mem-path={dir}/a.img,size=4G \
                   -device nvdimm,memdev=l0,label-size=128K \
                   -object memory-backend-file,id=l1,share=on,mem-path={dir}/b.img,size=1G \
                   -device nvdimm,memdev=l1";
    let both = |align: &str| {
        let boot = Boot::of("memmap").at(align).with(&["--no-nvdimm", "--qemu-opts", devices]);
        boot.log("nfit: region0 [0x100000000-0x1fffdffff]").log("nfit: region1 [0x1fffe0000-0x23ffdffff]")
    };
    let refused = "region1: no device:*starts at 0x1fffe0000*the largest alignment that fits is 4K";
    let second = |boot: Boot| {
        boot.with(&["--env", "DAX_DEVICE=/dev/dax1.0"]).log("dax1.0 [0x1fffe0000-0x23ffdffff] align 4K")
    };
    vec![
        Case::new("q35 2M s7_1_a_misaligned_second_nvdimm_is_refused_with_what_fits").boot(
            both("2M").log(refused).out("1073741824 bytes by len, 4292870144 bytes by fstat").log("dax0.0"),
        ),
        Case::new("q35 1G s7_1_a_misaligned_second_nvdimm_is_refused_with_what_fits")
            .boot(both("1G").log(refused).out("1073741824 bytes by len, 3221225472 bytes by fstat")),
        Case::new(
            "q35 4K linux fault 9: a misaligned second NVDIMM is usable, and the lower one comes first",
        )
        .boot(second(both("4K")).out("stored")),
        Case::new("q35 2M dax.region1.align=4K makes a misaligned second NVDIMM usable").boot(
            second(both("2M").with(&["--append", "dax.region1.align=4K"])).out("stored").log("dax0.0*2M"),
        ),
    ]
}

/// Each fixture is recognised as its JSON says, and no byte of it changes.
fn media() -> Vec<Case> {
    let unchanged = |name: &str, media: Media, boot: Boot| {
        Case::new(format!("q35 2M media {name}, no byte changes"))
            .media(media, FILE_BYTES)
            .boot(boot.with(&["--nvdimm", "{dir}/nvdimm.img"]))
    };
    let device = |kind: &str| {
        let linux = namespace(kind, "namespace0.0");
        let number = |key: &str| linux[key].as_u64().expect("ndctl lists it");
        let align = if number("align") == 4096 { "4K" } else { "2M" };
        let size = number("size");
        Boot::of("ok").log(format!("dax: dax0.0 [*] align {align} size {size:#x} (")).log(uuid(kind))
    };
    let raw_size = namespace("raw", "namespace0.0")["size"].as_u64().expect("ndctl lists it");
    let refused = |kind: &str, what: &str| without_device(&format!("{what}*{}*: not touched", uuid(kind)));
    let mut table = vec![
        unchanged(
            "raw: used whole",
            load("raw"),
            Boot::of("ok").log(format!("dax0.0*2M size {raw_size:#x} (")),
        ),
        unchanged("devdax 2M: as Linux shows it", load("devdax-2M-dev"), device("devdax-2M-dev")),
        unchanged("devdax 4K: as Linux shows it", load("devdax-4K-mem"), device("devdax-4K-mem")),
        unchanged("fsdax: refused", load("fsdax"), refused("fsdax", "fsdax namespace")),
        unchanged("btt: refused", btt(), without_device("BTT namespace*: not touched")),
        unchanged("damaged fsdax: refused", damaged(), without_device("damaged fsdax info block: checksum")),
        unchanged(
            "fsdax with dax.force_raw: used whole",
            load("fsdax"),
            Boot::of("ok")
                .with(&["--append", "dax.force_raw"])
                .log("fsdax*overridden")
                .log("size 0x100000000 ("),
        ),
    ];
    let labelled = refused("labels-two", "labelled namespaces, 2 labels in use, first \"first\"");
    table.push(
        Case::new("q35 2M media two labels: refused, no byte changes")
            .media(load("labels-two"), FILE_BYTES)
            .boot(labelled.with(&["--nvdimm", "{dir}/nvdimm.img,label-size=128K"])),
    );
    table
}

fn load(kind: &str) -> Media {
    Media::load(kind).unwrap_or_else(|error| panic!("tests/media: {kind}: {error}"))
}

/// What identifies `namespace0.0`: its info block, or its label.
fn uuid(kind: &str) -> String {
    let linux = namespace(kind, "namespace0.0");
    let uuid = linux.get("raw_uuid").unwrap_or(&linux["uuid"]);
    uuid.as_str().expect("ndctl lists it").to_owned()
}

/// A BTT of version 2: info block at byte 0 (reference section 4.2).
fn btt() -> Media {
    let mut block = [0; 4096];
    block[..14].copy_from_slice(b"BTT_ARENA_INFO");
    block[16..32].fill(0x42);
    block[52..54].copy_from_slice(&2_u16.to_le_bytes());
    block[56..60].copy_from_slice(&512_u32.to_le_bytes());
    let sum = fletcher64(&block);
    block[4088..].copy_from_slice(&sum.to_le_bytes());
    Media::from_head(&block)
}

/// The head of the fsdax fixture with one byte of its info block flipped.
fn damaged() -> Media {
    let mut head = load("fsdax").head(nvdimm::HEAD_BYTES).to_vec();
    head[4096 + 100] ^= 1;
    Media::from_head(&head)
}
