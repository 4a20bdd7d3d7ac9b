use super::*;
use crate::linux::dev::{Device, Stream};
use crate::linux::node::Node;
use alloc::sync::Arc;
use linux_raw_sys::general::{O_RDWR, O_WRONLY};

fn errno_of(node: impl Node + 'static, open_flags: u32, prot: u32, flags: u32) -> Option<Errno> {
    file_target(&OpenFile::new(Arc::new(node), open_flags), prot, flags).err()
}

#[test]
fn geometry_is_checked_in_linux_order() {
    let check = |address, len, flags| check_geometry(address, len, flags).err();
    assert_eq!(check(0, 0, 0), Some(Errno::EINVAL));
    assert_eq!(check(0, u64::MAX, 0), Some(Errno::ENOMEM));
    assert_eq!(check(0, 1 << 47, 0), Some(Errno::ENOMEM));
    assert_eq!(check(1, 4096, MAP_FIXED), Some(Errno::EINVAL));
    assert_eq!(check(USER_END, 4096, MAP_FIXED_NOREPLACE), Some(Errno::ENOMEM));
    assert_eq!(check(1, 4096, 0), None);
}

#[test]
fn sharing_needs_a_type_and_the_open_mode() {
    let null = || Device::Null;
    let zero = || Device::Zero;
    assert_eq!(errno_of(zero(), O_RDWR, PROT_READ, 0), Some(Errno::EINVAL));
    assert_eq!(errno_of(zero(), O_RDWR, PROT_READ, MAP_SHARED | MAP_SYNC), None);
    assert_eq!(errno_of(zero(), O_RDWR, 0, MAP_SHARED_VALIDATE | MAP_SYNC), Some(Errno::EOPNOTSUPP));
    assert_eq!(errno_of(zero(), 0, PROT_WRITE, MAP_SHARED), Some(Errno::EACCES));
    assert_eq!(errno_of(zero(), 0, PROT_WRITE, MAP_PRIVATE), None);
    assert_eq!(errno_of(zero(), O_WRONLY, PROT_WRITE, MAP_SHARED), Some(Errno::EACCES));
    assert_eq!(errno_of(null(), O_RDWR, PROT_READ, MAP_PRIVATE), Some(Errno::ENODEV));
    assert_eq!(errno_of(zero(), O_RDWR, 0, MAP_PRIVATE | MAP_GROWSDOWN), Some(Errno::EINVAL));
    assert_eq!(errno_of(Stream::Stdin, 0, 0, MAP_PRIVATE), Some(Errno::ENODEV));
}

#[test]
fn a_shared_mapping_of_a_read_only_descriptor_never_becomes_writable() {
    let file = OpenFile::new(Arc::new(Device::Zero), 0);
    let target = file_target(&file, PROT_READ, MAP_SHARED).ok().unwrap();
    assert_eq!(target.max_prot, Prot::READ | Prot::EXEC);
    let target = file_target(&file, PROT_READ, MAP_PRIVATE).ok().unwrap();
    assert_eq!(target.max_prot, Prot::all());
}

#[test]
fn placement_follows_the_flags() {
    assert_eq!(placement(0, 0), Placement::Anywhere);
    assert_eq!(placement(8192, 0), Placement::Hint(8192));
    assert_eq!(placement(8192, MAP_32BIT), Placement::Below2G);
    assert_eq!(placement(0, MAP_FIXED), Placement::Fixed(0));
    assert_eq!(placement(4096, MAP_FIXED | MAP_FIXED_NOREPLACE), Placement::FixedNoReplace(4096));
}
