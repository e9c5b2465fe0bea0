//! What masters answer and tell, and what it does to the home's copies.

use alloc::boxed::Box;

use lockstead_types::{
    LockId, Mode, ModeTable, NodeId, RequestId, SessionId, Time, Token,
    message::ServerMessage,
    peer::{HomeGeneration, PeerOwner, SlotGeneration},
    refusal::Refusal,
    reply::{Grant, Notice, Queued, Reply, Revoked, Value},
    request::Claim,
};

use super::{
    Member,
    copies::{Copy, InGroup},
    forward::{For, Forward, Key, What},
    master_up,
};
use crate::{effects::WaitEnd, node::Node, session::Stage};

impl Node {
    /// An answer to a request of a session of this node.
    pub(crate) fn on_reply(
        &mut self,
        now: Time,
        from: NodeId,
        (session, home, id): (SessionId, HomeGeneration, RequestId),
        generation: SlotGeneration,
        reply: Reply,
    ) {
        let Some(at) = self.session_here(session, home) else { return };
        let key = (at, id);
        let Some(member) = &self.member else { return };
        // [CLUSTER-6] Only of who is master now as far as this node knows: what an old one did after this node's report to the new
        // one is undone.
        let valid = member.forwards.map.get(&key).is_some_and(|f| f.sent == Some(generation));
        #[cfg(feature = "planted")]
        let valid = valid
            || (lockstead_types::planted::is(lockstead_types::planted::Bug::OldMasterHeard)
                && member.forwards.map.contains_key(&key));
        if !valid {
            return;
        }
        match reply {
            Reply::Queued(_) if self.is_detached(key) => {}
            Reply::Granted(_) if self.is_detached(key) => self.end_plain(key),
            Reply::Queued(queued) => self.on_queued(now, from, key, queued),
            Reply::Granted(grant) => self.on_granted(now, from, key, grant),
            other => self.on_other_reply(now, key, other),
        }
    }

    /// The master has it in a queue.
    fn on_queued(&mut self, now: Time, from: NodeId, key: Key, Queued { lock, ticket }: Queued) {
        let (at, id) = key;
        let Some(member) = &mut self.member else { return };
        let Some(forward) = member.forwards.map.get_mut(&key) else { return };
        let stood = forward.queued.replace(ticket);
        let whose = forward.whose;
        let copy = match (&forward.what, forward.copy) {
            (What::Lock(request), None) => {
                let mut copy = copy_of(at, forward.slot, request);
                copy.wait = Some(id);
                let copy = member.copies.add(copy);
                if let Some(forward) = member.forwards.map.get_mut(&key) {
                    forward.copy = Some(copy);
                }
                member.copies.set_place(copy, from, lock);
                copy
            }
            // Said again: it waits here already, and now its place is known.
            (What::Lock(_), Some(copy)) => {
                member.copies.set_place(copy, from, lock);
                copy
            }
            (What::Convert { copy, .. }, _) => {
                let copy = *copy;
                if let Some(copy) = member.copies.get_mut(copy) {
                    copy.wait = Some(id);
                }
                copy
            }
            _ => return,
        };
        let known_as = member.copies.id(copy);
        if stood != Some(ticket) {
            self.note_stall(now, at);
        }
        match whose {
            For::Client => {
                if stood != Some(ticket) {
                    self.counters.queued += 1;
                    self.answer(at, id, Reply::Queued(Queued { lock: known_as, ticket }));
                }
                if stood.is_some() {
                    self.send_unsent(now);
                }
            }
            For::Many(many) => self.on_many_queued(many, known_as),
            // Ended here before its master said so.
            For::Nobody => self.abandon(now, key),
        }
    }

