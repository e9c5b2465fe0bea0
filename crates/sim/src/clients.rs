//! The hosts of clients: a process with a session of the client core, which connects, dies, stands still and starts again.

use lockstead_client_core::{Config, Ending, Input, Lease, Output, Session};
use lockstead_types::{
    SessionId, Span, Time,
    message::{ClientMessage, ServerMessage},
    reply::{Notice, Reply},
    report::Meta,
};
use lockstead_wire::encode_client;

use crate::{
    app::App,
    forge::{forge, is_lie},
    net::{End, Payload},
    options::Fault,
    queue::Event,
    random::Random,
    world::{MS, Phase, RHO_PPM, SEC, World},
};

/// No node at all: an attempt to connect that fails.
const NOBODY: u8 = u8::MAX;

/// A client's process.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) id: SessionId,
    /// Where it runs: whose clock it reads.
    pub(crate) host: usize,
    pub(crate) alive: bool,
    pub(crate) life: u32,
    pub(crate) paused_until: u64,
    wake_at: u64,
    pub(crate) conn: Option<u32>,
    /// True time since when it has been connected.
    pub(crate) conn_since: u64,
    attempt: u32,
    /// Another connection took its session.
    pub(crate) superseded: bool,
    /// True time at which its lease was over, where its clock has changed its rate since.
    lapsed: Option<u64>,
    /// When its lease is over by its own clock, also once it is.
    deadline: Option<Time>,
    /// Which node is next.
    next: usize,
    pub(crate) app: App,
    pub(crate) random: Random,
}

impl World {
    /// A process that is about to start.
    pub(crate) fn new_client(&mut self, number: usize) -> Client {
        self.sessions += 1;
        let seed = self.options.seed;
        let id = SessionId((u128::from(seed) << 64) | self.sessions);
        let local = (number as u32) < self.options.locals;
        let host = if local { number % self.nodes.len() } else { self.nodes.len() + number };
        let config = Config {
            session: id,
            ttl: Span::from_millis(u64::from(self.options.ttl)),
            meta: Meta::default(),
            rho_ppm: RHO_PPM,
            guard: Span::from_millis(1),
            backlog: 256,
            seed: seed ^ self.sessions as u64,
        };
        let now = self.clocks[host].at(self.now);
        let mut random = Random::new(seed, 1_000 + number as u64 + 100 * self.sessions as u64);
        let next = random.below(self.nodes.len() as u64) as usize;
        Client {
            session: Session::new(config, now),
            id,
            host,
            alive: false,
            life: 0,
            paused_until: 0,
            wake_at: 0,
            conn: None,
            conn_since: 0,
            attempt: 0,
            superseded: false,
            lapsed: None,
            deadline: None,
            next,
            app: App::default(),
            random,
        }
    }

    pub(crate) fn on_start_client(&mut self, client: u8, life: u32) {
        let at = usize::from(client);
        if self.clients[at].life != life || self.clients[at].alive {
            return;
        }
        let fresh = self.new_client(at);
        self.clients[at] = Client { alive: true, life: life + 1, ..fresh };
        self.trace.say(self.now, format_args!("client {at} starts: session {}", self.clients[at].id.0 as u64));
        self.after_client(at);
        self.plan_work(at);
    }

    /// The process ends, at once.
    pub(crate) fn kill_client(&mut self, at: usize) {
        if !self.clients[at].alive {
            return;
        }
        // A local session ends with its connection.
        let local = self.clients[at].host < self.nodes.len();
        let over = if local { self.now.min(self.lapse(at)) } else { self.lapse(at) };
        self.history.all_ended(at, over);
        self.judge.watchers.forget(at);
        let client = &mut self.clients[at];
        client.alive = false;
        client.life += 1;
        client.paused_until = 0;
        client.app = App::default();
        let (life, conn) = (client.life, client.conn.take());
        self.trace.say(self.now, format_args!("client {at} dies"));
        if let Some(conn) = conn {
            self.close(conn, 0);
        }
        let later = self.now + self.chance.around(500 * MS);
        self.queue.push(later, Event::StartClient { client: at as u8, life });
    }

    pub(crate) fn pause_client(&mut self, at: usize, span: u64) {
        self.trace.say(self.now, format_args!("client {at} stands still for {} ms", span / MS));
        self.clients[at].paused_until = self.now + span;
    }

    /// The program ends its session in good order.
    pub(crate) fn part_client(&mut self, at: usize) {
        let now = self.clocks[self.clients[at].host].at(self.now);
        let client = &mut self.clients[at];
        if !client.alive || client.session.ending().is_some() {
            return;
        }
        self.trace.say(self.now, format_args!("client {at} says goodbye"));
        client.app.leave();
        self.judge.watchers.forget(at);
        self.history.all_ended(at, self.now.min(self.lapse(at)));
        let client = &mut self.clients[at];
        client.session.goodbye(now);
        self.after_client(at);
    }

