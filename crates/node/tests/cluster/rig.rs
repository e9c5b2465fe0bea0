//! Some members with everything between them: commands are applied at once, messages arrive at once unless a link is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstead_cluster::{Command, Seat, State};
use lockstead_node::{Input, MemberConfig, Node, NodeConfig, Output, Principal, ROWS_A_TURN, Record};
use lockstead_types::{
    ConnId, Flags, Limits, LockId, Mode, NodeId, RequestId, Sealed, SessionId, Slot, SpaceId, Span, Time,
    message::{ClientMessage, Reclaim, ServerMessage},
    peer::{Envelope, PeerMessage},
    refusal::Refusal,
    reply::{Grant, Notice, Reply},
    report::{DeadlockReport, Meta},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Stood, Wait},
};

pub(crate) const NL: Mode = Mode(0);
pub(crate) const PR: Mode = Mode(3);
pub(crate) const EX: Mode = Mode(5);
pub(crate) const TTL: Span = Span::from_secs(10);
pub(crate) const STALENESS: Span = Span::from_secs(3);

pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) state: State,
    pub(crate) nodes: BTreeMap<u16, Node>,
    conns: u64,
    nonces: u64,
    /// Both ends of each connection between nodes.
    wires: BTreeMap<(u16, ConnId), (u16, ConnId)>,
    /// Pairs between which nothing passes; what is sent waits.
    pub(crate) cut: BTreeSet<(u16, u16)>,
    held: Vec<(u16, ConnId, Envelope)>,
    /// Proposals that are not agreed on yet, while nothing is.
    stalled: Option<Vec<Command>>,
    /// Nodes that apply nothing for now, with what they miss.
    behind: BTreeMap<u16, Vec<Command>>,
    /// What is proposed gets lost for now.
    pub(crate) losing: bool,
    rows_a_turn: usize,
    limits: Limits,
    /// Bytes of the longest report that was sent.
    pub(crate) longest_report: usize,
    /// Messages that release what a transaction had.
    pub(crate) batches: usize,
    /// What each client was told and has not looked at.
    inbox: BTreeMap<ConnId, VecDeque<ServerMessage>>,
    /// The audit logs of all nodes.
    pub(crate) audit: Vec<String>,
}

/// A connected client with a session.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) node: u16,
    pub(crate) conn: ConnId,
    pub(crate) session: SessionId,
    asked: u64,
}

impl Cluster {
    /// A cluster of nodes 1 to `count`, all up and with authority.
    pub(crate) fn of(count: u16) -> Cluster {
        Cluster::with(count, ROWS_A_TURN, Limits::default())
    }

    /// The same, with nodes that do so much of a recovery at once, and have these limits.
    pub(crate) fn with(count: u16, rows_a_turn: usize, limits: Limits) -> Cluster {
        let mut cluster = Cluster {
            now: Time::from_nanos(1_000_000_000_000),
            state: State::default(),
            nodes: BTreeMap::new(),
            conns: 0,
            nonces: 0,
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: Vec::new(),
            stalled: None,
            behind: BTreeMap::new(),
            losing: false,
            rows_a_turn,
            limits,
            longest_report: 0,
            batches: 0,
            inbox: BTreeMap::new(),
            audit: Vec::new(),
        };
        let seats = (1..=count).map(seat).collect();
        cluster.apply(&Command::Form { seed: 7, key: [1; 32], seats, spaces: Vec::new() });
        (1..=count).for_each(|node| cluster.start(node));
        cluster
    }

    /// Starts a node, or starts it anew.
    pub(crate) fn start(&mut self, node: u16) {
        self.nonces += 1;
        let command = Command::Start {
            node: NodeId(node),
            identity: u128::from(node),
            nonce: self.nonces,
            after: self.state.members[&NodeId(node)].nonce,
            peer_address: String::new(),
            client_address: String::new(),
        };
        self.apply(&command);
        let incarnation = self.state.members[&NodeId(node)].incarnation;
        let config = NodeConfig {
            node: NodeId(node),
            epoch: 0,
            limits: self.limits.clone(),
            hash_seed: u64::from(node),
            version: "test".into(),
            spaces: Vec::new(),
            recorded: Vec::new(),
            ttl_max_recorded: Span::ZERO,
            durable: false,
            member: Some(MemberConfig {
                incarnation,
                state: self.state.clone(),
                rows_a_turn: self.rows_a_turn,
                staleness: STALENESS,
            }),
        };
        self.nodes.insert(node, Node::new(config, self.now));
        self.authorise(node);
        self.run();
    }