    fn on_granted(&mut self, now: Time, from: NodeId, key: Key, mut grant: Grant) {
        let (at, _) = key;
        let Some(member) = &mut self.member else { return };
        let Some(forward) = member.forwards.map.get(&key) else { return };
        let used = match &forward.what {
            What::Lock(request) if request.owner.group().is_some() => {
                let known = member.copies.at_master(at, (from, grant.lock));
                known.filter(|copy| member.copies.get(*copy).is_some_and(|c| c.held.is_some()))
            }
            _ => None,
        };
        if let Some(copy) = used {
            member.use_again(key, copy);
        }
        let Some(forward) = member.forwards.map.get(&key) else { return };
        let copy = match (&forward.what, forward.copy) {
            (What::Lock(_), _) if let Some(copy) = used => copy,
            (What::Lock(_), Some(copy)) => {
                if member.copies.get(copy).is_some_and(|c| c.place.is_none()) {
                    member.copies.set_place(copy, from, grant.lock);
                }
                copy
            }
            (What::Lock(request), None) => {
                let mut copy = copy_of(at, forward.slot, request);
                copy.held = Some(grant.claim);
                let copy = member.copies.add(copy);
                member.copies.set_place(copy, from, grant.lock);
                copy
            }
            (What::Convert { copy, .. }, _) => *copy,
            _ => return,
        };
        let (before, written) = forward.what.written();
        if let Some(found) = member.copies.get_mut(copy) {
            let modes = self.table.space(found.space).map(|s| &*s.modes);
            let value = modes.and_then(|modes| known_value(modes, found, before, &grant, written));
            found.value = value;
            found.held = Some(grant.claim);
            if found.token != grant.token {
                found.before = core::mem::replace(&mut found.token, grant.token);
            }
            found.wait = None;
            found.blocking = None;
        }
        grant.lock = member.copies.id(copy);
        if let Some(session) = self.sessions.get(at).filter(|s| !s.is_embedded()) {
            member.seal_grant(session.id, copy, &mut grant);
        }
        // A conversion that nobody waits for takes back what another one gave: its lock stays.
        let nobody = forward.whose == For::Nobody && matches!(forward.what, What::Lock(_));
        self.note_regrant(at, &grant);
        self.end_forward(now, key, WaitEnd::Granted(grant));
        if nobody {
            self.release_copy(now, copy);
        }
    }

    /// A lock that its session has claimed, and has not said that it has claimed all, is claimed again as it is from now on.
    ///
    /// Without this: a conversion that was said again is granted; the connection breaks, the claim said again is answered with the token
    /// and the seal of before; that home dies, too, and the seal does not prove what is held.
    fn note_regrant(&mut self, at: u32, grant: &Grant) {
        let Some(session) = self.sessions.get_mut(at).filter(|session| session.stage == Stage::Returning) else {
            return;
        };
        if let Some(extra) = session.extra_mut() {
            extra.claimed.renew(grant);
        }
    }

    fn on_other_reply(&mut self, now: Time, key: Key, reply: Reply) {
        let Some(member) = &mut self.member else { return };
        let Some(forward) = member.forwards.map.get(&key) else { return };
        if reply == Reply::Refused(Refusal::Deadlock) {
            member.stalls.was_right();
        }
        match (&forward.what, &reply) {
            (What::Lock(_), _) => {
                let copy = forward.copy;
                self.drop_copy(copy);
                self.end_forward(now, key, ending_of(&reply));
            }
            (What::Convert { copy, before, .. }, Reply::Demoted { held, why }) => {
                let (copy, _, held, why) = (*copy, before, *held, *why);
                if let Some(copy) = member.copies.get_mut(copy) {
                    copy.held = Some(held);
                    copy.wait = None;
                }
                self.end_forward(now, key, WaitEnd::Demoted { held, why });
            }
            (What::Convert { copy, before, lowered, .. }, _) => {
                let (copy, before, lowered) = (*copy, *before, *lowered);
                let end = self.end_conversion(copy, before, lowered, &reply);
                self.end_forward(now, key, end);
            }
            (What::Release { copy, one_way, .. }, _) => {
                let (copy, one_way, whose) = (*copy, *one_way, forward.whose);
                self.on_release_answered(now, key, copy, (one_way, whose), reply);
            }
            (What::Read(copy), Reply::Value(value)) => {
                if let Some(copy) = member.copies.get_mut(*copy) {
                    copy.value = Some(value.clone());
                }
                self.finish_plain(key, reply);
            }
            (What::CancelCopy(_) | What::CancelRequest(_) | What::Read(_) | What::Answer, _) => {
                self.finish_plain(key, reply);
            }
            (What::Claim(_), _) => {}
        }
    }

