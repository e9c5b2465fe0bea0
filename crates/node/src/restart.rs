//! After a start with sessions of before: nothing new is granted until it is certain that no holder of before can still
//! believe in a lock that this node does not know of.
//!
//! Every recorded session is a session from the start on, detached, its lease renewed at the start: it ends like any other
//! where its client does not come. Its client attaches, claims what it holds, and says so.

use hashbrown::HashMap;
use lockstead_types::{
    ConnId, LockId, RequestId, SlotSet, Span, Time,
    message::{Reclaim, ServerMessage},
    refusal::Refusal,
    reply::{Grant, Reply},
};

use crate::{
    io::{NodeConfig, Record},
    node::{Hashing, Node},
    owners::Whose,
    principal::Principal,
    session::{Session, Stage},
};

/// What is known of the time before the start.
pub(crate) struct Restart {
    /// Sessions of before that have neither claimed all their locks nor ended.
    missing: u32,
    /// Until when those may renew their leases: the start plus the largest lease ever granted.
    renew_until: Time,
    /// The largest lease ever granted.
    pub(crate) ttl_max: Span,
}

/// What a session has claimed and was granted, by the ids that its client had for the locks.
#[derive(Default)]
pub(crate) struct Claimed {
    grants: HashMap<LockId, Grant, Hashing>,
    /// Which claim each granted lock is.
    numbers: HashMap<LockId, LockId, Hashing>,
}

impl Claimed {
    pub(crate) fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    pub(crate) fn get(&self, number: LockId) -> Option<&Grant> {
        self.grants.get(&number)
    }

    /// Whether a lock was granted to some claim.
    pub(crate) fn has_lock(&self, lock: LockId) -> bool {
        self.numbers.contains_key(&lock)
    }

    pub(crate) fn insert(&mut self, number: LockId, grant: Grant) {
        self.numbers.insert(grant.lock, number);
        self.grants.insert(number, grant);
    }

    /// What a lock has been granted since is the answer, should it be claimed again.
    pub(crate) fn renew(&mut self, grant: &Grant) {
        if let Some(known) = self.numbers.get(&grant.lock).and_then(|number| self.grants.get_mut(number)) {
            *known = Grant { value: None, ..grant.clone() };
        }
    }
}

impl Restart {
    pub(crate) fn new(config: &NodeConfig, now: Time) -> Restart {
        let largest = config.recorded.iter().map(|r| r.ttl).max().unwrap_or_default().max(config.ttl_max_recorded);
        Restart { missing: 0, renew_until: now.after(largest), ttl_max: largest }
    }

    pub(crate) fn missing(&self) -> u32 {
        self.missing
    }
}

