//! A master dies with many locks: what its heirs do until all are theirs, in messages, bytes and time of work.
//!
//! Three members in one thread, without sockets: the time is the work of both survivors together, the bytes are those of the
//! messages between them as they would be sent. `cargo bench -p lockstead-node --bench recovery -- [LOCKS] [NODES]`

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use lockstead_cluster::{Command, Seat, State};
use lockstead_node::{Input, MemberConfig, Node, NodeConfig, Output, Principal};
use lockstead_types::{
    ConnId, Flags, Limits, Mode, NodeId, RequestId, SessionId, Slot, SpaceId, Span, Time,
    message::ClientMessage,
    peer::{Envelope, PeerMessage},
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, Wait},
};

const SEED: u64 = 7;
/// The one that dies.
const DEAD: u16 = 2;
/// Requests a session asks before it acknowledges.
const BATCH: u64 = 1_000;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let (locks, nodes) = (numbers.next().unwrap_or(1_000_000), numbers.next().unwrap_or(3));
    let mut world = World::new(u16::try_from(nodes).expect("at most 65,535 nodes"));
    world.fill(locks);
    world.recover(locks);
}

struct World {
    now: Time,
    state: State,
    nodes: BTreeMap<u16, Node>,
    wires: BTreeMap<(u16, ConnId), (u16, ConnId)>,
    conns: u64,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    count: bool,
}

impl World {
    fn new(count: u16) -> World {
        let mut world = World {
            now: Time::from_nanos(1_000_000_000_000),
            state: State::default(),
            nodes: BTreeMap::new(),
            wires: BTreeMap::new(),
            conns: 0,
            tally: Tally::default(),
        };
        let seats = (1..=count).map(seat).collect();
        world.apply(&Command::Form { seed: SEED, key: [1; 32], seats, spaces: Vec::new() });
        (1..=count).for_each(|node| world.start(node));
        world
    }

    fn start(&mut self, node: u16) {
        let (identity, address) = (u128::from(node), String::new());
        let (peer_address, client_address) = (address.clone(), address);
        let nonce = u64::from(node);
        self.apply(&Command::Start { node: NodeId(node), identity, nonce, after: 0, peer_address, client_address });
        let incarnation = self.state.members[&NodeId(node)].incarnation;
        let config = NodeConfig {
            node: NodeId(node),
            epoch: 0,
            limits: Limits::default(),
            hash_seed: u64::from(node),
            version: String::new(),
            spaces: Vec::new(),
            recorded: Vec::new(),
            ttl_max_recorded: Span::ZERO,
            durable: false,
            member: Some(MemberConfig { incarnation, state: self.state.clone() }),
        };
        self.nodes.insert(node, Node::new(config, self.now));
        let until = self.now.after(Span::from_secs(1_000_000));
        self.handle(node, Input::Authority { until });
        self.run();
    }