    pub(crate) fn authorise(&mut self, node: u16) {
        self.authorise_for(node, Span::from_secs(1_000_000));
    }

    /// Authority for so long from now.
    pub(crate) fn authorise_for(&mut self, node: u16, span: Span) {
        let until = self.now.after(span);
        self.handle(node, Input::Authority { until });
    }

    /// A node dies at once; its connections break.
    pub(crate) fn kill(&mut self, node: u16) {
        self.nodes.remove(&node);
        let broken: Vec<_> = self.wires.iter().filter(|((a, _), (b, _))| *a == node || *b == node).collect();
        let broken: Vec<(u16, ConnId)> = broken.into_iter().map(|(end, _)| *end).collect();
        for end in broken {
            self.wires.remove(&end);
            if self.nodes.contains_key(&end.0) {
                self.handle(end.0, Input::PeerDisconnected { conn: end.1 });
            }
        }
        self.run();
    }

    /// The others go on without a node that died.
    pub(crate) fn evict(&mut self, node: u16) {
        let incarnation = self.state.members[&NodeId(node)].incarnation;
        self.apply(&Command::Evict { node: NodeId(node), incarnation });
        self.run();
    }

    /// Applies a command at the group and at every node.
    pub(crate) fn apply(&mut self, command: &Command) {
        let before = self.state.clone();
        let _refused_is_an_answer_too = self.state.apply(command);
        self.state.check().expect("a state that holds together");
        self.state.check_after(&before).expect("a state that may follow");
        let nodes: Vec<u16> = self.nodes.keys().copied().collect();
        for node in nodes {
            match self.behind.get_mut(&node) {
                Some(missed) => missed.push(command.clone()),
                None => self.handle(node, Input::Committed { command }),
            }
        }
    }

    /// Nothing is agreed on for now.
    pub(crate) fn stall(&mut self) {
        self.stalled = Some(Vec::new());
    }

    /// What was proposed meanwhile is agreed on.
    pub(crate) fn go_on(&mut self) {
        for command in self.stalled.take().unwrap_or_default() {
            self.apply(&command);
        }
        self.run();
    }

    /// The first of what was proposed meanwhile is agreed on, and no more.
    pub(crate) fn agree_once(&mut self) -> Command {
        let mut waiting = self.stalled.take().unwrap_or_default();
        assert!(!waiting.is_empty(), "nothing was proposed");
        let first = waiting.remove(0);
        self.stalled = Some(waiting);
        self.apply(&first);
        self.run();
        first
    }

    /// A node applies commands late: from now on none.
    pub(crate) fn fall_behind(&mut self, node: u16) {
        self.behind.insert(node, Vec::new());
    }

    /// It applies what it missed.
    pub(crate) fn catch_up(&mut self, node: u16) {
        for command in self.behind.remove(&node).unwrap_or_default() {
            self.handle(node, Input::Committed { command: &command });
        }
        self.run();
    }

    pub(crate) fn handle(&mut self, node: u16, input: Input<'_>) {
        let now = self.now;
        let said = format!("{input:?}");
        let Some(value) = self.nodes.get_mut(&node) else { return };
        value.handle(now, input);
        if let Err(what) = value.check() {
            panic!("node {node} is broken after {said}: {what}");
        }
    }

    /// Lets time pass, and everything that is due happen.
    pub(crate) fn pass(&mut self, span: Span) {
        let end = self.now.after(span);
        loop {
            let due = self.nodes.values().filter_map(Node::poll_deadline).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            let nodes: Vec<u16> = self.nodes.keys().copied().collect();
            nodes.into_iter().for_each(|node| self.handle(node, Input::Tick));
            self.run();
        }
        self.now = end;
    }

