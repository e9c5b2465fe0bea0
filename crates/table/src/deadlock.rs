//! Deadlocks over any number of resources: edges derived from the queues, a search for a cycle, a victim.
//!
//! Who waits for whom is never stored. A new cycle must run through a new edge, and edges come to be in few places:
//! somebody begins to wait, is granted (or adopts, or takes back) something others wait for, or gains the right not to be
//! passed. Each of these calls [`Table::suspect`]; at the end of the call [`Table::resolve`] searches from there.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

use hashbrown::HashSet;
use lockstead_types::{
    Flags, Mode, ModeTable, Refusal, Span,
    report::{DeadlockReport, Holder, VictimReason, WaitEdge},
    space::{DeadlockPolicy, VictimPolicy},
};

use crate::{
    Effect, OwnerId, Table,
    lock::{State, Traits},
    owner::ORPHANS,
    resource::Pool,
    slab::NIL,
    store::Ring,
    table::Call,
    waits::End,
};

/// So many other locks of an owner are looked at to find out that nobody waits for it.
const QUICK_LOOK: u32 = 16;

/// Who acts: an owner with all its locks, or one lock that stands alone ([DEAD-4]).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Actor {
    Owner(u32),
    Lock(u32),
}

/// `waiter` waits for `blocker`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Edge {
    pub(crate) waiter: u32,
    pub(crate) blocker: u32,
    /// Hard: the blocker holds. Soft: it only waits before.
    pub(crate) hard: bool,
}

/// What a lock waits for: a mode, or another one, or permits.
pub(crate) struct Wish<'a> {
    of: u32,
    modes: &'a ModeTable,
    want: Mode,
    alternative: Option<Mode>,
    take: u32,
    pool: Option<Pool>,
}

/// One step from an actor to another.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Step {
    /// One of its waits.
    Wait(Edge),
    /// To an owner within it.
    Inwards(u32),
}

/// The steps from one actor on the path of a search: first its waits, then the owners within it.
pub(crate) struct Steps {
    edges: Vec<Edge>,
    inner: Vec<u32>,
    /// How many were taken.
    taken: usize,
}

/// What a search has seen.
pub(crate) struct Search {
    pub(crate) actors: HashSet<Actor, foldhash::fast::FixedState>,
    /// Holders of a resource in the way of a mode, followed already.
    holders: BTreeSet<(u32, Mode)>,
    pub(crate) edges_left: u32,
}

impl Steps {
    pub(crate) fn take(&mut self) -> Option<Step> {
        let edge = self.edges.get(self.taken).copied().map(Step::Wait);
        let inner = || self.inner.get(self.taken - self.edges.len()).copied().map(Step::Inwards);
        let step = edge.or_else(inner)?;
        self.taken += 1;
        Some(step)
    }

    /// The step taken last, where it is a wait.
    fn newest_edge(&self) -> Option<Edge> {
        self.edges.get(self.taken.checked_sub(1)?).copied()
    }
}

impl Table {
    /// Notes that a new cycle of waits may run through the owner of this lock: it waits for something, and is waited for.
    pub(crate) fn suspect(&self, call: &mut Call<'_>, l: u32) {
        let lock = &self.locks[l];
        let Some(actor) = self.actor_of(l) else { return };
        if self.prevents_at(lock.resource) {
            call.joints.push((l, lock.generation));
        }
        let waits = match actor {
            Actor::Lock(_) => lock.is_pending(),
            Actor::Owner(owner) => self.owners.get(owner).pending > 0 || self.nest.has_inner(owner),
        };
        if waits && !self.nobody_waits_for(actor) {
            call.suspects.push((l, lock.generation));
        }
    }

    /// Ends waits that may not be, and breaks every cycle that the call may have closed.
    #[inline]
    pub(crate) fn resolve(&mut self, call: &mut Call<'_>) {
        // Nearly always there is nothing.
        if !call.suspects.is_empty() || !call.joints.is_empty() {
            self.resolve_all(call);
        }
    }

