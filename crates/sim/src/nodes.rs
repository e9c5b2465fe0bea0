//! The hosts of nodes: their processes, which die and start again, stand still, and keep on disk what the shell keeps.

use std::collections::BTreeMap;

use lockstead_cluster::State;
use lockstead_node::{Input, MemberConfig, Node, NodeConfig, Output, Principal, Record, SessionRecord};
use lockstead_types::{
    ConnId, Limits, NodeId, SessionId, SpaceId, Span,
    peer::{Incarnation, PeerMessage},
};
use lockstead_wire::{DecodeLimits, client_messages};

use crate::{
    group::id_of,
    invariants::Code,
    net::{End, Payload},
    options::Fault,
    queue::{Event, GroupEvent},
    world::{MS, Phase, SEC, World},
};

/// The host of a node.
pub(crate) struct Host {
    /// The process; `None` while it is down.
    pub(crate) node: Option<Node>,
    /// How often it was started or stopped.
    pub(crate) life: u32,
    pub(crate) paused_until: u64,
    /// When its deadline will be looked at; 0 for never.
    wake_at: u64,
    /// It dies after so many further outputs.
    pub(crate) dies_after: Option<u32>,
    /// It was told to stop.
    stopping: bool,
    pub(crate) disk: Disk,
    /// Whether its process runs; a member's needs to be let in before it is a node.
    pub(crate) running: bool,
    /// What the members agreed on, as far as a process knows that is no node yet.
    pub(crate) replica: State,
    /// How many commands it has come to.
    pub(crate) applied: usize,
    /// Of its data.
    pub(crate) identity: u128,
    /// Of this start.
    pub(crate) nonce: u64,
    /// What it does now it does because of the time.
    pub(crate) ticking: bool,
    /// It does not start before.
    pub(crate) away_until: u64,
    /// It is gone for good; what comes in its place comes once the operator has given it up.
    pub(crate) lost: bool,
    /// It has no vote and no say until it is let in again.
    pub(crate) outside: bool,
    /// It stays dead until the end of the run.
    pub(crate) abandoned: bool,
    pub(crate) incarnation: Option<Incarnation>,
    /// Whom it is dialling, a bit each.
    pub(crate) dialing: u32,
    /// Until when it learns late of what was committed.
    pub(crate) lags_until: u64,
    /// A renewal of its authority is confirmed that does not count yet: it has not heard all that was agreed on then.
    pub(crate) renewing: bool,
    /// The epoch it has come to.
    pub(crate) epoch: u32,
}

/// What is kept in the data directory of a node that stands alone.
#[derive(Default)]
pub(crate) struct Disk {
    starts: u32,
    sessions: BTreeMap<SessionId, SessionRecord>,
    ttl_max: Span,
    /// Written and not synced: survives the process, not the host.
    tail: Vec<Record>,
    /// How many of those the sync under way covers.
    syncing: Option<usize>,
    pub(crate) slow_until: u64,
}

/// Why a process ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// The process alone.
    Killed,
    /// Its whole host.
    Power,
}

/// When a process dies, by what it was about to send.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Crash {
    Before,
    After,
}

impl Host {
    pub(crate) fn all(count: usize) -> Vec<Host> {
        (0..count).map(|node| Host::new(node as u128)).collect()
    }

    fn new(identity: u128) -> Host {
        Host {
            node: None,
            life: 0,
            paused_until: 0,
            wake_at: 0,
            dies_after: None,
            stopping: false,
            disk: Disk::default(),
            running: false,
            replica: State::default(),
            applied: 0,
            identity,
            nonce: 0,
            ticking: false,
            away_until: 0,
            lost: false,
            outside: false,
            abandoned: false,
            incarnation: None,
            dialing: 0,
            lags_until: 0,
            renewing: false,
            epoch: 0,
        }
    }
}

impl Disk {
    fn take(&mut self, record: Record) {
        match record {
            Record::Opened { record, .. } => {
                self.sessions.insert(record.session, record);
            }
            Record::Ended { session } => {
                self.sessions.remove(&session);
            }
            Record::TtlMax { ttl } => self.ttl_max = ttl,
            Record::SpaceCreated { .. } | Record::SpaceDropped { .. } | Record::Audit { .. } => {}
        }
    }

    /// Takes in what was written first.
    fn settle(&mut self, count: usize) -> Vec<SessionId> {
        let mut opened = Vec::new();
        for record in self.tail.drain(..count).collect::<Vec<_>>() {
            if let Record::Opened { record, durable: true } = &record {
                opened.push(record.session);
            }
            self.take(record);
        }
        opened
    }
}

