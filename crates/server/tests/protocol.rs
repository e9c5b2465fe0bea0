//! Clients that behave and clients that do not, over real sockets.

mod common;

use common::{EX, Peer, TTL, config, frame, lock_op, start, tcp};
use lockstead_server::ServerConfig;
use lockstead_types::{
    Limits, RequestId, Span,
    message::{ClientMessage, PROTOCOL_VERSION, Rejection, ServerMessage},
    reply::Reply,
    request::{Op, Wait},
};

#[test]
fn lock_and_release_over_both_kinds_of_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("run/1.sock");
    let server = start(ServerConfig { client_unix: Some(socket.clone()), ..config() });
    let mut remote = tcp(&server);
    assert!(!remote.hello().local);
    let mut remote = tcp(&server).open(1, TTL);
    let mut probe = Peer::unix(&socket);
    assert!(probe.hello().local);
    let mut local = Peer::unix(&socket).open(2, TTL);
    let first = remote.lock("orders", EX);
    let waiting = local.request(lock_op("orders", EX, Wait::Forever));
    assert!(matches!(local.reply(waiting), Reply::Queued(_)));
    remote.release(first.lock);
    let Reply::Granted(second) = local.reply(waiting) else { panic!("granted to the one that waited") };
    assert!(second.token > first.token);
    remote.send(&[ClientMessage::Goodbye]);
    assert_eq!(remote.recv(), ServerMessage::Bye);
    assert_eq!(remote.try_recv(), None, "closed after the goodbye");
    server.stop().expect("stops");
    assert!(!socket.exists(), "a stopped server removes its socket");
}