    /// A conversion was not granted: the lock is as before, or as a new master knows it ([CLUSTER-11]).
    fn end_conversion(&mut self, copy: u32, before: Option<Claim>, lowered: bool, reply: &Reply) -> WaitEnd {
        let end = ending_of(reply);
        let found = self.member.as_mut().and_then(|m| m.copies.get_mut(copy));
        let Some(copy) = found else { return end };
        copy.wait = None;
        match (lowered, copy.held, end) {
            (true, Some(held), WaitEnd::Refused(why)) if copy.held != before => {
                WaitEnd::Demoted { held, why: Some(why) }
            }
            (true, Some(held), WaitEnd::Cancelled) if copy.held != before => WaitEnd::Demoted { held, why: None },
            (_, _, end) => {
                if !lowered {
                    copy.held = before;
                }
                end
            }
        }
    }

    pub(crate) fn on_release_answered(
        &mut self,
        now: Time,
        key: Key,
        copy: u32,
        (one_way, whose): (bool, For),
        reply: Reply,
    ) {
        let (at, id) = key;
        let Some(member) = &mut self.member else { return };
        member.forwards.remove(key);
        let refused = matches!(reply, Reply::Refused(_));
        if refused {
            if let Some(copy) = member.copies.get_mut(copy) {
                copy.stay();
            }
        } else if member.copies.get_mut(copy).is_none_or(Copy::leave) {
            self.end_wait_of(now, copy);
            self.drop_copy(Some(copy));
        }
        if whose != For::Client {
            return;
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.end_wait(id);
        }
        match reply {
            Reply::Refused(why) => self.refuse(at, id, why),
            other if !one_way => {
                self.counters.releases += 1;
                self.answer(at, id, other);
            }
            _ => {
                self.counters.releases += 1;
                self.settle_release(at, id);
            }
        }
    }

    /// Whatever waits for a lock that is gone ends.
    fn end_wait_of(&mut self, now: Time, copy: u32) {
        let Some(found) = self.member.as_ref().and_then(|m| m.copies.get(copy)) else { return };
        if let Some(wait) = found.wait {
            self.end_forward(now, (found.session, wait), WaitEnd::Cancelled);
        }
    }

    fn is_detached(&self, key: Key) -> bool {
        let forward = self.member.as_ref().and_then(|m| m.forwards.map.get(&key));
        forward.is_some_and(|f| matches!(f.what, What::Answer))
    }

    /// Nobody will answer a request about a lock that is gone.
    pub(crate) fn end_plain(&mut self, key: Key) {
        self.finish_plain(key, Reply::Refused(Refusal::NotHeld));
    }

    /// The answer to a request that changes nothing here.
    fn finish_plain(&mut self, key: Key, reply: Reply) {
        let (at, id) = key;
        let Some(member) = &mut self.member else { return };
        let Some(forward) = member.forwards.remove(key) else { return };
        if forward.whose != For::Client {
            return;
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.end_wait(id);
        }
        match reply {
            Reply::Refused(why) => self.refuse(at, id, why),
            other => {
                self.counters.cancels += u64::from(other == Reply::Cancelled);
                self.answer(at, id, other);
            }
        }
    }

