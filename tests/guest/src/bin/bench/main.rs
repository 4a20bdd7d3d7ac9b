//! `bench`: what device-dax costs, in guest instructions; `name value` lines, or `--table` beside Linux 6.1.
//!
//! Under QEMU's `-icount shift=0,sleep=off` the time-stamp counter advances by one with each instruction, so
//! a difference of two readings is an exact count. Whether that is so is measured first with a loop of known
//! length; otherwise the values are ticks of the counter, and the `unit` line says so.
//!
//! As in the figures for Linux: a value includes its pair of readings (`rdtsc_pair`); touched rows are
//! 65,536 pages at 4K, 2,047 at 2M, 3 at 1G, or what the device has; single faults are medians.
//!
//! `bench --faults` counts a warm fault alone, for kernels that are compared; `bench --parallel` measures by
//! the clock how much faster two threads fault than one (`parallel`). The rest stands in `memory`, `tasks` and
//! `removal`, which disables the device and so comes last.

mod memory;
mod parallel;
mod removal;
mod tasks;

use std::process::ExitCode;

use guest::clock;
use guest::device::Device;
use guest::kernel_view::Counters;

/// What was measured, by the names of the rows.
type Values = Vec<(&'static str, u64)>;

/// One row: its name, Linux 6.1's instructions at 4K, 2M and 1G, and the most that we allow ourselves at each.
/// 0 stands for no figure and for no limit.
type Row = (&'static str, [u64; 3], [u64; 3]);

const NO_LIMIT: [u64; 3] = [0; 3];

const ROWS: &[Row] = &[
    ("rdtsc_pair", [5, 5, 5], NO_LIMIT),
    ("getppid", [359, 359, 359], [120; 3]),
    // 900, and 512 stores of 8 bytes that clear the page.
    ("anon4k_write_fault", [6364, 6364, 6364], [1412; 3]),
    ("dax_write_fault_firstpass", [2179, 1907, 1825], NO_LIMIT),
    ("dax_write_fault", [2176, 1904, 1822], [400; 3]),
    ("dax_read_fault", [2170, 1891, 1809], NO_LIMIT),
    ("dax_write_after_read", [6, 6, 6], NO_LIMIT),
    ("dax_warm_write", [6, 6, 6], NO_LIMIT),
    ("touch_256M_by_4K_total", [144_115_350, 711_356, 465_226], NO_LIMIT),
    ("mmap_whole", [6262, 6298, 6298], NO_LIMIT),
    ("munmap_whole_untouched", [7012, 6717, 6717], NO_LIMIT),
    ("touch_all", [144_180_528, 3_935_555, 5482], NO_LIMIT),
    ("munmap_touched", [5_830_687, 397_736, 8353], NO_LIMIT),
    ("mprotect_ro_touched", [8_684_978, 754_185, 2299], NO_LIMIT),
    ("mprotect_rw_touched", [8_685_105, 754_312, 2426], NO_LIMIT),
    ("write_after_mprotect_per_page", [6, 6, 9], NO_LIMIT),
    ("madvise_dontneed_touched", [5_937_577, 358_111, 1444], NO_LIMIT),
    ("mmap_populate_total", [153_270_405, 407_826_377, 233_753_265], NO_LIMIT),
    ("fork_nomap", [191_320, 147_483, 138_899], NO_LIMIT),
    ("fork_exit_wait_nomap", [395_055, 224_882, 211_665], [40_000; 3]),
    ("fork_exit_wait_touched", [433_951, 288_088, 232_976], NO_LIMIT),
    ("child_first_touch_of_parent_page", [16_900, 11_440, 6474], NO_LIMIT),
    ("futex_ping_pong_switch", [0; 3], [1200; 3]),
    ("dax_write_fault_p50_with_1000_tasks", [0; 3], [400; 3]),
    ("dax_write_fault_p99_with_1000_tasks", [0; 3], NO_LIMIT),
    ("kill_idle_unmapped", [0; 3], [20_000; 3]),
    ("revoke_touched_in_3_processes", [0; 3], [0, 60_000, 60_000]),
];

fn print_table(device: &Device, unit: &str, values: &Values) {
    let column = device.alignment as usize;
    println!("{unit} at {}, {} bytes", device.alignment, device.size);
    println!("{:<36} {:>12} {:>12} {:>8}  limit", "", "Daxite", "Linux 6.1", "times");
    for (name, linux, limit) in ROWS {
        let Some((_, value)) = values.iter().find(|(measured, _)| measured == name) else { continue };
        let limit = match limit[column] {
            0 => String::new(),
            limit if *value > limit => format!("{limit} OVER"),
            limit => limit.to_string(),
        };
        let (linux, times) = match linux[column] {
            0 => ("-".to_string(), "-".to_string()),
            linux => (linux.to_string(), format!("{:.1}", linux as f64 / (*value).max(1) as f64)),
        };
        println!("{}", format!("{name:<36} {value:>12} {linux:>12} {times:>8}  {limit}").trim_end());
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let failed = |errno| format!("{errno}");
    if has("--parallel") {
        return parallel::run();
    }
    let unit = if clock::counts_instructions() { "instructions" } else { "ticks" };
    // Forks first: the process is still small.
    let mut values = Values::new();
    if !has("--faults") {
        tasks::forks(&mut values)?;
        tasks::switches(&mut values)?;
    }
    let device = Device::open()?;
    if has("--faults") {
        memory::warm_fault(&device, &mut values).map_err(failed)?;
    } else {
        memory::run(&device, &mut values).map_err(failed)?;
        // Before a thousand stacks are mapped: a removal looks at every vma of a space. Its end is a new life.
        removal::run(&device, &mut values)?;
        tasks::with_device(&Device::open()?, &mut values)?;
    }
    if has("--table") {
        print_table(&device, unit, &values);
    } else {
        println!("unit {unit}");
        values.iter().for_each(|(name, value)| println!("{name} {value}"));
    }
    println!("kernel_entry_to_program_ns {}", Counters::read()?.boot_ns);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("bench: {what}");
            ExitCode::FAILURE
        }
    }
}
