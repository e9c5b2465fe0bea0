//! Release, the end of an owner, and locks taken away.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    Flags, LockId, Refusal, SpaceId, Time, Token,
    flags::FlagUse,
    reply::{ChangeEvent, Revoked},
    request::ReleaseRequest,
};

use crate::{
    Effect, Ending, OwnerId, Table,
    lock::{State, Traits},
    owner::ORPHANS,
    store::Ring,
    table::Call,
    waits::End,
};

impl Table {
    /// Releases a lock.
    ///
    /// # Errors
    /// `NotHeld` where the owner has no such lock, `Busy` where it waits or converts and there is no FORCEUNLOCK; else
    /// what is wrong with the flags or the value.
    pub fn release(
        &mut self,
        now: Time,
        owner: OwnerId,
        req: &ReleaseRequest<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        // [REL-1] One's own lock.
        let l = self.find_lock(owner, req.lock).ok_or(Refusal::NotHeld)?;
        req.flags.check(FlagUse::Release)?;
        let (resource, state) = (self.locks[l].resource, self.locks[l].state);
        self.check_value(resource, req.flags, req.value)?;
        self.check_extent_of(l, req.flags)?;
        // [REL-2] While something is pending on it only FORCEUNLOCK releases it, and cancels what is pending.
        if self.locks[l].is_pending() && !req.flags.has(Flags::FORCEUNLOCK) {
            return Err(Refusal::Busy);
        }
        let mut call = Call::new(now, fx);
        if state != State::Granted {
            self.end_wait(&mut call, l, End::Cancelled);
        }
        if state != State::Waiting {
            self.drop_held(&mut call, l, req.flags, req.value.map(Into::into));
        }
        // [REL-3] What it kept waiting is served.
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        Ok(())
    }

    /// Ends an owner. What it waited for is refused `lost`; its PERSISTENT locks become orphans, the others go.
    pub fn end_owner(&mut self, now: Time, owner: OwnerId, ending: Ending, fx: &mut Vec<Effect>) {
        let Some(label) = self.owners.find(owner).map(|o| o.label) else { return };
        let mut call = Call::new(now, fx);
        let locks: Vec<u32> = self.locks_of(owner).collect();
        let mut resources: Vec<u32> = locks.iter().map(|l| self.locks[*l].resource).collect();
        // [REL-4] First all its waits, so that it is granted nothing while it ends.
        let pending = locks.iter().take_while(|l| self.locks[**l].is_pending()).count();
        let held =
            locks.iter().enumerate().filter(|(i, l)| *i >= pending || self.locks[**l].state == State::Converting);
        let held: Vec<u32> = held.map(|(_, l)| *l).collect();
        for l in locks.into_iter().take(pending) {
            self.end_wait(&mut call, l, End::Refused(Refusal::Lost));
        }
        for l in held {
            if self.locks[l].traits.has(Traits::PERSISTENT) {
                self.make_orphan(l, label);
            } else {
                // [VALUE-8] Lost in a writing mode: the value block is not to be trusted. [VALUE-9] After a goodbye it is.
                let flags = if ending == Ending::Crash { Flags::IVVALBLK } else { Flags::NONE };
                self.drop_held(&mut call, l, flags, None);
            }
        }
        self.owners.remove(owner.0);
        self.nest.remove(owner.0);
        resources.sort_unstable();
        resources.dedup();
        for resource in resources {
            self.settle(&mut call, resource);
        }
        self.resolve(&mut call);
    }

    /// Takes a lock from its holder, who is told. Guarded: the token must be the lock's.
    ///
    /// # Errors
    /// `NoLockspace`; `NotHeld` where no lock on the name has that token.
    pub fn force_release(
        &mut self,
        now: Time,
        space: SpaceId,
        name: &[u8],
        token: Token,
        fx: &mut Vec<Effect>,
    ) -> Result<LockId, Refusal> {
        let space = self.spaces.find(space).ok_or(Refusal::NoLockspace)?;
        let resource = self.find_resource(space, self.without_extent(space, name)).0.ok_or(Refusal::NotHeld)?;
        let mut holders = self.ring(resource, Ring::Granted).chain(self.ring(resource, Ring::Converting));
        // [REL-5] Exactly the grant that was meant: a holder that came since has another token.
        let l = holders.find(|l| self.token(*l) == token).ok_or(Refusal::NotHeld)?;
        drop(holders);
        let id = self.id(l);
        let mut call = Call::new(now, fx);
        self.revoke(&mut call, l, Revoked::Forced);
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        Ok(id)
    }

    /// Takes a held lock away. Its holder may have been at work, so a writing mode leaves the value block invalid.
    pub(crate) fn revoke(&mut self, call: &mut Call<'_>, l: u32, why: Revoked) {
        let (owner, id) = (self.locks[l].owner, self.id(l));
        if self.locks[l].state == State::Converting {
            self.end_wait(call, l, End::Refused(Refusal::Lost));
        }
        self.drop_held(call, l, Flags::IVVALBLK, None);
        if owner != ORPHANS {
            call.fx.push(Effect::Revoked { owner: OwnerId(owner), lock: id, why });
        }
    }

    /// Ends all that is at a resource whose lockspace goes.
    pub(crate) fn revoke_all(&mut self, call: &mut Call<'_>, resource: u32) {
        let rings = [Ring::Waiting, Ring::Converting, Ring::Granted];
        let all: Vec<u32> = rings.into_iter().flat_map(|ring| self.ring(resource, ring)).collect();
        for l in all {
            let state = self.locks[l].state;
            if state != State::Granted {
                self.end_wait(call, l, End::Refused(Refusal::NoLockspace));
            }
            if state != State::Waiting {
                self.revoke(call, l, Revoked::SpaceDropped);
            }
        }
    }

    /// Drops a lock that is granted. The queues are not served yet.
    pub(crate) fn drop_held(&mut self, call: &mut Call<'_>, l: u32, flags: Flags, value: Option<Box<[u8]>>) {
        let (resource, mode) = (self.locks[l].resource, self.locks[l].mode);
        // [VALUE-3] A release from a writing mode writes.
        if !self.is_last(l) && !self.is_partial(l) {
            self.transfer(resource, (Some(mode), None), flags, value);
        }
        self.changed(call, l, ChangeEvent::Released);
        if self.locks[l].owner == ORPHANS {
            self.labels.remove(&l);
        }
        self.leave(l);
        self.remove_held(l, mode);
        self.free_lock(l);
    }

    /// Whether it is the last lock of its resource, so that the value block goes with it.
    fn is_last(&self, l: u32) -> bool {
        let at = self.locks[l].resource;
        let alone = self.resources[at].holders == 1 && self.queue(at).is_none();
        alone && !self.is_frozen_at(at) && !self.space_of(at).space.persistent
    }
}
