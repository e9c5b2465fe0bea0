//! Sessions and their leases.
//!
//! A lease is renewed far more often than it ends, so a renewal writes one field and moves no timer: the timer that comes
//! looks at the field, and either ends the session or sets itself again.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_table::OwnerId;
use lockstead_types::{
    ConnId, LockId, NodeId, SessionId, Span, Time,
    peer::{HomeGeneration, Incarnation},
    reply::Revoked,
    report::Meta,
};

use crate::{ending::Cause, ledger::Ledger, principal::Principal, restart::Claimed, slab::Slab, tree::Tree, txn::Txn};

pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) owner: OwnerId,
    /// Whether the end of its connection ends it.
    pub(crate) local: bool,
    pub(crate) principal: Principal,
    pub(crate) meta: Meta,
    pub(crate) ttl: Span,
    pub(crate) opened: Time,
    /// When the newest accepted renewal came in. Never earlier than before; of one that has just come from another home, a time that is still to come ([CLUSTER-23]).
    pub(crate) renewed: Time,
    pub(crate) conn: Option<ConnId>,
    pub(crate) stage: Stage,
    pub(crate) ledger: Ledger,
    /// How often its home has changed; 0 where this node is alone.
    pub(crate) home: HomeGeneration,
    /// Masters that know it.
    pub(crate) introduced: Vec<(NodeId, Incarnation)>,
    /// What few sessions have; absent while it is empty.
    extra: Option<Box<Extra>>,
    /// Its entry among the timers; `None` where it has no lease to lose ([SESS-11]).
    timer: Option<Time>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The journal has not made it durable: the client knows nothing of it yet.
    Opening,
    Live,
    /// Of before a restart, or from another home; has not claimed all its locks yet.
    Returning,
    /// Its end is proposed to the members: nobody goes on with it.
    Ending(Cause),
}

/// What few sessions have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) groups: BTreeSet<u32>,
    /// All-or-nothing requests under way.
    pub(crate) manies: BTreeSet<u32>,
    pub(crate) watches: u32,
    /// Locks taken away of which the client may not know yet.
    pub(crate) revoked: Vec<Revocation>,
    /// What it holds in hierarchies.
    pub(crate) tree: Option<Box<Tree>>,
    /// Its transaction.
    pub(crate) txn: Option<Box<Txn>>,
    pub(crate) claimed: Claimed,
    /// A claim of it came without its proof, and the audit log says so.
    pub(crate) unproven: bool,
}

pub(crate) struct Revocation {
    pub(crate) lock: LockId,
    pub(crate) why: Revoked,
    /// How many answers had been given when it was last sent: once a later one is acknowledged, it has arrived too.
    pub(crate) sent_after: u64,
}

impl Session {
    pub(crate) fn new(id: SessionId, owner: OwnerId, ttl: Span, principal: Principal, now: Time) -> Session {
        Session {
            id,
            owner,
            local: false,
            principal,
            meta: Meta::default(),
            ttl,
            opened: now,
            renewed: now,
            conn: None,
            stage: Stage::Live,
            ledger: Ledger::default(),
            home: HomeGeneration::default(),
            introduced: Vec::new(),
            extra: None,
            timer: None,
        }
    }

    /// Whether its client is in the node's own process: then there is no lease, no connection that breaks, and nothing to
    /// be said twice ([SESS-11]).
    pub(crate) fn is_embedded(&self) -> bool {
        self.principal == Principal::Embedded
    }

    pub(crate) fn lease_end(&self) -> Time {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::ExpireEarly) {
            return self.renewed.after(self.ttl.scaled(3, 4));
        }
        self.renewed.after(self.ttl)
    }

    pub(crate) fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    pub(crate) fn extra_mut(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    pub(crate) fn extra_or_new(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn in_groups(&self) -> bool {
        self.extra().is_some_and(|e| !e.groups.is_empty())
    }

    pub(crate) fn has_manies(&self) -> bool {
        self.extra().is_some_and(|e| !e.manies.is_empty())
    }

    /// Keeps a revocation until the client must have heard of it.
    pub(crate) fn keep_revocation(&mut self, lock: LockId, why: Revoked) {
        let sent_after = self.ledger.answered();
        self.extra_or_new().revoked.push(Revocation { lock, why, sent_after });
    }

    /// Forgets what an acknowledgement proves to have arrived.
    pub(crate) fn forget_arrived(&mut self) {
        let acked = self.ledger.acked();
        if let Some(extra) = self.extra.as_deref_mut() {
            extra.revoked.retain(|r| r.sent_after >= acked);
        }
    }

    fn shrink(&mut self) {
        self.ledger.shrink();
        let bare = |e: &Extra| {
            let idle =
                e.groups.is_empty() && e.manies.is_empty() && e.watches == 0 && e.txn.is_none() && e.tree.is_none();
            idle && e.revoked.is_empty() && e.claimed.is_empty()
        };
        if let Some(extra) = self.extra.as_deref_mut() {
            extra.tree.take_if(|tree| tree.is_empty());
        }
        self.extra.take_if(|e| bare(e));
    }
}

/// All sessions.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_id: BTreeMap<SessionId, u32>,
    /// When to look at whose lease.
    timers: BTreeSet<(Time, u32)>,
    scratch: Tree,
}

