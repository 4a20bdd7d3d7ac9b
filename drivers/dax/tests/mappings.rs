//! The reverse map with real address spaces: who is listed, and that nothing is given back before all are gone.

mod common;

use common::{G1, M2, config, phys, registry, sized};
use dax::{DaxError, DevDax, OpenDax, Registry, Scrub};
use mm::frames::FrameAllocator;
use mm::memory_map::MemoryMap;
use mm::pager::{Access, FaultError, Prot, Refusal, Sharing};
use mm::physmap::PhysMap;
use mm::range::{MapSize, VirtRange};
use mm::shootdown::Shootdown;
use mm::space::{AddressSpace, Environment, MapRequest, Placement};
use mm::vma::{Backing, VmaFlags};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use x86_64::{PhysAddr, VirtAddr};

struct NoTlb;

impl Shootdown for NoTlb {
    fn flush(&self, _root: PhysAddr, _range: VirtRange) {}
}

/// RAM for page tables, never freed.
fn environment() -> &'static Environment {
    const BYTES: usize = 32 << 20;
    let layout = Layout::from_size_align(BYTES, 2 << 20).expect("a sane size");
    // SAFETY: the layout is not empty.
    let arena = unsafe { alloc_zeroed(layout) };
    let map = MemoryMap::new([(0, BYTES as u64, 1)].into_iter());
    // SAFETY: physical address 0 is the arena's first byte; it is never freed, and only this allocator uses it.
    let frames = unsafe { FrameAllocator::new(PhysMap::new(arena as u64), &map) };
    let frames = Box::leak(Box::new(frames.expect("the arena holds its metadata")));
    Box::leak(Box::new(Environment { frames, shootdown: &NoTlb, no_execute: true, gigabyte_pages: true }))
}

fn space(environment: &'static Environment) -> Arc<AddressSpace> {
    AddressSpace::new(&[0; 256], environment, 0).expect("there is memory for a root table")
}

fn map(space: &AddressSpace, open: &Arc<OpenDax>, len_bytes: u64) -> Result<VirtAddr, Refusal> {
    space.mmap(&MapRequest {
        placement: Placement::Anywhere,
        len_bytes,
        prot: Prot::READ | Prot::WRITE,
        max_prot: open.max_prot(),
        sharing: Sharing::Shared,
        backing: Backing::Device(open.clone()),
        offset_bytes: 0,
        flags: VmaFlags::empty(),
        name: "",
    })
}

/// The pages that a call is about.
fn span(address: u64, len_bytes: u64) -> VirtRange {
    VirtRange::new(address, len_bytes.next_multiple_of(4096)).expect("a program's addresses")
}

/// `dax0.0` of four entries of 2 MiB, enabled.
fn device() -> (&'static Registry, Arc<DevDax>) {
    let registry = registry();
    let region = registry.add_region(config(0, phys(4 * G1, G1), MapSize::Size2M)).expect("free");
    region.set_scrub(Scrub::Waived);
    let device = registry.create_device(&region, sized(4 * M2, MapSize::Size2M)).expect("free");
    device.enable().expect("born dead");
    (registry, device)
}

/// Unmaps the device everywhere, as a removal does. Returns how many mappings and entries there were.
fn revoke_all(device: &DevDax) -> (usize, u64) {
    let (mut mappings, mut entries) = (0, 0);
    while device.mapping_count() > 0 {
        let taken = device.take_mappings();
        mappings += taken.iter().count();
        let revoked = |space: &Arc<AddressSpace>| space.revoke(device.key(), &(0..u64::MAX));
        entries += taken.iter().map(|space| revoked(space).entries.iter().sum::<u64>()).sum::<u64>();
    }
    (mappings, entries)
}