    /// The receiver was not the master: the request goes again, when this node knows who is.
    pub(crate) fn on_stale(
        &mut self,
        now: Time,
        (session, home, id): (SessionId, HomeGeneration, RequestId),
        generation: SlotGeneration,
    ) {
        let Some(at) = self.session_here(session, home) else { return };
        let Some(member) = &mut self.member else { return };
        let key = (at, id);
        let Some(forward) = member.forwards.map.get(&key).filter(|f| f.sent == Some(generation)) else { return };
        let newer = master_up(&member.state, forward.slot).is_some_and(|(_, known)| known > generation);
        member.forwards.set_sent(key, None);
        member.undo_unmade(key);
        if newer {
            self.send_unsent(now);
        }
    }

    /// News from a master for a session of this node.
    pub(crate) fn on_peer_notice(
        &mut self,
        now: Time,
        from: NodeId,
        session: SessionId,
        home: HomeGeneration,
        notice: Notice,
    ) {
        let Some(at) = self.session_here(session, home) else { return };
        let Some(member) = &self.member else { return };
        // [CLUSTER-6] Nothing about what it has given up.
        let stale = |at: &u32| member.copies.get(*at).is_some_and(|copy| member.is_unreported(copy));
        let copy = |lock| member.copies.at_master(at, (from, lock)).filter(|at| !stale(at));
        match notice {
            Notice::Blocking { lock, claim } => {
                let Some(copy) = copy(lock) else { return };
                let lock = member.copies.id(copy);
                if let Some(copy) = self.member.as_mut().and_then(|m| m.copies.get_mut(copy)) {
                    copy.blocking = Some(claim);
                }
                if !self.try_withhold(at, lock, claim) {
                    self.notify_blocking(at, lock, claim);
                }
            }
            Notice::Revoked { lock, why } => {
                if let Some(copy) = copy(lock) {
                    self.lose_copy(now, copy, why);
                }
            }
            Notice::Changed(_) | Notice::Resync => self.notify(at, notice),
            // Said by `Wounded`.
            Notice::Aborted => {}
        }
    }

    /// Tells a client that was away whom its locks keep waiting.
    pub(crate) fn repeat_copies_blocking(&mut self, at: u32) {
        let Some(member) = &self.member else { return };
        let copies = member.copies.of_session(at);
        let told = |c| Some((member.copies.id(c), member.copies.get(c)?.blocking?));
        let told: alloc::vec::Vec<_> = copies.filter_map(told).collect();
        for (lock, claim) in told {
            if !self.try_withhold(at, lock, claim) {
                self.notify_blocking(at, lock, claim);
            }
        }
    }

    /// A lock is gone that its client may still believe in.
    pub(crate) fn lose_copy(&mut self, now: Time, copy: u32, why: Revoked) {
        let Some(member) = &mut self.member else { return };
        let lock = member.copies.id(copy);
        let Some(found) = member.copies.remove(copy) else { return };
        let at = found.session;
        // What was asked about it and is not answered.
        let about: alloc::vec::Vec<Key> = member
            .forwards
            .of_session(at)
            .into_iter()
            .filter(|key| {
                member.forwards.map.get(key).is_some_and(|f| f.what.copy() == Some(copy) || f.copy == Some(copy))
            })
            .collect();
        for key in about {
            self.end_lost(now, key);
        }
        if found.held.is_none() || found.releasing {
            return;
        }
        if let Some(many) = self.many_with(at, lock) {
            return self.on_many_step(now, at, many, WaitEnd::Refused(Refusal::Lost));
        }
        self.lose_name_in_tree(now, at, (found.space, &found.name), lock, why);
        self.notify_revoked(at, lock, why);
        self.on_lock_lost(now, at, lock);
    }

    /// A request about a lock that is gone.
    fn end_lost(&mut self, now: Time, key: Key) {
        let Some(member) = &mut self.member else { return };
        match member.forwards.map.get(&key).map(|f| &f.what) {
            Some(What::Lock(_) | What::Convert { .. }) => {
                self.end_forward(now, key, WaitEnd::Refused(Refusal::Lost));
            }
            // What was to be released is.
            Some(What::Release { one_way: false, .. }) => self.finish_plain(key, Reply::Released),
            Some(What::Release { .. }) => {
                member.forwards.remove(key);
            }
            Some(_) => self.finish_plain(key, Reply::Refused(Refusal::Lost)),
            None => {}
        }
    }