    /// Joins two nodes again; what waited arrives.
    pub(crate) fn join(&mut self, a: u16, b: u16) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
        for (node, conn, envelope) in core::mem::take(&mut self.held) {
            self.handle(node, Input::PeerMessage { conn, envelope });
        }
        self.run();
    }

    /// Carries out all outputs until there are none.
    pub(crate) fn run(&mut self) {
        loop {
            self.dial();
            let next = self.nodes.iter_mut().find_map(|(id, node)| node.poll_output().map(|out| (*id, out)));
            let Some((node, output)) = next else { return };
            match output {
                Output::Send { conn, message } => self.inbox.entry(conn).or_default().push_back(message),
                Output::Record(Record::Audit { text }) => self.audit.push(text),
                Output::Close { .. } | Output::Record(_) => {}
                Output::Propose(_) if self.losing => {}
                Output::Propose(command) => match &mut self.stalled {
                    Some(waiting) => waiting.push(command),
                    None => self.apply(&command),
                },
                Output::SendPeer { conn, envelope } => {
                    let Some((to, there)) = self.wires.get(&(node, conn)).copied() else { continue };
                    self.measure(&envelope);
                    if self.cut.contains(&(node, to)) {
                        self.held.push((to, there, envelope));
                    } else {
                        self.handle(to, Input::PeerMessage { conn: there, envelope });
                    }
                }
                Output::ClosePeer { conn } => {
                    if let Some((to, there)) = self.wires.remove(&(node, conn)) {
                        self.wires.remove(&(to, there));
                        self.handle(to, Input::PeerDisconnected { conn: there });
                    }
                }
            }
        }
    }

    fn measure(&mut self, envelope: &Envelope) {
        self.batches += usize::from(matches!(envelope.message, PeerMessage::ReleaseMany { .. }));
        if matches!(envelope.message, PeerMessage::Report { .. }) {
            let mut bytes = Vec::new();
            lockstead_wire::encode_peer(envelope, &mut bytes).expect("a message that fits");
            self.longest_report = self.longest_report.max(bytes.len());
        }
    }

    fn dial(&mut self) {
        let wanted: Vec<(u16, NodeId)> = self
            .nodes
            .iter()
            .flat_map(|(id, node)| node.peers_wanted().into_iter().map(|(to, _)| (*id, to)).collect::<Vec<_>>())
            .filter(|(_, to)| self.nodes.contains_key(&to.0))
            .collect();
        for (from, to) in wanted {
            let (here, there) = (self.conn(), self.conn());
            self.wires.insert((from, here), (to.0, there));
            self.wires.insert((to.0, there), (from, here));
            self.handle(to.0, Input::PeerConnected { conn: there, dialed: None });
            self.handle(from, Input::PeerConnected { conn: here, dialed: Some(to) });
        }
    }

    fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    // ------------------------------------------------------------ clients

    /// A client that has greeted a node.
    fn greet(&mut self, node: u16) -> ConnId {
        let conn = self.conn();
        let principal = Principal::Address("10.0.0.9:1".into());
        self.handle(node, Input::Connected { conn, local: false, principal });
        self.handle(node, Input::Message { conn, message: ClientMessage::Hello { version: 1 } });
        self.run();
        assert!(matches!(self.told(conn)[..], [ServerMessage::Welcome(_)]));
        conn
    }

    pub(crate) fn open(&mut self, node: u16, session: u128) -> Client {
        self.open_within(node, session, None)
    }

    /// A session that runs within another one.
    pub(crate) fn open_within(&mut self, node: u16, session: u128, within: Option<u128>) -> Client {
        let conn = self.greet(node);
        let session = SessionId(session);
        let meta = Meta { within: within.map(SessionId), ..Meta::default() };
        let message = ClientMessage::Open { session, ttl: TTL, meta };
        self.handle(node, Input::Message { conn, message });
        self.run();
        assert_eq!(self.told(conn), [ServerMessage::Opened { ttl: TTL }]);
        Client { node, conn, session, asked: 0 }
    }

    /// A client attaches to another node; what it is told first.
    pub(crate) fn attach(&mut self, client: &mut Client, node: u16) -> Vec<ServerMessage> {
        self.attach_with(client, node, 0)
    }

    /// The same, with a count of the answers it has had.
    pub(crate) fn attach_with(&mut self, client: &mut Client, node: u16, answers: u64) -> Vec<ServerMessage> {
        let conn = self.greet(node);
        (client.node, client.conn) = (node, conn);
        let message = ClientMessage::Attach { session: client.session, ttl: TTL, meta: Meta::default(), answers };
        self.handle(node, Input::Message { conn, message });
        self.run();
        self.told(conn)
    }

    pub(crate) fn say(&mut self, client: &Client, message: ClientMessage<'_>) -> Vec<ServerMessage> {
        self.handle(client.node, Input::Message { conn: client.conn, message });
        self.run();
        self.told(client.conn)
    }

    pub(crate) fn ask(&mut self, client: &mut Client, op: Op<'_>) -> Vec<ServerMessage> {
        client.asked += 1;
        let id = RequestId(client.asked);
        self.say(client, ClientMessage::Request { id, op })
    }

    /// Several requests, before any of them has an effect elsewhere.
    pub(crate) fn ask_at_once<'a>(
        &mut self,
        client: &mut Client,
        ops: impl IntoIterator<Item = Op<'a>>,
    ) -> Vec<ServerMessage> {
        for op in ops {
            client.asked += 1;
            let message = ClientMessage::Request { id: RequestId(client.asked), op };
            self.handle(client.node, Input::Message { conn: client.conn, message });
        }
        self.run();
        self.told(client.conn)
    }

    pub(crate) fn lock(&mut self, client: &mut Client, name: &[u8], mode: Mode) -> Vec<ServerMessage> {
        self.ask(client, Op::Lock(request(name, mode)))
    }

    /// A lock that must be granted at once.
    pub(crate) fn locked(&mut self, client: &mut Client, name: &[u8], mode: Mode) -> Grant {
        let told = self.lock(client, name, mode);
        granted(&told).unwrap_or_else(|| panic!("granted {mode:?}, not {told:?}"))
    }

    pub(crate) fn release(&mut self, client: &mut Client, lock: LockId) -> Vec<ServerMessage> {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.ask(client, Op::Release { release, one_way: false })
    }

    /// The same under a number of the caller's choice.
    pub(crate) fn release_as(&mut self, client: &Client, id: u64, lock: LockId) -> Vec<ServerMessage> {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.say(client, ClientMessage::Request { id: RequestId(id), op: Op::Release { release, one_way: false } })
    }

    pub(crate) fn convert(&mut self, client: &mut Client, lock: LockId, mode: Mode) -> Vec<ServerMessage> {
        let convert = ConvertRequest { lock, mode, wait: Wait::Forever, flags: Flags::NONE, value: None };
        self.ask(client, Op::Convert(convert))
    }

    /// A client claims what it was granted; the id of the lock where it has it still.
    pub(crate) fn claim(&mut self, client: &Client, name: &[u8], grant: &Grant) -> Option<LockId> {
        let (claim, sealed) = claim_of(name, grant);
        let told = self.say(client, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed });
        granted(&told).map(|grant| grant.lock)
    }

    /// A client says again, at another home, what it waited for, and is told that it waits on.
    pub(crate) fn again(&mut self, client: &mut Client, stood: Stood, op: Op<'_>) -> Vec<ServerMessage> {
        client.asked += 1;
        let id = RequestId(client.asked);
        self.say(client, ClientMessage::Again { id, stood, op })
    }

    /// The slot of a name goes to another master.
    pub(crate) fn move_to(&mut self, name: &[u8], to: u16) {
        let slot = Slot::of(7, SpaceId(0), name);
        let generation = self.state.slots[usize::from(slot.0)].generation;
        self.apply(&Command::Move { slots: vec![(slot, generation, NodeId(to))] });
        self.run();
    }

    /// What a client was told since it last looked.
    pub(crate) fn told(&mut self, conn: ConnId) -> Vec<ServerMessage> {
        self.inbox.remove(&conn).map(Vec::from).unwrap_or_default()
    }

    /// Names whose slots are mastered by a node.
    /// The node that decides for a name.
    pub(crate) fn master_of(&self, space: SpaceId, name: &[u8]) -> u16 {
        self.state.slots[usize::from(Slot::of(7, space, name).0)].master.0
    }

    /// The deadlocks that nodes remember.
    pub(crate) fn deadlocks(&self) -> Vec<DeadlockReport> {
        self.nodes.values().flat_map(|node| node.deadlocks().cloned()).collect()
    }

    /// Messages that were sent to find cycles over several masters.
    pub(crate) fn probes(&self) -> u64 {
        let of = |node: &Node| node.status(self.now).counters.into_iter().find(|(name, _)| name == "probes");
        self.nodes.values().filter_map(of).map(|(_, count)| count).sum()
    }

    pub(crate) fn names_at(&self, node: u16, count: usize) -> Vec<Vec<u8>> {
        let at = |name: &[u8]| self.state.slots[usize::from(Slot::of(7, SpaceId(0), name).0)].master;
        let names = (0..).map(|n| format!("name-{n}").into_bytes());
        names.filter(|name| at(name) == NodeId(node)).take(count).collect()
    }

    /// A name whose slot is mastered by a node.
    pub(crate) fn name_at(&self, node: u16) -> Vec<u8> {
        self.names_at(node, 1).remove(0)
    }
}

