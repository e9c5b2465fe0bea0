//! A node with clients at hand: each call handles one input, proves the whole state, and returns what came out.

use lockstead_node::{Input, Node, NodeConfig, Output, Principal, Record, SessionRecord};
use lockstead_types::{
    ConnId, Flags, GroupId, Limits, LockId, Mode, NodeId, RequestId, SessionId, SpaceId, Span, Time, Token,
    message::{ClientMessage, Reclaim, Rejection, ServerMessage},
    refusal::Refusal,
    reply::{Grant, Notice, Reply},
    report::Meta,
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Target, Wait},
};

pub(crate) const NL: Claim = Claim::Mode(Mode(0));
pub(crate) const PR: Claim = Claim::Mode(Mode(3));
pub(crate) const PW: Claim = Claim::Mode(Mode(4));
pub(crate) const EX: Claim = Claim::Mode(Mode(5));
pub(crate) const TTL: Span = Span::from_secs(10);

pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) now: Time,
    conns: u64,
}

/// A connected client with an open session.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) conn: ConnId,
    pub(crate) session: SessionId,
    pub(crate) asked: u64,
}

pub(crate) fn config() -> NodeConfig {
    NodeConfig {
        node: NodeId(1),
        epoch: 1,
        limits: Limits::default(),
        hash_seed: 7,
        version: "test".into(),
        spaces: Vec::new(),
        recorded: Vec::new(),
        ttl_max_recorded: Span::ZERO,
        durable: false,
        member: None,
    }
}

pub(crate) fn user(uid: u32) -> Principal {
    Principal::Local { uid, gid: 1, pid: 1 }
}

pub(crate) fn address(port: u16) -> Principal {
    Principal::Address(format!("10.0.0.9:{port}"))
}

pub(crate) fn recorded(session: u128, local: bool) -> SessionRecord {
    let principal = if local { user(1000) } else { address(1) };
    SessionRecord { session: SessionId(session), ttl: TTL, local, principal: principal.to_string() }
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(config())
    }

    pub(crate) fn with(config: NodeConfig) -> Rig {
        let now = Time::from_nanos(1_000_000_000_000);
        let rig = Rig { node: Node::new(config, now), now, conns: 0 };
        assert_eq!(rig.node.check(), Ok(()));
        rig
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) -> Vec<Output> {
        let said = format!("{input:?}");
        self.node.handle(self.now, input);
        if let Err(what) = self.node.check() {
            panic!("the node is broken after {said}: {what}");
        }
        core::iter::from_fn(|| self.node.poll_output()).collect()
    }

    pub(crate) fn connect(&mut self, local: bool, principal: Principal) -> (ConnId, Vec<Output>) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        (conn, self.handle(Input::Connected { conn, local, principal }))
    }

    pub(crate) fn say(&mut self, conn: ConnId, message: ClientMessage<'_>) -> Vec<Output> {
        self.handle(Input::Message { conn, message })
    }

    /// Connects and says hello.
    pub(crate) fn greet(&mut self, local: bool) -> ConnId {
        let principal = if local { user(1000) } else { address(self.conns as u16 + 1) };
        let (conn, out) = self.connect(local, principal);
        assert_eq!(out, []);
        let out = self.say(conn, ClientMessage::Hello { version: 1 });
        assert!(matches!(&out[..], [Output::Send { message: ServerMessage::Welcome(w), .. }] if w.local == local));
        conn
    }

    pub(crate) fn open(&mut self, session: u128, local: bool) -> Seat {
        let conn = self.greet(local);
        let session = SessionId(session);
        let out = self.say(conn, open(session));
        assert_eq!(sent(&out), [ServerMessage::Opened { ttl: TTL }]);
        Seat { conn, session, asked: 0 }
    }

    pub(crate) fn local(&mut self, session: u128) -> Seat {
        self.open(session, true)
    }

    pub(crate) fn remote(&mut self, session: u128) -> Seat {
        self.open(session, false)
    }

    pub(crate) fn ask(&mut self, seat: &mut Seat, op: Op<'_>) -> Vec<Output> {
        seat.asked += 1;
        self.say(seat.conn, ClientMessage::Request { id: RequestId(seat.asked), op })
    }

    /// Asks and expects a grant and nothing else.
    pub(crate) fn granted(&mut self, seat: &mut Seat, op: Op<'_>) -> Grant {
        let out = self.ask(seat, op);
        match &out[..] {
            [Output::Send { conn, message: ServerMessage::Reply { id, reply: Reply::Granted(grant) } }] => {
                assert_eq!((*conn, *id), (seat.conn, RequestId(seat.asked)));
                grant.clone()
            }
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Asks and expects one answer and nothing else for the asker.
    pub(crate) fn reply(&mut self, seat: &mut Seat, op: Op<'_>) -> Reply {
        let out = self.ask(seat, op);
        let answers = replies(&out, seat.conn);
        match &answers[..] {
            [(id, reply)] if *id == seat.asked => reply.clone(),
            other => panic!("not one answer: {other:?}"),
        }
    }

    pub(crate) fn refused(&mut self, seat: &mut Seat, op: Op<'_>) -> Refusal {
        match self.reply(seat, op) {
            Reply::Refused(why) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Asks and expects to wait.
    pub(crate) fn queued(&mut self, seat: &mut Seat, op: Op<'_>) -> LockId {
        match self.reply(seat, op) {
            Reply::Queued(queued) => queued.lock,
            other => panic!("not queued: {other:?}"),
        }
    }

    pub(crate) fn advance(&mut self, span: Span) -> Vec<Output> {
        self.now = self.now.after(span);
        match self.node.poll_deadline() {
            Some(due) if due <= self.now => self.handle(Input::Tick),
            _ => Vec::new(),
        }
    }
}

pub(crate) fn open(session: SessionId) -> ClientMessage<'static> {
    ClientMessage::Open { session, ttl: TTL, meta: meta() }
}

pub(crate) fn attach(session: SessionId, answers: u64) -> ClientMessage<'static> {
    ClientMessage::Attach { session, ttl: TTL, meta: meta(), answers }
}

pub(crate) fn meta() -> Meta {
    Meta { host: "h".into(), pid: 4711, program: "p".into(), purpose: "test".into(), within: None }
}

pub(crate) fn request(name: &str, claim: Claim, wait: Wait) -> LockRequest<'_> {
    LockRequest {
        space: SpaceId(0),
        name: name.as_bytes(),
        claim,
        wait,
        flags: Flags::NONE,
        owner: OwnerRef::Session,
        tag: 0,
        priority: 0,
    }
}

