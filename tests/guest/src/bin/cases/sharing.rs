//! One device in the hands of two tasks: reference section 7, S6 4 and S7 3.

use std::sync::atomic::Ordering::Relaxed;

use guest::device::Device;
use guest::ensure;
use guest::fault::{self, Touch};
use guest::kernel_view::{Counters, Walk, faults_at};
use guest::ktap::{Case, Outcome};
use guest::process::{self, Child, Ended};
use guest::sys;

use crate::Context;
use crate::properties::{Property, case, need};

const PLAIN: &[Property] = &[
    ("s6_4_two_tasks_see_each_others_stores", two_tasks),
    ("s7_3_fork_shares_touched_and_untouched_units", fork_shares),
    ("s7_3_dontfork_keeps_the_mapping_from_the_child", dont_fork),
];

const COUNTED: &[Property] = &[("s7_3_a_child_takes_faults_of_its_own", child_faults)];

/// The cases that need a device only.
pub fn cases() -> Vec<Case<Context>> {
    PLAIN.iter().map(case).collect()
}

/// The cases that need this kernel.
pub fn counted_cases() -> Vec<Case<Context>> {
    COUNTED.iter().map(case).collect()
}

/// Runs `body` in a child; its errors come back as ours.
fn in_child(body: impl FnOnce() -> Outcome) -> Outcome {
    // What it says, eight bytes a word.
    let said = process::shared_words(64).map_err(|errno| format!("shared memory: {errno}"))?;
    let ended = process::fork(|| match body() {
        Ok(()) => 0,
        Err(what) => {
            for (word, bytes) in said.iter().zip(what.as_bytes().chunks_exact(8)) {
                word.store(u64::from_ne_bytes(bytes.try_into().expect("a chunk has 8")), Relaxed);
            }
            1
        }
    })
    .and_then(Child::wait);
    let said: Vec<u8> = said.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
    match ended {
        Ok(Ended::Exited(0)) => Ok(()),
        other => Err(format!("the child: {other:?} {}", String::from_utf8_lossy(&said).trim_matches('\0'))),
    }
}

/// Parent and child take turns at words that both map, the child by a mapping of its own, too.
fn two_tasks(device: &Device) -> Outcome {
    const TURNS: u64 = 50;
    let mapping = need(device.map(2 * device.align, 0))?;
    let (ours, theirs) = (mapping.addr, mapping.addr + device.align);
    let wait_for = |addr: usize, turn: u64| loop {
        match fault::load_word(addr) {
            Ok(word) if word == turn => return Ok(()),
            Ok(_) => _ = sys::numbers(libc::SYS_sched_yield, &[]),
            Err(fault) => return Err(format!("load: {fault}")),
        }
    };
    let store = |addr, turn| fault::store_word(addr, turn).map_err(|fault| format!("store: {fault}"));
    store(ours, 0)?;
    store(theirs, 0)?;
    let child = process::fork(|| {
        let answer = || -> Outcome {
            let second = need(device.map(device.align, device.align))?;
            for turn in 1..=TURNS {
                wait_for(ours, turn)?;
                store(if turn % 2 == 0 { theirs } else { second.addr }, turn)?;
            }
            Ok(())
        };
        i32::from(answer().is_err())
    });
    let child = child.map_err(|errno| format!("fork: {errno}"))?;
    for turn in 1..=TURNS {
        store(ours, turn)?;
        wait_for(theirs, turn)?;
    }
    let ended = child.wait();
    ensure!(ended == Ok(Ended::Exited(0)), "the child ended with {ended:?}");
    Ok(())
}

/// The documented policy: a child inherits the mapping and faults on it by itself; stores are shared.
fn fork_shares(device: &Device) -> Outcome {
    let mapping = need(device.map(2 * device.align, 0))?;
    mapping.store(0, 11);
    need(device.map(device.align, device.align))?.store(0, 12);
    in_child(|| {
        let (touched, untouched) = (mapping.load(0), mapping.load(device.align));
        ensure!(touched == Touch::Done(11), "the touched unit: {touched:?}");
        ensure!(untouched == Touch::Done(12), "the untouched unit: {untouched:?}");
        ensure!(mapping.store(0, 21).is_done() && mapping.store(device.align, 22).is_done(), "no store");
        sys::munmap(mapping.addr, mapping.len).map_err(|errno| format!("munmap: {errno}"))
    })?;
    let bytes = [mapping.load(0), mapping.load(device.align)];
    ensure!(bytes == [Touch::Done(21), Touch::Done(22)], "the parent sees {bytes:?}");
    Ok(())
}

fn dont_fork(device: &Device) -> Outcome {
    let mapping = need(device.map(2 * device.align, 0))?;
    mapping.store(0, 1);
    let advise = |advice| {
        sys::madvise(mapping.addr, device.align, advice).map_err(|errno| format!("madvise {advice}: {errno}"))
    };
    advise(libc::MADV_DONTFORK)?;
    in_child(|| {
        let (kept, inherited) = (mapping.load(0), mapping.load(device.align));
        ensure!(kept.to_string() == "SIGSEGV/MAPERR", "DONTFORK: the child's load answers {kept}");
        ensure!(inherited.is_done(), "the rest of the mapping answers {inherited}");
        Ok(())
    })?;
    advise(libc::MADV_DOFORK)?;
    in_child(|| {
        ensure!(mapping.load(0) == Touch::Done(1), "DOFORK: the child's load answers {}", mapping.load(0));
        Ok(())
    })
}

/// Entries are not copied by fork: the child's first touch of each unit is a fault of one entry.
fn child_faults(device: &Device) -> Outcome {
    let mapping = need(device.map(3 * device.align, 0))?;
    for unit in 0..3 {
        mapping.store(unit * device.align, 1);
    }
    in_child(|| {
        let before = Counters::read()?;
        for unit in [0, 2, 0] {
            ensure!(mapping.store(unit * device.align, 2).is_done(), "store to unit {unit}");
        }
        let taken = Counters::read()?.faults_since(&before);
        ensure!(taken == faults_at(device.alignment, 2), "two units took {taken:?} (4K, 2M, 1G)");
        let walk = Walk::to(mapping.addr)?;
        let wanted = device.alignment.to_string();
        ensure!(walk.size.as_deref() == Some(wanted.as_str()), "the child's entry: {walk}");
        Ok(())
    })?;
    ensure!(Walk::to(mapping.addr)?.size.is_some(), "the parent's entry went away");
    Ok(())
}
