//! PMDK, with Debian's libpmem and libpmemobj: what a boot made persistent, or killed halfway, at the next boots.

use crate::case::{Boot, Case};

const ALIGNS: [&str; 2] = ["4K", "2M"];

pub fn table() -> Vec<Case> {
    ALIGNS.map(lines).into_iter().chain(ALIGNS.map(pool)).collect()
}

fn boot(program: &str, align: &str, arguments: &[&str]) -> Boot {
    Boot::of(program).at(align).with(&["--nvdimm", "{dir}/n.img,size=32M"]).args(arguments)
}

fn lines(align: &str) -> Case {
    let mapped = "33554432 bytes, is_pmem 1 by map_file and 1 by is_pmem";
    Case::new(format!("q35 {align} libpmem: what was persisted is there"))
        .boot(boot("pmem", align, &["write"]).out(mapped))
        .boot(boot("pmem", align, &["verify"]).out(mapped).out("3 of 3 lines are there"))
}

fn pool(align: &str) -> Case {
    let stopped = |what: &str| boot("pool", align, &[what]).out("stopped with 21 nodes");
    let intact = || boot("pool", align, &["check", "20"]).out("20 nodes, sum 630 of 630, right");
    let case = Case::new(format!(
        "q35 {align} libpmemobj: a pool outlives boots and transactions that stop halfway"
    ))
    .boot(boot("pool", align, &["fill", "20"]).out("20 nodes"))
    .boot(stopped("die").status(137))
    .boot(intact());
    // The power goes: seconds of waiting, for once.
    let case = match align {
        "4K" => case,
        _ => case.boot(stopped("hang").with(&["--timeout", "8"]).status(124)).boot(intact()),
    };
    case.boot(boot("pool", align, &["fill", "5"]).out("25 nodes"))
        .boot(boot("pool", align, &["check", "25"]).out("25 nodes, sum 975 of 975, right"))
}
