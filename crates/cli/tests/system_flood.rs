//! Whoever sends garbage, frames that are too long, half a frame, the same frames twice, opens thousands of connections
//! or never reads is refused or cut off, and nobody else notices.

mod common;

use core::time::Duration;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Instant,
};

use common::{Chance, LONG, Node, until};
use lockstead_types::{
    Flags, RequestId, SessionId, SpaceId, Span,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, Query, Wait},
    tables::built_in,
};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, FrameWriter, server_messages, split_frame};

/// How long the others may have to wait for one lock while somebody misbehaves: their lease at most. On a machine at rest
/// it is a thousandth of that.
const UNDISTURBED: Duration = Duration::from_secs(10);

/// Locks and releases over and over beside what `attack` does, by its own session, and fails where that ever takes long.
fn beside(node: &Node, attack: impl FnOnce() + Send) {
    let start = Instant::now();
    thread::scope(|scope| {
        let attacker = scope.spawn(attack);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (rounds, worst) = runtime.block_on(async {
            let client = lockstead::Client::connect(&node.tcp()).await.expect("connects");
            let (mut rounds, mut worst) = (0_u64, Duration::ZERO);
            while !attacker.is_finished() || rounds == 0 {
                let before = Instant::now();
                let guard = client.lock(format!("bystander/{rounds}")).await.expect("granted");
                guard.check().expect("held");
                guard.release().await.expect("released");
                worst = worst.max(before.elapsed());
                rounds += 1;
            }
            client.close().await.expect("never lost");
            (rounds, worst)
        });
        attacker.join().expect("no panic");
        println!("{rounds} locks beside it in {:?}, the slowest {worst:?}", start.elapsed());
        assert!(worst < UNDISTURBED, "somebody else waited {worst:?}");
    });
    let status = node.command(&["lock", "-w", "10", "after", "--", "true"]).status().expect("runs");
    assert!(status.success(), "after it: {status}");
}

fn connect(node: &Node) -> TcpStream {
    let address = node.address();
    let stream = until("a connection", LONG, || TcpStream::connect(&address).ok());
    stream.set_read_timeout(Some(LONG)).expect("set");
    stream.set_write_timeout(Some(LONG)).expect("set");
    stream
}

/// Whether the node closes the connection, whatever it may say before; not if it only says nothing.
fn is_cut(stream: &mut TcpStream) -> bool {
    let mut some = [0; 4_096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(_) => return true,
        }
    }
}

fn frame(messages: &[ClientMessage<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(1 << 20);
    for message in messages {
        writer.client(&mut bytes, message).expect("small");
    }
    writer.finish();
    bytes
}

fn open(session: u128) -> [ClientMessage<'static>; 2] {
    let meta = Meta { host: "h".into(), pid: 1, program: "flood".into(), purpose: String::new(), within: None };
    [
        ClientMessage::Hello { version: PROTOCOL_VERSION },
        ClientMessage::Open { session: SessionId(session), ttl: Span::from_secs(10), meta },
    ]
}

/// Opens a session and waits until it is open.
fn open_session(stream: &mut TcpStream, session: u128) {
    stream.write_all(&frame(&open(session))).expect("written");
    let mut bytes = Vec::new();
    let mut some = [0; 4_096];
    loop {
        while let Some((body, length)) = split_frame(&bytes, FIRST_FRAME_BYTES).expect("a frame") {
            let mut messages = server_messages(body, &DecodeLimits::CEILING);
            if messages.any(|message| matches!(message, Ok(ServerMessage::Opened { .. }))) {
                return;
            }
            bytes.drain(..length);
        }
        let length = stream.read(&mut some).expect("answered");
        assert!(length > 0, "turned away");
        bytes.extend_from_slice(&some[..length]);
    }
}

fn lock(id: u64, name: &[u8]) -> ClientMessage<'_> {
    let mode = built_in("vms").expect("built in").exclusive();
    let request = LockRequest {
        space: SpaceId(0),
        name,
        claim: Claim::Mode(mode),
        wait: Wait::Never,
        flags: Flags::NONE,
        owner: OwnerRef::Alone,
        tag: 0,
        priority: 0,
    };
    ClientMessage::Request { id: RequestId(id), op: Op::Lock(request) }
}

#[test]
fn garbage_is_cut_off() {
    let node = Node::start();
    beside(&node, || {
        let mut chance = Chance::of(7);
        for _ in 0..300 {
            let mut stream = connect(&node);
            let length = 16 + chance.below(4_000);
            let mut garbage: Vec<u8> = (0..length).map(|_| chance.below(256).to_le_bytes()[0]).collect();
            // No frame opens with this byte, so that every one of them is garbage from the start.
            garbage[0] = b'G';
            // The node may have cut it while it was being written.
            let _ = stream.write_all(&garbage);
            assert!(is_cut(&mut stream));
        }
    });
}

