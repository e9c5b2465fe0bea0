//! Any message at any moment: the node refuses, turns away or serves, and stays whole.

use lockstead_node::{Input, NodeConfig, Principal};
use lockstead_types::{
    ConnId, Flags, GroupId, Limits, LockId, Mode, RequestId, SessionId, SpaceId, Span, Time, Token,
    message::{ClientMessage, Rejection, ServerMessage},
    reply::{Notice, Reply},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, Query, ReleaseRequest, Target, Wait},
    space::{ModeChoice, QueuePolicy, SpaceSpec},
};

use crate::rig::*;

const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b""];

struct Chaos {
    rng: u64,
    conns: u64,
    /// Requests of each connection so far.
    asked: Vec<u64>,
    locks: Vec<LockId>,
    tokens: Vec<Token>,
    groups: Vec<GroupId>,
    spaces: Vec<SpaceId>,
}

impl Chaos {
    fn pick(&mut self, below: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        self.rng % below
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.pick(of.len() as u64) as usize]
    }

    fn lock(&mut self) -> LockId {
        let locks = self.locks.clone();
        let recent = &locks[locks.len().saturating_sub(12)..];
        self.one(recent)
    }

    fn space(&mut self) -> SpaceId {
        if self.pick(4) > 0 {
            return SpaceId(0);
        }
        let spaces = self.spaces.clone();
        self.one(&spaces)
    }

    fn flags(&mut self) -> Flags {
        match self.pick(4) {
            0 => Flags(1 << self.pick(18)),
            1 => Flags::VALBLK,
            _ => Flags::NONE,
        }
    }

    fn wait(&mut self) -> Wait {
        self.one(&[Wait::Never, Wait::For(Span::ZERO), Wait::For(Span::from_secs(1)), Wait::Forever, Wait::Forever])
    }

    fn request(&mut self) -> LockRequest<'static> {
        let groups = self.groups.clone();
        let owner = match self.pick(5) {
            0 => OwnerRef::Session,
            1 => OwnerRef::Alone,
            _ => OwnerRef::Group(self.one(&groups[groups.len().saturating_sub(4)..])),
        };
        let claim = match self.pick(6) {
            0 => Claim::Permits { take: self.pick(4) as u32, of: 3 },
            _ => Claim::Mode(Mode(self.pick(7) as u8)),
        };
        LockRequest {
            space: self.space(),
            name: self.one(&NAMES),
            claim,
            wait: self.wait(),
            flags: self.flags(),
            owner,
            tag: self.pick(2) as u32,
            priority: 0,
        }
    }

    fn op(&mut self) -> Op<'static> {
        match self.pick(40) {
            0..=11 => Op::Lock(self.request()),
            12..=15 => {
                let count = self.pick(4);
                let parts = (0..count).map(|_| LockRequest { owner: OwnerRef::Session, ..self.request() });
                Op::LockMany(parts.collect())
            }
            16..=20 => Op::Convert(ConvertRequest {
                lock: self.lock(),
                mode: Mode(self.pick(7) as u8),
                wait: self.wait(),
                flags: self.flags(),
                value: None,
            }),
            21..=25 => {
                let value = self.one(&[None, None, Some(&b"v"[..])]);
                let release = ReleaseRequest { lock: self.lock(), flags: self.flags(), value };
                Op::Release { release, one_way: self.pick(2) == 0 }
            }
            26..=27 => Op::Cancel(Target::Request(RequestId(self.pick(60)))),
            28 => Op::Cancel(Target::Lock(self.lock())),
            29 => Op::ReadValue(self.lock()),
            30..=31 => Op::GroupAttach { name: self.one(&NAMES) },
            32 => {
                let groups = self.groups.clone();
                Op::GroupDetach(self.one(&groups))
            }
            33 => Op::SpaceCreate(Box::new(SpaceSpec {
                modes: ModeChoice::BuiltIn(self.one(&["vms", "rw", "granular"]).into()),
                policy: self.one(&[QueuePolicy::Vms, QueuePolicy::FAIR]),
                ..SpaceSpec::named(self.one(&["s", "t"]))
            })),
            34 => Op::SpaceDrop { name: self.one(&["s", "t"]), force: self.pick(2) == 0 },
            35 => Op::Purge { space: self.space(), session: None },
            36 => {
                let tokens = self.tokens.clone();
                let token = self.one(&tokens[tokens.len().saturating_sub(12)..]);
                Op::ForceRelease { space: self.space(), name: self.one(&NAMES), token, reason: "test" }
            }
            37 => Op::EndSession { session: SessionId(u128::from(self.pick(12))), reason: "test" },
            38 => Op::Query(self.query()),
            _ if self.pick(2) == 0 => Op::Unwatch,
            _ => Op::Watch { space: self.space(), prefix: self.one(&NAMES) },
        }
    }

    fn query(&mut self) -> Query<'static> {
        let space = self.space();
        let name = self.one(&NAMES);
        self.one(&[
            Query::Resources { space, prefix: name, from: 0 },
            Query::Resource { space, name },
            Query::Waits,
            Query::Sessions { after: None },
            Query::Deadlocks,
            Query::Status,
            Query::Spaces,
        ])
    }

    fn message(&mut self, conn: ConnId) -> ClientMessage<'static> {
        let session = SessionId(u128::from(self.pick(12)));
        let name = core::str::from_utf8(self.one(&NAMES)).expect("ascii");
        match self.pick(100) {
            0 => ClientMessage::Goodbye,
            1..=3 => attach(session, self.pick(4)),
            4..=5 => open(session),
            6 => ClientMessage::ReclaimDone,
            7..=9 => {
                let token = Token::new(self.pick(4) as u32, self.pick(9)).expect("in range");
                let claim = reclaim(name, Claim::Mode(Mode(self.pick(7) as u8)), token, LockId(self.pick(5)));
                let group = self.one(&[None, None, Some(&b"a"[..])]);
                let claim = lockstead_types::message::Reclaim { group, ..claim };
                ClientMessage::Reclaim { id: RequestId(1), claim, sealed: None }
            }
            10 => ClientMessage::Ack { answers: self.pick(100) },
            11..=14 => ClientMessage::Renew { seq: 1 },
            15 => ClientMessage::Request { id: RequestId(self.pick(50)), op: Op::Sync },
            _ => {
                let asked = &mut self.asked[conn.0 as usize];
                *asked += 1;
                let id = RequestId(*asked);
                ClientMessage::Request { id, op: self.op() }
            }
        }
    }

    fn learn(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Reply { reply: Reply::Granted(grant), .. } => {
                self.locks.push(grant.lock);
                self.tokens.push(grant.token);
            }
            ServerMessage::Reply { reply: Reply::Queued(queued), .. } => self.locks.push(queued.lock),
            ServerMessage::Notice(Notice::Blocking { lock, .. }) => self.locks.push(*lock),
            ServerMessage::Reply { reply: Reply::Group(group), .. } => self.groups.push(*group),
            ServerMessage::Reply { reply: Reply::Space(info), .. } => self.spaces.push(info.space),
            _ => {}
        }
    }
}

