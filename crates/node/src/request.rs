//! Requests of a session: admitted once, authorised, handed to who decides, answered.

use lockstead_table::{Outcome, OwnerId};
use lockstead_types::{
    ConnId, LockId, RequestId, Time,
    message::{ClientMessage, Rejection, ServerMessage},
    refusal::Refusal,
    reply::{Queued, Reply},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Stood, Target},
};

use crate::{
    authorize::{self, Decision},
    io::Output,
    ledger::{Pend, Waiting},
    node::Node,
    session::Stage,
};

/// Who of this session has a lock.
pub(crate) enum Having {
    /// The session itself, as far as the node knows: the table has the last word.
    Session(OwnerId),
    /// A group the session is attached to.
    Group(u32),
}

impl Node {
    pub(crate) fn on_session_message(&mut self, now: Time, conn: ConnId, at: u32, message: &ClientMessage<'_>) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        match message {
            ClientMessage::Goodbye => self.on_goodbye(now, conn, at),
            // What was under way when its end was decided.
            _ if matches!(session.stage, Stage::Ending(_)) => {}
            // [SESS-14] Not open yet.
            _ if session.stage == Stage::Opening => self.reject(conn, Rejection::Protocol),
            ClientMessage::Request { id, op } => self.on_request(now, conn, at, *id, op, None),
            ClientMessage::Again { id, stood, op } => self.on_request(now, conn, at, *id, op, Some(*stood)),
            ClientMessage::Ack { answers } => {
                if session.ledger.on_ack(*answers).is_err() {
                    return self.reject(conn, Rejection::Protocol);
                }
                session.forget_arrived();
                self.release_heard_of(now, at);
            }
            ClientMessage::Renew { seq } => self.on_renew(now, conn, at, *seq),
            ClientMessage::Reclaim { id, claim, sealed } if self.is_member() => {
                self.forward_claim(now, at, (conn, *id), claim, sealed.as_ref());
            }
            ClientMessage::Reclaim { id, claim, .. } => self.on_reclaim(now, at, conn, *id, claim),
            ClientMessage::ReclaimDone if self.is_member() => self.tell_claims_done(now, at),
            ClientMessage::ReclaimDone => self.on_reclaim_done(now, at),
            // [SESS-1] One session a connection.
            ClientMessage::Hello { .. } | ClientMessage::Open { .. } | ClientMessage::Attach { .. } => {
                self.reject(conn, Rejection::Protocol);
            }
        }
    }

    fn on_renew(&mut self, now: Time, conn: ConnId, at: u32, seq: u64) {
        let Some(session) = self.sessions.get(at) else { return };
        // An unanswered renewal is how a client learns that its lease runs out.
        if !self.may_renew(now, session) {
            return;
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.renewed = session.renewed.max(now);
            self.counters.renewals += 1;
            self.send(conn, ServerMessage::Renewed { seq });
        }
    }

    pub(crate) fn on_request(
        &mut self,
        now: Time,
        conn: ConnId,
        at: u32,
        id: RequestId,
        op: &Op<'_>,
        stood: Option<Stood>,
    ) {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get_mut(at) else { return };
        if id == RequestId(0) {
            return self.reject(conn, Rejection::Protocol);
        }
        // [SESS-6] A repeated request has one effect. Its answer was sent over this connection, is in the log that was repeated
        // when this connection attached, or is still to come: it is never given twice, since both sides count answers.
        // What is said again of waits at another home has a number from when its client first came here: groups that it has joined anew
        // since, over another connection, have higher ones.
        let again = stood.is_some() && session.stage == Stage::Returning && !session.ledger.knows(id);
        if id <= session.ledger.seen() && !again {
            self.counters.requests_repeated += 1;
            return;
        }
        // [SESS-13] Credit. The client was told how much it has, so this is an offender.
        let over = session.ledger.in_flight() >= u64::from(limits.in_flight);
        if over || session.ledger.weight() > u64::from(limits.output_bytes) {
            return self.reject(conn, Rejection::Credit);
        }
        session.ledger.try_admit(id);
        // [CLUSTER-24] Later, who came after it may have been served.
        let stood = stood.filter(|_| session.stage == Stage::Returning);
        let decision = authorize::decide(&session.principal, op);
        self.counters.on_request(op);
        match decision {
            Decision::Allow => match (self.admit_to_tree(at, op).and_then(|()| self.admit_to_txn(at, id, op)), stood) {
                (Err(why), _) => self.refuse(at, id, why),
                (Ok(()), Some(stood)) if self.is_member() => self.forward_again(now, at, id, op, stood),
                (Ok(()), _) => self.apply(now, at, id, op),
            },
            Decision::Deny => self.refuse(at, id, Refusal::Denied),
        }
    }

    pub(crate) fn apply(&mut self, now: Time, at: u32, id: RequestId, op: &Op<'_>) {
        if self.is_member() && self.apply_as_member(now, at, id, op) {
            return;
        }
        match op {
            Op::Lock(request) => self.on_lock(now, at, id, request),
            Op::LockMany(requests) => self.on_lock_many(now, at, id, requests),
            Op::LockPath(request) => self.on_lock_path(now, at, id, request),
            Op::Convert(request) => self.on_convert(now, at, id, request),
            Op::Release { release, one_way } => self.on_release(now, at, id, release, *one_way),
            Op::Cancel(target) => self.on_cancel(now, at, id, *target),
            Op::ReadValue(lock) => self.on_read_value(at, id, *lock),
            // Everything asked before has had its effects: each request is done with before the next is looked at.
            Op::Sync => self.answer(at, id, Reply::Done),
            Op::GroupAttach { name } => self.on_group_attach(at, id, name),
            Op::GroupDetach(group) => self.on_group_detach(now, at, id, *group),
            Op::Begin { age } => self.on_begin(now, at, id, *age),
            Op::Resume(resume) => self.on_resume(now, at, id, resume),
            Op::Commit => self.on_commit(now, at, id),
            Op::Rollback { to } => self.on_rollback(now, at, id, *to),
            Op::Savepoint => self.on_savepoint(at, id),
            Op::EndStatement => self.on_end_statement(now, at, id),
            Op::SpaceOpen { name } => self.on_space_open(at, id, name),
            Op::SpaceCreate(spec) => self.on_space_create(at, id, spec),
            Op::SpaceDrop { name, force } => self.on_space_drop(now, at, id, name, *force),
            Op::Purge { space, session } => self.on_purge(now, at, id, *space, *session),
            Op::ForceRelease { space, name, token, reason } => {
                self.on_force_release(now, at, id, *space, name, *token, reason);
            }
            Op::EndSession { session, reason } => self.on_end_session(now, at, id, *session, reason),
            Op::Query(query) => self.on_query(now, at, id, *query),
            Op::Watch { space, prefix } => self.on_watch(at, id, *space, prefix),
            Op::Unwatch => self.on_unwatch(at, id),
            Op::Cluster(order) => self.on_cluster_order(now, at, id, order),
        }
    }

    fn on_lock(&mut self, now: Time, at: u32, id: RequestId, request: &LockRequest<'_>) {
        if let OwnerRef::Group(group) = request.owner {
            return self.on_group_lock(now, at, id, group, request);
        }
        let Some(session) = self.sessions.get(at) else { return };
        let outcome = self.table.lock(now, session.owner, id.0, request, &mut self.fx);
        self.on_outcome(now, at, id, outcome);
    }

    fn on_convert(&mut self, now: Time, at: u32, id: RequestId, request: &ConvertRequest<'_>) {
        match self.having(at, request.lock) {
            Ok(Having::Session(owner)) => {
                let outcome = self.table.convert(now, owner, id.0, request, &mut self.fx);
                self.on_outcome(now, at, id, outcome);
            }
            Ok(Having::Group(group)) => self.on_group_convert(now, at, id, group, request),
            Err(why) => self.refuse(at, id, why),
        }
    }

    /// What the table said to a request of the session itself: the direct answer first, then what else it caused, so that
    /// nobody hears of a lock before its owner does.
    fn on_outcome(&mut self, now: Time, at: u32, id: RequestId, outcome: Result<Outcome, Refusal>) {
        match outcome {
            Ok(Outcome::Granted(grant)) => {
                self.counters.grants += 1;
                self.answer(at, id, Reply::Granted(grant));
            }
            Ok(Outcome::Queued(lock)) => self.queue(at, Waiting { id, since: now, pend: Pend::Lock(lock) }, lock),
            Ok(Outcome::Demoted { held, why }) => self.answer_demoted(at, id, held, Some(why)),
            Err(why) => self.refuse(at, id, why),
        }
        self.tell_effects(now);
    }

    fn on_release(&mut self, now: Time, at: u32, id: RequestId, release: &ReleaseRequest<'_>, one_way: bool) {
        let released = match self.having(at, release.lock) {
            Ok(Having::Session(owner)) => {
                let name = self.name_in_tree(at, release.lock);
                let released = self.table.release(now, owner, release, &mut self.fx);
                if let (Ok(()), Some((space, name))) = (released, name) {
                    self.forget_name_in_tree(at, space, &name, release.lock);
                }
                released
            }
            Ok(Having::Group(group)) => self.release_group_use(now, at, group, release),
            Err(why) => Err(why),
        };
        match released {
            Ok(()) => {
                self.counters.releases += 1;
                // [SESS-12] A one-way release that succeeds leaves nothing to be acknowledged.
                if one_way {
                    self.settle_release(at, id);
                } else {
                    self.answer(at, id, Reply::Released);
                }
            }
            Err(why) => self.refuse(at, id, why),
        }
        self.tell_effects(now);
    }

    fn on_cancel(&mut self, now: Time, at: u32, id: RequestId, target: Target) {
        let cancelled = match target {
            Target::Lock(lock) => self.cancel_lock(now, at, lock),
            Target::Request(request) => self.cancel_request(now, at, request),
        };
        match cancelled {
            Ok(()) => {
                self.counters.cancels += 1;
                self.answer(at, id, Reply::Cancelled);
            }
            Err(why) => self.refuse(at, id, why),
        }
        self.tell_effects(now);
    }

    fn cancel_lock(&mut self, now: Time, at: u32, lock: LockId) -> Result<(), Refusal> {
        match self.having(at, lock)? {
            Having::Session(owner) => self.table.cancel(now, owner, lock, &mut self.fx),
            Having::Group(group) => self.cancel_group_waits(now, at, group, lock),
        }
    }

    pub(crate) fn cancel_request(&mut self, now: Time, at: u32, request: RequestId) -> Result<(), Refusal> {
        let session = self.sessions.get(at).ok_or(Refusal::Lost)?;
        let owner = session.owner;
        let waiting = *session.ledger.waiting(request).ok_or(Refusal::NotHeld)?;
        match waiting.pend {
            Pend::Lock(lock) => self.table.cancel(now, owner, lock, &mut self.fx),
            Pend::Many(many) => self.cancel_many(now, owner, many),
            // A member forwards what is cancelled too.
            Pend::Forward => Err(Refusal::NotHeld),
            Pend::Group { group, lock } => self.cancel_group_wait(now, at, group, lock, request),
        }
    }

    fn on_read_value(&mut self, at: u32, id: RequestId, lock: LockId) {
        let value = match self.having(at, lock) {
            Ok(Having::Session(owner)) => self.table.read_value(owner, lock),
            Ok(Having::Group(group)) => self.read_group_value(at, group, lock),
            Err(why) => Err(why),
        };
        match value {
            Ok(value) => self.answer(at, id, Reply::Value(value)),
            Err(why) => self.refuse(at, id, why),
        }
    }

    /// Whom of this session a lock belongs to.
    fn having(&self, at: u32, lock: LockId) -> Result<Having, Refusal> {
        let session = self.sessions.get(at).ok_or(Refusal::Lost)?;
        // [MANY-4] Locks of a request that is not complete are not the client's yet.
        if session.has_manies() && self.is_partial(session, lock) {
            return Err(Refusal::NotHeld);
        }
        if session.in_groups()
            && let Some(group) = self.groups.having(at, lock)
        {
            return Ok(Having::Group(group));
        }
        Ok(Having::Session(session.owner))
    }

    /// Answers that a request waits, and keeps it.
    pub(crate) fn queue(&mut self, at: u32, waiting: Waiting, lock: LockId) {
        self.counters.queued += 1;
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.wait(waiting);
        }
        // A node alone is the only home there is.
        self.answer(at, waiting.id, Reply::Queued(Queued { lock, ticket: 0 }));
    }

    pub(crate) fn refuse(&mut self, at: u32, id: RequestId, why: Refusal) {
        self.counters.on_refused(why);
        self.answer(at, id, Reply::Refused(why));
    }

    /// [DEAD-12] A conversion is not granted, and its lock holds less than before.
    pub(crate) fn answer_demoted(&mut self, at: u32, id: RequestId, held: Claim, why: Option<Refusal>) {
        if let Some(why) = why {
            self.counters.on_refused(why);
        }
        self.answer(at, id, Reply::Demoted { held, why });
    }

    /// Answers a request: now, where the session is connected, and again after the next attach until it is acknowledged,
    /// which a session in this process never does.
    pub(crate) fn answer(&mut self, at: u32, id: RequestId, reply: Reply) {
        let reply = self.through_txn(at, id, reply);
        if let Reply::Granted(grant) = &reply {
            self.note_in_tree(at, grant.lock);
        }
        let Some(session) = self.sessions.get_mut(at) else { return };
        // [SESS-11] In the node's own process no answer is lost on its way: none is kept.
        if session.is_embedded() {
            if let Some(conn) = session.conn {
                self.outputs.push_back(Output::Send { conn, message: ServerMessage::Reply { id, reply } });
            }
            return;
        }
        if let Some(conn) = session.conn {
            let message = ServerMessage::Reply { id, reply: reply.clone() };
            self.outputs.push_back(Output::Send { conn, message });
        }
        #[cfg(feature = "planted")]
        if session.conn.is_none() && lockstead_types::planted::is(lockstead_types::planted::Bug::AnswerLost) {
            return;
        }
        session.ledger.log_answer(id, reply);
    }
}