#[test]
fn a_mapping_is_listed_from_mmap_until_its_last_part_is_unmapped() {
    let (environment, (_, device)) = (environment(), device());
    let (space, open) = (space(environment), device.open().expect("enabled"));
    assert_eq!(device.mapping_count(), 0);
    let first = map(&space, &open, 4 * M2).expect("free addresses");
    let second = map(&space, &open, M2).expect("free addresses");
    assert_eq!(device.mapping_count(), 2);
    assert!(device.first_mapping().is_some_and(|mapper| Arc::ptr_eq(&mapper, &space)));
    assert_eq!(space.munmap(span(first.as_u64() + M2, M2)), Ok(()));
    assert_eq!(device.mapping_count(), 2, "two parts of it are left");
    assert_eq!(space.munmap(span(first.as_u64(), 4 * M2)), Ok(()));
    assert_eq!(device.mapping_count(), 1);
    assert_eq!(space.munmap(span(second.as_u64(), M2)), Ok(()));
    assert_eq!(device.mapping_count(), 0);
    map(&space, &open, M2).expect("free addresses");
    drop(space);
    assert_eq!(device.mapping_count(), 0, "a space that goes takes its mappings along");
}

#[test]
fn s5_3_nothing_is_given_back_while_a_mapping_is_left_or_in_hand() {
    let (environment, (registry, device)) = (environment(), device());
    let (space, open) = (space(environment), device.open().expect("enabled"));
    map(&space, &open, M2).expect("free addresses");
    let mapped = DaxError::Mapped { name: device.name(), mappings: 1 };
    assert_eq!(registry.destroy_device(&device), Err(mapped));
    assert_eq!(device.take_mappings().iter().count(), 0, "it is alive");
    assert!(device.kill().is_ok());
    for refused in
        [registry.destroy_device(&device).err(), registry.resize(&device, M2).err(), device.enable().err()]
    {
        assert_eq!(refused, Some(mapped));
    }

    let taken = device.take_mappings();
    assert!(taken.iter().all(|taken| Arc::ptr_eq(taken, &space)));
    assert_eq!((taken.iter().count(), device.mapping_count()), (1, 0));
    let busy = DaxError::AtWork { name: device.name() };
    for refused in
        [registry.destroy_device(&device).err(), registry.resize(&device, M2).err(), device.enable().err()]
    {
        assert_eq!(refused, Some(busy));
    }
    drop(taken);
    assert!(device.enable().is_ok(), "an old mapping that was taken is in nobody's way");
    assert!(device.kill().is_ok());
    assert_eq!(registry.destroy_device(&device), Ok(()));
    assert_eq!(map(&space, &open, M2), Err(Refusal::Dead));
}

#[test]
fn s6_5_a_dead_mapping_faults_to_sigbus_and_a_new_one_is_refused() {
    let (environment, (_, device)) = (environment(), device());
    let (space, open) = (space(environment), device.open().expect("enabled"));
    let at = map(&space, &open, 4 * M2).expect("free addresses");
    assert!(space.fault(at, Access::Write).is_ok());
    assert!(device.kill().is_ok());
    assert_eq!(space.fault(at + M2, Access::Write).err(), Some(FaultError::Bus));
    assert_eq!(map(&space, &open, M2), Err(Refusal::Dead));
    assert_eq!(device.mapping_count(), 1, "the refused one is not listed");
    device.enable().expect_err("still mapped");
    assert!(space.walk(at).leaf.is_some());
    assert_eq!(revoke_all(&device), (1, 1));
    assert!(space.walk(at).leaf.is_none());
    device.enable().expect("unmapped everywhere");
    let again = map(&space, &device.open().expect("enabled"), M2).expect("free addresses");
    assert!(space.fault(again, Access::Read).is_ok());
}

#[test]
fn s7_3_a_child_is_listed_for_what_it_inherits_and_a_dead_mapping_stays_dead() {
    let (environment, (_, device)) = (environment(), device());
    let (parent, open) = (space(environment), device.open().expect("enabled"));
    let at = map(&parent, &open, 4 * M2).expect("free addresses");
    let child = parent.fork(&[0; 256]).expect("there is memory");
    assert_eq!(device.mapping_count(), 2);
    for space in [&parent, &child] {
        assert!(space.fault(at, Access::Write).is_ok());
    }
    assert!(device.kill().is_ok());
    let late = child.fork(&[0; 256]).expect("a dead mapping is no error");
    assert_eq!(device.mapping_count(), 2);
    assert_eq!(revoke_all(&device), (2, 2));
    device.enable().expect("unmapped everywhere");
    for space in [&parent, &child, &late] {
        assert_eq!(space.fault(at, Access::Write).err(), Some(FaultError::Bus));
    }
}

