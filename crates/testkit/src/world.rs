//! A node in memory, the sessions of a scenario around it, and the time of both.
//!
//! Everything here is synchronous: an input is given to the node, its outputs are delivered at once, and what they cause
//! is given back, until nothing is left. So a step is over when the call returns; that is the barrier a shell has to make
//! with `sync`.

use lockstead_node::{Input, Node, NodeConfig, Output, Principal, Record, SessionRecord};
use lockstead_script::{Command, People, Player, Step, Verb};
use lockstead_types::{
    ConnId, GroupId, Limits, NodeId, RequestId, SessionId, SpaceId, Span, Time,
    message::{ClientMessage, PROTOCOL_VERSION, Reclaim, ServerMessage},
    reply::Reply,
    request::Op,
    space::SpaceSpec,
    transaction::{Resume, TransactionStage},
};

use crate::seat::{Life, Phase, Seat};

/// The session that operators' directives speak through; it is opened when the first of them does.
pub(crate) const OPERATOR: &str = "admin";

/// Why a step of a scenario could not be done at all: the scenario, or the state of the node, is wrong.
pub type Broken = String;

/// A node and its sessions.
#[derive(Debug)]
pub struct World {
    pub(crate) limits: Limits,
    pub(crate) epoch: u32,
    pub(crate) now: Time,
    node: Option<Node>,
    pub(crate) seats: Vec<Seat>,
    next_conn: u64,
    next_session: u128,
    journal: Journal,
}

/// What a data directory would hold.
#[derive(Default, Debug)]
struct Journal {
    spaces: Vec<(SpaceId, SpaceSpec)>,
    sessions: Vec<SessionRecord>,
    ttl_max: Span,
}

impl Default for World {
    fn default() -> World {
        World {
            limits: Limits::default(),
            epoch: 1,
            now: Time::ZERO.after(Span::from_secs(1)),
            node: None,
            seats: Vec::new(),
            next_conn: 1,
            next_session: 1,
            journal: Journal::default(),
        }
    }
}

impl World {
    /// Does one line of a script. What it caused is to be had from [`World::print`], unless the line is in the background.
    ///
    /// # Errors
    /// The line makes no sense here, or the state of the node is broken.
    pub fn play(&mut self, command: &Command) -> Result<(), Broken> {
        let seat = self.seat(&command.session);
        match &command.verb {
            Verb::Sleep(span) => self.sleep(*span),
            Verb::Bye => self.bye(seat),
            _ => {
                self.open(seat)?;
                self.verb(seat, &command.verb)
            }
        }
    }

    /// What was seen since the last call: by this session first, then by the others in the order of their first use.
    pub fn print(&mut self, first: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(seat) = self.seats.iter_mut().find(|s| s.name == first) {
            lines.append(&mut seat.unprinted);
        }
        for seat in &mut self.seats {
            lines.append(&mut seat.unprinted);
        }
        lines
    }

