//! Granting: the change of state when a grant was decided, and serving the queues after anything was freed.

use alloc::boxed::Box;

use lockstead_types::{
    Flags, Mode,
    reply::{ChangeEvent, Grant},
};

use crate::{
    Effect, Outcome, OwnerId, Table,
    grant::{Ask, Place, Standing, What, may_grant},
    lock::{State, Told, Traits},
    owner::ORPHANS,
    slab::NIL,
    store::Ring,
    table::Call,
};

/// A grant that has been decided.
pub(crate) struct Granting {
    pub(crate) origin: u64,
    pub(crate) mode: Mode,
    pub(crate) flags: Flags,
    pub(crate) ticket: u64,
    pub(crate) alternative: bool,
    pub(crate) demoted: bool,
    pub(crate) value: Option<Box<[u8]>>,
}

impl Table {
    /// Serves the queues of a resource after a change there, and tells those in the way of what is left.
    #[inline]
    pub(crate) fn settle(&mut self, call: &mut Call<'_>, resource: u32) {
        // Nothing waits there; where the last lock went, the resource is gone, and its queue with it.
        if self.queue(resource).is_none() {
            return;
        }
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::NoPromote) {
            return;
        }
        if self.is_spread(resource) {
            return self.settle_spread(call, resource);
        }
        self.promote(call, resource);
        self.notify(call, resource);
    }

    /// [GRANT-8] CONVERTING from its head until nothing more is granted, then WAITING.
    fn promote(&mut self, call: &mut Call<'_>, resource: u32) {
        // [GRANT-8] In this order: a conversion comes before every new request.
        loop {
            while self.promote_ring(call, resource, Ring::Converting) {}
            if !self.promote_ring(call, resource, Ring::Waiting) {
                break;
            }
        }
    }

    /// One pass over a queue; whether anything changed.
    fn promote_ring(&mut self, call: &mut Call<'_>, resource: u32, ring: Ring) -> bool {
        let mut changed = false;
        let mut l = self.head(resource, ring);
        while l != NIL {
            let head = self.head(resource, ring);
            let next = self.after(head, l);
            let place = if l == head { Place::Head } else { Place::Behind };
            let granted = self.serve(call, l, place);
            changed |= granted;
            // Behind one that waits only the irregular can go.
            let irregular = self.queue(resource).is_some_and(|q| q.irregular > 0 || q.due > 0);
            #[cfg(feature = "planted")]
            let irregular = irregular || lockstead_types::planted::is(lockstead_types::planted::Bug::QueueJumped);
            if !granted && !irregular {
                break;
            }
            l = next;
        }
        changed
    }

    /// Grants, or demotes, one that waits if the rules allow it now.
    pub(crate) fn serve(&mut self, call: &mut Call<'_>, l: u32, place: Place) -> bool {
        let Some(mode) = self.grantable(l, place) else {
            return self.demote_if_deadlocked(l);
        };
        let alternative = self.wait(l).is_some_and(|w| w.want != mode);
        let Some(wait) = self.leave(l) else { return false };
        let granting = Granting {
            origin: wait.origin,
            mode,
            flags: wait.flags,
            ticket: wait.ticket,
            alternative,
            demoted: wait.demoted,
            value: wait.value,
        };
        self.complete(call, l, granting);
        true
    }

    /// The mode in which one that waits may be granted now, its alternative one included.
    pub(crate) fn grantable(&self, l: u32, place: Place) -> Option<Mode> {
        let wait = self.wait(l)?;
        if self.fits_now(l, wait.want, wait.flags, wait.ticket, place) {
            return Some(wait.want);
        }
        let converting = self.locks[l].state == State::Converting;
        let alternative = self.alternative(self.locks[l].resource, wait.want, wait.flags)?;
        // As in fs/dlm, one in a conversion deadlock tries no alternative.
        if converting && self.in_conversion_deadlock(l).is_some() {
            return None;
        }
        // [GRANT-9] The alternative is tried at every scan, not only on arrival.
        self.fits_now(l, alternative, wait.flags, wait.ticket, place).then_some(alternative)
    }

    /// The mode of ALTPR or ALTCW, where it is another than the one wanted.
    pub(crate) fn alternative(&self, resource: u32, want: Mode, flags: Flags) -> Option<Mode> {
        let [pr, cw] = self.space_of(resource).alternatives;
        let mode = if flags.has(Flags::ALTPR) {
            pr
        } else if flags.has(Flags::ALTCW) {
            cw
        } else {
            None
        };
        mode.filter(|m| *m != want)
    }

    /// Whether a lock that is there may have `mode` now.
    pub(crate) fn fits_now(&self, l: u32, mode: Mode, flags: Flags, ticket: u64, place: Place) -> bool {
        let lock = &self.locks[l];
        let held = lock.is_held().then_some(lock.mode);
        let what = if lock.traits.has(Traits::PERMITS) { What::Permits(self.take(l)) } else { What::Mode(mode) };
        let asker = if lock.traits.has(Traits::EXTENT) { self.asker(l) } else { None };
        let mut standing = match &asker {
            Some(asker) => self.standing_beside(lock.resource, asker, mode, place),
            None => self.standing(lock.resource, place),
        };
        if held.is_some() && asker.is_none() {
            standing.others = self.held_by_others(l);
        }
        standing.held_back = self.is_held_back(lock.resource, l, asker.as_ref(), ticket, held, mode);
        standing.due = lock.is_pending() && self.is_due(l);
        may_grant(self.modes_of(lock.resource), &Ask { what, held, flags }, &standing)
    }

    /// How things stand at a resource for one that holds nothing there.
    pub(crate) fn standing(&self, resource: u32, place: Place) -> Standing {
        let queue = self.queue(resource);
        Standing {
            others: self.resources[resource].held,
            free: self.pool(resource).map_or(0, |p| p.of.saturating_sub(p.taken)),
            place,
            converting: queue.is_some_and(|q| q.converting > 0),
            waiting: queue.is_some_and(|q| q.waiting > 0),
            closed: self.is_frozen_at(resource) || self.is_exhausted(),
            held_back: false,
            due: false,
        }
    }

    /// Makes a decided grant so. The lock is new, or held and converted in place, or has just left its queue.
    pub(crate) fn complete(&mut self, call: &mut Call<'_>, l: u32, g: Granting) {
        let lock = &self.locks[l];
        let (resource, old) = (lock.resource, self.holds(l));
        let down = old.is_some_and(|held| self.modes_of(resource).is_down(held, g.mode));
        if let Some(old) = old {
            self.remove_held(l, old);
        }
        self.locks[l].mode = g.mode;
        self.locks[l].told = Told::NOTHING;
        if self.locks[l].state != State::Granted {
            self.enter(l, State::Granted, NIL);
        }
        self.add_held(l, g.mode);
        #[cfg(feature = "planted")]
        let down = down || (old.is_some() && lockstead_types::planted::is(lockstead_types::planted::Bug::SameToken));
        if !down {
            // [TOKEN-2] Every grant and every granted conversion has a token of its own; [TOKEN-3] a conversion down
            // keeps the one it had.
            let token = self.next_token(call.now);
            self.set_token(l, token);
            self.locks[l].traits = self.locks[l].traits.without(Traits::FOREIGN);
        }
        let value =
            if self.is_partial(l) { None } else { self.transfer(resource, (old, Some(g.mode)), g.flags, g.value) };
        if self.queue(resource).is_some() {
            self.after_grant(call, l, g.ticket, old, down);
        }
        self.changed(call, l, ChangeEvent::Granted);
        let grant = Grant {
            lock: self.id(l),
            claim: self.claim(l, g.mode),
            token: self.token(l),
            value,
            demoted: g.demoted,
            alternative: g.alternative,
            seal: None,
        };
        if call.caller == l {
            call.answer = Some(Ok(Outcome::Granted(grant)));
        } else {
            call.fx.push(Effect::Granted { owner: OwnerId(self.locks[l].owner), origin: g.origin, grant });
        }
    }

    /// What a grant means to those that wait at the same resource.
    fn after_grant(&mut self, call: &mut Call<'_>, l: u32, ticket: u64, old: Option<Mode>, down: bool) {
        let resource = self.locks[l].resource;
        self.queue_mut(resource).told_for = None;
        if self.locks[l].traits.has(Traits::EXTENT) {
            self.tell_of(l);
        }
        if !down {
            self.count_overtakes(call, l, ticket, old);
        }
        // Whoever waits here may wait for this owner now, which may wait elsewhere. A conversion down can do that too:
        // it may have come without the NODLCKBLK the lock had.
        self.suspect(call, l);
    }

    /// The mode a lock holds. One that has just left CONVERTING, and is in no queue, still holds.
    pub(crate) fn holds(&self, l: u32) -> Option<Mode> {
        let lock = &self.locks[l];
        let holds = lock.is_held() || (lock.state == State::Vacant && self.token(l) != Default::default());
        holds.then_some(lock.mode)
    }

    /// Tells watchers of a change.
    #[inline]
    pub(crate) fn changed(&self, call: &mut Call<'_>, l: u32, event: ChangeEvent) {
        if self.watching {
            self.tell_change(call, l, event);
        }
    }

    #[cold]
    fn tell_change(&self, call: &mut Call<'_>, l: u32, event: ChangeEvent) {
        let lock = &self.locks[l];
        let mode = self.wait(l).map_or(lock.mode, |w| w.want);
        call.fx.push(Effect::Changed {
            owner: (lock.owner != ORPHANS).then_some(OwnerId(lock.owner)),
            space: self.space_of(lock.resource).id,
            name: self.full_name(l),
            lock: self.id(l),
            event,
            claim: self.claim(l, mode),
            token: self.token(l),
        });
    }
}
