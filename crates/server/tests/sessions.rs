//! What the end of a connection means for the locks of its session.

mod common;

use core::time::Duration;
use std::time::Instant;

use common::{EX, Peer, TTL, config, lock_op, start, tcp};
use lockstead_server::{FileConfig, Server, ServerConfig, StartError};
use lockstead_types::{
    Span,
    message::ServerMessage,
    reply::Reply,
    request::{Op, Wait},
    space::{ModeChoice, SpaceSpec},
};

#[test]
fn the_end_of_a_unix_connection_releases_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("1.sock");
    let server = start(ServerConfig { client_unix: Some(socket.clone()), ..config() });
    let long = Span::from_secs(3_600);
    for half in [false, true] {
        let mut holder = Peer::unix(&socket).open(1, long);
        holder.lock("orders", EX);
        let mut waiter = tcp(&server).open(2, long);
        let waiting = waiter.request(lock_op("orders", EX, Wait::Forever));
        assert!(matches!(waiter.reply(waiting), Reply::Queued(_)));
        let since = Instant::now();
        if half {
            holder.shutdown_write();
        } else {
            drop(holder);
        }
        let Reply::Granted(grant) = waiter.reply(waiting) else { panic!("granted") };
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        waiter.release(grant.lock);
        waiter.send(&[lockstead_types::message::ClientMessage::Goodbye]);
        assert_eq!(waiter.recv(), ServerMessage::Bye);
    }
}

#[test]
fn a_closed_tcp_connection_keeps_its_locks_and_can_come_back() {
    let server = start(config());
    let mut holder = tcp(&server).open(1, TTL);
    let held = holder.lock("orders", EX);
    drop(holder);
    let mut other = tcp(&server).open(2, TTL);
    assert_eq!(
        other.ask(lock_op("orders", EX, Wait::Never)),
        Reply::Refused(lockstead_types::Refusal::WouldWait),
        "a closed TCP connection proves nothing"
    );
    let mut again = tcp(&server);
    let attached = again.attach(1).expect("the lease still runs");
    assert!(!attached.reclaim);
    again.release(held.lock);
    other.lock("orders", EX);
}

#[test]
fn a_lease_that_runs_out_frees_the_lock_and_not_before() {
    let server = start(config());
    let ttl = Span::from_secs(1);
    let mut holder = tcp(&server);
    holder.hello();
    let opened = Instant::now();
    let mut holder = {
        holder.send(&[lockstead_types::message::ClientMessage::Open {
            session: lockstead_types::SessionId(1),
            ttl,
            meta: lockstead_types::report::Meta::default(),
        }]);
        assert_eq!(holder.recv(), ServerMessage::Opened { ttl });
        holder
    };
    holder.lock("orders", EX);
    let mut waiter = tcp(&server).open(2, TTL);
    let waiting = waiter.request(lock_op("orders", EX, Wait::Forever));
    assert!(matches!(waiter.reply(waiting), Reply::Queued(_)));
    assert!(matches!(waiter.reply(waiting), Reply::Granted(_)));
    assert!(opened.elapsed() >= ttl.into(), "{:?} is early", opened.elapsed());
    assert!(opened.elapsed() < Duration::from_secs(4), "{:?} is late", opened.elapsed());
    assert_eq!(tcp(&server).attach(1), None, "the session is over");
}

#[test]
fn lockspaces_and_mode_tables_of_the_configuration() {
    let file = r#"
client_tcp = "127.0.0.1:0"
[[mode_table]]
name = "traffic"
relation = ["++", "+-"]
shortcuts = { shared = "GO", update = "STOP", exclusive = "STOP" }
modes = [{ name = "GO" }, { name = "STOP", writes = true }]
[[lockspace]]
name = "crossing"
modes = "traffic"
"#;
    let server = start(FileConfig::parse(file).and_then(FileConfig::check).expect("sound"));
    let mut peer = tcp(&server).open(1, TTL);
    let Reply::Space(info) = peer.ask(Op::SpaceOpen { name: "crossing" }) else { panic!("it is there") };
    assert_eq!(info.modes.name, "traffic");
    let spec = SpaceSpec { modes: ModeChoice::BuiltIn("traffic".into()), ..SpaceSpec::named("second") };
    let Reply::Space(second) = peer.ask(Op::SpaceCreate(spec.into())) else {
        panic!("created with a configured table")
    };
    assert_eq!(second.modes, info.modes);
}

#[test]
fn what_is_not_safe_does_not_start() {
    let open = ServerConfig { client_tcp: Some("0.0.0.0:0".parse().expect("an address")), ..config() };
    assert!(matches!(Server::start(open), Err(StartError::Config(error)) if error.key == "client_tcp"));
    let admin = ServerConfig { admin: Some("0.0.0.0:0".parse().expect("an address")), ..config() };
    assert!(matches!(Server::start(admin), Err(StartError::Config(error)) if error.key == "admin"));
}

#[test]
fn a_socket_in_use_is_left_alone_and_a_stale_one_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("deep/er/1.sock");
    let with = || ServerConfig { client_tcp: None, client_unix: Some(socket.clone()), ..config() };
    let first = start(with());
    assert!(matches!(Server::start(with()), Err(StartError::Listen { .. })));
    Peer::unix(&socket).hello();
    first.stop().expect("stops");
    // What a killed server leaves: a socket file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("free"));
    let second = start(with());
    Peer::unix(&socket).hello();
    second.stop().expect("stops");
    std::fs::write(&socket, "not a socket").expect("writable");
    assert!(matches!(Server::start(with()), Err(StartError::Listen { .. })));
    assert!(socket.exists(), "a file that is no socket is nobody's to remove");
}
