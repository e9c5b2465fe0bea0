//! Restoring a slot that another master had: locks, waits and value blocks as the homes of their sessions report them, or the
//! old master itself, in any order, while the slot is frozen.

use alloc::vec::Vec;

use lockstead_types::{
    Extent, Flags, LockId, Refusal, SpaceId, Time, Token, flags::FlagUse, peer::WaitReport, reply::Value,
    request::Claim, rows::LockReport,
};

use crate::{
    Claimant, Effect, OwnerId, Table,
    block::mode_of,
    deadlock::Actor,
    extents::{Asker, Named},
    lock::{State, Wait},
    owner::ORPHANS,
    reclaim::{Held, Kind},
    request::check_alternatives,
    resource::Credit,
    slab::NIL,
    store::Ring,
    table::{Call, first_ticket},
};

impl Table {
    /// Takes over a lock of another master: held, converting or waiting, as reported, with the token and the place in the queue
    /// it had. `origin` comes back with whatever ends its wait, as of [`Table::lock`]. Nobody is told of the lock itself; the
    /// holders of others that it drives out are ([FREEZE-6]). A report that is repeated is answered the same.
    ///
    /// Limits are not asked: what was granted before is not dropped for want of room.
    ///
    /// # Errors
    /// `Lost` where the slot is not frozen, the owner has ended, or a conflicting lock has a higher token; `NoLockspace`, `BadMode`,
    /// `Invalid`, `TooLong`, `Busy` where the report cannot be of this table.
    pub fn restore(
        &mut self,
        now: Time,
        whose: Claimant,
        report: &LockReport<'_>,
        origin: u64,
        fx: &mut Vec<Effect>,
    ) -> Result<LockId, Refusal> {
        let space = self.spaces.find(report.space).ok_or(Refusal::NoLockspace)?;
        let (owner, label) = match whose {
            Claimant::Owner(owner) => (self.owners.find(owner).map(|_| owner.0).ok_or(Refusal::Lost)?, None),
            Claimant::Orphan(session) => (ORPHANS, Some(session)),
        };
        // [SLOT-5] Only while frozen: later, others may have been granted it.
        if !self.is_frozen_name(report.space, report.name) {
            return Err(Refusal::Lost);
        }
        self.check_report(space, report, label.is_some())?;
        let Named { name, extent } = self.named(space, report.name)?;
        let (resource, hash) = self.find_resource(space, name);
        if let Some(l) = resource.and_then(|r| self.restored_before(r, owner, extent.as_ref(), report, origin)) {
            return Ok(self.id(l));
        }
        self.check_places(resource)?;
        let held = report.held.map(|claim| Held { claim, token: report.token });
        let (held, rivals, demoted) = self.fit_in(space, resource, owner, extent.as_ref(), held, report)?;
        let mut call = Call::new(now, fx);
        let resource = resource.unwrap_or_else(|| self.make_resource(space, name, hash));
        let orphan = if label.is_some() { Flags::PERSISTENT } else { Flags::NONE };
        let flags = report.flags.with(orphan);
        let kind = Kind { owner, tag: report.tag, alone: report.alone, flags };
        let claim = held.map(|h| h.claim).or(report.wanted.as_ref().map(|w| w.claim)).ok_or(Refusal::Invalid)?;
        let l = self.make_known(resource, kind, claim, extent);
        if let Some(label) = label {
            self.labels.insert(l, label);
        }
        if let Some(held) = held {
            self.hold_again(&mut call, l, held, rivals);
        }
        if let Some(wait) = &report.wanted {
            self.wait_again(now, l, wait, origin, demoted);
        }
        self.doubt_value(resource);
        if let (Some(held), Some(value), false) = (held, &report.value, self.is_partial(l)) {
            self.learn_from_holder(resource, held, value);
        }
        Ok(self.id(l))
    }

