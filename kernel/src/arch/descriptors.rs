//! GDT, TSS and IDT of the boot CPU.

use super::stack::{IST, IST_STACKS};
use super::{context, percpu};
use core::cell::UnsafeCell;
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::registers::model_specific::{Efer, EferFlags, LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::registers::segmentation::{CS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

/// Vectors that must work when the stack does not: each has its own (Intel SDM 3A, 6.14.5).
const ON_OWN_STACK: [u8; IST_STACKS] = [8, 2, 18];

/// An interrupt gate (Intel SDM 3A, figure 6-8).
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

/// The tables, written once at boot and by the CPU.
struct Tables(UnsafeCell<(GlobalDescriptorTable<9>, TaskStateSegment, [Gate; 256])>);

// SAFETY: `init` runs once, before anything else could look; afterwards only the CPU reads, and `trap.s` writes
// TSS.rsp0.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables(UnsafeCell::new((
    GlobalDescriptorTable::empty(),
    TaskStateSegment::new(),
    [Gate { offset_low: 0, selector: 0, ist: 0, kind: 0, offset_middle: 0, offset_high: 0, reserved: 0 };
        256],
)));

unsafe extern "C" {
    static trap_stubs: [[u8; 16]; 256];
    fn syscall_entry();
}

/// Loads the tables and switches `syscall` on. Once, on the boot CPU.
pub fn init() {
    // SAFETY: called once and before any trap (see `Tables`), so this is the only reference.
    let (gdt, tss, gates) = unsafe { &mut *TABLES.0.get() };

    for (i, stack) in IST.iter().enumerate() {
        tss.interrupt_stack_table[i] = stack.top();
    }
    // Linux's order, for programs see their selectors. Its 32-bit segments, at 0x08 and 0x20, are no code here.
    gdt.append(Descriptor::kernel_data_segment());
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let no_user_code32 = gdt.append(Descriptor::user_data_segment());
    let user_data = gdt.append(Descriptor::user_data_segment());
    let user_code = gdt.append(Descriptor::user_code_segment());
    assert_eq!((u64::from(user_data.0), u64::from(user_code.0)), (context::USER_SS, context::USER_CS));
    // SAFETY: the TSS is a static and is never moved.
    let tss_selector = gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });

    for (vector, gate) in gates.iter_mut().enumerate() {
        // SAFETY: only the address is taken.
        let stub = unsafe { &raw const trap_stubs[vector] } as u64;
        let ist = ON_OWN_STACK.iter().position(|&v| usize::from(v) == vector).map_or(0, |i| i as u8 + 1);
        // int3 is for programs too; every other `int n` of theirs is a general protection fault.
        let privilege = if vector == 3 { PrivilegeLevel::Ring3 } else { PrivilegeLevel::Ring0 };
        *gate = Gate {
            offset_low: stub as u16,
            selector: code.0,
            ist,
            kind: 0x8e | (privilege as u8) << 5,
            offset_middle: (stub >> 16) as u16,
            offset_high: (stub >> 32) as u32,
            reserved: 0,
        };
    }

    // SAFETY: 1. both tables are statics and hold what the CPU expects;
    // 2. the selectors are the ones just appended;
    // 3. STAR's selectors are laid out as syscall and sysret add to them.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(code);
        let limit = (size_of_val(gates) - 1) as u16;
        lidt(&DescriptorTablePointer { limit, base: VirtAddr::from_ptr(gates) });
        load_tss(tss_selector);
        Efer::update(|efer| efer.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
        // syscall: CS = code, SS = code + 8; sysret: CS = base + 16, SS = base + 8 (SDM 2B, SYSRET).
        Star::write_raw(no_user_code32.0, code.0);
    }
    assert_eq!((code, data), (SegmentSelector(0x10), SegmentSelector(0x18)));
    LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
    SFMask::write(
        RFlags::ALIGNMENT_CHECK
            | RFlags::DIRECTION_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::INTERRUPT_FLAG
            | RFlags::NESTED_TASK,
    );
    percpu::init(&raw const tss.privilege_stack_table as u64);
}
