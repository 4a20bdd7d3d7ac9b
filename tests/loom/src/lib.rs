//! Models of the lifetime protocol of dax devices, checked by loom.
//!
//! | module | noun |
//! |---|---|
//! | [`lifetime`] | the very file of the dax crate, over loom's atomics and the real crossbeam-epoch |
//! | [`machine`] | [`Machine`]: a device, its range, page-table entries, CPUs with a TLB each, a removal |
//! | [`scenario`] | one function a model: who does what at the same time |
//! | [`bug`] | [`Bug`]: what can be wrong with a machine, for the tests that must fail |
//!
//! loom runs a model under every interleaving of its threads with at most two preemptions, and under every value
//! that the memory model lets a load return. `tests/protocol.rs` shows that the protocol holds under all of them,
//! `tests/seeded_bugs.rs` that each of its steps is needed: with the step left out, or taken too early, a model
//! finds the store to foreign memory, the forgotten entry or the hang.
//!
//! The models have no address-space lock. In the kernel a revocation waits for faults of the same space by that
//! lock too; here the grace period alone must do, as it must for the kernel's own uses of a device.
#[cfg(not(crossbeam_loom))]
compile_error!("build in tests/loom, whose .cargo/config.toml passes --cfg crossbeam_loom to every crate");

extern crate alloc;

mod atomic;
pub mod bug;
#[rustfmt::skip] // It is formatted where it lives.
#[path = "../../../drivers/dax/src/lifetime.rs"]
pub mod lifetime;
pub mod machine;
pub mod scenario;

pub use bug::Bug;
pub use machine::Machine;

/// Runs `model` under every interleaving with at most two preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
/// Panics with what the first failing one says.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    // A thread that waits for ever is found by this limit: no execution that ends comes near it.
    builder.max_branches = 4_000;
    builder.check(model);
}
