//! A session with time and messages made by hand: each node it meets says what the test tells it to say.

use std::collections::VecDeque;

use lockstead_client_core::{Config, Input, Output, Session};
use lockstead_types::{
    Flags, LockId, Mode, NodeId, RequestId, SessionId, SpaceId, Span, Time, Token,
    message::{Attached, ClientMessage, PROTOCOL_VERSION, ServerMessage, Welcome},
    reply::{Grant, Notice, Reply, Revoked},
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Stood, Wait},
    transaction::Part,
};

pub(crate) const TTL: Span = Span::from_secs(10);
pub(crate) const PR: Mode = Mode(3);
pub(crate) const EX: Mode = Mode(5);

/// What the session sent, handshakes and renewals aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    Lock {
        id: RequestId,
        name: Vec<u8>,
    },
    Release {
        lock: LockId,
    },
    Sync {
        id: RequestId,
    },
    Claim {
        id: RequestId,
        name: Vec<u8>,
        token: Token,
        part: Option<Part>,
    },
    /// Something about the transaction.
    Txn {
        id: RequestId,
        op: Op<'static>,
    },
    Again {
        id: RequestId,
        name: Vec<u8>,
        stood: Stood,
    },
    Attach {
        id: RequestId,
    },
    Done,
}

pub(crate) struct Rig {
    pub(crate) session: Session,
    /// Milliseconds.
    pub(crate) now: u64,
    pub(crate) sent: VecDeque<Sent>,
    pub(crate) answers: Vec<Reply>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) lost: Vec<(LockId, Revoked)>,
    /// It wants to connect.
    pub(crate) connecting: bool,
    hung_up: bool,
    wires: u64,
}

impl Rig {
    /// A session that is open at a node.
    pub(crate) fn open(node: NodeId, epoch: u32) -> Rig {
        let config = Config {
            session: SessionId(7),
            ttl: TTL,
            meta: Meta::default(),
            rho_ppm: 10_000,
            guard: Span::ZERO,
            backlog: 8,
            seed: 1,
        };
        let mut rig = Rig {
            session: Session::new(config, Time::from_nanos(0)),
            now: 0,
            sent: VecDeque::new(),
            answers: Vec::new(),
            notices: Vec::new(),
            lost: Vec::new(),
            connecting: false,
            hung_up: false,
            wires: 0,
        };
        rig.pump();
        rig.greet(node, epoch);
        rig.tell(Input::Message(ServerMessage::Opened { ttl: TTL }));
        rig
    }

    pub(crate) fn time(&self) -> Time {
        Time::from_nanos(self.now * 1_000_000)
    }

    pub(crate) fn tell(&mut self, input: Input) {
        self.session.handle(self.time(), input);
        self.pump();
    }