#[test]
fn spoilt_frames_are_cut_off() {
    let node = Node::start();
    beside(&node, || {
        let mut chance = Chance::of(11);
        let whole = frame(&[&open(1)[..], &[lock(1, b"spoilt")]].concat());
        for _ in 0..300 {
            let mut spoilt = whole.clone();
            for _ in 0..=chance.below(4) {
                let at = usize::try_from(chance.below(spoilt.len() as u64)).expect("small");
                spoilt[at] ^= 1 << chance.below(8);
            }
            let mut stream = connect(&node);
            let _ = stream.write_all(&spoilt);
            // It may by chance still be good, or be half of a longer one: the end of what we say must end it.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            assert!(is_cut(&mut stream));
        }
    });
}

#[test]
fn frames_that_claim_to_be_long_are_cut_off_before_they_come() {
    let node = Node::start();
    beside(&node, || {
        let header = frame(&[ClientMessage::Goodbye])[..4].to_vec();
        for length in [u32::MAX, 1 << 31, 1 << 24, (1 << 20) + 1] {
            let mut stream = connect(&node);
            stream.write_all(&[&header[..], &length.to_le_bytes()].concat()).expect("written");
            assert!(is_cut(&mut stream), "{length} bytes");
        }
    });
}

#[test]
fn frames_said_twice_have_one_effect() {
    let node = Node::start();
    beside(&node, || {
        let mut stream = connect(&node);
        open_session(&mut stream, 2);
        let hello = frame(&open(2));
        let request = frame(&[lock(1, b"twice")]);
        stream.write_all(&[&request[..], &request, &request].concat()).expect("written");
        let shown = until("the lock", LONG, || {
            let output = node.command(&["ls", "-o", "json"]).output().expect("runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains("twice").then_some(text)
        });
        assert!(shown.contains("\"granted\":1"), "{shown}");
        stream.write_all(&hello).expect("written");
        assert!(is_cut(&mut stream), "a second hello");
    });
}

#[test]
fn ten_thousand_idle_and_half_open_connections_disturb_nobody() {
    let count = connections_possible().min(10_000);
    println!("{count} connections");
    let node = Node::start();
    beside(&node, || {
        let half = &frame(&open(3))[..11];
        let mut streams = Vec::with_capacity(count);
        for n in 0..count {
            let mut stream = connect(&node);
            if n % 2 == 0 {
                stream.write_all(half).expect("written");
            }
            streams.push(stream);
        }
        let output = node.command(&["status"]).output().expect("runs");
        assert!(output.status.success(), "beside {count} connections: {output:?}");
        // Neither kind has said hello in time.
        for stream in streams.iter_mut().take(2) {
            assert!(is_cut(stream), "still there after {LONG:?}");
        }
    });
}

/// How many sockets this process and the node may have each, after both were allowed what the system permits.
fn connections_possible() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: allowed.maximum, maximum: allowed.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum is allowed");
    let most = allowed.maximum.unwrap_or(u64::MAX).saturating_sub(200);
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let node = Node::start();
    let names: Vec<Vec<u8>> = (0..400_u32).map(|n| [&[b'n'; 900][..], n.to_string().as_bytes()].concat()).collect();
    let mut keeper = connect(&node);
    open_session(&mut keeper, 4);
    let locks: Vec<ClientMessage<'_>> = names.iter().zip(1..).map(|(name, id)| lock(id, name)).collect();
    keeper.write_all(&frame(&locks)).expect("written");
    until("the names are locked", LONG, || {
        let output = node.command(&["status", "-o", "json"]).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).contains("\"granted\":400").then_some(())
    });
    let before = node.memory();
    beside(&node, || {
        let mut deaf = connect(&node);
        open_session(&mut deaf, 5);
        // Each answer has 400 names of 900 bytes: a gigabyte in all if somebody kept it.
        for id in 1..3_000 {
            let query = Query::Resources { space: SpaceId(0), prefix: b"", from: 0 };
            let ask = ClientMessage::Request { id: RequestId(id), op: Op::Query(query) };
            if deaf.write_all(&frame(&[ask])).is_err() {
                return;
            }
        }
        until("the cut", LONG, || deaf.write_all(&frame(&[ClientMessage::Renew { seq: 1 }])).is_err().then_some(()));
    });
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 200 << 20, "the node keeps {grown} bytes more than before");
}
