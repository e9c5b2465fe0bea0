//! A conversion: in place, down, queued, or caught in a conversion deadlock.

use alloc::vec::Vec;

use lockstead_types::{
    Flags, Mode, Refusal, Time,
    flags::FlagUse,
    report::VictimReason,
    request::{Claim, ConvertRequest},
};

use crate::{
    Effect, Outcome, OwnerId, Table,
    extents::Asker,
    grant::Place,
    lock::{State, Traits},
    promote::Granting,
    request::check_alternatives,
    store::Ring,
    table::Call,
    waits::Pending,
};

impl Table {
    /// Converts a lock that is held.
    ///
    /// # Errors
    /// The refusal; the lock is held as before then, and no value was written ([CONV-5]). A refusal after the old mode was
    /// let go of is [`Outcome::Demoted`] ([DEAD-12]).
    pub fn convert(
        &mut self,
        now: Time,
        owner: OwnerId,
        origin: u64,
        req: &ConvertRequest<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let l = self.find_lock(owner, req.lock).ok_or(Refusal::NotHeld)?;
        self.check_conversion(l, req)?;
        let before = self.locks[l].traits;
        let mut call = Call::new(now, fx);
        call.caller = l;
        let (resource, ticket) = (self.locks[l].resource, self.next_ticket());
        let granting = |mode: Mode, demoted: bool| Granting {
            origin,
            mode,
            flags: req.flags,
            ticket,
            alternative: mode != req.mode,
            demoted,
            value: req.value.map(Into::into),
        };
        match self.decide_conversion(&mut call, l, req, ticket)? {
            Decided::Granted { mode, demoted } => {
                self.set_flags(l, req.flags);
                self.complete(&mut call, l, granting(mode, demoted));
            }
            Decided::Queued { demoted } => {
                self.set_flags(l, req.flags);
                let pending = Pending {
                    origin,
                    want: req.mode,
                    flags: req.flags,
                    wait: req.wait,
                    priority: 0,
                    ticket,
                    demoted,
                    value: req.value.map(Into::into),
                };
                self.begin_wait(&mut call, l, pending);
            }
        }
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        let answer = call.answer.unwrap_or(Ok(Outcome::Queued(req.lock)));
        if !matches!(answer, Ok(Outcome::Granted(_) | Outcome::Queued(_))) {
            self.set_traits(l, before);
        }
        answer
    }

    fn check_conversion(&self, l: u32, req: &ConvertRequest<'_>) -> Result<(), Refusal> {
        let lock = &self.locks[l];
        // [CONV-6] One operation on a lock at a time: neither a waiting nor a converting lock can be converted.
        if lock.state != State::Granted {
            return Err(Refusal::Busy);
        }
        // [PERMIT-5] Permits are not converted.
        if lock.traits.has(Traits::PERMITS) {
            return Err(Refusal::Invalid);
        }
        let entry = self.space_of(lock.resource);
        let modes = &entry.space.modes;
        if !modes.has(req.mode) {
            return Err(Refusal::BadMode);
        }
        req.flags.check(FlagUse::Convert)?;
        check_alternatives(entry, true, req.flags)?;
        self.check_extent_of(l, req.flags)?;
        self.check_value(lock.resource, req.flags, req.value)?;
        let down = modes.is_down(lock.mode, req.mode);
        // [CONV-4] QUECVT is for conversions that are not down; for these it makes no sense.
        if req.flags.has(Flags::QUECVT) && down {
            return Err(Refusal::Invalid);
        }
        if down {
            return Ok(());
        }
        // [PREVENT-3] It is to end its transaction first.
        if self.is_of_wounded(l) {
            return Err(Refusal::Aborted);
        }
        self.check_legal_beside_others(l, req.mode)?;
        self.check_orphans(req.flags, lock.traits.has(Traits::PERSISTENT))?;
        // [TOKEN-4] Nothing new can be granted any more in this epoch.
        if self.is_exhausted() { Err(Refusal::NoQuorum) } else { Ok(()) }
    }

    /// [MODE-3] For a conversion: what the lock holds itself does not count.
    fn check_legal_beside_others(&self, l: u32, mode: Mode) -> Result<(), Refusal> {
        let resource = self.locks[l].resource;
        if let Some(asker) = self.asker(l) {
            let illegal = self.modes_of(resource).illegal_with(mode);
            return if self.is_there(resource, &asker, illegal) { Err(Refusal::BadMode) } else { Ok(()) };
        }
        let wanted = self.queue(resource).map_or(Default::default(), |q| q.wanted_set);
        let there = self.held_by_others(l).union(wanted);
        if self.modes_of(resource).illegal_with(mode).is_disjoint(there) { Ok(()) } else { Err(Refusal::BadMode) }
    }

