//! Telling on what the table caused: each effect goes to the request or the holder it is about.

use alloc::{boxed::Box, vec::Vec};

use lockstead_table::{Effect, OwnerId};
use lockstead_types::{
    LockId, RequestId, Time,
    message::ServerMessage,
    refusal::Refusal,
    reply::{Grant, Notice, Reply, Revoked},
    request::Claim,
};

use crate::{
    ledger::{Pend, Waiting},
    node::Node,
    owners::Whose,
};

/// How a wait ended.
#[derive(Clone)]
pub(crate) enum WaitEnd {
    Granted(Grant),
    Refused(Refusal),
    Cancelled,
    /// As `Refused`, or `Cancelled` where there is no reason, of a conversion whose lock holds less than before.
    Demoted {
        held: Claim,
        why: Option<Refusal>,
    },
}

impl WaitEnd {
    fn without_grant(why: Option<Refusal>, demoted: Option<Claim>) -> WaitEnd {
        match (demoted, why) {
            // [DEAD-12]
            (Some(held), why) => WaitEnd::Demoted { held, why },
            (None, Some(why)) => WaitEnd::Refused(why),
            (None, None) => WaitEnd::Cancelled,
        }
    }
}

impl Node {
    /// Tells on all effects, also those that the telling causes: a grant may let an all-or-nothing request go on.
    pub(crate) fn tell_effects(&mut self, now: Time) {
        self.keep_changes(now);
        while !self.fx.is_empty() {
            let mut batch = core::mem::replace(&mut self.fx, core::mem::take(&mut self.spare));
            for effect in batch.drain(..) {
                self.tell_effect(now, effect);
            }
            // Both are kept, so that the steady state allocates nothing.
            if self.fx.capacity() == 0 {
                self.fx = batch;
            } else {
                self.spare = batch;
            }
        }
    }

    fn tell_effect(&mut self, now: Time, effect: Effect) {
        match effect {
            Effect::Granted { owner, origin, grant } => {
                let lock = grant.lock;
                self.tell_wait_end(now, owner, origin, lock, WaitEnd::Granted(grant));
            }
            Effect::Refused { owner, origin, lock, demoted, why } => {
                self.tell_wait_end(now, owner, origin, lock, WaitEnd::without_grant(Some(why), demoted));
            }
            Effect::Cancelled { owner, origin, lock, demoted } => {
                self.tell_wait_end(now, owner, origin, lock, WaitEnd::without_grant(None, demoted));
            }
            Effect::Blocking { owner, lock, claim } => self.tell_blocking(now, owner, lock, claim),
            Effect::Revoked { owner, lock, why } => self.tell_revoked(now, owner, lock, why),
            Effect::Deadlock { report, owners } => self.keep_report(now, *report, &owners),
            Effect::Wounded { owner } => self.tell_wounded(now, owner),
            Effect::Changed { owner, space, name, lock, event, claim, token } => {
                let session = owner.and_then(|o| self.session_of(o));
                let change = lockstead_types::reply::Change { space, name, lock, session, event, claim, token };
                self.tell_watchers(&change);
                self.tell_watchers_elsewhere(now, &change);
            }
        }
    }

    fn tell_wait_end(&mut self, now: Time, owner: OwnerId, origin: u64, lock: LockId, end: WaitEnd) {
        match self.owners.get(owner) {
            Whose::Session(at) => self.end_session_wait(now, at, RequestId(origin), end),
            Whose::Group(group) => self.end_group_waits(now, group, lock, &end),
            Whose::Guest(at) => self.tell_guest_end(now, at, RequestId(origin), end),
            Whose::Ended(_) | Whose::Nobody => {}
        }
    }

