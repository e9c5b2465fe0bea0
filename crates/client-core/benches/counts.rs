//! The instructions of single requests through a client's session, without sockets, for callgrind: `--cases` prints what
//! there is, `CASE N` sets up and then runs it N times. `cargo xtask bench` takes the difference of two runs.

use core::hint::black_box;
use std::{collections::VecDeque, process::ExitCode};

use lockstead_client_core::{Config, Input, Output, Session};
use lockstead_types::{
    Flags, LockId, Mode, NodeId, RequestId, SessionId, SpaceId, Span, Time, Token,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage, Welcome},
    reply::{Grant, Reply},
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};

/// How many locks are asked for before the first is answered, and whether releases are one-way.
const CASES: &[(&str, usize, bool)] = &[
    ("lock+one-way release, one at once", 1, true),
    ("lock+release, one at once", 1, false),
    ("lock+one-way release, 64 at once", 64, true),
    ("lock+release, 64 at once", 64, false),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [name, times] => {
            let case = CASES.iter().find(|(known, ..)| known == name);
            let (Some((_, depth, one_way)), Ok(times)) = (case, times.parse::<usize>()) else {
                eprintln!("no such case, or no number: {name} {times}");
                return ExitCode::FAILURE;
            };
            let mut run = Run::new();
            for _ in 0..times / depth {
                run.round(*depth, *one_way);
            }
        }
        _ => CASES.iter().for_each(|(name, ..)| println!("{name}")),
    }
    ExitCode::SUCCESS
}

struct Run {
    session: Session,
    locks: u64,
    sent: VecDeque<RequestId>,
    granted: Vec<LockId>,
}

impl Run {
    fn new() -> Run {
        let config = Config {
            session: SessionId(7),
            ttl: Span::from_secs(60),
            meta: Meta::default(),
            rho_ppm: 10_000,
            guard: Span::ZERO,
            backlog: 1_000,
            seed: 1,
        };
        let session = Session::new(config, Time::ZERO);
        let mut run = Run { session, locks: 0, sent: VecDeque::new(), granted: Vec::new() };
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            node: NodeId(1),
            epoch: 1,
            local: true,
            credit: 4_096,
            frame_bytes: 1 << 20,
        };
        run.pump();
        run.tell(Input::Connected);
        run.tell(Input::Message(ServerMessage::Welcome(welcome)));
        run.tell(Input::Message(ServerMessage::Opened { ttl: Span::from_secs(60) }));
        run
    }

    fn round(&mut self, depth: usize, one_way: bool) {
        for _ in 0..depth {
            self.ask(&Op::Lock(LockRequest {
                space: SpaceId(0),
                name: b"orders/page:5/row:17",
                claim: Claim::Mode(Mode(5)),
                wait: Wait::Forever,
                flags: Flags::NONE,
                owner: OwnerRef::Alone,
                tag: 0,
                priority: 0,
            }));
        }
        while let Some(id) = self.sent.pop_front() {
            self.locks += 1;
            let token = Token::new(1, self.locks).expect("in range");
            let grant = Grant {
                lock: LockId(self.locks),
                claim: Claim::Mode(Mode(5)),
                token,
                value: None,
                demoted: false,
                alternative: false,
                seal: None,
            };
            self.reply(id, Reply::Granted(grant));
        }
        while let Some(lock) = self.granted.pop() {
            let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
            self.ask(&Op::Release { release, one_way });
        }
        while let Some(id) = self.sent.pop_front() {
            if !one_way {
                self.reply(id, Reply::Released);
            }
        }
    }

    fn ask(&mut self, op: &Op<'_>) {
        self.session.request(Time::ZERO, black_box(op), 1).expect("asked");
        self.pump();
    }

    fn reply(&mut self, id: RequestId, reply: Reply) {
        self.tell(Input::Message(ServerMessage::Reply { id, reply }));
    }

    fn tell(&mut self, input: Input) {
        self.session.handle(Time::ZERO, black_box(input));
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match black_box(output) {
                Output::Send(ClientMessage::Request { id, .. }) => self.sent.push_back(id),
                Output::Answer { reply: Reply::Granted(grant), .. } => self.granted.push(grant.lock),
                _ => {}
            }
        }
    }
}
