//! What a member does with the requests of its clients: those about one resource go to its master (`forward.rs`), those
//! about all nodes to all (`asks.rs`), those about what the members agree on become commands.

use lockstead_cluster::{Command, EndWhy};
use lockstead_types::{
    RequestId, SessionId, SpaceId, Time,
    peer::{PeerOrder, PeerQuery},
    refusal::Refusal,
    reply::Reply,
    request::{LockRequest, Op, OwnerRef, Query},
    space::SpaceSpec,
};

use super::{asks::Purpose, forward::For, proposals::Subject};
use crate::{
    cluster_ops::is_order,
    ledger::{Pend, Waiting},
    node::Node,
};

impl Node {
    /// Applies a request as a member does. `false` where a member does it as a node alone does.
    pub(crate) fn apply_as_member(&mut self, now: Time, at: u32, id: RequestId, op: &Op<'_>) -> bool {
        match op {
            Op::Lock(request) => self.forward_lock(now, at, id, request),
            Op::Convert(request) => self.forward_convert(now, at, id, request),
            Op::Release { release, one_way } => self.forward_release(now, at, id, release, *one_way),
            Op::Cancel(target) if self.cancel_parked(now, at, *target) => {
                self.counters.cancels += 1;
                self.answer(at, id, Reply::Cancelled);
            }
            Op::Cancel(target) => self.forward_cancel(now, at, id, *target),
            Op::ReadValue(lock) => self.forward_read(now, at, id, *lock),
            Op::Sync => self.ask_all(now, (at, id), Purpose::Sync, &PeerQuery::Sync),
            Op::GroupAttach { name } => self.attach_here(at, id, name),
            Op::GroupDetach(group) => self.detach_here(now, at, id, *group),
            Op::SpaceCreate(spec) => self.propose_space(now, at, id, spec),
            Op::SpaceDrop { name, force } => self.propose_space_drop(now, at, id, name, *force),
            Op::Purge { space, session } => {
                let order = PeerOrder::Purge { space: *space, session: *session };
                self.order_all(now, (at, id), &order);
            }
            Op::ForceRelease { space, name, token, reason } => {
                if let Err(why) = self.check_reason(reason) {
                    self.refuse(at, id, why);
                    return true;
                }
                let order = PeerOrder::ForceRelease {
                    space: *space,
                    name: (*name).into(),
                    token: *token,
                    reason: (*reason).into(),
                };
                self.order_master(now, (at, id), *space, name, &order);
            }
            Op::EndSession { session, reason } => self.propose_forced_end(now, at, id, *session, reason),
            Op::Query(query) => return self.query_as_member(now, at, id, *query),
            Op::Watch { space, prefix } => {
                self.watch_everywhere(now, at, id, *space, prefix);
            }
            Op::Unwatch => self.unwatch_everywhere(now, at, id),
            Op::LockMany(_) | Op::LockPath(_) | Op::SpaceOpen { .. } | Op::Cluster(_) => return false,
            Op::Begin { .. } | Op::Resume(_) | Op::Commit | Op::Rollback { .. } | Op::Savepoint | Op::EndStatement => {
                return false;
            }
        }
        true
    }

    fn query_as_member(&mut self, now: Time, at: u32, id: RequestId, query: Query<'_>) -> bool {
        let key = (at, id);
        match query {
            Query::Resource { space, name } => {
                let query = PeerQuery::Resource { space, name: name.into() };
                self.ask_master(now, key, space, name, &query);
            }
            Query::Resources { space, prefix, from } => {
                let query = PeerQuery::Resources { space, prefix: prefix.into(), from: 0 };
                self.ask_resources(now, key, from, query);
            }
            Query::Waits => self.ask_all(now, key, Purpose::Waits, &PeerQuery::Waits),
            Query::Sessions { after } => self.ask_all(now, key, Purpose::Sessions, &PeerQuery::Sessions { after }),
            Query::Deadlocks => self.ask_all(now, key, Purpose::Deadlocks, &PeerQuery::Deadlocks),
            Query::Status | Query::Spaces | Query::Members => return false,
        }
        true
    }

    /// Acquires the next lock of a request for several. `Err` where it is refused at once.
    pub(crate) fn forward_part(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        many: u32,
        request: &LockRequest<'_>,
    ) -> Result<(), Refusal> {
        debug_assert!(!matches!(request.owner, OwnerRef::Group(_)));
        self.try_forward_lock(now, at, id, For::Many(many), request)
    }

    // ------------------------------------------------------------ lockspaces