    fn end_session_wait(&mut self, now: Time, at: u32, id: RequestId, end: WaitEnd) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        match session.ledger.waiting(id).map(|w| w.pend) {
            Some(Pend::Many(many)) => self.on_many_step(now, at, many, end),
            Some(Pend::Lock(_)) => {
                if let Some(waiting) = session.ledger.end_wait(id) {
                    self.answer_wait(now, at, waiting, end);
                }
            }
            // A wait of a group is told to its group's owner; one that is gone was answered.
            Some(Pend::Group { .. } | Pend::Forward) | None => {}
        }
    }

    /// The final answer to a request that waited.
    pub(crate) fn answer_wait(&mut self, now: Time, at: u32, waiting: Waiting, end: WaitEnd) {
        match end {
            WaitEnd::Granted(grant) => {
                self.counters.grants += 1;
                self.counters.waits.add(now.since(waiting.since));
                self.answer(at, waiting.id, Reply::Granted(grant));
            }
            WaitEnd::Refused(why) => self.refuse(at, waiting.id, why),
            WaitEnd::Cancelled => self.answer(at, waiting.id, Reply::Cancelled),
            WaitEnd::Demoted { held, why } => self.answer_demoted(at, waiting.id, held, why),
        }
    }

    fn tell_blocking(&mut self, now: Time, owner: OwnerId, lock: LockId, claim: Claim) {
        match self.owners.get(owner) {
            Whose::Session(at) => {
                if !self.try_withhold(at, lock, claim) {
                    self.notify_blocking(at, lock, claim);
                }
            }
            Whose::Group(group) => self.tell_group_blocking(now, group, lock, claim),
            Whose::Guest(at) => self.notify_guest(now, at, Notice::Blocking { lock, claim }),
            Whose::Ended(_) | Whose::Nobody => {}
        }
    }

    pub(crate) fn notify_blocking(&mut self, at: u32, lock: LockId, claim: Claim) {
        self.counters.notices_blocking += 1;
        self.notify(at, Notice::Blocking { lock, claim });
    }

    fn tell_revoked(&mut self, now: Time, owner: OwnerId, lock: LockId, why: Revoked) {
        // [RESTART-6] It should not happen, so that it did must be found later.
        if why == Revoked::Superseded {
            let whose = self.session_of(owner);
            self.audit(alloc::format!(
                "lock {} of {whose:?} taken back: a claim with a higher token conflicts",
                lock.0
            ));
        }
        match self.owners.get(owner) {
            Whose::Session(at) => self.on_revoked(now, at, lock, why),
            Whose::Group(group) => self.on_group_revoked(now, group, lock, why),
            Whose::Guest(at) => self.notify_guest(now, at, Notice::Revoked { lock, why }),
            Whose::Ended(_) | Whose::Nobody => {}
        }
    }

    fn on_revoked(&mut self, now: Time, at: u32, lock: LockId, why: Revoked) {
        // [MANY-5] An all-or-nothing request that loses one of its locks obtains none.
        if let Some(many) = self.many_with(at, lock) {
            return self.on_many_step(now, at, many, WaitEnd::Refused(Refusal::Lost));
        }
        let Some(session) = self.sessions.get(at) else { return };
        // A conversion under way ends with its lock.
        let converting = session.ledger.waits().find(|w| w.pend == Pend::Lock(lock)).map(|w| w.id);
        if let Some(id) = converting {
            self.end_session_wait(now, at, id, WaitEnd::Refused(Refusal::Lost));
        }
        self.lose_lock(now, at, lock, why);
    }

    /// Tells that a lock was taken away, and keeps it until the client must have heard: such a notice may not get lost with a
    /// connection ([SESS-9]).
    pub(crate) fn notify_revoked(&mut self, at: u32, lock: LockId, why: Revoked) {
        self.counters.notices_revoked += 1;
        if let Some(session) = self.sessions.get_mut(at).filter(|s| !s.is_embedded()) {
            session.keep_revocation(lock, why);
        }
        self.notify(at, Notice::Revoked { lock, why });
    }

    /// Sends a notice to a session, if it is connected.
    pub(crate) fn notify(&mut self, at: u32, notice: Notice) {
        if let Some(conn) = self.sessions.get(at).and_then(|s| s.conn) {
            self.send(conn, ServerMessage::Notice(notice));
        }
    }

    fn tell_watchers(&mut self, change: &lockstead_types::reply::Change) {
        let watchers: Vec<u32> = self.watches.watchers(change.space, &change.name).collect();
        for at in watchers {
            self.counters.notices_changed += 1;
            self.notify(at, Notice::Changed(Box::new(change.clone())));
        }
    }

    fn session_of(&self, owner: OwnerId) -> Option<lockstead_types::SessionId> {
        match self.owners.get(owner) {
            Whose::Session(at) => self.session_id(at),
            Whose::Ended(id) => Some(id),
            Whose::Guest(at) => self.member.as_ref().and_then(|m| m.guests.get(at)).map(|g| g.session),
            Whose::Group(_) | Whose::Nobody => None,
        }
    }
}
