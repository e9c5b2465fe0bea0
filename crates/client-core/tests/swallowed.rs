//! A crash of the node swallows the answer to a conversion: the client claims what it holds whatever the node had done
//! ([RESTART-13]), and converts again.

use std::collections::VecDeque;

use lockstead_client_core::{Config, Input, Output, Session};
use lockstead_types::{
    Flags, LockId, Mode, NodeId, Refusal, RequestId, Seal, Sealed, SessionId, SpaceId, Span, Time, Token,
    message::{Attached, ClientMessage, PROTOCOL_VERSION, ServerMessage, Welcome},
    mode::{ModeSpec, ModeTableSpec},
    reply::{Grant, Notice, Reply, Revoked, SpaceInfo},
    report::Meta,
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, Wait},
};

const TTL: Span = Span::from_secs(10);
const NL: Mode = Mode(0);
const CR: Mode = Mode(1);
const CW: Mode = Mode(2);
const PR: Mode = Mode(3);
const PW: Mode = Mode(4);
const EX: Mode = Mode(5);

/// What the client sent, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Sent {
    Request(RequestId),
    Convert(RequestId, Mode),
    Claim(RequestId, Mode, Token),
    Done,
}

/// A session, and a node that says what the test tells it to say.
struct Rig {
    session: Session,
    now: u64,
    epoch: u32,
    sent: VecDeque<Sent>,
    /// What proved the newest claim sent.
    proof: Option<Sealed>,
    answers: Vec<Reply>,
    lost: Vec<Revoked>,
}

impl Rig {
    fn new() -> Rig {
        let config = Config {
            session: SessionId(7),
            ttl: TTL,
            meta: Meta::default(),
            rho_ppm: 10_000,
            guard: Span::ZERO,
            backlog: 8,
            seed: 1,
        };
        let session = Session::new(config, Time::from_nanos(0));
        let (sent, answers, lost) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut rig = Rig { session, now: 0, epoch: 1, sent, proof: None, answers, lost };
        rig.pump();
        rig.greet();
        rig.tell(Input::Message(ServerMessage::Opened { ttl: TTL }));
        rig
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now * 1_000_000)
    }

    fn greet(&mut self) {
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            node: NodeId(1),
            epoch: self.epoch,
            local: false,
            credit: 8,
            frame_bytes: 1 << 20,
        };
        self.tell(Input::Connected);
        self.tell(Input::Message(ServerMessage::Welcome(welcome)));
    }

    fn tell(&mut self, input: Input) {
        self.session.handle(self.time(), input);
        self.pump();
    }

    fn reply(&mut self, id: RequestId, reply: Reply) {
        self.tell(Input::Message(ServerMessage::Reply { id, reply }));
    }

    fn ask(&mut self, op: &Op<'_>) {
        self.session.request(self.time(), op, 1).expect("asked");
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(ClientMessage::Request { id, op: Op::Convert(convert) }) => {
                    self.sent.push_back(Sent::Convert(id, convert.mode));
                }
                Output::Send(ClientMessage::Request { id, .. }) => self.sent.push_back(Sent::Request(id)),
                Output::Send(ClientMessage::Reclaim { id, claim, sealed }) => {
                    self.proof = sealed;
                    let Claim::Mode(mode) = claim.held else { panic!("a mode is held") };
                    self.sent.push_back(Sent::Claim(id, mode, claim.token));
                }
                Output::Send(ClientMessage::ReclaimDone) => self.sent.push_back(Sent::Done),
                Output::Answer { reply, .. } => self.answers.push(reply),
                Output::LockLost { why, .. } => self.lost.push(why),
                Output::Notice(Notice::Revoked { .. }) => panic!("the node said no such thing"),
                _ => {}
            }
        }
    }

    fn request_sent(&mut self) -> RequestId {
        match self.sent.pop_front() {
            Some(Sent::Request(id) | Sent::Convert(id, _)) => id,
            other => panic!("a request was to be sent, not {other:?}"),
        }
    }

    /// A lock in the first mode, and a conversion that was sent.
    fn converting(&mut self, space: SpaceId, from: Mode, to: Mode, flags: Flags) -> LockId {
        self.ask(&Op::Lock(LockRequest {
            space,
            name: b"a",
            claim: Claim::Mode(from),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Session,
            tag: 0,
            priority: 0,
        }));
        let id = self.request_sent();
        self.reply(id, grant(from, token(1, 1)));
        let Some(Reply::Granted(granted)) = self.answers.pop() else { panic!("granted") };
        self.convert(granted.lock, to, flags);
        granted.lock
    }

    fn convert(&mut self, lock: LockId, mode: Mode, flags: Flags) {
        self.ask(&Op::Convert(ConvertRequest { lock, mode, wait: Wait::Forever, flags, value: None }));
    }

    /// The node comes back without the answers it may have given.
    fn crash(&mut self) {
        self.sent.clear();
        self.epoch += 1;
        self.tell(Input::Disconnected);
        self.now += 1_500;
        self.tell(Input::Tick);
        self.greet();
        let attached = Attached { ttl: TTL, seen: RequestId(0), reclaim: true, home: self.epoch, groups: Vec::new() };
        self.tell(Input::Message(ServerMessage::Attached(attached)));
    }

    /// The mode claimed; the claim is granted.
    fn claimed(&mut self) -> Mode {
        let Some(Sent::Claim(id, mode, token)) = self.sent.pop_front() else { panic!("no claim") };
        self.reply(id, grant(mode, token));
        assert_eq!(self.sent.pop_front(), Some(Sent::Done));
        mode
    }
}