    pub(crate) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.tell(Input::Message(ServerMessage::Reply { id, reply }));
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.tell(Input::Tick);
    }

    /// The connection breaks; the session waits as long as it likes and then connects.
    pub(crate) fn cut(&mut self) {
        self.cut_without_waiting();
        self.back_off();
    }

    pub(crate) fn cut_without_waiting(&mut self) {
        self.tell(Input::Disconnected);
        self.hung_up = false;
    }

    /// Waits until it wants to connect.
    pub(crate) fn back_off(&mut self) {
        while !self.connecting {
            assert_eq!(self.session.ending(), None);
            self.pass(1);
        }
    }

    /// Connected, and the node has said who it is.
    pub(crate) fn greet(&mut self, node: NodeId, epoch: u32) {
        assert!(self.connecting, "it does not want to connect");
        self.connecting = false;
        let welcome = Welcome { version: PROTOCOL_VERSION, node, epoch, local: false, credit: 8, frame_bytes: 1 << 20 };
        self.tell(Input::Connected);
        self.tell(Input::Message(ServerMessage::Welcome(welcome)));
    }

    /// A node answers the attach.
    pub(crate) fn attach(&mut self, node: NodeId, epoch: u32, home: u32, reclaim: bool) {
        self.greet(node, epoch);
        self.hung_up = false;
        let attached = Attached { ttl: TTL, seen: RequestId(0), reclaim, home, groups: Vec::new() };
        self.tell(Input::Message(ServerMessage::Attached(attached)));
    }

    /// Whether it has left its connection since this was asked last.
    pub(crate) fn hung_up(&mut self) -> bool {
        core::mem::take(&mut self.hung_up)
    }

    /// Asks for a lock; the number of the request.
    pub(crate) fn ask_lock(&mut self, name: &[u8], mode: Mode) -> RequestId {
        self.ask_lock_for(name, mode, OwnerRef::Session)
    }

    pub(crate) fn ask_lock_for(&mut self, name: &[u8], mode: Mode, owner: OwnerRef) -> RequestId {
        let request = LockRequest {
            space: SpaceId(0),
            name,
            claim: Claim::Mode(mode),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner,
            tag: 0,
            priority: 0,
        };
        self.ask(&Op::Lock(request))
    }

    /// A lock that is granted at once, under the session's own id.
    pub(crate) fn lock(&mut self, name: &[u8], mode: Mode, token: Token) -> LockId {
        self.lock_for(name, mode, token, OwnerRef::Session)
    }

    pub(crate) fn lock_for(&mut self, name: &[u8], mode: Mode, token: Token, owner: OwnerRef) -> LockId {
        let id = self.ask_lock_for(name, mode, owner);
        self.wires += 1;
        self.reply(id, Reply::Granted(grant(LockId(self.wires), mode, token)));
        let granted = self.granted();
        let [Reply::Granted(grant)] = &granted[..] else { panic!("{granted:?}") };
        grant.lock
    }

    /// Asks for something else; the number of the request.
    pub(crate) fn ask(&mut self, op: &Op<'_>) -> RequestId {
        let id = self.session.request(self.time(), op, 3).expect("asked");
        self.pump();
        id
    }

    pub(crate) fn release(&mut self, lock: LockId, one_way: bool) {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.session.request(self.time(), &Op::Release { release, one_way }, 2).expect("asked");
        self.pump();
    }

    /// The same with a value, answered.
    pub(crate) fn release_writing(&mut self, lock: LockId, value: &[u8]) {
        let release = ReleaseRequest { lock, flags: Flags::VALBLK, value: Some(value) };
        self.session.request(self.time(), &Op::Release { release, one_way: false }, 2).expect("asked");
        self.pump();
    }

    /// The grants that were answered since this was asked last.
    pub(crate) fn granted(&mut self) -> Vec<Reply> {
        let (granted, rest) = self.answers.drain(..).partition(|reply| matches!(reply, Reply::Granted(_)));
        self.answers = rest;
        granted
    }

    /// The numbers of the claims sent, in the order of their names.
    pub(crate) fn claim_ids(&mut self) -> Vec<RequestId> {
        let claims = self.sent.drain(..).filter_map(|sent| match sent {
            Sent::Claim { id, name, .. } => Some((name, id)),
            _ => None,
        });
        let mut claims: Vec<_> = claims.collect();
        claims.sort();
        claims.into_iter().map(|(_, id)| id).collect()
    }

    pub(crate) fn pump(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => self.connecting = true,
                Output::Disconnect => self.hung_up = true,
                Output::Send(message) => {
                    if let Some(sent) = sent(&message) {
                        self.sent.push_back(sent);
                    }
                }
                Output::Answer { reply, .. } => self.answers.push(reply),
                Output::Notice(Notice::Revoked { .. }) => {}
                Output::Notice(notice) => self.notices.push(notice),
                Output::LockLost { lock, why } => self.lost.push((lock, why)),
                _ => {}
            }
        }
    }
}

fn sent(message: &ClientMessage<'_>) -> Option<Sent> {
    Some(match message {
        ClientMessage::Request { id, op: Op::Lock(lock) } => Sent::Lock { id: *id, name: lock.name.into() },
        ClientMessage::Request { op: Op::Release { release, .. }, .. } => Sent::Release { lock: release.lock },
        ClientMessage::Request { id, op: Op::GroupAttach { .. } } => Sent::Attach { id: *id },
        ClientMessage::Request { id, op: Op::Sync } => Sent::Sync { id: *id },
        ClientMessage::Reclaim { id, claim, .. } => {
            Sent::Claim { id: *id, name: claim.name.into(), token: claim.token, part: claim.part }
        }
        ClientMessage::Again { id, stood, op: Op::Lock(lock) } => {
            Sent::Again { id: *id, name: lock.name.into(), stood: *stood }
        }
        ClientMessage::Request { id, op: Op::Begin { age } } => Sent::Txn { id: *id, op: Op::Begin { age: *age } },
        ClientMessage::Request { id, op: Op::Resume(resume) } => Sent::Txn { id: *id, op: Op::Resume(*resume) },
        ClientMessage::Request { id, op: Op::Commit } => Sent::Txn { id: *id, op: Op::Commit },
        ClientMessage::Request { id, op: Op::Rollback { to } } => Sent::Txn { id: *id, op: Op::Rollback { to: *to } },
        ClientMessage::ReclaimDone => Sent::Done,
        _ => return None,
    })
}

pub(crate) fn token(epoch: u32, sequence: u64) -> Token {
    Token::new(epoch, sequence).expect("in range")
}

pub(crate) fn grant(lock: LockId, mode: Mode, token: Token) -> Grant {
    Grant { lock, claim: Claim::Mode(mode), token, value: None, demoted: false, alternative: false, seal: None }
}
