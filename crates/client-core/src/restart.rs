//! At a node that knows no lock of the session, since it restarted or is another one: groups are joined again, locks
//! claimed, and what had no answer asked again ([RESTART-7], [HOME-1]).

use alloc::{collections::VecDeque, vec::Vec};

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use lockstead_types::{
    Flags, LockId, Refusal, RequestId, Span, Time,
    message::ClientMessage,
    reply::{Notice, Reply, Revoked},
    request::OwnerRef,
};

use crate::{
    home::Entry,
    locks::Lock,
    op::{Owned, Rare},
    requests::For,
    session::{Event, Output, Phase, Session},
};

/// How far the claims are.
pub(crate) struct Claims {
    ttl: Span,
    /// When the attach was sent: counts as a renewal once every claim is answered.
    sent: Time,
    /// Groups not joined yet, and a transaction that its new home does not know.
    groups: u32,
    /// Locks not claimed yet.
    left: VecDeque<LockId>,
    /// Claims without an answer, those not sent yet included.
    unanswered: HashSet<LockId, FixedState>,
}

/// Numbers of claims have the topmost bit, those of requests never: a session would have to ask for centuries.
const CLAIM_BIT: u64 = 1 << 63;

impl Session {
    pub(crate) fn start_returning(&mut self, now: Time, ttl: Span, sent: Time, entry: Entry) {
        // [RESTART-7] [HOME-1] Groups first, since claims of their locks name them; requests are held until all is claimed.
        self.restart_count();
        self.weaken_doubtful();
        self.settle_uses();
        self.locks.forget_wires();
        self.requests.hold();
        if entry == Entry::New {
            self.requests.forget_one_way();
        }
        let mut groups = self.push_resume();
        for (number, name) in self.groups.forget_wires() {
            let op = Owned::Rare(Rare::GroupAttach { name }.into());
            let id = self.requests.push(For::Regroup(number), op);
            self.events.push_back(Event::Regroup(id));
            groups += 1;
        }
        // Above the numbers of the transaction and of the groups, which are said before: a lower one would be taken for seen.
        self.requests.number_waits(self.home.number());
        self.phase =
            Phase::Returning(Claims { ttl, sent, groups, left: VecDeque::new(), unanswered: HashSet::default() });
        if groups == 0 {
            self.start_claims(now);
        }
    }

    /// The connection broke before all was claimed: the next one starts again.
    pub(crate) fn forget_returning(&mut self) {
        for id in self.requests.ids_where(|r| matches!(r.whose, For::Regroup(_) | For::Resume)) {
            self.requests.remove(id);
        }
    }