impl Node {
    pub(crate) fn load_sessions(&mut self, now: Time) {
        for record in core::mem::take(&mut self.config.recorded) {
            let principal = Principal::parse(&record.principal);
            // The process of an embedded client was the node's own, and is gone.
            if principal == Principal::Embedded {
                self.record(Record::Ended { session: record.session });
                continue;
            }
            if self.sessions.find(record.session).is_some() {
                continue;
            }
            let owner = self.table.add_owner();
            self.table.set_owner_label(owner, record.session);
            let mut session = Session::new(record.session, owner, record.ttl, principal, now);
            session.local = record.local;
            session.stage = Stage::Returning;
            if let Some(at) = self.sessions.add(session) {
                self.owners.set(owner, Whose::Session(at));
                self.restart.missing += 1;
            }
        }
        // [RESTART-1] A session that could hold a lock is in the journal, so without recorded sessions nobody holds anything.
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::NoFreeze) {
            return;
        }
        if self.restart.missing > 0 {
            self.table.freeze();
        }
    }

    /// Whether a renewal of this session counts.
    pub(crate) fn may_renew(&self, now: Time, session: &Session) -> bool {
        // [RESTART-9] A session that has attached but not claimed all its locks keeps the freeze up, and cannot be ended before
        // its lease is over, since its client may act on an unclaimed lock until then: s1 attaches, is slow to claim a, s2 is
        // granted a when "the time is up", s1 writes. So its lease is no longer renewed once the time is up, and the freeze
        // ends with it.
        match session.stage {
            Stage::Returning => match &self.member {
                Some(member) => now < session.opened.after(session.ttl).after(member.staleness),
                None => now < self.restart.renew_until,
            },
            Stage::Ending(_) => false,
            Stage::Opening | Stage::Live => true,
        }
    }

    /// A session of before has claimed all its locks, or has ended.
    pub(crate) fn on_returned(&mut self, now: Time) {
        self.restart.missing = self.restart.missing.saturating_sub(1);
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::ShortFreeze) {
            self.restart.missing = 0;
        }
        // [RESTART-3] The freeze ends when every recorded session has reported or ended.
        if self.restart.missing == 0 && self.table.is_frozen() {
            // [FREEZE-5] One of them may have held what it does not claim, and have written it.
            self.table.distrust_unsaid(&SlotSet::FULL);
            self.table.thaw(now, &mut self.fx);
            self.tell_effects(now);
            self.admit_joiners(now);
        }
    }

    pub(crate) fn on_reclaim_done(&mut self, now: Time, at: u32) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        if session.stage == Stage::Returning {
            session.stage = Stage::Live;
            self.counters.sessions_returned += 1;
            self.on_returned(now);
        }
    }

    pub(crate) fn on_reclaim(&mut self, now: Time, at: u32, conn: ConnId, id: RequestId, claim: &Reclaim<'_>) {
        self.note_claim(at, id, claim.part);
        let reply = match self.try_reclaim(now, at, claim) {
            Ok(grant) => {
                self.counters.reclaims_granted += 1;
                Reply::Granted(grant)
            }
            Err(why) => {
                self.counters.reclaims_refused += 1;
                Reply::Refused(why)
            }
        };
        self.settle_claim(now, at, id, &reply);
        // Not counted among the answers: the same claim gets the same answer for as long as the client may ask.
        self.send(conn, ServerMessage::Reply { id, reply });
        self.tell_effects(now);
    }

    fn try_reclaim(&mut self, now: Time, at: u32, claim: &Reclaim<'_>) -> Result<Grant, Refusal> {
        let session = self.sessions.get(at).ok_or(Refusal::Lost)?;
        // [RESTART-10] A repeated claim has one effect. Without this a client whose connection broke between the claim and
        // the answer would claim twice, and conflict with itself.
        if let Some(grant) = session.extra().and_then(|e| e.claimed.get(claim.lock)) {
            return Ok(grant.clone());
        }
        // [RESTART-4] [RESTART-5] Only while this session returns, and only tokens of before: later, others may have been granted what is
        // claimed.
        if session.stage != Stage::Returning || claim.token.epoch() >= self.config.epoch {
            return Err(Refusal::Lost);
        }
        let owner = session.owner;
        let grant = match claim.group {
            None => self.table.reclaim(now, owner, claim, &mut self.fx)?,
            Some(name) => self.reclaim_for_group(now, at, name, claim)?,
        };
        if let Some(session) = self.sessions.get_mut(at) {
            session.extra_or_new().claimed.insert(claim.lock, grant.clone());
        }
        self.note_in_tree(at, grant.lock);
        Ok(grant)
    }

    /// How long until the last lease that keeps the freeze up ends, if nobody comes.
    pub(crate) fn frozen_for(&self, now: Time) -> Span {
        if !self.table.is_frozen() {
            return Span::ZERO;
        }
        let missing = self.sessions.iter().filter(|(_, s)| s.stage == Stage::Returning);
        missing.map(|(_, s)| s.lease_end().since(now)).max().unwrap_or_default()
    }

    /// The lease granted for one asked for, made known to the journal where it is the largest so far.
    pub(crate) fn grant_ttl(&mut self, asked: Span) -> Span {
        let limits = &self.config.limits;
        // [SESS-2] Within the node's limits; the lower one wins where they cross.
        let ttl = asked.max(limits.ttl_min).min(limits.ttl_max);
        // [RESTART-11] A larger lease is durable before it is used.
        if ttl > self.restart.ttl_max {
            self.restart.ttl_max = ttl;
            self.record(Record::TtlMax { ttl });
        }
        ttl
    }
}
