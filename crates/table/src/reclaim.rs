//! After a restart: locks of before are taken back while nothing new is granted.

use alloc::vec::Vec;

use lockstead_types::{
    Flags, Refusal, Time,
    message::Reclaim,
    reply::{ChangeEvent, Grant, Revoked},
    request::Claim,
};

use crate::{
    Effect, OwnerId, Table,
    block::mode_of,
    lock::{State, Traits},
    resource::Pool,
    slab::NIL,
    store::Ring,
    table::Call,
};

impl Table {
    /// Ends the freeze and serves every queue ([FREEZE-2]).
    pub fn thaw(&mut self, now: Time, fx: &mut Vec<Effect>) {
        if !core::mem::take(&mut self.frozen) {
            return;
        }
        // [FREEZE-2] All that waited through the freeze.
        let mut call = Call::new(now, fx);
        for place in 0..self.extras.places() {
            let resource = self.extras[place].resource;
            if resource != NIL && self.queue(resource).is_some() {
                self.settle(&mut call, resource);
                for ring in [Ring::Converting, Ring::Waiting] {
                    let waiting: Vec<u32> = self.ring(resource, ring).collect();
                    waiting.into_iter().for_each(|l| self.suspect(&mut call, l));
                }
            }
        }
        self.resolve(&mut call);
    }

    /// Takes back a lock of before a restart, with the token it had. A repeated claim is answered the same.
    ///
    /// # Errors
    /// `Lost` where the freeze is over or a conflicting claim has a higher token; `NoLockspace`, `BadMode`, `Invalid`,
    /// `TooLong`, `Busy` where the claim cannot be of this table.
    pub fn reclaim(
        &mut self,
        now: Time,
        owner: OwnerId,
        claim: &Reclaim<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Grant, Refusal> {
        let space = self.spaces.find(claim.space).ok_or(Refusal::NoLockspace)?;
        // [FREEZE-3] Only while frozen: later, others may have been granted it.
        if !self.frozen || self.owners.find(owner).is_none() {
            return Err(Refusal::Lost);
        }
        self.check_claim(space, claim)?;
        let (resource, hash) = self.find_resource(space, claim.name);
        if let Some(resource) = resource {
            if let Some(grant) = self.claimed_before(resource, owner, claim)? {
                return Ok(grant);
            }
        } else if self.resources.used() >= u32::MAX - 1 {
            return Err(Refusal::Limit(lockstead_types::LimitName::Resources));
        }
        let mut call = Call::new(now, fx);
        let rivals = resource.map_or(Ok(Vec::new()), |r| self.rivals(r, claim))?;
        let resource = resource.unwrap_or_else(|| self.make_resource(space, claim.name, hash));
        let l = self.make_claimed(resource, owner, claim);
        self.enter(l, State::Granted, NIL);
        self.add_held(l, mode_of(claim.held));
        self.set_token(l, claim.token);
        // [FREEZE-5] The bytes of the value block went with the node.
        self.invalidate(resource);
        for rival in rivals {
            self.revoke(&mut call, rival, Revoked::Superseded);
        }
        self.changed(&mut call, l, ChangeEvent::Granted);
        let lock = self.id(l);
        if self.queue(resource).is_some() {
            self.queue_mut(resource).told_for = None;
            self.suspect(&mut call, l);
        }
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        Ok(Grant { lock, claim: claim.held, token: claim.token, value: None, demoted: false, alternative: false })
    }

    fn check_claim(&self, space: u16, claim: &Reclaim<'_>) -> Result<(), Refusal> {
        let entry = self.spaces.get(space).ok_or(Refusal::NoLockspace)?;
        if claim.name.len() > lockstead_types::limits::NAME_BYTES_CEILING as usize {
            return Err(Refusal::TooLong);
        }
        let sense = match claim.held {
            Claim::Mode(mode) if !entry.space.modes.has(mode) => return Err(Refusal::BadMode),
            Claim::Mode(_) => true,
            Claim::Permits { take, of } => take > 0 && take <= of,
        };
        // [FREEZE-4] A token of an earlier epoch: a client cannot make one up that would beat those of this one.
        let old = claim.token.epoch() < self.epoch && claim.token.as_u64() > 0;
        if sense && old && !claim.name.is_empty() { Ok(()) } else { Err(Refusal::Invalid) }
    }

    /// The answer to a claim that was made before.
    fn claimed_before(&self, resource: u32, owner: OwnerId, claim: &Reclaim<'_>) -> Result<Option<Grant>, Refusal> {
        let mine = |l: &u32| self.locks[*l].owner == owner.0;
        let mut holders = self.ring(resource, Ring::Granted).chain(self.ring(resource, Ring::Converting));
        let same = holders.find(|l| mine(l) && self.token(*l) == claim.token);
        if let Some(l) = same {
            let held = self.claim(l, self.locks[l].mode);
            let grant = Grant {
                lock: self.id(l),
                claim: held,
                token: claim.token,
                value: None,
                demoted: false,
                alternative: false,
            };
            return Ok(Some(grant));
        }
        let busy = !claim.alone && self.lock_of(resource, owner, claim.tag).is_some();
        if busy { Err(Refusal::Busy) } else { Ok(None) }
    }

    /// [FREEZE-6] Of conflicting claims the higher token wins: the locks this one drives out, or `Lost` if it must yield.
    fn rivals(&self, resource: u32, claim: &Reclaim<'_>) -> Result<Vec<u32>, Refusal> {
        let holders = self.ring(resource, Ring::Granted).chain(self.ring(resource, Ring::Converting));
        let rivals: Vec<u32> = match (claim.held, self.pool(resource)) {
            (Claim::Mode(mode), None) => {
                let modes = self.modes_of(resource);
                let conflict = |l: &u32| {
                    let held = self.locks[*l].mode;
                    !modes.compatible(mode, held) || !modes.compatible(held, mode)
                };
                holders.filter(conflict).collect()
            }
            (Claim::Permits { take, of }, Some(pool)) if pool.of == of => {
                let mut by_age: Vec<u32> = holders.collect();
                by_age.sort_unstable_by_key(|l| self.token(*l));
                let mut free = of.saturating_sub(pool.taken);
                let oldest = by_age.into_iter().take_while(|l| {
                    let more = free < take;
                    free = free.saturating_add(self.take(*l));
                    more
                });
                oldest.collect()
            }
            _ => return Err(Refusal::Invalid),
        };
        // [FREEZE-6] The newer grant is the one that was in force.
        if rivals.iter().any(|l| self.token(*l) > claim.token) { Err(Refusal::Lost) } else { Ok(rivals) }
    }

    fn make_claimed(&mut self, resource: u32, owner: OwnerId, claim: &Reclaim<'_>) -> u32 {
        let permits = matches!(claim.held, Claim::Permits { .. });
        let kept = Flags(claim.flags.0);
        let traits = Traits::of(kept).with_if(claim.alone, Traits::ALONE).with_if(permits, Traits::PERMITS);
        let l = self.make_lock(resource, owner.0, mode_of(claim.held), traits);
        if claim.tag != 0 {
            self.side_mut(l).tag = claim.tag;
        }
        if let Claim::Permits { take, of } = claim.held {
            self.side_mut(l).take = take;
            self.extra_mut(resource).permits.get_or_insert(Pool { of, taken: 0 });
        }
        l
    }
}
