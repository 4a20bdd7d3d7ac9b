//! Rows of the error matrix about a mapping that moves, that a child inherits, or that others look into.

use guest::device::Device;
use guest::fault::Touch;
use guest::mapping::Mapping;
use guest::process::{self, Ended};
use guest::sys::{self, Errno, PAGE};
use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ};

use crate::matrix::{Row, verdict};

/// The rows.
pub const ROWS: &[Row] = &[
    ("mremap same size", |d| with(d, 1, |m| verdict(sys::mremap(m.addr, d.align, d.align, 0, 0)))),
    ("mremap shrink 2->1 align", |d| {
        with(d, 2, |m| {
            let answer = verdict(sys::mremap(m.addr, 2 * d.align, d.align, 0, 0));
            format!("{answer} right={}", m.store(d.align, 2))
        })
    }),
    ("mremap shrink by 4096", |d| {
        with(d, 2, |m| verdict(sys::mremap(m.addr, 2 * d.align, 2 * d.align - PAGE, 0, 0)))
    }),
    ("mremap grow no MAYMOVE", |d| {
        with(d, 2, |m| {
            let made = sys::munmap(m.addr + d.align, d.align);
            let answer = made.and(sys::mremap(m.addr, d.align, 2 * d.align, 0, 0));
            format!("{} grown={}", verdict(answer), m.store(d.align, 2))
        })
    }),
    ("mremap grow MAYMOVE", |d| {
        with(d, 1, |m| {
            moved(sys::mremap(m.addr, d.align, 2 * d.align, MREMAP_MAYMOVE, 0), 2 * d.align, |new| {
                let aligned = if new.addr.is_multiple_of(d.align) { "aligned" } else { "misaligned" };
                format!(" {aligned} w0={} grown={}", new.store(0, 2), new.store(d.align, 2))
            })
        })
    }),
    ("mremap move FIXED aligned", |d| {
        to_free_place(d, 1, 0, |new, old| format!(" w={} old={}", new.store(0, 2), old.store(0, 2)))
    }),
    ("mremap move FIXED +4096", |d| {
        to_free_place(d, 2, PAGE, |new, _| {
            format!(" w-touched-before={} w-untouched={}", new.store(0, 2), new.store(d.align, 2))
        })
    }),
    ("mremap move FIXED +4096 (untouched map)", |d| {
        to_free_place(d, 1, PAGE, |new, _| {
            format!(" w={} munmap={}", new.store(0, 2), verdict(sys::munmap(new.addr, new.len)))
        })
    }),
    ("mremap DONTUNMAP", |d| {
        with(d, 1, |m| {
            let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
            moved(sys::mremap(m.addr, d.align, d.align, flags, 0), d.align, |new| {
                format!(" new={} old={}", new.store(0, 2), m.store(0, 2))
            })
        })
    }),
    ("mremap old_len 0 (dup)", |d| {
        with(d, 1, |m| {
            let answer = sys::mremap(m.addr, 0, d.align, MREMAP_MAYMOVE, 0);
            moved(answer, d.align, |new| format!(" w={}", new.store(0, 2)))
        })
    }),
    ("mprotect whole R, fork, touch", |d| {
        with(d, 2, |m| {
            let answer = verdict(sys::mprotect(m.addr, m.len, PROT_READ));
            fork_and_wait();
            format!("{answer} read={} write={}", m.load(0), m.store(0, 2))
        })
    }),
    ("mprotect first align R, fork, touch", |d| {
        with(d, 2, |m| {
            let answer = verdict(sys::mprotect(m.addr, d.align, PROT_READ));
            fork_and_wait();
            format!("{answer} w-first={} w-second={}", m.store(0, 2), m.store(d.align, 2))
        })
    }),
    ("mremap move FIXED aligned, fork, touch", |d| {
        to_free_place(d, 1, 0, |new, old| {
            fork_and_wait();
            format!(" w={} old={}", new.store(0, 2), old.store(0, 2))
        })
    }),
    ("mlockall CURRENT|FUTURE then map", mlockall_then_map),
    ("fork: child writes touched page", |d| child_writes(d, Some(1))),
    ("fork: child writes untouched page", |d| child_writes(d, None)),
    ("fork: after DONTFORK,DOFORK", |d| {
        with(d, 1, |m| {
            let answer = sys::madvise(m.addr, m.len, libc::MADV_DONTFORK);
            let answer = answer.and(sys::madvise(m.addr, m.len, libc::MADV_DOFORK));
            format!("dofork={} {}", verdict(answer), in_child(|| i32::from(!m.store(0, 7).is_done())))
        })
    }),
    ("fork: child munmaps, parent keeps", |d| {
        with(d, 1, |m| {
            let child = in_child(|| i32::from(sys::munmap(m.addr, m.len).is_err()));
            format!("{child}  parent={}", m.store(0, 2))
        })
    }),
    ("fork: child exits, data stays", |d| {
        with(d, 1, |m| {
            let child = in_child(|| i32::from(!m.store(0, 10).is_done()));
            match m.load(0) {
                Touch::Done(byte) => format!("{child} {byte}"),
                Touch::Faulted(fault) => format!("{child} {fault}"),
            }
        })
    }),
    ("fork: WIPEONFORK", |d| {
        with(d, 1, |m| {
            let answer = verdict(sys::madvise(m.addr, m.len, libc::MADV_WIPEONFORK));
            let child = in_child(|| i32::from(m.load(0) != Touch::Done(0)));
            format!("madvise={answer} {child}")
        })
    }),
    ("futex WAKE shared on dax word", |d| with(d, 1, |m| futex(m.addr, libc::FUTEX_WAKE, 1))),
    ("futex WAIT shared value differs", |d| with(d, 1, |m| futex(m.addr, libc::FUTEX_WAIT, 0xdead))),
    ("move_pages query", |d| with(d, 1, |m| where_is(m.addr))),
];

