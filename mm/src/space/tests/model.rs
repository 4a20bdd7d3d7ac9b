//! Random operations against a model of single units.
//!
//! The window is an array of units; a "small" device has entries of one unit, a "big" one of 512. Once the
//! unit is 4 KiB (big: 2 MiB), once 2 MiB (big: 1 GiB). Anonymous memory is touched in the first page of a
//! unit.

use super::*;
use proptest::prelude::*;

const BIG: usize = 512;
const UNITS: usize = 4 * BIG;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Anonymous,
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
    /// Where the frame of an anonymous page is.
    phys: Option<PhysAddr>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Map { kind: Kind, offset: usize },
    Unmap,
    Protect(Prot),
    DontNeed,
    Touch(Access),
    Populate(Access),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    action: Action,
    first: usize,
    count: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let prot = (0u8..8).prop_map(Prot::from_bits_truncate);
    let kind = prop_oneof![Just(Kind::Anonymous), Just(Kind::Small), Just(Kind::Big), Just(Kind::Big)];
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)];
    let action = prop_oneof![
        3 => (kind, 0usize..3).prop_map(|(kind, offset)| Action::Map { kind, offset: offset * BIG }),
        1 => Just(Action::Unmap),
        2 => prot.prop_map(Action::Protect),
        1 => Just(Action::DontNeed),
        5 => access.clone().prop_map(Action::Touch),
        1 => access.prop_map(Action::Populate),
    ];
    // Mostly at multiples of a big entry, else big mappings would hardly ever be touched.
    let place = prop_oneof![
        2 => (0usize..4, 1usize..4).prop_map(|(first, count)| (first * BIG, count * BIG)),
        1 => (0usize..UNITS, 1usize..40),
        1 => (0usize..4, 0usize..3, 1usize..BIG).prop_map(|(big, off, count)| (big * BIG + off, count)),
    ];
    let step = (action, place).prop_map(|(action, (first, count))| Step {
        action,
        first,
        count: count.min(UNITS - first),
    });
    proptest::collection::vec(step, 1..40)
}

