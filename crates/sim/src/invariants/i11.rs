//! I11: the queue rule at each grant, by the tickets of those that were there before and still wait; that who comes to another home
//! keeps its ticket; and that nobody starves once faults have stopped.
//!
//! The programs here ask without flags that change the order, and the lockspace is not `fair`: so [GRANT-2], [GRANT-5] and
//! [CONV-3] are the whole rule.

use std::collections::{BTreeMap, BTreeSet};

use lockstead_types::{
    LockId, RequestId, SessionId,
    reply::Queued,
    request::{Stood, Wait},
};

use crate::{
    app::What,
    calm::millis,
    invariants::Code,
    judge::Row,
    world::{SEC, World},
};

pub(crate) const STATEMENT: &str = "grants and conversions follow the published order of the queues, which outlives homes, and nobody starves once faults stop";

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

/// Where those stand that have come to another home.
#[derive(Default)]
pub(crate) struct Places {
    /// The ticket that a request said it had, and when its time is over at the earliest.
    said: BTreeMap<(SessionId, RequestId), (u64, u64)>,
    /// Waits that ended at their master: those of locks without a grant, those of conversions anyhow. Their clients may not have
    /// heard of it, and are last where they ask again.
    ended: BTreeSet<(SessionId, u64)>,
    /// The wait that each lock of a node came from. Only the master that granted it knows that: once the lock is gone from there, and
    /// be it to another master, the wait has ended.
    came_from: BTreeMap<(usize, LockId), (SessionId, u64)>,
    /// Tickets of waits that members of a group share: whose they were nobody sees in a table.
    shared: BTreeSet<u64>,
    /// The ticket that a home last told a request.
    told: BTreeMap<(SessionId, RequestId), u64>,
}

impl Places {
    pub(crate) fn said(&mut self, now: u64, session: SessionId, id: RequestId, stood: Stood, wait: Wait) {
        let over = match wait {
            // Clocks differ by less than one in a hundred.
            Wait::For(span) => now + span.less(span.scaled(1, 100)).less(stood.waited).as_nanos(),
            Wait::Never | Wait::Forever => u64::MAX,
        };
        self.said.insert((session, id), (stood.ticket, over));
    }

    /// A request waits, at this place. One whose time is over has none, and will hear so.
    pub(crate) fn queued(&mut self, now: u64, session: SessionId, id: RequestId, queued: Queued) -> Result<(), String> {
        self.told.insert((session, id), queued.ticket);
        let Some((said, over)) = self.said.get(&(session, id)).copied() else { return Ok(()) };
        if queued.ticket == said || self.ended.contains(&(session, said)) || self.shared.contains(&said) || now >= over
        {
            return Ok(());
        }
        Err(format!("request {} of {session} had the ticket {said}, and waits on with {}", id.0, queued.ticket))
    }

    /// A home has refused a request: a wait of it is over, though its client may not hear so.
    pub(crate) fn refused(&mut self, session: SessionId, id: RequestId) {
        self.ended.extend(self.told.remove(&(session, id)).map(|ticket| (session, ticket)));
    }

    /// With a node it is forgotten which waits the locks it had granted came from.
    pub(crate) fn died(&mut self, node: usize) {
        let its = self.came_from.extract_if(.., |(of, _), _| *of == node);
        self.ended.extend(its.map(|(_, wait)| wait));
    }

    /// A step of a node.
    pub(crate) fn step(&mut self, node: usize, before: &[Row], after: &[Row]) {
        for row in before.iter().filter(|row| row.held.is_some() && !after.iter().any(|now| now.lock == row.lock)) {
            self.ended.extend(self.came_from.remove(&(node, row.lock)));
        }
        self.shared
            .extend(after.iter().filter(|row| row.group.is_some() && row.wanted.is_some()).map(|row| row.ticket));
        for row in before.iter().filter(|row| row.wanted.is_some()) {
            let Some(session) = row.session else { continue };
            let same = |other: &&Row| other.lock == row.lock;
            let now = after.iter().find(same);
            let goes_on = now.is_some_and(|now| now.wanted.is_some() && now.ticket == row.ticket);
            let granted = row.held.is_none() && now.is_some_and(|now| now.held.is_some());
            // One that gives way to another of its session in the same step has not ended, but was put to the end.
            let fresh = |other: &Row| other.wanted.is_some() && !before.iter().any(|old| old.lock == other.lock);
            let put_back = after.iter().any(|o| o.session == row.session && o.name == row.name && fresh(o));
            if granted {
                self.came_from.insert((node, row.lock), (session, row.ticket));
            } else if !goes_on && !put_back {
                self.ended.insert((session, row.ticket));
            }
        }
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
