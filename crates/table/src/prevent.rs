//! Deadlocks that cannot come to be: who may wait for whom by the ages of transactions, under wait-die and wound-wait.
//!
//! Edges are those of `deadlock`, derived from the queues. A new one is judged where it comes to be: those of one that begins to wait
//! in [`Table::begin_wait`], all others at the end of the call, from where [`Table::suspect`] was called. Judged are the edges next to the
//! suspect alone: of what lies further, age is transitive. Only a wound takes somebody out of a line of whom this does not hold.

use alloc::{format, string::String, vec::Vec};

use lockstead_types::{Age, Flags, Refusal, Time, space::DeadlockPolicy};

use crate::{
    Effect, OwnerId, Table,
    deadlock::Actor,
    lock::{State, Traits},
    store::Ring,
    table::Call,
    waits::End,
};

/// What an owner is to these rules.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Txn {
    /// In no transaction.
    #[default]
    Outside,
    /// In one of this age.
    Running(Age),
    /// In one of this age that an older one has told to end: it waits for nothing any more.
    Wounded(Age),
}

impl Txn {
    pub(crate) fn age(self) -> Option<Age> {
        match self {
            Txn::Outside => None,
            Txn::Running(age) | Txn::Wounded(age) => Some(age),
        }
    }
}

/// What comes of an edge.
enum Verdict {
    /// It may be.
    Stands,
    /// The wait ends.
    Ends(Refusal),
    /// The owner of the blocker is wounded.
    Wounds(OwnerId),
}

impl Table {
    /// Says in a transaction of which age an owner is; `None` for none. To be said at its begin, before what it asks for, and at its
    /// end; what is said twice changes nothing. Locks it has already are judged by the new age ([PREVENT-5]). One that can be aborted no
    /// more is said to be in none: then whoever waits for it waits.
    pub fn set_owner_age(&mut self, now: Time, owner: OwnerId, age: Option<Age>, fx: &mut Vec<Effect>) {
        let Some(entry) = self.owners.find_mut(owner).filter(|entry| entry.txn.age() != age) else { return };
        // [PREVENT-3] Set anew, it is wounded no more.
        entry.txn = age.map_or(Txn::Outside, Txn::Running);
        let mut call = Call::new(now, fx);
        // [PREVENT-5] For one in no transaction anybody may wait; it may wait for nobody.
        let judged = |l: &u32| {
            let lock = &self.locks[*l];
            let counts = age.is_some() || lock.is_pending();
            counts && self.prevents_at(lock.resource) && self.queue(lock.resource).is_some()
        };
        call.joints = self.locks_of(owner).filter(judged).map(|l| (l, self.locks[l].generation)).collect();
        self.resolve(&mut call);
    }

    /// Whether an owner was told to end its transaction, and has not yet ([PREVENT-3]).
    #[must_use]
    pub fn is_wounded(&self, owner: OwnerId) -> bool {
        self.owners.find(owner).is_some_and(|owner| matches!(owner.txn, Txn::Wounded(_)))
    }

    /// The age of an owner's transaction, that of its locks that do not stand alone; `None` where it is in none.
    #[must_use]
    pub fn age_of(&self, owner: OwnerId) -> Option<Age> {
        self.owners.find(owner).and_then(|owner| owner.txn.age())
    }

    /// The age of the transaction a lock is of.
    pub(crate) fn age_of_lock(&self, l: u32) -> Option<Age> {
        self.txn_of(self.actor_of(l)).age()
    }

    /// Whether a lock's owner is wounded, and the lock part of what it undoes.
    pub(crate) fn is_of_wounded(&self, l: u32) -> bool {
        matches!(self.txn_of(self.actor_of(l)), Txn::Wounded(_))
    }

    pub(crate) fn prevents_at(&self, resource: u32) -> bool {
        self.space_of(resource).space.deadlock.prevents()
    }

    /// Of two conversions that would wait for each other: whether their ages say who gives way, once the later one waits too.
    ///
    /// [PREVENT-2] Under wound-wait that is the younger one, whichever came first. Without this: a younger one converts and waits for an
    /// older one, as it may. The older one converts, is refused `deadlock`, releases, and begins again; so does the younger one, and
    /// the oldest of all never commits.
    ///
    /// [DEAD-17] Where cycles are searched the newcomer waits if it is the older one, and the search ends the other's wait.
    pub(crate) fn is_settled_by_age(&self, l: u32, rival: u32, flags: Flags) -> bool {
        let (policy, age) = (self.space_of(self.locks[l].resource).space.deadlock, self.age_of_lock(l));
        let older = || self.age_of_lock(rival).is_none_or(|other| age.is_some_and(|age| age.is_older_than(other)));
        age.is_some()
            && (policy.prevents() || (policy == DeadlockPolicy::Detect && older()))
            && !flags.has(Flags::NODLCKWT)
            && !flags.has(Flags::CONVDEADLK)
            && self.is_edge(rival)
            && self.waits_for(rival, l)
    }

