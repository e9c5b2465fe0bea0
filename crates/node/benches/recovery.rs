//! A master dies with many locks: what its heirs do until all are theirs, in messages, bytes and time of work.
//!
//! All members in one thread, without sockets: each message is written to bytes by its sender and read by its receiver, and each
//! node's share is counted apart in processor time, so that what else runs on the machine does not show. A *turn* is one call
//! of a node: nothing else is served while it lasts. `cargo bench -p lockstead-node --bench recovery -- [LOCKS] [NODES]`; without
//! NODES a cluster of 3, and one of 100 from which 10 million locks are extrapolated.

use std::collections::{BTreeMap, VecDeque};

use lockstead_cluster::{Command, Seat, State};
use lockstead_node::{Input, MemberConfig, Node, NodeConfig, Output, Principal, ROWS_A_TURN};
use lockstead_types::{
    ConnId, Flags, Limits, Mode, NodeId, RequestId, SessionId, Slot, SpaceId, Span, Time,
    message::ClientMessage,
    peer::{Envelope, PeerMessage},
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, Wait},
};
use rustix::time::{ClockId, clock_gettime};

const SEED: u64 = 7;
/// The one that dies.
const DEAD: u16 = 2;
/// Requests a session asks before it acknowledges.
const BATCH: u64 = 1_000;

/// What all that a survivor does should take for a million locks.
const GOAL_MS: f64 = 150.0;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let locks = numbers.next().unwrap_or(1_000_000);
    if let Some(nodes) = numbers.next() {
        measure(locks, nodes);
        return;
    }
    let three = measure(locks, 3);
    let hundred = measure(locks / 10, 100);
    extrapolate(&three, &hundred);
}

fn measure(locks: u64, nodes: u64) -> Found {
    let mut world = World::new(u16::try_from(nodes).expect("at most 65,535 nodes"));
    world.fill(locks);
    let found = world.recover(locks);
    found.print();
    found
}

/// 10 million locks of one dead member of a hundred, at what a lock costs where there are many for each survivor, and at the
/// messages and bytes a lock takes where there are few.
fn extrapolate(three: &Found, hundred: &Found) {
    const LOCKS: f64 = 10_000_000.0;
    let survivors = hundred.survivors as f64;
    let each = three.work_ms * three.survivors as f64 / three.locks as f64;
    println!(
        "{{\"what\":\"recovery, extrapolated\",\"nodes\":100,\"locks\":10000000,\"bytes\":{:.0},\"messages_at_most\":{:.0},\
         \"work_ms_per_survivor\":{:.1},\"goal_ms_per_million\":{GOAL_MS}}}",
        LOCKS * hundred.bytes as f64 / hundred.locks as f64,
        LOCKS * hundred.messages as f64 / hundred.locks as f64,
        LOCKS * each / survivors,
    );
}

/// What a recovery took.
struct Found {
    nodes: usize,
    survivors: usize,
    locks: u64,
    messages: u64,
    bytes: u64,
    /// Of each survivor, on average.
    work_ms: f64,
    turn_ms: f64,
}

impl Found {
    fn print(&self) {
        let per_lock = |n: u64| n as f64 / self.locks as f64;
        println!(
            "{{\"what\":\"recovery\",\"nodes\":{},\"locks\":{},\"messages\":{},\"messages_each\":{:.4},\"bytes\":{},\
             \"bytes_each\":{:.1},\"work_ms_per_survivor\":{:.1},\"longest_turn_ms\":{:.2},\"goal_ms\":{:.0}}}",
            self.nodes,
            self.locks,
            self.messages,
            per_lock(self.messages),
            self.bytes,
            per_lock(self.bytes),
            self.work_ms,
            self.turn_ms,
            GOAL_MS * self.locks as f64 / 1_000_000.0,
        );
    }
}

/// Processor time of this thread.
fn worked() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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
    /// Nanoseconds of all nodes.
    work: u64,
    turn: u64,
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
            member: Some(MemberConfig {
                incarnation,
                state: self.state.clone(),
                rows_a_turn: ROWS_A_TURN,
                staleness: Span::from_secs(3),
            }),
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
        let (now, started) = (self.now, self.started());
        if let Some(node) = self.nodes.get_mut(&node) {
            node.handle(now, input);
        }
        let took = self.spend(started);
        self.tally.turn = self.tally.turn.max(took);
    }

    fn started(&self) -> u64 {
        if self.tally.count { worked() } else { 0 }
    }

    fn spend(&mut self, started: u64) -> u64 {
        let took = self.started() - started;
        self.tally.work += took;
        took
    }

    /// Carries out all outputs until there are none.
    fn run(&mut self) {
        let mut proposals = VecDeque::new();
        loop {
            self.dial();
            let mut idle = true;
            let ids: Vec<u16> = self.nodes.keys().copied().collect();
            for id in ids {
                idle &= !self.carry_out(id, &mut proposals);
                if self.nodes.get(&id).and_then(Node::poll_deadline).is_some_and(|due| due <= self.now) {
                    self.handle(id, Input::Tick);
                    idle = false;
                }
            }
            match proposals.pop_front() {
                Some(command) => self.apply(&command),
                None if idle => return,
                None => {}
            }
        }
    }

    fn carry_out(&mut self, id: u16, proposals: &mut VecDeque<Command>) -> bool {
        let mut any = false;
        while let Some(output) = self.nodes.get_mut(&id).and_then(Node::poll_output) {
            any = true;
            match output {
                Output::Propose(command) => proposals.push_back(command),
                Output::SendPeer { conn, envelope } => self.deliver(id, conn, envelope),
                _ => {}
            }
        }
        any
    }

    fn deliver(&mut self, from: u16, conn: ConnId, envelope: Envelope) {
        let Some((to, there)) = self.wires.get(&(from, conn)).copied() else { return };
        if !self.tally.count {
            return self.handle(to, Input::PeerMessage { conn: there, envelope });
        }
        let mut bytes = Vec::with_capacity(64 * 1_024);
        let started = self.started();
        lockstead_wire::encode_peer(&envelope, &mut bytes).expect("a message that fits");
        let heavy = !matches!(envelope.message, PeerMessage::Ack | PeerMessage::Alive);
        drop(envelope);
        let read: Vec<Envelope> =
            lockstead_wire::peer_messages(&bytes).map(|read| read.expect("what was written")).collect();
        self.spend(started);
        self.tally.messages += u64::from(heavy);
        self.tally.bytes += bytes.len() as u64;
        for envelope in read {
            self.handle(to, Input::PeerMessage { conn: there, envelope });
        }
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
        let (mut messages, started) = (0, worked());
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
        let each = (worked() - started) / locks;
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
    #[inline(never)]
    fn recover(&mut self, locks: u64) -> Found {
        self.nodes.remove(&DEAD);
        self.wires.retain(|(a, _), (b, _)| *a != DEAD && *b != DEAD);
        self.tally = Tally { count: true, ..Tally::default() };
        let incarnation = self.state.members[&NodeId(DEAD)].incarnation;
        self.apply(&Command::Evict { node: NodeId(DEAD), incarnation });
        self.run();
        let waiting: usize = self.nodes.values().map(|node| node.recovering_slots().0).sum();
        assert_eq!(waiting, 0, "slots that nobody serves");
        let Tally { messages, bytes, work, turn, .. } = self.tally;
        let survivors = self.nodes.len();
        let work_ms = work as f64 / 1e6 / survivors as f64;
        Found { nodes: survivors + 1, survivors, locks, messages, bytes, work_ms, turn_ms: turn as f64 / 1e6 }
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