#[test]
fn a_removal_takes_any_number_of_spaces_some_at_a_time() {
    const SPACES: usize = 100;
    let (environment, (registry, device)) = (environment(), device());
    let open = device.open().expect("enabled");
    let mut spaces: Vec<_> = (0..SPACES).map(|_| space(environment)).collect();
    for space in &spaces {
        map(space, &open, M2).expect("free addresses");
    }
    drop(spaces.drain(..10));
    assert!(device.kill().is_ok());
    assert_eq!(device.mapping_count() as usize, SPACES - 10);
    assert_eq!(revoke_all(&device), (SPACES - 10, 0));
    assert_eq!(registry.destroy_device(&device), Ok(()));
}

#[test]
fn a_space_is_taken_once_with_all_its_mappings() {
    let (environment, (_, device)) = (environment(), device());
    let (space, open) = (space(environment), device.open().expect("enabled"));
    for _ in 0..1000 {
        map(&space, &open, M2).expect("free addresses");
    }
    assert!(device.kill().is_ok());
    let taken = device.take_mappings();
    assert_eq!((taken.iter().count(), device.mapping_count()), (1, 0));
    assert_eq!(
        taken.iter().map(|space| space.revoke(device.key(), &(0..u64::MAX)).mappings).sum::<u64>(),
        1000
    );
}

/// Threads map, fault, unmap and drop spaces while another kills, takes all mappings, and enables again: none is
/// ever listed in two lives, lost, or added behind a removal's back.
#[test]
fn s5_4_mmap_races_removal_and_the_list_is_empty_when_it_says_so() {
    const ROUNDS: u64 = 200;
    let (environment, (registry, device)) = (environment(), device());
    let [rounds, faulted, revoked] = [const { AtomicU64::new(0) }; 3];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    let space = space(environment);
                    let Ok(open) = device.open() else {
                        thread::yield_now();
                        continue;
                    };
                    for _ in 0..4 {
                        match map(&space, &open, M2) {
                            Ok(at) => {
                                match space.fault(at, Access::Write) {
                                    Ok(_) => faulted.fetch_add(1, SeqCst),
                                    Err(why) => {
                                        assert_eq!(why, FaultError::Bus);
                                        0
                                    }
                                };
                                if at.as_u64() & M2 == 0 {
                                    space.munmap(span(at.as_u64(), M2)).expect("mapped");
                                }
                            }
                            Err(why) => assert_eq!(why, Refusal::Dead),
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            while rounds.load(SeqCst) < ROUNDS || revoked.load(SeqCst) == 0 {
                // In turn as soon as somebody maps it, and when somebody touched it.
                let (touches, seen) = (rounds.load(SeqCst) % 2, faulted.load(SeqCst));
                while device.mapping_count() == 0 || faulted.load(SeqCst) < seen + touches {
                    thread::yield_now();
                }
                device.kill().expect("only we kill");
                revoked.fetch_add(revoke_all(&device).1, SeqCst);
                assert_eq!(device.mapping_count(), 0);
                assert_eq!(device.take_mappings().iter().count(), 0);
                device.enable().expect("nothing is mapped, and nobody is at work");
                rounds.fetch_add(1, SeqCst);
            }
            is_over.store(true, SeqCst);
        });
    });
    device.kill().expect("enabled");
    assert_eq!(device.mapping_count(), 0, "all spaces are gone");
    assert_eq!(registry.destroy_device(&device), Ok(()));
}

/// Where a new mapping of two of the device's units is.
fn map_anew(device: &Arc<DevDax>, space: &AddressSpace) -> VirtAddr {
    map(space, &device.open().expect("enabled"), 2 * M2).expect("free addresses")
}