    /// An answer to a claim.
    pub(crate) fn on_claimed(
        &mut self,
        now: Time,
        from: NodeId,
        (session, home, id): (SessionId, HomeGeneration, RequestId),
        generation: SlotGeneration,
        reply: Option<Reply>,
    ) {
        let Some(at) = self.session_here(session, home) else { return };
        let Some(reply) = reply else { return self.on_stale(now, (session, home, id), generation) };
        let key = (at, id);
        let Some(member) = &mut self.member else { return };
        if member.forwards.map.get(&key).is_none_or(|f| f.sent != Some(generation)) {
            return;
        }
        let Some(Forward { what: What::Claim(claim), slot, .. }) = member.forwards.remove(key) else { return };
        let reply = match reply {
            Reply::Granted(grant) if member.copies.at_master(at, (from, grant.lock)).is_some() => {
                self.claimed_here(at, from, claim.lock, grant)
            }
            Reply::Granted(mut grant) => {
                let copy = member.copies.add(Copy {
                    session: at,
                    space: claim.space,
                    name: claim.name,
                    slot,
                    place: None,
                    held: Some(grant.claim),
                    token: grant.token,
                    // [SLOT-8] Its client has not heard of the other one: it claims by this one again, should it go on to the next home.
                    before: if grant.token == claim.token { Token::NONE } else { claim.token },
                    tag: claim.tag,
                    alone: claim.owner.is_alone(),
                    group: in_group(&claim.owner),
                    flags: claim.flags,
                    value: None,
                    wait: None,
                    releasing: false,
                    blocking: None,
                    reported: 0,
                });
                member.copies.set_place(copy, from, grant.lock);
                grant.lock = member.copies.id(copy);
                member.seal_grant(session, copy, &mut grant);
                self.counters.reclaims_granted += 1;
                if let Some(session) = self.sessions.get_mut(at) {
                    session.extra_or_new().claimed.insert(claim.lock, grant.clone());
                }
                Reply::Granted(grant)
            }
            other => {
                self.counters.reclaims_refused += 1;
                other
            }
        };
        self.settle_claim(now, at, id, &reply);
        if let Reply::Granted(grant) = &reply {
            self.note_in_tree(at, grant.lock);
        }
        if let Some(conn) = self.sessions.get(at).and_then(|s| s.conn) {
            self.send(conn, ServerMessage::Reply { id, reply });
        }
    }

    /// A claim of a lock that this home has a copy of.
    ///
    /// [CLUSTER-18] Claimed under another number before it is lost: one seal is good for one lock. [CLUSTER-24] But a wait that was said
    /// again may have been granted, and its client has come once more before it had said that it has claimed all.
    fn claimed_here(&mut self, at: u32, from: NodeId, number: LockId, mut grant: Grant) -> Reply {
        let lost = Reply::Refused(Refusal::Lost);
        let (Some(member), Some(session)) = (&mut self.member, self.sessions.get_mut(at)) else { return lost };
        let Some(copy) = member.copies.at_master(at, (from, grant.lock)) else { return lost };
        // The second claim may have been of less, and that is what its master has now ([CLUSTER-5]).
        if let Some(copy) = member.copies.get_mut(copy) {
            copy.held = Some(grant.claim);
        }
        grant.lock = member.copies.id(copy);
        if session.extra().is_some_and(|extra| extra.claimed.has_lock(grant.lock)) {
            self.counters.reclaims_refused += 1;
            return lost;
        }
        member.seal_grant(session.id, copy, &mut grant);
        session.extra_or_new().claimed.insert(number, grant.clone());
        self.counters.reclaims_granted += 1;
        Reply::Granted(grant)
    }

