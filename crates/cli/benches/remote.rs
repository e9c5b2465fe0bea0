//! A lock whose master is another node than the client's, on three nodes over loopback: what the second hop costs, beside a
//! lock of the client's own node and beside the bare hops.
//!
//! The nodes are processes (`lockstead dev --nodes 3`), and so are the two that only pass bytes on: client, relay, echo, over
//! the same kind of socket. The three are measured by turns within one run, so that what else the machine does is the same for
//! all. `cargo bench -p lockstead-cli --bench remote -- [ROUNDS] [SECONDS]`

use core::time::Duration;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Instant,
};

use hdrhistogram::Histogram;
use lockstead_types::{
    Flags, LockId, Mode, NodeId, RequestId, SessionId, SpaceId, Span,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    reply::Reply,
    report::{Meta, Report},
    request::{Claim, LockRequest, Op, OwnerRef, Query, ReleaseRequest, Wait},
};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, FrameWriter, server_messages, split_frame};

/// Ops of one kind before the next kind's turn.
const TURN: usize = 100;
const INFLIGHT: usize = 64;
/// About as long as a lock request and its answer are on the wire.
const BALL: usize = 80;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["echo"] => pass_on(None),
        ["relay", to] => pass_on(Some(to)),
        numbers => {
            let mut numbers = numbers.iter().filter_map(|n| n.parse::<u64>().ok());
            measure(numbers.next().unwrap_or(50) as usize, Duration::from_secs(numbers.next().unwrap_or(3)));
        }
    }
}

fn measure(rounds: usize, span: Duration) {
    let nodes = Nodes::start();
    let mut client = Client::open(&nodes.clients[0]);
    let (remote, local) = (client.names_of(NodeId(2)), client.names_of(NodeId(1)));
    let echo = Hop::start(&["echo"]);
    let relay = Hop::start(&["relay", &echo.address]);
    let mut bare = connect(&relay.address);
    let mut times: [Histogram<u64>; 5] = core::array::from_fn(|_| blank());
    for round in 0..rounds + 5 {
        // The first few are for warming up.
        let times = if round < 5 { &mut core::array::from_fn(|_| blank()) } else { &mut times };
        let [balls, lock, unlock, lock_here, unlock_here] = times;
        for _ in 0..TURN {
            let started = Instant::now();
            bare.write_all(&[1; BALL]).expect("sent");
            bare.read_exact(&mut [0; BALL]).expect("the ball");
            note(balls, started);
        }
        client.pairs(&remote, lock, unlock);
        client.pairs(&local, lock_here, unlock_here);
    }
    let names = [
        "bare ping-pong of two hops",
        "remote lock",
        "remote unlock, acknowledged",
        "local lock",
        "local unlock, acknowledged",
    ];
    for (name, times) in names.iter().zip(&times) {
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
        println!("{{\"what\":\"{name}\",\"n\":{},\"p50_us\":{:.1},\"p99_us\":{:.1}}}", times.len(), at(0.5), at(0.99));
    }
    for (what, names) in [("remote", &remote), ("local", &local)] {
        client.flood(&nodes, what, names, span);
    }
}

/// Up to a minute, in nanoseconds.
fn blank() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("three digits")
}

fn note(times: &mut Histogram<u64>, started: Instant) {
    times.saturating_record(started.elapsed().as_nanos() as u64);
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("no delay");
    stream
}

// ------------------------------------------------------------ the bare hops

/// Passes what comes on and what comes back, back; without `to` it is what comes back.
fn pass_on(to: Option<&str>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let mut next = to.map(connect);
    let (mut from, _) = listener.accept().expect("somebody");
    from.set_nodelay(true).expect("no delay");
    let mut ball = [0; BALL];
    while from.read_exact(&mut ball).is_ok() {
        if let Some(next) = &mut next {
            next.write_all(&ball).expect("sent");
            next.read_exact(&mut ball).expect("the ball");
        }
        from.write_all(&ball).expect("sent");
    }
}

struct Hop {
    child: Child,
    address: String,
}

