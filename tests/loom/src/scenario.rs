//! The models: each lets programs and a removal loose on a machine, and asserts what must be true at the end.
//!
//! The stores assert for themselves that they reach nobody else's memory; see [`crate::machine`]. The thread that
//! runs the model is the removal's CPU.

use crate::lifetime::LifetimeError;
use crate::machine::{CpuEpoch, Dead, Machine, Program};
use crate::{Bug, check};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

/// A program that touches its mapping twice, by a fault and by what its CPU remembers, against a removal.
pub fn fault_and_removal(bug: Option<Bug>) {
    check(move || {
        let [killer, cpu] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        let program = run(mapped(&machine, cpu));
        machine.remove(&killer).expect("alive");
        end(&machine, [program]);
    });
}

/// The same with two programs on two CPUs, which touch once each.
pub fn two_faults_and_removal(bug: Option<Bug>) {
    check(move || {
        let [killer, first, second] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        let programs = [first, second].map(|cpu| {
            let program = mapped(&machine, cpu);
            thread::spawn(move || {
                let _may_be_dead = program.store();
                program.leave()
            })
        });
        machine.remove(&killer).expect("alive");
        end(&machine, programs);
    });
}

/// A fault that finds no memory, which comes back only when the device has been removed: the removal does not wait
/// for it, and the fault ends in SIGBUS.
pub fn starved_fault_and_removal(bug: Option<Bug>) {
    check(move || {
        let [killer, cpu] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        machine.use_up_memory();
        let program = mapped(&machine, cpu);
        let program = thread::spawn(move || {
            assert_eq!(program.store(), Err(Dead));
            program.leave()
        });
        machine.remove(&killer).expect("alive");
        machine.free_memory();
        end(&machine, [program]);
    });
}

/// A mapping of the first generation against a disable and an enable.
pub fn fault_and_renewal(bug: Option<Bug>) {
    check(move || {
        let [killer, cpu] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        let program = run(mapped(&machine, cpu));
        machine.renew(&killer).expect("alive");
        assert!(machine.lifetime().generation().is_some());
        end(&machine, [program]);
    });
}

/// A program that maps the device, and touches it if it may, against a removal.
pub fn mmap_and_removal(bug: Option<Bug>) {
    check(move || {
        let [killer, cpu] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        let program = Program::open(&machine, cpu).expect("alive");
        let program = thread::spawn(move || {
            if program.mmap().is_ok() {
                let _may_be_dead = program.store();
            }
            program.leave()
        });
        machine.remove(&killer).expect("alive");
        end(&machine, [program]);
    });
}

/// The kernel's own use of the memory, which nothing but the grace period guards, against a removal.
pub fn direct_access_and_removal(bug: Option<Bug>) {
    check(move || {
        let [killer, cpu] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        let program = Program::open(&machine, cpu).expect("alive");
        let program = thread::spawn(move || {
            let _may_be_dead = program.direct_access();
            program.leave()
        });
        machine.remove(&killer).expect("alive");
        end(&machine, [program]);
    });
}

/// Two removals of one device against a fault: one of them removes it, and only when the grace period is over.
pub fn two_removals_and_a_fault(bug: Option<Bug>) {
    check(move || {
        let [first, second, cpu] = CpuEpoch::cpus();
        let machine = Machine::new(bug);
        let program = mapped(&machine, cpu);
        let program = thread::spawn(move || {
            let _may_be_dead = program.store();
            program.leave()
        });
        let other = machine.clone();
        let other = thread::spawn(move || (other.remove(&second), second));
        let first_answer = machine.remove(&first);
        let (second_answer, _second) = other.join().expect("it does not panic");
        let mut answers = [first_answer, second_answer];
        answers.sort_by_key(Result::is_err);
        let late = [LifetimeError::Dying, LifetimeError::Dead, LifetimeError::Retired];
        assert!(matches!(answers, [Ok(()), Err(why)] if late.contains(&why)), "{answers:?}");
        end(&machine, [program]);
    });
}

/// Two devices of one epoch that are killed at the same time: both kills end, whoever collects whose closure.
pub fn two_kills_of_two_devices(bug: Option<Bug>) {
    check(move || {
        let [first, second] = CpuEpoch::cpus();
        let machines = [Machine::new(bug), Machine::new(bug)];
        let other = machines[1].clone();
        let other = thread::spawn(move || {
            other.remove(&second).expect("alive");
            second
        });
        machines[0].remove(&first).expect("alive");
        let _second = other.join().expect("it does not panic");
    });
}

/// A program with the device mapped and listed.
fn mapped(machine: &Arc<Machine>, cpu: CpuEpoch) -> Program {
    let program = Program::open(machine, cpu).expect("alive");
    program.list();
    program
}

/// Starts a program that stores twice.
fn run(program: Program) -> JoinHandle<Program> {
    thread::spawn(move || {
        let _may_be_dead = program.store().and_then(|()| program.store());
        program.leave()
    })
}

/// Waits for the programs, and checks that they left nothing behind.
fn end<const N: usize>(machine: &Machine, programs: [JoinHandle<Program>; N]) {
    let mut gone = Vec::new();
    for program in programs {
        gone.push(program.join().expect("a program does not panic"));
    }
    machine.check();
}
