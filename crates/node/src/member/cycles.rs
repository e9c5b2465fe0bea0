//! The end of a cycle over several masters: every edge is looked for once more, then one wait is refused ([DEAD-15]).
//!
//! ```text
//!   found somewhere            master of its chief edge                          masters of its edges
//!      Cycle ---------------->   Confirm -------------------------------------->   all still there: their waits are set aside
//!                                all Found: the victim is chosen    <-----------   Confirmed
//!                                Victim, to its master; Resolved, to the others
//! ```
//!
//! A wait that is set aside is in no other cycle that is being broken: of two cycles through one wait the second is looked at when the first
//! is broken, and is gone then, or is not. When a cycle is over, its waits that are left are searched from once more: a probe goes one
//! way to each wait, and may have found this cycle instead of another.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::cmp::Reverse;

use lockstead_table::OwnerId;
use lockstead_types::{
    LockId, NodeId, Span, Time,
    chase::{Confirmation, CycleEdge, EdgeId, PeerEdge, WaitId},
    peer::PeerMessage,
    report::{DeadlockReport, Holder, VictimReason},
    space::VictimPolicy,
};

use super::probes::PATH_MAX;
use crate::node::Node;

/// So long a wait is set aside at most, and an answer waited for: who asked for it may have died.
const PATIENCE: Span = Span::from_secs(1);
/// So long after it met another one a cycle is looked at again.
const PAUSE: Span = Span::from_millis(5);
/// So often at most. Should it still be there it is found again.
const ATTEMPTS: u32 = 20;

/// Cycles this node breaks, and waits set aside for others.
#[derive(Default)]
pub(crate) struct Cycles {
    newest: u64,
    breaking: BTreeMap<u64, Breaking>,
    aside: BTreeMap<WaitId, Aside>,
}

/// A cycle whose edges are looked for once more.
struct Breaking {
    edges: Vec<PeerEdge>,
    attempts: u32,
    stage: Stage,
    /// When that ends.
    due: Time,
}

enum Stage {
    /// Masters were asked, and have found so much.
    Asking(BTreeMap<NodeId, Vec<CycleEdge>>),
    /// It met another cycle, and is looked at again.
    Pausing,
}

struct Aside {
    /// Who breaks the cycle, and under which number.
    by: (NodeId, u64),
    until: Time,
}

impl Cycles {
    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.breaking.values().map(|cycle| cycle.due).min()
    }

    /// Whether a cycle with this edge is being broken already.
    fn is_breaking(&self, edge: PeerEdge) -> bool {
        self.breaking.values().any(|cycle| cycle.edges.contains(&edge))
    }

    /// Whether a wait is set aside for another cycle.
    fn is_taken(&self, now: Time, wait: WaitId, by: (NodeId, u64)) -> bool {
        self.aside.get(&wait).is_some_and(|aside| aside.by != by && now < aside.until)
    }

    /// The waits that were set aside for a cycle are not any more.
    fn give_back(&mut self, now: Time, by: (NodeId, u64)) -> BTreeSet<WaitId> {
        let of = self.aside.iter().filter(|(_, aside)| aside.by == by).map(|(wait, _)| *wait).collect();
        self.aside.retain(|_, aside| aside.by != by && now < aside.until);
        of
    }
}

impl Breaking {
    fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.edges.iter().map(|edge| edge.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// All edges as they were found the second time, in the order of the cycle; `None` while some are missing.
    fn whole(&self) -> Option<Vec<(PeerEdge, &CycleEdge)>> {
        let Stage::Asking(found) = &self.stage else { return None };
        let mut left: BTreeMap<NodeId, core::slice::Iter<'_, CycleEdge>> =
            found.iter().map(|(node, found)| (*node, found.iter())).collect();
        self.edges.iter().map(|edge| Some((*edge, left.get_mut(&edge.node)?.next()?))).collect()
    }
}

/// The edge whose master breaks the cycle: the same whoever has found it.
pub(crate) fn chief(edges: &[PeerEdge]) -> Option<PeerEdge> {
    edges.iter().copied().max_by_key(chief_key)
}

fn chief_key(edge: &PeerEdge) -> (u64, NodeId, LockId) {
    (edge.edge.waiter.ticket, edge.node, edge.edge.waiter.lock)
}

impl Node {
    // ------------------------------------------------------------ the master of its chief edge

    /// A cycle was found.
    pub(crate) fn on_cycle(&mut self, now: Time, edges: Vec<PeerEdge>) {
        let Some(member) = &mut self.member else { return };
        let known = chief(&edges).is_none_or(|chief| member.cycles.is_breaking(chief));
        if known || edges.len() > PATH_MAX {
            return;
        }
        self.confirm_cycle(now, edges, 1);
    }