impl Sessions {
    pub(crate) fn new() -> Sessions {
        Sessions { slab: Slab::new(), by_id: BTreeMap::new(), timers: BTreeSet::new(), scratch: Tree::default() }
    }

    /// Adds a session; its lease runs from [`Session::renewed`] on.
    pub(crate) fn add(&mut self, mut session: Session) -> Option<u32> {
        let id = session.id;
        // [SESS-11] A session in the node's own process has no lease: both end together.
        session.timer = (!session.is_embedded()).then(|| session.lease_end());
        let timer = session.timer;
        let at = self.slab.insert(session)?;
        self.by_id.insert(id, at);
        self.timers.extend(timer.map(|t| (t, at)));
        Some(at)
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Session> {
        let session = self.slab.remove(at)?;
        self.by_id.remove(&session.id);
        if let Some(timer) = session.timer {
            self.timers.remove(&(timer, at));
        }
        Some(session)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Session> {
        self.slab.get(at)
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Session> {
        self.slab.get_mut(at)
    }

    /// The book of what a session holds in hierarchies; of none that is there no longer a page that nobody reads.
    pub(crate) fn tree_or_new(&mut self, at: u32) -> &mut Tree {
        match self.slab.get_mut(at) {
            Some(session) => session.extra_or_new().tree.get_or_insert_default(),
            None => {
                self.scratch = Tree::default();
                &mut self.scratch
            }
        }
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slab.iter()
    }

    /// By id, those above `after`.
    pub(crate) fn after(&self, after: Option<SessionId>) -> impl Iterator<Item = &Session> {
        use core::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).filter_map(|(_, at)| self.slab.get(*at))
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// A session whose lease has ended by `now`. Timers that came too early, because a renewal came after they were set,
    /// are set again on the way.
    pub(crate) fn pop_expired(&mut self, now: Time) -> Option<u32> {
        loop {
            let (timer, at) = *self.timers.first()?;
            if timer > now {
                return None;
            }
            self.timers.pop_first();
            let Some(session) = self.slab.get_mut(at) else { continue };
            let end = session.lease_end();
            if end <= now {
                session.timer = None;
                return Some(at);
            }
            session.timer = Some(end);
            session.shrink();
            self.timers.insert((end, at));
        }
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.by_id.len() != self.slab.len() {
            return Err("a session is not found by its id");
        }
        for (at, session) in self.slab.iter() {
            session.ledger.check()?;
            if self.find(session.id) != Some(at) {
                return Err("a session is found under another's id");
            }
            match session.timer {
                Some(timer) if !self.timers.contains(&(timer, at)) => return Err("a lease has no timer"),
                Some(timer) if timer > session.lease_end() => return Err("a timer comes after its lease's end"),
                None if !session.is_embedded() && !matches!(session.stage, Stage::Ending(_)) => {
                    return Err("a lease without timer");
                }
                Some(_) | None => {}
            }
        }
        if self.timers.iter().any(|(t, at)| self.get(*at).is_none_or(|s| s.timer != Some(*t))) {
            return Err("a timer of no session");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        // Beside it: its entries in two ordered maps, its connection, its owner here and in the table, some text of its own.
        let around = 2 * 64 + size_of::<crate::conn::Conn>() + 64 + 128 + 192;
        let bytes = size_of::<Option<Session>>() + around;
        assert!(bytes <= 1024, "{} and {around}", size_of::<Session>());
    }

    #[test]
    fn a_renewal_moves_no_timer_and_ends_come_on_time() {
        let mut sessions = Sessions::new();
        let at = |millis| Time::ZERO.after(Span::from_millis(millis));
        let who = Principal::Address("h:1".into());
        let session = Session::new(SessionId(1), OwnerId(0), Span::from_millis(100), who, at(0));
        let place = sessions.add(session).expect("room");
        sessions.get_mut(place).expect("there").renewed = at(60);
        assert_eq!(sessions.next_timer(), Some(at(100)));
        assert_eq!(sessions.pop_expired(at(100)), None);
        assert_eq!(sessions.next_timer(), Some(at(160)));
        assert_eq!(sessions.check(), Ok(()));
        assert_eq!(sessions.pop_expired(at(160)), Some(place));
        assert!(sessions.remove(place).is_some());
        assert_eq!((sessions.len(), sessions.next_timer(), sessions.find(SessionId(1))), (0, None, None));
    }
}
