//! The world around node and sessions: true time, clocks, connections, faults, and what must hold.

use std::collections::{BTreeMap, VecDeque};

use lockstead_client_core::{Config, Input, Lease, Output, Session};
use lockstead_node::{Input as NodeInput, Node, NodeConfig, Output as NodeOutput, Principal, Record, SessionRecord};
use lockstead_types::{
    ConnId, Flags, Limits, LockId, Mode, ModeTable, NodeId, Refusal, SessionId, SpaceId, Span, Time,
    message::ServerMessage,
    reply::{Notice, Reply},
    report::Meta,
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
    tables::built_in,
};
use lockstead_wire::{DecodeLimits, client_messages, encode_client};

const MS: u64 = 1_000_000;
const TTL: Span = Span::from_millis(2_000);
const CLIENTS: usize = 4;
const NAMES: [&[u8]; 3] = [b"a", b"b", b"c"];

/// What may go wrong.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) breaks: bool,
    pub(crate) stops: bool,
    pub(crate) restarts: bool,
    pub(crate) local: bool,
}

pub(crate) struct World {
    seed: u64,
    random: u64,
    faults: Faults,
    /// True time, nanoseconds.
    now: u64,
    node: Option<Node>,
    node_rate: i64,
    epoch: u32,
    records: BTreeMap<SessionId, SessionRecord>,
    ttl_max: Span,
    clients: Vec<Client>,
    connections: u64,
    sessions: u128,
    modes: ModeTable,
    restart_at: Option<u64>,
    steps: u64,
    pub(crate) granted: u64,
}

/// A client program with its session.
struct Client {
    session: Session,
    /// Parts per million its clock runs apart from true time.
    rate: i64,
    offset: u64,
    link: Option<Link>,
    /// When an attempt to connect is through.
    connecting: Option<u64>,
    stopped_until: u64,
    keys: u64,
    asked: BTreeMap<u64, Asked>,
    held: BTreeMap<LockId, Held>,
}

struct Link {
    conn: ConnId,
    to_node: VecDeque<(u64, Vec<u8>)>,
    to_client: VecDeque<(u64, ServerMessage)>,
}

#[derive(Debug)]
enum Asked {
    Lock { name: usize },
    Convert { lock: LockId, from: Mode, to: Mode },
    Release,
}

/// What the program believes to hold.
#[derive(Debug)]
struct Held {
    name: usize,
    mode: Mode,
    converting: bool,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> World {
        let mut world = World {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            faults,
            now: 1_000 * MS,
            node: None,
            node_rate: 0,
            epoch: 0,
            records: BTreeMap::new(),
            ttl_max: Span::ZERO,
            clients: Vec::new(),
            connections: 0,
            sessions: 0,
            modes: built_in("vms").expect("built in"),
            restart_at: None,
            steps: 0,
            granted: 0,
        };
        world.node_rate = world.rate();
        world.start_node();
        for _ in 0..CLIENTS {
            let client = world.new_client();
            world.clients.push(client);
        }
        world
    }

    /// Runs under fire.
    pub(crate) fn run_for(&mut self, span: u64) {
        let end = self.now + span;
        while self.now < end {
            self.step(true);
        }
    }

    /// No more faults and no new requests for locks: everything must come to an end.
    pub(crate) fn heal(&mut self) {
        self.faults = Faults { breaks: false, stops: false, restarts: false, ..self.faults };
        if self.node.is_none() {
            self.start_node();
        }
        let end = self.now + 60_000 * MS;
        while self.now < end {
            self.step(false);
            let quiet = self.clients.iter().all(|c| c.asked.is_empty() && c.held.is_empty());
            let status = self.node.as_ref().expect("started").status(self.node_time());
            if quiet && status.granted + status.waiting + status.converting == 0 {
                assert!(self.granted > 0, "seed {}: nothing ever happened", self.seed);
                return;
            }
        }
        let open: Vec<_> = self.clients.iter().map(|c| (&c.asked, &c.held, c.session.open_requests())).collect();
        let node = self.node.as_ref().expect("started");
        panic!("seed {}: no end: {open:?} {:?}", self.seed, node.status(self.node_time()));
    }

    fn step(&mut self, fire: bool) {
        self.now += 1 + self.below(4 * MS);
        if fire {
            self.break_things();
        }
        if self.restart_at.is_some_and(|at| self.now >= at) {
            self.restart_at = None;
            self.start_node();
        }
        for index in 0..self.clients.len() {
            self.deliver_to_node(index);
        }
        self.tick_node();
        for index in 0..self.clients.len() {
            if self.now >= self.clients[index].stopped_until {
                self.run_client(index, fire);
            }
        }
        self.check();
    }

