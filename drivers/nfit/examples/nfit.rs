//! Prints a table file as this crate reads it, and everything in it that is refused.
//!
//! `cargo run -p nfit --example nfit -- FILE`, with for instance `/sys/firmware/acpi/tables/NFIT`. The
//! status is 0 for a table without a refusal, 1 for one with some, 2 for what is no table.

use std::env;
use std::fs;
use std::process::ExitCode;

use nfit::{Entry, Nfit};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: nfit FILE");
        return ExitCode::from(2);
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    match Nfit::parse(&bytes) {
        Ok(table) => print(table),
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn print(table: Nfit<'_>) -> ExitCode {
    println!("NFIT, revision {}", table.revision().unwrap_or_default());
    for Entry { offset, content } in table.entries() {
        match content {
            Ok(structure) => println!("{offset:#06x}: {structure:x?}"),
            Err(_) => println!("{offset:#06x}: refused, see below"),
        }
    }
    println!("\nDIMMs:");
    for dimm in table.dimms() {
        let id = dimm.control_region.map(|region| region.unique_id().to_string());
        let hints = table.flush_hints(dimm.handle).count();
        let id = id.as_deref().unwrap_or("none");
        println!(
            "  {}: id {id}, physical id {}, {hints} flush hints {}",
            dimm.handle, dimm.physical_id, dimm.state
        );
    }
    println!("\nRegions (persistence domain: {}):", table.persistence());
    let mut regions: Vec<_> = table.regions().collect();
    regions.sort_by_key(|region| region.order_key());
    for region in &regions {
        let (base, last, read_only) =
            (region.base, region.last(), if region.read_only { ", read-only" } else { "" });
        println!("  {} [{base:#x}-{last:#x}], attributes {}{read_only}", region.kind, region.attributes);
        for mapping in region.mappings() {
            let piece = mapping.memdev;
            println!(
                "    DIMM {} from {:#x}, {:#x} bytes",
                piece.device_handle, piece.dpa, piece.region_size
            );
        }
    }
    println!("\nRefused:");
    table.refusals().for_each(|refusal| println!("  {refusal}"));
    match table.refusals().count() {
        0 => {
            println!("  nothing");
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(1),
    }
}
