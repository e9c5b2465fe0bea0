//! The directory of sessions: how one opens here, comes here from another home, and ends. Each is a command that this node
//! proposes; it happens when the command is applied, on all nodes.

use lockstead_cluster::{Command, EndWhy};
use lockstead_table::Ending;
use lockstead_types::{
    ConnId, LockId, RequestId, Sealed, SessionId, Time,
    message::{Reclaim, Rejection, ServerMessage},
    peer::{HomeGeneration, OwnedClaim, PeerMessage, PeerOwner},
    refusal::Refusal,
    reply::Reply,
    report::Meta,
};

use super::{
    forward::{For, Forward, What},
    proposals::Subject,
};
use crate::{
    authorize::{self, Decision},
    conn::ConnState,
    ending::Cause,
    node::Node,
    owners::Whose,
    principal::Principal,
    session::{Session, Stage},
};

/// A session on its way to this node.
pub(crate) struct Arrival {
    conn: ConnId,
    meta: Meta,
}

impl Arrival {
    /// Over which its client waits.
    pub(crate) fn conn(&self) -> ConnId {
        self.conn
    }
}

impl Node {
    /// [CLUSTER-13] A session opens at this node: it is open when it is in the directory.
    pub(crate) fn propose_open(&mut self, now: Time, at: u32) {
        let (Some(member), Some(session)) = (&self.member, self.sessions.get(at)) else { return };
        let command = Command::OpenSession {
            session: session.id,
            home: member.me,
            incarnation: member.incarnation,
            ttl: session.ttl,
            principal: alloc::format!("{}", session.principal),
            local: session.local,
        };
        let subject = Subject::Session(session.id);
        self.propose(now, subject, command);
    }

    /// A client attaches with a session this node does not have. `false` where nobody has it, as far as this node knows.
    pub(crate) fn try_arrive(&mut self, now: Time, conn: ConnId, id: SessionId, meta: Meta) -> bool {
        let (Some(member), Some(known)) = (&self.member, self.conns.get(conn)) else { return false };
        let Some(entry) = member.state.sessions.get(&id) else { return false };
        if authorize::decide_attach(&known.principal, &Principal::parse(&entry.principal)) == Decision::Deny {
            self.reject(conn, Rejection::Denied);
            return true;
        }
        let from = entry.generation;
        self.propose_arrival(now, conn, id, meta, from);
        true
    }

    /// A client attaches with a session that is not in the directory as far as this node knows, or that it has ended without
    /// knowing yet whether that counts.
    ///
    /// [CLUSTER-20] That is no proof: the session may be newer than what this node has applied, or elsewhere by now. A command that
    /// compares with a home no session ever had changes nothing, and when it is applied this node knows all that was agreed on
    /// before the client asked.
    pub(crate) fn look_for_arrival(&mut self, now: Time, conn: ConnId, id: SessionId, meta: Meta) {
        if !self.try_arrive(now, conn, id, meta.clone()) {
            self.propose_arrival(now, conn, id, meta, HomeGeneration(0));
        }
    }

    fn propose_arrival(&mut self, now: Time, conn: ConnId, id: SessionId, meta: Meta, from: HomeGeneration) {
        let Some(member) = &mut self.member else { return };
        let (home, incarnation) = (member.me, member.incarnation);
        let older = member.arrivals.insert(id, Arrival { conn, meta });
        // Its end that is under way here comes first: what becomes of it decides about who comes, too.
        if !member.proposals.ends(id) {
            self.propose(now, Subject::Session(id), Command::RehomeSession { session: id, from, home, incarnation });
        }
        if let Some(older) = older.filter(|o| o.conn != conn) {
            self.reject(older.conn, Rejection::Superseded);
        }
    }