fn seat(node: u16) -> Seat {
    Seat {
        node: NodeId(node),
        identity: u128::from(node),
        peer_address: format!("10.0.0.{node}:7601"),
        client_address: format!("10.0.0.{node}:7600"),
        weight: 100,
    }
}

pub(crate) fn request(name: &[u8], mode: Mode) -> LockRequest<'_> {
    LockRequest {
        space: SpaceId(0),
        name,
        claim: Claim::Mode(mode),
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: OwnerRef::Session,
        tag: 0,
        priority: 0,
    }
}

/// A claim of what was granted, with its proof.
pub(crate) fn claim_of<'a>(name: &'a [u8], grant: &Grant) -> (Reclaim<'a>, Option<Sealed>) {
    let claim = Reclaim {
        space: SpaceId(0),
        name,
        held: grant.claim,
        token: grant.token,
        lock: grant.lock,
        tag: 0,
        alone: false,
        group: None,
        part: None,
        flags: Flags::NONE,
    };
    (claim, grant.seal.map(|seal| Sealed { claim: grant.claim, seal }))
}

pub(crate) fn granted(told: &[ServerMessage]) -> Option<Grant> {
    told.iter().find_map(|m| match m {
        ServerMessage::Reply { reply: Reply::Granted(grant), .. } => Some(grant.clone()),
        _ => None,
    })
}

pub(crate) fn is_queued(told: &[ServerMessage]) -> bool {
    matches!(told, [ServerMessage::Reply { reply: Reply::Queued(_), .. }])
}

/// Where a client stands that was told that it waits.
pub(crate) fn stood(told: &[ServerMessage]) -> Stood {
    match told {
        [ServerMessage::Reply { reply: Reply::Queued(queued), .. }] => {
            Stood { ticket: queued.ticket, waited: Span::ZERO }
        }
        other => panic!("it should wait: {other:?}"),
    }
}

pub(crate) fn is_released(told: &[ServerMessage]) -> bool {
    told.iter().any(|m| matches!(m, ServerMessage::Reply { reply: Reply::Released, .. }))
}

pub(crate) fn refusal(told: &[ServerMessage]) -> Option<Refusal> {
    told.iter().find_map(|m| match m {
        ServerMessage::Reply { reply: Reply::Refused(why), .. } => Some(*why),
        _ => None,
    })
}

pub(crate) fn blocking(told: &[ServerMessage]) -> Option<(LockId, Claim)> {
    told.iter().find_map(|m| match m {
        ServerMessage::Notice(Notice::Blocking { lock, claim }) => Some((*lock, *claim)),
        _ => None,
    })
}
