//! The admin endpoints.

mod common;

use core::net::SocketAddr;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

use common::{EX, TTL, config, lock_op, start, tcp};
use lockstead_server::ServerConfig;
use lockstead_types::{reply::Reply, request::Wait};

fn with_admin() -> ServerConfig {
    ServerConfig { admin: Some("127.0.0.1:0".parse().expect("an address")), ..config() }
}

fn http(at: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("connects");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

#[test]
fn alive_ready_and_counted() {
    let server = start(with_admin());
    let at = server.admin().expect("configured");
    assert_eq!(http(at, "GET", "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(http(at, "GET", "/readyz"), (200, "ok\n".to_owned()));
    assert!(http(at, "GET", "/").1.contains("/metrics"));
    assert_eq!(http(at, "POST", "/livez").0, 405, "nothing changes anything");
    assert_eq!(http(at, "GET", "/nowhere").0, 404);
    let mut holder = tcp(&server).open(1, TTL);
    let mut waiter = tcp(&server).open(2, TTL);
    let held = holder.lock("a-name-nobody-should-see", EX);
    let waiting = waiter.request(lock_op("a-name-nobody-should-see", EX, Wait::Forever));
    assert!(matches!(waiter.reply(waiting), Reply::Queued(_)));
    let (status, text) = http(at, "GET", "/metrics");
    assert_eq!(status, 200);
    for line in
        ["lockstead_ready 1", "lockstead_waits_in_progress 1", "lockstead_locks_granted 1", "lockstead_sessions 2"]
    {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    for name in ["lockstead_turn_messages_bucket{le=", "lockstead_bytes_sent_total ", "process_open_fds "] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    assert!(!text.contains("a-name"), "no names");
    holder.release(held.lock);
    assert!(matches!(waiter.reply(waiting), Reply::Granted(_)));
    let text = http(at, "GET", "/metrics").1;
    assert!(text.lines().any(|l| l == "lockstead_wait_seconds_count 1"), "{text}");
    assert!(text.lines().any(|l| l == "lockstead_waits_in_progress 0"), "{text}");
    assert!(
        text.lines().all(|l| l.starts_with('#') || l.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok()))
    );
}

#[test]
fn a_frozen_server_is_alive_and_not_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = || ServerConfig { data: Some(folder.path().to_owned()), ..with_admin() };
    let server = start(with());
    let holder = tcp(&server).open(1, TTL);
    drop(server);
    drop(holder);
    let server = start(with());
    let at = server.admin().expect("configured");
    assert_eq!(http(at, "GET", "/livez").0, 200);
    let (status, why) = http(at, "GET", "/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("frozen"), "{why}");
    let mut holder = tcp(&server);
    assert!(holder.attach(1).expect("recorded").reclaim);
    holder.send(&[lockstead_types::message::ClientMessage::ReclaimDone]);
    holder.ask(lockstead_types::request::Op::Sync);
    assert_eq!(http(at, "GET", "/readyz").0, 200);
}

#[test]
fn a_crowd_of_idle_scrapers_does_not_stop_the_node() {
    let server = start(with_admin());
    let at = server.admin().expect("configured");
    let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(at).expect("connects")).collect();
    let mut peer = tcp(&server).open(1, TTL);
    peer.lock("still served", EX);
    drop(idle);
    assert_eq!(http(at, "GET", "/livez").0, 200);
}
