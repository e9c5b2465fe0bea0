//! Many seeds of client sessions against the real node, over a network that delays and breaks, with clocks that run apart,
//! processes that are stopped, and a node that restarts. Safety is checked at every step; then everything heals, and every
//! request must come to an end, with nothing left behind.

#[path = "loopback/world.rs"]
mod world;

use world::{Faults, World};

const QUIET: Faults = Faults { breaks: false, stops: false, restarts: false, local: false };

fn run(seeds: core::ops::Range<u64>, faults: Faults) {
    for seed in seeds {
        let mut world = World::new(seed, faults);
        world.run_for(40_000_000_000);
        world.heal();
    }
}

#[test]
fn a_quiet_network() {
    run(0..6, QUIET);
}

#[test]
fn connections_break() {
    run(100..110, Faults { breaks: true, ..QUIET });
}

#[test]
fn processes_stop_and_go_on() {
    run(200..210, Faults { breaks: true, stops: true, ..QUIET });
}

#[test]
fn the_node_restarts() {
    run(300..310, Faults { breaks: true, restarts: true, ..QUIET });
}

#[test]
fn everything_at_once() {
    run(400..420, Faults { breaks: true, stops: true, restarts: true, local: false });
}

#[test]
fn local_sessions() {
    // Only the node's end breaks them here: when a process closes its own, it is gone, and believes in nothing.
    run(500..508, Faults { stops: true, restarts: true, local: true, ..QUIET });
}