    fn apply(&mut self, command: &Command) {
        self.state.apply(command).expect("a command that is right");
        let nodes: Vec<u16> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.handle(node, Input::Committed { command }));
    }

    fn handle(&mut self, node: u16, input: Input<'_>) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.handle(now, input);
        }
    }

    /// Carries out all outputs until there are none.
    fn run(&mut self) {
        let mut proposals = VecDeque::new();
        loop {
            self.dial();
            let mut idle = true;
            let ids: Vec<u16> = self.nodes.keys().copied().collect();
            for id in ids {
                while let Some(output) = self.nodes.get_mut(&id).and_then(Node::poll_output) {
                    idle = false;
                    match output {
                        Output::Propose(command) => proposals.push_back(command),
                        Output::SendPeer { conn, envelope } => self.deliver(id, conn, envelope),
                        _ => {}
                    }
                }
            }
            match proposals.pop_front() {
                Some(command) => self.apply(&command),
                None if idle => return,
                None => {}
            }
        }
    }

    fn deliver(&mut self, from: u16, conn: ConnId, envelope: Envelope) {
        let Some((to, there)) = self.wires.get(&(from, conn)).copied() else { return };
        if self.tally.count && !matches!(envelope.message, PeerMessage::Ack | PeerMessage::Alive) {
            let mut bytes = Vec::new();
            lockstead_wire::encode_peer(&envelope, &mut bytes).expect("a message that fits");
            self.tally.messages += 1;
            self.tally.bytes += bytes.len() as u64;
        }
        self.handle(to, Input::PeerMessage { conn: there, envelope });
    }

    fn dial(&mut self) {
        let of =
            |(id, node): (&u16, &Node)| node.peers_wanted().into_iter().map(|(to, _)| (*id, to.0)).collect::<Vec<_>>();
        let wanted: Vec<(u16, u16)> = self.nodes.iter().flat_map(of).collect();
        for (from, to) in wanted.into_iter().filter(|(_, to)| self.nodes.contains_key(to)).collect::<Vec<_>>() {
            let (here, there) = (self.conn(), self.conn());
            self.wires.insert((from, here), (to, there));
            self.wires.insert((to, there), (from, here));
            self.handle(to, Input::PeerConnected { conn: there, dialed: None });
            self.handle(from, Input::PeerConnected { conn: here, dialed: Some(NodeId(to)) });
        }
    }

    fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    /// Sessions at all nodes but the one that will die lock names that it masters.
    fn fill(&mut self, locks: u64) {
        let homes: Vec<u16> = self.nodes.keys().copied().filter(|node| *node != DEAD).collect();
        let master = |name: &[u8]| self.state.slots[usize::from(Slot::of(SEED, SpaceId(0), name).0)].master;
        let names = (0_u64..).map(|n| format!("table/{n:09}").into_bytes());
        let names: Vec<Vec<u8>> = names.filter(|name| master(name) == NodeId(DEAD)).take(locks as usize).collect();
        let started = Instant::now();
        let mut messages = 0;
        for (home, names) in homes.iter().zip(names.chunks(names.len().div_ceil(homes.len()))) {
            let conn = self.open(*home);
            for (n, name) in (1_u64..).zip(names) {
                let message = ClientMessage::Request { id: RequestId(n), op: Op::Lock(request(name)) };
                self.handle(*home, Input::Message { conn, message });
                messages += 1;
                if n % BATCH == 0 {
                    self.run();
                    self.handle(*home, Input::Message { conn, message: ClientMessage::Ack { answers: n } });
                }
            }
            self.run();
        }
        let each = started.elapsed().as_nanos() / u128::from(locks);
        println!("{{\"what\":\"remote lock, work of home and master\",\"locks\":{messages},\"ns_each\":{each}}}");
    }

    fn open(&mut self, home: u16) -> ConnId {
        let conn = self.conn();
        let principal = Principal::Address("10.0.0.9:1".into());
        self.handle(home, Input::Connected { conn, local: false, principal });
        self.handle(home, Input::Message { conn, message: ClientMessage::Hello { version: 1 } });
        let session = SessionId(u128::from(home));
        let ttl = Span::from_secs(3_600);
        self.handle(
            home,
            Input::Message { conn, message: ClientMessage::Open { session, ttl, meta: Meta::default() } },
        );
        self.run();
        conn
    }

    /// The master dies: until every one of its slots is served again.
    fn recover(&mut self, locks: u64) {
        self.nodes.remove(&DEAD);
        self.wires.retain(|(a, _), (b, _)| *a != DEAD && *b != DEAD);
        self.tally = Tally { count: true, ..Tally::default() };
        let incarnation = self.state.members[&NodeId(DEAD)].incarnation;
        let started = Instant::now();
        self.apply(&Command::Evict { node: NodeId(DEAD), incarnation });
        self.run();
        let elapsed = started.elapsed();
        let waiting: usize = self.nodes.values().map(|node| node.recovering_slots().0).sum();
        assert_eq!(waiting, 0, "slots that nobody serves");
        let Tally { messages, bytes, .. } = self.tally;
        let per_lock = bytes as f64 / locks as f64;
        println!(
            "{{\"what\":\"recovery\",\"nodes\":{},\"locks\":{locks},\"messages\":{messages},\"bytes\":{bytes},\"bytes_each\":{per_lock:.1},\
             \"work_ms\":{},\"work_ms_per_survivor\":{},\"note\":\"includes encoding each message once\"}}",
            self.nodes.len() + 1,
            elapsed.as_millis(),
            elapsed.as_millis() / self.nodes.len() as u128,
        );
    }
}

fn seat(node: u16) -> Seat {
    let (peer_address, client_address) = (format!("n{node}:7601"), format!("n{node}:7600"));
    Seat { node: NodeId(node), identity: u128::from(node), peer_address, client_address, weight: 100 }
}

fn request(name: &[u8]) -> LockRequest<'_> {
    LockRequest {
        space: SpaceId(0),
        name,
        claim: Claim::Mode(Mode(5)),
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: OwnerRef::Session,
        tag: 0,
        priority: 0,
    }
}