    /// Whether the node has started; its limits can be chosen no more.
    pub(crate) fn has_started(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn node(&mut self) -> &mut Node {
        let config = || NodeConfig {
            node: NodeId(1),
            epoch: self.epoch,
            limits: self.limits.clone(),
            hash_seed: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spaces: self.journal.spaces.clone(),
            recorded: self.journal.sessions.clone(),
            ttl_max_recorded: self.journal.ttl_max,
            durable: true,
            member: None,
        };
        self.node.get_or_insert_with(|| Node::new(config(), self.now))
    }

    /// The place of a session, which is made on its first use.
    pub(crate) fn seat(&mut self, name: &str) -> usize {
        self.seats.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.seats.push(Seat::new(name, self.seats.len()));
            self.seats.len() - 1
        })
    }

    fn verb(&mut self, seat: usize, verb: &Verb) -> Result<(), Broken> {
        let name = self.seats[seat].name.clone();
        let Some(life) = &mut self.seats[seat].life else {
            return Err(format!("`{name}` could not be opened"));
        };
        let Some(player) = &mut life.player else {
            return Err(format!("`{name}` was turned away"));
        };
        match player.plan(verb) {
            Step::Send(op, intent) => {
                let Some(conn) = life.conn else {
                    return Err(format!("`{name}` has no connection: attach it first"));
                };
                let id = RequestId(life.next_request);
                let message = ClientMessage::Request { id, op: *op };
                // The answer comes while the node is told: who it belongs to must be known before.
                let (node, now) = (self.node.as_mut().ok_or("no node")?, self.now);
                node.handle(now, Input::Message { conn, message });
                life.next_request += 1;
                player.sent(id, intent);
                self.settle()
            }
            Step::After(request) => Err(format!("request {} of `{name}` has no answer", request.0)),
            Step::Say(events) => {
                self.seats[seat].see(events);
                Ok(())
            }
            Step::Transport => match verb {
                Verb::Kill => self.kill(seat),
                Verb::Sync => self.raw(seat, Op::Sync).map(|_| ()),
                _ => Err("a scenario has one node: there is nothing to connect to with `on`".to_owned()),
            },
        }
    }

    /// Opens the session of a seat, if it is not, and waits until it knows the default lockspace.
    pub(crate) fn open(&mut self, seat: usize) -> Result<(), Broken> {
        if self.seats[seat].life.is_some() {
            return Ok(());
        }
        let session = SessionId(self.next_session);
        self.next_session += 1;
        let conn = self.connect(seat);
        let (ttl, meta) = (self.seats[seat].ttl, self.seats[seat].meta());
        self.seats[seat].life = Some(Life::new(session, conn, ttl));
        self.tell(conn, ClientMessage::Hello { version: PROTOCOL_VERSION })?;
        self.tell(conn, ClientMessage::Open { session, ttl, meta })?;
        if !self.life(seat)?.is_open() {
            return Ok(());
        }
        match self.raw(seat, Op::SpaceOpen { name: lockstead_script::player::DEFAULT_SPACE })? {
            Reply::Space(info) => {
                let player = Player::new(Some(NodeId(1)), &info).map_err(|e| e.to_string())?;
                self.life(seat)?.player = Some(player);
                Ok(())
            }
            other => Err(format!("the default lockspace: {other:?}")),
        }
    }

    /// A connection for a seat; nothing is said over it yet.
    pub(crate) fn connect(&mut self, seat: usize) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let Seat { local, principal, .. } = &self.seats[seat];
        let (local, principal) = (*local, principal.clone());
        let now = self.now;
        self.node().handle(now, Input::Connected { conn, local, principal });
        conn
    }

    /// Breaks the connection of a seat without a word.
    pub(crate) fn disconnect(&mut self, seat: usize) -> Result<(), Broken> {
        if let Some(conn) = self.life(seat)?.conn.take() {
            let now = self.now;
            self.node().handle(now, Input::Disconnected { conn });
        }
        self.settle()
    }

    fn kill(&mut self, seat: usize) -> Result<(), Broken> {
        let lost = self.life(seat)?.player.as_mut().map(Player::on_lost).unwrap_or_default();
        self.life(seat)?.phase = Phase::Over;
        self.seats[seat].see(lost);
        self.disconnect(seat)
    }

    fn bye(&mut self, seat: usize) -> Result<(), Broken> {
        let Some(life) = &self.seats[seat].life else { return Ok(()) };
        if let (Some(conn), true) = (life.conn, life.is_open()) {
            self.tell(conn, ClientMessage::Goodbye)?;
        }
        self.seats[seat].life = None;
        Ok(())
    }

    /// Reconnects a seat and goes on with its session; after a restart of the node its locks are claimed.
    pub(crate) fn attach(&mut self, seat: usize) -> Result<(), Broken> {
        if self.life(seat)?.phase == Phase::Over {
            return Err(format!("the session of `{}` is over", self.seats[seat].name));
        }
        let conn = self.connect(seat);
        let (ttl, meta) = (self.seats[seat].ttl, self.seats[seat].meta());
        let life = self.life(seat)?;
        // The old connection, if there is one, is broken for all the client knows.
        life.conn = Some(conn);
        life.phase = Phase::Greeting;
        let (session, answers) = (life.session, life.answers);
        self.tell(conn, ClientMessage::Hello { version: PROTOCOL_VERSION })?;
        self.tell(conn, ClientMessage::Attach { session, ttl, meta, answers })
    }

    /// The node stops dead and starts again with its data directory: the epoch is raised, every connection is broken.
    pub(crate) fn restart(&mut self) -> Result<(), Broken> {
        self.node();
        // The operator's own session is no part of the scenario: recorded, it would prolong the freeze.
        let operator = self.seats.iter().position(|s| s.name == OPERATOR);
        operator.map_or(Ok(()), |seat| self.bye(seat))?;
        self.epoch += 1;
        self.node = None;
        for life in self.seats.iter_mut().filter_map(|s| s.life.as_mut()) {
            life.conn = None;
        }
        self.node();
        self.settle()
    }

    /// Sends a request that no verb makes, and returns its last answer.
    pub(crate) fn raw(&mut self, seat: usize, op: Op<'_>) -> Result<Reply, Broken> {
        let life = self.life(seat)?;
        let conn = life.conn.ok_or("no connection: attach it first")?;
        let id = life.number();
        life.raw = Some((id, None));
        self.tell(conn, ClientMessage::Request { id, op })?;
        let (_, reply) = self.life(seat)?.raw.take().ok_or("the session ended")?;
        reply.ok_or_else(|| "no answer to an operation that never waits".to_owned())
    }

    pub(crate) fn life(&mut self, seat: usize) -> Result<&mut Life, Broken> {
        let Seat { name, life, .. } = &mut self.seats[seat];
        life.as_mut().ok_or_else(|| format!("`{name}` has no session yet"))
    }

    pub(crate) fn tell(&mut self, conn: ConnId, message: ClientMessage<'_>) -> Result<(), Broken> {
        let now = self.now;
        self.node().handle(now, Input::Message { conn, message });
        self.settle()
    }

    pub(crate) fn stop(&mut self) -> Result<(), Broken> {
        let now = self.now;
        self.node().handle(now, Input::Stop);
        self.settle()
    }

    /// Delivers what the node wants done until it wants nothing more, then has it prove its state.
    fn settle(&mut self) -> Result<(), Broken> {
        while let Some(output) = self.node().poll_output() {
            match output {
                Output::Send { conn, message } => self.deliver(conn, message)?,
                Output::Close { conn } => {
                    for life in self.seats.iter_mut().filter_map(|s| s.life.as_mut()).filter(|l| l.conn == Some(conn)) {
                        life.conn = None;
                    }
                }
                Output::Record(record) => self.record(record),
                // A node alone has no peers.
                Output::Propose(_) | Output::SendPeer { .. } | Output::ClosePeer { .. } => {}
            }
        }
        self.node().check().map_err(|why| format!("the state of the node is broken: {why}"))
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::Opened { record, durable } => {
                let session = record.session;
                self.journal.sessions.retain(|r| r.session != session);
                self.journal.sessions.push(record);
                if durable {
                    let now = self.now;
                    self.node().handle(now, Input::Recorded { session });
                }
            }
            Record::Ended { session } => self.journal.sessions.retain(|r| r.session != session),
            Record::TtlMax { ttl } => self.journal.ttl_max = self.journal.ttl_max.max(ttl),
            Record::SpaceCreated { id, spec } => self.journal.spaces.push((id, spec)),
            Record::SpaceDropped { id } => self.journal.spaces.retain(|(space, _)| *space != id),
            Record::Audit { .. } => {}
        }
    }

    fn deliver(&mut self, conn: ConnId, message: ServerMessage) -> Result<(), Broken> {
        let found = self.seats.iter().position(|s| s.life.as_ref().is_some_and(|l| l.conn == Some(conn)));
        // A connection that was left behind: its messages reach nobody.
        let Some(at) = found else { return Ok(()) };
        let now = self.now;
        let life = self.life(at)?;
        let lost = matches!(message, ServerMessage::Ended);
        let events = match message {
            ServerMessage::Welcome(_) | ServerMessage::Renewed { .. } | ServerMessage::Bye => Vec::new(),
            ServerMessage::Opened { ttl } => {
                life.opened(ttl, now);
                Vec::new()
            }
            ServerMessage::Attached(attached) => {
                life.opened(attached.ttl, now);
                if attached.reclaim {
                    life.answers = 0;
                    return self.reclaim(at, conn);
                }
                Vec::new()
            }
            ServerMessage::Reply { id, reply } => return self.answer(at, id, reply),
            ServerMessage::Notice(notice) => life.player.as_mut().map(|p| p.on_notice(&notice)).unwrap_or_default(),
            ServerMessage::Rejected { why } => {
                life.phase = Phase::Over;
                self.seats[at].say(&format!("turned away: {}", why.text()));
                return Ok(());
            }
            ServerMessage::Ended => life.player.as_mut().map(Player::on_lost).unwrap_or_default(),
        };
        if lost {
            self.life(at)?.phase = Phase::Over;
        }
        self.seats[at].see(events);
        Ok(())
    }

    fn answer(&mut self, at: usize, id: RequestId, reply: Reply) -> Result<(), Broken> {
        let people = self.people();
        let life = self.life(at)?;
        if let Some(place) = Life::claimed(id) {
            return self.claimed(at, place, &reply);
        }
        life.answers += 1;
        if let Some((raw, slot)) = &mut life.raw
            && *raw == id
        {
            *slot = Some(reply);
            return Ok(());
        }
        let events = life.player.as_mut().map(|p| p.on_reply(id, reply, &people)).unwrap_or_default();
        self.seats[at].see(events);
        Ok(())
    }

    /// Claims every lock a session holds, as its client does after a restart of the node.
    fn reclaim(&mut self, at: usize, conn: ConnId) -> Result<(), Broken> {
        let life = self.life(at)?;
        let Some(player) = &life.player else { return Ok(()) };
        let (locks, transaction) = (player.locks().to_vec(), player.transaction());
        if let Some((age, granted)) = transaction {
            let id = life.number();
            // Nothing that a scenario can see depends on the stage but that it was aborted, and that is asked of no node that stops.
            let resume = Resume { age, granted, stage: TransactionStage::Growing };
            self.tell_only(conn, ClientMessage::Request { id, op: Op::Resume(resume) });
        }
        for (place, lock) in locks.iter().enumerate() {
            let Some(held) = lock.held else { continue };
            let claim = Reclaim {
                space: lock.space.id,
                name: &lock.name,
                held,
                token: lock.token,
                lock: lock.lock,
                tag: lock.tag,
                alone: lock.alone,
                part: lock.part,
                group: lock.group.as_deref(),
                flags: lock.flags,
            };
            self.tell_only(conn, ClientMessage::Reclaim { id: Life::claim_number(place), claim, sealed: None });
        }
        self.tell_only(conn, ClientMessage::ReclaimDone);
        Ok(())
    }

    /// Tells the node without acting on its outputs: the caller is doing that already.
    fn tell_only(&mut self, conn: ConnId, message: ClientMessage<'_>) {
        let now = self.now;
        self.node().handle(now, Input::Message { conn, message });
    }

    /// The answer to a claim: the lock lives on under a new id, or is gone.
    fn claimed(&mut self, at: usize, place: usize, reply: &Reply) -> Result<(), Broken> {
        let name = self.seats[at].name.clone();
        let Some(player) = &mut self.life(at)?.player else { return Ok(()) };
        let Some(lock) = player.locks_mut().get_mut(place) else { return Ok(()) };
        let text = lockstead_types::name::escape(&lock.name);
        match reply {
            Reply::Granted(grant) => {
                (lock.lock, lock.held, lock.token) = (grant.lock, Some(grant.claim), grant.token);
                let claim = lockstead_script::show::claim_text(&lock.space.modes, grant.claim);
                self.seats[at].unprinted.push(format!("{name}: {text} kept {claim} token={}", grant.token));
            }
            Reply::Refused(why) => {
                lock.held = None;
                self.seats[at].unprinted.push(format!("{name}: {text} not kept {why}"));
            }
            other => return Err(format!("an answer to a claim: {other:?}")),
        }
        Ok(())
    }

    fn people(&self) -> Names {
        let lives = self.seats.iter().filter_map(|s| Some((s.name.clone(), s.life.as_ref()?)));
        let mut names = Names::default();
        for (name, life) in lives {
            names.sessions.push((life.session, name));
            names.groups.extend(life.player.iter().flat_map(Player::groups).map(|(id, name)| (id, name.into())));
        }
        names
    }

    /// The name a scenario knows a session by.
    pub(crate) fn name_of(&self, session: Option<SessionId>) -> String {
        session.and_then(|s| self.people().session(s)).unwrap_or_else(|| "-".to_owned())
    }

    /// Lets simulated time pass. Sessions renew their leases meanwhile, as their clients would.
    pub(crate) fn sleep(&mut self, span: Span) -> Result<(), Broken> {
        let until = self.now.after(span);
        let mut stuck = 0;
        loop {
            let node = self.node().poll_deadline();
            let renewals = self.seats.iter().filter(|s| s.renews).filter_map(|s| s.life.as_ref());
            let renewal = renewals.filter(|l| l.is_open()).map(|l| l.renew_at).min();
            let Some(next) = node.into_iter().chain(renewal).min().filter(|t| *t <= until) else { break };
            stuck = if next <= self.now { stuck + 1 } else { 0 };
            if stuck > 10_000 {
                return Err(format!("the node asks for a tick at {} ns and nothing comes of it", next.as_nanos()));
            }
            self.now = self.now.max(next);
            if node.is_some_and(|t| t <= self.now) {
                let now = self.now;
                self.node().handle(now, Input::Tick);
                self.settle()?;
            }
            self.renew()?;
        }
        self.now = until;
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Broken> {
        let now = self.now;
        for seat in self.seats.iter_mut().filter(|s| s.renews) {
            let Some(life) = &mut seat.life else { continue };
            if let (Some(conn), true) = (life.conn, life.is_open() && life.renew_at <= now) {
                life.renew_at = now.after(life.ttl.scaled(1, 3));
                let message = ClientMessage::Renew { seq: now.as_nanos() };
                if let Some(node) = &mut self.node {
                    node.handle(now, Input::Message { conn, message });
                }
            }
        }
        self.settle()
    }

    /// Makes the sessions that follow under this name remote ones: their connections are TCP connections.
    pub(crate) fn make_remote(&mut self, seat: usize) {
        self.seats[seat].local = false;
        self.seats[seat].principal = Principal::Address(format!("10.0.0.{}:4000", seat + 1));
    }
}

impl Life {
    fn opened(&mut self, ttl: Span, now: Time) {
        self.phase = Phase::Open;
        self.ttl = ttl;
        self.renew_at = now.after(ttl.scaled(1, 3));
    }
}

/// The names of everyone, at one moment.
#[derive(Default)]
struct Names {
    sessions: Vec<(SessionId, String)>,
    groups: Vec<(GroupId, Vec<u8>)>,
}

impl People for Names {
    fn session(&self, session: SessionId) -> Option<String> {
        self.sessions.iter().find(|(id, _)| *id == session).map(|(_, name)| name.clone())
    }

    fn group(&self, group: GroupId) -> Option<String> {
        self.groups.iter().find(|(id, _)| *id == group).map(|(_, name)| lockstead_types::name::escape(name))
    }
}
