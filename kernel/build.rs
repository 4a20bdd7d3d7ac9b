//! Links the kernel image with `boot/entry/link.ld`; a host build needs nothing.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../boot/entry/link.ld");
    println!("cargo:rerun-if-changed={script}");
    for argument in [
        &format!("-T{script}"),
        "--gc-sections",
        // Functions of equal code are one: instances of a generic mostly.
        "--icf=all",
        "--build-id=none",
        "-zmax-page-size=4096",
        "-znorelro",
        "-znognustack",
        "--orphan-handling=warn",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
