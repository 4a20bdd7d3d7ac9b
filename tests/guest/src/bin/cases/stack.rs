//! The stack: grows by faults to 8 MiB and no further.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use guest::ensure;
use guest::fault;
use guest::ktap::{Case, Outcome};

use crate::memory::answers;
use crate::{Context, Named, family};

const CASES: &[Named] = &[
    ("the stack grows to almost 8 MiB", |_| stack_grows()),
    ("below the stack limit is SIGSEGV", |_| stack_limit()),
    ("stack overflow is SIGSEGV on the alternate stack", |_| stack_overflow()),
];

/// The cases.
pub fn cases() -> Vec<Case<Context>> {
    family("memory", CASES)
}

const STACK_LIMIT: usize = 8 << 20;

fn stack_pointer() -> usize {
    let marker = 0_u8;
    &raw const marker as usize
}

fn stack_grows() -> Outcome {
    let here = stack_pointer();
    for below in (0..STACK_LIMIT - (256 << 10)).step_by(512 << 10) {
        answers(&format!("{below:#x} bytes down"), fault::load(here - below), "ok")?;
    }
    Ok(())
}

fn stack_limit() -> Outcome {
    let below = stack_pointer() - STACK_LIMIT - (64 << 10);
    answers("below the limit", fault::store(below, 1), "SIGSEGV/MAPERR")
}

static DEPTH: AtomicUsize = AtomicUsize::new(0);

#[inline(never)]
fn recurse(block: &[u8; 4096]) -> u8 {
    let mine = std::hint::black_box([block[0].wrapping_add(1); 4096]);
    if DEPTH.fetch_add(1, Relaxed) > 1 << 20 {
        return 0;
    }
    recurse(&mine).wrapping_add(mine[100])
}

fn stack_overflow() -> Outcome {
    DEPTH.store(0, Relaxed);
    let end = fault::guarded(|| {
        std::hint::black_box(recurse(&[0; 4096]));
    });
    ensure!(end.is_err_and(|fault| fault.signal == libc::SIGSEGV), "ended with {end:?}");
    let frames = DEPTH.load(Relaxed);
    ensure!((900..2100).contains(&frames), "{frames} frames of 4 or 8 KiB fitted into 8 MiB");
    Ok(())
}