    /// Takes over the value block of a resource. `authoritative`: from the living master that gave the slot up, which knows it;
    /// else it is hearsay, kept where nothing better is known, and flagged invalid ([SLOT-7]). The resource need not be there yet.
    /// Ignored where the slot is not frozen, the value block was written here since, or it cannot be of this table.
    pub fn restore_value(&mut self, space: SpaceId, name: &[u8], value: &Value, authoritative: bool) {
        let Some(index) = self.spaces.find(space) else { return };
        let too_long = name.len() > lockstead_types::limits::NAME_BYTES_CEILING as usize
            || value.bytes.len() > lockstead_types::limits::VALUE_BYTES_CEILING as usize;
        let name = self.without_extent(index, name);
        let (resource, hash) = self.find_resource(index, name);
        if too_long || name.is_empty() || !self.is_frozen_name(space, name) || self.check_places(resource).is_err() {
            return;
        }
        let resource = resource.unwrap_or_else(|| self.make_resource(index, name, hash));
        if authoritative {
            self.learn_value(resource, value, Credit::Master);
        } else {
            let dubious = Value { bytes: value.bytes.clone(), invalid: true };
            self.learn_value(resource, &dubious, Credit::Hearsay(Token::NONE));
            self.doubt_value(resource);
        }
    }

    /// Says that the living master that gave these slots up has reported every value block: where it reported none, nothing was
    /// ever written, and the value block is empty and valid ([SLOT-7]). To be said once all locks have been restored, before the
    /// thaw.
    pub fn finish_values(&mut self, slots: &lockstead_types::SlotSet) {
        self.trust_values(slots);
        for place in 0..self.extras.places() {
            let resource = self.extras[place].resource;
            if resource == NIL || !self.is_frozen_at(resource) || !slots.has(self.slot_of(resource)) {
                continue;
            }
            let extra = &mut self.extras[place];
            // [SLOT-7] What it wrote, or what was written here since, stays.
            if extra.credit < Credit::Master {
                extra.value = None;
                extra.credit = Credit::Master;
            }
        }
    }

    /// [SLOT-7] What is in doubt in these slots only because nobody has said anything is not any more.
    fn trust_values(&mut self, slots: &lockstead_types::SlotSet) {
        if slots.is_empty() {
            return;
        }
        let doubted = core::mem::take(&mut self.doubted);
        let rest = doubted.into_iter().filter(|r| {
            if self.resources[*r].is_vacant() || !self.resources[*r].doubtful {
                return false;
            }
            let here = self.is_frozen_at(*r) && slots.has(self.slot_of(*r));
            if here && self.extra(*r).is_none_or(|e| e.credit < Credit::Master) {
                self.resources[*r].doubtful = false;
            }
            !here
        });
        let rest = rest.collect();
        self.doubted = rest;
    }

    /// Says that some who had locks in these slots may have given them up unheard: where somebody waits, and nobody has said what the
    /// value block is, that is empty and invalid ([SLOT-7]). To be said before the thaw; nothing where a slot is not frozen.
    pub fn distrust_unsaid(&mut self, slots: &lockstead_types::SlotSet) {
        for place in 0..self.extras.places() {
            let resource = self.extras[place].resource;
            if resource == NIL || self.queue(resource).is_none() {
                continue;
            }
            // [PERSIST-1] What is kept of a persistent resource is known, be it nothing.
            let known = self.space_of(resource).space.persistent || self.extras[place].credit > Credit::Nothing;
            if !known && self.is_frozen_at(resource) && slots.has(self.slot_of(resource)) {
                // [SLOT-7] Without this: a holds EX, b waits for it, and the master dies with a's home; a releases with a value that reaches
                // nobody, so it claims nothing; b waits here again, and is told that nothing was ever written.
                self.doubt_value(resource);
            }
        }
    }

    /// Flags the value block of a resource invalid, whoever reported it: somebody asked to write it and was never told whether it
    /// was ([SLOT-7]). Nothing where the resource is not there, or its slot not frozen.
    pub fn distrust_value(&mut self, space: SpaceId, name: &[u8]) {
        // [RANGE-6] Nobody writes by a part.
        let whole = |index: u16| self.named(index, name).is_ok_and(|named| named.extent.is_none_or(|e| e.is_whole()));
        let found = self.spaces.find(space).filter(|index| whole(*index));
        let found = found.and_then(|index| self.find_resource(index, name).0);
        if let Some(resource) = found.filter(|r| self.is_frozen_at(*r)) {
            self.invalidate(resource);
        }
    }

