//! The session: its phases, and the ways in and out.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use lockstead_types::{
    LockId, Refusal, RequestId, SessionId, SpaceId, Span, Time,
    message::{ClientMessage, PROTOCOL_VERSION, Rejection, ServerMessage, Welcome},
    reply::{Notice, Reply, Revoked},
    report::Meta,
    request::Stood,
};

use crate::{
    doubt::KnownSpaces,
    groups::Groups,
    home::Home,
    lease::{Clock, Granted, Lease},
    locks::Locks,
    requests::{For, Requests, Turn},
    restart::Claims,
    txn::Txn,
};

/// What a session starts with.
#[derive(Clone, Debug)]
pub struct Config {
    /// 128 bits from the operating system's random source.
    pub session: SessionId,
    /// The lease to ask for.
    pub ttl: Span,
    /// What the client says of itself.
    pub meta: Meta,
    /// By how much clocks may run apart, parts per million. 10,000 (1 %) is what the service promises with.
    pub rho_ppm: u32,
    /// How much earlier than it must the client calls its lease lost: the time a guarded step takes after it was checked.
    pub guard: Span,
    /// How many requests may be open at once, sent or not; further ones are refused with `limit:in-flight`.
    pub backlog: u32,
    /// For the jitter of reconnecting: any number that differs between clients.
    pub seed: u64,
}

/// What the world tells a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The connection asked for stands.
    Connected,
    /// The connection broke, or could not be made.
    Disconnected,
    /// A message arrived.
    Message(ServerMessage),
    /// [`Session::poll_deadline`] has come.
    Tick,
}

/// What a session wants done or known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output<'a> {
    /// Connect.
    Connect,
    /// Send over the connection.
    Send(ClientMessage<'a>),
    /// Drop the connection.
    Disconnect,
    /// The session is open. Comes once.
    Opened,
    /// A node turned the connection away. The session tries again where that makes sense; otherwise [`Output::Over`] follows.
    Rejected(Rejection),
    /// An answer.
    Answer {
        /// To which request.
        request: RequestId,
        /// The application's own number for it.
        key: u64,
        /// The answer.
        reply: Reply,
    },
    /// News, with the session's own lock ids. [`Notice::Changed`] has the node's.
    Notice(Notice),
    /// A lock was lost while the session lives; where the node said so, the notice comes before this.
    LockLost {
        /// The lock.
        lock: LockId,
        /// Why.
        why: Revoked,
    },
    /// The lease changed state.
    Lease(Lease),
    /// The session is over; nothing comes after this.
    Over(Ending),
}

/// How a session ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client's own deadline passed.
    Deadline,
    /// The node does not know the session any more.
    Ended,
    /// It was turned away for good, before it was open.
    Rejected(Rejection),
    /// It said goodbye.
    Closed,
}

/// One session. See the crate's page for how to drive it.
pub struct Session {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    /// `None` until the session was opened.
    pub(crate) lease: Option<Granted>,
    /// The state told last.
    told: Lease,
    /// Attempts to connect since the last that got through.
    pub(crate) tries: u32,
    random: u64,
    leaving: bool,
    pub(crate) node: Option<Welcome>,
    pub(crate) home: Home,
    pub(crate) requests: Requests,
    pub(crate) locks: Locks,
    pub(crate) groups: Groups,
    pub(crate) txn: Option<Txn>,
    pub(crate) watches: Vec<(SpaceId, Box<[u8]>)>,
    pub(crate) spaces: KnownSpaces,
    /// Answers received, and how many of them were acknowledged.
    pub(crate) answers: u64,
    acked: u64,
    pub(crate) events: VecDeque<Event>,
}

/// Where the session stands; each phase owns what only it needs.
pub(crate) enum Phase {
    /// No connection; the next attempt comes at this time.
    Waiting { until: Time },
    /// The driver is connecting.
    Connecting,
    /// Hello was sent.
    Greeting { sent: Time },
    /// Open or Attach was sent.
    Opening { sent: Time },
    /// The node restarted, or is another one: groups are joined again, then locks claimed.
    Returning(Claims),
    /// Requests flow.
    Live(Live),
    /// Goodbye was sent.
    Leaving,
    /// The end.
    Over(Ending),
}

