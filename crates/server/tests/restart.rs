//! What a data directory keeps over a kill, and what becomes of one that is damaged.

mod common;

use std::{fs, path::Path};

use common::{EX, Peer, TTL, config, lock_op, start, tcp};
use lockstead_server::{DataError, Running, Server, ServerConfig, StartError};
use lockstead_types::{
    Flags, RequestId, SessionId, SpaceId, Span, Token,
    message::{ClientMessage, Reclaim, ServerMessage},
    reply::{Grant, Reply},
    request::{Op, Wait},
    space::SpaceSpec,
};

fn on(folder: &Path) -> ServerConfig {
    ServerConfig { data: Some(folder.to_owned()), ..config() }
}

fn refused(config: ServerConfig) -> DataError {
    match Server::start(config) {
        Err(StartError::Data(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn reclaim(server: &Running, session: u128, grant: &Grant) -> Reply {
    let mut peer = tcp(server);
    assert!(peer.attach(session).expect("recorded").reclaim);
    let claim = Reclaim {
        space: SpaceId(0),
        name: b"orders",
        held: grant.claim,
        token: grant.token,
        lock: grant.lock,
        tag: 0,
        alone: false,
        group: None,
        part: None,
        flags: Flags::NONE,
    };
    peer.send(&[ClientMessage::Reclaim { id: RequestId(900), claim, sealed: None }, ClientMessage::ReclaimDone]);
    peer.reply(RequestId(900))
}

#[test]
fn holders_from_before_a_kill_come_back_and_nobody_gets_in_between() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    assert_eq!(server.epoch(), 1);
    let mut holder = tcp(&server).open(1, TTL);
    let mut gone = tcp(&server).open(2, TTL);
    let before = holder.lock("orders", EX);
    gone.send(&[ClientMessage::Goodbye]);
    assert_eq!(gone.recv(), ServerMessage::Bye);
    drop(server);

    let server = start(on(folder.path()));
    assert_eq!(server.epoch(), 2);
    let mut newcomer = tcp(&server).open(3, TTL);
    let waiting = newcomer.request(lock_op("orders", EX, Wait::Forever));
    let other = newcomer.request(lock_op("free", EX, Wait::Forever));
    assert_eq!(tcp(&server).attach(2), None, "said goodbye before the kill");
    let Reply::Granted(back) = reclaim(&server, 1, &before) else { panic!("taken back") };
    assert_eq!(back.token, before.token);
    // The last recorded session has reported: the freeze is over, and what was free is granted.
    let Reply::Granted(free) = granted(&mut newcomer, other) else { panic!("granted") };
    assert!(free.token > before.token && free.token.epoch() == 2);
    let mut again = tcp(&server);
    again.attach(1).expect("attached");
    again.release(back.lock);
    let Reply::Granted(after) = granted(&mut newcomer, waiting) else { panic!("granted") };
    assert!(after.token > before.token);
}

/// The last answer to a request that may have been queued first.
fn granted(peer: &mut Peer, id: RequestId) -> Reply {
    loop {
        match peer.reply(id) {
            Reply::Queued(_) => {}
            reply => return reply,
        }
    }
}

#[test]
fn a_freeze_ends_with_the_largest_lease_where_nobody_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    let ttl = Span::from_secs(1);
    let mut holder = tcp(&server).open(1, ttl);
    let before = holder.lock("orders", EX);
    drop(server);
    let started = std::time::Instant::now();
    let server = start(on(folder.path()));
    // Its longer lease counts for the next freeze, not for this one.
    let mut newcomer = tcp(&server).open(2, TTL);
    let id = newcomer.request(lock_op("orders", EX, Wait::Forever));
    let Reply::Granted(after) = granted(&mut newcomer, id) else { panic!("granted") };
    assert!(started.elapsed() >= ttl.into(), "{:?} is early", started.elapsed());
    assert!(after.token > before.token);
}

#[test]
fn a_graceful_stop_keeps_sessions_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    let mut holder = tcp(&server).open(1, TTL);
    let before = holder.lock("orders", EX);
    server.stop().expect("stops");
    let server = start(on(folder.path()));
    assert!(matches!(reclaim(&server, 1, &before), Reply::Granted(_)));
}

#[test]
fn lockspaces_outlive_a_kill_with_their_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    let mut peer = tcp(&server).open(1, TTL);
    let create = |name: &str| Op::SpaceCreate(SpaceSpec { value_bytes: 99, ..SpaceSpec::named(name) }.into());
    let Reply::Space(one) = peer.ask(create("one")) else { panic!("created") };
    let Reply::Space(_) = peer.ask(create("two")) else { panic!("created") };
    assert_eq!(peer.ask(Op::SpaceDrop { name: "two", force: false }), Reply::Done);
    drop(server);
    let server = start(on(folder.path()));
    let mut peer = tcp(&server).open(2, TTL);
    assert_eq!(peer.ask(Op::SpaceOpen { name: "one" }), Reply::Space(one));
    assert!(matches!(peer.ask(Op::SpaceOpen { name: "two" }), Reply::Refused(_)));
}

