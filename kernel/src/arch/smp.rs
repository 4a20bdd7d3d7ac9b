//! The start of the other CPUs, one after another (Intel SDM 3A, 8.4.4).
//!
//! 1. While the early tables still show the low megabyte, a few bytes of real-mode code are copied there ([`prepare`]).
//! 2. INIT and SIPI make the CPU run them; `entry.s` takes it to long mode, to the kernel's tables and to the stack
//!    that is offered. A CPU that comes too late finds no stack and stops.
//! 3. It makes itself ready ([`start_others`] waits for that) and idles.

use super::cpu::Features;
use super::percpu::{Cpu, MAX_CPUS, online};
use super::stack::Stack;
use super::{fpu, interrupts, paging};
use crate::clock;
use crate::task;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use entry::PHYSMAP_BASE;
use x86_64::PhysAddr;

/// A CPU that is not there after this time stays out.
const PATIENCE_NS: u64 = 1_000_000_000;
/// SIPI is sent again after this time: by the manual twice, and a CPU that runs ignores it.
const RETRY_NS: u64 = 1_000_000;

/// The block of the CPU that is being started.
static COMING: AtomicPtr<Cpu> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" {
    static ap_stub: u8;
    static ap_stub_end: u8;
    /// The root table that the CPU loads.
    static ap_root: AtomicU64;
    /// The stack that it takes, leaving 0.
    static ap_stack: AtomicU64;
}

/// Copies the first code of the other CPUs to `page`.
///
/// # Safety
/// `page` is a page of RAM in the first MiB that nobody uses, and the early tables are loaded.
pub unsafe fn prepare(page: PhysAddr) {
    // SAFETY: entry.s defines the symbols around the code, which is shorter than a page; the rest is the caller's
    // promise.
    unsafe {
        let len = (&raw const ap_stub_end).offset_from_unsigned(&raw const ap_stub);
        ptr::copy_nonoverlapping(&raw const ap_stub, (PHYSMAP_BASE + page.as_u64()) as *mut u8, len);
    }
}

/// Starts the CPUs with these APIC ids but the one that runs this, until `max_cpus` run; `page` has been prepared.
pub fn start_others(apic_ids: &[u32], max_cpus: usize, page: PhysAddr) {
    let mut started = Vec::from([Cpu::this().apic_id()]);
    let (mut parked, mut lost) = (0, 0);
    for &id in apic_ids {
        if started.contains(&id) {
            continue;
        }
        if started.len() >= max_cpus.min(MAX_CPUS) {
            parked += 1;
        } else if start(started.len(), id, page) {
            started.push(id);
        } else {
            lost += 1;
        }
    }
    if parked + lost > 0 {
        log::info!("smp: {} of {} CPUs stay parked", parked + lost, started.len() + parked + lost);
    }
    if started.len() > 1 {
        log::info!("smp: {} CPUs", started.len());
        if !Features::detect().invariant_tsc {
            log::info!("clock: the CPUs' TSCs are taken to agree, though CPUID does not promise it");
        }
    }
}

/// Starts one CPU; says whether it came.
fn start(number: usize, id: u32, page: PhysAddr) -> bool {
    let (Some(apic), Some((cpu, stack))) = (interrupts::apic(), equip(number)) else {
        log::warn!("smp: no memory for the CPU with APIC id {id}");
        return false;
    };
    cpu.set_apic_id(id);
    COMING.store(ptr::from_ref(cpu).cast_mut(), Ordering::Release);
    // SAFETY: entry.s defines both as words of its own, which CPUs read and write atomically.
    unsafe {
        ap_root.store(paging::kernel_root().as_u64(), Ordering::Release);
        ap_stack.store(stack, Ordering::Release);
    }
    let begin = clock::monotonic_ns();
    let mut next_try = begin;
    // The pause of 10 ms behind INIT is for CPUs of the last century (Linux: init_udelay is 0 for all newer ones).
    apic.init(id);
    while online() & cpu.bit() == 0 {
        let now = clock::monotonic_ns();
        if now - begin > PATIENCE_NS {
            // INIT again: should it come after all, it finds nothing to run.
            apic.init(id);
            // SAFETY: as above.
            unsafe { ap_stack.store(0, Ordering::Release) };
            log::warn!("smp: the CPU with APIC id {id} does not start: it stays parked");
            return false;
        }
        if now >= next_try {
            apic.start_up(id, (page.as_u64() >> 12) as u8);
            next_try = now + RETRY_NS;
        }
        core::hint::spin_loop();
    }
    true
}

/// The block of a new CPU, for good, and the top of its first stack.
fn equip(number: usize) -> Option<(&'static Cpu, u64)> {
    let stacks = [Stack::take()?, Stack::take()?, Stack::take()?];
    let first = Stack::take()?;
    let mut block = Vec::new();
    block.try_reserve_exact(1).ok()?;
    block.push(Cpu::new(number));
    let cpu = block.leak().first()?;
    cpu.set_exception_stacks(stacks.map(|stack| core::mem::ManuallyDrop::new(stack).top()));
    Some((cpu, core::mem::ManuallyDrop::new(first).top().as_u64()))
}

/// Called by `entry.s` on a new CPU, with the kernel's tables loaded and on its own stack.
#[unsafe(no_mangle)]
extern "C" fn ap_main() -> ! {
    let features = Features::detect();
    features.enable();
    fpu::init(features.xsave);
    // SAFETY: `start` has stored a block that lives for good, and starts no other CPU meanwhile.
    let cpu = unsafe { &*COMING.load(Ordering::Acquire) };
    cpu.enlist();
    if let Some(apic) = interrupts::apic() {
        apic.enable(interrupts::SPURIOUS);
    }
    task::init_cpu();
    task::idle()
}
