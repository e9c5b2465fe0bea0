//! I11: the queue rule at each grant, by the tickets of those that were there before and still wait; and that nobody starves once
//! faults have stopped.
//!
//! The programs here ask without flags that change the order, and the lockspace is not `fair`: so [GRANT-2], [GRANT-5] and
//! [CONV-3] are the whole rule.

use crate::{
    app::What,
    calm::millis,
    invariants::Code,
    judge::Row,
    world::{SEC, World},
};

pub(crate) const STATEMENT: &str =
    "grants and conversions follow the published order of the queues, and nobody starves once faults stop";

/// So long a request of a calm time may take: others before it, and cycles over several nodes that end by their deadlines.
const PATIENCE: u64 = 18 * SEC;

/// A lock was newly granted, or converted upwards; `before` is the same lock before that step, `all` the whole table before
/// and after it.
pub(crate) fn granted(row: &Row, before: Option<&Row>, all: (&[Row], &[Row])) -> Result<(), String> {
    let waited = before.filter(|b| b.wanted.is_some());
    // [CONV-1] A conversion that comes is granted in place.
    if before.is_some_and(|b| b.held.is_some() && b.wanted.is_none()) {
        return Ok(());
    }
    let conversion = waited.is_some_and(|b| b.held.is_some());
    // Who came or went within the step may have come after the grant.
    let stayed = |other: &&Row| {
        let same = |after: &Row| after.lock == other.lock && after.ticket == other.ticket && after.wanted.is_some();
        other.name == row.name && other.lock != row.lock && other.wanted.is_some() && all.1.iter().any(same)
    };
    let passed = all.0.iter().filter(stayed).find(|other| match (conversion, other.held.is_some()) {
        // [GRANT-5] [GRANT-2] No conversion waits.
        (false, true) => true,
        (true, false) => false,
        // Of one queue, the first.
        _ => waited.is_none_or(|b| other.ticket < b.ticket),
    });
    match passed {
        Some(other) => Err(format!("{row:?} was granted (before: {before:?}), and {other:?} still waits")),
        None => Ok(()),
    }
}

impl World {
    /// Work has gone on without faults for long.
    pub(crate) fn judge_starving(&mut self) {
        let calm = self.calm_since();
        for (at, client) in self.clients.iter().enumerate() {
            let about = |what: &What| matches!(what, What::Lock { .. } | What::Convert { .. });
            let starves = client.app.asked.values().filter(|asked| about(&asked.what));
            for asked in starves {
                if self.now > asked.at.max(calm) + PATIENCE {
                    let ago = millis(asked.at, self.now);
                    let what = format!("client {at}: {asked:?} has waited for {ago} ms; {}", self.whose_rows());
                    return self.judge.fail(Code::I11, &what);
                }
            }
        }
    }
}
