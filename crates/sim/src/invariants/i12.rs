//! I12, of cycles at one master: the true graph of who waits for whom there, after each look; and at each victim, the cycle it is
//! said to have been in, edge by edge against the tables of before and after. Cycles over several masters: `i12_cluster`.

use std::collections::{BTreeMap, BTreeSet};

use lockstead_cluster::State;
use lockstead_types::{
    LockId, ModeTable, SessionId, Slot,
    report::{DeadlockReport, VictimReason, WaitEdge},
    space::DeadlockPolicy,
};

use crate::{
    group::id_of,
    invariants::Code,
    judge::Row,
    resource::number_of,
    world::{MS, World},
};

pub(crate) const STATEMENT: &str =
    "every real cycle of waits is broken in time, its victim was in a real cycle, and there is one victim each";

/// A search begins whenever an edge comes to be, so two looks must never see the same cycle.
const WITHIN: u64 = 250 * MS;

/// Who waits as one: a session with what it owns as one, or a lock that stands alone.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Thread {
    Session(SessionId),
    Lock(LockId),
    Group(u8),
}

/// See above.
#[derive(Default)]
pub(crate) struct Deadlocks {
    /// Cycles seen, by their locks that wait, and since when.
    cycles: BTreeMap<(usize, Vec<LockId>), u64>,
    /// The newest report looked at of each node's life.
    reported: BTreeMap<(usize, u32), u64>,
}

fn thread(row: &Row) -> Option<Thread> {
    match row.group {
        Some(group) => Some(Thread::Group(group)),
        None if row.alone => Some(Thread::Lock(row.lock)),
        None => row.session.map(Thread::Session),
    }
}

/// Whether one that waits waits for the other: it holds what is in the way, or waits before.
pub(crate) fn waits_for(modes: &ModeTable, waiter: &Row, blocker: &Row) -> bool {
    let Some(wanted) = waiter.wanted.filter(|_| waiter.name == blocker.name && waiter.lock != blocker.lock) else {
        return false;
    };
    let hard = blocker.held.is_some_and(|held| !modes.compatible(wanted, held) || !modes.compatible(held, wanted));
    let before = blocker.wanted.is_some()
        && match (waiter.held.is_some(), blocker.held.is_some()) {
            (false, true) => true,
            (true, false) => false,
            _ => blocker.ticket < waiter.ticket,
        };
    hard || before
}