impl Hop {
    fn start(args: &[&str]) -> Hop {
        let us = std::env::current_exe().expect("this program");
        let mut child = Command::new(us).args(args).stdout(Stdio::piped()).spawn().expect("started");
        let mut address = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut address).expect("its address");
        Hop { child, address: address.trim().to_owned() }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ------------------------------------------------------------ the nodes

struct Nodes {
    dev: Child,
    pids: Vec<u32>,
    clients: Vec<String>,
    admins: Vec<String>,
}

impl Nodes {
    fn start() -> Nodes {
        let mut dev = Command::new(env!("CARGO_BIN_EXE_lockstead"))
            .args(["dev", "--nodes", "3", "--port", "auto"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("lockstead dev");
        let out = BufReader::new(dev.stdout.take().expect("its output"));
        let (mut pids, mut clients, mut admins) = (Vec::new(), Vec::new(), Vec::new());
        for line in out.lines() {
            let line = line.expect("a line");
            let words: Vec<&str> = line.split(' ').collect();
            if let ["node", _, "pid", pid, "client", client, "admin", admin] = words[..] {
                pids.push(pid.parse().expect("a number"));
                clients.push(client.to_owned());
                admins.push(admin.trim_start_matches("http://").trim_end_matches('/').to_owned());
            } else if line == "ready" {
                break;
            }
        }
        assert_eq!(pids.len(), 3, "three nodes");
        // A node turns clients away until it has its first authority; this client waits for it.
        let mut lock = Command::new(env!("CARGO_BIN_EXE_lockstead"));
        lock.args(["lock", "--endpoints", &format!("tcp://{}", clients[0]), "first", "--", "true"]);
        assert!(lock.status().expect("lockstead lock").success());
        Nodes { dev, pids, clients, admins }
    }

    /// Messages and writes of a node since its start, and microseconds of processor time.
    fn spent(&self, node: usize) -> [f64; 3] {
        let mut stream = connect(&self.admins[node]);
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").expect("asked");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let count = |name: &str| {
            let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the counter")
        };
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pids[node])).expect("its times");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let ticks: f64 = fields[12].parse::<f64>().expect("user") + fields[13].parse::<f64>().expect("system");
        [count("lockstead_messages_total"), count("lockstead_writes_total"), ticks * 10_000.0]
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.dev);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.dev.wait();
    }
}

// ------------------------------------------------------------ the client

struct Client {
    stream: TcpStream,
    writer: FrameWriter,
    out: Vec<u8>,
    input: Vec<u8>,
    filled: usize,
    next: u64,
    answers: u64,
    said: u64,
}

impl Client {
    fn open(address: &str) -> Client {
        let mut client = Client {
            stream: connect(address),
            writer: FrameWriter::new(FIRST_FRAME_BYTES),
            out: Vec::new(),
            input: vec![0; 256 * 1_024],
            filled: 0,
            next: 1,
            answers: 0,
            said: 0,
        };
        let session = SessionId(u128::from(std::process::id()) << 64 | 7);
        client.say(&ClientMessage::Hello { version: PROTOCOL_VERSION });
        client.say(&ClientMessage::Open { session, ttl: Span::from_secs(600), meta: Meta::default() });
        client.send();
        loop {
            for message in client.receive() {
                match message {
                    ServerMessage::Opened { .. } => return client,
                    ServerMessage::Rejected { why } => panic!("rejected: {why:?}"),
                    _ => {}
                }
            }
        }
    }

    fn say(&mut self, message: &ClientMessage<'_>) {
        self.said += 1;
        self.writer.client(&mut self.out, message).expect("fits");
    }

    fn ask(&mut self, op: Op<'_>) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.say(&ClientMessage::Request { id, op });
        id
    }

    fn lock(&mut self, name: &[u8]) -> RequestId {
        self.ask(Op::Lock(LockRequest {
            space: SpaceId(0),
            name,
            claim: Claim::Mode(Mode(5)),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
        }))
    }

    fn release(&mut self, lock: LockId, one_way: bool) -> RequestId {
        self.ask(Op::Release { release: ReleaseRequest { lock, flags: Flags::NONE, value: None }, one_way })
    }