    fn break_things(&mut self) {
        let dice = self.below(1_000);
        let index = self.below(CLIENTS as u64) as usize;
        if self.faults.breaks && dice < 6 {
            self.break_link(index);
        } else if self.faults.stops && (6..9).contains(&dice) {
            self.clients[index].stopped_until = self.now + self.below(4_000 * MS);
        } else if self.faults.restarts && dice == 9 && self.node.take().is_some() {
            for index in 0..CLIENTS {
                self.clients[index].link = None;
                self.tell(index, Input::Disconnected);
            }
            self.restart_at = Some(self.now + self.below(1_500 * MS));
        }
    }

    fn break_link(&mut self, index: usize) {
        let Some(link) = self.clients[index].link.take() else { return };
        // What was on its way is lost; each side learns of it by itself.
        let now = self.node_time();
        if let Some(node) = &mut self.node {
            node.handle(now, NodeInput::Disconnected { conn: link.conn });
        }
        self.pump_node();
        self.tell(index, Input::Disconnected);
    }

    fn start_node(&mut self) {
        self.epoch += 1;
        let config = NodeConfig {
            node: NodeId(1),
            epoch: self.epoch,
            limits: Limits { ttl_min: Span::from_millis(100), in_flight: 8, ..Limits::default() },
            hash_seed: self.seed,
            version: String::new(),
            spaces: Vec::new(),
            recorded: self.records.values().cloned().collect(),
            ttl_max_recorded: self.ttl_max,
            durable: true,
            member: None,
        };
        self.node = Some(Node::new(config, self.node_time()));
        self.pump_node();
    }

    fn tick_node(&mut self) {
        let now = self.node_time();
        let Some(node) = &mut self.node else { return };
        if node.poll_deadline().is_some_and(|deadline| now >= deadline) {
            node.handle(now, NodeInput::Tick);
        }
        self.steps += 1;
        if self.steps.is_multiple_of(32)
            && let Err(what) = node.check()
        {
            panic!("seed {}: {what}", self.seed);
        }
        self.pump_node();
    }

    fn deliver_to_node(&mut self, index: usize) {
        let (now, at) = (self.node_time(), self.now);
        while let Some(link) = &mut self.clients[index].link {
            let conn = link.conn;
            if link.to_node.front().is_none_or(|(due, _)| *due > at) {
                return;
            }
            let Some((_, bytes)) = link.to_node.pop_front() else { return };
            let Some(node) = &mut self.node else { return };
            for message in client_messages(&bytes, &DecodeLimits::CEILING) {
                let message = message.expect("what we encode decodes");
                node.handle(now, NodeInput::Message { conn, message });
            }
            self.pump_node();
        }
    }

    fn pump_node(&mut self) {
        let now = self.node_time();
        while let Some(output) = self.node.as_mut().and_then(Node::poll_output) {
            match output {
                NodeOutput::Send { conn, message } => {
                    let due = self.now + self.below(20 * MS);
                    let link = self.clients.iter_mut().filter_map(|c| c.link.as_mut()).find(|l| l.conn == conn);
                    if let Some(link) = link {
                        let due = link.to_client.back().map_or(due, |(last, _)| due.max(*last));
                        link.to_client.push_back((due, message));
                    }
                }
                NodeOutput::Close { .. } => {}
                NodeOutput::Record(Record::Opened { record, durable }) => {
                    let session = record.session;
                    self.records.insert(session, record);
                    if durable && let Some(node) = &mut self.node {
                        node.handle(now, NodeInput::Recorded { session });
                    }
                }
                NodeOutput::Record(Record::Ended { session }) => {
                    self.records.remove(&session);
                }
                NodeOutput::Record(Record::TtlMax { ttl }) => self.ttl_max = ttl,
                NodeOutput::Record(_) => {}
                // A node alone has no peers.
                NodeOutput::Propose(_) | NodeOutput::SendPeer { .. } | NodeOutput::ClosePeer { .. } => {}
            }
        }
    }

    fn run_client(&mut self, index: usize, fire: bool) {
        if self.clients[index].session.ending().is_some() {
            // The program starts again with a new session; what it held and asked is gone.
            let fresh = self.new_client();
            self.break_link(index);
            self.clients[index] = fresh;
        }
        if self.clients[index].connecting.is_some_and(|at| self.now >= at) {
            self.clients[index].connecting = None;
            self.connect(index);
        }
        while let Some(link) = &mut self.clients[index].link {
            if link.to_client.front().is_none_or(|(due, _)| *due > self.now) {
                break;
            }
            let Some((_, message)) = link.to_client.pop_front() else { break };
            self.tell(index, Input::Message(message));
        }
        let now = self.client_time(index);
        if self.clients[index].session.poll_deadline().is_some_and(|deadline| now >= deadline) {
            self.tell(index, Input::Tick);
        }
        if self.clients[index].session.lease(now) == Lease::Lost {
            // Whoever looks at the clock sees it at once.
            self.clients[index].held.clear();
        }
        self.work(index, fire);
    }

