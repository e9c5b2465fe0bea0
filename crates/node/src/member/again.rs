//! Waits of sessions that have come to another home: where they stood they go on ([CLUSTER-24]). At the home, which takes the
//! client's word for it and keeps a copy from then on as of any other wait; and at the master, which has the wait still, or has told
//! nobody alive what became of it, or never heard of it, being a new one.

use alloc::vec::Vec;

use lockstead_types::{
    LockId, RequestId, Slot, Span, Time,
    peer::{PeerLock, PeerOp, SlotGeneration},
    refusal::Refusal,
    reply::{Grant, Queued, Reply},
    request::{ConvertRequest, LockRequest, Op, Stood},
};

use super::{
    forward::{For, Key, What, deadline},
    guests::{Guest, GuestWait, Place},
    replies::copy_of,
};
use crate::{
    effects::WaitEnd,
    ledger::{Pend, Waiting},
    node::Node,
};

/// Grants that are kept for a client whose home may have died with them, the newest of each guest.
const UNHEARD: usize = 64;

impl Guest {
    /// Its session has come to another home, which knows of none of its waits yet. Of several for one lock of a group it cannot be told
    /// later which is which: those but one, with their locks.
    pub(crate) fn leave_waits(&mut self) -> Vec<(RequestId, LockId)> {
        let mut untold = Vec::new();
        for (id, wait) in core::mem::take(&mut self.waits) {
            if let Some(other) = self.left.insert((wait.slot, wait.ticket), (id, wait.lock)) {
                untold.push(other);
            }
        }
        untold
    }

    /// A wait has ended. Its slot, `None` where nobody is to be told.
    pub(crate) fn end_wait(&mut self, id: RequestId, end: &WaitEnd) -> Option<Slot> {
        let wait = self.waits.remove(&id);
        let place = match wait {
            Some(wait) => (wait.slot, wait.ticket),
            None => *self.left.iter().find(|(_, (left, _))| *left == id)?.0,
        };
        self.left.remove(&place);
        if let WaitEnd::Granted(grant) = end {
            if self.unheard.len() >= UNHEARD {
                self.unheard.pop_front();
            }
            self.unheard.push_back((place, grant.clone()));
        }
        wait.map(|wait| wait.slot)
    }

    /// The wait of before that a request means.
    pub(super) fn take_left(&mut self, place: Place, op: &PeerOp) -> Option<(RequestId, LockId)> {
        let place = match op {
            PeerOp::Convert { lock, .. } => *self.left.iter().find(|(_, (_, left))| left == lock)?.0,
            _ => place,
        };
        self.left.remove(&place)
    }
}

impl Node {
    // ------------------------------------------------------------ home

    /// A request that waited at the former home of its session.
    pub(crate) fn forward_again(&mut self, now: Time, at: u32, id: RequestId, op: &Op<'_>, stood: Stood) {
        let begun = match op {
            Op::Lock(request) => self.begin_lock_again(now, (at, id), request, stood),
            Op::Convert(request) => self.begin_conversion_again(now, (at, id), request, stood),
            _ => return self.apply(now, at, id, op),
        };
        if let Err(why) = begun {
            self.refuse(at, id, why);
        }
    }

    fn begin_lock_again(
        &mut self,
        now: Time,
        key: Key,
        request: &LockRequest<'_>,
        stood: Stood,
    ) -> Result<(), Refusal> {
        let (at, id) = key;
        let (lock, slot) = self.plan_lock(at, request)?;
        let member = self.member.as_mut().ok_or(Refusal::Invalid)?;
        let mut copy = copy_of(at, slot, &lock);
        copy.wait = Some(id);
        let copy = member.copies.add(copy);
        let until = deadline(now, request.wait).map(|until| until.before(stood.waited));
        member.forwards.add(key, slot, For::Client, What::Lock(lock), until);
        if let Some(forward) = member.forwards.map.get_mut(&key) {
            forward.copy = Some(copy);
        }
        self.wait_again(now, key, (copy, slot), stood);
        Ok(())
    }

    fn begin_conversion_again(
        &mut self,
        now: Time,
        key: Key,
        request: &ConvertRequest<'_>,
        stood: Stood,
    ) -> Result<(), Refusal> {
        let (at, id) = key;
        let copy = self.usable_copy(at, request.lock)?;
        self.check_forward(at, 0)?;
        let member = self.member.as_mut().ok_or(Refusal::Invalid)?;
        let found = member.copies.get_mut(copy).ok_or(Refusal::NotHeld)?;
        if found.wait.is_some() {
            return Err(Refusal::Busy);
        }
        found.wait = Some(id);
        let (slot, before) = (found.slot, found.held);
        let what = What::convert(copy, request, before);
        let until = deadline(now, request.wait).map(|until| until.before(stood.waited));
        member.forwards.add(key, slot, For::Client, what, until);
        // [CLUSTER-5] Its master has it already.
        self.lower(copy, request.mode, request.flags);
        self.wait_again(now, key, (copy, slot), stood);
        Ok(())
    }