    /// A lock is gone by the will of its client. What is on its way about it is answered by its master, or, where it could not be
    /// sent, here.
    pub(crate) fn drop_copy(&mut self, copy: Option<u32>) {
        let (Some(member), Some(copy)) = (&mut self.member, copy) else { return };
        let lock = member.copies.id(copy);
        let Some(gone) = member.copies.remove(copy) else { return };
        self.forget_name_in_tree(gone.session, gone.space, &gone.name, lock);
        let Some(member) = &mut self.member else { return };
        for key in member.forwards.about(gone.session, copy) {
            self.detach_forward(key);
        }
    }

    fn detach_forward(&mut self, key: Key) {
        let Some(member) = &mut self.member else { return };
        let sent = member.forwards.map.get(&key).is_some_and(|f| f.sent.is_some());
        member.forwards.detach(key);
        if !sent {
            self.finish_plain(key, Reply::Refused(Refusal::NotHeld));
        }
    }

    /// Nobody waits for it any more: the master is told.
    pub(crate) fn abandon(&mut self, now: Time, key: Key) {
        let (at, id) = key;
        let Some(member) = &mut self.member else { return };
        let Some(slot) = member.forwards.map.get(&key).map(|f| f.slot) else { return };
        let silent = member.forwards.silent_id();
        self.begin(now, (at, silent), slot, For::Nobody, What::CancelRequest(id), None);
    }
}

impl Member {
    /// A session is granted a lock of its group that it uses already: it has one copy of it, and uses it once more.
    fn use_again(&mut self, key: Key, copy: u32) {
        let waiting = self.forwards.map.get_mut(&key).and_then(|forward| forward.copy.take());
        if let Some(waiting) = waiting.filter(|waiting| *waiting != copy) {
            self.copies.remove(waiting);
        }
        if let Some(copy) = self.copies.get_mut(copy) {
            copy.add_use();
        }
    }
}

impl What {
    /// What was held before, and what the request was to write to the value block.
    fn written(&self) -> (Option<Claim>, Option<&[u8]>) {
        match self {
            What::Convert { value, before, .. } => (*before, value.as_deref()),
            _ => (None, None),
        }
    }
}

/// The value block as the holder knows it after a grant: as read, as written, or as before where nobody can have written since.
fn known_value(
    modes: &ModeTable,
    copy: &Copy,
    before: Option<Claim>,
    grant: &Grant,
    written: Option<&[u8]>,
) -> Option<Value> {
    if let Some(value) = &grant.value {
        return Some(value.clone());
    }
    let (Some(Claim::Mode(old)), Claim::Mode(new)) = (before, grant.claim) else { return None };
    if let Some(bytes) = written
        && modes.writes(old)
        && new <= old
    {
        return Some(Value { bytes: bytes.into(), invalid: false });
    }
    let alone = |mode: Mode| modes.modes().filter(|m| modes.writes(*m)).all(|m| !modes.compatible(m, mode));
    if alone(old) && alone(new) { copy.value.clone() } else { None }
}

pub(crate) fn copy_of(session: u32, slot: lockstead_types::Slot, request: &lockstead_types::peer::PeerLock) -> Copy {
    Copy {
        session,
        space: request.space,
        name: request.name.clone(),
        slot,
        place: None,
        held: None,
        token: Token::NONE,
        before: Token::NONE,
        tag: request.tag,
        alone: request.owner.is_alone(),
        group: in_group(&request.owner),
        flags: request.flags,
        value: None,
        wait: None,
        releasing: false,
        blocking: None,
        reported: 0,
    }
}

/// How a copy of one use, or of none yet, says whose it is.
fn in_group(owner: &PeerOwner) -> Option<Box<InGroup>> {
    owner.group().map(|name| Box::new(InGroup::new(name)))
}

/// How a wait ended, as its master said.
fn ending_of(reply: &Reply) -> WaitEnd {
    match reply {
        Reply::Cancelled => WaitEnd::Cancelled,
        Reply::Refused(why) => WaitEnd::Refused(*why),
        Reply::Demoted { held, why } => WaitEnd::Demoted { held: *held, why: *why },
        _ => WaitEnd::Refused(Refusal::Invalid),
    }
}