pub(crate) fn lock(name: &str, claim: Claim) -> Op<'_> {
    Op::Lock(request(name, claim, Wait::Forever))
}

pub(crate) fn group_lock(group: GroupId, name: &str, claim: Claim, wait: Wait) -> Op<'_> {
    Op::Lock(LockRequest { owner: OwnerRef::Group(group), ..request(name, claim, wait) })
}

pub(crate) fn release(lock: LockId) -> Op<'static> {
    Op::Release { release: ReleaseRequest { lock, flags: Flags::NONE, value: None }, one_way: false }
}

pub(crate) fn one_way(lock: LockId) -> Op<'static> {
    Op::Release { release: ReleaseRequest { lock, flags: Flags::NONE, value: None }, one_way: true }
}

pub(crate) fn convert(lock: LockId, claim: Claim) -> Op<'static> {
    let Claim::Mode(mode) = claim else { panic!("a mode") };
    Op::Convert(ConvertRequest { lock, mode, wait: Wait::Forever, flags: Flags::NONE, value: None })
}

pub(crate) fn cancel(request: u64) -> Op<'static> {
    Op::Cancel(Target::Request(RequestId(request)))
}

pub(crate) fn reclaim(name: &str, held: Claim, token: Token, lock: LockId) -> Reclaim<'_> {
    Reclaim {
        space: SpaceId(0),
        name: name.as_bytes(),
        held,
        token,
        lock,
        tag: 0,
        alone: false,
        group: None,
        part: None,
        flags: Flags::NONE,
    }
}

/// What was sent, to whomever.
pub(crate) fn sent(out: &[Output]) -> Vec<ServerMessage> {
    out.iter().filter_map(|o| if let Output::Send { message, .. } = o { Some(message.clone()) } else { None }).collect()
}

pub(crate) fn sent_to(out: &[Output], to: ConnId) -> Vec<ServerMessage> {
    let own = |o: &Output| match o {
        Output::Send { conn, message } if *conn == to => Some(message.clone()),
        _ => None,
    };
    out.iter().filter_map(own).collect()
}

pub(crate) fn replies(out: &[Output], to: ConnId) -> Vec<(u64, Reply)> {
    let answer = |m| if let ServerMessage::Reply { id, reply } = m { Some((id.0, reply)) } else { None };
    sent_to(out, to).into_iter().filter_map(answer).collect()
}

pub(crate) fn notices(out: &[Output], to: ConnId) -> Vec<Notice> {
    let notice = |m| if let ServerMessage::Notice(notice) = m { Some(notice) } else { None };
    sent_to(out, to).into_iter().filter_map(notice).collect()
}

pub(crate) fn records(out: &[Output]) -> Vec<Record> {
    out.iter().filter_map(|o| if let Output::Record(record) = o { Some(record.clone()) } else { None }).collect()
}

pub(crate) fn audits(out: &[Output]) -> Vec<String> {
    records(out).into_iter().filter_map(|r| if let Record::Audit { text } = r { Some(text) } else { None }).collect()
}

/// Turned away, and closed.
pub(crate) fn rejected(conn: ConnId, why: Rejection) -> Vec<Output> {
    vec![Output::Send { conn, message: ServerMessage::Rejected { why } }, Output::Close { conn }]
}
