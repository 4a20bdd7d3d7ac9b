//! A kill with no room on the heap for the nodes of crossbeam's queue: refused, and the device lives on.
//!
//! A test of its own program, whose allocator has only as many nodes as the test says.

mod common;

use common::{G1, M2, config, phys, registry, sized};
use dax::lifetime::{LifetimeError, QUIET_NODES};
use dax::{DaxError, Scrub};
use mm::range::MapSize;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// Refuses a thread its blocks of crossbeam's 2,072 bytes when it has none left.
struct Scarce;

thread_local! {
    static NODES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

fn is_node(layout: Layout) -> bool {
    layout.size() == 2_072
}

// SAFETY: what is not refused goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_node(layout)
            && let Some(left) = NODES_LEFT.get()
        {
            let Some(left) = left.checked_sub(1) else { return null_mut() };
            NODES_LEFT.set(Some(left));
        }
        // SAFETY: the caller's promises are those that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_node(layout) {
            NODES_LEFT.set(NODES_LEFT.get().map(|left| left + 1));
        }
        // SAFETY: `block` came from `System` above, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

fn with_nodes<R>(nodes: usize, body: impl FnOnce() -> R) -> R {
    NODES_LEFT.set(Some(nodes));
    let result = body();
    NODES_LEFT.set(None);
    result
}

#[test]
fn a_kill_without_memory_changes_nothing_and_a_later_one_works() {
    let registry = registry();
    let region = registry.add_region(config(0, phys(4 * G1, G1), MapSize::Size2M)).expect("free");
    region.set_scrub(Scrub::Waived);
    let device = registry.create_device(&region, sized(4 * M2, MapSize::Size2M)).expect("free");
    let refused = Err(DaxError::Lifetime { name: device.host_name(), why: LifetimeError::NoMemory });
    let dead = Err(DaxError::Lifetime { name: device.host_name(), why: LifetimeError::Dead });
    let enough = QUIET_NODES;
    assert!(!device.epoch().is_pinned(), "and with that this CPU is a participant, whose block is as large");
    for _round in 0..300 {
        device.enable().expect("dead");
        let open = device.open().expect("enabled");
        for nodes in 0..enough {
            assert_eq!(with_nodes(nodes, || device.kill()), refused, "{nodes} nodes");
            assert_eq!(with_nodes(nodes, || device.shut_down()), refused, "{nodes} nodes");
            assert!(
                open.is_alive() && device.open().is_ok() && device.direct_access(0, 1, &mut |_| ()).is_ok()
            );
        }
        // The heap aborts where the nodes that the kill asks for are not all that it needs.
        assert!(with_nodes(enough, || device.kill()).is_ok());
        assert!(!open.is_alive());
        assert_eq!(with_nodes(0, || device.kill()), dead, "of what is dead no kill is asked for");
        // Room for one of the two kills that the end of an enabled device takes: it ends, or stops half way.
        device.enable().expect("dead");
        let ended = with_nodes(enough, || device.shut_down());
        assert!(ended.is_ok() || ended == refused, "{ended:?}");
        assert!(device.open().is_err());
        assert_eq!(device.lifetime().check_alive().is_ok(), ended == refused);
    }
    // Direct access is alive, and has to end.
    device.enable().expect("dead");
    assert!(device.kill().is_ok());
    let destroyed = with_nodes(0, || registry.destroy_device(&device));
    assert_eq!(destroyed, refused.map(|_| ()));
    device.enable().expect("not destroyed");
    assert!(device.kill().is_ok());
    assert_eq!(with_nodes(enough, || registry.destroy_device(&device)), Ok(()));
}
