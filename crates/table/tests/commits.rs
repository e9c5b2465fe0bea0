//! Under wait-die and wound-wait every transaction of a load that would close cycles all the time commits in the end, and nobody ever
//! finds a cycle.

mod load;

use load::{Plan, run};
use lockstead_types::space::DeadlockPolicy;

#[test]
fn every_transaction_commits_and_no_cycle_comes_to_be() {
    let mut restarts = 0;
    for seed in 0..200 {
        for policy in [DeadlockPolicy::WaitDie, DeadlockPolicy::WoundWait] {
            for backoff in [false, true] {
                let plan = Plan { seed, policy, backoff, clients: 12, names: 4, locks: 5, commits: 20 };
                let came = run(plan, 10_000);
                assert_eq!((came.commits, came.cycles), (12 * 20, 0), "{plan:?} {came:?}");
                restarts += came.restarts;
            }
        }
    }
    assert!(restarts > 10_000, "{restarts}: they were in each other's way");
}

#[test]
fn the_same_load_closes_cycles_where_they_are_only_found() {
    let plan = |seed| Plan {
        seed,
        policy: DeadlockPolicy::Detect,
        backoff: true,
        clients: 12,
        names: 4,
        locks: 5,
        commits: 20,
    };
    let cycles: u64 = (0..20).map(|seed| run(plan(seed), 10_000).cycles).sum();
    assert!(cycles > 1_000, "{cycles}");
}