    fn send(&mut self) {
        self.writer.finish();
        self.stream.write_all(&self.out).expect("sent");
        self.out.clear();
    }

    /// What comes next, at least one message or a part of one.
    fn receive(&mut self) -> Vec<ServerMessage> {
        let read = self.stream.read(&mut self.input[self.filled..]).expect("an answer");
        assert!(read > 0, "the node closed the connection");
        self.filled += read;
        let (mut at, mut all) = (0, Vec::new());
        while let Some((body, used)) = split_frame(&self.input[at..self.filled], FIRST_FRAME_BYTES).expect("a frame") {
            all.extend(server_messages(body, &DecodeLimits::CEILING).map(|message| message.expect("a message")));
            at += used;
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.answers += all.iter().filter(|m| matches!(m, ServerMessage::Reply { .. })).count() as u64;
        all
    }

    fn answer(&mut self) -> Reply {
        self.send();
        loop {
            for message in self.receive() {
                if let ServerMessage::Reply { reply, .. } = message {
                    self.say(&ClientMessage::Ack { answers: self.answers });
                    return reply;
                }
            }
        }
    }

    /// Names that a node is master of.
    fn names_of(&mut self, node: NodeId) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for n in 0_u32.. {
            let name = format!("orders/{n:08}").into_bytes();
            self.lock(&name);
            let Reply::Granted(grant) = self.answer() else { panic!("not granted") };
            self.ask(Op::Query(Query::Resource { space: SpaceId(0), name: &name }));
            let Reply::Report(report) = self.answer() else { panic!("no report") };
            self.release(grant.lock, false);
            self.answer();
            let Report::Resource(Some(detail)) = *report else { panic!("no such resource") };
            found.extend((detail.master == node).then_some(name));
            if found.len() == 512 {
                break;
            }
        }
        found
    }

    /// One after the other.
    fn pairs(&mut self, names: &[Vec<u8>], locks: &mut Histogram<u64>, unlocks: &mut Histogram<u64>) {
        for name in &names[..TURN] {
            let started = Instant::now();
            self.lock(name);
            let Reply::Granted(grant) = self.answer() else { panic!("not granted") };
            note(locks, started);
            let started = Instant::now();
            self.release(grant.lock, false);
            assert_eq!(self.answer(), Reply::Released);
            note(unlocks, started);
        }
    }

    /// Many at once, released one way.
    fn flood(&mut self, nodes: &Nodes, what: &str, names: &[Vec<u8>], span: Duration) {
        let before = [nodes.spent(0), nodes.spent(1)];
        let (said, started) = (self.said, Instant::now());
        let (mut cycles, mut waiting) = (0_u64, 0);
        for name in &names[..INFLIGHT] {
            self.lock(name);
            waiting += 1;
        }
        while waiting > 0 {
            self.send();
            for message in self.receive() {
                let ServerMessage::Reply { reply: Reply::Granted(grant), .. } = message else { continue };
                self.release(grant.lock, true);
                (cycles, waiting) = (cycles + 1, waiting - 1);
                if started.elapsed() < span {
                    self.lock(&names[(cycles as usize + INFLIGHT) % names.len()]);
                    waiting += 1;
                }
            }
            self.say(&ClientMessage::Ack { answers: self.answers });
        }
        self.send();
        let took = started.elapsed().as_secs_f64();
        let [home, master] = [0, 1].map(|node| {
            let after = nodes.spent(node);
            core::array::from_fn::<f64, 3, _>(|n| (after[n] - before[node][n]) / cycles as f64)
        });
        let own = (self.said - said) as f64 / cycles as f64;
        println!(
            "{{\"what\":\"{what}, {INFLIGHT} in flight\",\"cycles_per_s\":{:.0},\"messages_between_nodes_per_cycle\":{:.2},\
             \"home_writes_per_cycle\":{:.3},\"master_writes_per_cycle\":{:.3},\"home_cpu_us_per_cycle\":{:.2},\
             \"master_cpu_us_per_cycle\":{:.2}}}",
            cycles as f64 / took,
            home[0] - own + master[0],
            home[1],
            master[1],
            home[2],
            master[2],
        );
    }
}
