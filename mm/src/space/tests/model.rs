//! Random operations against a model of single units.
//!
//! The window is an array of units; a "small" device has entries of one unit, a "big" one of 512. Once the
//! unit is 4 KiB (big: 2 MiB), once 2 MiB (big: 1 GiB). Anonymous memory is touched in the first page of a
//! unit. Up to three spaces are forked off one another and go again; each store is a new number, which
//! the model says who may read.

use super::*;
use crate::shared::SharedPages;
use proptest::prelude::*;

const BIG: usize = 512;
const UNITS: usize = 4 * BIG;
const SPACES: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Anonymous,
    /// Shared memory: one object, all of whose bytes all spaces see.
    Shared,
    Small,
    Big,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Unit {
    kind: Kind,
    offset: usize,
    prot: Prot,
    /// An entry exists (a parked one too, for anonymous memory).
    touched: bool,
    /// What an anonymous page holds.
    value: u64,
}

impl Unit {
    fn is_device(&self) -> bool {
        matches!(self.kind, Kind::Small | Kind::Big)
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Map { kind: Kind, offset: usize },
    Unmap,
    Protect(Prot),
    DontNeed,
    Touch(Access),
    Populate(Access),
    Remap { to: usize, left: Left },
    Fork,
    Exit,
    Revoke(Kind),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    action: Action,
    /// Which space, modulo their number.
    space: usize,
    first: usize,
    count: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let prot = (0u8..8).prop_map(Prot::from_bits_truncate);
    let kind = prop_oneof![
        2 => Just(Kind::Anonymous), 1 => Just(Kind::Shared), 1 => Just(Kind::Small), 2 => Just(Kind::Big)
    ];
    let of_device = prop_oneof![Just(Kind::Small), Just(Kind::Big)];
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)];
    let place_to = prop_oneof![2 => (0usize..4).prop_map(|big| big * BIG), 1 => 0usize..UNITS];
    let action = prop_oneof![
        3 => (kind, 0usize..3).prop_map(|(kind, offset)| Action::Map { kind, offset: offset * BIG }),
        1 => Just(Action::Unmap),
        2 => prot.prop_map(Action::Protect),
        1 => Just(Action::DontNeed),
        5 => access.clone().prop_map(Action::Touch),
        1 => access.prop_map(Action::Populate),
        2 => (place_to, prop_oneof![2 => Just(Left::Unmapped), 1 => Just(Left::Mapped)])
            .prop_map(|(to, left)| Action::Remap { to, left }),
        2 => Just(Action::Fork),
        1 => Just(Action::Exit),
        1 => of_device.prop_map(Action::Revoke),
    ];
    // Mostly at multiples of a big entry, else big mappings would hardly ever be touched.
    let place = prop_oneof![
        2 => (0usize..4, 1usize..4).prop_map(|(first, count)| (first * BIG, count * BIG)),
        1 => (0usize..UNITS, 1usize..40),
        1 => (0usize..4, 0usize..3, 1usize..BIG).prop_map(|(big, off, count)| (big * BIG + off, count)),
    ];
    let step = (action, 0..SPACES, place).prop_map(|(action, space, (first, count))| Step {
        action,
        space,
        first,
        count: count.min(UNITS - first),
    });
    proptest::collection::vec(step, 1..60)
}

/// What all spaces share.
struct World<'a> {
    machine: &'a Machine,
    devices: [Arc<FakeDevice>; 2],
    shared: Arc<SharedPages>,
    /// What the pages of the shared memory hold, by offset in units.
    values: Vec<u64>,
    last_value: u64,
}

#[derive(Clone)]
struct Model {
    units: Vec<Option<Unit>>,
    bytes: u64,
    /// A write may find a page that is shared with another space, and copy it.
    forked: bool,
}

impl Model {
    fn cuts(&self, at: usize, changes: impl Fn(&Unit) -> bool) -> bool {
        let inside = !at.is_multiple_of(BIG) && at < UNITS;
        inside && self.units[at].is_some_and(|unit| unit.kind == Kind::Big && changes(&unit))
    }

    fn cuts_either(&self, step: Step, changes: impl Fn(&Unit) -> bool + Copy) -> bool {
        self.cuts(step.first, changes) || self.cuts(step.first + step.count, changes)
    }

