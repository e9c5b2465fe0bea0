//! A short run of seeds, each twice. `cargo xtask sim` runs as many as there is time for.

use lockstead_sim::{Options, run};

/// Seeds in an ordinary test run, which is not built for speed.
const SEEDS: u64 = 30;

/// Of clusters, each of which has more to do.
const CLUSTERS: usize = 8;

#[test]
fn every_seed_of_a_cluster_runs_the_same_twice() {
    let clusters = (0..).map(|seed| Options { fire: 6, ..Options::of(seed) }).filter(|options| options.nodes > 1);
    for options in clusters.take(CLUSTERS) {
        let outcome = run(&options, false);
        assert!(outcome.events > 0, "nothing happened: {options}");
        assert_eq!(run(&options, true).hash, outcome.hash, "{options}");
    }
}

#[test]
fn nothing_is_violated_at_a_node_alone_and_every_seed_runs_the_same_twice() {
    for seed in 0..SEEDS {
        let options = Options { fire: 10, alone: true, nodes: 1, witness: false, ..Options::of(seed) };
        let outcome = run(&options, false);
        assert_eq!(outcome.violation, None, "{options}");
        assert!(outcome.grants > 0, "nothing happened: {options}");
        assert_eq!(run(&options, true).hash, outcome.hash, "{options}");
    }
}