fn token(epoch: u32, sequence: u64) -> Token {
    Token::new(epoch, sequence).expect("in range")
}

fn grant(mode: Mode, token: Token) -> Reply {
    let claim = Claim::Mode(mode);
    let seal = Some(seal_of(mode, token));
    Reply::Granted(Grant { lock: LockId(9), claim, token, value: None, demoted: false, alternative: false, seal })
}

/// As good as any: only nodes can tell.
fn seal_of(mode: Mode, token: Token) -> Seal {
    let mut seal = [mode.0; 16];
    seal[..8].copy_from_slice(&token.as_u64().to_le_bytes());
    Seal(seal)
}

fn sealed(mode: Mode, token: Token) -> Option<Sealed> {
    Some(Sealed { claim: Claim::Mode(mode), seal: seal_of(mode, token) })
}

fn claimed_after(from: Mode, to: Mode, flags: Flags) -> Mode {
    let mut rig = Rig::new();
    rig.converting(SpaceId(0), from, to, flags);
    rig.crash();
    rig.claimed()
}

/// Down the new mode, up the old one, sideways what both have.
#[test]
fn what_both_modes_have_is_claimed() {
    for (from, to, both) in [(EX, PR, PR), (PR, EX, PR), (PR, CW, CR), (CW, PR, CR), (PW, NL, NL), (PR, PR, PR)] {
        assert_eq!(claimed_after(from, to, Flags::NONE), both, "{from:?} to {to:?}");
    }
    assert_eq!(claimed_after(PR, EX, Flags::CONVDEADLK), NL, "it may have let go of PR");
    assert_eq!(claimed_after(CW, EX, Flags::ALTPR), CR, "it may have been given PR");
}

/// Whatever less is claimed, the proof is of what was granted last, with the token that is claimed.
#[test]
fn the_newest_grant_proves_the_claim() {
    let mut rig = Rig::new();
    rig.converting(SpaceId(0), PR, CW, Flags::NONE);
    rig.crash();
    assert_eq!(rig.proof, sealed(PR, token(1, 1)), "the grant of the conversion was never heard");
    assert_eq!(rig.claimed(), CR);
    // Now the answer to the claim is the newest.
    rig.crash();
    assert_eq!(rig.proof, sealed(CR, token(1, 1)));
    assert_eq!(rig.claimed(), CR);
    let id = rig.request_sent();
    rig.reply(id, grant(CW, token(2, 1)));
    rig.crash();
    assert_eq!(rig.proof, sealed(CW, token(2, 1)));
    assert_eq!(rig.claimed(), CW);
}