    fn allows(prot: Prot, access: Access) -> bool {
        match access {
            Access::Read => !prot.is_empty(),
            Access::Write => prot.contains(Prot::WRITE),
            Access::Execute => prot.contains(Prot::EXEC),
        }
    }

    /// The units that come and go with this one.
    fn entry(&self, at: usize) -> core::ops::Range<usize> {
        match self.units[at] {
            Some(Unit { kind: Kind::Big, .. }) => at / BIG * BIG..at / BIG * BIG + BIG,
            _ => at..at + 1,
        }
    }

    /// All units whose entries have a unit in `range`.
    fn entries(&self, range: core::ops::Range<usize>) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        for at in range {
            if all.last().is_none_or(|&last| last < at) {
                all.extend(self.entry(at));
            }
        }
        all
    }

    fn size(&self, kind: Kind) -> MapSize {
        let bytes = match kind {
            Kind::Anonymous | Kind::Shared => P,
            Kind::Small => self.bytes,
            Kind::Big => self.bytes * BIG as u64,
        };
        MapSize::from_bytes(bytes).expect("units are entry sizes")
    }

    fn address(&self, at: usize) -> u64 {
        BASE + at as u64 * self.bytes
    }

    /// Applies the step to both and compares the answers.
    fn apply(&mut self, space: &AddressSpace, world: &mut World<'_>, step: Step) {
        let range = step.first..step.first + step.count;
        let (address, len) = (self.address(step.first), step.count as u64 * self.bytes);
        let mapped = self.units[range.clone()].iter().all(Option::is_some);
        match step.action {
            Action::Map { kind, offset } => {
                let offset_bytes = offset as u64 * self.bytes;
                let request = match kind {
                    Kind::Anonymous => anonymous(len),
                    Kind::Shared => MapRequest {
                        backing: Backing::Shared(world.shared.clone()),
                        offset_bytes,
                        sharing: Sharing::Shared,
                        ..anonymous(len)
                    },
                    Kind::Small => device(&world.devices[0], offset_bytes, len),
                    Kind::Big => device(&world.devices[1], offset_bytes, len),
                };
                let fits = kind != Kind::Big || (step.first | step.count).is_multiple_of(BIG);
                let ok = fits && !self.cuts_either(step, |_| true);
                let result = space.mmap(&at(Placement::Fixed(address), request));
                assert_eq!(result.is_ok(), ok, "{result:?}");
                if ok {
                    let unit = Unit { kind, offset: 0, prot: RW, touched: false, value: 0 };
                    for (index, at) in range.enumerate() {
                        self.units[at] = Some(Unit { offset: offset + index, ..unit });
                    }
                }
            }
            Action::Unmap => {
                let ok = !self.cuts_either(step, |_| true);
                assert_eq!(space.munmap(span(address, len)).is_ok(), ok);
                if ok {
                    self.units[range].fill(None);
                }
            }
            Action::Protect(prot) => {
                let ok = mapped && !self.cuts_either(step, |unit| unit.prot != prot);
                let result = space.mprotect(span(address, len), prot);
                assert_eq!(result.is_ok(), ok, "{result:?}");
                assert_eq!(matches!(result, Err(Refusal::NotMapped { .. })), !mapped);
                for unit in self.units[range].iter_mut().filter(|_| ok).flatten() {
                    unit.prot = prot;
                    unit.touched &= unit.kind == Kind::Anonymous || !prot.is_empty();
                }
            }
            Action::DontNeed => {
                assert_eq!(space.dont_need(span(address, len)).is_ok(), mapped);
                for at in self.entries(range) {
                    if let Some(unit) = &mut self.units[at] {
                        (unit.touched, unit.value) = (false, 0);
                    }
                }
            }
            Action::Touch(access) => self.touch(space, world, step.first, access),
            Action::Populate(access) if self.bytes == P => {
                let good = |unit: &Option<Unit>| unit.is_some_and(|unit| Model::allows(unit.prot, access));
                let stop = range.clone().find(|&at| !good(&self.units[at])).unwrap_or(range.end);
                let whole = VirtRange::new(address, len).expect("inside the window");
                assert_eq!(space.populate(whole, access, &mut || true).is_ok(), stop == range.end);
                for at in self.entries(range.start..stop) {
                    self.units[at].as_mut().expect("it is mapped").touched = true;
                }
            }
            Action::Remap { to, left } => self.remap(space, step, to, left),
            Action::Populate(_) | Action::Fork | Action::Exit | Action::Revoke(_) => {}
        }
    }

    fn remap(&mut self, space: &AddressSpace, step: Step, to: usize, left: Left) {
        let Step { first, count, .. } = step;
        if to + count > UNITS || (first < to + count && to < first + count) {
            return;
        }
        let (address, len) = (self.address(first), count as u64 * self.bytes);
        let request = RemapRequest {
            address,
            old_len_bytes: len,
            new_len_bytes: len,
            placement: Some(Placement::Fixed(self.address(to))),
            left,
        };
        let is_one = space.find(virt(address)).is_some_and(|vma| vma.range.end().as_u64() >= address + len);
        let fits = self.units[first].is_some_and(|unit| unit.kind != Kind::Big)
            || (first | count | to).is_multiple_of(BIG);
        let ok = is_one && fits && !self.cuts_either(Step { first: to, ..step }, |_| true);
        let result = space.remap(&request);
        assert_eq!(result.is_ok(), ok, "{result:?}");
        for at in (0..count).filter(|_| ok) {
            self.units[to + at] = self.units[first + at];
            self.units[first + at] = match left {
                Left::Unmapped => None,
                Left::Mapped => self.units[first + at].map(|unit| Unit { touched: false, value: 0, ..unit }),
            };
        }
    }

    fn touch(&mut self, space: &AddressSpace, world: &mut World<'_>, at: usize, access: Access) {
        let result = space.fault(virt(self.address(at)), access);
        let Some(unit) = self.units[at] else {
            return assert_eq!(result, Err(FaultError::NotMapped));
        };
        if !Model::allows(unit.prot, access) {
            return assert_eq!(result, Err(FaultError::Protection));
        }
        let installed = result.expect("it is mapped and allowed");
        let copied = self.forked && access == Access::Write && unit.kind == Kind::Anonymous;
        assert!(copied || (installed == Installed::New) != unit.touched);
        for at in self.entry(at) {
            self.units[at].as_mut().expect("it is mapped").touched = true;
        }
        if access == Access::Write && !unit.is_device() {
            world.last_value += 1;
            page_word(world.machine, space, self.address(at)).store(world.last_value, Ordering::Relaxed);
            match unit.kind {
                Kind::Shared => world.values[unit.offset] = world.last_value,
                _ => self.units[at].as_mut().expect("it is mapped").value = world.last_value,
            }
        }
    }

    /// What fork makes of it.
    fn fork(&mut self) -> Model {
        self.forked = true;
        let mut child = self.clone();
        for unit in child.units.iter_mut().flatten() {
            unit.touched &= unit.kind == Kind::Anonymous;
        }
        child
    }

    /// Forgets the entries of a kind, and how many the CPU could use.
    fn revoke(&mut self, kind: Kind) -> u64 {
        let is_one =
            |model: &Model, at: usize| model.units[at].is_some_and(|unit| unit.kind == kind && unit.touched);
        let revoked = (0..UNITS).filter(|&at| is_one(self, at) && self.entry(at).start == at).count();
        for unit in self.units.iter_mut().flatten().filter(|unit| unit.kind == kind) {
            unit.touched = false;
        }
        revoked as u64
    }

    /// Compares vmas and leaves with the model.
    fn check(&self, space: &AddressSpace, world: &World<'_>) {
        let mut last_end = 0;
        let mut covered = 0;
        space.for_each_vma(&mut |vma| {
            assert!(vma.range.start().as_u64() >= last_end, "sorted and disjoint");
            last_end = vma.range.end().as_u64();
            let whole = vma.granule.divides(vma.range.start().as_u64() | vma.range.end().as_u64());
            assert!(whole, "a vma is whole entries");
            let first = ((vma.range.start().as_u64() - BASE) / self.bytes) as usize;
            for at in first..first + (vma.range.len_bytes() / self.bytes) as usize {
                let unit = self.units[at].expect("a vma only where something is mapped");
                assert_eq!((vma.prot, vma.granule), (unit.prot, self.size(unit.kind)));
                if unit.kind != Kind::Anonymous {
                    let offset = vma.offset_of(virt(self.address(at)));
                    assert_eq!(offset, unit.offset as u64 * self.bytes);
                }
                covered += 1;
            }
        });
        assert_eq!(covered, self.units.iter().flatten().count());

        let window = VirtRange::new(BASE, UNITS as u64 * self.bytes).expect("a user range");
        let mut leaves = 0;
        crate::tables::tests::for_each_leaf(&space.memory.read().tables, window, &mut |address, leaf| {
            let at = ((address.as_u64() - BASE) / self.bytes) as usize;
            let unit = self.units[at].expect("a leaf only where something is mapped");
            assert!(unit.touched && leaf.size == self.size(unit.kind));
            let writable = leaf.flags.contains(PageTableFlags::WRITABLE);
            let copies = self.forked && unit.kind == Kind::Anonymous;
            assert!(writable == unit.prot.contains(Prot::WRITE) || copies && !writable);
            assert_eq!(leaf.flags.contains(PageTableFlags::NO_EXECUTE), !unit.prot.contains(Prot::EXEC));
            let word = || page_word_at(world.machine, leaf.phys).load(Ordering::Relaxed);
            match unit.kind {
                Kind::Anonymous => assert_eq!(word(), unit.value),
                Kind::Shared => assert_eq!(word(), world.values[unit.offset]),
                Kind::Small | Kind::Big => {
                    let base = world.devices[usize::from(unit.kind == Kind::Big)].base;
                    assert_eq!(leaf.phys.as_u64(), base + unit.offset as u64 * self.bytes);
                }
            }
            leaves += 1;
        });
        let expected = (0..UNITS).filter(|&at| {
            self.units[at].is_some_and(|unit| unit.touched && !unit.prot.is_empty())
                && self.entry(at).start == at
        });
        assert_eq!(leaves, expected.count());
    }
}