impl World {
    pub(crate) fn on_start_node(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let now = self.clocks[at].at(self.now);
        let host = &mut self.nodes[at];
        if host.life != life || host.running || host.lost || host.abandoned {
            return;
        }
        if host.away_until > self.now {
            return self.queue.push(host.away_until, Event::StartNode { node, life });
        }
        host.running = true;
        if !self.options.alone {
            host.nonce = self.chance.next();
            host.dialing = 0;
            self.trace.say(self.now, format_args!("node {at} starts as a process"));
            return self.plan_group(0, GroupEvent::Join { node, life });
        }
        host.disk.starts += 1;
        let config = NodeConfig {
            node: NodeId(u16::from(node) + 1),
            epoch: host.disk.starts,
            limits: self.options.limits(),
            hash_seed: self.options.seed,
            version: String::new(),
            spaces: vec![(SpaceId(0), self.options.space())],
            recorded: host.disk.sessions.values().cloned().collect(),
            ttl_max_recorded: host.disk.ttl_max,
            durable: true,
            member: None,
        };
        self.judge.on_node_start(at, now, config.recorded.iter().map(|r| r.session));
        host.node = Some(Node::new(config, now));
        host.stopping = false;
        let recorded = host.disk.sessions.len();
        self.trace.say(self.now, format_args!("node {at} starts, {recorded} sessions of before"));
        self.after_node(at);
    }

    /// A process has become a member.
    pub(crate) fn begin_member(&mut self, at: usize, incarnation: Incarnation) {
        let now = self.clocks[at].at(self.now);
        let limits = self.options.limits();
        let host = &mut self.nodes[at];
        host.incarnation = Some(incarnation);
        host.outside = false;
        let config = NodeConfig {
            node: id_of(at),
            epoch: 0,
            limits,
            hash_seed: self.options.seed,
            version: String::new(),
            spaces: Vec::new(),
            recorded: Vec::new(),
            ttl_max_recorded: Span::ZERO,
            durable: false,
            member: Some(MemberConfig {
                incarnation,
                state: core::mem::take(&mut host.replica),
                rows_a_turn: self.options.turn as usize,
                staleness: lockstead_cluster::StewardConfig::default().t_auth,
            }),
        };
        host.node = Some(Node::new(config, now));
        host.stopping = false;
        let (node, life) = (at as u8, host.life);
        self.trace.say(self.now, format_args!("node {at} is a member, {incarnation:?}"));
        self.plan_group(0, GroupEvent::Renew { node, life });
        self.plan_group(0, GroupEvent::Dial { node, life });
        self.after_node(at);
    }

    pub(crate) fn on_end_node(&mut self, node: u8, life: u32) {
        if self.nodes[usize::from(node)].life == life {
            self.kill_node(usize::from(node), Death::Killed);
        }
    }

    /// The process ends, at once.
    pub(crate) fn kill_node(&mut self, at: usize, death: Death) {
        let host = &mut self.nodes[at];
        if !host.running {
            return;
        }
        let names = 0..self.judge.truth.names.len() as u8;
        let mastered: Vec<u8> = names.filter(|name| self.values_go_with_locks() && self.is_master(at, *name)).collect();
        let host = &mut self.nodes[at];
        host.running = false;
        if let Some(state) = host.node.take().and_then(|node| node.cluster_state().cloned()) {
            host.replica = state;
        }
        host.incarnation = None;
        host.life += 1;
        host.renewing = false;
        host.dies_after = None;
        host.wake_at = 0;
        host.paused_until = 0;
        host.disk.syncing = None;
        let keep = match death {
            Death::Killed => host.disk.tail.len(),
            Death::Power => self.chance.below(host.disk.tail.len() as u64 + 1) as usize,
        };
        host.disk.tail.truncate(keep);
        host.disk.settle(keep);
        let life = host.life;
        self.trace.say(self.now, format_args!("node {at} dies: {death:?}"));
        self.judge.on_node_death(at, &mastered);
        for (conn, side) in self.net.of(End::Node(at as u8)) {
            match death {
                Death::Killed => self.close(conn, usize::from(side)),
                Death::Power => self.vanish(conn, usize::from(side)),
            }
        }
        if death == Death::Power {
            let there: Vec<usize> = (0..self.clients.len()).filter(|c| self.clients[*c].host == at).collect();
            there.into_iter().for_each(|client| self.kill_client(client));
        }
        let mean = match self.chance.below(20) {
            0 => 40 * SEC,
            1..=6 => 5 * SEC,
            _ => 300 * MS,
        };
        let down = if self.phase == Phase::Fire { self.chance.around(mean) } else { 100 * MS };
        self.queue.push(self.now + down, Event::StartNode { node: at as u8, life });
    }

