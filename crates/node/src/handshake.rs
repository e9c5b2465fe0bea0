//! How a connection comes to carry a session, and how it goes.

use alloc::vec::Vec;

use lockstead_types::{
    ConnId, RequestId, SessionId, Span, Time,
    message::{Attached, ClientMessage, PROTOCOL_VERSION, Rejection, ServerMessage, Welcome},
    reply::Notice,
    report::Meta,
};

use crate::{
    authorize::{self, Decision},
    conn::{Conn, ConnState, SESSION_WITHIN},
    ending::Cause,
    io::{Output, Record, SessionRecord},
    node::Node,
    owners::Whose,
    principal::Principal,
    session::{Session, Stage},
};

impl Node {
    pub(crate) fn on_connected(&mut self, now: Time, conn: ConnId, local: bool, principal: Principal) {
        let full = self.conns.len() >= self.config.limits.connections as usize;
        if self.stopping || full || !self.may_act() {
            self.counters.connections_rejected += 1;
            let why = match (self.stopping, full) {
                (true, _) => Rejection::Stopping,
                (_, true) => Rejection::Full,
                // [CLUSTER-1] The client looks for another node.
                _ => Rejection::NoAuthority,
            };
            self.send(conn, ServerMessage::Rejected { why });
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        self.counters.connections_accepted += 1;
        let state = ConnState::New { until: now.after(SESSION_WITHIN) };
        self.conns.add(conn, Conn { local, principal, state });
    }

    pub(crate) fn on_message(&mut self, now: Time, conn: ConnId, message: ClientMessage<'_>) {
        let Some(known) = self.conns.get(conn) else { return };
        let state = known.state;
        // Apart from the others, and by reference: nearly all messages come here, and they are large to move.
        if let ConnState::Open(at) = state {
            return self.on_session_message(now, conn, at, &message);
        }
        match (state, message) {
            (ConnState::New { until }, ClientMessage::Hello { version }) => self.on_hello(conn, version, until),
            (ConnState::Greeted { .. } | ConnState::Over { .. }, ClientMessage::Open { session, ttl, meta }) => {
                self.on_open(now, conn, session, ttl, meta);
            }
            (
                ConnState::Greeted { .. } | ConnState::Over { .. },
                ClientMessage::Attach { session, meta, answers, .. },
            ) => {
                self.on_attach(now, conn, session, meta, answers);
            }
            (_, ClientMessage::Goodbye) => self.part(conn),
            // What was under way when the session ended.
            (ConnState::Over { .. }, _) => {}
            // [SESS-1] Hello, then open or attach, then everything else.
            (ConnState::New { .. } | ConnState::Greeted { .. } | ConnState::Open(_), _) => {
                self.reject(conn, Rejection::Protocol);
            }
        }
    }

    pub(crate) fn on_disconnected(&mut self, now: Time, conn: ConnId) {
        let Some(at) = self.detach(conn) else { return };
        // [SESS-7] Every process that had a local connection is gone; a remote one's end proves nothing.
        let ends = self.sessions.get(at).is_some_and(|s| s.local);
        #[cfg(feature = "planted")]
        let ends = ends || lockstead_types::planted::is(lockstead_types::planted::Bug::ConnectionIsLease);
        if ends {
            self.end_session(now, at, Cause::Crashed);
        }
    }

    /// Turns a connection away.
    pub(crate) fn reject(&mut self, conn: ConnId, why: Rejection) {
        if self.conns.get(conn).is_none() {
            return;
        }
        // [SESS-8] Its session stays, also a local one: it is the node that closes, the client is alive and may believe in its
        // locks until its lease ends.
        self.detach(conn);
        self.counters.connections_rejected += 1;
        self.send(conn, ServerMessage::Rejected { why });
        self.outputs.push_back(Output::Close { conn });
    }

    /// Answers a goodbye.
    pub(crate) fn part(&mut self, conn: ConnId) {
        self.conns.remove(conn);
        self.send(conn, ServerMessage::Bye);
        self.outputs.push_back(Output::Close { conn });
    }

    /// Forgets a connection; the session it carried.
    fn detach(&mut self, conn: ConnId) -> Option<u32> {
        let ConnState::Open(at) = self.conns.remove(conn)?.state else { return None };
        self.sessions.get_mut(at)?.conn = None;
        Some(at)
    }

    fn on_hello(&mut self, conn: ConnId, version: u16, until: Time) {
        let Some(local) = self.conns.get(conn).map(|c| c.local) else { return };
        if version == 0 {
            return self.reject(conn, Rejection::Version);
        }
        self.conns.set_state(conn, ConnState::Greeted { until });
        let welcome = Welcome {
            version: version.min(PROTOCOL_VERSION),
            node: self.config.node,
            epoch: self.epoch(),
            local,
            credit: self.config.limits.in_flight,
            frame_bytes: self.config.limits.frame_bytes,
        };
        self.send(conn, ServerMessage::Welcome(welcome));
    }

    fn on_open(&mut self, now: Time, conn: ConnId, id: SessionId, ttl: Span, meta: Meta) {
        let Some(known) = self.conns.get(conn) else { return };
        let (local, principal) = (known.local, known.principal.clone());
        if self.is_too_long(&meta) {
            return self.reject(conn, Rejection::Protocol);
        }
        if let Some(at) = self.sessions.find(id) {
            if self.sessions.get(at).is_some_and(|s| matches!(s.stage, Stage::Ending(_))) {
                return self.tell_ended(now, conn);
            }
            // [SESS-15] A repeated open is the same session: the answer to the first was lost.
            return self.on_open_again(now, conn, at, meta);
        }
        // It opened at another home, whose answer was lost.
        if self.is_member() && self.try_arrive(now, conn, id, meta.clone()) {
            return;
        }
        if self.stopping {
            return self.reject(conn, Rejection::Stopping);
        }
        if authorize::decide_open(&principal) == Decision::Deny {
            return self.reject(conn, Rejection::Denied);
        }
        if self.sessions.len() >= self.config.limits.sessions as usize {
            return self.reject(conn, Rejection::Full);
        }
        let ttl = self.grant_ttl(ttl);
        // [SESS-14] A remote session is open only once it would survive a crash of this node; a local one dies with its host,
        // so a written record is enough.
        let durable = self.config.durable && !local;
        let member = self.is_member();
        let record = SessionRecord { session: id, ttl, local, principal: alloc::format!("{principal}") };
        let owner = self.table.add_owner();
        self.table.set_owner_label(owner, id);
        let mut session = Session::new(id, owner, ttl, principal, now);
        session.local = local;
        session.meta = meta;
        session.conn = Some(conn);
        session.stage = if durable || member { Stage::Opening } else { Stage::Live };
        let Some(at) = self.sessions.add(session) else { return self.reject(conn, Rejection::Full) };
        self.owners.set(owner, Whose::Session(at));
        self.conns.set_state(conn, ConnState::Open(at));
        self.counters.sessions_opened += 1;
        if self.is_member() {
            return self.propose_open(now, at);
        }
        self.record(Record::Opened { record, durable });
        if !durable {
            self.send(conn, ServerMessage::Opened { ttl });
        }
        self.stand_within(now, at);
    }

    pub(crate) fn on_recorded(&mut self, id: SessionId) {
        let Some(session) = self.sessions.find(id).and_then(|at| self.sessions.get_mut(at)) else { return };
        if session.stage != Stage::Opening {
            return;
        }
        session.stage = Stage::Live;
        let (conn, ttl) = (session.conn, session.ttl);
        if let Some(conn) = conn {
            self.send(conn, ServerMessage::Opened { ttl });
        }
    }

    fn on_open_again(&mut self, now: Time, conn: ConnId, at: u32, meta: Meta) {
        if !self.try_take_over(now, conn, at, meta) {
            return;
        }
        let Some(session) = self.sessions.get_mut(at) else { return };
        let (stage, ttl, fresh) = (session.stage, session.ttl, session.ledger.seen() == RequestId(0));
        match stage {
            Stage::Opening | Stage::Ending(_) => {}
            Stage::Live if fresh => self.send(conn, ServerMessage::Opened { ttl }),
            Stage::Live => self.go_on(now, conn, at),
            // Who asks to open never heard that the session was open, so there is nothing to claim.
            Stage::Returning => {
                self.send(conn, ServerMessage::Opened { ttl });
                if self.is_member() {
                    self.tell_claims_done(now, at);
                } else {
                    self.on_reclaim_done(now, at);
                }
            }
        }
        self.stand_within(now, at);
    }

    fn on_attach(&mut self, now: Time, conn: ConnId, id: SessionId, meta: Meta, answers: u64) {
        if self.is_too_long(&meta) {
            return self.reject(conn, Rejection::Protocol);
        }
        let Some(at) = self.sessions.find(id) else {
            return self.on_unknown_attach(now, conn, id, meta);
        };
        if let Some(Stage::Ending(cause)) = self.sessions.get(at).map(|s| s.stage) {
            // A goodbye is its client's own word. What this node alone holds to be over may be elsewhere by now.
            return match cause {
                Cause::Goodbye => self.tell_ended(now, conn),
                _ => self.on_unknown_attach(now, conn, id, meta),
            };
        }
        // A count of answers from before a restart says nothing here, where none were given yet.
        let none_given = self.sessions.get(at).is_none_or(|s| s.ledger.answered() == 0);
        if self.sessions.get(at).is_some_and(|s| !none_given && answers > s.ledger.answered()) {
            // [CLUSTER-20] A member may not have heard yet that the session went elsewhere, and came back with more answers.
            if self.is_member() {
                return self.look_for_arrival(now, conn, id, meta);
            }
            return self.reject(conn, Rejection::Protocol);
        }
        if !self.try_take_over(now, conn, at, meta) {
            return;
        }
        self.counters.sessions_attached += 1;
        if let Some(session) = self.sessions.get_mut(at) {
            let _checked_above = session.ledger.on_ack(if none_given { 0 } else { answers });
            session.forget_arrived();
            match session.stage {
                Stage::Opening | Stage::Ending(_) => {}
                Stage::Live | Stage::Returning => self.go_on(now, conn, at),
            }
        }
        self.stand_within(now, at);
    }

    /// An attach with a session that nobody is here for.
    fn on_unknown_attach(&mut self, now: Time, conn: ConnId, id: SessionId, meta: Meta) {
        if self.is_member() {
            self.look_for_arrival(now, conn, id, meta);
        } else {
            self.tell_ended(now, conn);
        }
    }

    /// [DEAD-13] Tells the table which session this one runs within, where that is one of this node. Another server's is
    /// unknown here, which is no mistake of the client: it finds the id in its environment.
    fn stand_within(&mut self, now: Time, at: u32) {
        let Some(inner) = self.sessions.get(at) else { return };
        let outer = inner.meta.within.and_then(|id| self.sessions.find(id)).and_then(|at| self.sessions.get(at));
        let Some(outer) = outer else { return };
        if authorize::decide_within(&inner.principal, &outer.principal) == Decision::Allow {
            let (inner, outer) = (inner.owner, outer.owner);
            self.table.set_outer(now, inner, outer, &mut self.fx);
            self.tell_effects(now);
        }
    }

    /// Makes `conn` the connection of a session, and renews its lease. `false` where it may not be; the client was told.
    fn try_take_over(&mut self, now: Time, conn: ConnId, at: u32, meta: Meta) -> bool {
        let (Some(known), Some(session)) = (self.conns.get(conn), self.sessions.get(at)) else { return false };
        if authorize::decide_attach(&known.principal, &session.principal) == Decision::Deny {
            self.reject(conn, Rejection::Denied);
            return false;
        }
        if !self.may_renew(now, session) {
            // Not `Ended`: until its lease is over the client may go on with what it has claimed.
            self.reject(conn, Rejection::Idle);
            return false;
        }
        // [SESS-16] The newest connection has the session; the older one, of whose end the node has not heard, is closed.
        if let Some(older) = session.conn {
            self.reject(older, Rejection::Superseded);
        }
        let Some(session) = self.sessions.get_mut(at) else { return false };
        session.conn = Some(conn);
        session.renewed = session.renewed.max(now);
        session.meta = meta;
        self.conns.set_state(conn, ConnState::Open(at));
        true
    }

    /// Tells a client that attached where it stands, and everything it may have missed.
    pub(crate) fn go_on(&mut self, now: Time, conn: ConnId, at: u32) {
        let alone = self.member.is_none();
        let Some(session) = self.sessions.get_mut(at) else { return };
        let reclaim = session.stage == Stage::Returning;
        if reclaim {
            session.ledger.restart_count();
        }
        let groups: Vec<u32> = session.extra().map(|e| e.groups.iter().copied().collect()).unwrap_or_default();
        let attached = Attached {
            ttl: session.ttl,
            seen: session.ledger.seen(),
            reclaim,
            // [HOME-2] A member's epoch says nothing about this session.
            home: if alone { self.config.epoch } else { session.home.0 },
            groups: groups.iter().map(|g| lockstead_types::GroupId(*g)).collect(),
        };
        self.outputs.push_back(Output::Send { conn, message: ServerMessage::Attached(attached) });
        // [SESS-6] Answers the client has not received, in their order.
        for (id, reply) in session.ledger.unacknowledged() {
            let message = ServerMessage::Reply { id: *id, reply: reply.clone() };
            self.outputs.push_back(Output::Send { conn, message });
        }
        // [SESS-9] Notices have no numbers: what still holds is said again.
        let given = session.ledger.answered();
        let mut watches = false;
        if let Some(extra) = session.extra_mut() {
            for revocation in &mut extra.revoked {
                revocation.sent_after = given;
                let notice = Notice::Revoked { lock: revocation.lock, why: revocation.why };
                self.outputs.push_back(Output::Send { conn, message: ServerMessage::Notice(notice) });
            }
            watches = extra.watches > 0;
        }
        let owner = session.owner;
        if watches {
            self.send(conn, ServerMessage::Notice(Notice::Resync));
        }
        self.repeat_abort(at);
        self.repeat_copies_blocking(at);
        self.table.repeat_blocking(owner, &mut self.fx);
        self.tell_effects(now);
        // A home's numbers of groups are not a master's, and its copies have told already.
        for group in groups.into_iter().filter(|_| alone) {
            self.repeat_group_blocking(group, at, conn);
        }
    }

    /// The session is not known (any more); the connection may open another.
    pub(crate) fn tell_ended(&mut self, now: Time, conn: ConnId) {
        self.send(conn, ServerMessage::Ended);
        self.conns.set_state(conn, ConnState::Over { until: now.after(SESSION_WITHIN) });
    }

    fn is_too_long(&self, meta: &Meta) -> bool {
        let bytes = meta.host.len().saturating_add(meta.program.len()).saturating_add(meta.purpose.len());
        bytes > self.config.limits.meta_bytes as usize
    }
}
