//! Orphans: PERSISTENT locks whose owner ended. They go on blocking until somebody adopts or purges them.

use alloc::vec::Vec;

use lockstead_types::{
    Flags, LimitName, Refusal, SessionId, SpaceId, Time,
    reply::{ChangeEvent, Grant},
    request::{LockRequest, OwnerRef},
};

use crate::{
    Effect, Outcome, OwnerId, Table,
    lock::{Told, Traits},
    owner::ORPHANS,
    store::Ring,
    table::Call,
};

impl Table {
    /// [ORPHAN-1] A PERSISTENT lock outlives its owner, in the mode it held.
    pub(crate) fn make_orphan(&mut self, l: u32, label: Option<SessionId>) {
        // [ORPHAN-1] Nobody's, and held.
        self.give_to(l, ORPHANS);
        self.labels.insert(l, label);
    }

    fn give_to(&mut self, l: u32, owner: u32) {
        self.owners.unlink(&mut self.locks, l, false);
        self.locks[l].owner = owner;
        self.locks[l].told = Told::NOTHING;
        self.owners.link(&mut self.locks, l);
    }

    /// Adopts an orphan.
    pub(crate) fn adopt(
        &mut self,
        call: &mut Call<'_>,
        owner: OwnerId,
        resource: Option<u32>,
        req: &LockRequest<'_>,
    ) -> Result<Outcome, Refusal> {
        // [SLOT-2] It is not known yet which orphans there are, nor who else claims what they hold: adopted now, with a new
        // token, an orphan would beat the claim of a holder that is newer than the orphan.
        if self.is_frozen_name(req.space, req.name) {
            return Err(Refusal::WouldWait);
        }
        let resource = resource.ok_or(Refusal::NotHeld)?;
        // [RANGE-6] No part of a resource outlives its owner.
        let partial =
            self.named(self.resources[resource].space, req.name)?.extent.is_some_and(|extent| !extent.is_whole());
        if partial {
            return Err(Refusal::NotHeld);
        }
        let is_orphan = |l: &u32| self.locks[*l].owner == ORPHANS;
        let fits = |l: &u32| is_orphan(l) && self.claim(*l, self.locks[*l].mode) == req.claim;
        let Some(l) = self.ring(resource, Ring::Granted).find(fits) else {
            let other = self.ring(resource, Ring::Granted).any(|l| is_orphan(&l));
            // [ORPHAN-3] None there: `not-held`; one in another mode: `would-wait`, as fs/dlm says EAGAIN.
            return Err(if other { Refusal::WouldWait } else { Refusal::NotHeld });
        };
        if self.owner_locks(owner) >= self.limits.locks_per_session {
            return Err(Refusal::Limit(LimitName::LocksPerSession));
        }
        if self.is_exhausted() {
            return Err(Refusal::NoQuorum);
        }
        // [ORPHAN-2] Exactly the mode: it is the adopter's now, with the adopter's tag and flags.
        self.labels.remove(&l);
        self.give_to(l, owner.0);
        self.set_flags(l, req.flags);
        let traits = self.locks[l].traits;
        self.locks[l].traits =
            traits.without(Traits::ALONE).without(Traits::FOREIGN).with_if(req.owner == OwnerRef::Alone, Traits::ALONE);
        if req.tag != self.tag(l) {
            self.side_mut(l).tag = req.tag;
        }
        // [ORPHAN-4] A new token, so that whatever the dead owner still sends out is stale.
        let token = self.next_token(call.now);
        self.set_token(l, token);
        self.changed(call, l, ChangeEvent::Granted);
        let value = req.flags.has(Flags::VALBLK).then(|| self.value(resource));
        let (lock, claim) = (self.id(l), req.claim);
        if self.queue(resource).is_some() {
            self.queue_mut(resource).told_for = None;
            self.tell_of(l);
            // [RANGE-3] It may be in the way of the adopter's own parts no more.
            self.wake_beside(l);
            // Those it keeps waiting wait for the adopter now, which may wait elsewhere.
            self.suspect(call, l);
        }
        self.settle(call, resource);
        self.resolve(call);
        Ok(Outcome::Granted(Grant { lock, claim, token, value, demoted: false, alternative: false, seal: None }))
    }

    /// Drops orphans of a lockspace: all, or those of one session. How many ([ORPHAN-5]).
    pub fn purge(&mut self, now: Time, space: SpaceId, session: Option<SessionId>, fx: &mut Vec<Effect>) -> u32 {
        let Some(space) = self.spaces.find(space) else { return 0 };
        let here = |l: u32| self.resources[self.locks[l].resource].space == space;
        let whose = |label: &Option<SessionId>| session.is_none() || *label == session;
        let chosen = self.labels.iter().filter(|(l, label)| here(**l) && whose(label));
        let chosen: Vec<u32> = chosen.map(|(l, _)| *l).collect();
        let mut call = Call::new(now, fx);
        for l in &chosen {
            let resource = self.locks[*l].resource;
            // [ORPHAN-5] Whoever held it died before it could write: a writing mode leaves the value block invalid.
            self.drop_held(&mut call, *l, Flags::IVVALBLK, None);
            self.settle(&mut call, resource);
        }
        self.resolve(&mut call);
        chosen.len() as u32
    }
}