    /// Each attempt has a number of its own: what a master found in an earlier one it has not set aside any more.
    ///
    /// Without this: one master is busy, and another, far away, has found its edges; the second attempt begins, and that answer arrives;
    /// meanwhile another cycle through those edges was broken, and this one has a victim for nothing.
    fn confirm_cycle(&mut self, now: Time, edges: Vec<PeerEdge>, attempts: u32) {
        let Some(member) = &mut self.member else { return };
        member.cycles.newest += 1;
        let ask = member.cycles.newest;
        let (stage, due) = (Stage::Asking(BTreeMap::new()), now.after(PATIENCE));
        let cycle = Breaking { edges, attempts, stage, due };
        let of = |node| cycle.edges.iter().filter(|edge| edge.node == node).map(|edge| edge.edge).collect();
        let asked: Vec<(NodeId, Vec<EdgeId>)> = cycle.nodes().into_iter().map(|node| (node, of(node))).collect();
        member.cycles.breaking.insert(ask, cycle);
        for (node, edges) in asked {
            self.send_search(now, node, PeerMessage::Confirm { ask, edges });
        }
    }

    /// A master has looked.
    pub(crate) fn on_confirmed(&mut self, now: Time, from: NodeId, ask: u64, found: Confirmation) {
        let Some(cycle) = self.member.as_mut().and_then(|m| m.cycles.breaking.get_mut(&ask)) else { return };
        let nodes = cycle.nodes();
        let Stage::Asking(so_far) = &mut cycle.stage else { return };
        match found {
            Confirmation::Found(edges) => {
                so_far.insert(from, edges);
                if so_far.len() == nodes.len() {
                    self.break_cycle(now, ask);
                }
            }
            #[cfg(feature = "planted")]
            Confirmation::Gone if lockstead_types::planted::is(lockstead_types::planted::Bug::PhantomDeadlock) => {
                let found = so_far.len();
                cycle.edges.retain(|edge| edge.node != from);
                if !cycle.edges.is_empty() && found == cycle.nodes().len() {
                    self.break_cycle(now, ask);
                }
            }
            Confirmation::Gone => self.let_go(now, ask),
            Confirmation::Busy => {
                (cycle.due, cycle.stage) = (now.after(PAUSE), Stage::Pausing);
                self.resolve_at(now, ask, false, nodes);
            }
        }
    }

    /// All edges were there at one time: one wait pays.
    fn break_cycle(&mut self, now: Time, ask: u64) {
        let Some(cycle) = self.member.as_mut().and_then(|m| m.cycles.breaking.remove(&ask)) else { return };
        let nodes = cycle.nodes();
        let victim = cycle.whole().and_then(|whole| self.choose_of(&whole));
        // It would be found again, and again have none.
        let Some((first, node, wait, report)) = victim else { return self.resolve_at(now, ask, false, nodes) };
        let mut report = report;
        report.cycle.rotate_left(first);
        let others = nodes.into_iter().filter(|other| *other != node).collect();
        self.send_search(now, node, PeerMessage::Victim { ask, wait, report: Box::new(report) });
        self.resolve_at(now, ask, true, others);
    }

    /// [DEAD-11] By the policy of the lockspace of the youngest wait: who closed the cycle nobody knows, and is taken to be that one.
    fn choose_of(&self, whole: &[(PeerEdge, &CycleEdge)]) -> Option<(usize, NodeId, WaitId, DeadlockReport)> {
        // [DEAD-17] By the age of the transaction, and before all those who is in none. Tickets of different masters tell nothing; how long they
        // have waited does.
        let age = |(edge, found): &(PeerEdge, &CycleEdge)| {
            (found.age.is_some(), Reverse(found.age), found.row.waiter.since, Reverse(chief_key(edge)))
        };
        let youngest = whole.iter().min_by_key(|edge| age(edge))?;
        let policy = self.table.space(youngest.1.row.space)?.victim;
        let (victim, why) = match policy {
            VictimPolicy::Requester | VictimPolicy::Youngest => (youngest, VictimReason::Youngest),
            VictimPolicy::FewestLocks => {
                (whole.iter().min_by_key(|edge| (edge.1.locks, age(edge)))?, VictimReason::FewestLocks)
            }
            VictimPolicy::LowestPriority => {
                (whole.iter().min_by_key(|edge| (edge.1.priority, age(edge)))?, VictimReason::LowestPriority)
            }
        };
        let (PeerEdge { node, edge }, _) = *victim;
        let first = whole.iter().position(|(other, _)| *other == victim.0)?;
        let cycle = whole.iter().map(|(_, edge)| edge.row.clone()).collect();
        let victim = edge.waiter.lock;
        let report = DeadlockReport { number: 0, ago: Span::ZERO, cycle, left_out: 0, victim, why };
        Some((first, node, edge.waiter, report))
    }