#[test]
fn two_servers_never_share_a_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    assert!(matches!(refused(on(folder.path())), DataError::InUse(_)));
    drop(server);
    start(on(folder.path())).stop().expect("stops");
    assert!(matches!(refused(ServerConfig { node: 2, ..on(folder.path()) }), DataError::Refused(_)));
}

#[test]
fn an_end_that_was_torn_off_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    let whole = tcp(&server).open(1, TTL);
    let journal = folder.path().join("journal");
    let before = fs::read(&journal).expect("a journal");
    let torn = tcp(&server).open(2, TTL);
    let after = fs::read(&journal).expect("a journal");
    drop(server);
    drop((whole, torn));
    for end in before.len() + 1..after.len() {
        fs::write(&journal, &after[..end]).expect("writable");
        let server = start(on(folder.path()));
        assert!(tcp(&server).attach(1).is_some(), "cut at {end}");
        assert_eq!(tcp(&server).attach(2), None, "cut at {end}");
        let epoch = fs::read(folder.path().join("identity")).expect("an identity");
        drop(server);
        assert!(String::from_utf8_lossy(&epoch).contains("epoch"));
    }
}

#[test]
fn damage_in_the_middle_is_refused_with_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(on(folder.path()));
    let peers = [1, 2, 3].map(|session| tcp(&server).open(session, TTL));
    drop(server);
    drop(peers);
    let journal = folder.path().join("journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&journal, &bytes).expect("writable");
    let error = refused(on(folder.path()));
    assert!(matches!(error, DataError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("epoch_min"), "{error}");
}

#[test]
fn files_that_are_missing_or_from_another_time_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (identity, journal) = (folder.path().join("identity"), folder.path().join("journal"));
    drop(start(on(folder.path())));
    let old = fs::read(&identity).expect("an identity");
    drop(start(on(folder.path())));
    fs::write(&identity, old).expect("writable");
    assert!(refused(on(folder.path())).to_string().contains("older copy"));
    fs::remove_file(&identity).expect("there");
    assert!(refused(on(folder.path())).to_string().contains("missing"));
    fs::remove_file(&journal).expect("there");
    // Nothing is left: a new directory, which must be given its epoch if tokens of before matter.
    let server = start(ServerConfig { epoch_min: 9, ..on(folder.path()) });
    assert_eq!(server.epoch(), 9);
    drop(server);
    fs::remove_file(&journal).expect("there");
    assert!(refused(on(folder.path())).to_string().contains("missing"));
}

#[test]
fn the_last_epoch_is_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let last = start(ServerConfig { epoch_min: Token::EPOCH_MAX, ..on(folder.path()) });
    assert_eq!(last.epoch(), Token::EPOCH_MAX);
    drop(last);
    assert!(matches!(refused(on(folder.path())), DataError::Refused(_)));
}

#[test]
fn a_journal_that_has_grown_is_written_anew_and_says_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let server = start(ServerConfig { client_unix: Some(socket.clone()), ..on(folder.path()) });
    let mut stays = tcp(&server).open(1, Span::from_secs(600));
    let before = stays.lock("orders", EX);
    let journal = folder.path().join("journal");
    // Each session leaves some hundred bytes; the journal is written anew from one megabyte on.
    let mut largest = 0;
    let mut session = 10;
    loop {
        let size = fs::metadata(&journal).expect("a journal").len();
        if size < largest {
            break;
        }
        largest = size;
        assert!(session < 40_000, "{size} bytes and never written anew");
        // Local sessions wait for no disk.
        let mut peer = Peer::unix(&socket);
        peer.hello();
        session += 1;
        let (session, meta) = (SessionId(session), lockstead_types::report::Meta::default());
        peer.send(&[ClientMessage::Open { session, ttl: TTL, meta }]);
        assert!(matches!(peer.recv(), ServerMessage::Opened { .. }));
        peer.send(&[ClientMessage::Goodbye]);
        assert_eq!(peer.recv(), ServerMessage::Bye);
    }
    drop(server);
    let server = start(on(folder.path()));
    assert!(matches!(reclaim(&server, 1, &before), Reply::Granted(_)));
}
