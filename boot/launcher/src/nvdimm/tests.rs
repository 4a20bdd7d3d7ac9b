use tempfile::TempDir;

use super::*;

/// A directory with `nv.img` of this length.
fn with_file(len_bytes: u64) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = File::create(dir.path().join("nv.img")).expect("created");
    file.set_len(len_bytes).expect("sparse");
    dir
}

fn empty() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// Checks `DIR/nv.img` with these options for devices of 2 MiB alignment.
fn check(dir: &TempDir, options: &str) -> Result<Nvdimm, Failure> {
    request(dir, options).check(MIB_2)
}

fn request(dir: &TempDir, options: &str) -> NvdimmRequest {
    format!("{}/nv.img{options}", dir.path().display()).parse().expect("well-formed")
}

fn refusal(dir: &TempDir, options: &str) -> String {
    check(dir, options).expect_err(options).message
}

const MIB: u64 = 1 << 20;

#[test]
fn a_missing_file_is_made_sparse_with_room_for_the_label() {
    let dir = empty();
    let nvdimm = check(&dir, ",size=64M,label-size=128K").expect("fine");
    assert_eq!(nvdimm.usable, Size(64 * MIB));
    assert!(!dir.path().join("nv.img").exists(), "checking makes nothing");
    let file = nvdimm.open().expect("made");
    assert_eq!(file.metadata().expect("there").len(), 64 * MIB + (128 << 10));
}

#[test]
fn without_a_size_a_new_file_has_1g_and_an_existing_one_is_used_whole() {
    assert_eq!(check(&empty(), "").expect("fine").usable, GIB);
    assert_eq!(check(&with_file(0), "").expect("empty is as good as missing").usable, GIB);
    let whole = check(&with_file(8 * MIB), ",label-size=1M").expect("fine");
    assert_eq!((whole.usable, whole.label), (Size(7 * MIB), Some(Size(MIB))));
}

#[test]
fn an_existing_file_keeps_its_bytes_and_its_length() {
    let dir = with_file(4 * MIB);
    let path = dir.path().join("nv.img");
    let mut bytes = fs::read(&path).expect("read");
    bytes[5] = 7;
    fs::write(&path, &bytes).expect("written");
    let _file = check(&dir, "").expect("fine").open().expect("opened");
    assert!(fs::read(&path).expect("read") == bytes);
}

#[test]
fn a_size_against_the_file_is_refused_with_both_numbers() {
    for options in [",size=4M", ",size=16M", ",size=8M,label-size=128K"] {
        let why = refusal(&with_file(8 * MIB), options);
        assert!(why.contains("the file has 8M"), "{why}");
    }
    check(&with_file(8 * MIB + (128 << 10)), ",size=8M,label-size=128K").expect("file = size + label");
}

#[test]
fn bad_numbers_are_named() {
    for (options, words) in [
        (",label-size=64K", "label-size 64K is too small"),
        (",label-size=131073", "label-size 131073 bytes is not a multiple of 4K"),
        (",align=3M", "align 3M is not a power of two"),
        (",align=2K", "align 2K is not a power of two"),
        (",align=0", "align 0 is not"),
        (",size=0", "usable size 0 is not"),
        (",size=5000", "usable size 5000 bytes is not a multiple of 4K"),
        (",size=16777215T,label-size=2T", "64 bits"),
        (",size=1500M,align=1G", "use size=1G or align=4M"),
        (",size=512M,align=1G", "use size=1G or align=512M"),
    ] {
        let why = refusal(&empty(), options);
        assert!(why.contains(words), "{options}: {why}");
    }
    assert!(refusal(&with_file(128 << 10), ",label-size=128K").contains("nothing is left"));
    assert!(refusal(&with_file(5000), "").contains("of a file of 5000 bytes"));
}

#[test]
fn paths_that_cannot_hold_a_file_are_named() {
    let dir = empty();
    let missing = NvdimmRequest::from_str("/no/such/nv.img").expect("well-formed").check(PAGE);
    assert!(missing.expect_err("no folder").message.contains("/no/such is not a directory"));
    let folder = NvdimmRequest::from_str(&dir.path().display().to_string()).expect("well-formed").check(PAGE);
    assert!(folder.expect_err("a folder").message.contains("not a regular file"));
}

#[test]
fn the_address_is_aligned_as_far_as_the_size_allows() {
    let align = |options, map_align| request(&empty(), options).check(map_align).expect(options).align;
    assert_eq!(align(",size=2G", GIB), GIB);
    assert_eq!(align(",size=1500M", GIB), MIB_2);
    assert_eq!(align(",size=1M", GIB), PAGE);
    assert_eq!(align(",size=2G", PAGE), PAGE);
    assert_eq!(align(",size=2G,align=4K", GIB), PAGE);
}

#[test]
fn two_guests_cannot_have_one_file() {
    let dir = empty();
    let nvdimm = check(&dir, ",size=1M").expect("fine");
    let first = nvdimm.open().expect("free");
    assert!(nvdimm.open().expect_err("taken").message.contains("in use"));
    drop(first);
    nvdimm.open().expect("free again");
}

#[test]
fn a_file_that_cannot_be_made_is_not_left_behind() {
    let dir = empty();
    let nvdimm = check(&dir, ",size=8388607T").expect("the numbers are fine");
    assert!(nvdimm.open().expect_err("no file system takes it").message.contains("cannot be made"));
    assert!(!dir.path().join("nv.img").exists());
}

#[test]
fn a_file_of_the_user_is_never_removed() {
    let dir = with_file(0);
    let nvdimm = check(&dir, ",size=8388607T").expect("the numbers are fine");
    assert!(nvdimm.open().expect_err("no file system takes it").message.contains("cannot be made"));
    assert!(dir.path().join("nv.img").exists());
}

#[test]
fn requests_are_read_as_qemu_reads_its_own() {
    let request: NvdimmRequest = "a,,b.img,size=1G,unarmed=on".parse().expect("well-formed");
    assert_eq!((request.path.to_str(), request.armed), (Some("a,b.img"), false));
    for (text, words) in [
        ("", "file name is missing"),
        (",size=1G", "file name is missing"),
        ("f,sise=1G", "'sise=1G' is unknown"),
        ("f,size=1X", "size: '1X' is not a size"),
        ("f,size", "size: '' is not a size"),
        ("f,unarmed=yes", "'yes' is neither"),
    ] {
        let why = text.parse::<NvdimmRequest>().expect_err(text);
        assert!(why.contains(words), "{text}: {why}");
    }
}