    fn let_go(&mut self, now: Time, ask: u64) {
        let Some(cycle) = self.member.as_mut().and_then(|m| m.cycles.breaking.remove(&ask)) else { return };
        self.resolve_at(now, ask, true, cycle.nodes());
    }

    fn resolve_at(&mut self, now: Time, ask: u64, over: bool, nodes: Vec<NodeId>) {
        for node in nodes {
            self.send_search(now, node, PeerMessage::Resolved { ask, over });
        }
    }

    /// Cycles that met others are looked at again; those whose masters do not answer are let go.
    pub(crate) fn look_at_cycles(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let due = member.cycles.breaking.iter().filter(|(_, cycle)| cycle.due <= now);
        let due: Vec<(u64, bool)> =
            due.map(|(ask, c)| (*ask, matches!(c.stage, Stage::Pausing) && c.attempts < ATTEMPTS)).collect();
        for (ask, again) in due {
            if !again {
                self.let_go(now, ask);
            } else if let Some(cycle) = self.member.as_mut().and_then(|m| m.cycles.breaking.remove(&ask)) {
                self.confirm_cycle(now, cycle.edges, cycle.attempts + 1);
            }
        }
    }

    // ------------------------------------------------------------ masters of its edges

    /// Whether these edges are there still; their waits are set aside if so.
    pub(crate) fn on_confirm(&mut self, now: Time, from: NodeId, ask: u64, edges: &[EdgeId]) {
        let by = (from, ask);
        let found = self.find_again(now, by, edges);
        if let (Confirmation::Found(_), Some(member)) = (&found, &mut self.member) {
            let until = now.after(PATIENCE);
            member.cycles.aside.extend(edges.iter().map(|edge| (edge.waiter, Aside { by, until })));
        }
        let gone = found == Confirmation::Gone;
        self.send_search(now, from, PeerMessage::Confirmed { ask, found });
        if gone {
            let turned = edges.iter().filter(|edge| !self.table.has_edge(edge)).map(|edge| edge.waiter).collect();
            self.search_again(now, edges.iter().map(|edge| edge.waiter).collect(), &turned);
        }
    }

    fn find_again(&self, now: Time, by: (NodeId, u64), edges: &[EdgeId]) -> Confirmation {
        let Some(member) = &self.member else { return Confirmation::Gone };
        if edges.iter().any(|edge| member.cycles.is_taken(now, edge.waiter, by)) {
            return Confirmation::Busy;
        }
        let who = |owner: OwnerId| -> Holder { self.holder(owner) };
        let found = edges.iter().map(|edge| {
            let (row, priority, here) = self.table.confirm_edge(now, edge, &who)?;
            let guest = self.table.waiting_owner(edge.waiter).and_then(|owner| self.guest_owning(owner));
            let locks = guest.and_then(|guest| guest.stuck.as_ref()).map_or(here, |stuck| stuck.locks);
            Some(CycleEdge { row, priority, locks, age: self.table.waiting_age(edge.waiter) })
        });
        found.collect::<Option<Vec<CycleEdge>>>().map_or(Confirmation::Gone, Confirmation::Found)
    }

    /// A wait of this master is the victim.
    pub(crate) fn on_victim(&mut self, now: Time, from: NodeId, ask: u64, wait: WaitId, report: DeadlockReport) {
        let by = (from, ask);
        let Some(member) = &mut self.member else { return };
        let waits = member.cycles.give_back(now, by);
        let turned = waits.iter().copied().filter(|other| self.table.waits_behind(*other, wait)).collect();
        if waits.contains(&wait) && self.table.end_victim(now, wait, &mut self.fx) {
            self.keep_cycle(now, report);
            self.tell_effects(now);
        }
        self.search_again(now, waits, &turned);
    }

    /// `over`: it is broken, gone or given up, and not just put off.
    pub(crate) fn on_resolved(&mut self, now: Time, from: NodeId, ask: u64, over: bool) {
        let Some(member) = &mut self.member else { return };
        let waits = member.cycles.give_back(now, (from, ask));
        if over {
            self.search_again(now, waits, &BTreeSet::new());
        }
    }
}