#[test]
fn the_conversion_is_asked_again() {
    let mut rig = Rig::new();
    rig.converting(SpaceId(0), PR, CW, Flags::NONE);
    rig.crash();
    assert_eq!(rig.claimed(), CR);
    let Some(Sent::Convert(id, mode)) = rig.sent.pop_front() else { panic!("asked again") };
    assert_eq!(mode, CW);
    rig.reply(id, grant(CW, token(2, 1)));
    assert!(matches!(&rig.answers[..], [Reply::Granted(g)] if g.claim == Claim::Mode(CW)), "{:?}", rig.answers);
    rig.crash();
    assert_eq!(rig.claimed(), CW, "nothing is in doubt any more");
}

/// [DEAD-12] Who asked must not believe in the old mode when the conversion is refused in the end.
#[test]
fn a_refusal_says_what_is_left() {
    for (why, reply) in [(Some(Refusal::Timeout), Reply::Refused(Refusal::Timeout)), (None, Reply::Cancelled)] {
        let mut rig = Rig::new();
        let lock = rig.converting(SpaceId(0), PR, CW, Flags::NONE);
        rig.crash();
        rig.claimed();
        let id = rig.request_sent();
        rig.reply(id, reply.clone());
        assert_eq!(rig.answers, [Reply::Demoted { held: Claim::Mode(CR), why }]);
        rig.convert(lock, PR, Flags::NONE);
        let id = rig.request_sent();
        rig.reply(id, reply.clone());
        assert_eq!(rig.answers[1], reply, "said once");
    }
}

#[test]
fn an_old_mode_that_is_left_is_refused_as_ever() {
    let mut rig = Rig::new();
    rig.converting(SpaceId(0), PR, EX, Flags::NONE);
    rig.crash();
    rig.claimed();
    let id = rig.request_sent();
    rig.reply(id, Reply::Refused(Refusal::Timeout));
    assert_eq!(rig.answers, [Reply::Refused(Refusal::Timeout)]);
}

/// What the node never saw cannot have changed anything.
#[test]
fn a_conversion_that_was_not_sent_leaves_no_doubt() {
    let mut rig = Rig::new();
    let lock = rig.converting(SpaceId(0), EX, EX, Flags::NONE);
    let id = rig.request_sent();
    rig.reply(id, grant(EX, token(1, 1)));
    rig.tell(Input::Disconnected);
    rig.convert(lock, NL, Flags::NONE);
    rig.crash();
    assert_eq!(rig.claimed(), EX);
    assert!(matches!(rig.sent.pop_front(), Some(Sent::Convert(_, NL))));
}

/// Of several crashes each may have swallowed one.
#[test]
fn doubt_adds_up() {
    let mut rig = Rig::new();
    let lock = rig.converting(SpaceId(0), PW, PR, Flags::NONE);
    rig.convert(lock, CW, Flags::NONE);
    rig.crash();
    assert_eq!(rig.claimed(), CR, "granted PR, then CW");
    rig.crash();
    assert_eq!(rig.claimed(), CR);
}

/// Two modes that exclude different things, and none that is weaker than both.
#[test]
fn without_a_common_mode_nothing_is_claimed() {
    let mut rig = Rig::new();
    let mode = |name: &str| ModeSpec { name: name.into(), aliases: Vec::new(), writes: false, intent: None };
    let modes = ModeTableSpec {
        name: "sides".into(),
        modes: vec![mode("L"), mode("R")],
        relation: vec!["-+".into(), "+-".into()],
        shortcuts: ["L".into(), "L".into(), "R".into()],
    };
    rig.ask(&Op::SpaceOpen { name: "sides" });
    let id = rig.request_sent();
    rig.reply(id, Reply::Space(Box::new(SpaceInfo { space: SpaceId(3), modes, value_bytes: 64, hierarchy: None })));
    rig.answers.clear();
    rig.converting(SpaceId(3), Mode(0), Mode(1), Flags::NONE);
    rig.crash();
    assert_eq!(rig.sent.pop_front(), Some(Sent::Done));
    assert_eq!(rig.lost, [Revoked::Superseded]);
    assert_eq!(rig.answers, [Reply::Refused(Refusal::NotHeld)]);
}