    fn decide_conversion(
        &mut self,
        call: &mut Call<'_>,
        l: u32,
        req: &ConvertRequest<'_>,
        ticket: u64,
    ) -> Result<Decided, Refusal> {
        let resource = self.locks[l].resource;
        if self.fits_now(l, req.mode, req.flags, ticket, Place::Arriving) {
            return Ok(Decided::Granted { mode: req.mode, demoted: false });
        }
        let age = self.age_of_lock(l);
        let waits = !self.never_waits(self.resources[resource].space, age, req.wait, req.flags);
        // [SLOT-2] Nothing is concluded from who waits for whom.
        let rival = if waits && !self.is_frozen_at(resource) { self.in_conversion_deadlock(l) } else { None };
        if let Some(rival) = rival {
            self.check_queue(resource)?;
            if self.is_settled_by_age(l, rival, req.flags) {
                return Ok(Decided::Queued { demoted: false });
            }
            return self.settle_conversion_deadlock(call, l, rival, req, ticket);
        }
        let alternative = self.alternative(resource, req.mode, req.flags);
        if let Some(mode) = alternative.filter(|m| self.check_legal_beside_others(l, *m).is_ok()) {
            // [GRANT-9] The alternative mode, if that can be granted.
            if self.fits_now(l, mode, req.flags, ticket, Place::Arriving) {
                return Ok(Decided::Granted { mode, demoted: false });
            }
        }
        if waits {
            self.check_queue(resource)?;
            return Ok(Decided::Queued { demoted: false });
        }
        if req.flags.has(Flags::NOQUEUEBAST) {
            let extent = self.extent(l).cloned();
            let asker = extent.as_ref().map(|extent| Asker { me: l, actor: self.actor_of(l), extent });
            self.notify_refused(call, resource, asker.as_ref(), Claim::Mode(req.mode));
        }
        // [CONV-5] It would have to wait, and was not to: the old mode stays, no value is written.
        Err(Refusal::WouldWait)
    }

    fn settle_conversion_deadlock(
        &mut self,
        call: &mut Call<'_>,
        l: u32,
        rival: u32,
        req: &ConvertRequest<'_>,
        ticket: u64,
    ) -> Result<Decided, Refusal> {
        let resource = self.locks[l].resource;
        // [DEAD-2] CONVDEADLK: the newcomer falls back to the null mode; others may go then, and then perhaps it.
        if req.flags.has(Flags::CONVDEADLK) && self.demote(l) {
            self.settle(call, resource);
            if self.fits_now(l, req.mode, req.flags, ticket, Place::Arriving) {
                return Ok(Decided::Granted { mode: req.mode, demoted: true });
            }
            return Ok(Decided::Queued { demoted: true });
        }
        // [DEAD-3] NODLCKWT: it waits all the same, for somebody to give way.
        if req.flags.has(Flags::NODLCKWT) {
            return Ok(Decided::Queued { demoted: false });
        }
        // [DEAD-1] Otherwise the newcomer is refused, at once.
        self.report_conversion_deadlock(call, l, rival, req.mode, VictimReason::Conversion);
        Err(Refusal::Deadlock)
    }

    /// A conversion that waits, or is about to, and will wait for ever: `l` holds what keeps the other from its turn. The
    /// other one, if so ([DEAD-1]; `conversion_deadlock_detect` of `fs/dlm`).
    pub(crate) fn in_conversion_deadlock(&self, l: u32) -> Option<u32> {
        let lock = &self.locks[l];
        let modes = self.modes_of(lock.resource);
        let mut behind_me = false;
        for other in self.ring(lock.resource, Ring::Converting) {
            if other == l {
                behind_me = true;
                continue;
            }
            if !self.concern(l, other) {
                continue;
            }
            let Some(wait) = self.wait(other) else { continue };
            let i_block_it = !modes.compatible(wait.want, lock.mode);
            // One behind keeps me waiting only by what it holds.
            let it_blocks_me = || {
                let want = self.wait(l).map(|w| w.want);
                want.is_some_and(|w| !modes.compatible(w, self.locks[other].mode))
            };
            if i_block_it && (!behind_me || it_blocks_me()) {
                return Some(other);
            }
        }
        None
    }

    /// [DEAD-2] At a scan: a conversion with CONVDEADLK that has come to be in a deadlock falls back to the null mode.
    pub(crate) fn demote_if_deadlocked(&mut self, l: u32) -> bool {
        let asks = self.wait(l).is_some_and(|w| w.flags.has(Flags::CONVDEADLK) && !w.demoted);
        if !asks
            || self.is_frozen_at(self.locks[l].resource)
            || self.in_conversion_deadlock(l).is_none()
            || !self.demote(l)
        {
            return false;
        }
        if let Some(wait) = self.wait_mut(l) {
            wait.demoted = true;
        }
        true
    }

    /// Lets a lock hold the null mode instead of its own. `false` where the table has none, or it holds that already.
    pub(crate) fn demote(&mut self, l: u32) -> bool {
        let old = self.locks[l].mode;
        let Some(null) = self.space_of(self.locks[l].resource).null.filter(|n| *n != old) else { return false };
        self.remove_held(l, old);
        self.locks[l].mode = null;
        self.touch(self.locks[l].resource);
        self.add_held(l, null);
        true
    }

    /// [FLAG-8] The flags a lock keeps are those of its last request or conversion that was granted or queued.
    pub(crate) fn set_flags(&mut self, l: u32, flags: Flags) {
        // [FLAG-8] Those of this operation, all of them.
        self.set_traits(l, self.locks[l].traits.replaced(flags));
    }

    fn set_traits(&mut self, l: u32, new: Traits) {
        let old = core::mem::replace(&mut self.locks[l].traits, new);
        self.persistent += u32::from(new.has(Traits::PERSISTENT));
        self.persistent -= u32::from(old.has(Traits::PERSISTENT));
    }
}

enum Decided {
    Granted { mode: Mode, demoted: bool },
    Queued { demoted: bool },
}
