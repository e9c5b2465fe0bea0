//! Random clients, breaks, cuts, deaths, pauses and restarts; after every step the whole state is proven, and no two clients
//! that respect their own deadlines hold what conflicts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstead_node::{Input, Node, NodeConfig, Output, Record, SessionRecord};
use lockstead_types::{
    ConnId, Limits, Mode, SessionId, Span, Time,
    fence::FenceGate,
    message::{Rejection, ServerMessage},
    request::{Claim, Wait},
    tables::built_in,
};

use crate::{
    model::{Ask, Client, NAMES, Phase, with_message},
    rig::*,
};

const CLIENTS: usize = 6;

struct World {
    node: Node,
    now: Time,
    epoch: u32,
    rng: u64,
    conns: u64,
    sessions: u128,
    clients: Vec<Client>,
    /// What was sent and not heard yet, by connection; `None` where the connection loses all.
    wires: BTreeMap<ConnId, Option<VecDeque<ServerMessage>>>,
    /// Closed by the node: the client sees it, once it has heard the rest.
    closed: BTreeSet<ConnId>,
    paused: [bool; CLIENTS],
    journal: BTreeMap<SessionId, SessionRecord>,
    ttl_max: Span,
    /// Written, not yet durable.
    unsynced: Vec<SessionId>,
    gates: Vec<FenceGate>,
    grants_used: u64,
    trace: VecDeque<String>,
    planted: Option<Planted>,
}