    fn txn_of(&self, actor: Option<Actor>) -> Txn {
        match actor {
            Some(Actor::Owner(owner)) => self.owners.get(owner).txn,
            // [DEAD-4] A lock that stands alone is no part of its owner's transaction.
            Some(Actor::Lock(_)) | None => Txn::Outside,
        }
    }

    // ------------------------------------------------------------------ judge

    /// Whether one that has just joined a queue is aborted at once, before anybody is told that it waits.
    pub(crate) fn dies_at_once(&self, l: u32) -> bool {
        let dies = self.space_of(self.locks[l].resource).space.deadlock == DeadlockPolicy::WaitDie && self.is_edge(l);
        let mut edges = Vec::new();
        if dies {
            self.judged_edges(l, &mut edges);
        }
        edges.into_iter().any(|blocker| matches!(self.verdict(l, blocker), Verdict::Ends(_)))
    }

    /// Judges the edges that the call may have made.
    pub(crate) fn prevent(&mut self, call: &mut Call<'_>) {
        // [PREVENT-5] Those of others as well, who may wait for the lock that came or was granted.
        while let Some((l, generation)) = call.joints.pop() {
            if self.is_still(l, generation) {
                self.judge_from(call, l);
            }
            if self.is_still(l, generation) {
                self.judge_to(call, l);
            }
        }
    }

    fn is_still(&self, l: u32, generation: u32) -> bool {
        self.locks[l].state != State::Vacant && self.locks[l].generation == generation
    }

    /// Judges what a lock waits for.
    fn judge_from(&mut self, call: &mut Call<'_>, l: u32) {
        if !self.locks[l].is_pending() {
            return;
        }
        // [PREVENT-3] One that was restored has waited on.
        if self.is_of_wounded(l) && !self.is_frozen_at(self.locks[l].resource) {
            return self.refuse_wait(call, l, Refusal::Aborted);
        }
        if !self.prevents_at(self.locks[l].resource) || !self.is_edge(l) {
            return;
        }
        // [PREVENT-4] Also where no single holder is what it waits for, as may be with permits.
        if self.age_of_lock(l).is_none() {
            return self.refuse_wait(call, l, Refusal::WouldWait);
        }
        let mut blockers = Vec::new();
        self.judged_edges(l, &mut blockers);
        self.judge(call, l, blockers);
    }

    /// Judges who waits for a lock.
    fn judge_to(&mut self, call: &mut Call<'_>, l: u32) {
        let resource = self.locks[l].resource;
        if !self.prevents_at(resource) || self.queue(resource).is_none() {
            return;
        }
        // The last of the queue keeps nobody waiting: most that come need not look at the others.
        if self.locks[l].state == State::Waiting && self.keeps_nobody_waiting(l) {
            return;
        }
        let waiting = self.ring(resource, Ring::Converting).chain(self.ring(resource, Ring::Waiting));
        let waiting = waiting.filter(|w| *w != l && self.is_edge(*w) && self.waits_for(*w, l));
        let waiting: Vec<(u32, u32)> = waiting.map(|w| (w, self.locks[w].generation)).collect();
        let joint = (l, self.locks[l].generation);
        for (w, generation) in waiting {
            let waits = |table: &Table| table.is_still(w, generation) && table.locks[w].is_pending();
            if waits(self) && self.is_still(joint.0, joint.1) {
                self.judge(call, w, alloc::vec![l]);
                // Who stood in line behind one that had to go stands behind this one now.
                if !waits(self) {
                    call.joints.push(joint);
                }
            } else if waits(self) {
                call.joints.push((w, generation));
            }
        }
    }

    /// Whether `w` waits for `l` or, of permits, for another lock of its owner.
    fn waits_for(&self, w: u32, l: u32) -> bool {
        let resource = self.locks[l].resource;
        let Some(wish) = self.wish(w) else { return false };
        let hard = match self.pool(resource) {
            None => self.locks[l].is_held() && self.hinders(&wish, l),
            Some(_) => {
                let actor = self.actor_of(l);
                let mut same = self.ring(resource, Ring::Granted).filter(|h| self.actor_of(*h) == actor);
                same.any(|h| self.hinders(&wish, h))
            }
        };
        if hard || !self.locks[l].is_pending() {
            return hard;
        }
        let mut soft = Vec::new();
        self.soft_edges(w, &mut soft);
        soft.into_iter().any(|edge| edge.blocker == l)
    }