    /// Refuses a report that makes no sense.
    pub(crate) fn check_report(&self, space: u16, report: &LockReport<'_>, orphan: bool) -> Result<(), Refusal> {
        for claim in [report.held, report.wanted.as_ref().map(|w| w.claim)].into_iter().flatten() {
            self.check_claim(space, report.name, claim, report.flags)?;
        }
        if let Some(wait) = &report.wanted {
            self.check_claim(space, report.name, wait.claim, wait.flags)?;
        }
        let sense = match (report.held, &report.wanted) {
            (None, None) => false,
            (Some(_), None) => true,
            (None, Some(_)) => !orphan,
            // [PERMIT-5] Permits are not converted.
            (Some(Claim::Mode(_)), Some(WaitReport { claim: Claim::Mode(_), .. })) => !orphan,
            (Some(_), Some(_)) => false,
        };
        if let Some(wait) = &report.wanted {
            self.check_wait(space, wait, report.held)?;
        }
        // [SLOT-5] A token of this epoch at most, and not one that would use the epoch up.
        let epoch = report.token.epoch();
        let fits = report.token != Token::NONE
            && epoch <= self.epoch
            && (epoch < self.epoch || report.token.sequence() <= self.sequence);
        if sense && (report.held.is_none() || fits) { Ok(()) } else { Err(Refusal::Invalid) }
    }

    /// Refuses what cannot wait: flags that no such request has (EXPEDITE of a mode that conflicts would be granted beside it), and
    /// a conversion down.
    fn check_wait(&self, space: u16, wait: &WaitReport, held: Option<Claim>) -> Result<(), Refusal> {
        let entry = self.spaces.get(space).ok_or(Refusal::NoLockspace)?;
        let mode = match wait.claim {
            Claim::Mode(mode) => Some(mode),
            Claim::Permits { .. } => None,
        };
        let null = mode.is_some() && mode == entry.null;
        wait.flags.check(if held.is_some() { FlagUse::Convert } else { FlagUse::Lock { null } })?;
        check_alternatives(entry, mode.is_some(), wait.flags)?;
        // [CONV-2] That is granted always, and at once.
        let down =
            matches!((held, mode), (Some(Claim::Mode(held)), Some(mode)) if entry.space.modes.is_down(held, mode));
        if down { Err(Refusal::Invalid) } else { Ok(()) }
    }

    /// The lock of a report that was taken over before.
    fn restored_before(
        &self,
        resource: u32,
        owner: u32,
        extent: Option<&Extent>,
        report: &LockReport<'_>,
        origin: u64,
    ) -> Option<u32> {
        if report.held.is_some() {
            return self.holder_of(resource, owner, extent, |_, token| token == report.token);
        }
        let same = |l: u32| {
            let same =
                self.locks[l].owner == owner && self.tag(l) == report.tag && self.locks[l].state == State::Waiting;
            same && self.wait(l).is_some_and(|w| w.origin == origin)
        };
        match extent {
            Some(extent) => self.equal_extent(resource, extent, same),
            None => self.ring(resource, Ring::Waiting).find(|l| same(*l)),
        }
    }

    /// What a reported lock can hold beside those that are there: with whom it drives out, and whether it has to let go of its
    /// old mode for it.
    fn fit_in(
        &self,
        space: u16,
        resource: Option<u32>,
        owner: u32,
        extent: Option<&Extent>,
        held: Option<Held>,
        report: &LockReport<'_>,
    ) -> Result<(Option<Held>, Vec<u32>, bool), Refusal> {
        let demoted = report.wanted.as_ref().is_some_and(|w| w.demoted);
        let Some(resource) = resource else { return Ok((held, Vec::new(), demoted)) };
        for claim in [report.held, report.wanted.as_ref().map(|w| w.claim)].into_iter().flatten() {
            self.check_kind(resource, claim)?;
        }
        let mine = (owner != ORPHANS && !report.alone).then_some(OwnerId(owner));
        if mine.is_some_and(|owner| self.lock_of(resource, owner, report.tag, extent).is_some()) {
            return Err(Refusal::Busy);
        }
        let Some(held) = held else { return Ok((None, Vec::new(), demoted)) };
        let null = self.spaces.get(space).and_then(|e| e.null);
        let actor = mine.map(|owner| Actor::Owner(owner.0));
        let asker = extent.map(|extent| Asker { me: NIL, actor, extent });
        match (self.rivals(resource, asker.as_ref(), held), null) {
            // [DEAD-2] Its old master has let go of the old mode, and granted others beside it, or it would not be so.
            (Err(Refusal::Lost), Some(null)) if may_fall_back(report) => {
                Ok((Some(Held { claim: Claim::Mode(null), ..held }), Vec::new(), true))
            }
            (rivals, _) => Ok((Some(held), rivals?, demoted)),
        }
    }