/// One node under everything for a while. Returns how many requests were answered.
fn run(seed: u64) -> usize {
    let limits = Limits { in_flight: 200, watches: 3, groups: 3, members_per_group: 4, spaces: 3, ..Limits::default() };
    let recorded = (0..3).map(|id| recorded(id, id == 0)).collect();
    let mut rig = Rig::with(NodeConfig { epoch: 2, limits, recorded, ..config() });
    let mut chaos = Chaos {
        rng: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        conns: 0,
        asked: vec![0],
        locks: vec![LockId(1)],
        tokens: vec![Token::NONE],
        groups: vec![GroupId(1)],
        spaces: vec![SpaceId(0)],
    };
    let mut answers = 0;
    for _ in 0..1_500 {
        rig.now = Time::from_nanos(rig.now.as_nanos() + chaos.pick(100_000_000));
        let input = match chaos.pick(40) {
            0..=2 => {
                chaos.conns += 1;
                chaos.asked.push(0);
                let (conn, session) = (ConnId(chaos.conns), SessionId(u128::from(chaos.pick(12))));
                let local = chaos.pick(2) == 0;
                let principal = if local { user(1000) } else { address(1) };
                rig.handle(Input::Connected { conn, local, principal });
                rig.say(conn, ClientMessage::Hello { version: 1 });
                Input::Message { conn, message: open(session) }
            }
            3 => Input::Disconnected { conn: ConnId(chaos.pick(chaos.conns + 1)) },
            4 => Input::Cut { conn: ConnId(chaos.pick(chaos.conns + 1)), why: Rejection::SlowReader },
            5..=8 => Input::Tick,
            _ => {
                let conn = ConnId(chaos.conns.saturating_sub(chaos.pick(8)));
                Input::Message { conn, message: chaos.message(conn) }
            }
        };
        for message in sent(&rig.handle(input)) {
            answers += usize::from(matches!(message, ServerMessage::Reply { .. }));
            chaos.learn(&message);
        }
    }
    // Everybody goes: nothing but orphans may be left.
    for conn in 0..=chaos.conns {
        rig.handle(Input::Disconnected { conn: ConnId(conn) });
    }
    rig.advance(Span::from_secs(100));
    let status = rig.node.status(rig.now);
    assert_eq!((status.sessions, status.groups, status.waiting, status.converting), (0, 0, 0, 0), "seed {seed}");
    assert_eq!(status.granted, status.orphans, "seed {seed}");
    answers
}

#[test]
fn random_messages_never_break_the_node() {
    let seeds = std::env::var("LOCKSTEAD_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(25);
    let answers: usize = (1..=seeds).map(run).sum();
    assert!(answers as u64 > seeds * 300, "hardly anything was served: {answers}");
}

#[test]
fn an_embedded_principal_is_a_principal_like_others() {
    let mut rig = Rig::new();
    let (conn, _) = rig.connect(true, Principal::Embedded);
    rig.say(conn, ClientMessage::Hello { version: 1 });
    assert_eq!(sent(&rig.say(conn, open(SessionId(1)))), [ServerMessage::Opened { ttl: TTL }]);
    let other = rig.greet(true);
    assert_eq!(rig.say(other, attach(SessionId(1), 0)), rejected(other, Rejection::Denied));
}