    /// The process is told to stop: it serves what it has for a moment, then ends.
    pub(crate) fn stop_node(&mut self, at: usize) {
        self.nodes[at].stopping = true;
        self.trace.say(self.now, format_args!("node {at} is told to stop"));
        self.tell_node(at, Input::Stop);
        self.kill_node(at, Death::Killed);
    }

    pub(crate) fn pause_node(&mut self, at: usize, span: u64) {
        self.trace.say(self.now, format_args!("node {at} stands still for {} ms", span / MS));
        self.nodes[at].paused_until = self.now + span;
    }

    pub(crate) fn on_wake_node(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let now = self.clocks[at].at(self.now);
        let host = &mut self.nodes[at];
        if host.life != life || host.wake_at > self.now {
            return;
        }
        host.wake_at = 0;
        if host.paused_until > self.now {
            let paused = host.paused_until;
            let again = self.look_again(paused);
            self.nodes[at].wake_at = again;
            return self.queue.push(again, Event::WakeNode { node, life });
        }
        let host = &mut self.nodes[at];
        let Some(known) = &host.node else { return };
        if known.poll_deadline().is_some_and(|deadline| now >= deadline) {
            self.tell_node(at, Input::Tick);
        } else {
            self.plan_wake_node(at);
        }
    }

    pub(crate) fn plan_wake_node(&mut self, at: usize) {
        let host = &mut self.nodes[at];
        let Some(deadline) = host.node.as_ref().and_then(Node::poll_deadline) else { return };
        // A shell is a little late, always.
        let when = self.clocks[at].when(deadline).max(self.now) + 50_000;
        if host.wake_at == 0 || when < host.wake_at {
            host.wake_at = when;
            self.queue.push(when, Event::WakeNode { node: at as u8, life: host.life });
        }
    }

    pub(crate) fn tell_node(&mut self, at: usize, input: Input<'_>) {
        let now = self.clocks[at].at(self.now);
        let host = &mut self.nodes[at];
        let Some(node) = &mut host.node else { return };
        host.ticking = matches!(input, Input::Tick);
        node.handle(now, input);
        self.after_node(at);
    }

    /// What came over a connection.
    pub(crate) fn node_hears(&mut self, node: u8, conn: u32, payload: Payload) {
        let at = usize::from(node);
        let id = ConnId(u64::from(conn));
        let now = self.clocks[at].at(self.now);
        match payload {
            Payload::Accept { client, local } => self.accept(at, conn, local, client),
            Payload::Client(bytes) => {
                for message in client_messages(&bytes, &DecodeLimits::CEILING) {
                    let message = message.expect("what a client encodes decodes");
                    self.judge.on_client_message(now, conn, &message);
                    if self.trace.wants_text() {
                        self.trace.say(self.now, format_args!("node {at} < conn {conn}: {message:?}"));
                    }
                    self.tell_node(at, Input::Message { conn: id, message });
                }
            }
            Payload::PeerAccept => self.tell_node(at, Input::PeerConnected { conn: id, dialed: None }),
            Payload::Peer(envelope) => {
                if self.trace.wants_text() {
                    self.trace.say(self.now, format_args!("node {at} < conn {conn}: {envelope:?}"));
                }
                self.tell_node(at, Input::PeerMessage { conn: id, envelope: *envelope });
            }
            Payload::End if self.net.is_peer(conn) => {
                self.trace.say(self.now, format_args!("node {at} < conn {conn}: end"));
                self.tell_node(at, Input::PeerDisconnected { conn: id });
            }
            Payload::End => {
                self.trace.say(self.now, format_args!("node {at} < conn {conn}: end"));
                self.judge.on_conn_end(at, conn);
                self.tell_node(at, Input::Disconnected { conn: id });
            }
            Payload::Server(_) => {}
        }
    }

    /// A client's connection stands.
    fn accept(&mut self, at: usize, conn: u32, local: bool, client: u8) {
        let principal = if local {
            Principal::Local { uid: 1_000, gid: 1_000, pid: u32::from(client) + 10 }
        } else {
            Principal::Address(format!("client-{client}:{}", 1_000 + conn))
        };
        self.tell_node(at, Input::Connected { conn: ConnId(u64::from(conn)), local, principal });
    }