#[test]
fn a_pipelined_batch_is_answered_in_one_frame() {
    let server = start(config());
    let mut peer = tcp(&server).open(1, TTL);
    let names: Vec<String> = (0..200).map(|i| format!("name {i}")).collect();
    let request = |(i, name)| {
        let name: &String = name;
        ClientMessage::Request { id: RequestId(i as u64 + 1), op: lock_op(name, EX, Wait::Never) }
    };
    peer.frames.clear();
    peer.send(&names.iter().enumerate().map(request).collect::<Vec<_>>());
    for i in 0..200 {
        match peer.recv() {
            ServerMessage::Reply { id, reply: Reply::Granted(_) } => assert_eq!(id.0, i + 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(peer.frames, [200]);
}

#[test]
fn what_the_protocol_does_not_allow_is_refused_and_hurts_nobody_else() {
    let server = start(config());
    let mut good = tcp(&server).open(1, TTL);
    let mut expect = |what: &str, bytes: &[u8], why: Rejection| {
        let mut bad = tcp(&server);
        bad.send_bytes(bytes);
        assert_eq!(bad.rejected(), Some(why), "{what}");
        let held = good.lock("still served", EX);
        good.release(held.lock);
    };
    let hello = ClientMessage::Hello { version: PROTOCOL_VERSION };
    let sync = ClientMessage::Request { id: RequestId(1), op: Op::Sync };
    expect("garbage", &[0x55; 100], Rejection::Protocol);
    expect("a request before hello", &frame(core::slice::from_ref(&sync)), Rejection::Protocol);
    expect("a request without a session", &frame(&[hello.clone(), sync]), Rejection::Protocol);
    expect("no common version", &frame(&[ClientMessage::Hello { version: 0 }]), Rejection::Version);
    let mut long = frame(core::slice::from_ref(&hello));
    long[4..8].copy_from_slice(&5_000u32.to_le_bytes());
    expect("a first frame that is too long", &long, Rejection::FrameTooLong);
    let mut huge = frame(core::slice::from_ref(&hello));
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    expect("a frame of four gigabytes", &huge, Rejection::FrameTooLong);
    let mut unknown = frame(core::slice::from_ref(&hello));
    unknown[8] = 0xEE;
    expect("an unknown message", &unknown, Rejection::Protocol);
    let mut cut = frame(core::slice::from_ref(&hello));
    let body = cut.len() - 8 - 1;
    cut[4] = u8::try_from(body).expect("short");
    expect("a message cut off in its frame", &cut, Rejection::Protocol);
}

#[test]
fn a_browser_and_a_tls_client_are_answered_in_their_own_words() {
    let server = start(config());
    let mut browser = tcp(&server);
    browser.send_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = browser.read_to_end();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    let mut tls = tcp(&server);
    tls.send_bytes(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]);
    assert_eq!(tls.read_to_end().first(), Some(&0x15), "a TLS alert");
}

#[test]
fn half_a_frame_and_then_the_end_leaves_nothing() {
    let server = start(config());
    let whole = frame(&[ClientMessage::Hello { version: PROTOCOL_VERSION }]);
    for end in 0..whole.len() {
        let mut peer = tcp(&server);
        peer.send_bytes(&whole[..end]);
        peer.shutdown_write();
        assert_eq!(peer.try_recv(), None, "cut at {end}");
    }
    let mut slow = tcp(&server);
    for byte in whole {
        slow.send_bytes(&[byte]);
    }
    assert!(matches!(slow.recv(), ServerMessage::Welcome(_)), "byte by byte is a frame too");
}

#[test]
fn a_request_that_is_replayed_has_one_effect() {
    let server = start(config());
    let mut peer = tcp(&server).open(1, TTL);
    let lock = ClientMessage::Request { id: RequestId(1), op: lock_op("once", EX, Wait::Never) };
    let sync = ClientMessage::Request { id: RequestId(2), op: Op::Sync };
    peer.send(&[lock.clone(), lock.clone(), lock, sync]);
    assert!(matches!(peer.recv(), ServerMessage::Reply { id: RequestId(1), reply: Reply::Granted(_) }));
    // A repeated number may be answered as before, never with anything else.
    loop {
        match peer.recv() {
            ServerMessage::Reply { id: RequestId(1), reply: Reply::Granted(_) } => {}
            ServerMessage::Reply { id: RequestId(2), reply: Reply::Done } => break,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_and_others_go_on() {
    let limits = Limits { output_bytes: 1 << 20, in_flight: 1 << 20, ..Limits::default() };
    let server = start(ServerConfig { limits, ..config() });
    let mut good = tcp(&server).open(1, TTL);
    let deaf = tcp(&server).open(2, TTL);
    let writer = std::thread::spawn(move || {
        let mut deaf = deaf;
        // Renewals are answered, need no credit, and are never read here. The writes end when the server cuts.
        let renewals: Vec<_> = (0..2_000).map(|seq| ClientMessage::Renew { seq }).collect();
        let bytes = frame(&renewals);
        for _ in 0..2_000 {
            deaf.send_bytes(&bytes);
        }
        deaf
    });
    while !writer.is_finished() {
        let held = good.lock("meanwhile", EX);
        good.release(held.lock);
    }
    let mut deaf = writer.join().expect("no panic");
    // What the kernels had buffered comes, then the end; the reason too where the connection took it.
    let why = deaf.rejected();
    assert!(why.is_none() || why == Some(Rejection::SlowReader), "{why:?}");
    // The session was not ended by the cut: its lease runs on.
    let mut again = tcp(&server);
    assert!(again.attach(2).is_some());
}

#[test]
fn silence_is_cut_after_a_while() {
    let server = start(config());
    let mut silent = tcp(&server);
    let mut greeted = tcp(&server);
    greeted.hello();
    assert_eq!(silent.rejected(), Some(Rejection::Idle));
    assert_eq!(greeted.rejected(), Some(Rejection::Idle));
}

#[test]
fn too_many_connections_are_told_so() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = start(ServerConfig { limits, ..config() });
    let mut peers: Vec<Peer> = (0..3).map(|i| tcp(&server).open(i + 1, TTL)).collect();
    let mut fourth = tcp(&server);
    assert_eq!(fourth.rejected(), Some(Rejection::Full));
    let held = peers[0].lock("still served", EX);
    peers[0].release(held.lock);
    // One goes, and after a moment there is room again.
    drop(peers.pop());
    loop {
        let mut again = tcp(&server);
        again.send(&[ClientMessage::Hello { version: PROTOCOL_VERSION }]);
        match again.try_recv() {
            Some(ServerMessage::Welcome(_)) => break,
            Some(ServerMessage::Rejected { why: Rejection::Full }) | None => std::thread::yield_now(),
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stopping_server_answers_what_it_has_read() {
    let server = start(config());
    let mut peer = tcp(&server).open(1, Span::from_secs(60));
    let stopper = server.stopper();
    let first = peer.lock("a", EX);
    stopper.stop();
    server.wait().expect("stops");
    assert!(first.token.as_u64() > 0);
    while let Some(message) = peer.try_recv() {
        assert!(matches!(message, ServerMessage::Rejected { .. } | ServerMessage::Notice(_)), "{message:?}");
    }
}