/// The locks that wait and whose threads wait for themselves in the end.
fn in_cycles(modes: &ModeTable, rows: &[Row]) -> Vec<LockId> {
    let mut edges: BTreeMap<Thread, BTreeSet<Thread>> = BTreeMap::new();
    for waiter in rows.iter().filter(|row| row.wanted.is_some()) {
        let Some(from) = thread(waiter) else { continue };
        for blocker in rows.iter().filter(|row| waits_for(modes, waiter, row)) {
            if let Some(to) = thread(blocker).filter(|to| *to != from) {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    // Whoever waits for nobody, or only for such, is in no cycle.
    loop {
        let ends: Vec<Thread> =
            edges.iter().filter(|(_, to)| !to.iter().any(|t| edges.contains_key(t))).map(|(from, _)| *from).collect();
        if ends.is_empty() {
            break;
        }
        ends.iter().for_each(|from| drop(edges.remove(from)));
    }
    let stuck = |row: &&Row| row.wanted.is_some() && thread(row).is_some_and(|t| edges.contains_key(&t));
    rows.iter().filter(stuck).map(|row| row.lock).collect()
}

impl World {
    pub(crate) fn judge_cycles(&mut self) {
        let mut seen = BTreeMap::new();
        for (at, rows) in self.judge.rows.iter().enumerate() {
            // [SLOT-2] Nothing is concluded during a freeze.
            let host = &self.nodes[at];
            let ready = host.node.as_ref().is_some_and(lockstead_node::Node::is_ready) && host.paused_until <= self.now;
            if !ready || rows.iter().filter(|row| row.wanted.is_some()).nth(1).is_none() {
                continue;
            }
            let stuck = in_cycles(&self.modes, rows);
            if stuck.is_empty() {
                continue;
            }
            let key = (at, stuck);
            let since = self.judge.deadlocks.cycles.get(&key).copied().unwrap_or(self.now);
            if self.now > since + WITHIN {
                let what = format!("node {at}: {:?} wait for each other; {}", key.1, self.whose_rows());
                return self.judge.fail(Code::I12, &what);
            }
            seen.insert(key, since);
        }
        self.judge.deadlocks.cycles = seen;
    }

    /// Looks at the cycles a node says it has broken in this step.
    pub(crate) fn judge_deadlocks(&mut self, at: usize, before: &[Row], after: &[Row]) {
        let Some(node) = &self.nodes[at].node else { return };
        let is_mine = |edge: &WaitEdge| {
            // As the node knows it: by that it decides.
            let master = |state: &State| state.master(Slot::of(state.seed, edge.space, &edge.name)).map(|e| e.master);
            node.cluster_state().is_none_or(|state| master(state) == Some(id_of(at)))
        };
        let newest = self.judge.deadlocks.reported.entry((at, self.nodes[at].life)).or_default();
        let mut victims: Vec<LockId> = Vec::new();
        let mut wrong = None;
        let mut reports: Vec<_> = node.deadlocks().rev().take_while(|report| report.number > *newest).collect();
        reports.reverse();
        let mut far = Vec::new();
        let paid: BTreeSet<LockId> = reports.iter().map(|report| report.victim).collect();
        // [PREVENT-6] Where ages say who may wait, the search has nothing to do: at once under wait-die, under wound-wait once the wound has come.
        let calm = self.options.rates.iter().all(|rate| *rate == 0);
        let never = match self.options.deadlock {
            DeadlockPolicy::WaitDie => true,
            DeadlockPolicy::WoundWait => calm,
            DeadlockPolicy::Detect | DeadlockPolicy::Timeout | DeadlockPolicy::NoWait => false,
        };
        for report in reports {
            *newest = report.number;
            if never && report.why != VictimReason::Conversion {
                wrong = Some(format!("node {at}, report {}: a cycle where there can be none", report.number));
            }
            if is_far(report, before, after, is_mine) {
                let ticket = before.iter().find(|row| row.lock == report.victim).map_or(0, |row| row.ticket);
                far.push((report.clone(), ticket));
                continue;
            }
            let edges = &report.cycle;
            let closed =
                edges.iter().zip(edges.iter().cycle().skip(1)).all(|(one, next)| is_same(one, next, before, after));
            let unreal = edges.iter().find(|edge| !is_real(&self.modes, edge, &paid, (before, after)));
            let within = edges.iter().any(|edge| edge.waiter.lock == report.victim);
            let again = edges.iter().any(|edge| victims.contains(&edge.waiter.lock));
            if !closed || unreal.is_some() || !within || again {
                let rows: Vec<_> = unreal.into_iter().flat_map(|edge| ends_of(edge, before, after)).collect();
                let number = report.number;
                wrong = Some(format!(
                    "node {at}, report {number}: closed {closed}, victim in it {within}, a second victim {again}, not waiting: {rows:?}"
                ));
            }
            victims.push(report.victim);
        }
        if let Some(what) = wrong {
            self.judge.fail(Code::I12, &what);
        }
        for (report, ticket) in far {
            self.judge_far_victim(at, &report, ticket);
        }
    }
}

/// Whether a cycle is over several masters: waits other than the victim's are neither in this one's table nor its to decide. What
/// waited and was served in one step, behind a thaw, is in neither table though it was here.
fn is_far(report: &DeadlockReport, before: &[Row], after: &[Row], is_mine: impl Fn(&WaitEdge) -> bool) -> bool {
    let here = |edge: &WaitEdge| {
        let name = number_of(&edge.name);
        let session = edge.waiter.holder.session;
        rows_of(edge.waiter.lock, before, after).any(|row| row.name == name && row.session == session)
    };
    // Such a report begins with its victim. Ids of other nodes' locks may be the same.
    let first = report.cycle.first().is_some_and(|edge| edge.waiter.lock == report.victim);
    let others = report.cycle.iter().enumerate().filter(
        |(i, edge)| {
            if first { *i > 0 } else { edge.waiter.lock != report.victim }
        },
    );
    others.into_iter().any(|(_, edge)| !here(edge)) && !report.cycle.iter().all(is_mine)
}

/// The rows of a lock before and after the step.
fn rows_of<'a>(lock: LockId, before: &'a [Row], after: &'a [Row]) -> impl Iterator<Item = &'a Row> {
    before.iter().chain(after).filter(move |row| row.lock == lock)
}

/// What is known of the two ends of an edge.
fn ends_of<'a>(edge: &WaitEdge, before: &'a [Row], after: &'a [Row]) -> Vec<&'a Row> {
    rows_of(edge.waiter.lock, before, after).chain(rows_of(edge.blocker.lock, before, after)).collect()
}

/// Whether the one an edge leads to is the one that the next edge starts from.
fn is_same(edge: &WaitEdge, next: &WaitEdge, before: &[Row], after: &[Row]) -> bool {
    let (from, to) = (edge.blocker.lock, next.waiter.lock);
    let threads = |lock| rows_of(lock, before, after).filter_map(thread).collect::<BTreeSet<_>>();
    let (from_threads, to_threads) = (threads(from), threads(to));
    // A request that came in this step, and went again as the victim, is in neither table.
    from == to || to_threads.is_empty() || from_threads.is_empty() || !from_threads.is_disjoint(&to_threads)
}

/// Whether an edge was there in one of the tables, as far as its ends are. One that came in this step, and went again as the
/// victim, of this cycle or of the next that it closed, waits in neither; nor does one that came, and was granted when the victim had gone.
fn is_real(modes: &ModeTable, edge: &WaitEdge, paid: &BTreeSet<LockId>, (before, after): (&[Row], &[Row])) -> bool {
    let waits = |lock| rows_of(lock, before, after).any(|row| row.wanted.is_some());
    if [edge.waiter.lock, edge.blocker.lock].into_iter().any(|lock| paid.contains(&lock) && !waits(lock)) {
        return true;
    }
    let came = |lock| !before.iter().any(|row| row.lock == lock) && !waits(lock);
    if came(edge.waiter.lock) || came(edge.blocker.lock) {
        return true;
    }
    let waiters = || rows_of(edge.waiter.lock, before, after);
    let blockers = || rows_of(edge.blocker.lock, before, after);
    let unknown = waiters().next().is_none() || blockers().next().is_none();
    unknown || waiters().any(|waiter| blockers().any(|blocker| waits_for(modes, waiter, blocker)))
}