/// What is wrong on purpose, to see that the checks of this file see it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Planted {
    /// The node's clock runs faster than it may: leases end before their holders think so.
    FastClock,
    /// A restarted node knows nothing of the sessions before it: it grants at once what they hold.
    ForgottenSessions,
    /// A restarted node counts on in an epoch that was used: its tokens are not above those of before.
    OldEpoch,
    /// The end of a remote connection is taken for the end of its process.
    RemoteTakenForLocal,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Time::from_nanos(1);
        let mut world = World {
            node: Node::new(NodeConfig { durable: true, ..config() }, now),
            now,
            epoch: 1,
            rng: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            conns: 0,
            sessions: 0,
            clients: Vec::new(),
            wires: BTreeMap::new(),
            closed: BTreeSet::new(),
            paused: [false; CLIENTS],
            journal: BTreeMap::new(),
            ttl_max: Span::ZERO,
            unsynced: Vec::new(),
            gates: NAMES.iter().map(|_| FenceGate::new(built_in("vms").expect("built in"))).collect(),
            grants_used: 0,
            trace: VecDeque::new(),
            planted: None,
        };
        for _ in 0..CLIENTS {
            let client = world.newcomer();
            world.clients.push(client);
        }
        world
    }

    fn newcomer(&mut self) -> Client {
        self.sessions += 1;
        let local = self.pick(2) == 0;
        Client::new(self.sessions, local)
    }

    /// xorshift64*.
    fn pick(&mut self, below: u64) -> u64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        (self.rng.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    fn note(&mut self, line: String) {
        if self.trace.len() == 60 {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    fn fail(&self, what: &str) -> ! {
        let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        panic!("{what}\n{}", trace.join("\n"));
    }

    /// The node's clock.
    fn node_now(&self) -> Time {
        match self.planted {
            Some(Planted::FastClock) => Time::from_nanos(self.now.as_nanos() / 2 * 3),
            _ => self.now,
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.note(format!("{} {input:?}", self.now.as_nanos() / 1_000_000));
        self.node.handle(self.node_now(), input);
        if let Err(what) = self.node.check() {
            self.fail(&format!("the node is broken: {what}"));
        }
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { conn, message } => {
                    self.note(format!("    to {}: {message:?}", conn.0));
                    if let Some(Some(wire)) = self.wires.get_mut(&conn) {
                        wire.push_back(message);
                    }
                }
                Output::Close { conn } => drop(self.closed.insert(conn)),
                Output::Record(Record::Opened { record, durable }) => {
                    if durable {
                        self.unsynced.push(record.session);
                    }
                    self.journal.insert(record.session, record);
                }
                Output::Record(Record::Ended { session }) => drop(self.journal.remove(&session)),
                Output::Record(Record::TtlMax { ttl }) => self.ttl_max = ttl,
                Output::Record(Record::Audit { text }) => self.fail(&format!("nobody used force: {text}")),
                Output::Record(_) => {}
                Output::Propose(_) | Output::SendPeer { .. } | Output::ClosePeer { .. } => self.fail("a node alone"),
            }
        }
    }

    fn step(&mut self, faults: bool) {
        let advance = match self.pick(20) {
            0 => 3_000,
            1..=9 => 50,
            _ => 0,
        };
        self.now = self.now.after(Span::from_millis(advance));
        if self.pick(3) > 0 || !faults {
            self.tick();
        }
        if self.pick(4) == 0 || !faults {
            for session in core::mem::take(&mut self.unsynced) {
                self.handle(Input::Recorded { session });
            }
        }
        let at = self.pick(CLIENTS as u64) as usize;
        if faults {
            self.fault(at);
        } else {
            self.paused = [false; CLIENTS];
        }
        if !self.paused[at] {
            self.live(at, true);
        }
        self.look();
    }

    fn tick(&mut self) {
        if self.node.poll_deadline().is_some_and(|due| due <= self.node_now()) {
            self.handle(Input::Tick);
        }
    }

    fn fault(&mut self, at: usize) {
        let conn = self.clients[at].conn;
        match self.pick(120) {
            // Its process dies.
            0 => {
                self.wires.remove(&conn);
                self.clients[at] = self.newcomer();
                self.paused[at] = false;
                self.handle(Input::Disconnected { conn });
            }
            // Its connection breaks; a local one only with its process.
            1..=3 if !self.clients[at].local => {
                self.wires.remove(&conn);
                self.clients[at].phase = Phase::Away;
                self.handle(Input::Disconnected { conn });
            }
            // Nothing of what it is sent arrives from here on, and it does not know yet.
            4..=6 if !self.clients[at].local => drop(self.wires.get_mut(&conn).map(Option::take)),
            7..=8 => self.handle(Input::Cut { conn, why: Rejection::SlowReader }),
            9..=12 => self.paused[at] = !self.paused[at],
            13 if self.pick(3) == 0 => self.restart(),
            _ => {}
        }
    }

    fn restart(&mut self) {
        self.note("restart".into());
        self.epoch += u32::from(self.planted != Some(Planted::OldEpoch));
        // Of what was not durable some is lost.
        for session in core::mem::take(&mut self.unsynced) {
            if self.pick(2) == 0 {
                self.journal.remove(&session);
            }
        }
        if self.planted == Some(Planted::ForgottenSessions) {
            self.journal.clear();
        }
        let recorded = self.journal.values().cloned().collect();
        let start = NodeConfig {
            epoch: self.epoch,
            recorded,
            ttl_max_recorded: self.ttl_max,
            durable: true,
            limits: Limits { in_flight: 64, ..Limits::default() },
            ..config()
        };
        self.node = Node::new(start, self.node_now());
        self.wires.clear();
        for client in &mut self.clients {
            client.phase = Phase::Away;
        }
    }

    /// A client hears what arrived, does something, and says it.
    fn live(&mut self, at: usize, wants: bool) {
        // The clock comes first: what was lost while it was stopped is lost.
        let client = &mut self.clients[at];
        if client.opened && self.now >= client.deadline && client.phase != Phase::Claiming {
            self.give_up(at);
        }
        let conn = self.clients[at].conn;
        while let Some(message) = self.wires.get_mut(&conn).and_then(Option::as_mut).and_then(VecDeque::pop_front) {
            let was_open = self.clients[at].opened;
            if let Err(what) = self.clients[at].hear(self.now, message) {
                self.fail(&format!("session {}: {what}", self.clients[at].session.0));
            }
            if was_open && !self.clients[at].opened {
                return self.give_up(at);
            }
        }
        let silent = self.wires.get(&conn).is_some_and(Option::is_none);
        if self.closed.remove(&conn) || (silent && self.pick(6) == 0) {
            self.clients[at].phase = Phase::Away;
            self.wires.remove(&conn);
        }
        match self.clients[at].phase {
            Phase::Away => self.connect(at),
            Phase::Open if wants => self.ask(at),
            Phase::Open => self.release_all(at),
            Phase::Greeting | Phase::Entering | Phase::Claiming => {}
        }
        let conn = self.clients[at].conn;
        for said in core::mem::take(&mut self.clients[at].out) {
            with_message(&said, |message| self.handle(Input::Message { conn, message }));
        }
    }

    /// It lost its session and begins anew.
    fn give_up(&mut self, at: usize) {
        let conn = self.clients[at].conn;
        self.wires.remove(&conn);
        self.clients[at] = self.newcomer();
        self.handle(Input::Disconnected { conn });
    }

    fn connect(&mut self, at: usize) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.wires.insert(conn, Some(VecDeque::new()));
        self.clients[at].connected(conn);
        let local = self.clients[at].local;
        let principal = if local { user(1000) } else { address(self.conns as u16) };
        let local = local || self.planted == Some(Planted::RemoteTakenForLocal);
        self.handle(Input::Connected { conn, local, principal });
    }

    fn ask(&mut self, at: usize) {
        let modes = [PR, PW, EX, NL, Claim::Mode(Mode(2))];
        let claim = modes[self.pick(5) as usize];
        let waits = [Wait::Never, Wait::For(Span::from_secs(2)), Wait::Forever];
        let wait = waits[self.pick(3) as usize];
        let name = self.pick(NAMES.len() as u64) as usize;
        let chosen = self.pick(8) as usize;
        let now = self.now;
        let dice = self.pick(10);
        let client = &mut self.clients[at];
        let held = client.held.keys().nth(chosen).copied().or(client.held.keys().next().copied());
        let waiting = client.pending.keys().next().copied();
        match (dice, held) {
            (0..=2, _) => client.renew(now),
            (3..=4, _) => client.ask(Ask::Lock { name, claim, wait }),
            (5, _) => client.ask(Ask::Many { names: vec![name, (name + 1) % NAMES.len()], claim, wait }),
            (6, Some(lock)) => client.ask(Ask::Convert { lock, claim }),
            (7..=8, Some(lock)) => client.ask(Ask::Release { lock }),
            (9, _) if waiting.is_some() => client.ask(Ask::Cancel { request: waiting.unwrap_or_default() }),
            _ => client.ask(Ask::Sync),
        }
    }

    /// The oracle: who acts now acts on locks that do not conflict, under tokens that no guarded resource refuses.
    fn look(&mut self) {
        let vms = built_in("vms").expect("built in");
        let mut believed: Vec<(usize, Mode, u64, usize)> = Vec::new();
        for (at, client) in self.clients.iter().enumerate().filter(|(_, c)| c.believes(self.now)) {
            for held in client.all_held() {
                if let Claim::Mode(mode) = held.claim {
                    believed.push((held.name, mode, held.token.as_u64(), at));
                }
            }
        }
        for (i, (name, mode, token, at)) in believed.iter().enumerate() {
            for (other_name, other_mode, other_token, other_at) in &believed[i + 1..] {
                if name == other_name && at != other_at && !vms.compatible(*mode, *other_mode) {
                    self.fail(&format!(
                        "{name}: {token} of {at} in {mode:?} beside {other_token} of {other_at} in {other_mode:?}"
                    ));
                }
            }
        }
        for (name, mode, token, at) in believed {
            let token = lockstead_types::Token::from_u64(token).expect("in range");
            self.grants_used += 1;
            if let Err(stale) = self.gates[name].admit(token, mode) {
                self.fail(&format!("{name}: a live holder's token is refused: {stale:?} of {at}"));
            }
        }
    }

    /// After the faults: everybody comes back, every request ends, and node and clients agree on who holds what.
    fn settle(&mut self) {
        for _ in 0..4_000 {
            self.step(false);
        }
        for _ in 0..100 {
            for at in 0..CLIENTS {
                self.now = self.now.after(Span::from_millis(20));
                self.tick();
                self.live(at, false);
                self.look();
            }
        }
        let status = self.node.status(self.now);
        let held: usize = self.clients.iter().map(|c| c.all_held().count()).sum();
        let pending: usize = self.clients.iter().map(|c| c.pending.len()).sum();
        if !self.node.is_ready() || status.granted + status.waiting + status.converting > 0 || held + pending > 0 {
            self.fail(&format!("left over: {status:?}, clients hold {held} and wait for {pending}"));
        }
    }

    fn release_all(&mut self, at: usize) {
        for lock in self.clients[at].held.keys().copied().collect::<Vec<_>>() {
            self.clients[at].ask(Ask::Release { lock });
        }
        let now = self.now;
        self.clients[at].renew(now);
    }
}

#[test]
fn random_clients_never_conflict_and_lose_nothing() {
    let seeds = std::env::var("LOCKSTEAD_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(25);
    let mut used = 0;
    for seed in 1..=seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..1_500 {
            world.step(true);
        }
        world.settle();
        used += world.grants_used;
    }
    assert!(used > seeds * 500, "the locks were hardly ever used: {used}");
}

#[test]
fn what_is_planted_is_found() {
    let all = [Planted::FastClock, Planted::ForgottenSessions, Planted::OldEpoch, Planted::RemoteTakenForLocal];
    for planted in all {
        let found = (1..=25).any(|seed| {
            let run = std::panic::catch_unwind(|| {
                let mut world = World::new(seed);
                world.planted = Some(planted);
                for _ in 0..1_500 {
                    world.step(true);
                }
            });
            let said = run.err().map(|what| what.downcast_ref::<String>().cloned().unwrap_or_default());
            // Not any panic: one of the promises was seen broken.
            let signs = [" beside ", "token is refused", "ended early"];
            said.is_some_and(|said| signs.iter().any(|sign| said.contains(sign)))
        });
        assert!(found, "{planted:?} was not found");
    }
}