    fn connect(&mut self, index: usize) {
        self.connections += 1;
        let conn = ConnId(self.connections);
        let (now, local) = (self.node_time(), self.faults.local);
        let Some(node) = &mut self.node else { return self.tell(index, Input::Disconnected) };
        node.handle(now, NodeInput::Connected { conn, local, principal: Principal::Address("test".into()) });
        self.clients[index].link = Some(Link { conn, to_node: VecDeque::new(), to_client: VecDeque::new() });
        self.pump_node();
        self.tell(index, Input::Connected);
    }

    /// The program does something now and then.
    fn work(&mut self, index: usize, fire: bool) {
        let dice = self.below(100);
        let held: Vec<LockId> = self.clients[index].held.keys().copied().collect();
        let some = if held.is_empty() { None } else { Some(held[self.below(held.len() as u64) as usize]) };
        match some {
            Some(lock) if dice < 10 || !fire => self.release(index, lock, dice.is_multiple_of(2)),
            Some(lock) if dice < 14 => self.convert(index, lock),
            _ if dice < 30 && fire && self.clients[index].asked.len() < 12 => self.lock(index),
            _ => {}
        }
    }

    fn lock(&mut self, index: usize) {
        let name = self.below(NAMES.len() as u64) as usize;
        let mode = Mode([3, 5, 5, 4][self.below(4) as usize]);
        let wait = match self.below(3) {
            0 => Wait::Never,
            1 => Wait::For(Span::from_millis(self.below(3_000))),
            _ => Wait::Forever,
        };
        let op = Op::Lock(LockRequest {
            space: SpaceId(0),
            name: NAMES[name],
            claim: Claim::Mode(mode),
            wait,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
        });
        self.ask(index, &op, Asked::Lock { name });
    }

    fn convert(&mut self, index: usize, lock: LockId) {
        let to = Mode([0, 2, 3, 5][self.below(4) as usize]);
        let modes = self.modes.clone();
        let Some(held) = self.clients[index].held.get_mut(&lock).filter(|h| !h.converting) else { return };
        held.converting = true;
        // From the moment it asks, the program counts on what both have.
        let from = held.mode;
        held.mode = modes.meet(held.mode, to).expect("vms has a null mode");
        let request =
            ConvertRequest { lock, mode: to, wait: Wait::For(Span::from_millis(500)), flags: Flags::NONE, value: None };
        self.ask(index, &Op::Convert(request), Asked::Convert { lock, from, to });
    }

    fn release(&mut self, index: usize, lock: LockId, one_way: bool) {
        if self.clients[index].held.get(&lock).is_some_and(|h| h.converting) {
            return;
        }
        self.clients[index].held.remove(&lock);
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        let op = Op::Release { release, one_way };
        if one_way {
            let now = self.client_time(index);
            self.clients[index].session.request(now, &op, u64::MAX).ok();
            self.pump_client(index);
        } else {
            self.ask(index, &op, Asked::Release);
        }
    }

    fn ask(&mut self, index: usize, op: &Op<'_>, asked: Asked) {
        let now = self.client_time(index);
        let client = &mut self.clients[index];
        client.keys += 1;
        let key = client.keys;
        match client.session.request(now, op, key) {
            Ok(_) => {
                client.asked.insert(key, asked);
            }
            Err(why) => assert!(matches!(why, Refusal::Lost | Refusal::NotHeld), "seed {}: {why}", self.seed),
        }
        self.pump_client(index);
    }

    fn tell(&mut self, index: usize, input: Input) {
        let now = self.client_time(index);
        self.clients[index].session.handle(now, input);
        self.pump_client(index);
    }

    fn pump_client(&mut self, index: usize) {
        let delay = self.below(20 * MS);
        let due = self.now + delay;
        let client = &mut self.clients[index];
        let mut hung_up = None;
        while let Some(output) = client.session.poll_output() {
            match output {
                Output::Connect => client.connecting = Some(due),
                Output::Disconnect => {
                    client.connecting = None;
                    if let Some(link) = client.link.take() {
                        hung_up = Some(link.conn);
                    }
                }
                Output::Send(message) => {
                    if let Some(link) = &mut client.link {
                        let mut bytes = Vec::new();
                        encode_client(&message, &mut bytes).expect("it fits");
                        let due = link.to_node.back().map_or(due, |(last, _)| due.max(*last));
                        link.to_node.push_back((due, bytes));
                    }
                }
                Output::Answer { key, reply, .. } => {
                    let queued = matches!(reply, Reply::Queued(_));
                    if queued {
                        assert!(client.asked.contains_key(&key), "seed {}: an answer too many", self.seed);
                        continue;
                    }
                    let asked = client.asked.remove(&key);
                    let asked = asked.unwrap_or_else(|| panic!("seed {}: answered twice: {reply:?}", self.seed));
                    if matches!(reply, Reply::Granted(_)) {
                        self.granted += 1;
                    }
                    on_answer(&mut client.held, asked, reply);
                }
                Output::LockLost { lock, .. } | Output::Notice(Notice::Revoked { lock, .. }) => {
                    client.held.remove(&lock);
                }
                Output::Lease(Lease::Lost) => client.held.clear(),
                Output::Rejected(why) => {
                    assert!(why != lockstead_types::message::Rejection::Credit, "seed {}: {why:?}", self.seed);
                }
                _ => {}
            }
        }
        if let (Some(conn), Some(node)) = (hung_up, &mut self.node) {
            let now = node_time(self.now, self.node_rate);
            node.handle(now, NodeInput::Disconnected { conn });
            self.pump_node();
        }
    }