/// The first word of the page at `address`, which is mapped.
fn page_word(machine: &Machine, space: &AddressSpace, address: u64) -> &'static AtomicU64 {
    page_word_at(machine, space.walk(virt(address)).leaf.expect("it was touched").phys)
}

fn page_word_at(machine: &Machine, phys: PhysAddr) -> &'static AtomicU64 {
    let pointer = machine.environment.frames.physmap().pointer(phys).cast::<AtomicU64>();
    // SAFETY: a page of the arena, which is never freed; all access is atomic.
    unsafe { &*pointer }
}

fn run(machine: &Machine, unit: MapSize, big: MapSize, steps: Vec<Step>) {
    let before = machine.free_frames();
    let shared = SharedPages::new(1 << 40, machine.environment.frames).expect("there is memory");
    // The devices are larger than any offset.
    let devices = [(1, unit), (2, big)].map(|(at, granule)| FakeDevice::at(at << 44, granule, 1 << 12));
    let mut world = World { machine, devices, shared, values: vec![0; 2 * UNITS], last_value: 0 };
    let model = Model { units: vec![None; UNITS], bytes: unit.bytes(), forked: false };
    let mut spaces = vec![(machine.space(), model)];
    for step in steps {
        let (count, index) = (spaces.len(), step.space % spaces.len());
        let (space, model) = &mut spaces[index];
        match step.action {
            Action::Fork => {
                let child = (space.fork(&[0; 256]).expect("there is memory"), model.fork());
                spaces.push(child);
                // One too many: a child that ends at once.
                spaces.truncate(SPACES);
            }
            Action::Exit if count > 1 => drop(spaces.swap_remove(index)),
            Action::Exit => {}
            Action::Revoke(kind) => {
                let key = world.devices[usize::from(kind == Kind::Big)].base;
                let cleared: u64 = space.revoke(key, &(0..u64::MAX)).entries.iter().sum();
                assert_eq!(cleared, model.revoke(kind));
            }
            _ => model.apply(space, &mut world, step),
        }
        spaces.iter().for_each(|(space, model)| model.check(space, &world));
    }
    drop(spaces);
    assert!(world.devices.iter().all(|device| device.mappings.lock().expect("fine").is_empty()));
    drop(world);
    assert_eq!(machine.free_frames(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn s6_2_random_operations_at_4k_and_2m_agree_with_the_model(steps in steps()) {
        std::thread_local!(static MACHINE: Machine = Machine::new(64 << 20));
        MACHINE.with(|machine| run(machine, MapSize::Size4K, MapSize::Size2M, steps));
    }

    #[test]
    fn s6_2_random_operations_at_2m_and_1g_agree_with_the_model(steps in steps()) {
        std::thread_local!(static MACHINE: Machine = Machine::new(64 << 20));
        MACHINE.with(|machine| run(machine, MapSize::Size2M, MapSize::Size1G, steps));
    }
}
