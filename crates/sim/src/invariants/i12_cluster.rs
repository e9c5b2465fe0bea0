//! I12, of cycles over several masters: true waits at all of them, each with when it began and ended. A file of its own beside `i12`:
//! there everything is in two tables, before a step and after it; here it was at one time, some time ago.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstead_types::{
    LockId, ModeTable, SessionId,
    report::{DeadlockReport, LockRow, WaitEdge},
};

use crate::{
    invariants::{Code, i12::waits_for},
    judge::Row,
    resource::number_of,
    world::{MS, SEC, World},
};

/// How long an end is remembered: longer than it takes to break a cycle that was found.
const REMEMBERED: u64 = 5 * SEC;
/// In a calm cluster a cycle is broken in that time: the longest delay twice, and the ways of the messages.
const WITHIN: u64 = 200 * MS;
/// A slot that moved may have taken the first messages with it: masters are told again.
const AGAIN: u64 = SEC;
/// In a calm cluster a cycle was there so short a time before its victim heard of it.
const FRESH: u64 = 300 * MS;

/// A wait: at which node, of which lock, with which ticket.
type Wait = (usize, LockId, u64);

/// Who waits as one, over all nodes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Thread {
    Session(SessionId),
    Lock(usize, LockId),
}

/// A row as it was for a time.
#[derive(Copy, Clone, Debug)]
struct Stay {
    node: usize,
    row: Row,
    from: u64,
    /// `u64::MAX` while it stays.
    until: u64,
}

/// What is known of waits at all masters.
#[derive(Default)]
pub(crate) struct History {
    present: BTreeMap<(usize, LockId), Stay>,
    past: VecDeque<Stay>,
    /// Waits that were refused to break a cycle. Two masters may give the same id and the same ticket.
    victims: BTreeSet<Wait>,
    /// Cycles seen, by their waits, and since when.
    cycles: BTreeMap<BTreeSet<Wait>, u64>,
    /// The newest epoch, and since when.
    epoch: (u32, u64),
}

fn thread(node: usize, row: &Row) -> Option<Thread> {
    if row.alone { Some(Thread::Lock(node, row.lock)) } else { row.session.map(Thread::Session) }
}

impl History {
    /// A step of a node.
    pub(crate) fn step(&mut self, now: u64, node: usize, before: &[Row], after: &[Row]) {
        for gone in before.iter().filter(|row| !after.contains(row)) {
            if let Some(stay) = self.present.remove(&(node, gone.lock)) {
                self.past.push_back(Stay { until: now, ..stay });
            }
        }
        for new in after.iter().filter(|row| !before.contains(row)) {
            self.present.insert((node, new.lock), Stay { node, row: *new, from: now, until: u64::MAX });
        }
        while self.past.front().is_some_and(|stay| stay.until + REMEMBERED < now) {
            self.past.pop_front();
        }
    }

    /// The rows that one of a report may mean.
    fn of<'a>(&'a self, edge: &'a WaitEdge, said: &'a LockRow) -> impl Iterator<Item = &'a Stay> {
        let name = number_of(&edge.name);
        let same = move |stay: &&Stay| {
            stay.row.lock == said.lock && stay.row.name == name && stay.row.session == said.holder.session
        };
        self.past.iter().chain(self.present.values()).filter(same)
    }

    /// When an edge was there, and the wait it was then.
    fn times(&self, modes: &ModeTable, edge: &WaitEdge) -> Vec<(u64, u64, Stay)> {
        let pairs = self.of(edge, &edge.waiter).flat_map(|w| self.of(edge, &edge.blocker).map(move |b| (w, b)));
        let real = pairs.filter(|(w, b)| w.node == b.node && waits_for(modes, &w.row, &b.row));
        real.map(|(w, b)| (w.from.max(b.from), w.until.min(b.until), *w))
            .filter(|(from, until, _)| from < until)
            .collect()
    }

    /// Whether all edges of a reported cycle were there at one time, and none of its waits was a victim before. `since`: that time must
    /// not be over for longer.
    fn judge(&self, modes: &ModeTable, report: &DeadlockReport, since: u64) -> Result<(), String> {
        let cycle = &report.cycle;
        let joined = |one: &WaitEdge, next: &WaitEdge| {
            let (from, to) = (&one.blocker, &next.waiter);
            from.holder.session == to.holder.session || from.lock == to.lock
        };
        if !cycle.iter().zip(cycle.iter().cycle().skip(1)).all(|(one, next)| joined(one, next)) {
            return Err("its edges do not lead to each other".into());
        }
        if cycle.first().is_none_or(|edge| edge.waiter.lock != report.victim) {
            return Err("its first edge is not the victim's".into());
        }
        let times: Vec<_> = cycle.iter().map(|edge| self.times(modes, edge)).collect();
        let starts = times.iter().flatten().map(|(from, ..)| *from);
        let at = |time: u64| -> Option<Vec<Stay>> {
            times
                .iter()
                .map(|of| of.iter().find(|(from, until, _)| *from <= time && time < *until).map(|t| t.2))
                .collect()
        };
        let ends = |time: u64| times.iter().flatten().filter(|t| t.0 <= time && time < t.1).map(|t| t.1).min();
        let Some(time) = starts.filter(|time| at(*time).is_some()).max() else {
            return Err(format!("its edges were never there at one time: {times:?}"));
        };
        if ends(time).is_none_or(|end| end < since) {
            return Err(format!("it was broken already: {times:?}"));
        }
        let paid = |stay: &Stay| self.victims.contains(&(stay.node, stay.row.lock, stay.row.ticket));
        let paid = at(time).into_iter().flatten().find(paid);
        paid.map_or(Ok(()), |stay| Err(format!("one of its waits was a victim before: {stay:?}")))
    }

    /// The waits at these nodes that are in cycles over several of them: for each a shortest cycle.
    fn cycles(&self, modes: &ModeTable, nodes: &BTreeSet<usize>) -> BTreeSet<BTreeSet<Wait>> {
        let rows = || self.present.values().filter(|stay| nodes.contains(&stay.node));
        let mut edges: BTreeMap<Thread, Vec<(Thread, Wait)>> = BTreeMap::new();
        for w in rows().filter(|stay| stay.row.wanted.is_some()) {
            let Some(from) = thread(w.node, &w.row) else { continue };
            for b in rows().filter(|b| b.node == w.node && waits_for(modes, &w.row, &b.row)) {
                if let Some(to) = thread(b.node, &b.row).filter(|to| *to != from) {
                    edges.entry(from).or_default().push((to, (w.node, w.row.lock, w.row.ticket)));
                }
            }
        }
        let found = edges.keys().filter_map(|start| shortest(&edges, *start));
        found.filter(|cycle| cycle.iter().map(|wait| wait.0).collect::<BTreeSet<_>>().len() > 1).collect()
    }
}

