//! Restarts per commit by deadlock policy, with and without a pause that grows: transactions over few hot names in virtual time.
//! `cargo bench -p lockstead-table --bench restarts`.

#[path = "../tests/load/mod.rs"]
mod load;

use load::{Came, Plan, run};
use lockstead_types::{Span, space::DeadlockPolicy};

const SEEDS: u64 = 20;
const COMMITS: u64 = 25;
/// A transaction that was begun again so often: nobody moves any more.
const PATIENCE: u64 = 2_000;

fn main() {
    // Each row is of many runs, each of its own seed.
    println!(
        "1 ms of work a lock, 1 to 5 locks a transaction, a third of them exclusive; tried again with the first age"
    );
    println!("backoff: after n tries a pause drawn from 0 to 2^n ms, 64 ms at most; without: 1 ms");
    println!();
    println!("clients names policy      backoff  commits  commits/s  restarts/commit  worst  cycles found");
    for (clients, names) in [(8, 32), (16, 16), (32, 8)] {
        for (word, policy) in [
            ("detect", DeadlockPolicy::Detect),
            ("no-wait", DeadlockPolicy::NoWait),
            ("wait-die", DeadlockPolicy::WaitDie),
            ("wound-wait", DeadlockPolicy::WoundWait),
        ] {
            for backoff in [false, true] {
                let plan = |seed| Plan { seed, policy, backoff, clients, names, locks: 5, commits: COMMITS };
                let came = (0..SEEDS).map(|seed| run(plan(seed), PATIENCE)).fold(Came::default(), add);
                let per_second = came.commits as f64 / came.elapsed.as_nanos().max(1) as f64 * 1e9;
                let restarts = came.restarts as f64 / came.commits.max(1) as f64;
                let (commits, worst, cycles) = (came.commits, came.worst, came.cycles);
                let all = if commits == SEEDS * clients * COMMITS { "" } else { "  NOT ALL COMMITTED" };
                println!(
                    "{clients:7} {names:5} {word:11} {:7} {commits:8} {per_second:10.0} {restarts:16.2} {worst:6} {cycles:13}{all}",
                    if backoff { "yes" } else { "no" },
                );
            }
        }
    }
}

fn add(a: Came, b: Came) -> Came {
    Came {
        commits: a.commits + b.commits,
        restarts: a.restarts + b.restarts,
        worst: a.worst.max(b.worst),
        cycles: a.cycles + b.cycles,
        elapsed: Span::from_nanos(a.elapsed.as_nanos() + b.elapsed.as_nanos()),
    }
}