#[test]
fn bad_memory_leaves_every_space_and_stays_away_until_it_is_scrubbed() {
    let (environment, registry) = (environment(), registry());
    let region = registry.add_region(config(0, phys(4 * G1, 2 * M2), MapSize::Size2M)).expect("free");
    let device = registry.create_device(&region, sized(2 * M2, MapSize::Size2M)).expect("free");
    device.enable().expect("born dead");
    let spaces = [space(environment), space(environment)];
    let starts = spaces.each_ref().map(|space| map_anew(&device, space));
    let touch = |space: &AddressSpace, at: VirtAddr| space.fault(at, Access::Write).map(drop);
    for (space, start) in spaces.iter().zip(starts) {
        assert_eq!([touch(space, start), touch(space, start + M2)], [Ok(()); 2]);
    }
    assert_eq!(spaces[0].poison(span(starts[0].as_u64() + M2 + 8192, 4096), &mut || true), Ok(()));
    for (space, start) in spaces.iter().zip(starts) {
        assert!(space.walk(start).leaf.is_some() && space.walk(start + M2).leaf.is_none());
        assert_eq!(touch(space, start + M2), Err(FaultError::Poisoned));
        assert_eq!(space.dont_need(span(start.as_u64(), M2)), Ok(()));
        assert_eq!(touch(space, start), Ok(()));
    }

    // Not by a new generation, nor by a new device whose memory nobody zeroed.
    assert!(device.kill().is_ok());
    revoke_all(&device);
    assert_eq!(
        touch(&spaces[0], starts[0] + M2),
        Err(FaultError::Bus),
        "the device is dead before its memory is bad"
    );
    device.enable().expect("nobody maps it");
    let again = map_anew(&device, &spaces[1]);
    assert_eq!(
        [touch(&spaces[1], again), touch(&spaces[1], again + M2)],
        [Ok(()), Err(FaultError::Poisoned)]
    );
    assert!(device.kill().is_ok());
    revoke_all(&device);
    drop(spaces);
    registry.destroy_device(&device).expect("nobody maps it");
    let second = registry.create_device(&region, sized(2 * M2, MapSize::Size2M)).expect("free");
    region.set_scrub(Scrub::Waived);
    second.enable().expect("waived");
    let space = space(environment);
    let waived = map_anew(&second, &space);
    assert_eq!(touch(&space, waived + M2), Err(FaultError::Poisoned));
    assert!(second.kill().is_ok());
    revoke_all(&second);
    registry.destroy_device(&second).expect("nobody maps it");

    region.set_scrub(Scrub::Required);
    let third = registry.create_device(&region, sized(2 * M2, MapSize::Size2M)).expect("free");
    let scrub = third.begin_scrub().expect("disabled");
    while let Some(range) = scrub.next_range() {
        scrub.scrubbed(range);
    }
    drop(scrub);
    third.enable().expect("scrubbed");
    let healed = map_anew(&third, &space);
    assert_eq!([touch(&space, healed), touch(&space, healed + M2)], [Ok(()); 2]);
}

#[test]
fn poison_of_many_mappings_can_be_ended_between_two() {
    let (environment, (_, device)) = (environment(), device());
    let space = space(environment);
    let start = map_anew(&device, &space);
    // Two vmas from now on.
    assert_eq!(space.mprotect(span(start.as_u64() + M2, M2), Prot::READ), Ok(()));
    let at = [start, start + M2];
    assert!(at.iter().all(|&at| space.fault(at, Access::Read).is_ok()));
    let mut asked = 0;
    let mut once = || {
        asked += 1;
        asked == 1
    };
    assert_eq!(space.poison(span(start.as_u64(), 2 * M2), &mut once), Ok(()));
    assert_eq!(at.map(|at| space.walk(at).leaf.is_some()), [false, true]);
    assert_eq!(space.poison(span(start.as_u64(), 2 * M2), &mut || true), Ok(()));
    assert_eq!(at.map(|at| space.walk(at).leaf.is_some()), [false, false]);
}

#[test]
fn only_a_device_that_is_alive_takes_poison() {
    let (environment, (_, device)) = (environment(), device());
    let space = space(environment);
    let start = map_anew(&device, &space).as_u64();
    assert!(device.kill().is_ok());
    assert_eq!(space.poison(span(start, 4096), &mut || true), Err(Refusal::Dead));
    revoke_all(&device);
    let anonymous = MapRequest {
        placement: Placement::Anywhere,
        len_bytes: 4096,
        prot: Prot::READ,
        max_prot: Prot::READ,
        sharing: Sharing::Private,
        backing: Backing::Anonymous,
        offset_bytes: 0,
        flags: VmaFlags::empty(),
        name: "",
    };
    let page = space.mmap(&anonymous).expect("free addresses");
    assert_eq!(space.poison(span(page.as_u64(), 4096), &mut || true), Err(Refusal::NotPoisoned));
    assert_eq!(
        space.poison(span(page.as_u64() - (1 << 30), 4096), &mut || true),
        Err(Refusal::NotMapped { address: page - (1 << 30) })
    );
}
