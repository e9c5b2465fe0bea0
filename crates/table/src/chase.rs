//! What a search for cycles over several nodes asks of each of their tables: who is reached from a wait here, whether an edge is
//! there still, and the end of a victim's wait. Edges are those of `deadlock`; what is known here and not there is how to name one to
//! other nodes, so that it is the same edge when they ask again.

use alloc::vec::Vec;

use lockstead_types::{
    Age, Refusal, Time,
    chase::{EdgeId, WaitId},
    report::{Holder, WaitEdge},
};

use crate::{
    Effect, OwnerId, Table,
    deadlock::{Actor, Edge, Step},
    table::Call,
    waits::End,
};

/// What is reached from a wait.
#[derive(Default)]
pub struct Chase {
    /// The owners that were wanted, each with the edges that lead there, the fewest there are.
    pub reached: Vec<(OwnerId, Vec<EdgeId>)>,
    /// Whether there may be other ways than these.
    pub forked: bool,
}

/// Somebody on the way from a wait.
struct Reached {
    actor: Actor,
    /// From whom, by its place, and along which edge; `None` to one within.
    from: Option<usize>,
    edge: Option<Edge>,
}

impl Table {
    /// Whether anybody may wait for something this owner has here. `true` also where that would take long to find out.
    #[must_use]
    pub fn is_waited_for(&self, owner: OwnerId) -> bool {
        self.owners.find(owner).is_some() && !self.nobody_waits_for(Actor::Owner(owner.0))
    }

    /// The owners that a wait waits for in the end, as far as this table knows, of those that are `wanted`. Nobody where the wait is
    /// over.
    #[must_use]
    pub fn chase(&self, wait: WaitId, wanted: &dyn Fn(OwnerId) -> bool) -> Chase {
        let mut found = Chase::default();
        let Some(first) = self.waiting(wait) else { return found };
        let Some(start) = self.actor_of(first) else { return found };
        let mut search = self.new_search();
        let mut all = alloc::vec![Reached { actor: start, from: None, edge: None }];
        let mut at = 0;
        while let Some(actor) = all.get(at).map(|reached| reached.actor) {
            // Of the first one only this wait: the others are asked about by themselves.
            let mut edges = Vec::new();
            let mut steps = if at == 0 {
                self.edges_of(first, &mut edges);
                edges.drain(..).map(Step::Wait).collect()
            } else {
                let mut steps = self.expand(actor, &mut search);
                core::iter::from_fn(|| steps.take()).collect::<Vec<Step>>()
            };
            found.forked |= steps.len() > 1;
            for step in steps.drain(..) {
                // [DEAD-8] A bound on the work, as of any search.
                let Some(left) = search.edges_left.checked_sub(1) else { return found };
                search.edges_left = left;
                let Some(next) = self.actor_after(step).filter(|next| !search.actors.contains(next)) else { continue };
                search.actors.insert(next);
                let edge = match step {
                    Step::Wait(edge) => Some(edge),
                    Step::Inwards(_) => None,
                };
                all.push(Reached { actor: next, from: Some(at), edge });
                if let Actor::Owner(owner) = next
                    && wanted(OwnerId(owner))
                {
                    found.reached.push((OwnerId(owner), self.way_to(&all)));
                }
            }
            at += 1;
        }
        found
    }

    /// The edges to the last of those reached.
    fn way_to(&self, all: &[Reached]) -> Vec<EdgeId> {
        let mut way = Vec::new();
        let mut at = all.len().checked_sub(1);
        while let Some(reached) = at.and_then(|at| all.get(at)) {
            way.extend(reached.edge.map(|edge| self.edge_id(edge)));
            at = reached.from;
        }
        way.reverse();
        way
    }

