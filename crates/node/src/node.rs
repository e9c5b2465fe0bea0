//! The node itself: what it holds, and the ways in and out.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    string::{String, ToString},
    vec::Vec,
};

use foldhash::fast::FixedState;
use lockstead_table::{Effect, Table};
use lockstead_types::{
    ConnId, RequestId, SessionId, Time,
    message::{ClientMessage, ServerMessage},
    report::NodeStatus,
    request::Op,
};

use crate::{
    conn::{ConnState, Conns},
    counters::Counters,
    groups::Groups,
    io::{Input, NodeConfig, Output, Record},
    many::Manies,
    member::Member,
    owners::Owners,
    reports::Reports,
    restart::Restart,
    session::{Sessions, Stage},
    spaces::Spaces,
    txn::Txns,
    watch::Watches,
};

/// Numbers that outsiders do not choose freely need no keyed hash.
pub(crate) type Hashing = FixedState;

/// Asked after every step of a node, so told to the compiler as plainly as can be.
pub(crate) fn soonest<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
    times.into_iter().fold(None, |first, next| match (first, next) {
        (Some(first), Some(next)) => Some(first.min(next)),
        (first, next) => first.or(next),
    })
}

/// One node.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) started: Time,
    pub(crate) stopping: bool,
    pub(crate) table: Table,
    pub(crate) conns: Conns,
    pub(crate) sessions: Sessions,
    pub(crate) owners: Owners,
    pub(crate) groups: Groups,
    pub(crate) manies: Manies,
    pub(crate) txns: Txns,
    pub(crate) spaces: Spaces,
    /// What it has as a member of a cluster; `None` for a node alone.
    pub(crate) member: Option<Box<Member>>,
    pub(crate) watches: Watches,
    pub(crate) reports: Reports,
    pub(crate) restart: Restart,
    pub(crate) counters: Counters,
    /// What the last call of the table caused, to be told on.
    pub(crate) fx: Vec<Effect>,
    /// The room of `fx` while its effects are told.
    pub(crate) spare: Vec<Effect>,
    pub(crate) outputs: VecDeque<Output>,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("node", &self.config.node)
            .field("epoch", &self.config.epoch)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node that starts at `now`. Where sessions of before are recorded it is frozen: see [`Node::is_ready`].
    #[must_use]
    pub fn new(mut config: NodeConfig, now: Time) -> Node {
        let hashing = FixedState::with_seed(config.hash_seed);
        let member = config
            .member
            .take()
            .map(|m| Box::new(Member::new(config.node, m, config.limits.deadlock_delay, hashing.clone())));
        if let Some(member) = &member {
            // What the members agree on stands for what a node alone keeps on its disk.
            (config.epoch, config.durable) = (member.state.epoch, false);
            (config.recorded, config.ttl_max_recorded) = (Vec::new(), member.state.ttl_max);
            config.spaces = member.state.spaces.iter().map(|(id, spec)| (*id, spec.clone())).collect();
        }
        let mut node = Node {
            started: now,
            stopping: false,
            // [RESTART-2] The epoch was never used before, so tokens go on rising.
            table: Table::new(config.limits.clone(), config.epoch, config.hash_seed),
            conns: Conns::new(hashing.clone()),
            sessions: Sessions::new(),
            owners: Owners::new(),
            groups: Groups::new(hashing),
            member,
            manies: Manies::new(),
            txns: Txns::default(),
            spaces: Spaces::new(config.epoch),
            watches: Watches::new(),
            reports: Reports::new(),
            restart: Restart::new(&config, now),
            counters: Counters::default(),
            fx: Vec::new(),
            spare: Vec::new(),
            outputs: VecDeque::new(),
            config,
        };
        node.load_spaces();
        node.load_sessions(now);
        node.join(now);
        node
    }

    /// Takes in what happened. `now` must not go back. What follows from it is fetched with [`Node::poll_output`], before or
    /// after further calls.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        self.look_at_authority(now);
        match input {
            Input::Message { conn, message } => self.on_message(now, conn, message),
            Input::Connected { conn, local, principal } => self.on_connected(now, conn, local, principal),
            Input::Disconnected { conn } => self.on_disconnected(now, conn),
            Input::Cut { conn, why } => self.reject(conn, why),
            Input::Recorded { session } => self.on_recorded(session),
            Input::Tick => self.on_tick(now),
            Input::Stop => self.stopping = true,
            Input::Committed { command } => self.on_committed(now, command),
            Input::Snapshot { state } => self.on_snapshot(now, state),
            Input::Authority { until } => self.on_authority(now, until),
            Input::Led { by } => self.on_led(by),
            Input::PeerConnected { conn, dialed } => self.on_peer_connected(now, conn, dialed),
            Input::PeerMessage { conn, envelope } => self.on_peer_message(now, conn, envelope),
            Input::PeerDisconnected { conn } => self.on_peer_disconnected(conn),
        }
        self.settle_all(now);
    }

    /// The same as [`Input::Message`] with a request, for a shell that has it in hand: nothing is moved.
    pub fn handle_request(&mut self, now: Time, conn: ConnId, id: RequestId, op: &Op<'_>) {
        self.look_at_authority(now);
        match self.conns.get(conn).map(|known| known.state) {
            Some(ConnState::Open(at)) if self.sessions.get(at).is_some_and(|s| s.stage != Stage::Opening) => {
                self.on_request(now, conn, at, id, op, None);
                self.settle_all(now);
            }
            _ => self.on_message(now, conn, ClientMessage::Request { id, op: op.clone() }),
        }
    }

    /// The next thing to do, `None` where nothing is left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Time> {
        let member = self.member.as_ref().and_then(|m| m.next_timer());
        let conns = self.conns.next_timer();
        if !self.may_act() {
            return soonest([member, conns]);
        }
        soonest([
            self.manies.next_timer(),
            self.table.next_deadline(),
            self.sessions.next_timer(),
            self.groups.next_timer(),
            conns,
            member,
        ])
    }

    /// The node in numbers.
    #[must_use]
    pub fn status(&self, now: Time) -> NodeStatus {
        let counts = self.table.counts();
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        NodeStatus {
            node: self.config.node,
            epoch: self.epoch(),
            version: self.config.version.clone(),
            uptime: now.since(self.started),
            frozen_for: self.frozen_for(now),
            sessions: short(self.sessions.len()),
            groups: short(self.member.as_ref().map_or(self.groups.len(), |m| m.attached.len())),
            spaces: short(self.spaces.len()),
            resources: counts.resources,
            granted: counts.granted,
            converting: counts.converting,
            waiting: counts.waiting,
            orphans: counts.orphans,
            token: self.table.last_token(),
            member: self.member_status(now),
            counters: self.counters.rows(counts.waiting.saturating_add(counts.converting)),
        }
    }

    /// Whether new locks are granted. Not while the node waits for sessions of before a restart ([RESTART-1]).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.table.is_frozen() && self.may_act() && !self.member.as_ref().is_some_and(|m| m.recoveries.any())
    }

    /// Proves the whole state, the table's included. Slow: for tests.
    ///
    /// # Errors
    /// Says what is broken.
    pub fn check(&self) -> Result<(), String> {
        self.check_all().map_err(|what| what.to_string())?;
        self.table.check()
    }

    /// What a step has left to do: messages to this node itself, and rollbacks that these let go on.
    fn settle_all(&mut self, now: Time) {
        self.settle(now);
        while self.has_rollbacks_to_finish() || self.has_woken_paths() || !self.fx.is_empty() {
            self.finish_rollbacks(now);
            self.resume_paths(now);
            self.tell_effects(now);
            self.settle(now);
        }
    }

    fn on_tick(&mut self, now: Time) {
        while let Some(conn) = self.conns.idle(now) {
            self.reject(conn, lockstead_types::message::Rejection::Idle);
        }
        self.do_chores(now);
        self.report_on(now);
        self.propose_again(now);
        // [CLUSTER-1] Nothing expires at a node that may not act.
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::DeposedExpires) {
            while let Some(at) = self.sessions.pop_expired(now) {
                self.on_expired(now, at);
            }
        }
        if !self.may_act() {
            return;
        }
        self.expire_forwards(now);
        self.look_at_uses(now);
        self.look_at_stalls(now);
        self.look_at_cycles(now);
        self.table.expire(now, &mut self.fx);
        self.tell_effects(now);
        self.expire_group_waits(now);
        self.expire_paths(now);
        while let Some(at) = self.sessions.pop_expired(now) {
            self.on_expired(now, at);
        }
    }

    /// The epoch it is in now.
    pub(crate) fn epoch(&self) -> u32 {
        self.member.as_ref().map_or(self.config.epoch, |m| m.state.epoch)
    }

    pub(crate) fn send(&mut self, conn: ConnId, message: ServerMessage) {
        self.outputs.push_back(Output::Send { conn, message });
    }

    /// Writes to the journal, where there is one.
    pub(crate) fn record(&mut self, record: Record) {
        #[cfg(feature = "planted")]
        if let Record::Opened { durable: false, .. } = record
            && lockstead_types::planted::is(lockstead_types::planted::Bug::NotJournaled)
        {
            return;
        }
        if self.config.durable {
            self.outputs.push_back(Output::Record(record));
        }
    }

    /// Writes to the audit log, which needs no data directory.
    pub(crate) fn audit(&mut self, text: String) {
        self.outputs.push_back(Output::Record(Record::Audit { text }));
    }

    pub(crate) fn session_id(&self, at: u32) -> Option<SessionId> {
        self.sessions.get(at).map(|s| s.id)
    }
}