    /// A session of this node ends: nobody may go on with it, and its locks go when all have heard.
    pub(crate) fn propose_end(&mut self, now: Time, at: u32, cause: Cause) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        if let Stage::Ending(_) = session.stage {
            return;
        }
        session.stage = Stage::Ending(cause);
        let (id, home) = (session.id, session.home);
        let why = match cause {
            Cause::Goodbye => EndWhy::Goodbye,
            Cause::Crashed | Cause::Expired => EndWhy::Expired,
            Cause::Forced => EndWhy::Forced,
        };
        // [CLUSTER-14] Its client said so itself: its locks are free at once, without waiting for the directory.
        if cause == Cause::Goodbye {
            self.part_from_masters(now, at, false);
            self.forget_locks(at);
        }
        self.propose(now, Subject::Session(id), Command::EndSession { session: id, home, why });
    }

    fn part_from_masters(&mut self, now: Time, at: u32, lost: bool) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        let (id, home) = (session.id, session.home);
        let introduced = core::mem::take(&mut session.introduced);
        for (master, _) in introduced {
            self.send_peer(now, master, PeerMessage::Part { session: id, home, lost });
        }
    }

    /// A home says that a session has ended.
    pub(crate) fn on_part(&mut self, now: Time, session: SessionId, home: HomeGeneration, lost: bool) {
        if self.guest_of(session, home).is_some() {
            self.end_guest(now, session, if lost { Ending::Crash } else { Ending::Goodbye });
        }
    }

    // ------------------------------------------------------------ when it is decided

    pub(crate) fn on_session_opened(&mut self, now: Time, id: SessionId) {
        let Some(member) = &mut self.member else { return };
        let Some(entry) = member.state.sessions.get(&id) else { return };
        if entry.home != member.me || entry.incarnation != member.incarnation {
            return;
        }
        let home = entry.generation;
        member.proposals.settled(Subject::Session(id));
        let found = self.sessions.find(id).and_then(|at| self.sessions.get_mut(at));
        let stage = found.map(|session| {
            session.home = home;
            session.stage
        });
        let why = match stage {
            Some(Stage::Opening) => return self.on_recorded(id),
            Some(Stage::Live | Stage::Returning) => return,
            // It ended before it was open: its end goes below.
            Some(Stage::Ending(Cause::Goodbye)) => EndWhy::Goodbye,
            Some(Stage::Ending(Cause::Forced)) => EndWhy::Forced,
            Some(Stage::Ending(Cause::Crashed | Cause::Expired)) | None => EndWhy::Expired,
        };
        self.propose(now, Subject::Session(id), Command::EndSession { session: id, home, why });
    }

    pub(crate) fn on_session_rehomed(&mut self, now: Time, id: SessionId) {
        let Some(member) = &mut self.member else { return };
        let Some(entry) = member.state.sessions.get(&id) else { return };
        let here = entry.home == member.me && entry.incarnation == member.incarnation;
        let (ttl, home, local) = (entry.ttl, entry.generation, entry.local);
        let principal = Principal::parse(&entry.principal);
        // An older one of it, from when this node was its home before, or is no longer.
        #[cfg(feature = "planted")]
        if !here && lockstead_types::planted::is(lockstead_types::planted::Bug::OldHomeStays) {
            return;
        }
        if let Some(at) = self.sessions.find(id) {
            self.report_leaving(now, at);
            self.forget_session(now, at);
        }
        if !here {
            return;
        }
        let Some(member) = &mut self.member else { return };
        member.proposals.settled(Subject::Session(id));
        let arrival = member.arrivals.remove(&id);
        let owner = self.table.add_owner();
        let mut session = Session::new(id, owner, ttl, principal, now);
        (session.local, session.home, session.stage) = (local, home, Stage::Returning);
        // [CLUSTER-23] For so long the former home may renew it that has not heard of this: as if it were renewed here all that time.
        //
        // Without this: s attaches at h2, gives up before it is answered, and goes back to h1, which has not heard yet that h2 is its
        // home now, and renews it; h2, where nobody comes, ends s; its locks go to others while it counts on them.
        session.renewed = now.after(member.staleness);
        let arrival = arrival.filter(|a| self.conns.get(a.conn).is_some());
        session.meta = arrival.as_ref().map(|a| a.meta.clone()).unwrap_or_default();
        session.conn = arrival.as_ref().map(|a| a.conn);
        let Some(at) = self.sessions.add(session) else { return };
        self.owners.set(owner, Whose::Session(at));
        self.counters.sessions_arrived += 1;
        if let Some(Arrival { conn, .. }) = arrival {
            self.conns.set_state(conn, ConnState::Open(at));
            self.go_on(now, conn, at);
        }
    }

    pub(crate) fn on_session_ended(&mut self, now: Time, id: SessionId, home: HomeGeneration, why: EndWhy) {
        // [CLUSTER-8] The same id may have been opened again since, and messages of that home may have come before this end: a
        // guest of a later generation stays. So does a session whose own open is still to be applied.
        let guest = self.member.as_ref().and_then(|m| m.guests.generation_of(id));
        let guest_is_later = guest.is_some_and(|later| later > home);
        let here = self.sessions.find(id);
        let opening = here.and_then(|at| self.sessions.get(at)).is_some_and(|s| s.stage == Stage::Opening);
        let ending = match why {
            EndWhy::Goodbye => Ending::Goodbye,
            EndWhy::Expired | EndWhy::Forced => Ending::Crash,
        };
        if let Some(at) = here.filter(|_| !opening) {
            let cause = match (self.sessions.get(at).map(|s| s.stage), why) {
                (Some(Stage::Ending(cause)), _) => cause,
                (_, EndWhy::Goodbye) => Cause::Goodbye,
                (_, EndWhy::Forced) => Cause::Forced,
                (_, EndWhy::Expired) => Cause::Expired,
            };
            self.count_end(cause);
            // Masters that have not heard of the session yet will not make it a guest again after this.
            self.part_from_masters(now, at, ending == Ending::Crash);
            if let Some(conn) = self.sessions.get(at).and_then(|s| s.conn) {
                self.tell_ended(now, conn);
            }
            self.forget_session(now, at);
        }
        if let Some(member) = self.member.as_mut().filter(|_| !opening) {
            member.proposals.settled(Subject::Session(id));
            // [CLUSTER-20] It may have been opened anew since, which this node has not applied yet.
            if let Some(Arrival { conn, meta }) = member.arrivals.remove(&id) {
                self.look_for_arrival(now, conn, id, meta);
            }
        }
        if !guest_is_later {
            self.end_guest(now, id, ending);
        }
        if ending == Ending::Crash {
            self.note_crashed(id);
        }
        self.on_session_reported(now, id);
    }

    /// A session has nothing any more, here or at masters, and asks for nothing.
    ///
    /// Without this: s says goodbye, its master gives back what it was just granted; that grant, told before, arrives at its home; the
    /// slot moves before the end of s is agreed on, and the home reports a lock that another has had since.
    fn forget_locks(&mut self, at: u32) {
        self.drop_manies(at);
        let Some(member) = &mut self.member else { return };
        for key in member.forwards.of_session(at) {
            member.forwards.remove(key);
        }
        let copies: alloc::vec::Vec<u32> = member.copies.of_session(at).collect();
        for copy in copies {
            member.copies.remove(copy);
        }
    }

    /// A session is no longer this node's: nothing of it stays here.
    fn forget_session(&mut self, now: Time, at: u32) {
        self.forget_locks(at);
        self.detach_all(at);
        self.drop_watches(at);
        self.forget_asks(at);
        if let Some(member) = &mut self.member {
            for (subject, _) in member.proposals.subjects() {
                if matches!(subject, Subject::Request(session, _) if session == at) {
                    member.proposals.settled(subject);
                }
            }
        }
        let Some(session) = self.sessions.remove(at) else { return };
        if let Some(conn) = session.conn.filter(|conn| self.conns.carries(*conn, at)) {
            self.reject(conn, Rejection::Superseded);
        }
        self.owners.set(session.owner, Whose::Nobody);
        self.table.end_owner(now, session.owner, Ending::Goodbye, &mut self.fx);
        self.tell_effects(now);
    }

    /// A command of this node was refused.
    pub(crate) fn on_refused_command(&mut self, now: Time, command: &Command) {
        let Some(member) = &mut self.member else { return };
        match command {
            Command::OpenSession { session, home, incarnation, .. }
                if *home == member.me && *incarnation == member.incarnation =>
            {
                member.proposals.settled(Subject::Session(*session));
                self.agree_with_directory(now, *session);
            }
            Command::RehomeSession { session, home, incarnation, .. }
                if *home == member.me && *incarnation == member.incarnation =>
            {
                self.on_rehome_refused(now, *session);
            }
            // It ended already, or another home has it; or it is not open yet: then it is ended when it opens. A late one of an earlier
            // home says nothing about what this node has proposed since.
            Command::EndSession { session, .. } if member.proposals.is(Subject::Session(*session), command) => {
                member.proposals.settled(Subject::Session(*session));
                self.agree_with_directory(now, *session);
                self.look_again_for_arrival(now, *session);
            }
            _ => {}
        }
    }

    /// What this node has of a session gives way to what the directory says, where a proposal about it was refused.
    fn agree_with_directory(&mut self, now: Time, id: SessionId) {
        let Some(member) = &self.member else { return };
        let (me, incarnation) = (member.me, member.incarnation);
        let entry =
            member.state.sessions.get(&id).map(|e| (e.home == me && e.incarnation == incarnation, e.generation));
        let Some(at) = self.sessions.find(id) else { return };
        let Some(session) = self.sessions.get_mut(at) else { return };
        match (entry, session.stage) {
            (Some((true, generation)), Stage::Ending(_)) if session.home != generation => {
                session.home = generation;
                let command = Command::EndSession { session: id, home: generation, why: EndWhy::Expired };
                self.propose(now, Subject::Session(id), command);
            }
            (Some((true, _)), _) => {}
            // Another node has it, or nobody: what is here is over.
            (Some((false, _)) | None, Stage::Opening | Stage::Ending(_)) => {
                if let Some(conn) = session.conn {
                    self.reject(conn, Rejection::Idle);
                }
                self.forget_session(now, at);
            }
            (Some((false, _)) | None, Stage::Live | Stage::Returning) => {}
        }
    }

    /// The session moved or ended meanwhile: it is asked for as it now stands.
    fn on_rehome_refused(&mut self, now: Time, session: SessionId) {
        let Some(member) = &mut self.member else { return };
        member.proposals.settled(Subject::Session(session));
        self.look_again_for_arrival(now, session);
    }

    fn look_again_for_arrival(&mut self, now: Time, session: SessionId) {
        let Some(member) = &mut self.member else { return };
        let here = self.sessions.find(session).is_some();
        let Some(Arrival { conn, meta }) = member.arrivals.remove(&session).filter(|_| !here) else { return };
        if self.conns.get(conn).is_some() && !self.try_arrive(now, conn, session, meta) {
            self.tell_ended(now, conn);
        }
    }

    // ------------------------------------------------------------ claims

    /// A claim of a session that has come here goes to the master of its slot.
    pub(crate) fn forward_claim(
        &mut self,
        now: Time,
        at: u32,
        (conn, id): (ConnId, RequestId),
        claim: &Reclaim<'_>,
        sealed: Option<&Sealed>,
    ) {
        let Some(session) = self.sessions.get(at) else { return };
        let earlier = session.extra().and_then(|e| e.claimed.get(claim.lock)).cloned();
        let reply = match (earlier, session.stage) {
            (Some(grant), _) => Reply::Granted(grant),
            (None, Stage::Returning) => {
                let Some(slot) = self.slot_of(claim.space, claim.name) else { return };
                // The same claim again while the first is on its way: one answer is enough, and one copy.
                if self.is_claiming(at, claim.lock) {
                    return;
                }
                self.note_claim(at, id, claim.part);
                if let Err(why) = self.check_proof(at, claim, sealed) {
                    self.settle_claim(now, at, id, &Reply::Refused(why));
                    return self.send(conn, ServerMessage::Reply { id, reply: Reply::Refused(why) });
                }
                let owner = match (claim.group, claim.alone) {
                    (Some(group), _) => PeerOwner::Group(group.into()),
                    (None, true) => PeerOwner::Alone,
                    (None, false) => PeerOwner::Session,
                };
                let claim = OwnedClaim {
                    space: claim.space,
                    name: claim.name.into(),
                    held: claim.held,
                    token: claim.token,
                    lock: claim.lock,
                    tag: claim.tag,
                    owner,
                    flags: claim.flags,
                };
                return self.begin(now, (at, id), slot, For::Client, What::Claim(claim), None);
            }
            (None, _) => Reply::Refused(Refusal::Lost),
        };
        self.send(conn, ServerMessage::Reply { id, reply });
    }

    fn is_claiming(&self, at: u32, lock: LockId) -> bool {
        let Some(member) = &self.member else { return false };
        let same = |f: &Forward| matches!(&f.what, What::Claim(claim) if claim.lock == lock);
        member.forwards.of_session(at).iter().any(|key| member.forwards.map.get(key).is_some_and(same))
    }

    /// A session has claimed all it has: every master may release what else it had.
    pub(crate) fn tell_claims_done(&mut self, now: Time, at: u32) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        if session.stage != Stage::Returning {
            return;
        }
        session.stage = Stage::Live;
        let (session, home) = (session.id, session.home);
        self.counters.sessions_returned += 1;
        self.tell_no_age(now, at);
        let Some(member) = &self.member else { return };
        for node in super::up_nodes(&member.state) {
            self.introduce(now, at, node);
            self.send_peer(now, node, PeerMessage::ClaimsDone { session, home });
        }
    }
}