/// A shortest way from a thread to itself.
fn shortest(edges: &BTreeMap<Thread, Vec<(Thread, Wait)>>, start: Thread) -> Option<BTreeSet<Wait>> {
    let mut from: BTreeMap<Thread, (Thread, Wait)> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(at) = next.pop_front() {
        for (to, wait) in edges.get(&at).into_iter().flatten() {
            if *to == start {
                let mut waits = BTreeSet::from([*wait]);
                let mut back = at;
                while let Some((before, wait)) = from.get(&back).filter(|_| back != start) {
                    waits.insert(*wait);
                    back = *before;
                }
                return Some(waits);
            }
            if !from.contains_key(to) {
                from.insert(*to, (at, *wait));
                next.push_back(*to);
            }
        }
    }
    None
}

impl World {
    /// Cycles over several masters that last.
    pub(crate) fn judge_far_cycles(&mut self) {
        let (calm, epoch) = (self.calm_since(), self.group.state.epoch);
        if self.judge.history.epoch.0 != epoch {
            self.judge.history.epoch = (epoch, self.now);
        }
        let within = WITHIN + 20 * 1_000 * u64::from(self.options.delay);
        let moved = self.judge.history.epoch.1 + AGAIN + within > self.now;
        let within = within + if moved { AGAIN } else { 0 };
        if calm + within > self.now {
            return self.judge.history.cycles.clear();
        }
        let ready = |at: &usize| self.nodes[*at].node.as_ref().is_some_and(lockstead_node::Node::is_ready);
        let nodes: BTreeSet<usize> = (0..self.nodes.len()).filter(ready).collect();
        let known = core::mem::take(&mut self.judge.history.cycles);
        let now = self.now;
        let found = self.judge.history.cycles(&self.modes, &nodes).into_iter();
        let seen: BTreeMap<_, u64> =
            found.map(|cycle| (known.get(&cycle).copied().unwrap_or(now), cycle)).map(|(s, c)| (c, s)).collect();
        if let Some((cycle, since)) = seen.iter().find(|(_, since)| now > **since + within) {
            let ago = (now - since) / MS;
            let what = format!("{cycle:?} wait for each other since {ago} ms; {}", self.whose_rows());
            return self.judge.fail(Code::I12, &what);
        }
        self.judge.history.cycles = seen;
    }

    /// A node says that it has broken a cycle over several masters; `ticket` is the victim's.
    pub(crate) fn judge_far_victim(&mut self, at: usize, report: &DeadlockReport, ticket: u64) {
        // [GROUP-12] A group is another owner at each master, and none that stays when its last user there has gone: what it waited for as one
        // cannot be told from what it waits for as the next.
        if report.cycle.iter().any(|edge| edge.waiter.holder.group.is_some() || edge.blocker.holder.group.is_some()) {
            return;
        }
        let calm = self.calm_since() + SEC < self.now;
        let since = if calm { self.now.saturating_sub(FRESH) } else { 0 };
        if let Err(what) = self.judge.history.judge(&self.modes, report, since) {
            let what = format!("node {at}, report {}, a cycle over several masters: {what}", report.number);
            return self.judge.fail(Code::I12, &what);
        }
        self.judge.far_deadlocks += 1;
        self.judge.history.victims.insert((at, report.victim, ticket));
    }
}