    /// Lets a lock wait for what it waited for. It gets its place at the thaw.
    pub(crate) fn wait_again(&mut self, now: Time, l: u32, report: &WaitReport, origin: u64, demoted: bool) {
        let resource = self.locks[l].resource;
        let converting = self.locks[l].state == State::Granted;
        let (want, since) = (mode_of(report.claim), now.before(report.waited));
        let rank = self.rank(resource, since, report.priority);
        let ticket = self.ticket_again(report.ticket);
        if converting {
            self.leave(l);
        } else {
            self.locks[l].mode = want;
        }
        let deadline = report.left.map(|left| now.after(left));
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, l));
        }
        self.side_mut(l).wait = Some(Wait {
            origin,
            want,
            flags: report.flags,
            since,
            deadline,
            ticket,
            rank,
            priority: report.priority,
            overtaken: 0,
            demoted,
            held_up: false,
            value: report.value.clone(),
        });
        self.enter(l, if converting { State::Converting } else { State::Waiting }, NIL);
        let queue = self.queue_mut(resource);
        queue.straight = false;
        queue.restored = true;
        queue.told_for = None;
    }

    /// [SLOT-6] The ticket of a wait that had this one: it stays, and those that come get higher ones. One whose ticket nobody
    /// knows comes last; a ticket of a later epoch than this was never given.
    fn ticket_again(&mut self, ticket: u64) -> u64 {
        if ticket == 0 || ticket >= first_ticket(self.epoch.saturating_add(1)) {
            return self.next_ticket();
        }
        self.tickets = self.tickets.max(ticket);
        ticket
    }

    /// Puts those that wait at a resource in order, where some were restored ([SLOT-6]). Once, at the thaw: reports of many homes
    /// come in any order, and to find the place of each in a long queue would be the work of the square of its length.
    pub(crate) fn order_again(&mut self, resource: u32) {
        if !self.queue(resource).is_some_and(|q| q.restored) {
            return;
        }
        let fair = self.overtakes_allowed(resource).is_some();
        self.order_ring(resource, Ring::Converting, false);
        let waiting = self.order_ring(resource, Ring::Waiting, fair);
        // One with HEADQUE stands before those that came earlier: its rank must say so.
        let mut least = i64::MAX;
        for l in waiting.iter().rev() {
            if let Some(wait) = self.wait_mut(*l) {
                wait.rank = wait.rank.min(least);
                least = wait.rank;
            }
        }
        let tickets = waiting.iter().filter_map(|l| self.wait(*l).map(|w| w.ticket));
        let straight = tickets.is_sorted();
        let queue = self.queue_mut(resource);
        queue.straight = straight;
        queue.restored = false;
    }

    fn order_ring(&mut self, resource: u32, ring: Ring, fair: bool) -> Vec<u32> {
        let mut all: Vec<u32> = self.ring(resource, ring).collect();
        // [SLOT-6] As they would stand had all of them come here in the order they came: HEADQUE before the others, the later one
        // first; [FAIR-3] in a fair queue the others by rank.
        all.sort_by_key(|l| match self.wait(*l) {
            Some(w) if w.flags.has(Flags::HEADQUE) => (0, 0, u64::MAX - w.ticket),
            Some(w) => (1, if fair { w.rank } else { 0 }, w.ticket),
            None => (2, 0, 0),
        });
        for l in &all {
            self.unlink(ring, *l);
            self.link_before(ring, *l, NIL);
        }
        all
    }

    /// [SLOT-7] What a holder knows of the value block is good only if nobody can have written beside it.
    pub(crate) fn learn_from_holder(&mut self, resource: u32, held: Held, value: &Value) {
        let sure = match held.claim {
            Claim::Mode(mode) => Table::keeps_writers_out(self.modes_of(resource), mode),
            Claim::Permits { .. } => false,
        };
        if value.bytes.len() > lockstead_types::limits::VALUE_BYTES_CEILING as usize {
            return;
        }
        // [SLOT-7] Else the newest that is known, and not to be trusted.
        let value = Value { bytes: value.bytes.clone(), invalid: value.invalid || !sure };
        let credit = if sure { Credit::Sure(held.token) } else { Credit::Hearsay(held.token) };
        self.learn_value(resource, &value, credit);
    }
}

fn may_fall_back(report: &LockReport<'_>) -> bool {
    report.wanted.as_ref().is_some_and(|w| w.flags.has(Flags::CONVDEADLK))
}