    fn propose_space(&mut self, now: Time, at: u32, id: RequestId, spec: &SpaceSpec) {
        let known = self.spaces.find(&spec.name).is_some();
        let planned = if known { Err(Refusal::Exists) } else { self.plan_space(spec).map(|_| ()) };
        if let Err(why) = planned {
            return self.refuse(at, id, why);
        }
        // As unlikely as the session's own number to be drawn twice, and the same when it is proposed again.
        let nonce = self.session_id(at).map_or(0, |s| (s.0 >> 64) as u64 ^ s.0 as u64 ^ id.0.rotate_left(17));
        self.propose_for(now, at, id, Command::CreateSpace { spec: spec.clone(), nonce });
    }

    fn propose_space_drop(&mut self, now: Time, at: u32, id: RequestId, name: &str, force: bool) {
        let space = match self.spaces.find(name) {
            Some(SpaceId(0)) => return self.refuse(at, id, Refusal::Invalid),
            Some(space) => space,
            None => return self.refuse(at, id, Refusal::NoLockspace),
        };
        if force {
            return self.drop_space_now(now, at, id, space);
        }
        let query = PeerQuery::Resources { space, prefix: [].into(), from: 0 };
        self.ask_all(now, (at, id), Purpose::DropSpace(space), &query);
    }

    /// Drops a lockspace with whatever is in it.
    pub(crate) fn drop_space_now(&mut self, now: Time, at: u32, id: RequestId, space: SpaceId) {
        self.propose_for(now, at, id, Command::DropSpace { space, force: true });
    }

    pub(crate) fn propose_for(&mut self, now: Time, at: u32, id: RequestId, command: Command) {
        if let Some(session) = self.sessions.get_mut(at)
            && session.ledger.waiting(id).is_none()
        {
            session.ledger.wait(Waiting { id, since: now, pend: Pend::Forward });
        }
        self.propose(now, Subject::Request(at, id), command);
    }

    /// A command about lockspaces was applied: who proposed it is answered.
    pub(crate) fn settle_space_command(&mut self, command: &Command) {
        for (at, id) in self.proposers(command) {
            match command {
                Command::CreateSpace { nonce, .. } => {
                    let nonces = self.member.as_ref().map(|m| &m.state.space_nonces);
                    let found = nonces.and_then(|n| n.iter().find(|(_, n)| *n == nonce)).map(|(space, _)| *space);
                    match found {
                        Some(space) => self.answer_space(at, id, space),
                        None => self.refuse(at, id, Refusal::NoLockspace),
                    }
                }
                _ => {
                    self.audit_request(at, "lockspace dropped", None);
                    self.answer(at, id, Reply::Done);
                }
            }
        }
    }

    pub(crate) fn on_refused_space_command(&mut self, command: &Command, why: lockstead_cluster::Refused) {
        use lockstead_cluster::Refused;
        let why = match why {
            Refused::Exists => Refusal::Exists,
            Refused::Full => Refusal::Limit(lockstead_types::LimitName::Spaces),
            Refused::InUse => Refusal::Busy,
            _ => Refusal::NoLockspace,
        };
        for (at, id) in self.proposers(command) {
            self.refuse(at, id, why);
        }
    }

    /// The requests of this node that a command was proposed for; they wait no more.
    pub(crate) fn proposers(&mut self, command: &Command) -> alloc::vec::Vec<(u32, RequestId)> {
        let mut found = alloc::vec::Vec::new();
        if !matches!(command, Command::CreateSpace { .. } | Command::DropSpace { .. }) && !is_order(command) {
            return found;
        }
        let Some(member) = &mut self.member else { return found };
        for (subject, proposed) in member.proposals.subjects() {
            if let Subject::Request(at, id) = subject
                && proposed == *command
            {
                member.proposals.settled(subject);
                if let Some(session) = self.sessions.get_mut(at) {
                    session.ledger.end_wait(id);
                    found.push((at, id));
                }
            }
        }
        found
    }

    // ------------------------------------------------------------ sessions

    fn propose_forced_end(&mut self, now: Time, at: u32, id: RequestId, session: SessionId, reason: &str) {
        let entry = self.member.as_ref().and_then(|m| m.state.sessions.get(&session)).map(|s| s.generation);
        let found = self.check_reason(reason).and_then(|()| entry.ok_or(Refusal::NotHeld));
        let home = match found {
            Ok(home) => home,
            Err(why) => return self.refuse(at, id, why),
        };
        self.audit_request(at, &alloc::format!("session {session} ended by force"), Some(reason));
        self.answer(at, id, Reply::Done);
        let command = Command::EndSession { session, home, why: EndWhy::Forced };
        self.propose(now, Subject::Session(session), command);
    }
}
