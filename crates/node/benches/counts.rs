//! The instructions of single requests through a node, without sockets, for callgrind: `--cases` prints what there is,
//! `CASE N` sets up and then runs it N times. `cargo xtask bench` takes the difference of two runs.

use core::hint::black_box;
use std::process::ExitCode;

use lockstead_node::{Input, Node, NodeConfig, Output, Principal};
use lockstead_types::{
    ConnId, Flags, Limits, LockId, Mode, NodeId, RequestId, SessionId, SpaceId, Span, Time,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    reply::Reply,
    report::Meta,
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};

const PR: Mode = Mode(3);
const EX: Mode = Mode(5);
const CONN: ConnId = ConnId(1);
/// As often as a client that reads many answers at once says how many it has.
const ACK_EVERY: u64 = 64;

type Case = fn(&mut Run, u64);

const CASES: &[(&str, Case)] = &[
    ("lock+one-way release, one name", one_name),
    ("lock+release, both answered", both_answered),
    ("convert up and down, alone", conversions),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [name, times] => {
            let case = CASES.iter().find(|(known, _)| known == name);
            let (Some((_, case)), Ok(times)) = (case, times.parse()) else {
                eprintln!("no such case, or no number: {name} {times}");
                return ExitCode::FAILURE;
            };
            case(&mut Run::new(), times);
        }
        _ => CASES.iter().for_each(|(name, _)| println!("{name}")),
    }
    ExitCode::SUCCESS
}

struct Run {
    node: Node,
    newest: u64,
    answers: u64,
}

impl Run {
    fn new() -> Run {
        let limits = Limits { in_flight: u32::MAX, ..Limits::default() };
        let config = NodeConfig {
            node: NodeId(1),
            epoch: 1,
            limits,
            hash_seed: 7,
            version: String::new(),
            spaces: Vec::new(),
            recorded: Vec::new(),
            ttl_max_recorded: Span::ZERO,
            durable: false,
            member: None,
        };
        let mut run = Run { node: Node::new(config, Time::ZERO), newest: 0, answers: 0 };
        let principal = Principal::Local { uid: 1, gid: 1, pid: 1 };
        run.node.handle(Time::ZERO, Input::Connected { conn: CONN, local: true, principal });
        run.say(ClientMessage::Hello { version: PROTOCOL_VERSION });
        run.say(ClientMessage::Open { session: SessionId(1), ttl: Span::from_secs(60), meta: Meta::default() });
        while run.node.poll_output().is_some() {}
        // The first lock makes room that later ones find.
        let lock = run.lock(b"first", EX);
        run.release(lock, true);
        run
    }

    fn say(&mut self, message: ClientMessage<'_>) {
        self.node.handle(Time::ZERO, Input::Message { conn: CONN, message: black_box(message) });
    }

    fn ask(&mut self, op: Op<'_>) -> Option<Reply> {
        self.newest += 1;
        self.say(ClientMessage::Request { id: RequestId(self.newest), op });
        let mut answer = None;
        while let Some(output) = self.node.poll_output() {
            if let Output::Send { message: ServerMessage::Reply { reply, .. }, .. } = output {
                self.answers += 1;
                answer = Some(reply);
            }
        }
        if self.answers.is_multiple_of(ACK_EVERY) {
            self.say(ClientMessage::Ack { answers: self.answers });
        }
        answer
    }

    fn lock(&mut self, name: &[u8], mode: Mode) -> LockId {
        let request = LockRequest {
            space: SpaceId(0),
            name,
            claim: Claim::Mode(mode),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
        };
        match self.ask(Op::Lock(request)) {
            Some(Reply::Granted(grant)) => grant.lock,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, lock: LockId, one_way: bool) {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        black_box(self.ask(Op::Release { release, one_way }));
    }

    fn convert(&mut self, lock: LockId, mode: Mode) {
        let request = ConvertRequest { lock, mode, wait: Wait::Forever, flags: Flags::NONE, value: None };
        black_box(self.ask(Op::Convert(request)));
    }
}

fn one_name(run: &mut Run, times: u64) {
    for _ in 0..times {
        let lock = run.lock(b"orders/page:5/row:17", EX);
        run.release(lock, true);
    }
}

fn both_answered(run: &mut Run, times: u64) {
    for _ in 0..times {
        let lock = run.lock(b"orders/page:5/row:17", EX);
        run.release(lock, false);
    }
}

fn conversions(run: &mut Run, times: u64) {
    let lock = run.lock(b"orders", PR);
    for _ in 0..times {
        run.convert(lock, EX);
        run.convert(lock, PR);
    }
}
