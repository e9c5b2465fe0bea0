//! Bugs planted one after the other, and after how many seeds each is caught. A bug that is not caught within the number of
//! seeds stated beside it says that a checker has gone blind, or that the world does not drive the code to it any more.

use lockstead_types::{
    planted::{Bug, Scope, plant},
    space::DeadlockPolicy,
};

use crate::{
    invariants::Code,
    options::{Fault, Options, POLICIES},
    run::run,
};

/// Which bugs, and how long each is looked for.
#[derive(Clone, Debug, Default)]
pub struct Hunt {
    /// The first seed.
    pub from: u64,
    /// Seeds for each bug; where it is not said, as many as are stated beside it.
    pub most: Option<u64>,
    /// Part of the name of the bugs wanted; empty for all.
    pub name: String,
}

/// Tries every planted bug on seeds as `draw` makes them, and prints a table. Whether all were caught.
pub fn mutations(hunt: &Hunt, draw: &(dyn Fn(u64) -> Options + Sync)) -> bool {
    let (mut tried, mut missed) = (0, 0);
    println!("{:<21} {:>5} {:>6}  {:<5} what it does", "planted bug", "seeds", "within", "by");
    for bug in Bug::ALL.iter().filter(|bug| format!("{bug:?}").contains(&hunt.name)) {
        let within = hunt.most.unwrap_or(bug.within());
        let caught = seek(*bug, hunt.from, within, draw);
        plant(Bug::None);
        let (seeds, code) = match caught {
            Some((seeds, code)) => (seeds.to_string(), format!("{code:?}")),
            None => ("-".into(), "MISS".into()),
        };
        tried += 1;
        missed += u32::from(caught.is_none());
        println!("{:<21} {seeds:>5} {within:>6}  {code:<5} {}", format!("{bug:?}"), bug.text());
    }
    println!("{tried} planted, {missed} missed");
    missed == 0
}

/// How many seeds it took, and what caught it. Only seeds count in which the bug can be seen, and only violations that are not
/// there without it.
fn seek(bug: Bug, from: u64, within: u64, draw: &(dyn Fn(u64) -> Options + Sync)) -> Option<(u64, Code)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut seeds = (from..).map(|seed| suited(bug, draw(seed))).filter(|options| fits(bug, options));
    let mut tried = 0;
    while tried < within {
        let batch: Vec<Options> = seeds.by_ref().take(cores.min((within - tried) as usize)).collect();
        plant(bug);
        let found = all_of(&batch);
        plant(Bug::None);
        for (options, code) in batch.iter().zip(found) {
            tried += 1;
            if let Some(code) = code
                && run(options, false).violation.is_none()
            {
                return Some((tried, code));
            }
        }
    }
    None
}

/// Runs them side by side.
fn all_of(batch: &[Options]) -> Vec<Option<Code>> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = batch.iter().map(|o| scope.spawn(|| run(o, false).violation.map(|v| v.code))).collect();
        runs.into_iter().map(|run| run.join().unwrap_or(Some(Code::Panic))).collect()
    })
}

/// Bugs of a node alone are sought there: what it takes to catch them does not depend on others. What must happen in time is asked for
/// only where nothing is disturbed.
fn suited(bug: Bug, drawn: Options) -> Options {
    match bug.scope() {
        Scope::Alone => Options { alone: true, nodes: 1, witness: false, ..drawn },
        Scope::Cluster => drawn,
        Scope::Calm => Options {
            alone: false,
            nodes: drawn.nodes.max(3),
            depth: 8,
            late: 0,
            rates: [0; Fault::ALL.len()],
            ..drawn
        },
        Scope::Deals => deals(drawn),
        Scope::CalmDeals => Options { late: 0, rates: [0; Fault::ALL.len()], ..deals(drawn) },
        Scope::Groups => Options { groups: 600, deals: false, deadlock: DeadlockPolicy::Detect, ..drawn },
    }
}

fn deals(drawn: Options) -> Options {
    let deadlock = POLICIES[drawn.seed as usize % POLICIES.len()];
    Options { deals: true, groups: 0, deadlock, ..drawn }
}

fn fits(bug: Bug, options: &Options) -> bool {
    options.nodes > 1 || matches!(bug.scope(), Scope::Alone | Scope::Calm)
}
