//! The ages of transactions in the random worlds, and what lockspaces that prevent deadlocks promise: a model of its own, since it knows
//! more of a lock than the others.

use lockstead_table::{Effect, OwnerId};
use lockstead_types::{
    Age, LockId, Slot, SpaceId,
    report::{DeadlockReport, Holder, VictimReason},
    request::Claim,
    space::DeadlockPolicy,
};

use super::{Dice, Known, World};

pub(super) fn draw_policy(dice: &mut Dice) -> DeadlockPolicy {
    match dice.below(12) {
        0 => DeadlockPolicy::Timeout,
        1 => DeadlockPolicy::NoWait,
        2..5 => DeadlockPolicy::WaitDie,
        5..8 => DeadlockPolicy::WoundWait,
        _ => DeadlockPolicy::Detect,
    }
}

impl World {
    /// A transaction begins, anew or with the age it had first, or ends.
    pub(super) fn begin_or_end(&mut self, fx: &mut Vec<Effect>) {
        let owner = self.dice.pick(&self.owners);
        self.set_age(owner, fx);
        self.learn(fx);
    }

    pub(super) fn set_age(&mut self, owner: OwnerId, fx: &mut Vec<Effect>) {
        let age = (!self.dice.one_in(4)).then(|| Age { scn: 1 + self.dice.below(6), tie: 0 });
        if self.ages.get(&owner).map(|(age, _)| *age) == age {
            // Said again: nothing changes.
            self.table.set_owner_age(self.now, owner, age, fx);
            return assert!(fx.is_empty());
        }
        self.ages.remove(&owner);
        if let Some(age) = age {
            self.ages.insert(owner, (age, false));
        }
        self.table.set_owner_age(self.now, owner, age, fx);
    }

    pub(super) fn is_wounded(&self, owner: OwnerId) -> bool {
        self.ages.get(&owner).is_some_and(|(_, wounded)| *wounded)
    }

    pub(super) fn learn_wound(&mut self, owner: OwnerId) {
        self.wounded += 1;
        let age = self.ages.get_mut(&owner).expect("only a transaction is wounded");
        assert!(!core::mem::replace(&mut age.1, true), "wounded once");
    }

    /// [PREVENT-1] to [PREVENT-5]: by modes and ages alone for those that hold, by the table's own edges for the order of queues.
    pub(super) fn prove_ages(&self) {
        for (place, (space, modes, _)) in self.spaces.iter().enumerate() {
            let policy = self.policies[place];
            if !policy.prevents() {
                continue;
            }
            let frozen = |name: &[u8]| self.table.is_frozen_slot(Slot::of(0, *space, name));
            let here = |l: &&Known| l.space == *space && !frozen(&l.name);
            let waits = |l: &&Known| l.wait.as_ref().is_some_and(|wait| !wait.no_edge && !wait.alternative);
            for waiter in self.locks.values().filter(here).filter(waits) {
                let Some(Claim::Mode(want)) = waiter.wait.as_ref().map(|wait| wait.want) else { continue };
                let holds = |l: &&Known| matches!(l.held, Some(Claim::Mode(held)) if !modes.compatible(want, held));
                let others = self.locks.values().filter(here).filter(|l| l.name == waiter.name && !l.no_edge);
                let others = others.filter(|l| l.owner != waiter.owner && !l.alone && !l.unsure);
                for holder in others.filter(holds) {
                    self.prove_age(policy, waiter, holder);
                }
            }
            self.prove_no_cycle(*space);
        }
    }

    fn prove_age(&self, policy: DeadlockPolicy, waiter: &Known, holder: &Known) {
        let age = |l: &Known| l.owner.and_then(|owner| self.ages.get(&owner));
        let (Some((from, false)), false) = (age(waiter), waiter.alone) else { panic!("{waiter:?} waits") };
        let right = match (policy, age(holder)) {
            (_, None) | (DeadlockPolicy::WoundWait, Some((_, true))) => true,
            (DeadlockPolicy::WaitDie, Some((to, _))) => from.is_older_than(*to),
            (_, Some((to, _))) => to.is_older_than(*from),
        };
        assert!(right, "{waiter:?} waits for {holder:?}");
    }

    /// Whether a cycle lies in lockspaces of one rule that prevents: no search may find one there ([PREVENT-6]). One that waits for
    /// itself, or to convert against one that converts, is another matter ([DEAD-1]).
    pub(super) fn was_preventable(&self, report: &DeadlockReport, owners: &[(OwnerId, OwnerId)]) -> bool {
        let policy = |space: SpaceId| self.spaces.iter().position(|s| s.0 == space).map(|place| self.policies[place]);
        let policies: Vec<_> = report.cycle.iter().filter_map(|edge| policy(edge.space)).collect();
        let one_rule = policies.iter().all(|policy| policy.prevents() && *policy == policies[0]);
        one_rule && report.why != VictimReason::Conversion && owners.iter().any(|(from, to)| from != to)
    }

    fn prove_no_cycle(&self, space: SpaceId) {
        let nobody = |_: OwnerId| Holder::default();
        let edges = self.table.waits(self.now, 1_000, &nobody).edges;
        let known = |lock: &LockId| self.locks.get(lock).filter(|l| l.space == space);
        let counts = |l: &Known| {
            let frozen = self.table.is_frozen_slot(Slot::of(0, space, &l.name));
            !frozen && l.wait.as_ref().is_some_and(|wait| !wait.no_edge)
        };
        let owner = |l: &Known| l.owner.filter(|_| !l.alone);
        let ends = edges.iter().filter_map(|e| {
            let waiter = known(&e.waiter.lock).filter(|l| counts(l))?;
            Some((owner(waiter)?, owner(known(&e.blocker.lock)?)?))
        });
        let mut left: Vec<(OwnerId, OwnerId)> = ends.filter(|(from, to)| from != to).collect();
        // Whoever waits for nobody ends, and those that wait for it go on: what is left at last is a cycle.
        loop {
            let before = left.clone();
            left.retain(|(_, to)| before.iter().any(|(from, _)| from == to));
            if left.len() == before.len() {
                return assert!(left.is_empty(), "a cycle of waits where none can be: {left:?}");
            }
        }
    }
}
