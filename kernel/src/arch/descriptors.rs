//! The interrupt gates of all CPUs, and each CPU's GDT and TSS.

use super::context;
use super::stack::EXCEPTION_STACKS;
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::registers::model_specific::{Efer, EferFlags, LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::registers::segmentation::{CS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Vectors that must work when the stack does not: each has its own (Intel SDM 3A, 6.14.5).
const ON_OWN_STACK: [u8; EXCEPTION_STACKS] = [8, 2, 18];

/// Interrupt gates (Intel SDM 3A, 6.14.1) that are present: for ring 0, and for whoever asks.
const KERNEL_GATE: u64 = 0x8e;
const USER_GATE: u64 = 0xee;

/// The interrupt gates, the same for every CPU; written once at boot.
struct Gates(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: `init` runs once, before a second CPU and before anything else could look; afterwards only CPUs read.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new([[0; 2]; 256]));

/// Selectors, in the order in which `Tables::load` appends them.
const CODE: SegmentSelector = SegmentSelector(0x10);
const DATA: SegmentSelector = SegmentSelector(0x18);
const NO_USER_CODE32: SegmentSelector = SegmentSelector(0x23);

unsafe extern "C" {
    static trap_stubs: [[u8; 16]; 256];
    fn syscall_entry();
}

/// Fills the interrupt gates. Once, on the boot CPU.
pub fn init() {
    // SAFETY: called once and before any trap (see `Gates`), so this is the only reference.
    let gates = unsafe { &mut *GATES.0.get() };
    for (vector, gate) in gates.iter_mut().enumerate() {
        // SAFETY: only the address is taken.
        let stub = unsafe { &raw const trap_stubs[vector] } as u64;
        let own_stack =
            ON_OWN_STACK.iter().position(|&v| usize::from(v) == vector).map_or(0, |i| i as u64 + 1);
        // int3 is for programs too; every other `int n` of theirs is a general protection fault.
        let kind = if vector == 3 { USER_GATE } else { KERNEL_GATE };
        // Figure 6-8: the stub's address in three parts, code selector, stack and kind.
        let low = stub & 0xffff | u64::from(CODE.0) << 16 | own_stack << 32 | kind << 40;
        *gate = [low | (stub >> 16 & 0xffff) << 48, stub >> 32];
    }
}

/// A CPU's own: its segments and its task state.
pub struct Tables {
    gdt: GlobalDescriptorTable<9>,
    tss: TaskStateSegment,
}

impl Tables {
    /// Empty ones.
    pub const fn empty() -> Tables {
        Tables { gdt: GlobalDescriptorTable::empty(), tss: TaskStateSegment::new() }
    }

    /// Fills and loads the tables of the CPU that this runs on, with these stacks for double fault, NMI and machine
    /// check, and switches `syscall` on. Returns the address of TSS.rsp0.
    pub fn load(&'static mut self, stacks: [VirtAddr; EXCEPTION_STACKS]) -> u64 {
        let Tables { gdt, tss } = self;
        for (index, stack) in stacks.into_iter().enumerate() {
            tss.interrupt_stack_table[index] = stack;
        }
        // Linux's order, for programs see their selectors. Its 32-bit segments, at 0x08 and 0x20, are no code here.
        gdt.append(Descriptor::kernel_data_segment());
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let no_user_code32 = gdt.append(Descriptor::user_data_segment());
        let user_data = gdt.append(Descriptor::user_data_segment());
        let user_code = gdt.append(Descriptor::user_code_segment());
        assert_eq!((code, data, no_user_code32), (CODE, DATA, NO_USER_CODE32));
        assert_eq!((u64::from(user_data.0), u64::from(user_code.0)), (context::USER_SS, context::USER_CS));
        // SAFETY: the TSS lives in the CPU's block, for good and without moving.
        let tss_selector = gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });
        // SAFETY: 1. the tables live for good and hold what the CPU expects; `init` has filled the gates;
        // 2. the selectors are the ones just appended;
        // 3. STAR's selectors are laid out as syscall and sysret add to them.
        unsafe {
            gdt.load_unsafe();
            CS::set_reg(code);
            let limit = (size_of_val(&GATES) - 1) as u16;
            lidt(&DescriptorTablePointer { limit, base: VirtAddr::from_ptr(GATES.0.get()) });
            load_tss(tss_selector);
            Efer::update(|efer| efer.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
            // syscall: CS = code, SS = code + 8; sysret: CS = base + 16, SS = base + 8 (SDM 2B, SYSRET).
            Star::write_raw(no_user_code32.0, code.0);
        }
        LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
        SFMask::write(
            RFlags::ALIGNMENT_CHECK
                | RFlags::DIRECTION_FLAG
                | RFlags::TRAP_FLAG
                | RFlags::INTERRUPT_FLAG
                | RFlags::NESTED_TASK,
        );
        &raw const tss.privilege_stack_table as u64
    }
}