/// Some alignments of the device, the first byte of which is 1.
fn with(device: &Device, count: usize, f: impl FnOnce(&Mapping) -> String) -> String {
    match device.map(count * device.align, 0) {
        Ok(mapping) => {
            mapping.store(0, 1);
            f(&mapping)
        }
        Err(errno) => format!("no map: {errno}"),
    }
}

/// `ok` and what `touch` says about the mapping that mremap gave, or the errno.
fn moved(answer: Result<usize, Errno>, len: usize, touch: impl FnOnce(&Mapping) -> String) -> String {
    match answer {
        Ok(addr) => String::from("ok") + &touch(&Mapping { addr, len }),
        Err(errno) => errno.to_string(),
    }
}

/// Moves a mapping to `add` bytes behind an aligned address with nothing around it.
fn to_free_place(
    device: &Device,
    count: usize,
    add: usize,
    touch: impl FnOnce(&Mapping, &Mapping) -> String,
) -> String {
    with(device, count, |old| {
        let place = match device.map((count + 2) * device.align, 0) {
            Ok(place) => place.addr + add,
            Err(errno) => return format!("no place: {errno}"),
        };
        let answer = sys::mremap(old.addr, old.len, old.len, MREMAP_MAYMOVE | MREMAP_FIXED, place);
        moved(answer, old.len, |new| touch(new, old))
    })
}

/// `child exit N` of a child that runs `body`.
fn in_child(body: impl FnOnce() -> i32) -> String {
    match process::fork(body).and_then(process::Child::wait) {
        Ok(Ended::Exited(status)) => format!("child exit {status}"),
        Ok(Ended::Killed(signal)) => format!("child killed by {signal}"),
        Err(errno) => format!("fork {errno}"),
    }
}

fn fork_and_wait() {
    let _ = process::fork(|| 0).and_then(process::Child::wait);
}

/// A child writes what its parent reads; the parent touched it before, or did not.
fn child_writes(device: &Device, touched: Option<u8>) -> String {
    let mapping = match device.map(device.align, 0) {
        Ok(mapping) => mapping,
        Err(errno) => return format!("no map: {errno}"),
    };
    if let Some(byte) = touched {
        mapping.store(0, byte);
    }
    let child = in_child(|| i32::from(!mapping.store(0, 0x3c).is_done()));
    let sees = if mapping.load(0) == Touch::Done(0x3c) { "parent-sees-it" } else { "parent-does-not" };
    format!("{child} {sees}")
}

fn mlockall_then_map(device: &Device) -> String {
    let answer = sys::numbers(libc::SYS_mlockall, &[(libc::MCL_CURRENT | libc::MCL_FUTURE) as usize]);
    let mapping = device.map(device.align, 0);
    let _ = sys::numbers(libc::SYS_munlockall, &[]);
    let text = match mapping {
        Ok(m) if m.addr.is_multiple_of(device.align) => "ok addr-aligned".into(),
        Ok(_) => "ok addr%align!=0".into(),
        Err(errno) => errno.to_string(),
    };
    format!("{} map={text}", verdict(answer))
}

fn futex(addr: usize, operation: i32, value: usize) -> String {
    verdict(sys::numbers(libc::SYS_futex, &[addr, operation as usize, value, 0, 0, 0]))
}

/// move_pages(2) of one page to nowhere: its status.
fn where_is(addr: usize) -> String {
    let (pages, mut status) = ([addr], [i32::MAX]);
    let args = [0, 1, pages.as_ptr() as usize, 0, status.as_mut_ptr() as usize, 0];
    // SAFETY: one address to read and one status to write, both live.
    let answer = verdict(unsafe { sys::call(libc::SYS_move_pages, args) });
    match status[0] {
        node @ 0.. => format!("{answer} status={node}"),
        errno => format!("{answer} status={}", Errno(-errno)),
    }
}
