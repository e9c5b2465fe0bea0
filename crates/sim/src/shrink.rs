//! Less of a run that fails: faults, clients, nodes, names and time are left out while it still fails the same invariant.

use crate::{
    options::{Fault, Options},
    run::run,
};

/// The smallest options found that still fail as these do; these, where they do not fail.
#[must_use]
pub fn shrink(options: &Options) -> Options {
    let Some(violation) = run(options, false).violation else { return options.clone() };
    let fails = |options: &Options| run(options, false).violation.is_some_and(|v| v.code == violation.code);
    let mut best = options.clone();
    loop {
        let smaller = candidates(&best).into_iter().find(|smaller| fails(smaller));
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

/// Options with one thing less.
fn candidates(options: &Options) -> Vec<Options> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Options)| {
        let mut smaller = options.clone();
        change(&mut smaller);
        if smaller != *options {
            all.push(smaller);
        }
    };
    for fault in Fault::ALL {
        add(&|o| o.rates[*fault as usize] = 0);
    }
    add(&|o| o.clients = (o.clients - 1).max(1));
    add(&|o| o.locals = 0);
    add(&|o| o.witness = false);
    add(&|o| o.late = 0);
    add(&|o| o.weights = false);
    add(&|o| o.abandon = false);
    add(&|o| o.nodes = (o.nodes - 1).max(1 + o.late));
    add(&|o| o.names = (o.names - 1).max(1));
    add(&|o| o.convert = 0);
    add(&|o| o.values = 0);
    add(&|o| o.lazy = 0);
    add(&|o| o.watchers = 0);
    add(&|o| o.depth = 1);
    add(&|o| o.fire = (o.fire / 2).max(1));
    all
}