    fn edge_id(&self, edge: Edge) -> EdgeId {
        let ticket = |l: u32| self.wait(l).map_or(0, |wait| wait.ticket);
        let mark = if edge.hard { self.token(edge.blocker).as_u64() } else { ticket(edge.blocker) };
        let waiter = WaitId { lock: self.id(edge.waiter), ticket: ticket(edge.waiter) };
        EdgeId { waiter, blocker: self.id(edge.blocker), mark, hard: edge.hard }
    }

    /// A lock that waits, and has since it got this ticket.
    fn waiting(&self, wait: WaitId) -> Option<u32> {
        let l = self.find_any(wait.lock)?;
        (self.wait(l)?.ticket == wait.ticket && self.is_edge(l)).then_some(l)
    }

    /// An edge that was here before and has been ever since: the wait has its ticket, and so has the blocker, or its token.
    ///
    /// [DEAD-15] Where each edge of a cycle is found a second time, after all of them were found once, they were there all at once in
    /// between. Without this: a waits for b, which is granted and releases, and waits for a only then: two edges that never met.
    fn edge_still(&self, id: &EdgeId) -> Option<Edge> {
        let waiter = self.waiting(id.waiter)?;
        let mut edges = Vec::new();
        self.edges_of(waiter, &mut edges);
        edges.into_iter().find(|edge| self.edge_id(*edge) == *id)
    }

    /// An edge of a cycle as it is now, for people, with the priority of the wait and how many locks its owner has here. `None` where
    /// it is there no more.
    #[must_use]
    pub fn confirm_edge(&self, now: Time, id: &EdgeId, who: &dyn Fn(OwnerId) -> Holder) -> Option<(WaitEdge, i8, u32)> {
        let edge = self.edge_still(id)?;
        let priority = self.wait(edge.waiter)?.priority;
        let locks = match self.actor_of(edge.waiter)? {
            Actor::Owner(owner) => self.owners.get(owner).locks,
            Actor::Lock(_) => 1,
        };
        Some((self.edge_row(now, edge, who), priority, locks))
    }

    /// Whether an edge is there still.
    #[must_use]
    pub fn has_edge(&self, id: &EdgeId) -> bool {
        self.edge_still(id).is_some()
    }

    /// Whether a wait's way on leads through another one that only stands before it: to somebody else, when that one has ended.
    #[must_use]
    pub fn waits_behind(&self, wait: WaitId, before: WaitId) -> bool {
        let (Some(wait), Some(before)) = (self.waiting(wait), self.waiting(before)) else { return false };
        let mut edges = Vec::new();
        self.soft_edges(wait, &mut edges);
        edges.iter().any(|edge| edge.blocker == before)
    }

    /// Whose wait this is, while it waits.
    #[must_use]
    pub fn waiting_owner(&self, wait: WaitId) -> Option<OwnerId> {
        self.waiting(wait).map(|l| OwnerId(self.locks[l].owner))
    }

    /// How old the transaction is that this is a wait of ([DEAD-17]).
    #[must_use]
    pub fn waiting_age(&self, wait: WaitId) -> Option<Age> {
        self.age_of_lock(self.waiting(wait)?)
    }

    /// The owner that waits as one thread of control by this wait, while it does; nobody where the lock stands alone ([DEAD-4]).
    #[must_use]
    pub fn waiting_thread(&self, wait: WaitId) -> Option<OwnerId> {
        match self.actor_of(self.waiting(wait)?)? {
            Actor::Owner(owner) => Some(OwnerId(owner)),
            Actor::Lock(_) => None,
        }
    }

    /// Ends the wait of a victim with `Refused(Deadlock)` ([DEAD-10]). Whether it waited still.
    pub fn end_victim(&mut self, now: Time, wait: WaitId, fx: &mut Vec<Effect>) -> bool {
        let Some(l) = self.waiting(wait) else { return false };
        let resource = self.locks[l].resource;
        let mut call = Call::new(now, fx);
        self.end_wait(&mut call, l, End::Refused(Refusal::Deadlock));
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        true
    }
}