    #[inline(never)]
    fn resolve_all(&mut self, call: &mut Call<'_>) {
        // What the one ends may let others be granted, who are the other's matter.
        while !call.joints.is_empty() || !call.suspects.is_empty() {
            if !call.joints.is_empty() {
                self.prevent(call);
            }
            if !call.suspects.is_empty() {
                self.resolve_suspects(call);
            }
        }
    }

    fn resolve_suspects(&mut self, call: &mut Call<'_>) {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::NoSearch) {
            return call.suspects.clear();
        }
        while let Some((l, generation)) = call.suspects.pop() {
            let lives = self.locks[l].state != State::Vacant && self.locks[l].generation == generation;
            let Some(actor) = self.actor_of(l).filter(|_| lives) else { continue };
            // Each round ends one wait.
            while let Some(cycle) = self.find_cycle(actor) {
                self.break_cycle(call, &cycle);
                if self.locks[l].generation != generation || self.locks[l].state == State::Vacant {
                    break;
                }
            }
        }
    }

    /// Breaks every cycle through an owner.
    pub(crate) fn resolve_owner(&mut self, call: &mut Call<'_>, owner: OwnerId) {
        while let Some(cycle) = self.find_cycle(Actor::Owner(owner.0)) {
            self.break_cycle(call, &cycle);
        }
        self.resolve(call);
    }

    pub(crate) fn actor_of(&self, l: u32) -> Option<Actor> {
        let lock = &self.locks[l];
        match lock.owner {
            // An orphan waits for nothing: no cycle runs through it.
            ORPHANS | NIL => None,
            // [DEAD-4] A lock that stands alone makes no cycle with its owner's other locks.
            _ if lock.traits.has(Traits::ALONE) => Some(Actor::Lock(l)),
            owner => Some(Actor::Owner(owner)),
        }
    }

    /// A cheap way out for the common case: who holds nothing that others wait for closes no cycle.
    pub(crate) fn nobody_waits_for(&self, actor: Actor) -> bool {
        match actor {
            Actor::Lock(l) => self.keeps_nobody_waiting(l),
            // [DEAD-13] Who waits for an owner waits for all within it.
            Actor::Owner(owner) => self.nest.outwards(owner).all(|owner| {
                let owner = self.owners.get(owner);
                owner.locks <= QUICK_LOOK && self.owner_ring(owner.first).all(|l| self.keeps_nobody_waiting(l))
            }),
        }
    }

    pub(crate) fn keeps_nobody_waiting(&self, l: u32) -> bool {
        let lock = &self.locks[l];
        let Some(queue) = self.queue(lock.resource) else { return true };
        match lock.state {
            State::Waiting => queue.due == 0 && self.after(self.head(lock.resource, Ring::Waiting), l) == NIL,
            State::Converting => queue.len() == 1,
            State::Granted | State::Vacant => false,
        }
    }

    // ------------------------------------------------------------------ edges

    /// The waits of an actor that count as edges.
    fn waits_of(&self, actor: Actor) -> Vec<u32> {
        let mut waits = match actor {
            Actor::Lock(l) => alloc::vec![l],
            Actor::Owner(owner) => {
                let owner = self.owners.get(owner);
                let pending = self.owner_ring(owner.first).take(owner.pending as usize);
                pending.filter(|l| !self.locks[*l].traits.has(Traits::ALONE)).collect()
            }
        };
        waits.retain(|l| self.is_edge(*l));
        waits
    }

    pub(crate) fn is_edge(&self, l: u32) -> bool {
        // [DEAD-5] NODLCKWT: this wait is no edge.
        let counts = self.wait(l).is_some_and(|w| !w.flags.has(Flags::NODLCKWT));
        // [DEAD-9] Nor is any in a lockspace that neither detects nor [PREVENT-6] prevents.
        let deadlock = self.space_of(self.locks[l].resource).space.deadlock;
        // [SLOT-2] Nor is one that only a freeze may be the reason of; the thaw looks at it again.
        counts
            && (deadlock == DeadlockPolicy::Detect || deadlock.prevents())
            && !self.is_frozen_at(self.locks[l].resource)
    }

    /// Everything a lock that waits waits for. Soft edges go to the nearest before it whose own wait is an edge too, and
    /// to those between: what is further on is found from there.
    pub(crate) fn edges_of(&self, w: u32, all: &mut Vec<Edge>) {
        self.hard_edges(w, all);
        self.soft_edges(w, all);
    }

    fn hard_edges(&self, w: u32, all: &mut Vec<Edge>) {
        let Some(wish) = self.wish(w) else { return };
        let resource = self.locks[w].resource;
        if let Some(asker) = self.asker(w) {
            // Those in the way of what it wants; with an alternative, of that too.
            let holders = self.holding_beside(resource, &asker, wish.modes.conflicts_of(wish.want));
            let edge = |h: u32| Edge { waiter: w, blocker: h, hard: true };
            return all.extend(holders.into_iter().filter(|h| self.hinders(&wish, *h)).map(edge));
        }
        for ring in [Ring::Granted, Ring::Converting] {
            for h in self.ring(resource, ring).filter(|h| *h != w) {
                if self.hinders(&wish, h) {
                    all.push(Edge { waiter: w, blocker: h, hard: true });
                }
            }
        }
    }

    /// What one that waits would have.
    pub(crate) fn wish(&self, w: u32) -> Option<Wish<'_>> {
        let (wait, resource) = (self.wait(w)?, self.locks[w].resource);
        let alternative = self.alternative(resource, wait.want, wait.flags);
        Some(Wish {
            of: w,
            modes: self.modes_of(resource),
            want: wait.want,
            alternative,
            take: self.take(w),
            pool: self.pool(resource),
        })
    }

    /// Whether another lock, which holds, keeps it from that.
    #[inline]
    pub(crate) fn hinders(&self, wish: &Wish<'_>, h: u32) -> bool {
        let held = &self.locks[h];
        let blocks = match wish.pool {
            None => {
                let blocks = |want: Mode| wish.modes.conflicts_of(want).contains(held.mode);
                blocks(wish.want) && wish.alternative.is_none_or(blocks)
            }
            // [DEAD-7] Permits may come from several: one holder is an edge only if all others' are too few.
            Some(pool) => pool.of.saturating_sub(self.taken_by(held.resource, h)) < wish.take,
        };
        // [DEAD-6] NODLCKBLK: this lock, held, is no edge.
        blocks && !held.traits.has(Traits::NODLCKBLK) && self.concern(wish.of, h)
    }

    /// The permits of a resource held by whoever `holder` acts for.
    fn taken_by(&self, resource: u32, holder: u32) -> u32 {
        let actor = self.actor_of(holder);
        let own = self.ring(resource, Ring::Granted).filter(|l| *l == holder || self.actor_of(*l) == actor);
        own.fold(0, |sum, l| sum.saturating_add(self.take(l)))
    }

    pub(crate) fn soft_edges(&self, w: u32, all: &mut Vec<Edge>) {
        let (resource, ticket) = match self.wait(w) {
            Some(wait) => (self.locks[w].resource, wait.ticket),
            None => return,
        };
        let converting = self.locks[w].state == State::Converting;
        let held = converting.then_some(self.locks[w].mode);
        if let Some(wait) = self.wait(w).filter(|_| self.queue(resource).is_some_and(|q| q.due > 0)) {
            let due = self.ring(resource, Ring::Converting).chain(self.ring(resource, Ring::Waiting));
            let due = due.filter(|d| *d != w && self.is_due(*d) && self.concern(w, *d));
            let due = due.filter(|d| self.passes(resource, *d, ticket, held, wait.want));
            all.extend(due.map(|d| Edge { waiter: w, blocker: d, hard: false }));
        }
        if self.ignores_order(w) {
            return;
        }
        if self.locks[w].traits.has(Traits::EXTENT) {
            // Whom those before it wait for may have nothing to do with it: it waits for each of them itself.
            let before = self.waiting_before(w).into_iter();
            return all.extend(before.map(|b| Edge { waiter: w, blocker: b, hard: false }));
        }
        let mut ring = if converting { Ring::Converting } else { Ring::Waiting };
        let mut l = self.before(self.head(resource, ring), w);
        loop {
            if l == NIL && ring == Ring::Waiting {
                ring = Ring::Converting;
                l = self.last(self.head(resource, ring));
            }
            if l == NIL {
                return;
            }
            all.push(Edge { waiter: w, blocker: l, hard: false });
            // Its own edges lead further.
            if self.is_edge(l) && !self.ignores_order(l) {
                return;
            }
            l = self.before(self.head(resource, ring), l);
        }
    }

    fn ignores_order(&self, l: u32) -> bool {
        self.is_due(l) || self.wait(l).is_some_and(|w| w.flags.has(Flags::NOORDER))
    }

    // ----------------------------------------------------------------- search

    /// A cycle of waits through whoever this lock acts for.
    pub(crate) fn cycle_through(&self, l: u32) -> Option<Vec<Edge>> {
        self.find_cycle(self.actor_of(l)?)
    }

    /// A cycle of waits through an actor.
    fn find_cycle(&self, start: Actor) -> Option<Vec<Edge>> {
        let mut search = self.new_search();
        search.actors.insert(start);
        let mut path: Vec<Steps> = alloc::vec![self.expand(start, &mut search)];
        while let Some(steps) = path.last_mut() {
            let Some(step) = steps.take() else {
                path.pop();
                continue;
            };
            // [DEAD-8] A bound on the work; beyond it the request only waits.
            search.edges_left = search.edges_left.checked_sub(1)?;
            let Some(next) = self.actor_after(step) else { continue };
            if next == start {
                return Some(path.iter().filter_map(Steps::newest_edge).collect());
            }
            if search.actors.insert(next) {
                path.push(self.expand(next, &mut search));
            }
        }
        None
    }

    pub(crate) fn new_search(&self) -> Search {
        Search {
            actors: HashSet::with_hasher(self.hasher.clone()),
            holders: BTreeSet::new(),
            edges_left: self.limits.deadlock_edges,
        }
    }

    /// Where a step leads, if it counts.
    pub(crate) fn actor_after(&self, step: Step) -> Option<Actor> {
        match step {
            Step::Wait(edge) => {
                let (from, to) = (self.actor_of(edge.waiter), self.actor_of(edge.blocker));
                // To wait behind one's own earlier request is no deadlock; to wait for what one holds is.
                to.filter(|_| from != to || edge.hard)
            }
            // [DEAD-13] It gives up nothing before the one within it has ended.
            Step::Inwards(owner) => Some(Actor::Owner(owner)),
        }
    }

    pub(crate) fn expand(&self, actor: Actor, search: &mut Search) -> Steps {
        let mut edges = Vec::new();
        for w in self.waits_of(actor) {
            let Some(wait) = self.wait(w) else { continue };
            let lock = &self.locks[w];
            // All that wait for one mode wait for the same holders: followed once. A conversion leaves itself out, an
            // alternative mode or permits make a difference.
            let same = lock.state == State::Waiting
                && !lock.traits.has(Traits::PERMITS)
                && !lock.traits.has(Traits::EXTENT)
                && !wait.flags.has(Flags::ALTPR)
                && !wait.flags.has(Flags::ALTCW);
            if !same || search.holders.insert((lock.resource, wait.want)) {
                self.hard_edges(w, &mut edges);
            }
            self.soft_edges(w, &mut edges);
        }
        // Those that wait for nothing, and have nobody within them who does, lead nowhere.
        let leads_on = |inner: &u32| self.owners.get(*inner).pending > 0 || self.nest.has_inner(*inner);
        let inner = match actor {
            Actor::Owner(owner) => self.nest.inner_of(owner).filter(leads_on).collect(),
            Actor::Lock(_) => Vec::new(),
        };
        Steps { edges, inner, taken: 0 }
    }

    // ----------------------------------------------------------------- victim

    fn break_cycle(&mut self, call: &mut Call<'_>, cycle: &[Edge]) {
        let Some((victim, why)) = self.choose(call, cycle) else { return };
        let resource = self.locks[victim].resource;
        self.report(call, cycle.iter().map(|e| (*e, None)).collect(), victim, why);
        // [DEAD-10] The victim's wait ends: a new request is gone, a conversion keeps its old mode.
        self.end_wait(call, victim, End::Refused(Refusal::Deadlock));
        self.settle(call, resource);
    }

    /// [DEAD-11] Who pays, by the policy of the lockspace where the cycle was closed.
    fn choose(&self, call: &Call<'_>, cycle: &[Edge]) -> Option<(u32, VictimReason)> {
        // [DEAD-17] Who is in no transaction, or whose age nobody has told, before all who are; of transactions by their age.
        let age = |l: u32| {
            let (transaction, ticket) = (self.age_of_lock(l), self.wait(l).map_or(0, |w| w.ticket));
            (transaction.is_none(), transaction, ticket)
        };
        let priority = |l: u32| self.wait(l).map_or(0, |w| w.priority);
        let locks = |l: u32| match self.actor_of(l) {
            Some(Actor::Owner(owner)) => self.owners.get(owner).locks,
            _ => 1,
        };
        let waiters = || cycle.iter().map(|e| e.waiter);
        let youngest = || waiters().max_by_key(|l| age(*l)).map(|l| (l, VictimReason::Youngest));
        // [DEAD-11] The first edge is of whoever the search began with, or of one within it.
        let first = cycle.first()?;
        match self.space_of(self.locks[first.waiter].resource).space.victim {
            // [DEAD-17] Nor may a transaction close cycles until it has had enough of it.
            VictimPolicy::Requester if waiters().any(|l| self.age_of_lock(l).is_some()) => youngest(),
            VictimPolicy::Requester => {
                let closer = waiters().find(|l| *l == call.caller && self.locks[*l].is_pending());
                closer.map(|l| (l, VictimReason::ClosedCycle)).or_else(youngest)
            }
            VictimPolicy::Youngest => youngest(),
            VictimPolicy::FewestLocks => waiters()
                .min_by_key(|l| (locks(*l), core::cmp::Reverse(age(*l))))
                .map(|l| (l, VictimReason::FewestLocks)),
            VictimPolicy::LowestPriority => waiters()
                .min_by_key(|l| (priority(*l), core::cmp::Reverse(age(*l))))
                .map(|l| (l, VictimReason::LowestPriority)),
        }
    }

    /// Reports a conversion deadlock: `l` was about to wait for `want` behind `rival`, which waits for `l`.
    pub(crate) fn report_conversion_deadlock(
        &self,
        call: &mut Call<'_>,
        l: u32,
        rival: u32,
        want: Mode,
        why: VictimReason,
    ) {
        let hard = !self.modes_of(self.locks[l].resource).compatible(want, self.locks[rival].mode);
        let there = Edge { waiter: l, blocker: rival, hard };
        let back = Edge { waiter: rival, blocker: l, hard: true };
        self.report(call, alloc::vec![(there, Some(want)), (back, None)], l, why);
    }

    /// `want` is what a waiter that is not queued yet is about to wait for.
    fn report(&self, call: &mut Call<'_>, edges: Vec<(Edge, Option<Mode>)>, victim: u32, why: VictimReason) {
        let nobody = |_: OwnerId| Holder::default();
        let owner = |l: u32| OwnerId(self.locks[l].owner);
        let owners = edges.iter().map(|(e, _)| (owner(e.waiter), owner(e.blocker))).collect();
        let row = |(edge, want): (Edge, Option<Mode>)| -> WaitEdge {
            let mut row = self.edge_row(call.now, edge, &nobody);
            if let Some(want) = want {
                row.waiter.wanted = Some(self.claim(edge.waiter, want));
                row.waiter.since = Some(Span::ZERO);
            }
            row
        };
        let cycle = edges.into_iter().map(row).collect();
        let report = DeadlockReport { number: 0, ago: Span::ZERO, cycle, left_out: 0, victim: self.id(victim), why };
        call.fx.push(Effect::Deadlock { report: Box::new(report), owners });
    }
}
