//! One run of one seed, from its options to its outcome.

use core::{cell::RefCell, panic::AssertUnwindSafe};
use std::panic;

use crate::{
    invariants::Code,
    judge::Violation,
    options::Options,
    world::{SEC, World},
};

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was drawn.
    pub options: Options,
    /// What is wrong, if anything.
    pub violation: Option<Violation>,
    /// Two runs of the same options must agree on it.
    pub hash: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// Events.
    pub events: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Grants that were decided.
    pub grants: u64,
    /// Cycles of waits over several masters that were broken.
    pub cycles: u64,
    /// Guarded operations that were applied, and that were refused as stale.
    pub guarded: (u64, u64),
    /// What happened, where it was asked for.
    pub lines: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what a panic says for the outcome instead of printing it. Once for the process.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        let what = info.to_string();
        PANIC.with(|place| *place.borrow_mut() = Some(what));
    }));
}

/// Runs one seed's options to the end or to the first violation.
#[must_use]
pub fn run(options: &Options, with_text: bool) -> Outcome {
    let mut world = World::new(options.clone(), with_text);
    let begin = world.now;
    let ran = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    if ran.is_err() {
        let what = PANIC.with(|place| place.borrow_mut().take()).unwrap_or_default();
        world.judge.fail(Code::Panic, &what);
    }
    let violation = world.judge.violation().cloned();
    let at = world.now;
    if let Some(violation) = &violation {
        world.trace.say(at, format_args!("{:?}: {}", violation.code, violation.what));
    }
    Outcome {
        options: options.clone(),
        violation,
        hash: world.trace.hash(),
        seconds: (world.now - begin) / SEC,
        events: world.events,
        faults: world.faults,
        grants: world.judge.truth.decided,
        cycles: world.judge.far_deadlocks,
        guarded: (world.resources.applied, world.resources.refused),
        lines: world.trace.into_lines(),
    }
}