struct Model {
    units: Vec<Option<Unit>>,
    bytes: u64,
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
            Kind::Anonymous => P,
            Kind::Small => self.bytes,
            Kind::Big => self.bytes * BIG as u64,
        };
        MapSize::from_bytes(bytes).expect("units are entry sizes")
    }

    fn address(&self, at: usize) -> u64 {
        BASE + at as u64 * self.bytes
    }

    /// Applies the step to both and compares the answers.
    fn apply(&mut self, space: &AddressSpace, devices: &[Arc<FakeDevice>; 2], step: Step) {
        let range = step.first..step.first + step.count;
        let (address, len) = (self.address(step.first), step.count as u64 * self.bytes);
        let mapped = self.units[range.clone()].iter().all(Option::is_some);
        match step.action {
            Action::Map { kind, offset } => {
                let offset_bytes = offset as u64 * self.bytes;
                let request = match kind {
                    Kind::Anonymous => anonymous(len),
                    Kind::Small => device(&devices[0], offset_bytes, len),
                    Kind::Big => device(&devices[1], offset_bytes, len),
                };
                let fits = kind != Kind::Big || (step.first | step.count).is_multiple_of(BIG);
                let ok = fits && !self.cuts_either(step, |_| true);
                let result = space.mmap(&at(Placement::Fixed(address), request));
                assert_eq!(result.is_ok(), ok, "{result:?}");
                if ok {
                    let unit = Unit { kind, offset: 0, prot: RW, touched: false, phys: None };
                    for (index, at) in range.enumerate() {
                        self.units[at] = Some(Unit { offset: offset + index, ..unit });
                    }
                }
            }
            Action::Unmap => {
                let ok = !self.cuts_either(step, |_| true);
                assert_eq!(space.munmap(address, len).is_ok(), ok);
                if ok {
                    self.units[range].fill(None);
                }
            }
            Action::Protect(prot) => {
                let ok = mapped && !self.cuts_either(step, |unit| unit.prot != prot);
                let result = space.mprotect(address, len, prot);
                assert_eq!(result.is_ok(), ok, "{result:?}");
                assert_eq!(matches!(result, Err(Refusal::NotMapped { .. })), !mapped);
                for unit in self.units[range].iter_mut().filter(|_| ok).flatten() {
                    unit.prot = prot;
                    unit.touched &= unit.kind == Kind::Anonymous || !prot.is_empty();
                }
            }
            Action::DontNeed => {
                assert_eq!(space.dont_need(address, len).is_ok(), mapped);
                for at in self.entries(range) {
                    if let Some(unit) = &mut self.units[at] {
                        (unit.touched, unit.phys) = (false, None);
                    }
                }
            }
            Action::Touch(access) => self.touch(space, step.first, access),
            Action::Populate(access) if self.bytes == P => {
                let good = |unit: &Option<Unit>| unit.is_some_and(|unit| Model::allows(unit.prot, access));
                let stop = range.clone().find(|&at| !good(&self.units[at])).unwrap_or(range.end);
                let before: Vec<usize> = (0..UNITS).filter(|&at| self.is_touched(at)).collect();
                let whole = VirtRange::new(address, len).expect("inside the window");
                let (populated, result) = space.populate(whole, access);
                assert_eq!(result.is_ok(), stop == range.end);
                for at in self.entries(range.start..stop) {
                    self.set_touched(space, at);
                }
                let new = (0..UNITS)
                    .filter(|&at| self.is_touched(at) && !before.contains(&at))
                    .map(|at| u64::from(self.entry(at).start == at));
                assert_eq!(populated.pages + populated.device.iter().sum::<u64>(), new.sum::<u64>());
            }
            Action::Populate(_) => {}
        }
    }

    fn is_touched(&self, at: usize) -> bool {
        self.units[at].is_some_and(|unit| unit.touched)
    }

    fn touch(&mut self, space: &AddressSpace, at: usize, access: Access) {
        let result = space.fault(virt(self.address(at)), access);
        let Some(unit) = self.units[at] else {
            return assert_eq!(result, Err(FaultError::NotMapped));
        };
        if !Model::allows(unit.prot, access) {
            return assert_eq!(result, Err(FaultError::Protection));
        }
        let fault = result.expect("it is mapped and allowed");
        assert_eq!(fault.size, self.size(unit.kind));
        assert_eq!(fault.device, unit.kind != Kind::Anonymous);
        assert_eq!(fault.installed == Installed::New, !unit.touched);
        self.entry(at).for_each(|at| self.set_touched(space, at));
    }

    fn set_touched(&mut self, space: &AddressSpace, at: usize) {
        let leaf = space.walk(virt(self.address(at))).leaf.expect("it was touched");
        let unit = self.units[at].as_mut().expect("it is mapped");
        unit.touched = true;
        if unit.kind == Kind::Anonymous && unit.phys.is_none() {
            unit.phys = Some(leaf.phys);
        }
    }

    /// Compares vmas and leaves with the model.
    fn check(&self, space: &AddressSpace, devices: &[Arc<FakeDevice>; 2]) {
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
        space.memory.read().tables.for_each_leaf(window, &mut |address, leaf| {
            let at = ((address.as_u64() - BASE) / self.bytes) as usize;
            let unit = self.units[at].expect("a leaf only where something is mapped");
            assert!(unit.touched && leaf.size == self.size(unit.kind));
            assert_eq!(leaf.flags.contains(PageTableFlags::WRITABLE), unit.prot.contains(Prot::WRITE));
            assert_eq!(leaf.flags.contains(PageTableFlags::NO_EXECUTE), !unit.prot.contains(Prot::EXEC));
            let phys = match unit.kind {
                Kind::Anonymous => unit.phys.expect("it was touched"),
                Kind::Small => PhysAddr::new(devices[0].base + unit.offset as u64 * self.bytes),
                Kind::Big => PhysAddr::new(devices[1].base + unit.offset as u64 * self.bytes),
            };
            assert_eq!(leaf.phys, phys);
            leaves += 1;
        });
        let expected = (0..UNITS).filter(|&at| {
            self.units[at].is_some_and(|unit| unit.touched && !unit.prot.is_empty())
                && self.entry(at).start == at
        });
        assert_eq!(leaves, expected.count());
    }
}

fn run(machine: &Machine, unit: MapSize, big: MapSize, steps: Vec<Step>) {
    // Larger than any offset.
    let devices = [unit, big].map(|granule| FakeDevice::at(1 << 40, granule, 1 << 12));
    let before = machine.free_frames();
    let space = machine.space();
    let mut model = Model { units: vec![None; UNITS], bytes: unit.bytes() };
    for step in steps {
        model.apply(&space, &devices, step);
        model.check(&space, &devices);
    }
    drop(space);
    assert_eq!(machine.free_frames(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn s6_2_random_operations_at_4k_and_2m_agree_with_the_model(steps in steps()) {
        std::thread_local!(static MACHINE: Machine = Machine::new(32 << 20));
        MACHINE.with(|machine| run(machine, MapSize::Size4K, MapSize::Size2M, steps));
    }

    #[test]
    fn s6_2_random_operations_at_2m_and_1g_agree_with_the_model(steps in steps()) {
        std::thread_local!(static MACHINE: Machine = Machine::new(32 << 20));
        MACHINE.with(|machine| run(machine, MapSize::Size2M, MapSize::Size1G, steps));
    }
}
