//! The table of contents of boot.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
mod bare {
    extern crate alloc;

    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::panic::PanicInfo;
    use kernel::arch::{cpu::Features, descriptors, fpu, interrupts, percpu::Cpu, smp, stack};
    use kernel::command_line::CommandLine;
    use kernel::dax::Registry;
    use kernel::discovery::{self, Machinery};
    use kernel::machine::{self, Machine};
    use kernel::programs::{self, Outcome};
    use kernel::providers;
    use kernel::shootdown::AllCpus;
    use kernel::{boot, clock, epoch, log as kernel_log, panic, task};
    use mm::heap::KernelHeap;
    use mm::space::Environment;
    use platform::{channel, pic, serial};

    #[global_allocator]
    static HEAP: KernelHeap = KernelHeap::empty();

    /// What boot needs before there are frames: the command line above all, which QEMU may make 64 KiB long.
    static mut BOOT_HEAP: [u8; 192 * 1024] = [0; 192 * 1024];

    static BOOT_CPU: Cpu = Cpu::new(0);

    /// Called by `entry.s` with the physical address of the hypervisor's `hvm_start_info`.
    #[unsafe(no_mangle)]
    extern "C" fn kernel_main(start_info: u64) -> ! {
        clock::start();
        // First of all: what TCG has translated under other control bits it translates again.
        let features = Features::detect();
        features.enable();
        fpu::init(features.xsave);

        serial::init();
        channel::init();
        kernel_log::init();
        pic::mask_all();
        descriptors::init();
        BOOT_CPU.set_exception_stacks(stack::boot_exception_tops());
        BOOT_CPU.enlist();
        let heap = &raw mut BOOT_HEAP;
        // SAFETY: only the heap ever uses the array, and this runs once.
        unsafe { HEAP.init(heap.cast(), size_of_val(&*heap)) };

        let mut letter = boot::read_letter(start_info, &features);
        let options = boot::options(&letter.command_line);
        let firmware = boot::firmware(&mut letter);
        kernel_log::set_level(options.log_level);
        log::info!("Daxite {}: {} MiB of RAM", env!("CARGO_PKG_VERSION"), letter.map.total_bytes() >> 20);

        features.log_missing();

        let carved_out = providers::ram::carve_out(&options.carve_outs, &mut letter.map);
        let ap_page = boot::prepare_cpus(&letter, &firmware);
        let mut tables = boot::page_tables(&mut letter, &features);
        interrupts::init(firmware.cpus.as_ref());
        let frames = boot::frames(&letter.map);
        HEAP.frames_ready(frames);
        tables.take_frames_from(frames);
        mm::lock::set_parking(&task::park::Lot);
        mm::checks::set_cpu(task::cpu_number);
        task::init_cpu();
        let initrd = boot::initrd(letter.initrd);
        let registry = discovery::discover(Machinery {
            map: &mut letter.map,
            tables: &mut tables,
            frames,
            features: &features,
            options: &options,
            firmware: &firmware,
            registry: Registry::new(epoch::epoch()),
            carved_out,
            hint_pages: Vec::new(),
        });

        let memory = Environment {
            frames,
            shootdown: &AllCpus,
            no_execute: features.no_execute,
            gigabyte_pages: features.gigabyte_pages,
        };
        machine::publish(Machine {
            memory,
            heap: &HEAP,
            kernel_half: tables.kernel_half(),
            initrd,
            nfit: firmware.nfit.and_then(Result::ok),
            registry,
        });
        stack::init(tables, frames);
        if let (Some(page), Some(cpus)) = (ap_page, &firmware.cpus) {
            smp::start_others(&cpus.apic_ids, options.max_cpus, page);
        }
        clock::settle();
        interrupts::measure_timer();

        if task::spawn(Box::new(move || run(&options))).is_none() {
            panic::fail(format_args!("boot: no memory for the first task"));
        }
        task::idle()
    }

    /// The first task: runs the programs, and turns the machine off.
    fn run(options: &CommandLine) {
        match programs::run_all(options) {
            Outcome::Ended(status) => programs::report(status),
            Outcome::Leaked { program, lost } => panic::fail(format_args!("{program}: {lost}")),
        }
        panic::power_off()
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        panic::panic(info)
    }
}

/// On a host there is nothing to boot: the binary exists so that the workspace builds as a whole.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the Daxite kernel: `make` builds it for the bare machine, `make run` boots it");
}