pub(crate) struct Live {
    next_renewal: Time,
    sequence: u64,
    /// Renewals without an answer, oldest first.
    renewals: VecDeque<Renewal>,
}

struct Renewal {
    sequence: u64,
    sent: Time,
    /// The newest request sent before it: its answer proves that the node has seen that one.
    after: RequestId,
}

/// What waits to be polled, except requests and claims, which are made when they are polled.
pub(crate) enum Event {
    Connect,
    Disconnect,
    Hello,
    Open,
    Attach,
    Renew(u64),
    Ack(u64),
    Regroup(RequestId),
    Again { id: RequestId, stood: Stood },
    ReclaimDone,
    Goodbye,
    Opened,
    Rejected(Rejection),
    Answer { request: RequestId, key: u64, reply: Reply },
    Notice(Notice),
    LockLost { lock: LockId, why: Revoked },
    Lease(Lease),
    Over(Ending),
}

/// The longest pause between attempts to connect.
const BACKOFF_MAX: Span = Span::from_millis(1_000);
const BACKOFF_FIRST: Span = Span::from_millis(5);
/// How long a node may take to answer an open or an attach, at most.
const ANSWER_MAX: Span = Span::from_secs(5);
/// How long connecting may take, and the answer to a hello, at the first attempt; twice as long at each further one. A node
/// that lives answers either at once, so a dead one costs little of the lease.
const GREETING_FIRST: Span = Span::from_millis(500);
/// How long a renewal may be without an answer before the connection is given up, at least.
const STUCK_LEAST: Span = Span::from_millis(500);

impl Session {
    /// A session that wants to connect.
    #[must_use]
    pub fn new(config: Config, now: Time) -> Session {
        let random = config.seed ^ (config.session.0 as u64) ^ now.as_nanos();
        Session {
            config,
            phase: Phase::Connecting,
            lease: None,
            told: Lease::Unsure,
            tries: 0,
            random,
            leaving: false,
            node: None,
            home: Home::default(),
            requests: Requests::new(),
            locks: Locks::new(),
            groups: Groups::default(),
            txn: None,
            watches: Vec::new(),
            spaces: KnownSpaces::default(),
            answers: 0,
            acked: 0,
            events: VecDeque::from([Event::Connect]),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        // [SESS-4] The clock comes first, whatever was heard: an answer that was on its way while the process was stopped
        // beyond its deadline must not make anything succeed.
        self.expire(now);
        if matches!(self.phase, Phase::Over(_)) {
            return;
        }
        match input {
            Input::Connected => self.on_connected(now),
            Input::Disconnected => self.on_disconnected(now),
            Input::Message(message) => self.on_message(now, message),
            Input::Tick => {}
        }
        self.on_time(now);
        self.tell_lease(now);
    }

    /// Ends the session cleanly: what was asked before is sent, then a goodbye. Open requests are answered `lost` when it
    /// is over. Without a connection it still tries to reach the node until the deadline.
    pub fn goodbye(&mut self, now: Time) {
        self.expire(now);
        self.leaving = true;
        if self.lease.is_none() {
            self.end(now, Ending::Closed);
        }
        self.tell_lease(now);
    }

    /// The state of the lease at `now`.
    #[must_use]
    pub fn lease(&self, now: Time) -> Lease {
        let Some(lease) = &self.lease else { return self.told };
        if matches!(self.phase, Phase::Over(_)) || now >= lease.deadline() {
            return Lease::Lost;
        }
        match self.phase {
            // [SESS-17] Whatever was held is being given back.
            Phase::Leaving => Lease::Lost,
            Phase::Live(_) if now < lease.unsure_from() => Lease::Held,
            _ => Lease::Unsure,
        }
    }

    /// Until when the client may act, unless the lease is renewed; `None` before the session was opened.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.lease.map(|lease| lease.deadline())
    }

