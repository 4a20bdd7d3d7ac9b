//! Several threads: installs against unmaps, and waits for memory that is on its way back.

use super::*;
use crate::fake::park_threads;
use crate::frames::Frame;
use crate::shootdown::Shootdown;
use core::sync::atomic::AtomicBool;
use std::boxed::Box;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

#[test]
fn faults_race_unmap_fork_and_revoke_and_leave_nothing_behind() {
    park_threads();
    for granule in MapSize::ALL {
        let machine = machine();
        let before = machine.free_frames();
        let (space, done) = (machine.space(), AtomicBool::new(false));
        let pager = FakeDevice::new(granule);
        let request = at(Placement::Fixed(1 << 42), device(&pager, 0, 8 * granule.bytes()));
        let private = space.mmap(&anonymous(8 * P)).expect("room");
        thread::scope(|scope| {
            for thread in 0..3u64 {
                let (space, done) = (&space, &done);
                scope.spawn(move || {
                    for turn in thread.. {
                        let result = space.fault(virt((1 << 42) + turn % 8 * granule.bytes()), Access::Write);
                        assert!(!matches!(result, Err(FaultError::Bus | FaultError::NoMemory)), "{result:?}");
                        space.fault(private + turn % 8 * P, Access::Write).expect("there is memory");
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            for turn in 0..300 {
                let start = space.mmap(&request).expect("there is room");
                let child = space.fork(&[0; 256]).expect("there is memory");
                thread::yield_now();
                space.revoke(pager.base, &(0..u64::MAX));
                child.fault(private + turn % 8 * P, Access::Write).expect("there is memory");
                space.munmap(span(start.as_u64(), 8 * granule.bytes())).expect("mapped");
                assert_eq!(space.walk(start).leaf, None);
            }
            done.store(true, Ordering::Relaxed);
        });
        drop(space);
        assert_eq!(machine.free_frames(), before);
    }
}

/// A shootdown that is not acknowledged before the gate opens.
#[derive(Default)]
struct Gate {
    /// Somebody waits; it is open.
    state: Mutex<(bool, bool)>,
    change: Condvar,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut (bool, bool))) {
        change(&mut self.state.lock().expect("fine"));
        self.change.notify_all();
    }

    fn wait(&self, reached: impl Fn(&(bool, bool)) -> bool) {
        let state = self.state.lock().expect("fine");
        let waited = self.change.wait_timeout_while(state, Duration::from_secs(30), |state| !reached(state));
        assert!(!waited.expect("fine").1.timed_out());
    }
}

impl Shootdown for Gate {
    fn flush(&self, _root: PhysAddr, _range: VirtRange) {
        self.set(|state| state.0 = true);
        self.wait(|state| state.1);
    }
}

fn eat(machine: &Machine) -> Vec<Frame> {
    core::iter::from_fn(|| machine.environment.frames.allocate_for_program()).collect()
}

/// Runs `fault` in a space without memory while another thread's unmap holds 20 frames that are not acknowledged;
/// `meanwhile` runs once the fault waits.
fn starve(
    prepare: impl Fn(&AddressSpace, &Machine) -> VirtAddr,
    meanwhile: impl Fn(&AddressSpace),
) -> Result<Installed, FaultError> {
    park_threads();
    let gate: &'static Gate = Box::leak(Box::default());
    let machine = Machine::with_shootdown(8 << 20, gate);
    let before = machine.free_frames();
    let (space, other) = (machine.space(), machine.space());
    let address = prepare(&space, &machine);
    let pages = other.mmap(&anonymous(20 * P)).expect("room");
    other
        .populate(VirtRange::new(pages.as_u64(), 20 * P).expect("a range"), Access::Write, &mut || true)
        .expect("memory");
    let eaten = eat(&machine);
    let result = thread::scope(|scope| {
        scope.spawn(|| other.munmap(span(pages.as_u64(), 20 * P)).expect("mapped"));
        gate.wait(|state| state.0);
        let fault = scope.spawn(|| space.fault(address, Access::Write));
        thread::sleep(Duration::from_millis(30));
        assert!(!fault.is_finished(), "it waits");
        meanwhile(&space);
        assert!(!fault.is_finished(), "it still waits");
        gate.set(|state| state.1 = true);
        fault.join().expect("no panic")
    });
    eaten.into_iter().for_each(|frame| machine.environment.frames.free(frame));
    drop((space, other));
    assert_eq!(machine.free_frames(), before);
    result
}

#[test]
fn a_fault_without_memory_waits_for_unacknowledged_frames_and_holds_no_lock() {
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let result = starve(
            |space, _| space.mmap(&device(&pager, 0, granule.bytes())).expect("room"),
            // The lock is free: an exclusive operation goes through while the fault waits.
            |space| assert!(space.mmap(&anonymous(P)).is_ok()),
        );
        assert_eq!(result, NEW);
    }
    let anonymous_fault = starve(|space, _| space.mmap(&anonymous(P)).expect("room"), |_| {});
    assert_eq!(anonymous_fault, NEW);
}

#[test]
fn a_fault_that_waited_for_memory_ends_in_sigbus_when_its_device_died_meanwhile() {
    for granule in MapSize::ALL {
        let pager = FakeDevice::new(granule);
        let result = starve(
            |space, _| space.mmap(&device(&pager, 0, granule.bytes())).expect("room"),
            |space| {
                pager.alive.store(false, Ordering::Relaxed);
                assert_eq!(
                    space.revoke(pager.base, &(0..u64::MAX)).mappings,
                    1,
                    "no kill waits for a starved fault"
                );
            },
        );
        assert_eq!(result, Err(FaultError::Bus));
    }
}

#[test]
fn with_no_frame_on_its_way_a_fault_fails_at_once_and_a_fork_changes_nothing() {
    let machine = machine();
    let before = machine.free_frames();
    let space = machine.space();
    let start = space.mmap(&anonymous(4 * P)).expect("room");
    space.fault(start, Access::Write).expect("there is memory");
    let eaten = eat(&machine);
    assert_eq!(space.fault(start + P, Access::Write), Err(FaultError::NoMemory));
    assert_eq!(space.fork(&[0; 256]).err(), Some(Refusal::NoMemory));
    eaten.into_iter().for_each(|frame| machine.environment.frames.free(frame));
    assert_eq!(space.fault(start + P, Access::Write), NEW);
    drop(space);
    assert_eq!(machine.free_frames(), before);
}