    /// The wait stands, for all this home knows: from here on it is reported like any other.
    fn wait_again(&mut self, now: Time, key: Key, (copy, slot): (u32, Slot), Stood { ticket, waited }: Stood) {
        let (at, id) = key;
        let Some(member) = &mut self.member else { return };
        if let Some(forward) = member.forwards.map.get_mut(&key) {
            forward.queued = Some(ticket);
        }
        let (lock, reporting) = (member.copies.id(copy), member.is_reporting(slot));
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.wait(Waiting { id, since: now.before(waited), pend: Pend::Forward });
        }
        self.counters.queued += 1;
        self.counters.waits_again += 1;
        self.note_stall(now, at);
        self.answer(at, id, Reply::Queued(Queued { lock, ticket }));
        if reporting {
            self.report_again(now, key, copy, slot);
        } else {
            self.send_forward(now, key);
        }
    }

    /// How long a request has waited.
    pub(crate) fn waited(&self, now: Time, (at, id): Key) -> Span {
        let waiting = self.sessions.get(at).and_then(|session| session.ledger.waiting(id));
        waiting.map_or(Span::ZERO, |waiting| now.since(waiting.since))
    }

    // ------------------------------------------------------------ master

    /// [CLUSTER-24] A wait of before goes on under this number, or the grant it ended with is told. `false` where the request is to be
    /// looked at like a new one.
    pub(crate) fn goes_on(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        place: (Slot, SlotGeneration),
        stood: Stood,
        op: &PeerOp,
    ) -> bool {
        let (slot, _) = place;
        let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) else { return true };
        let owner = guest.owner;
        // Its home has reported it meanwhile.
        if let Some(GuestWait { lock, ticket, .. }) = guest.waits.get(&id).copied() {
            self.reply_guest(now, at, id, place, Reply::Queued(Queued { lock, ticket }));
            return true;
        }
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::PlaceLost) {
            guest.left.clear();
        }
        if let Some((old, lock)) = guest.take_left((slot, stood.ticket), op) {
            if let Some(group) = self.groups.having(at, lock) {
                return self.goes_on_in_group(now, (at, group), (old, id), (lock, stood, place), op);
            }
            let ticket = match op {
                PeerOp::Lock(asked) => self.table.lock_goes_on(owner, lock, id.0, &asked.request()),
                PeerOp::Convert { lock, mode, wait, flags, value } => {
                    let value = value.as_deref();
                    let asked = ConvertRequest { lock: *lock, mode: *mode, wait: *wait, flags: *flags, value };
                    self.table.conversion_goes_on(owner, id.0, &asked)
                }
                _ => None,
            };
            if let Some(ticket) = ticket {
                self.go_on_as(at, id, GuestWait { lock, slot, ticket });
                self.reply_guest(now, at, id, place, Reply::Queued(Queued { lock, ticket }));
                return true;
            }
            if matches!(op, PeerOp::Convert { .. }) {
                let _over_already = self.table.cancel(now, owner, lock, &mut self.fx);
            }
        }
        let PeerOp::Lock(asked) = op else { return false };
        if asked.owner.group().is_some() {
            return self.tell_unheard_in_group(now, (at, id), (stood, place));
        }
        if let Some(grant) = self.take_unheard(at, (slot, stood.ticket), asked) {
            self.reply_guest(now, at, id, place, Reply::Granted(grant));
            return true;
        }
        self.drop_remains(now, at, asked);
        false
    }

    pub(super) fn go_on_as(&mut self, at: u32, id: RequestId, wait: GuestWait) {
        let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) else { return };
        guest.unclaimed.remove(&wait.lock);
        guest.waits.insert(id, wait);
    }

    /// The grant that ended a wait, if the lock is there as it was granted.
    fn take_unheard(&mut self, at: u32, place: Place, asked: &PeerLock) -> Option<Grant> {
        let guest = self.member.as_mut()?.guests.get_mut(at)?;
        let (_, grant) =
            guest.unheard.iter().find(|(of, grant)| *of == place && guest.unclaimed.contains(&grant.lock))?;
        let same = self.table.token_of(grant.lock) == Some(grant.token);
        let grant = grant.clone();
        if !same || !self.table.is_asked(guest.owner, grant.lock, &asked.request()) {
            return None;
        }
        guest.unclaimed.remove(&grant.lock);
        Some(grant)
    }

    /// [CLUSTER-9] What its client has not claimed makes room for what it asks: it has claimed all by now.
    fn drop_remains(&mut self, now: Time, at: u32, asked: &PeerLock) {
        let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) else { return };
        let owner = guest.owner;
        let found = self.table.find(owner, asked.space, &asked.name, asked.tag).filter(|_| !asked.owner.is_alone());
        if let Some(found) = found.filter(|found| guest.unclaimed.remove(&found.lock)) {
            self.release_unclaimed(now, owner, found.lock);
        }
    }
}