    pub(crate) fn regroup_message(&mut self, id: RequestId) -> ClientMessage<'_> {
        if let Some(Owned::Rare(rare)) = self.requests.get_mut(id).map(|r| &r.op)
            && let Rare::Resume(resume) = **rare
        {
            return ClientMessage::Request { id, op: lockstead_types::request::Op::Resume(resume) };
        }
        let name: &[u8] = match self.requests.get_mut(id).map(|r| &r.op) {
            Some(Owned::Rare(rare)) => match &**rare {
                Rare::GroupAttach { name } => name,
                _ => &[],
            },
            _ => &[],
        };
        ClientMessage::Request { id, op: lockstead_types::request::Op::GroupAttach { name } }
    }

    pub(crate) fn on_regrouped(&mut self, now: Time) {
        let Phase::Returning(claims) = &mut self.phase else { return };
        claims.groups = claims.groups.saturating_sub(1);
        if claims.groups == 0 {
            self.acknowledge_groups();
            self.start_claims(now);
        }
    }

    fn start_claims(&mut self, now: Time) {
        let home = self.home.number();
        self.locks.forget_dropped(home);
        self.claim_for_writes(home);
        let ids: VecDeque<LockId> = self.locks.to_claim(home).collect();
        for id in &ids {
            if let Some(held) = self.locks.get_mut(*id).and_then(Lock::held_mut) {
                held.claimed_in = home;
            }
        }
        if let Phase::Returning(claims) = &mut self.phase {
            claims.unanswered = ids.iter().copied().collect();
            claims.left = ids;
        }
        self.finish_returning(now);
    }

    /// [HOME-8] A lock whose release writes the value block and was never sent is claimed, so that the write can be made.
    fn claim_for_writes(&mut self, home: Option<u32>) {
        for (_, lock, sent) in self.requests.writes_with_release() {
            if let (false, Some(Lock::Releasing(held))) = (sent, self.locks.get_mut(lock)) {
                held.claimed_in = home;
            }
        }
    }

    /// A claim brings back one use, however many there are. Releases of single uses are not said again, and from here on one that is left is
    /// nobody's but the session's own affair. What one of them was to write nobody can say.
    ///
    /// Without this: two uses, one is released, and its home dies before it has answered; the claim brings back one use, and the release, said
    /// again, takes it away. And the same where it is released while the claim has no answer yet.
    fn settle_uses(&mut self) {
        for (id, lock, writes) in self.requests.releases() {
            if self.locks.get(lock).and_then(Lock::held).is_some_and(|held| held.leaving > 0) {
                self.settle_local(id, if writes { Reply::Refused(Refusal::Lost) } else { Reply::Released });
            }
        }
        self.locks.held_mut().for_each(|held| held.uncounted = held.uses.saturating_sub(1));
    }

    /// [HOME-8] All is claimed: what becomes of releases that write a value block, of locks that are not.
    ///
    /// Without this: a release was sent, and its home died with it; answered at once, its client tells others, who read beside the
    /// lock what was there before, since its master has not heard yet that nobody claims it.
    fn settle_writes(&mut self) {
        for (id, lock, sent) in self.requests.writes_with_release() {
            if self.locks.wire_of(lock).is_some() {
                continue;
            }
            if !sent {
                self.settle_local(id, Reply::Refused(Refusal::Lost));
            } else if let Some(request) = self.requests.get_mut(id) {
                request.op = Owned::Rare(Rare::Unclaimed(lock).into());
            }
        }
    }

    pub(crate) fn poll_claim(&mut self) -> Option<Output<'_>> {
        let Phase::Returning(claims) = &mut self.phase else { return None };
        let lock = claims.left.pop_front()?;
        let held = self.locks.get(lock)?.held()?;
        let group = match held.owner {
            OwnerRef::Group(group) => self.groups.name_of(group),
            OwnerRef::Session | OwnerRef::Alone | OwnerRef::Transaction | OwnerRef::Statement => None,
        };
        // An id of a lock never has the bit.
        let id = RequestId(CLAIM_BIT | lock.0);
        Some(Output::Send(ClientMessage::Reclaim { id, claim: held.reclaim(lock, group), sealed: held.sealed }))
    }

    pub(crate) fn is_claim_answer(&self, id: RequestId) -> bool {
        id.0 & CLAIM_BIT != 0
    }

    pub(crate) fn on_claim_answered(&mut self, now: Time, id: RequestId, reply: Reply) {
        let id = LockId(id.0 & !CLAIM_BIT);
        // [HOME-6] The first answer counts. A second one, of a master that came to be while the claim was under way, must not be
        // taken for the answer to another claim: the lease would be renewed with that one still on its way.
        let Phase::Returning(claims) = &mut self.phase else { return };
        if !claims.unanswered.remove(&id) {
            return;
        }
        match (reply, self.locks.get(id)) {
            (Reply::Granted(grant), Some(Lock::Dropped(_))) => {
                self.locks.remove(id);
                self.requests.push_one_way(grant.lock, Flags::FORCEUNLOCK);
            }
            (Reply::Granted(grant), Some(_)) => {
                self.locks.set_wire(id, grant.lock);
                if let Some(held) = self.locks.get_mut(id).and_then(Lock::held_mut) {
                    held.take_grant(&grant);
                }
            }
            // Somebody with a newer token has what conflicts with it, or the claim came too late.
            (_, Some(_)) => self.lose_lock(id, Revoked::Superseded),
            (_, None) => {}
        }
        self.finish_returning(now);
    }

    fn finish_returning(&mut self, now: Time) {
        let Phase::Returning(claims) = &self.phase else { return };
        if !claims.unanswered.is_empty() {
            return;
        }
        let (ttl, sent) = (claims.ttl, claims.sent);
        // [CLUSTER-24] Before the masters hear that all is claimed: then they serve who waits.
        let waits = self.requests.waits_to_tell(self.home.number(), &self.wiring());
        for id in waits.iter().copied() {
            self.events.extend(self.requests.tell_wait(now, id).map(|stood| Event::Again { id, stood }));
        }
        self.events.push_back(Event::ReclaimDone);
        // [SESS-5] Only now the attach counts as a renewal. Counted earlier, a client could act on a lock whose claim is still
        // on its way when the node stops waiting for claims and grants the lock to another.
        self.renew_lease(ttl, sent);
        self.settle_writes();
        let watches: Vec<_> = core::mem::take(&mut self.watches);
        self.requests.renumber(&waits);
        for (space, prefix) in watches {
            self.requests.push(For::Nobody, Owned::Rare(Rare::Watch { space, prefix: prefix.clone() }.into()));
            self.watches.push((space, prefix));
        }
        self.go_live(sent);
        self.renew_early(now);
        self.on_watches_interrupted();
    }

    /// Changes that came without a connection were not seen.
    pub(crate) fn on_watches_interrupted(&mut self) {
        if !self.watches.is_empty() {
            self.events.push_back(Event::Notice(Notice::Resync));
        }
    }
}