    fn judged_edges(&self, w: u32, blockers: &mut Vec<u32>) {
        let mut edges = Vec::new();
        self.edges_of(w, &mut edges);
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::OrderForgotten) {
            edges.retain(|edge| edge.hard);
        }
        blockers.extend(edges.into_iter().map(|edge| edge.blocker));
    }

    fn judge(&mut self, call: &mut Call<'_>, w: u32, blockers: Vec<u32>) {
        let verdicts: Vec<Verdict> = blockers.into_iter().map(|blocker| self.verdict(w, blocker)).collect();
        let end = verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Ends(why) => Some(*why),
            Verdict::Stands | Verdict::Wounds(_) => None,
        });
        if let Some(why) = end {
            return self.refuse_wait(call, w, why);
        }
        for verdict in verdicts {
            if let Verdict::Wounds(owner) = verdict {
                self.wound(call, owner);
                // The younger one may have stood in line before it: now it waits for whom that waited for.
                call.joints.push((w, self.locks[w].generation));
            }
        }
    }

    /// Who may wait for whom.
    fn verdict(&self, w: u32, blocker: u32) -> Verdict {
        let (from, to) = (self.actor_of(w), self.actor_of(blocker));
        let age = match self.txn_of(from) {
            Txn::Running(age) => age,
            Txn::Wounded(_) => return Verdict::Ends(Refusal::Aborted),
            // [PREVENT-4] In no transaction it waits for nobody.
            Txn::Outside => return Verdict::Ends(Refusal::WouldWait),
        };
        // What one holds oneself is no matter of age: a search finds that ([DEAD-10]).
        if from == to {
            return Verdict::Stands;
        }
        let policy = self.space_of(self.locks[w].resource).space.deadlock;
        match (policy, self.txn_of(to)) {
            // [PREVENT-4] One that is in no transaction is younger than all that are.
            (_, Txn::Outside) => Verdict::Stands,
            // [PREVENT-1] For younger ones only.
            (DeadlockPolicy::WaitDie, Txn::Running(other) | Txn::Wounded(other)) if age.is_older_than(other) => {
                Verdict::Stands
            }
            // [PREVENT-3] It waits for nothing any more, and so for nobody who waits for it.
            (DeadlockPolicy::WoundWait, Txn::Wounded(_)) => Verdict::Stands,
            (DeadlockPolicy::WoundWait, Txn::Running(other)) if other.is_older_than(age) => Verdict::Stands,
            // [PREVENT-2] The younger one gives way.
            (DeadlockPolicy::WoundWait, Txn::Running(other)) if age.is_older_than(other) => match to {
                Some(Actor::Owner(owner)) => Verdict::Wounds(OwnerId(owner)),
                Some(Actor::Lock(_)) | None => Verdict::Stands,
            },
            // [PREVENT-1] Older, [PREVENT-2] or of one age: neither waits for the other.
            (_, Txn::Running(_) | Txn::Wounded(_)) => Verdict::Ends(Refusal::Aborted),
        }
    }

    fn refuse_wait(&mut self, call: &mut Call<'_>, l: u32, why: Refusal) {
        let resource = self.locks[l].resource;
        self.end_wait(call, l, End::Refused(why));
        self.settle(call, resource);
    }

    /// [PREVENT-3] Tells an owner to end its transaction, once: it waits for nothing any more, and keeps what it holds until it has
    /// undone what it did with it.
    fn wound(&mut self, call: &mut Call<'_>, owner: OwnerId) {
        let Some(entry) = self.owners.find_mut(owner) else { return };
        let Txn::Running(age) = entry.txn else { return };
        entry.txn = Txn::Wounded(age);
        let (first, pending) = (entry.first, entry.pending as usize);
        call.fx.push(Effect::Wounded { owner });
        let waits = self.owner_ring(first).take(pending).filter(|l| !self.locks[*l].traits.has(Traits::ALONE));
        let waits: Vec<u32> = waits.collect();
        let mut resources: Vec<u32> = waits.iter().map(|l| self.locks[*l].resource).collect();
        // All of them first, so that it is granted nothing while they end.
        for l in waits {
            self.end_wait(call, l, End::Refused(Refusal::Aborted));
        }
        resources.sort_unstable();
        resources.dedup();
        for resource in resources {
            self.settle(call, resource);
        }
    }

    // ------------------------------------------------------------------ check

    /// For [`Table::check`]: nobody waits for somebody it may not wait for.
    pub(crate) fn check_ages(&self) -> Result<(), String> {
        for (index, owner) in self.owners.iter() {
            for l in self.owner_ring(owner.first).take(owner.pending as usize) {
                let resource = self.locks[l].resource;
                if self.is_of_wounded(l) && !self.is_frozen_at(resource) {
                    return Err(format!("owner {index} is wounded, and waits with lock {l}"));
                }
                if self.prevents_at(resource) && self.is_edge(l) {
                    self.check_edges(l)?;
                }
            }
        }
        Ok(())
    }

    fn check_edges(&self, l: u32) -> Result<(), String> {
        if self.age_of_lock(l).is_none() {
            return Err(format!("lock {l} waits for no transaction"));
        }
        let mut blockers = Vec::new();
        self.judged_edges(l, &mut blockers);
        match blockers.into_iter().find(|b| !matches!(self.verdict(l, *b), Verdict::Stands)) {
            Some(b) => Err(format!("lock {l} waits for lock {b}, whose transaction it may not wait for")),
            None => Ok(()),
        }
    }
}
