//! What a kill costs: of a device that nobody maps, and of one that three processes have mapped and touched.

use std::sync::atomic::Ordering::SeqCst;

use guest::clock::{percentile, timed};
use guest::device::Device;
use guest::mapping::Mapping;
use guest::process::{self, Child};
use guest::sys::{self, RW};
use guest::sysfs::{self, Name};

use crate::Values;
use crate::memory::{touch_every, units};

const KILLS: usize = 21;
const PROCESSES: u64 = 3;

/// Ticks of the write that disables the device; it is bound again afterwards.
fn timed_kill(name: Name, unbind: i32) -> Result<u64, String> {
    let text = name.to_string();
    let mut answer = Ok(0);
    let ticks = timed(|| answer = sys::pwrite(unbind, text.as_bytes(), 0));
    answer.map_err(|errno| format!("unbind of {name}: {errno}"))?;
    name.bind().map_err(|errno| format!("bind of {name}: {errno}"))?;
    Ok(ticks)
}

/// A child that has the device mapped and touched, and sleeps.
fn holder(device: &Device, ready: &std::sync::atomic::AtomicU64) -> Result<Child, String> {
    let holder = process::fork(|| {
        let Ok(fd) = sys::open(&device.path, libc::O_RDWR) else { return 1 };
        let Ok(mapping) = Mapping::new(0, device.size, RW, libc::MAP_SHARED, fd, 0) else { return 2 };
        touch_every(mapping.addr, units(device) * device.align, device.align);
        ready.fetch_add(1, SeqCst);
        loop {
            let _ = sys::numbers(libc::SYS_pause, &[]);
        }
    });
    holder.map_err(|errno| format!("fork: {errno}"))
}

/// Both rows. Descriptors from before are dead afterwards.
pub fn run(device: &Device, values: &mut Values) -> Result<(), String> {
    let path = device.path.to_string_lossy();
    let name = path.strip_prefix("/dev/").and_then(Name::parse).ok_or(format!("{path} is no dax device"))?;
    let unbind = sysfs::open(sysfs::UNBIND, libc::O_WRONLY).map_err(|errno| format!("unbind: {errno}"))?;
    let mut idle = [0; KILLS];
    for sample in &mut idle {
        *sample = timed_kill(name, unbind)?;
    }
    let idle = percentile(&mut idle, 50);
    values.push(("kill_idle_unmapped", idle));

    let ready = process::shared_words(1).map_err(|errno| format!("shared memory: {errno}"))?;
    let mut held = [0; 3];
    for sample in &mut held {
        ready[0].store(0, SeqCst);
        let holders: Vec<Child> =
            (0..PROCESSES).map(|_| holder(device, &ready[0])).collect::<Result<_, _>>()?;
        while ready[0].load(SeqCst) < PROCESSES {
            let _ = sys::numbers(libc::SYS_sched_yield, &[]);
        }
        let killed = timed_kill(name, unbind);
        for holder in holders {
            holder
                .kill(libc::SIGKILL)
                .and_then(|()| holder.wait())
                .map_err(|errno| format!("kill: {errno}"))?;
        }
        *sample = killed?;
    }
    values.push(("revoke_touched_in_3_processes", percentile(&mut held, 50).saturating_sub(idle)));
    sys::close(unbind).map_err(|errno| format!("close: {errno}"))
}