    /// The lease the node granted; `None` before the session was opened.
    #[must_use]
    pub fn ttl(&self) -> Option<Span> {
        self.lease.map(|lease| lease.ttl)
    }

    /// What the node said of itself on the newest connection.
    #[must_use]
    pub fn node(&self) -> Option<&Welcome> {
        self.node.as_ref()
    }

    /// Requests without their last answer.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.open_count()
    }

    /// Whether it is at a node and its requests flow.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_) | Phase::Leaving)
    }

    /// How the session ended, where it has.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        match self.phase {
            Phase::Over(ending) => Some(ending),
            _ => None,
        }
    }

    /// When to call [`Session::handle`] with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Time> {
        let phase = match &self.phase {
            Phase::Waiting { until } => Some(*until),
            Phase::Greeting { sent } => Some(sent.after(self.connect_within())),
            Phase::Opening { sent } => self.patience().map(|patience| sent.after(patience)),
            Phase::Live(live) => Some(self.stuck_at(live).map_or(live.next_renewal, |at| at.min(live.next_renewal))),
            Phase::Connecting | Phase::Returning(_) | Phase::Leaving => None,
            Phase::Over(_) => return None,
        };
        let unsure = self.lease.filter(|_| self.told == Lease::Held).map(|lease| lease.unsure_from());
        [phase, unsure, self.deadline()].into_iter().flatten().min()
    }

    /// The next thing to do or to know, `None` where nothing is left.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        while let Some(event) = self.events.pop_front() {
            if let Event::Again { id, .. } = event
                && !self.requests.is_sendable(Turn::Request(id), &self.wiring())
            {
                self.requests.untell_wait(id);
                continue;
            }
            return Some(self.output_of(event));
        }
        match self.phase {
            Phase::Live(_) => self.poll_request(),
            Phase::Returning(_) => self.poll_claim(),
            _ => None,
        }
    }

    fn poll_request(&mut self) -> Option<Output<'_>> {
        loop {
            let credit = self.credit_left();
            if self.requests.has_turn(credit) {
                let turn = self.requests.take_turn()?;
                if !self.requests.is_sendable(turn, &self.wiring()) {
                    self.on_unsendable(turn);
                    if let Some(event) = self.events.pop_front() {
                        return Some(self.output_of(event));
                    }
                    continue;
                }
                return self.requests.message(turn, &self.wiring()).map(Output::Send);
            }
            if self.requests.is_held_back(credit) && self.answers > self.acked {
                // What was answered and not acknowledged takes credit too.
                self.acked = self.answers;
                return Some(Output::Send(ClientMessage::Ack { answers: self.answers }));
            }
            if self.leaving {
                self.phase = Phase::Leaving;
                return Some(Output::Send(ClientMessage::Goodbye));
            }
            return None;
        }
    }

    fn output_of(&mut self, event: Event) -> Output<'_> {
        let session = self.config.session;
        match event {
            Event::Connect => Output::Connect,
            Event::Disconnect => Output::Disconnect,
            Event::Hello => Output::Send(ClientMessage::Hello { version: PROTOCOL_VERSION }),
            Event::Open => {
                let (ttl, meta) = (self.config.ttl, self.config.meta.clone());
                Output::Send(ClientMessage::Open { session, ttl, meta })
            }
            Event::Attach => {
                let ttl = self.ttl().unwrap_or(self.config.ttl);
                let meta = self.config.meta.clone();
                Output::Send(ClientMessage::Attach { session, ttl, meta, answers: self.answers })
            }
            Event::Renew(seq) => Output::Send(ClientMessage::Renew { seq }),
            Event::Ack(answers) => Output::Send(ClientMessage::Ack { answers }),
            Event::Regroup(id) => Output::Send(self.regroup_message(id)),
            Event::Again { id, stood } => {
                let again = self.requests.again(id, stood, &self.wiring());
                // It was looked at before: what says nothing new is only the other arm.
                Output::Send(again.unwrap_or(ClientMessage::Ack { answers: self.acked }))
            }
            Event::ReclaimDone => Output::Send(ClientMessage::ReclaimDone),
            Event::Goodbye => Output::Send(ClientMessage::Goodbye),
            Event::Opened => Output::Opened,
            Event::Rejected(why) => Output::Rejected(why),
            Event::Answer { request, key, reply } => Output::Answer { request, key, reply },
            Event::Notice(notice) => Output::Notice(notice),
            Event::LockLost { lock, why } => Output::LockLost { lock, why },
            Event::Lease(lease) => Output::Lease(lease),
            Event::Over(ending) => Output::Over(ending),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock { rho_ppm: self.config.rho_ppm, guard: self.config.guard }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// How many requests may be without an answer.
    fn credit(&self) -> u32 {
        self.node.as_ref().map_or(1, |n| n.credit.max(1))
    }

    /// The same, given the answers that are not acknowledged.
    fn credit_left(&self) -> u32 {
        self.credit().saturating_sub(u32::try_from(self.answers - self.acked).unwrap_or(u32::MAX))
    }

    /// How long an attempt to connect may take at most.
    #[must_use]
    pub fn connect_within(&self) -> Span {
        GREETING_FIRST.scaled(1 << self.tries.min(10), 1).min(self.answer_within())
    }

    fn answer_within(&self) -> Span {
        self.config.ttl.scaled(1, 3).min(ANSWER_MAX)
    }

    /// How long to wait for the answer to an open or attach; `None` where giving up would end the session
    /// ([`Self::drop_connection`]). A node of a cluster agrees with the others before it answers.
    fn patience(&self) -> Option<Span> {
        if self.is_bound_to_connection() { None } else { Some(self.answer_within()) }
    }

    /// When the connection is given up for want of an answer to a renewal. A local session would end with its connection.
    fn stuck_at(&self, live: &Live) -> Option<Time> {
        let local = self.node.as_ref().is_some_and(|n| n.local);
        let oldest = live.renewals.front().filter(|_| !local)?;
        // Soon: behind a connection that is dead there may be a node that is, and to come to another one takes time.
        let ttl = self.lease?.ttl;
        Some(oldest.sent.after(ttl.scaled(1, 6).max(STUCK_LEAST.min(ttl.scaled(1, 3)))))
    }

    /// Whether the node would take the end of this connection for the end of every process that had it.
    fn is_bound_to_connection(&self) -> bool {
        let local = self.node.as_ref().is_some_and(|n| n.local);
        let attached = matches!(self.phase, Phase::Opening { .. } | Phase::Returning(_) | Phase::Live(_));
        local && attached && self.lease.is_some()
    }

    fn on_connected(&mut self, now: Time) {
        if matches!(self.phase, Phase::Connecting) {
            self.events.push_back(Event::Hello);
            self.phase = Phase::Greeting { sent: now };
        }
    }

    fn on_disconnected(&mut self, now: Time) {
        match self.phase {
            Phase::Leaving => self.end(now, Ending::Closed),
            Phase::Waiting { .. } | Phase::Over(_) => {}
            _ => {
                self.note_abandoned();
                self.retry(now);
            }
        }
    }

    /// Goes on without a connection, and tries again later.
    pub(crate) fn retry(&mut self, now: Time) {
        self.forget_returning();
        self.requests.pause();
        let doubled = 1u64 << self.tries.min(10);
        let pause = BACKOFF_FIRST.scaled(doubled, 1).min(BACKOFF_MAX);
        // Half of it by chance: clients that lost the same node do not come back all at once.
        let pause = pause.scaled(512 + self.next_random() % 512, 1024);
        self.tries = self.tries.saturating_add(1);
        self.phase = Phase::Waiting { until: now.after(pause) };
    }

    fn on_message(&mut self, now: Time, message: ServerMessage) {
        // [HOME-3] What a connection brings that was given up says nothing any more: its node may have granted to others since.
        let expected = match (&self.phase, &message) {
            (Phase::Waiting { .. } | Phase::Connecting, _) => return,
            (_, ServerMessage::Rejected { .. }) => true,
            (Phase::Greeting { .. }, message) => matches!(message, ServerMessage::Welcome(_)),
            (Phase::Opening { .. }, ServerMessage::Opened { .. }) => self.lease.is_none(),
            (Phase::Opening { .. }, message) => matches!(message, ServerMessage::Attached(_) | ServerMessage::Ended),
            (_, ServerMessage::Bye) => matches!(self.phase, Phase::Leaving),
            (_, ServerMessage::Welcome(_) | ServerMessage::Opened { .. } | ServerMessage::Attached(_)) => false,
            _ => true,
        };
        if !expected {
            return self.on_nonsense(now);
        }
        match message {
            ServerMessage::Welcome(welcome) => self.on_welcome(now, welcome),
            ServerMessage::Rejected { why } => self.on_rejected(now, why),
            ServerMessage::Opened { ttl } => self.on_opened(ttl),
            ServerMessage::Attached(attached) => self.on_attached(now, &attached),
            ServerMessage::Ended => self.end(now, Ending::Ended),
            ServerMessage::Renewed { seq } => {
                self.on_renewed(seq);
                #[cfg(feature = "planted")]
                if lockstead_types::planted::is(lockstead_types::planted::Bug::FromAnswer)
                    && let Some(lease) = &mut self.lease
                {
                    lease.renew(now);
                }
            }
            ServerMessage::Reply { id, reply } => self.on_reply(now, id, reply),
            ServerMessage::Notice(notice) => self.on_notice(notice),
            ServerMessage::Bye => self.end(now, Ending::Closed),
        }
    }

    fn on_welcome(&mut self, now: Time, welcome: Welcome) {
        self.node = Some(welcome);
        self.events.push_back(if self.lease.is_none() { Event::Open } else { Event::Attach });
        self.phase = Phase::Opening { sent: now };
    }

    fn on_opened(&mut self, ttl: Span) {
        let Phase::Opening { sent } = self.phase else { return };
        self.lease = Some(Granted::new(ttl, sent, self.clock()));
        self.tries = 0;
        self.restart_count();
        self.events.push_back(Event::Opened);
        self.requests.resend_after(RequestId(0));
        self.go_live(sent);
    }

    /// A message that does not belong here: the connection cannot be trusted, the session can.
    pub(crate) fn on_nonsense(&mut self, now: Time) {
        self.drop_connection(now);
    }

    /// Gives the connection up from this side.
    fn drop_connection(&mut self, now: Time) {
        // [SESS-7] The end of a local connection ends its session at the node, at once: to believe in a lock any longer would be
        // wrong, however much of the lease is left.
        if self.is_bound_to_connection() {
            return self.end(now, Ending::Ended);
        }
        self.note_abandoned();
        self.events.push_back(Event::Disconnect);
        self.retry(now);
    }

    pub(crate) fn go_live(&mut self, renewed: Time) {
        let third = self.lease.map_or(Span::ZERO, |l| l.ttl.scaled(1, 3));
        let next_renewal = renewed.after(third);
        self.phase = Phase::Live(Live { next_renewal, sequence: 0, renewals: VecDeque::new() });
        self.requests.flow(self.credit());
    }

    pub(crate) fn renew_lease(&mut self, ttl: Span, sent: Time) {
        self.lease = self.lease.map(|lease| lease.regranted(ttl, sent, self.clock()));
    }

    pub(crate) fn restart_count(&mut self) {
        self.answers = 0;
        self.acked = 0;
    }

    fn on_renewed(&mut self, sequence: u64) {
        let Phase::Live(live) = &mut self.phase else { return };
        let Some(at) = live.renewals.iter().position(|r| r.sequence == sequence) else { return };
        let Some(renewal) = live.renewals.drain(..=at).next_back() else { return };
        if let Some(lease) = &mut self.lease {
            lease.renew(renewal.sent);
        }
        self.requests.confirm(renewal.after);
    }

    /// What is due by the clock.
    fn on_time(&mut self, now: Time) {
        match &self.phase {
            Phase::Waiting { until } if now >= *until => {
                self.events.push_back(Event::Connect);
                self.phase = Phase::Connecting;
            }
            Phase::Greeting { sent } if now >= sent.after(self.connect_within()) => self.drop_connection(now),
            Phase::Opening { sent } if self.patience().is_some_and(|patience| now >= sent.after(patience)) => {
                self.drop_connection(now);
            }
            Phase::Live(live) if self.stuck_at(live).is_some_and(|at| now >= at) => self.drop_connection(now),
            Phase::Live(live) if now >= live.next_renewal => self.send_renewal(now),
            _ => {}
        }
    }

    fn send_renewal(&mut self, now: Time) {
        let Some(lease) = self.lease else { return };
        let Phase::Live(live) = &mut self.phase else { return };
        live.sequence += 1;
        let after = self.requests.last_sent();
        live.renewals.push_back(Renewal { sequence: live.sequence, sent: now, after });
        live.next_renewal = now.after(lease.ttl.scaled(1, 3));
        self.events.push_back(Event::Renew(live.sequence));
        self.acknowledge(1);
    }

    /// Renews out of turn, so that one-way requests are confirmed.
    pub(crate) fn renew_early(&mut self, now: Time) {
        if matches!(&self.phase, Phase::Live(live) if live.renewals.is_empty()) {
            self.send_renewal(now);
        }
    }

    /// Acknowledges if at least so many answers were not.
    pub(crate) fn acknowledge(&mut self, least: u64) {
        if matches!(self.phase, Phase::Live(_)) && self.answers - self.acked >= least.max(1) {
            self.acked = self.answers;
            self.events.push_back(Event::Ack(self.answers));
        }
    }

    /// Groups are joined again: what is said again next needs the whole credit.
    pub(crate) fn acknowledge_groups(&mut self) {
        if self.answers > self.acked {
            self.acked = self.answers;
            self.events.push_back(Event::Ack(self.answers));
        }
    }

    pub(crate) fn acknowledge_if_many(&mut self) {
        let quarter = self.node.as_ref().map_or(1, |n| n.credit / 4);
        self.acknowledge(u64::from(quarter));
    }

    /// Loses the session if its deadline has come.
    pub(crate) fn expire(&mut self, now: Time) {
        let over = matches!(self.phase, Phase::Over(_));
        if !over && self.deadline().is_some_and(|deadline| now >= deadline) {
            if matches!(self.phase, Phase::Live(_) | Phase::Returning(_)) {
                // The client acts no more, so the node may as well know.
                self.events.push_back(Event::Goodbye);
            }
            self.end(now, Ending::Deadline);
        }
    }

    pub(crate) fn end(&mut self, now: Time, ending: Ending) {
        if matches!(self.phase, Phase::Over(_)) {
            return;
        }
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.events.push_back(Event::Disconnect);
        }
        self.phase = Phase::Over(ending);
        for request in self.requests.drain() {
            if let For::App { key } | For::LetGo { key } = request.whose {
                let reply = Reply::Refused(Refusal::Lost);
                self.events.push_back(Event::Answer { request: request.known_as, key, reply });
            }
        }
        self.locks.clear();
        self.txn = None;
        self.tell_lease(now);
        self.events.push_back(Event::Over(ending));
    }

    pub(crate) fn tell_lease(&mut self, now: Time) {
        let state = if matches!(self.phase, Phase::Over(_)) { Lease::Lost } else { self.lease(now) };
        if state != self.told {
            self.told = state;
            self.events.push_back(Event::Lease(state));
        }
    }

    /// xorshift64*: enough to spread attempts.
    fn next_random(&mut self) -> u64 {
        let mut x = self.random | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}