    /// Does what the node wants done; the process may die in the middle of it.
    pub(crate) fn after_node(&mut self, at: usize) {
        self.observe(at);
        loop {
            let host = &mut self.nodes[at];
            let Some(output) = host.node.as_mut().and_then(Node::poll_output) else { break };
            if let Some(left) = &mut host.dies_after {
                if *left == 0 {
                    return self.kill_node(at, Death::Killed);
                }
                *left -= 1;
            }
            if self.trace.wants_text() {
                self.trace.say(self.now, format_args!("node {at} > {output:?}"));
            }
            let now = self.clocks[at].at(self.now);
            self.judge.on_node_output(at, now, &output);
            self.judge_expiry(at, now, &output);
            let crashes = self.crashes_at(&output);
            if crashes == Some(Crash::Before) {
                return self.kill_node(at, Death::Killed);
            }
            self.carry_out(at, output);
            if crashes == Some(Crash::After) && self.nodes[at].node.is_some() {
                return self.kill_node(at, Death::Killed);
            }
        }
        self.plan_wake_node(at);
    }

    /// Whether the process dies at a step of a recovery.
    fn crashes_at(&mut self, output: &Output) -> Option<Crash> {
        let Output::SendPeer { envelope, .. } = output else { return None };
        let fault = Fault::CrashRecovery;
        let step = matches!(
            envelope.message,
            PeerMessage::Report { .. }
                | PeerMessage::ReportDone { .. }
                | PeerMessage::Restored { .. }
                | PeerMessage::Claim { .. }
                | PeerMessage::Claimed { .. }
                | PeerMessage::ClaimsDone { .. }
        );
        if !step || !self.options.has(fault) || self.phase != Phase::Fire {
            return None;
        }
        let dice = &mut self.dice[fault as usize];
        let rate = self.options.rates[fault as usize];
        if dice.below(1_000_000) >= 3 * u64::from(rate) {
            return None;
        }
        self.faults += 1;
        Some(if dice.chance(500) { Crash::Before } else { Crash::After })
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { conn, message } => {
                self.send(conn.0 as u32, 0, Payload::Server(message));
            }
            Output::Close { conn } => self.close(conn.0 as u32, 1),
            Output::Record(record) => self.write(at, record),
            Output::Propose(command) => self.propose(Some(at), command),
            Output::SendPeer { conn, envelope } => {
                let outcome = self.judge.replies.said((at, self.nodes[at].life), &envelope);
                self.judge.must(Code::I14, outcome);
                let conn = conn.0 as u32;
                if let Some(side) = self.net.side_of(conn, End::Node(at as u8)) {
                    self.send(conn, 1 - side, Payload::Peer(Box::new(envelope)));
                }
            }
            Output::ClosePeer { conn } => {
                let conn = conn.0 as u32;
                if let Some(side) = self.net.side_of(conn, End::Node(at as u8)) {
                    self.close(conn, side);
                }
            }
        }
    }

    /// One node has reached another.
    pub(crate) fn join_peers(&mut self, from: usize, to: usize) {
        let conn = self.net.join_peers([End::Node(from as u8), End::Node(to as u8)]);
        self.trace.say(self.now, format_args!("conn {conn}: node {from} to node {to}"));
        self.put(conn, 1, self.now, Payload::PeerAccept);
        let id = ConnId(u64::from(conn));
        self.tell_node(from, Input::PeerConnected { conn: id, dialed: Some(id_of(to)) });
    }

    fn write(&mut self, at: usize, record: Record) {
        if matches!(record, Record::Audit { .. }) {
            return;
        }
        self.nodes[at].disk.tail.push(record);
        self.plan_sync(at);
    }

    fn plan_sync(&mut self, at: usize) {
        let host = &mut self.nodes[at];
        if host.disk.syncing.is_some() || host.disk.tail.is_empty() {
            return;
        }
        host.disk.syncing = Some(host.disk.tail.len());
        let slow = host.disk.slow_until > self.now;
        let takes = if slow { self.chance.between(500 * MS, 3 * SEC) } else { self.chance.below(2 * MS) };
        self.queue.push(self.now + takes, Event::Synced { node: at as u8, life: host.life });
    }

    pub(crate) fn on_synced(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let host = &mut self.nodes[at];
        if host.life != life {
            return;
        }
        if host.paused_until > self.now {
            return self.queue.push(host.paused_until, Event::Synced { node, life });
        }
        let Some(count) = host.disk.syncing.take() else { return };
        for session in host.disk.settle(count) {
            self.tell_node(at, Input::Recorded { session });
        }
        if self.nodes[at].life == life {
            self.plan_sync(at);
        }
    }
}

impl crate::options::Options {
    /// The bounds of a node.
    pub(crate) fn limits(&self) -> Limits {
        Limits { in_flight: self.credit, waiters_per_resource: self.waiters, ..Limits::default() }
    }

    /// Whether clocks of clients may run beyond what is promised.
    pub(crate) fn clocks_keep(&self) -> bool {
        !self.has(Fault::DriftOut)
    }
}