    /// No two clients believe at the same true time in locks that conflict.
    fn check(&self) {
        let mut believed: Vec<(usize, usize, Mode)> = Vec::new();
        for (index, client) in self.clients.iter().enumerate() {
            // A stopped process does nothing, but could look at its clock the moment it goes on.
            if client.session.lease(client.time(self.now)) == Lease::Lost {
                continue;
            }
            believed.extend(client.held.values().map(|h| (h.name, index, h.mode)));
        }
        for (i, a) in believed.iter().enumerate() {
            for b in &believed[i + 1..] {
                let conflict = a.0 == b.0 && !self.modes.compatible(a.2, b.2);
                let who = |c: usize| (c, self.clients[c].session.lease(self.clients[c].time(self.now)));
                assert!(
                    !conflict,
                    "seed {} at {}: {a:?} {:?} beside {b:?} {:?}",
                    self.seed,
                    self.now,
                    who(a.1),
                    who(b.1)
                );
            }
        }
    }

    fn new_client(&mut self) -> Client {
        self.sessions += 1;
        let (rate, offset) = (self.rate(), self.below(1_000_000 * MS));
        let config = Config {
            session: SessionId((u128::from(self.seed) << 64) | self.sessions),
            ttl: TTL,
            meta: Meta::default(),
            rho_ppm: 10_000,
            guard: Span::from_millis(1),
            backlog: 1_000,
            seed: self.random,
        };
        let now = Time::from_nanos(offset + scaled(self.now, rate));
        let mut client = Client {
            session: Session::new(config, now),
            rate,
            offset,
            link: None,
            connecting: None,
            stopped_until: 0,
            keys: 0,
            asked: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        while let Some(output) = client.session.poll_output() {
            if output == Output::Connect {
                client.connecting = Some(self.now);
            }
        }
        client
    }

    fn client_time(&self, index: usize) -> Time {
        self.clients[index].time(self.now)
    }

    fn node_time(&self) -> Time {
        node_time(self.now, self.node_rate)
    }

    /// Within 1 % of true time, often at the edge.
    fn rate(&mut self) -> i64 {
        match self.below(3) {
            0 => -10_000,
            1 => 10_000,
            _ => self.below(20_001) as i64 - 10_000,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}

impl Client {
    fn time(&self, now: u64) -> Time {
        Time::from_nanos(self.offset + scaled(now, self.rate))
    }
}

fn node_time(now: u64, rate: i64) -> Time {
    Time::from_nanos(scaled(now, rate))
}

fn scaled(now: u64, rate: i64) -> u64 {
    (i128::from(now) * (1_000_000 + i128::from(rate)) / 1_000_000) as u64
}

fn on_answer(held: &mut BTreeMap<LockId, Held>, asked: Asked, reply: Reply) {
    match (asked, reply) {
        (Asked::Lock { name, .. }, Reply::Granted(grant)) => {
            let Claim::Mode(mode) = grant.claim else { panic!("a mode was asked for") };
            let before = held.insert(grant.lock, Held { name, mode, converting: false });
            assert!(before.is_none(), "a lock id given twice");
        }
        (Asked::Lock { .. }, Reply::Refused(_)) => {}
        (Asked::Convert { lock, to, .. }, Reply::Granted(_)) => {
            if let Some(held) = held.get_mut(&lock) {
                *held = Held { name: held.name, mode: to, converting: false };
            }
        }
        (Asked::Convert { lock, from, .. }, Reply::Refused(_)) => {
            if let Some(held) = held.get_mut(&lock) {
                *held = Held { name: held.name, mode: from, converting: false };
            }
        }
        (Asked::Convert { lock, .. }, Reply::Demoted { held: Claim::Mode(mode), .. }) => {
            if let Some(held) = held.get_mut(&lock) {
                *held = Held { name: held.name, mode, converting: false };
            }
        }
        (Asked::Release, Reply::Released | Reply::Refused(_)) => {}
        (asked, reply) => panic!("{asked:?} was answered {reply:?}"),
    }
}