    /// True time at which its lease is over, unless it is renewed: before, nobody may end it.
    pub(crate) fn lapse(&self, at: usize) -> u64 {
        let client = &self.clients[at];
        let deadline = client.deadline.map_or(self.now, |deadline| self.clocks[client.host].when(deadline));
        client.lapsed.unwrap_or(deadline)
    }

    /// Before clocks change their rates: what they say of times before that would be wrong.
    pub(crate) fn note_lapses(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].deadline.is_some_and(|deadline| self.client_time(at) >= deadline) {
                self.clients[at].lapsed = Some(self.lapse(at));
            }
        }
    }

    pub(crate) fn on_wake_client(&mut self, client: u8, life: u32) {
        let at = usize::from(client);
        let known = &mut self.clients[at];
        if known.life != life || !known.alive || known.wake_at > self.now {
            return;
        }
        known.wake_at = 0;
        if known.paused_until > self.now {
            let paused = known.paused_until;
            let again = self.look_again(paused);
            self.clients[at].wake_at = again;
            return self.queue.push(again, Event::WakeClient { client, life });
        }
        let known = &mut self.clients[at];
        let now = self.clocks[known.host].at(self.now);
        if known.session.poll_deadline().is_some_and(|deadline| now >= deadline) {
            self.tell_client(at, Input::Tick);
        } else {
            self.plan_wake_client(at);
        }
    }

    pub(crate) fn plan_wake_client(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if !client.alive {
            return;
        }
        let Some(deadline) = client.session.poll_deadline() else { return };
        let when = self.clocks[client.host].when(deadline).max(self.now) + 20_000;
        if client.wake_at == 0 || when < client.wake_at {
            client.wake_at = when;
            self.queue.push(when, Event::WakeClient { client: at as u8, life: client.life });
        }
    }

    pub(crate) fn tell_client(&mut self, at: usize, input: Input) {
        let now = self.clocks[self.clients[at].host].at(self.now);
        self.clients[at].session.handle(now, input);
        self.after_client(at);
    }

    /// What came over a connection.
    pub(crate) fn client_hears(&mut self, client: u8, conn: u32, payload: Payload) {
        let at = usize::from(client);
        if self.clients[at].conn != Some(conn) {
            return;
        }
        match payload {
            Payload::Server(ServerMessage::Reply { id, reply }) if is_lie(id) => self.judge_lie(id, &reply),
            Payload::Server(message) => {
                if self.trace.wants_text() {
                    self.trace.say(self.now, format_args!("client {at} < conn {conn}: {message:?}"));
                }
                self.tell_client(at, Input::Message(message));
            }
            Payload::End => {
                self.trace.say(self.now, format_args!("client {at} < conn {conn}: end"));
                self.clients[at].conn = None;
                self.tell_client(at, Input::Disconnected);
            }
            Payload::Accept { .. } | Payload::Client(_) | Payload::Peer(_) | Payload::PeerAccept => {}
        }
    }

    /// Does what the session wants done, and tells the program what it wants known.
    pub(crate) fn after_client(&mut self, at: usize) {
        let now = self.clocks[self.clients[at].host].at(self.now);
        self.judge_client(at, now);
        loop {
            let client = &mut self.clients[at];
            let Some(output) = client.session.poll_output() else { break };
            if self.trace.wants_text() && !matches!(output, Output::Send(_)) {
                self.trace.say(self.now, format_args!("client {at} > {output:?}"));
            }
            match output {
                Output::Connect => self.connect(at),
                Output::Disconnect => {
                    client.attempt += 1;
                    if let Some(conn) = client.conn.take() {
                        self.close(conn, 0);
                    }
                }
                Output::Send(message) => {
                    let bytes = bytes_of(&message);
                    let lies = self.options.has(Fault::Forge) && !self.options.alone;
                    let lie = if lies { forge(&mut client.random, self.options.names, &message) } else { None };
                    if let Some(conn) = client.conn {
                        self.send(conn, 1, Payload::Client(bytes));
                        lie.into_iter().for_each(|lie| self.send(conn, 1, Payload::Client(lie)));
                    }
                }
                Output::Answer { key, reply, .. } => self.on_answer(at, key, reply),
                Output::Notice(Notice::Blocking { lock, .. }) => client.app.on_blocking(lock),
                Output::Notice(Notice::Aborted) => {
                    if let Some(deal) = &mut client.app.deal {
                        deal.doom();
                    }
                }
                Output::Notice(Notice::Changed(change)) => self.judge_change(at, &change),
                Output::Notice(Notice::Resync) => {
                    client.app.look = true;
                    client.app.looks += 1;
                    self.judge.watchers.forget(at);
                }
                Output::LockLost { lock, why } => self.on_lock_lost(at, lock, why),
                Output::Lease(Lease::Lost) => self.on_lease_lost(at),
                Output::Over(ending) => self.on_over(at, ending),
                Output::Rejected(why) => self.judge_rejection(at, why),
                Output::Notice(_) | Output::Lease(_) | Output::Opened => {}
            }
        }
        let client = &mut self.clients[at];
        client.deadline = client.session.deadline().or(client.deadline);
        self.plan_wake_client(at);
    }

    fn on_over(&mut self, at: usize, ending: Ending) {
        self.judge_over(at, ending);
        self.history.all_ended(at, 0);
        self.judge.watchers.forget(at);
        // The program starts again with a new session.
        let client = &mut self.clients[at];
        client.alive = false;
        client.life += 1;
        client.app = App::default();
        let life = client.life;
        if let Some(conn) = client.conn.take() {
            self.close(conn, 0);
        }
        let later = self.now + self.chance.around(100 * MS);
        self.queue.push(later, Event::StartClient { client: at as u8, life });
    }

    fn connect(&mut self, at: usize) {
        let nodes = self.nodes.len();
        let client = &mut self.clients[at];
        client.attempt += 1;
        let local = client.host < nodes;
        let node = if local { client.host } else { client.next % nodes };
        client.next = node + 1;
        let (attempt, host) = (client.attempt, client.host);
        let cut = self.net.is_cut(self.now, host, node) || self.net.is_cut(self.now, node, host);
        let (node, takes) = if cut {
            (NOBODY, SEC)
        } else {
            (node as u8, self.net.latency(self.now, host, node) + self.net.latency(self.now, node, host))
        };
        self.queue.push(self.now + takes, Event::Connect { client: at as u8, attempt, node });
    }

    pub(crate) fn on_connect(&mut self, client: u8, attempt: u32, node: u8) {
        let at = usize::from(client);
        let known = &self.clients[at];
        if known.attempt != attempt || !known.alive || known.conn.is_some() {
            return;
        }
        if known.paused_until > self.now {
            return self.queue.push(self.look_again(known.paused_until), Event::Connect { client, attempt, node });
        }
        let host = known.host;
        if node == NOBODY || self.nodes[usize::from(node)].node.is_none() {
            return self.tell_client(at, Input::Disconnected);
        }
        let local = host < self.nodes.len();
        let conn = self.net.join([End::Client(client), End::Node(node)], local);
        self.clients[at].conn = Some(conn);
        self.clients[at].conn_since = self.now;
        self.trace.say(self.now, format_args!("conn {conn}: client {client} to node {node}"));
        self.judge.on_conn(conn, usize::from(node), at, local);
        self.put(conn, 1, self.now, Payload::Accept { client, local });
        self.tell_client(at, Input::Connected);
    }

    pub(crate) fn plan_work(&mut self, at: usize) {
        let mean = u64::from(self.options.think) * MS;
        let client = &mut self.clients[at];
        let later = self.now + client.random.around(mean);
        let life = client.life;
        self.queue.push(later, Event::Work { client: at as u8, life });
    }

    pub(crate) fn on_work(&mut self, client: u8, life: u32) {
        let at = usize::from(client);
        let known = &self.clients[at];
        if known.life != life || !known.alive {
            return;
        }
        if known.paused_until > self.now {
            return self.queue.push(self.look_again(known.paused_until), Event::Work { client, life });
        }
        self.work(at);
        if self.clients[at].life == life {
            self.plan_work(at);
        }
    }

    /// Nanoseconds a lock is held, about.
    pub(crate) fn hold(&self) -> u64 {
        let hold = u64::from(self.options.hold) * MS;
        if self.phase == Phase::Fire { hold } else { hold.min(30 * MS) }
    }

    /// How long a guarded operation takes to its resource.
    pub(crate) fn takes_to_resource(&mut self, at: usize) -> u64 {
        let late = self.options.has(Fault::LateWrites) && self.clients[at].random.chance(50);
        let most = if late { 3 * u64::from(self.options.ttl) * MS } else { 2 * MS };
        self.clients[at].random.below(most)
    }
}

pub(crate) fn bytes_of(message: &ClientMessage<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client(message, &mut bytes).expect("what a session sends fits");
    bytes
}

/// Whether a reply ends its request.
pub(crate) fn is_final(reply: &Reply) -> bool {
    !matches!(reply, Reply::Queued(_))
}
